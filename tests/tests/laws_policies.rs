//! Policies that are wrong, and how the laws find out.

use aibridge_core::keypool::{Attempt, Failover, Fate, Offer, Outcome, Policy, Reason, Verdict};
use aibridge_testkit::{
    laws::{ALL, Checks, check_policy, exhaustive},
    plan::Blip,
};

/// Judges as told, from the status.
#[derive(Debug)]
struct Judging(fn(u16) -> Verdict);

impl Policy for Judging {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        match attempt.outcome {
            Outcome::Reply { status, .. } => (self.0)(status.as_u16()),
            Outcome::Fault(_) => Verdict::RELAY,
        }
    }
}

/// Begins somewhere in the middle, and does not come round.
#[derive(Debug)]
struct Forward;

impl Policy for Forward {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        Failover::default().judge(attempt)
    }

    fn pick(&self, offer: &Offer<'_>) -> Option<usize> {
        let from = offer.last.map_or(1, |last| last + 1);
        offer
            .candidates
            .iter()
            .position(|candidate| candidate.index >= from)
    }
}

/// Has not thought of all that can happen.
#[derive(Debug)]
struct Fragile;

impl Policy for Fragile {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        if let Outcome::Reply { status, .. } = attempt.outcome {
            assert!(status != 529, "I had not thought of {status}");
        }
        Failover::default().judge(attempt)
    }
}

/// Tries the next key after whatever is no success, and always picks the first that it is offered.
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
    let checks = Checks::default().from_env();
    check_policy(Eager, &checks).unwrap_or_else(|found| panic!("{found}"));
    exhaustive::check_sequences(Eager, 3, 4, &exhaustive::OUTCOMES, &ALL)
        .unwrap_or_else(|found| panic!("{found}"));
}

/// The law that is found broken, and the counterexample's text.
#[track_caller]
fn found(policy: impl Policy + 'static) -> (&'static str, String) {
    let checks = Checks::default().cases(2_000);
    let found = check_policy(policy, &checks).expect_err("it is wrong");
    (found.law, found.to_string())
}

#[test]
fn a_policy_that_uses_a_key_inside_its_cooldown_is_found() {
    let (law, text) = found(Judging(|_| Verdict::RELAY));
    assert_eq!(law, "cooling_keys_rest");
    assert!(text.contains("more, as the provider said"), "{text}");
    assert!(text.contains("AIBRIDGE_SEED=0x"), "{text}");
}

#[test]
fn a_policy_that_does_not_come_round_is_found() {
    let (law, text) = found(Forward);
    assert_eq!(law, "exhausted_only_when_so");
    assert!(text.contains("is valid, and was not tried"), "{text}");
}

#[test]
fn a_policy_that_retires_what_is_only_limited_is_found() {
    let (law, _) = found(Judging(|status| match status {
        429 => Verdict::next_key(Fate::Retire(Reason::RateLimited)),
        _ => Verdict::RELAY,
    }));
    assert_eq!(law, "exhausted_only_when_so");
}

#[test]
fn a_policy_that_panics_is_found() {
    let (law, text) = found(Fragile);
    assert_eq!(law, "no_panic");
    assert!(text.contains("I had not thought of 529"), "{text}");
}

#[test]
fn a_counterexample_is_small_and_is_found_again_by_its_seed() {
    let careless = || Judging(|_| Verdict::RELAY);
    let checks = Checks::default();
    let found = check_policy(careless(), &checks).unwrap_err();
    let requests: usize = found
        .plan
        .clients
        .iter()
        .map(|client| client.requests.len())
        .sum();
    assert_eq!((found.plan.providers.len(), found.plan.bridges), (1, 1));
    assert!(requests <= 3, "{found}");

    let again = Checks {
        only: found.seed,
        ..checks
    };
    let again = check_policy(careless(), &again).unwrap_err();
    assert_eq!(again.to_string(), found.to_string());
}

#[test]
fn the_shortest_sequence_comes_first() {
    let careless = Judging(|_| Verdict::RELAY);
    let found = exhaustive::check_sequences(careless, 1, 6, &exhaustive::OUTCOMES, &ALL);
    let blips = found.unwrap_err().plan.providers[0].blips.clone();
    assert_eq!(
        blips,
        [Some(Blip::Limited(2)), None],
        "the second call is inside it"
    );
}

#[test]
fn a_law_may_be_left_out() {
    let checks = Checks::default().cases(200).without("cooling_keys_rest");
    assert_eq!(checks.laws.len(), ALL.len() - 1);
    check_policy(Judging(|_| Verdict::RELAY), &checks).unwrap();
}
