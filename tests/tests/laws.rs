//! The laws of failover hold for the shipped policies, each in at least ten thousand worlds, and
//! for every sequence of up to six outcomes on pools of up to three keys.
//!
//! `AIBRIDGE_CASES=1000000` runs a million worlds for each; `AIBRIDGE_SEED` one world, which a
//! counterexample names. There is one test for each policy and for each pool, so that they run side
//! by side, and what a counterexample says runs one of them.

use std::{sync::Arc, time::Duration};

use aibridge_core::keypool::{Attempt, Failover, Fate, Offer, Outcome, Policy, Rejected, Verdict};
use aibridge_testkit::{
    World,
    laws::{
        ALL, Checks, OPTIONAL, Report, check_policy,
        exhaustive::{OUTCOMES, check_sequences},
    },
    plan::Plan,
    strategies::Sizes,
};

/// Checks on so many worlds, or as many as the environment says.
#[track_caller]
fn holds(policy: impl Policy + 'static, checks: Checks) -> Report {
    let checks = checks.from_env();
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
            ("next keys", report.failed_over, 30),
            ("keys of clients' own", report.own_keys, 10),
            ("traces", report.traced, 3),
        ] {
            assert!(
                count * 100 >= report.worlds * of_a_hundred,
                "too few {what}: {report:?}"
            );
        }
        assert!(report.guarded >= report.worlds / 1_000, "{report:?}");
    }
    report
}

fn worlds(cases: u32) -> Checks {
    Checks::default().cases(cases)
}

#[test]
fn laws_hold_for_the_default_policy() {
    let checks = worlds(10_000)
        .with("limits_are_not_final")
        .with("rejections_are_not_final");
    holds(Failover::default(), checks);
}

#[test]
fn laws_hold_for_a_policy_that_cools_what_is_unauthorized_and_relays_what_is_forbidden() {
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
    let checks = Checks {
        sizes,
        ..worlds(10_000)
    };
    holds(cautious, checks.with("limits_are_not_final"));
}

#[test]
fn laws_hold_for_a_policy_that_relays_what_is_unauthorized_and_cools_what_is_forbidden() {
    let trusting = Failover {
        unauthorized: Rejected::Relay,
        forbidden: Rejected::Cool(Duration::from_secs(300)),
        ..Failover::default()
    };
    holds(trusting, worlds(10_000).with("limits_are_not_final"));
}

/// Tries the next key after whatever is no success, and always picks the first that it is offered.
/// Keys that are not to blame are kept, so nothing but the walk itself knows that they were tried:
/// the shipped policies put every key out of use before they go on.
#[derive(Debug)]
struct Eager;

impl Policy for Eager {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = Failover::default().judge(attempt);
        let is_success =
            matches!(attempt.outcome, Outcome::Reply { status, .. } if status.is_success());
        if verdict == Verdict::RELAY && !is_success {
            return Verdict::next_key(Fate::Keep);
        }
        verdict
    }

    fn pick(&self, _: &Offer<'_>) -> Option<usize> {
        Some(0)
    }
}

#[test]
fn a_walk_ends_however_eager_a_policy_is() {
    let report = holds(Eager, worlds(3_000));
    let kept = report.failed_over - report.judged;
    assert!(
        report.worlds <= 1 || kept * 5 >= report.worlds,
        "{report:?}"
    );
    check_sequences(Eager, 3, 4, &OUTCOMES, &ALL).unwrap_or_else(|found| panic!("{found}"));
}

/// Checks on every sequence of up to six of six outcomes, on a pool of so many keys.
#[track_caller]
fn every_sequence(keys: usize) {
    let laws = [&ALL[..], &OPTIONAL].concat();
    check_sequences(Failover::default(), keys, 6, &OUTCOMES, &laws)
        .unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn laws_hold_for_every_sequence_on_one_key() {
    every_sequence(1);
}

#[test]
fn laws_hold_for_every_sequence_on_two_keys() {
    every_sequence(2);
}

#[test]
fn laws_hold_for_every_sequence_on_three_keys() {
    every_sequence(3);
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
