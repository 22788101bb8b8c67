//! Policies that are wrong, and how the laws find out.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aibridge_core::keypool::{
    Attempt, Failover, Fate, NextStep, Offer, Outcome, Policy, Reason, Verdict,
};
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
    let found = found.unwrap_err();
    assert_eq!(
        found.plan.providers[0].blips,
        [Some(Blip::Limited(2)), None],
        "the second call is inside it"
    );
    // A sequence has no seed: the test itself comes to it again.
    let text = found.to_string();
    let once_more = "once more: cargo test the_shortest_sequence_comes_first";
    assert!(text.ends_with(once_more), "{text}");
}

#[test]
fn what_a_counterexample_says_leads_to_it_again() {
    let careless = || Judging(|_| Verdict::RELAY);
    let found = check_policy(careless(), &Checks::default()).unwrap_err();
    let seed = found.seed.unwrap();
    let text = found.to_string();
    let once_more = format!("once more: the same checks with only = Some({seed:#x})");
    assert!(text.ends_with(&once_more), "{text}");

    let heeding = Checks {
        only: found.seed,
        heeds_env: true,
        ..Checks::default()
    };
    let text = check_policy(careless(), &heeding).unwrap_err().to_string();
    let test = "what_a_counterexample_says_leads_to_it_again";
    let once_more = format!("once more: AIBRIDGE_SEED={seed:#x} cargo test {test}");
    assert!(text.ends_with(&once_more), "{text}");
}

/// Fails over in thought only: what becomes of keys is as usual, and the client gets what the first
/// one came to.
#[derive(Debug)]
struct Resigned(NextStep);

impl Policy for Resigned {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = Failover::default().judge(attempt);
        match verdict.step {
            NextStep::NextKey => Verdict {
                step: self.0,
                ..verdict
            },
            _ => verdict,
        }
    }
}

#[test]
fn a_policy_that_does_not_fail_over_is_found_if_it_is_to() {
    for step in [NextStep::GiveUp, NextStep::Relay] {
        for law in ["limits_are_not_final", "rejections_are_not_final"] {
            let checks = Checks::default().with(law);
            let found = check_policy(Resigned(step), &checks).expect_err("it is wrong");
            assert_eq!(found.law, law);
        }
        check_policy(Resigned(step), &Checks::default()).expect("it keeps the others");
    }
}

/// Lets a key rest after whatever went wrong without a reply, or in the midst of one.
#[derive(Debug)]
struct Wary;

impl Policy for Wary {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = Failover::default().judge(attempt);
        match attempt.outcome {
            Outcome::Fault(_) => Verdict {
                fate: Fate::Cool(None, Reason::RateLimited),
                ..verdict
            },
            Outcome::Reply { .. } => verdict,
        }
    }
}

#[test]
fn a_policy_may_let_keys_rest_whose_replies_break_off() {
    let checks = Checks::default().cases(3_000).from_env();
    check_policy(Wary, &checks).unwrap_or_else(|found| panic!("{found}"));
}

/// Lets a key rest that has done its work.
#[derive(Debug)]
struct Sparing;

impl Policy for Sparing {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        match attempt.outcome {
            Outcome::Reply { status, .. } if status.is_success() => Verdict {
                fate: Fate::Cool(None, Reason::RateLimited),
                ..Verdict::RELAY
            },
            _ => Failover::default().judge(attempt),
        }
    }
}

#[test]
fn a_policy_that_lets_keys_rest_that_would_do_is_found() {
    let (law, text) = found(Sparing);
    assert_eq!(law, "exhausted_only_when_so");
    assert!(
        text.contains("nothing that was said of it forbids it"),
        "{text}"
    );
}

/// Lets a key rest that gives no reply, and gives it up at the second time.
#[derive(Debug, Default)]
struct TwoStrikes(AtomicBool);

impl Policy for TwoStrikes {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let verdict = Failover::default().judge(attempt);
        let reason = Reason::Other("strike");
        match attempt.outcome {
            Outcome::Fault(_) if self.0.swap(true, Relaxed) => Verdict {
                fate: Fate::Retire(reason),
                ..verdict
            },
            Outcome::Fault(_) => Verdict {
                fate: Fate::Cool(None, reason),
                ..verdict
            },
            Outcome::Reply { .. } => verdict,
        }
    }
}

#[test]
fn a_reason_for_one_rest_is_none_for_the_next() {
    let outcomes = [None, Some(Blip::ResetAt(0))];
    let found = exhaustive::check_sequences(TwoStrikes::default(), 1, 4, &outcomes, &ALL);
    let found = found.expect_err("the key was rejected by nobody");
    assert_eq!(found.law, "exhausted_only_when_so");
}

/// Lets a key rest for what its client did wrong.
#[derive(Debug)]
struct Touchy;

impl Policy for Touchy {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        match attempt.outcome {
            Outcome::Reply { status, .. } if status == 400 => {
                Verdict::next_key(Fate::Cool(None, Reason::Other("bad request")))
            }
            _ => Failover::default().judge(attempt),
        }
    }
}

#[test]
fn a_policy_that_lets_keys_rest_for_what_clients_do_wrong_is_found() {
    let outcomes = [None, Some(Blip::Status(400))];
    let found = exhaustive::check_sequences(Touchy, 2, 4, &outcomes, &ALL);
    assert_eq!(
        found.expect_err("one client stops all").law,
        "exhausted_only_when_so"
    );
}

#[test]
fn a_law_may_be_left_out() {
    let checks = Checks::default().cases(200).without("cooling_keys_rest");
    assert_eq!(checks.laws.len(), ALL.len() - 1);
    check_policy(Judging(|_| Verdict::RELAY), &checks).unwrap();
}
