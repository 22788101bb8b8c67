//! Each law with histories that break it, made by changing what happened. What policies can break
//! is in `tests/laws_policies.rs`.

mod replies;

use std::sync::Arc;

use aibridge_core::{
    Duration,
    keypool::{Exhausted, Failover, Fate, KeyId, Reason, Scope, Verdict},
    record::Record,
};
use bytes::Bytes;

use super::*;
use crate::{
    World,
    history::{Ending, Fact, MARK},
    plan::{Blip, ClientPlan, Credential, KeyPlan, Plan, ProviderPlan, RequestPlan, ToolPlan},
};

/// A pool of two keys, of which the first is limited at once, and a client that asks four times:
/// twice for a stream, then with a key of its own, and at last when both keys are used up.
fn history() -> History {
    let keys = [
        KeyPlan::limited(1, Duration::from_secs(60)),
        KeyPlan::limited(1, Duration::from_secs(90)),
    ];
    let request = RequestPlan {
        streaming: true,
        ..RequestPlan::after(Duration::from_secs(1))
    };
    let own = RequestPlan {
        credential: Credential::Own(200),
        ..request
    };
    let requests = [request, request, own, request];
    let plan = Plan::new(ProviderPlan::new(keys), [ClientPlan::new(requests)]);
    World::new(&plan, Arc::new(Failover::default())).run()
}

/// The first entry of a kind, to be changed.
fn change<T>(history: &mut History, mut pick: impl FnMut(&mut Fact) -> Option<T>) -> T {
    let mut facts = history.entries.iter_mut().map(|entry| &mut entry.fact);
    facts.find_map(&mut pick).expect("there is one")
}

/// The same entry again.
fn twice(history: &mut History, pick: impl Fn(&Fact) -> bool) {
    let at = history.entries.iter().rposition(|entry| pick(&entry.fact));
    let at = at.expect("there is one");
    let again = history.entries[at].clone();
    history.entries.insert(at + 1, again);
}

fn without(history: &mut History, pick: impl Fn(&Fact) -> bool) {
    let before = history.entries.len();
    history.entries.retain(|entry| !pick(&entry.fact));
    assert!(history.entries.len() < before, "there is one");
}

/// In front of the first entry of a kind.
fn before(history: &mut History, fact: Fact, pick: impl Fn(&Fact) -> bool) {
    let at = history.entries.iter().position(|entry| pick(&entry.fact));
    let at = at.expect("there is one");
    let mut entry = history.entries[at].clone();
    entry.fact = fact;
    history.entries.insert(at, entry);
}

fn judged(fate: Fate) -> Fact {
    Fact::Judged {
        provider: "p0".into(),
        key: KeyId(0),
        verdict: Verdict::next_key(fate),
        model: None,
    }
}

fn is_leased(fact: &Fact) -> bool {
    matches!(fact, Fact::Leased(leased) if leased.lease.is_ok())
}

#[track_caller]
fn breaks(law: fn(&History) -> Result<(), Breach>, why: &str, tamper: impl Fn(&mut History)) {
    breaks_in(history(), law, why, tamper);
}

#[track_caller]
fn breaks_in(
    mut history: History,
    law: fn(&History) -> Result<(), Breach>,
    why: &str,
    tamper: impl Fn(&mut History),
) {
    assert_eq!(law(&history), Ok(()), "as it was");
    tamper(&mut history);
    let breach = law(&history).expect_err(why);
    assert!(breach.why.contains(why), "{} is not {why}", breach.why);
    assert!(breach.entry < history.entries.len());
}

#[test]
fn the_history_that_is_tampered_with_keeps_every_law_and_has_all_that_matters() {
    let history = history();
    assert!(broken(&ALL, &history).is_none(), "{history}");
    let statuses: Vec<_> = history.answers().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn the_timeline_tells_what_happened() {
    let text = history().to_string();
    for line in [
        "     1.000 s  b0/s0   client → bridge    c0 asks p0 Messages, its request 0, streamed",
        "pool               a walk: key 0 of p0",
        "bridge → p0        /v1/messages with p0k0 on c1",
        "provider → bridge  HTTP/1.1 429 Too Many Requests (",
        "policy             key 0 of p0: cools for 59s (rate_limited), next key",
        "client has         200, ",
        "bridge → p0        /v1/messages with own0 on c1",
        "no key of p0, RateLimited(",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains(MARK));
}

#[test]
fn no_key_is_leased_or_sent_twice() {
    breaks(no_key_twice, "is leased again", |history| {
        twice(history, is_leased);
    });
    // Whatever the session's walker says.
    breaks(no_key_twice, "is leased again", |history| {
        twice(history, is_leased);
        for entry in &mut history.entries {
            if let Fact::Leased(leased) = &mut entry.fact {
                leased.is_first = true;
            }
        }
    });
    breaks(no_key_twice, "is sent again", |history| {
        twice(history, |fact| matches!(fact, Fact::Called(_)));
    });
}

#[test]
fn no_more_attempts_than_keys_and_none_without_a_lease() {
    breaks(attempts_within_keys, "3 attempts with 2 keys", |history| {
        let at = history
            .entries
            .iter()
            .rposition(|entry| is_leased(&entry.fact));
        let again = history.entries[at.unwrap()].clone();
        let again = [again.clone(), again.clone(), again];
        history.entries.splice(at.unwrap() + 1..=at.unwrap(), again);
    });
    breaks(attempts_within_keys, "calls with", |history| {
        without(history, is_leased);
    });
}

#[test]
fn a_retired_key_rests() {
    let retired = judged(Fate::Retire(Reason::Unauthorized));
    breaks(retired_keys_rest, "is retired", |history| {
        before(history, retired.clone(), is_leased);
    });
    let mut history = history();
    let reset = Fact::Reset {
        provider: "p0".into(),
        key: 0,
    };
    before(&mut history, reset, is_leased);
    before(&mut history, retired, |fact| {
        matches!(fact, Fact::Reset { .. })
    });
    assert_eq!(retired_keys_rest(&history), Ok(()), "after a reset");
}

#[test]
fn a_cooling_key_rests() {
    let cooled = judged(Fate::Cool(None, Reason::RateLimited));
    breaks(
        cooling_keys_rest,
        "60s more, as the policy said",
        |history| {
            before(history, cooled.clone(), is_leased);
        },
    );
    // A cooldown of one model is not one of another.
    let mut history = history();
    before(&mut history, cooled, is_leased);
    change(&mut history, |fact| match fact {
        Fact::Judged { verdict, model, .. } => {
            verdict.scope = Scope::Model;
            *model = Some("m7".into());
            Some(())
        }
        _ => None,
    });
    assert_eq!(cooling_keys_rest(&history), Ok(()));
}

#[test]
fn exhausted_is_said_only_where_the_pool_says_it() {
    breaks(
        exhausted_only_when_so,
        "the pool did not say so",
        |history| {
            change(history, |fact| match fact {
                Fact::Leased(leased) if leased.lease.is_err() => {
                    leased.lease = Ok((KeyId(0), 0));
                    Some(())
                }
                _ => None,
            });
        },
    );
}

#[test]
fn a_limit_is_not_final_while_a_key_is_left() {
    // The second request ends with what its first key came to.
    let is_second = |fact: &Fact| match fact {
        Fact::Leased(leased) => !leased.is_first && leased.lease.is_ok(),
        Fact::Recorded(record) => matches!(
            &**record,
            Record::Attempt(_, attempt) if attempt.key_index == Some(1)
        ),
        _ => false,
    };
    breaks(limits_are_not_final, "ends with a 429", |history| {
        without(history, is_second);
    });
    let mut history = history();
    without(&mut history, is_second);
    assert_eq!(rejections_are_not_final(&history), Ok(()), "it was none");
}

#[test]
fn own_keys_do_not_touch_the_pool_nor_the_other_way_round() {
    let own = |history: &mut History, key: Option<&str>| {
        change(history, |fact| match fact {
            Fact::Asked(asked) if asked.own_key.is_some() != key.is_some() => {
                asked.own_key = key.map(str::to_owned);
                Some(())
            }
            _ => None,
        });
    };
    breaks(own_keys_stay_apart, "the pool is asked", |history| {
        own(history, Some("own"));
    });
    breaks(own_keys_stay_apart, "another key than", |history| {
        own(history, Some("own"));
        without(history, |fact| {
            matches!(fact, Fact::Leased(_) | Fact::Judged { .. })
        });
    });
    breaks(own_keys_stay_apart, "to another provider", |history| {
        let own = change(history, |fact| match fact {
            Fact::Asked(asked) => asked.own_key.clone(),
            _ => None,
        });
        change(history, |fact| match fact {
            Fact::Called(call) if call.seen.key == own => {
                call.provider = Some(1);
                Some(())
            }
            _ => None,
        });
    });
    breaks(
        own_keys_stay_apart,
        "not in this provider's pool",
        |history| {
            own(history, None);
        },
    );
}

#[test]
fn retry_after_is_not_too_early() {
    let wait = |history: &mut History, exhausted: Exhausted| {
        change(history, |fact| match fact {
            Fact::Leased(leased) => leased.lease.err().map(|_| leased.lease = Err(exhausted)),
            _ => None,
        });
    };
    breaks(retry_after_is_honest, "the pool recovers in", |history| {
        wait(history, Exhausted::RateLimited(Duration::from_secs(1)));
    });
    breaks(retry_after_is_honest, "a key is not retired", |history| {
        wait(history, Exhausted::Unauthorized);
    });
    breaks(retry_after_is_honest, "the client is told", |history| {
        change(history, |fact| match fact {
            Fact::Answered(Some(answer), _) if answer.status == 429 => {
                answer.headers.retain(|(name, _)| name != "retry-after");
                Some(())
            }
            _ => None,
        });
    });
}
