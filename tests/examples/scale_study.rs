//! One virtual hour of 200 clients on 8 keys with real rate limits, under three policies: the table
//! of `docs/scale-study.md`.
//!
//! ```console
//! $ cargo run -p aibridge-testkit --example scale_study
//! ```

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use aibridge_core::{
    Rng,
    keypool::{Attempt, Failover, Fate, Offer, Outcome, Policy, Reason, Verdict},
};
use aibridge_testkit::{
    World,
    history::{Ending, Fact, History},
    plan::{ClientPlan, KeyPlan, Plan, ProviderPlan, RequestPlan},
};
use http::HeaderMap;

const CLIENTS: usize = 200;
const KEYS: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);
/// From and to when clients ask twice as much as the keys allow.
const RUSH: (Duration, Duration) = (Duration::from_secs(1200), Duration::from_secs(1500));
/// When a key is revoked.
const REVOKED: Duration = Duration::from_secs(2400);

/// The default policy, but a key that says that it has no request left is not asked to prove it.
#[derive(Debug, Default)]
struct Proactive(Failover);

impl Policy for Proactive {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = self.0.judge(attempt);
        let Outcome::Reply { headers, .. } = attempt.outcome else {
            return verdict;
        };
        match next_token(headers) {
            Some(wait) if verdict.fate == Fate::Keep => Verdict {
                fate: Fate::Cool(Some(wait), Reason::RateLimited),
                ..verdict
            },
            _ => verdict,
        }
    }
}

/// How long a key that is used up takes to get one request back. `reset` is when it has all of
/// them.
fn next_token(headers: &HeaderMap) -> Option<Duration> {
    let field = |name| headers.get(name)?.to_str().ok();
    let number = |name| field(name)?.parse::<u32>().ok();
    if number("x-ratelimit-remaining-requests")? > 0 {
        return None;
    }
    let limit = number("x-ratelimit-limit-requests").filter(|limit| *limit > 0)?;
    let reset = field("x-ratelimit-reset-requests")?.strip_suffix("ms")?;
    Some(Duration::from_millis(reset.parse().ok()?) / limit)
}

/// The default policy, but of the keys in use the one that was limited longest ago comes first.
#[derive(Debug, Default)]
struct LeastRecentlyLimited(Failover);

impl Policy for LeastRecentlyLimited {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        self.0.judge(attempt)
    }

    fn pick(&self, offer: &Offer<'_>) -> Option<usize> {
        (0..offer.candidates.len()).min_by_key(|at| offer.candidates[*at].limited_until)
    }
}

/// The hour. Each key may be used 50 times a minute, as a bucket of ten that gets one more each 1.2
/// seconds.
fn hour() -> Plan {
    let mut keys = vec![KeyPlan::limited(10, Duration::from_millis(1200)); KEYS];
    keys[KEYS - 1].revoked = Some((REVOKED, 401));
    let provider = ProviderPlan {
        vendor: aibridge_core::api::Vendor::OpenAi,
        latency: Duration::from_millis(2500),
        announces: true,
        max_cooldown: HOUR,
        ..ProviderPlan::new(keys)
    };
    let mut rng = Rng::new(1);
    let clients: Vec<_> = (0..CLIENTS).map(|_| client(rng.fork())).collect();
    Plan::new(provider, clients)
}

/// A client that asks 1.6 times a minute, and four times a minute in the rush: together 80 % and
/// 200 % of what the keys allow.
fn client(mut rng: Rng) -> ClientPlan {
    let mut at = Duration::ZERO;
    let mut requests = Vec::new();
    loop {
        let is_rush = (RUSH.0..RUSH.1).contains(&at);
        let mean = if is_rush { 15_000 } else { 37_500 };
        // Between nothing and twice the mean; the first one anywhere in its time.
        let wait = Duration::from_millis(rng.next_u64() % (2 * mean));
        at += wait;
        if at >= HOUR {
            break;
        }
        requests.push(RequestPlan::after(wait));
    }
    ClientPlan {
        retries: 2,
        ..ClientPlan::new(requests)
    }
}

/// What came of an hour.
#[derive(Default)]
struct Tally {
    /// Questions.
    asked: usize,
    /// Those that got no answer, though they were asked three times.
    unanswered: usize,
    /// 429s that clients saw, by phase.
    limited: [u32; 3],
    /// Calls to the provider.
    calls: u32,
    /// Those of them that came to a 429 or 401, by phase.
    wasted: [u32; 3],
    /// From the end of the rush to the first minute in which no client sees a 429.
    recovery: Duration,
}

fn tally(history: &History) -> Tally {
    let mut tally = Tally::default();
    let mut open: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut last: BTreeMap<(usize, usize), u16> = BTreeMap::new();
    let mut answered = [0; 3];
    let mut calls = [0; 3];
    let mut calm_since = history.began + RUSH.1;
    for entry in &history.entries {
        let at = history.since(entry.at);
        // Twenty minutes each: as usual, the rush and what comes of it, and without the revoked
        // key.
        let phase = [RUSH.0, REVOKED]
            .iter()
            .filter(|begins| **begins <= at)
            .count();
        match &entry.fact {
            Fact::Asked(asked) => {
                open.insert(entry.session, (asked.client, asked.request));
            }
            Fact::Answered(Some(answer), Ending::Complete) => {
                last.insert(open[&entry.session], answer.status);
                if answer.status == 200 {
                    answered[phase] += 1;
                }
                if answer.status == 429 {
                    tally.limited[phase] += 1;
                    let minute = calm_since + Duration::from_secs(60);
                    if (calm_since..minute).contains(&entry.at) {
                        calm_since = entry.at;
                    }
                }
            }
            Fact::Called(_) => calls[phase] += 1,
            _ => {}
        }
    }
    let unanswered = last.values().filter(|status| **status != 200).count();
    tally.asked = last.len();
    tally.unanswered = unanswered;
    tally.wasted = [0, 1, 2].map(|phase| calls[phase] - answered[phase]);
    tally.calls = calls.iter().sum();
    tally.recovery = calm_since.since(history.began + RUSH.1);
    tally
}

fn table() -> String {
    let plan = hour();
    let policies: [(&str, Arc<dyn Policy>); 3] = [
        ("default", Arc::new(Failover::default())),
        ("proactive", Arc::new(Proactive::default())),
        (
            "least recently limited",
            Arc::new(LeastRecentlyLimited::default()),
        ),
    ];
    let mut table = "| policy | 429s that clients saw, by phase | questions without an answer | calls | wasted calls, by phase | recovers in |\n\
        |---|---|---|---|---|---|\n"
        .to_owned();
    let tallies = std::thread::scope(|scope| {
        let run = |(name, policy)| {
            let plan = &plan;
            let thread = scope.spawn(move || tally(&World::brief(plan, policy).run()));
            (name, thread)
        };
        let threads = policies.map(run);
        threads.map(|(name, thread)| (name, thread.join().expect("the hour passes")))
    });
    for (name, tally) in tallies {
        let Tally {
            asked,
            unanswered,
            limited,
            calls,
            wasted,
            recovery,
        } = tally;
        let recovery = recovery.as_secs();
        let [limited, wasted] =
            [limited, wasted].map(|[usual, rush, revoked]| format!("{usual} / {rush} / {revoked}"));
        let _ = writeln!(
            table,
            "| {name} | {limited} | {unanswered} of {asked} | {calls} | {wasted} | {recovery} s |"
        );
    }
    table
}

fn main() {
    print!("{}", table());
}

#[cfg(test)]
mod tests {
    use aibridge_testkit::laws::{Checks, check_policy};

    use super::*;

    #[test]
    fn the_alternatives_keep_every_law() {
        let checks = Checks::default().from_env();
        check_policy(Proactive::default(), &checks).unwrap_or_else(|found| panic!("{found}"));
        check_policy(LeastRecentlyLimited::default(), &checks)
            .unwrap_or_else(|found| panic!("{found}"));
    }

    #[test]
    fn the_page_has_the_table_that_this_run_gives() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scale-study.md");
        let page = std::fs::read_to_string(page).unwrap();
        let table = table();
        assert!(
            page.contains(&table),
            "docs/scale-study.md should have\n{table}"
        );
    }
}
