//! A whole world in virtual time: clients, bridges, providers with rate limits, MCP servers, and
//! all that goes wrong.
//!
//! A [`World`] is made of a [`Plan`] and a [`Policy`], and its run is a pure function of the two:
//! the same plan gives the same [`History`], to the byte. Each bridge is a [`Sim`]: real sessions,
//! real bytes, a real key pool. Bridges share nothing but the providers. Which of two things that
//! are ready at one moment is done first is drawn from the plan's seed, so that no order is taken
//! for granted.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use aibridge_core::keypool::Failover;
//! use aibridge_testkit::{World, plan::{ClientPlan, KeyPlan, Plan, ProviderPlan, RequestPlan}};
//!
//! // Two keys that may be used once every ten seconds each, and a client that asks three times in a row.
//! let keys = [KeyPlan::limited(1, Duration::from_secs(10)), KeyPlan::limited(1, Duration::from_secs(10))];
//! let client = ClientPlan::new([RequestPlan::after(Duration::ZERO); 3]);
//! let plan = Plan::new(ProviderPlan::new(keys), [client]);
//!
//! let history = World::new(&plan, Arc::new(Failover::default())).run();
//! let statuses: Vec<_> = history.answers().map(|answer| answer.status).collect();
//! assert_eq!(statuses, [200, 200, 429]);
//! println!("{history}");
//! ```

mod blips;
mod client;
pub(crate) mod provider;
mod tools;

use std::{fmt, sync::Arc};

use aibridge_core::{
    Duration, Instant, Rng, Secret,
    api::Vendor,
    config::{self, Config},
    keypool::Policy,
    mcp,
    secret::Digest,
};

use crate::{
    Script, Sim,
    history::{Entry, Fact, History},
    plan::{Plan, ProviderPlan},
    sim::Watch,
};
use client::Client;
use provider::Provider;
use tools::Tools;

/// When every world begins.
const BEGAN: Instant = Instant::from_secs(1_700_000_000);
/// How long a world lasts at most after the last thing that its clients do by themselves. No wait
/// in it is longer.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long sessions have to come to their end when no client is left.
const AFTERMATH: Duration = Duration::from_secs(300);

/// A whole world in virtual time. See the [module](self).
pub struct World {
    plan: Arc<Plan>,
    now: Instant,
    sims: Vec<Sim>,
    providers: Vec<Provider>,
    scripts: Vec<Script>,
    clients: Vec<Client>,
    rng: Rng,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("plan", &self.plan)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world of this plan, in which every bridge has this policy for every provider.
    ///
    /// # Panics
    /// The plan has no bridge or a provider without keys, or speaks of something that it does not
    /// have.
    pub fn new(plan: &Plan, policy: Arc<dyn Policy>) -> Self {
        Self::build(plan, policy, false)
    }

    /// The same, but its history has only requests, calls, leases and answers: for long worlds.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn brief(plan: &Plan, policy: Arc<dyn Policy>) -> Self {
        Self::build(plan, policy, true)
    }

    fn build(plan: &Plan, policy: Arc<dyn Policy>, is_brief: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let providers: Vec<_> = (0..)
            .zip(&plan.providers)
            .map(|(index, provider)| Provider::new(provider, index, BEGAN))
            .collect();
        let mut scripts: Vec<_> = providers
            .iter()
            .map(|provider| Script::hosted(provider.clone()))
            .collect();
        let servers = plan.tools.iter().map(Tools::new);
        scripts.extend(servers.map(Script::hosted));

        let config = config(plan, policy);
        let mut targets: Vec<_> = (0..providers.len()).map(Provider::target).collect();
        let sims = (0..plan.bridges).map(|bridge| {
            let knows = providers.clone();
            let able = move |name: &str, now: Instant, model: Option<&str>| {
                let index = name.strip_prefix('p').and_then(|index| index.parse().ok());
                index.map_or_else(Vec::new, |index: usize| knows[index].able(now, model))
            };
            let watch = Watch::new(bridge, targets.clone(), is_brief, Box::new(able));
            Sim::seeded(config.clone(), &scripts[0], rng.next_u64())
                .quiet()
                .shuffled(rng.next_u64())
                .watched(watch)
        });
        let mut sims: Vec<_> = sims.collect();
        targets.extend((0..plan.tools.len()).map(Tools::target));
        sims = sims
            .into_iter()
            .map(|sim| sim.with_servers(targets.iter().zip(&scripts)))
            .collect();
        let clients = (0..)
            .zip(&plan.clients)
            .map(|(index, client)| Client::new(index, client, BEGAN, rng.next_u64()))
            .collect();
        Self {
            plan: Arc::new(plan.clone()),
            now: BEGAN,
            sims,
            providers,
            scripts,
            clients,
            rng,
        }
    }

    /// The same, and the session of every client is [recorded](aibridge_core::trace): the
    /// [`History`] has the traces.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.sims = self.sims.into_iter().map(Sim::traced).collect();
        self
    }

    /// The same, but its history has no log, whose writing takes longer than anything else.
    #[must_use]
    pub fn unlogged(mut self) -> Self {
        self.sims = self.sims.into_iter().map(Sim::unlogged).collect();
        self
    }

    /// Lets everything happen.
    pub fn run(mut self) -> History {
        let mut resets = self.plan.resets.clone();
        resets.sort_by_key(|reset| reset.at);
        let mut resets = resets.into_iter().peekable();
        let mut outages = self.outages().into_iter().peekable();
        let mut horizon = BEGAN + PATIENCE;
        let mut drain = self.plan.drain.map(|at| BEGAN + at);
        loop {
            if drain.take_if(|at| *at <= self.now).is_some() {
                self.sims[0].note(0, || Fact::Draining);
                self.sims[0].drain();
            }
            while let Some(reset) = resets.next_if(|reset| BEGAN + reset.at <= self.now) {
                self.reset(reset.provider, reset.key);
            }
            while let Some((_, provider)) = outages.next_if(|(at, _)| *at <= self.now) {
                for sim in &mut self.sims {
                    sim.break_off(provider);
                }
            }
            self.settle();
            if self.clients.iter().all(Client::is_done) {
                break;
            }
            let wakes = self.clients.iter().filter_map(Client::wakes).min();
            if let Some(wakes) = wakes {
                horizon = horizon.max(wakes + PATIENCE);
            }
            let reset = resets.peek().map(|reset| BEGAN + reset.at);
            let next = self
                .next_moment()
                .into_iter()
                .chain(wakes)
                .chain(reset)
                .chain(outages.peek().map(|(at, _)| *at))
                .chain(drain);
            let Some(next) = next.min().filter(|next| *next <= horizon) else {
                break;
            };
            self.move_to(next);
        }
        self.finish()
    }

    /// When providers go away, in order.
    fn outages(&self) -> Vec<(Instant, usize)> {
        let providers = self.plan.providers.iter().enumerate();
        let outages = providers.filter_map(|(index, plan)| Some((BEGAN + plan.outage?.0, index)));
        let mut outages: Vec<_> = outages.collect();
        outages.sort_unstable();
        outages
    }

    /// Does all there is to do now.
    fn settle(&mut self) {
        loop {
            for sim in &mut self.sims {
                sim.settle();
            }
            let count = self.clients.len();
            let offset = match count {
                0 => 0,
                count => usize::try_from(self.rng.next_u64() % count as u64).unwrap_or_default(),
            };
            let mut moved = false;
            for at in 0..count {
                let client = &mut self.clients[(at + offset) % count];
                let sim = &mut self.sims[client.bridge()];
                moved |= client.step(self.now, sim, &self.plan);
            }
            if !moved {
                return;
            }
        }
    }

    fn next_moment(&self) -> Option<Instant> {
        self.sims.iter().filter_map(Sim::next_moment).min()
    }

    fn move_to(&mut self, now: Instant) {
        self.now = now.max(self.now);
        for sim in &mut self.sims {
            sim.now = self.now;
        }
        for provider in &self.providers {
            provider.set_now(self.now);
        }
    }

    fn reset(&mut self, provider: usize, key: usize) {
        let name = format!("p{provider}");
        for sim in &mut self.sims {
            sim.bridge.reset_key(self.now, &name, key);
            let provider = name.as_str().into();
            sim.note(0, || Fact::Reset { provider, key });
        }
    }

    /// No client is left, or none has a hope.
    fn finish(mut self) -> History {
        for client in &mut self.clients {
            client.give_up(&mut self.sims[client.bridge()]);
        }
        for sim in &mut self.sims {
            sim.drain();
            sim.take_leave();
        }
        let end = self.now + AFTERMATH;
        loop {
            for sim in &mut self.sims {
                sim.settle();
            }
            match self.next_moment().filter(|next| *next <= end) {
                Some(next) if self.sims.iter().any(Sim::has_sessions) => self.move_to(next),
                _ => break,
            }
        }
        let mut history = History {
            plan: self.plan,
            began: BEGAN,
            entries: Vec::new(),
            log: String::new(),
            traces: Vec::new(),
        };
        for sim in &mut self.sims {
            for session in sim.sessions() {
                sim.note(session, || {
                    Fact::Wrong("the session has come to no end".to_owned())
                });
            }
            history.traces.extend(sim.take_traces());
            let Some(watch) = sim.take_watch() else {
                continue;
            };
            if watch.logs {
                history.log += &watch.log;
                history.log += &sim.debug();
            }
            history.entries.extend(watch.entries);
        }
        for script in self.scripts {
            let wrong = script.upstream().wrong().into_iter();
            history.entries.extend(wrong.map(|wrong| Entry {
                at: self.now,
                bridge: 0,
                session: 0,
                fact: Fact::Wrong(wrong),
            }));
            script.abandon();
        }
        history.entries.sort_by_key(|entry| entry.at);
        history
    }
}

/// What every bridge is told at its start.
fn config(plan: &Plan, policy: Arc<dyn Policy>) -> Config {
    let provider = move |(index, of): (usize, &ProviderPlan)| {
        let base = match of.vendor {
            Vendor::Anthropic => "",
            Vendor::OpenAi => "/v1",
        };
        let keys = (0..of.keys.len()).map(|key| History::key(index, key));
        let name = format!("p{index}");
        Arc::new(config::Provider {
            policy: Arc::clone(&policy),
            default_cooldown: of.default_cooldown,
            max_cooldown: of.max_cooldown,
            ..config::Provider::new(&name, of.vendor, Provider::target(index), base).with_keys(keys)
        })
    };
    let client = |index| {
        let token = Digest::of(History::token(index).as_bytes());
        config::Client::new(&format!("c{index}"), token)
    };
    let clients = if plan.tokens { plan.clients.len() } else { 0 };
    let server = |index| {
        let (field, secret) = History::server_field(index);
        let server = mcp::Server::new(&format!("t{index}"), Tools::target(index), "/mcp");
        let server = server.with_header(field, &Secret::new(secret));
        Arc::new(server.expect("it fits a header"))
    };
    Config {
        clients: (0..clients).map(client).collect(),
        mcp: (0..plan.tools.len()).map(server).collect(),
        providers: (0..).zip(&plan.providers).map(provider).collect(),
        ..Config::default()
    }
}
