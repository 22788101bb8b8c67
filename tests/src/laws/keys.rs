//! Laws of keys: when which one may be used, and when a client may be told that there is none.

use std::collections::{BTreeMap, BTreeSet};

use aibridge_core::{
    Instant,
    keypool::Exhausted,
    record::{Attempt, Record},
};
use memchr::memmem;

use super::{
    Breach,
    context::{Context, index, named_wait},
};
use crate::history::{Ending, Entry, Fact, History, Leased};

/// No key is tried twice in one iteration.
///
/// An iteration is the first call of a request, or one turn of the loop of tools, with all that is
/// tried for it. A call on a reused connection that was dead without a byte of a reply is not an
/// attempt: it is made again on a fresh connection, with the same key.
///
/// # Errors
/// One was.
pub fn no_key_twice(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    let mut called = BTreeSet::new();
    for (at, entry) in history.entries.iter().enumerate() {
        let place = (entry.bridge, entry.session);
        match &entry.fact {
            Fact::Leased(leased) => {
                let session = context.session(entry);
                if session.begins_walk {
                    called.retain(|(known, _)| *known != place);
                } else if let Ok((_, key)) = leased.lease
                    && session.tried.contains(&key)
                {
                    return Err(Breach::new(at, format!("key {key} is leased again")));
                }
            }
            // A request with a key of its own has no walks: its turns are told apart by the tools
            // between them, which are on record though their servers may not have been reached.
            Fact::Asked(_) => called.retain(|(known, _)| *known != place),
            Fact::Recorded(record) if matches!(**record, Record::ToolUsage(..)) => {
                let asked = context.session(entry).asked;
                if asked.is_some_and(|asked| asked.own_key.is_some()) {
                    called.retain(|(known, _)| *known != place);
                }
            }
            Fact::Called(call)
                if call.provider.is_some()
                    && !is_lost(history, at)
                    && !called.insert((place, call.seen.key.as_str())) =>
            {
                return Err(Breach::new(at, "the same key is sent again".to_owned()));
            }
            _ => {}
        }
        context.read(entry);
    }
    Ok(())
}

/// An iteration makes at most as many attempts as there are keys, and none without a lease.
///
/// # Errors
/// One made more.
pub fn attempts_within_keys(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    let mut calls = BTreeMap::new();
    for (at, entry) in history.entries.iter().enumerate() {
        let begins_walk = context.session(entry).begins_walk;
        context.read(entry);
        let calls = calls.entry((entry.bridge, entry.session)).or_insert(0usize);
        let session = context.session(entry);
        match &entry.fact {
            Fact::Asked(_) => *calls = 0,
            Fact::Leased(leased) => {
                if begins_walk {
                    *calls = 0;
                }
                let keys = history.plan.providers[index(&leased.provider)].keys.len();
                let leases = session.tried.len();
                if leases > keys {
                    let why = format!("{leases} attempts with {keys} keys");
                    return Err(Breach::new(at, why));
                }
            }
            Fact::Called(call) if call.provider.is_some() && !is_lost(history, at) => {
                *calls += 1;
                let is_pooled = session.asked.is_some_and(|asked| asked.own_key.is_none());
                let leases = session.tried.len();
                if is_pooled && *calls > leases {
                    let why = format!("{calls} calls with {leases} leases");
                    return Err(Breach::new(at, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A key that was retired is not used again until an administrator resets it. Attempts that had it
/// before may go on.
///
/// # Errors
/// It was.
pub fn retired_keys_rest(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    for (at, entry) in history.entries.iter().enumerate() {
        if let Fact::Leased(leased) = &entry.fact
            && let Ok((_, key)) = leased.lease
            && context.key(entry, index(&leased.provider), key).is_retired
        {
            return Err(Breach::new(at, format!("key {key} is retired")));
        }
        context.read(entry);
    }
    Ok(())
}

/// A key is not used inside its cooldown, neither the one that the policy gave it nor the one that
/// the provider's 429 named (as far as that is within the longest cooldown configured). Attempts
/// that had the key before may go on.
///
/// # Errors
/// It was.
pub fn cooling_keys_rest(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    // What providers named, by bridge, provider, key and model.
    let mut named = Vec::new();
    for (at, entry) in history.entries.iter().enumerate() {
        match &entry.fact {
            Fact::Leased(leased) => {
                let Ok((_, key)) = leased.lease else {
                    context.read(entry);
                    continue;
                };
                let (provider, model) = (index(&leased.provider), leased.model.as_deref());
                let until = context.key(entry, provider, key).cools_until(model);
                if entry.at < until {
                    let left = until.since(entry.at);
                    let why = format!("key {key} cools for {left:?} more, as the policy said");
                    return Err(Breach::new(at, why));
                }
                let place = (entry.bridge, provider, key, model);
                let until = named.iter().filter(|(known, _)| *known == place);
                let until: Option<Instant> = until.map(|(_, until)| *until).max();
                if let Some(until) = until.filter(|until| entry.at < *until) {
                    let left = until.since(entry.at);
                    let why = format!("key {key} cools for {left:?} more, as the provider said");
                    return Err(Breach::new(at, why));
                }
            }
            Fact::Recorded(record) => {
                let session = context.session(entry);
                if let Record::Attempt(
                    _,
                    Attempt {
                        result: Ok(429),
                        key_index: Some(key),
                        ..
                    },
                ) = &**record
                    && let (Some(leased), Some(answer)) = (session.leased, session.heard())
                    && let Some(wait) = named_wait(entry.at, &answer)
                {
                    let provider = index(&leased.provider);
                    let wait = wait.min(history.plan.providers[provider].max_cooldown);
                    let place = (entry.bridge, provider, *key, leased.model.as_deref());
                    named.push((place, entry.at + wait));
                }
            }
            Fact::Reset { provider, key } => {
                let place = (entry.bridge, index(provider), *key);
                named.retain(|((bridge, provider, key, _), _)| (*bridge, *provider, *key) != place);
            }
            _ => {}
        }
        context.read(entry);
    }
    Ok(())
}

/// If any key would have succeeded, the client is not told that all are exhausted.
///
/// A key would have succeeded if its provider had served it at that moment. It may be left out for
/// two reasons only: it was in use by then in another state (tried on this walk, or resting when
/// the walk began), or it rests for a reason that the provider gave: a 429, for at most twice the
/// wait that it named and a second; a reply that said that none is left; any other failure. Only
/// 401, 402 and 403 are reasons to retire a key. And a client is told so only where the pool said
/// it last.
///
/// # Errors
/// A key was left out without a reason, or the pool had one.
pub fn exhausted_only_when_so(history: &History) -> Result<(), Breach> {
    let told = memmem::Finder::new(EXHAUSTED);
    let mut context = Context::with_excuses(history);
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        match &entry.fact {
            Fact::Answered(Some(answer), _) if told.find(&answer.body).is_some() => {
                let leased = context.session(entry).leased;
                if leased.is_none_or(|leased| leased.lease.is_ok()) {
                    let why = "the client is told that no key is left, and the pool did not say so";
                    return Err(Breach::new(at, why.to_owned()));
                }
            }
            Fact::Leased(leased) if leased.lease.is_err() => {
                left_out(&mut context, entry, leased).map_err(|why| Breach::new(at, why))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the bridge's own errors begin with where no key is left; no provider of a world says it.
const EXHAUSTED: &[u8] = b"all configured keys ";

/// Whether each key that would have been served was left out for a reason.
fn left_out(context: &mut Context<'_>, entry: &Entry, leased: &Leased) -> Result<(), String> {
    let session = context.session(entry);
    let (began, tried) = (session.walk_began, session.tried.clone());
    for key in leased.able.iter().filter(|key| !tried.contains(key)) {
        let state = context.key(entry, index(&leased.provider), *key);
        let until = state.cools_until(leased.model.as_deref());
        let rests = state.is_retired || entry.at < until;
        if rests && state.excused_until <= entry.at {
            return Err(format!(
                "key {key} would do, and nothing that was said of it forbids it"
            ));
        }
        if state.is_valid_since(began, leased.model.as_deref()) {
            return Err(format!("key {key} would do, is valid, and was not tried"));
        }
    }
    Ok(())
}

/// A key's limit is not the end of a request while another key is left: where the last attempt came
/// to a 429, every key was tried, or is out of use, or was when the walk began.
///
/// A policy may want it otherwise, so this law is one of the [optional](super::OPTIONAL) ones.
///
/// # Errors
/// A client has its answer, and a key was left.
pub fn limits_are_not_final(history: &History) -> Result<(), Breach> {
    is_not_final(history, &[429])
}

/// The same for a key that is rejected, with 401 or 403. [Optional](super::OPTIONAL) as well.
///
/// # Errors
/// A client has its answer, and a key was left.
pub fn rejections_are_not_final(history: &History) -> Result<(), Breach> {
    is_not_final(history, &[401, 403])
}

fn is_not_final(history: &History, statuses: &[u16]) -> Result<(), Breach> {
    let mut context = Context::new(history);
    // The last attempt, by session, if it came to one of these.
    let mut refused = BTreeMap::new();
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        let place = (entry.bridge, entry.session);
        match &entry.fact {
            Fact::Asked(_) | Fact::Leased(_) => {
                refused.remove(&place);
            }
            Fact::Recorded(record) => {
                let Record::Attempt(_, attempt) = &**record else {
                    continue;
                };
                match (attempt.result, attempt.key_index) {
                    (Ok(status), Some(_)) if statuses.contains(&status) => {
                        refused.insert(place, (at, status));
                    }
                    _ => {
                        refused.remove(&place);
                    }
                }
            }
            Fact::Answered(Some(_), Ending::Closed | Ending::Complete) => {
                let session = context.session(entry);
                let (Some((at, status)), Some(leased)) = (refused.get(&place), session.leased)
                else {
                    continue;
                };
                let (began, tried) = (session.walk_began, session.tried.clone());
                let (provider, model) = (index(&leased.provider), leased.model.as_deref());
                let mut keys = 0..history.plan.providers[provider].keys.len();
                let left = keys.find(|key| {
                    let state = context.key(entry, provider, *key);
                    !tried.contains(key) && state.is_valid_since(began, model)
                });
                if let Some(key) = left {
                    let why = format!("key {key} is valid, and the request ends with a {status}");
                    return Err(Breach::new(*at, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `Retry-After` never promises earlier than the pool recovers: at that time at least one key is
/// valid, if nothing else happens. And a client is told to come back if and only if some key is not
/// retired.
///
/// # Errors
/// None is.
pub fn retry_after_is_honest(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        match &entry.fact {
            Fact::Leased(leased) => {
                let Err(exhausted) = leased.lease else {
                    continue;
                };
                let provider = index(&leased.provider);
                let model = leased.model.as_deref();
                let back = (0..history.plan.providers[provider].keys.len()).filter_map(|key| {
                    let key = context.key(entry, provider, key);
                    (!key.is_retired).then(|| key.cools_until(model))
                });
                let why = match (exhausted, back.min()) {
                    (Exhausted::RateLimited(wait), Some(back)) if back <= entry.at + wait => {
                        continue;
                    }
                    (Exhausted::Unauthorized, None) => continue,
                    (Exhausted::RateLimited(wait), Some(back)) => {
                        format!(
                            "the pool recovers in {:?}, and promises {wait:?}",
                            back.since(entry.at)
                        )
                    }
                    (Exhausted::RateLimited(_), None) => "every key is retired".to_owned(),
                    (Exhausted::Unauthorized, Some(_)) => "a key is not retired".to_owned(),
                };
                return Err(Breach::new(at, why));
            }
            Fact::Answered(Some(answer), Ending::Complete) => {
                let leased = context.session(entry).leased;
                let Some(Err(Exhausted::RateLimited(wait))) = leased.map(|leased| leased.lease)
                else {
                    continue;
                };
                let said = answer
                    .header("retry-after")
                    .and_then(|text| text.parse().ok());
                // A stream that has begun tells it in an error event.
                if !answer.is_stream() && said.is_none_or(|said: u64| said < wait.as_secs()) {
                    let why = format!("the pool says {wait:?}, and the client is told {said:?}");
                    return Err(Breach::new(at, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A client's own key is the client's own: a request that brings one never touches the pool and is
/// sent with this key alone, and every other one is sent with a key of its provider's pool.
///
/// # Errors
/// Keys were mixed up.
pub fn own_keys_stay_apart(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        let Some(asked) = context.session(entry).asked else {
            continue;
        };
        match (&entry.fact, &asked.own_key) {
            (Fact::Judged { .. } | Fact::Leased(_), Some(_)) => {
                let why = "the pool is asked for a request with a key of its own".to_owned();
                return Err(Breach::new(at, why));
            }
            (Fact::Called(call), Some(own)) => {
                let Some(provider) = call.provider else {
                    continue;
                };
                let why = if call.seen.key != *own {
                    "another key than the client's own is sent"
                } else if provider != asked.provider {
                    "the client's own key is sent to another provider"
                } else {
                    continue;
                };
                return Err(Breach::new(at, why.to_owned()));
            }
            (Fact::Called(call), None) => {
                let Some(provider) = call.provider else {
                    continue;
                };
                let keys = history.plan.providers[provider].keys.len();
                let is_known = (0..keys).any(|key| History::key(provider, key) == call.seen.key);
                if !is_known || provider != asked.provider {
                    let why = "a key is sent that is not in this provider's pool".to_owned();
                    return Err(Breach::new(at, why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the call at this entry went over a connection that turned out to be dead.
fn is_lost(history: &History, at: usize) -> bool {
    let Fact::Called(call) = &history.entries[at].fact else {
        return false;
    };
    let bridge = history.entries[at].bridge;
    let is_reply = |entry: &Entry| matches!(&entry.fact, Fact::Sent(conn, _) if *conn == call.conn && entry.bridge == bridge);
    call.is_reused && !history.entries[at + 1..].iter().any(is_reply)
}
