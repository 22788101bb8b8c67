//! The laws of failover hold for the shipped policies, in at least ten thousand worlds and for every short sequence.
//!
//! `AIBRIDGE_CASES=1000000` runs a million worlds, and the longest sequences; `AIBRIDGE_SEED` one world, which a counterexample names.

use std::{sync::Arc, time::Duration};

use aibridge_core::keypool::{Failover, Rejected};
use aibridge_testkit::{
    World,
    laws::{
        ALL, Checks, Report, check_policy,
        exhaustive::{OUTCOMES, check_sequences},
    },
    plan::Plan,
    strategies::Sizes,
};

/// Checks on so many worlds, or as many as the environment says.
#[track_caller]
fn holds(policy: Failover, cases: u32, sizes: Sizes) -> Report {
    let checks = Checks {
        sizes,
        ..Checks::default()
    };
    let checks = checks.cases(cases).from_env();
    let report = check_policy(policy, &checks).unwrap_or_else(|found| panic!("{found}"));
    if checks.only.is_none() {
        // Worlds in which nothing happens prove nothing.
        assert_eq!(report.worlds, u64::from(checks.cases));
        for (what, count, of_a_hundred) in [
            ("requests", report.requests, 200),
            ("calls", report.calls, 200),
            ("verdicts", report.judged, 30),
            ("exhausted pools", report.exhausted, 15),
            ("broken connections", report.broken, 5),
            ("calls of tools", report.tool_calls, 20),
        ] {
            assert!(
                count * 100 >= report.worlds * of_a_hundred,
                "too few {what}: {report:?}"
            );
        }
    }
    report
}

#[test]
fn laws_hold_for_the_default_policy() {
    holds(Failover::default(), 10_000, Sizes::default());
}

#[test]
fn laws_hold_for_the_default_policy_with_its_knobs_turned() {
    let cautious = Failover {
        unauthorized: Rejected::Cool(Duration::from_secs(20)),
        forbidden: Rejected::Relay,
        default_cooldown: Duration::from_secs(3),
        max_cooldown: Duration::from_secs(30),
    };
    let sizes = Sizes {
        max_cooldown: cautious.max_cooldown,
        keys: 5,
        ..Sizes::default()
    };
    holds(cautious, 2_000, sizes);
    let trusting = Failover {
        unauthorized: Rejected::Relay,
        forbidden: Rejected::Cool(Duration::from_secs(300)),
        ..Failover::default()
    };
    holds(trusting, 2_000, Sizes::default());
}

/// Whether the environment asks for a long run.
fn is_long() -> bool {
    Checks::default().from_env().cases >= 100_000
}

#[test]
fn laws_hold_for_every_sequence_of_six_outcomes_on_up_to_three_keys() {
    // A reply, a limit, a rejection and a fault. All six outcomes take minutes.
    let few = [0, 1, 3, 5].map(|outcome| OUTCOMES[outcome]);
    let outcomes: &[_] = if is_long() { &OUTCOMES } else { &few };
    for keys in 1..=3 {
        check_sequences(Failover::default(), keys, 6, outcomes, &ALL)
            .unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn laws_hold_for_every_sequence_of_four_of_all_outcomes() {
    for keys in 1..=3 {
        check_sequences(Failover::default(), keys, 4, &OUTCOMES, &ALL)
            .unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn a_world_is_a_function_of_its_seed() {
    for seed in 0..50 {
        let run = || {
            let plan = Plan::draw(seed, Sizes::default());
            World::new(&plan, Arc::new(Failover::default())).run()
        };
        let (first, second) = (run(), run());
        assert_eq!(
            format!("{:?}", first.entries),
            format!("{:?}", second.entries)
        );
        assert_eq!(first.log, second.log);
    }
}
