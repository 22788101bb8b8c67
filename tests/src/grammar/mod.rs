//! Whether a reply is one that its API's clients can read, and what they read in it.
//!
//! Each API has a grammar that its documentation gives and its vendor's libraries rely on. A stream
//! that breaks it may still look right to a test that searches for a string; here it does not. The
//! checker is written apart from the core and reads whole JSON trees, so that one does not vouch
//! for the other.
//!
//! ```
//! use aibridge_core::api::Api;
//! use aibridge_testkit::grammar;
//!
//! let stream = b"data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"}}]}\n\n\
//!     data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
//!     data: [DONE]\n\n";
//! let reply = grammar::stream(Api::ChatCompletions, stream).unwrap();
//! assert_eq!((&*reply.text, &*reply.stop), ("hi", "stop"));
//!
//! let twice = [&stream[..], stream].concat();
//! let broken = grammar::stream(Api::ChatCompletions, &twice).unwrap_err();
//! assert_eq!(broken.to_string(), "event 4: something follows the end: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"hi\"}}]}");
//! ```

use std::{collections::BTreeMap, fmt};

use aibridge_core::api::Api;
use serde_json::Value;

use crate::answer::{SseEvent, events};

mod chat_completions;
mod messages;
mod responses;
#[cfg(test)]
mod tests;

/// What a client reads in a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The reply's id.
    pub id: String,
    /// All text.
    pub text: String,
    /// All thoughts that are shown.
    pub thoughts: String,
    /// Tool calls in order.
    pub calls: Vec<Call>,
    /// The stop or finish reason, or the status.
    pub stop: String,
    /// The figures that the client is left with, by the provider's top-level names.
    pub usage: BTreeMap<String, u64>,
    /// An error ended the stream: its data.
    pub error: Option<Value>,
}

/// A tool call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

/// What is wrong with a reply, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

/// Reads a stream as its API's clients do.
///
/// # Errors
/// It breaks the grammar. One that an error event ends does not.
pub fn stream(api: Api, bytes: &[u8]) -> Result<Reply, Broken> {
    read_events(api, &events(bytes))
}

/// Reads what a client got where upstream sent this much of its stream, which may have been broken
/// off: then an error event ends it. Of the event that was cut short, which is out by then, nothing
/// is expected but that it is one at most.
///
/// # Errors
/// It breaks the grammar.
pub fn relayed(api: Api, got: &[u8], sent: &[u8]) -> Result<Reply, Broken> {
    if got == sent {
        return stream(api, got);
    }
    let pairs = got.iter().zip(sent);
    let common = pairs.take_while(|(one, other)| one == other).count();
    let ends = (0..common).rev().find(|at| got[..=*at].ends_with(b"\n\n"));
    let (sound, rest) = got.split_at(ends.map_or(0, |at| at + 1));
    let (mut read, rest) = (events(sound), events(rest));
    let Some((error, cut_short)) = rest.split_last() else {
        return Err(Broken("it is cut short without a word".to_owned()));
    };
    if cut_short.len() > 1 {
        return Err(Broken(format!(
            "more than one event is cut short: {cut_short:?}"
        )));
    }
    read.push(error.clone());
    read_events(api, &read)
}

fn read_events(api: Api, events: &[SseEvent]) -> Result<Reply, Broken> {
    match api {
        Api::ChatCompletions => read(events, chat_completions::Reader::default()),
        Api::Messages => read(events, messages::Reader::default()),
        Api::Responses => read(events, responses::Reader::default()),
    }
}

/// Reads a blocking reply.
///
/// # Errors
/// It is none that the API's clients take.
pub fn body(api: Api, bytes: &[u8]) -> Result<Reply, Broken> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| Broken(format!("no JSON: {error}")))?;
    let reply = match api {
        Api::ChatCompletions => chat_completions::body(&value),
        Api::Messages => messages::body(&value),
        Api::Responses => responses::body(&value),
    };
    reply.map_err(|what| Broken(format!("{what}: {value}")))
}

/// Reads one API's events.
trait Reader {
    /// Takes an event; says whether it ended the stream.
    fn event(&mut self, name: &str, data: &str) -> Result<bool, String>;

    /// What was read, up to the end of the stream.
    fn finish(self) -> Result<Reply, String>;
}

fn read(events: &[SseEvent], mut reader: impl Reader) -> Result<Reply, Broken> {
    let mut is_over = false;
    for (nth, SseEvent { name, data }) in events.iter().enumerate() {
        let at = |what: String| Broken(format!("event {}: {what}: {data}", nth + 1));
        if name == "ping" {
            continue;
        }
        if is_over {
            return Err(at("something follows the end".to_owned()));
        }
        is_over = reader.event(name, data).map_err(at)?;
    }
    if !is_over {
        return Err(Broken(format!("no end after {} events", events.len())));
    }
    reader.finish().map_err(Broken)
}

fn json(data: &str) -> Result<Value, String> {
    serde_json::from_str(data).map_err(|error| format!("no JSON: {error}"))
}

fn string<'a>(value: &'a Value, member: &str) -> Result<&'a str, String> {
    value[member]
        .as_str()
        .ok_or_else(|| format!("no string `{member}`"))
}

fn number(value: &Value, member: &str) -> Result<u64, String> {
    value[member]
        .as_u64()
        .ok_or_else(|| format!("no whole number `{member}`"))
}

fn array<'a>(value: &'a Value, member: &str) -> Result<&'a [Value], String> {
    let array = value[member].as_array();
    array
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no array `{member}`"))
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Takes over the figures of a usage object; those it lacks or has as null stay.
fn count(usage: &Value, to: &mut BTreeMap<String, u64>) {
    for (name, figure) in usage.as_object().into_iter().flatten() {
        if let Some(figure) = figure.as_u64() {
            to.insert(name.clone(), figure);
        }
    }
}

/// Arguments are a JSON object, or nothing.
fn check_arguments(arguments: &str) -> Result<(), String> {
    let is_object = serde_json::from_str::<Value>(arguments).is_ok_and(|it| it.is_object());
    ensure(
        is_object || arguments.is_empty(),
        "a call's arguments are no object",
    )
}
