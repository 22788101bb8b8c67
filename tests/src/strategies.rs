//! Worlds at random, and their parts, for [`mod@proptest`].
//!
//! What is drawn stays meaningful when it is made smaller: fewer clients, requests, keys and
//! faults, shorter waits; and what one part says of another (which provider, which
//! bridge) always holds.
//!
//! ```
//! use std::sync::Arc;
//!
//! use aibridge_core::keypool::Failover;
//! use aibridge_testkit::{World, laws, strategies::{self, Sizes}};
//! use proptest::prelude::*;
//!
//! proptest!(ProptestConfig::with_cases(16), |(plan in strategies::plan(Sizes::default()))| {
//!     let history = World::new(&plan, Arc::new(Failover::default())).run();
//!     prop_assert!(laws::no_key_twice(&history).is_ok(), "{history}");
//! });
//! ```

use std::ops::RangeInclusive;

use aibridge_core::{Duration, api::Vendor};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::{
    Cut, Reply,
    plan::{
        Blip, Bulk, ClientPlan, Credential, KeyPlan, Limit, Manner, Plan, ProviderPlan,
        RequestPlan, ResetPlan, Told, ToolPlan,
    },
};

/// How large worlds are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bridges at most.
    pub bridges: usize,
    /// Providers at most.
    pub providers: usize,
    /// Keys of a provider at most.
    pub keys: usize,
    /// Clients at most.
    pub clients: usize,
    /// Requests of a client at most.
    pub requests: usize,
    /// What bridges' longest cooldown is at most. A policy with a shorter one of its own needs it
    /// here as well.
    pub max_cooldown: Duration,
    /// In how many of a hundred worlds there are tools.
    pub tools: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            bridges: 2,
            providers: 2,
            keys: 3,
            clients: 3,
            requests: 3,
            max_cooldown: Duration::from_secs(600),
            tools: 5,
        }
    }
}

/// A world of at most these sizes.
pub fn plan(sizes: Sizes) -> impl Strategy<Value = Plan> + Clone {
    let parts = (
        any::<u64>(),
        1..=sizes.bridges,
        vec(provider(sizes), 1..=sizes.providers),
        vec(client(sizes), 1..=sizes.clients),
        (0..100u32, vec(tools(), 1..=2)),
        option::weighted(0.2, vec(reset(), 1..=3)),
        option::weighted(0.1, millis(0..=120_000)),
        proptest::bool::weighted(0.3),
    );
    parts.prop_map(
        move |(seed, bridges, providers, clients, tools, resets, drain, tokens)| {
            let (drawn, tools) = tools;
            let has_tools = drawn + sizes.tools >= 100;
            let plan = Plan {
                seed,
                bridges,
                providers,
                clients,
                tokens,
                tools: if has_tools { tools } else { Vec::new() },
                resets: resets.unwrap_or_default(),
                drain,
            };
            plan.consistent()
        },
    )
}

impl Plan {
    /// The same plan, but that whatever it speaks of is there.
    #[must_use]
    fn consistent(mut self) -> Self {
        let providers = self.providers.len();
        for client in &mut self.clients {
            client.bridge %= self.bridges;
            for request in &mut client.requests {
                request.provider %= providers;
            }
        }
        for reset in &mut self.resets {
            reset.provider %= providers;
            reset.key %= self.providers[reset.provider].keys.len();
        }
        self
    }
}

/// A provider with a pool of keys and a plan of faults.
pub fn provider(sizes: Sizes) -> impl Strategy<Value = ProviderPlan> + Clone {
    let max_cooldown = u64::try_from(sizes.max_cooldown.as_millis()).unwrap_or(u64::MAX);
    let times = (
        rarely(millis(1..=2_000)),
        rarely(millis(1..=5_000)),
        rarely(millis(1..=20_000)),
        option::weighted(0.1, (secs(0..=60), secs(1..=60))),
    );
    let cooldowns = (
        millis(1.min(max_cooldown)..=max_cooldown.min(90_000)),
        millis(max_cooldown.min(90_000)..=max_cooldown),
    );
    let sips = option::weighted(0.1, (200..32_000usize, millis(1..=2_000)));
    let parts = (
        select(vec![Vendor::Anthropic, Vendor::OpenAi]),
        key_pool(1..=sizes.keys),
        times,
        faults(6),
        (chunking(), sips),
        any::<bool>(),
        cooldowns,
    );
    parts.prop_map(
        |(vendor, keys, times, blips, (cut, sips), announces, (default_cooldown, max_cooldown))| {
            let (connects_in, latency, pace, outage) = times;
            ProviderPlan {
                vendor,
                keys,
                connects_in,
                latency,
                pace,
                outage: outage.map(|(from, takes)| (from, from + takes)),
                blips,
                cut,
                sips,
                announces,
                default_cooldown,
                max_cooldown,
            }
        },
    )
}

/// A pool of so many keys: some limited, some of them per model, some revoked at some time.
pub fn key_pool(count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<KeyPlan>> + Clone {
    let told = select(vec![Told::Seconds, Told::Nothing, Told::Millis, Told::Date]);
    let limit = (1..=3u32, millis(100..=60_000), rarely_true(), told).prop_map(
        |(burst, every, per_model, told)| Limit {
            burst,
            every,
            per_model,
            told,
        },
    );
    let revoked = (secs(0..=90), select(vec![401, 403]));
    let key = (
        option::weighted(0.7, limit),
        option::weighted(0.15, revoked),
    );
    vec(
        key.prop_map(|(limit, revoked)| KeyPlan { limit, revoked }),
        count,
    )
}

/// What goes wrong at a provider, call by call: at most so many calls, and most of them go well.
pub fn faults(calls: usize) -> impl Strategy<Value = Vec<Option<Blip>>> + Clone {
    vec(option::weighted(0.35, fault()), 0..=calls)
}

/// One thing that goes wrong.
pub fn fault() -> impl Strategy<Value = Blip> + Clone {
    prop_oneof![
        4 => (1..90u64).prop_map(Blip::Limited),
        2 => select(vec![500, 529, 503, 400, 404, 429, 401, 403]).prop_map(Blip::Status),
        1 => Just(Blip::Refuse),
        1 => place().prop_map(Blip::ResetAt),
        1 => place().prop_map(Blip::EndAt),
        1 => place().prop_map(Blip::StallAt),
        1 => millis(1..=40_000).prop_map(Blip::Wait),
        1 => Just(Blip::NoAnswer),
        1 => Just(Blip::Garbage),
    ]
}

/// A place in a reply: most are short.
fn place() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![9 => 0..1_500usize, 1 => 0..300_000usize]
}

/// Where bytes are cut into pieces: nowhere, at some places, or everywhere.
pub fn chunking() -> impl Strategy<Value = Cut> + Clone {
    prop_oneof![
        4 => Just(Cut::None),
        3 => vec(1..2_000usize, 1..4).prop_map(|mut points| {
            points.sort_unstable();
            points.dedup();
            Cut::At(points)
        }),
        1 => (16..512usize).prop_map(Cut::Every),
    ]
}

/// A client and its conversation.
pub fn client(sizes: Sizes) -> impl Strategy<Value = ClientPlan> + Clone {
    let parts = (
        0..sizes.bridges,
        any::<bool>(),
        chunking(),
        0..=2u32,
        conversation(sizes.requests, sizes.providers),
    );
    parts.prop_map(|(bridge, has_session, cut, retries, requests)| ClientPlan {
        bridge,
        has_session,
        cut,
        retries,
        requests,
    })
}

/// What a client asks, one thing after the other: at most so many, of so many providers.
pub fn conversation(
    requests: usize,
    providers: usize,
) -> impl Strategy<Value = Vec<RequestPlan>> + Clone {
    let credential = prop_oneof![
        8 => Just(Credential::Pool),
        1 => select(vec![200, 429, 401]).prop_map(Credential::Own),
    ];
    let manner = prop_oneof![
        12 => Just(Manner::Patient),
        1 => place().prop_map(Manner::LeavesAt),
        1 => millis(1..=50_000).prop_map(Manner::ReadsLate),
        1 => millis(100..=20_000).prop_map(Manner::ReadsSlowly),
        1 => millis(0..=10_000).prop_map(Manner::ResetsAfter),
        1 => place().prop_map(Manner::ResetsAt),
        1 => (0..300usize).prop_map(Manner::SendsOnly),
        1 => (0..300usize).prop_map(Manner::SendsThenResets),
        1 => millis(1..=40_000).prop_map(Manner::SendsSlowly),
    ];
    // What there is much of matters most where somebody is slow to read it.
    let slowly = prop_oneof![
        1 => manner.clone(),
        1 => millis(1..=50_000).prop_map(Manner::ReadsLate),
        1 => millis(100..=20_000).prop_map(Manner::ReadsSlowly),
    ];
    let bulk = select(vec![Bulk::Reply, Bulk::Question]).prop_map(Some);
    let manner = prop_oneof![
        99 => (manner, Just(None)),
        1 => (slowly, bulk),
    ];
    let request = (
        rarely(millis(1..=60_000)),
        0..providers,
        any::<bool>(),
        any::<bool>(),
        0..2u8,
        credential,
        manner,
    );
    let request = request.prop_map(
        |(after, provider, responses, streaming, model, credential, (manner, bulk))| RequestPlan {
            after,
            provider,
            responses,
            streaming,
            model,
            credential,
            manner,
            bulk,
        },
    );
    vec(request, 1..=requests)
}

/// An upstream's script for [`Script::in_order`](crate::Script::in_order): replies of every kind,
/// in pieces of every size.
pub fn replies(count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<Reply>> {
    let status = select(vec![200u16, 429, 401, 403, 500, 529]);
    let broken = option::weighted(0.2, (0..400usize, 0..3u8));
    let reply = (status, 1..30u64, broken, chunking()).prop_map(|(status, wait, broken, cut)| {
        let reply = match status {
            429 => Reply::status(429).retry_after(wait),
            status => Reply::status(status),
        };
        let reply = reply.cut(cut);
        match broken {
            Some((at, 0)) => reply.reset_at(at),
            Some((at, 1)) => reply.end_at(at),
            Some((at, _)) => reply.stall_at(at),
            None => reply,
        }
    });
    vec(reply, count)
}

fn tools() -> impl Strategy<Value = ToolPlan> + Clone {
    let parts = (
        rarely(millis(1..=30_000)),
        rarely_true(),
        faults(3),
        option::weighted(0.3, faults(6)),
        chunking(),
    );
    parts.prop_map(|(latency, fails, blips, errands, cut)| ToolPlan {
        latency,
        fails,
        blips,
        errands: errands.unwrap_or_default(),
        cut,
    })
}

fn reset() -> impl Strategy<Value = ResetPlan> + Clone {
    (millis(0..=120_000), 0..4usize, 0..4usize).prop_map(|(at, provider, key)| ResetPlan {
        at,
        provider,
        key,
    })
}

fn millis(range: RangeInclusive<u64>) -> impl Strategy<Value = Duration> + Clone {
    range.prop_map(Duration::from_millis)
}

fn secs(range: RangeInclusive<u64>) -> impl Strategy<Value = Duration> + Clone {
    range.prop_map(Duration::from_secs)
}

/// Nothing half the time.
fn rarely(
    time: impl Strategy<Value = Duration> + Clone,
) -> impl Strategy<Value = Duration> + Clone {
    option::weighted(0.5, time).prop_map(Option::unwrap_or_default)
}

fn rarely_true() -> impl Strategy<Value = bool> + Clone {
    proptest::bool::weighted(0.2)
}
