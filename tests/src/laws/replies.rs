//! Laws of replies: what a client gets, how it ends, and what is on record.

use std::collections::{BTreeMap, BTreeSet};

use aibridge_core::{
    api::{Api, Vendor},
    record::Record,
};
use http::{HeaderName, HeaderValue, header::HOST};
use memchr::memmem;
use serde_json::Value;

use super::{Breach, context::Context};
use crate::{
    Answer,
    history::{Asked, Called, Ending, Fact, History, MARK},
    plan::Manner,
    reply::split_events,
};

/// Every interception ends exactly once, with exactly one terminal outcome and record, and that is
/// what the client saw.
///
/// Nobody waits for ever, no session outlives its world, and none breaks the contract with its
/// adapter. A request that is turned away while the bridge shuts down, or because it came too
/// slowly, is no interception.
///
/// # Errors
/// One does not.
pub fn ends_once(history: &History) -> Result<(), Breach> {
    // By interception: whether it has ended, and the status that is on record.
    let mut known = BTreeMap::new();
    let mut context = Context::new(history);
    let mut draining = BTreeSet::new();
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        let breach = |why: &str| Err(Breach::new(at, why.to_owned()));
        match &entry.fact {
            Fact::Answered(_, Ending::Waiting) => return breach("a client waits for ever"),
            Fact::Answered(None, Ending::Closed) => {
                let asked = context.session(entry).asked;
                let is_owed = asked
                    .is_some_and(|asked| asked.is_whole && asked.is_swift && reads(history, asked));
                if is_owed && !draining.contains(&entry.bridge) {
                    return breach("a client is sent away without a word");
                }
            }
            Fact::Wrong(why) => return breach(why),
            Fact::Draining => {
                draining.insert(entry.bridge);
            }
            Fact::Recorded(record) => match &**record {
                Record::Started(id, _) => {
                    let known = known.insert(id.to_string(), None);
                    if known.is_some() {
                        return breach("an interception begins twice");
                    }
                }
                Record::Ended(id, ended) => match known.get_mut(&id.to_string()) {
                    None => return breach("what has not begun ends"),
                    Some(Some(_)) => return breach("an interception ends twice"),
                    Some(status) => *status = Some((at, ended.status)),
                },
                Record::Attempt(id, _)
                | Record::Prompt(id, _)
                | Record::Thought(id, _)
                | Record::TokenUsage(id, _)
                | Record::ToolUsage(id, _) => {
                    let runs = matches!(known.get(&id.to_string()), Some(None));
                    if !runs {
                        return breach("a record of an interception that does not run");
                    }
                }
                _ => {}
            },
            Fact::Answered(Some(answer), Ending::Complete) => {
                let Some(id) = answer.header("x-aibridge-id") else {
                    return breach("a reply without an id");
                };
                match known.get(id) {
                    Some(Some((_, Some(status)))) if *status == answer.status => {}
                    Some(Some((_, status))) => {
                        let why =
                            format!("the client got {}, on record is {status:?}", answer.status);
                        return Err(Breach::new(at, why));
                    }
                    Some(None) => {
                        return breach("a reply is complete before its interception has ended");
                    }
                    None => {
                        let asked = context.session(entry).asked;
                        let is_swift = asked.is_none_or(|asked| asked.is_swift);
                        match answer.status {
                            503 if draining.contains(&entry.bridge) => {}
                            408 if !is_swift => {}
                            _ => return breach("a reply of no interception"),
                        }
                    }
                }
            }
            _ => {}
        }
    }
    match known.iter().find(|(_, ended)| ended.is_none()) {
        None => Ok(()),
        Some((id, _)) => {
            let why = format!("interception {id} has no end on record");
            Err(Breach::new(history.entries.len().saturating_sub(1), why))
        }
    }
}

/// What was relayed is an exact copy of the upstream's bytes, from the first on.
///
/// The bridge may add keep-alives between events, and, where the upstream broke off, one error
/// event: right after the last event, or after the end of one that is begun, unless that was all
/// that the last one lacked. Where there is no room for one, the connection ends, so that nobody
/// takes a part for all; and it ends for no other reason, unless the client does not read. The
/// bridge may withhold the usage chunk of a chat stream that only it had asked for. Requests with
/// injected tools, whose turns are joined, are compared with nothing; nor are replies that the
/// bridge gives itself.
///
/// # Errors
/// A byte is missing, added or changed, or a reply ends otherwise than the upstream's.
pub fn relays_exactly(history: &History) -> Result<(), Breach> {
    let mut context = Context::new(history);
    // Whether what the last call came to is relayed, by session.
    let mut relayed = BTreeMap::new();
    for (at, entry) in history.entries.iter().enumerate() {
        context.read(entry);
        let place = (entry.bridge, entry.session);
        let (answer, ending) = match &entry.fact {
            Fact::Asked(_) => {
                relayed.remove(&place);
                continue;
            }
            Fact::Called(call) => {
                if call.provider.is_some() {
                    relayed.remove(&place);
                }
                continue;
            }
            Fact::Recorded(record) => {
                if let Record::Attempt(_, attempt) = &**record {
                    let is_relayed = attempt.verdict == "relay" && attempt.result.is_ok();
                    relayed.insert(place, is_relayed);
                }
                continue;
            }
            Fact::Answered(answer, ending) if relayed.get(&place) == Some(&true) => {
                (answer.as_deref(), *ending)
            }
            _ => continue,
        };
        let session = context.session(entry);
        let (Some(asked), Some(heard)) = (session.asked, session.heard()) else {
            let why = "a reply is relayed that no upstream sent".to_owned();
            return Err(Breach::new(at, why));
        };
        let what = if ending == Ending::Closed && heard.is_complete() && reads(history, asked) {
            "the client is cut off, and upstream's reply was complete".to_owned()
        } else {
            let got = answer.filter(|_| history.plan.tools.is_empty());
            match got.map(|got| (got, copy(asked.api, &heard, got, ending))) {
                Some((_, Err(why))) => why,
                Some((got, Ok(()))) if got.status != heard.status => format!(
                    "upstream said {}, the client got {}",
                    heard.status, got.status
                ),
                _ => continue,
            }
        };
        return Err(Breach::new(at, what));
    }
    Ok(())
}

/// Whether a client takes what it is sent.
fn reads(history: &History, asked: &Asked) -> bool {
    let request = &history.plan.clients[asked.client].requests[asked.request];
    !matches!(request.manner, Manner::ReadsLate(_))
}

/// Compares what the client got with what was sent.
fn copy(api: Api, heard: &Answer, got: &Answer, ending: Ending) -> Result<(), String> {
    let mut rest = &got.body[..];
    let sent = if got.is_stream() {
        copied_events(api, heard, &mut rest)
    } else {
        copied(&heard.body, &mut rest)
    };
    let upstream_broke = !heard.is_complete();
    let is_told = got.is_stream() && upstream_broke && is_break(api, &sent, rest);
    if !rest.is_empty() && !is_told {
        let text = String::from_utf8_lossy(&rest[..rest.len().min(60)]);
        let len = got.body.len() - rest.len();
        return Err(format!("behind {len} bytes, the client got {text:?}"));
    }
    if ending != Ending::Complete {
        return Ok(());
    }
    if upstream_broke && !is_told && !sent.is_over {
        return Err("upstream broke off, and the client is not told".to_owned());
    }
    if sent.is_short && !upstream_broke {
        return Err(format!(
            "the client got only {} of {} bytes",
            got.body.len() - rest.len(),
            heard.body.len()
        ));
    }
    Ok(())
}

/// How far a copy goes.
#[derive(Default)]
struct Copied<'a> {
    /// Not all that was sent is there.
    is_short: bool,
    /// An event is begun and has no end: what is there from its first byte on.
    open: Option<&'a [u8]>,
    /// The event that ends a stream is there.
    is_over: bool,
}

/// Takes off `rest` what of this body is there.
fn copied<'a>(body: &[u8], rest: &mut &'a [u8]) -> Copied<'a> {
    let same = rest.iter().zip(body).take_while(|(a, b)| a == b).count();
    let (copy, behind) = rest.split_at(same);
    let open = (!copy.is_empty()).then_some(*rest);
    *rest = behind;
    Copied {
        is_short: same < body.len(),
        open,
        is_over: false,
    }
}

/// Takes off `rest` what of a stream's events is there, and the keep-alives between them.
fn copied_events<'a>(api: Api, heard: &Answer, rest: &mut &'a [u8]) -> Copied<'a> {
    let mut sent = Copied::default();
    for piece in split_events(&heard.body) {
        skip_keep_alives(api, rest);
        if rest.starts_with(&piece) {
            let is_whole = piece.ends_with(b"\n\n");
            sent.open = (!is_whole).then_some(*rest);
            sent.is_over |= is_whole && is_last(&piece);
            *rest = &rest[piece.len()..];
            continue;
        }
        let is_usage = memmem::find(&piece, br#""choices":[]"#).is_some();
        if api != Api::ChatCompletions || !is_usage {
            return copied(&piece, rest);
        }
    }
    if sent.open.is_none() {
        skip_keep_alives(api, rest);
    }
    sent
}

fn skip_keep_alives(api: Api, rest: &mut &[u8]) {
    let keep_alive: &[u8] = match api.vendor() {
        Vendor::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Vendor::OpenAi => b": keep-alive\n\n",
    };
    while let Some(behind) = rest.strip_prefix(keep_alive) {
        *rest = behind;
    }
}

/// Whether this event ends a stream.
fn is_last(event: &[u8]) -> bool {
    let last = [
        "event: message_stop\n",
        "event: response.completed\n",
        "data: [DONE]\n",
    ];
    last.iter().any(|last| event.starts_with(last.as_bytes()))
}

/// Whether this is how the bridge tells that upstream broke off: the end of an event that is begun,
/// and one error event.
fn is_break(api: Api, sent: &Copied<'_>, rest: &[u8]) -> bool {
    let close: &[u8] = match api.vendor() {
        Vendor::Anthropic => b"\nevent: ping\n\n",
        Vendor::OpenAi => b"\n\n",
    };
    let told = match sent.open {
        // With its end, it is the last event: there is nothing to be told.
        Some(open) if rest == b"\n\n" && rest == close => return is_last(open) && is_json(open),
        // Where an event may be withheld, a part of one is: what looks like its first bytes are the
        // error's.
        Some(open) if api == Api::ChatCompletions && is_error(api, open) => true,
        Some(_) => rest
            .strip_prefix(close)
            .is_some_and(|rest| is_error(api, rest)),
        None => is_error(api, rest),
    };
    told && !sent.is_over
}

/// Whether the data of this event is all there.
fn is_json(event: &[u8]) -> bool {
    let name = b"\ndata: ";
    memmem::find(event, name)
        .is_some_and(|at| serde_json::from_slice::<Value>(&event[at + name.len()..]).is_ok())
}

/// Whether this is one error event of the bridge's.
fn is_error(api: Api, event: &[u8]) -> bool {
    let begin: &[u8] = match api {
        Api::ChatCompletions => b"data: ",
        Api::Messages | Api::Responses => b"event: error\ndata: ",
    };
    let json = event.strip_prefix(begin);
    let json = json.and_then(|json| json.strip_suffix(b"\n\n"));
    // A line has no end inside, so there is one.
    let json = json.filter(|json| !json.contains(&b'\n'));
    let Some(Ok(event)) = json.map(serde_json::from_slice::<Value>) else {
        return false;
    };
    let error = match api {
        Api::Responses if event["type"] == "error" => &event,
        Api::Responses => return false,
        Api::ChatCompletions | Api::Messages => &event["error"],
    };
    error["message"].is_string()
}

/// No secret leaves except in its own credential header.
///
/// Searched are all bytes that clients got, paths, header fields and bodies that upstreams saw,
/// records, traces, and the debug form of everything else, which is what a log could show. The one
/// place is the field of a call in which its provider expects the key, or its MCP server the secret
/// that it is configured with. Traces are there where the world was [traced](crate::World::traced).
///
/// # Errors
/// One did.
pub fn no_secret_leaves(history: &History) -> Result<(), Breach> {
    let finder = memmem::Finder::new(MARK);
    let has = |bytes: &[u8]| finder.find(bytes).is_some();
    let mut delivered: BTreeMap<_, (usize, Vec<u8>)> = BTreeMap::new();
    let mut text = String::new();
    for (at, entry) in history.entries.iter().enumerate() {
        let where_to = match &entry.fact {
            Fact::Called(call) => called_with(call, has),
            Fact::Delivered(bytes) => {
                let (_, all) = delivered
                    .entry((entry.bridge, entry.session))
                    .or_insert((at, Vec::new()));
                all.extend_from_slice(bytes);
                None
            }
            Fact::Recorded(record) => {
                use std::fmt::Write as _;
                text.clear();
                let _ = write!(text, "{record:?}");
                has(text.as_bytes()).then(|| "is on record".to_owned())
            }
            _ => None,
        };
        if let Some(where_to) = where_to {
            return Err(Breach::new(at, format!("a secret {where_to}")));
        }
    }
    if let Some((_, (at, _))) = delivered.iter().find(|(_, (_, bytes))| has(bytes)) {
        return Err(Breach::new(*at, "a secret goes to a client".to_owned()));
    }
    if history.traces.iter().any(|trace| has(trace)) {
        let last = history.entries.len().saturating_sub(1);
        return Err(Breach::new(last, "a secret is in a trace".to_owned()));
    }
    match finder.find(history.log.as_bytes()) {
        None => Ok(()),
        Some(at) => {
            let line = history.log[..at].rfind('\n').map_or(0, |begin| begin + 1);
            let what: String = history.log[line..].chars().take(60).collect();
            let why = format!("a secret is shown in the debug form of {what}…");
            Err(Breach::new(history.entries.len().saturating_sub(1), why))
        }
    }
}

/// Where in a call there is a secret that does not belong there.
fn called_with(call: &Called, has: impl Fn(&[u8]) -> bool) -> Option<String> {
    let seen = &call.seen;
    if has(seen.path.as_bytes()) {
        return Some("is in a path".to_owned());
    }
    if has(&seen.body) {
        return Some("is in a body".to_owned());
    }
    let mut credentials = 0;
    for (name, value) in &seen.headers {
        if !has(value.as_bytes()) {
            continue;
        }
        let is_credential = match call.provider {
            Some(_) => name == "x-api-key" || name == "authorization",
            None => is_own(call, name, value),
        };
        if !is_credential {
            return Some(format!("is in the field {name}"));
        }
        credentials += 1;
    }
    (credentials > 1).then(|| "is sent twice".to_owned())
}

/// Whether this is the field that this MCP server is configured with.
fn is_own(call: &Called, name: &HeaderName, value: &HeaderValue) -> bool {
    let host = call.seen.headers.get(HOST).map(HeaderValue::as_bytes);
    let host = host.and_then(|host| str::from_utf8(host).ok());
    let number = host.and_then(|host| host.strip_prefix('t')?.strip_suffix(".test")?.parse().ok());
    number.is_some_and(|number| {
        let (field, secret) = History::server_field(number);
        *name == field && value.as_bytes() == secret.as_bytes()
    })
}
