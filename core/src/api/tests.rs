//! Tests over what callers of this module see, by API, and the laws that hold for all three.

use bytes::Bytes;

use super::*;
use crate::{codec::Step, sse};

mod chat_completions;
mod error;
mod laws;
mod messages;
mod recorded;
mod requests;
mod responses;
mod tools;

pub(super) const APIS: [Api; 3] = [Api::ChatCompletions, Api::Messages, Api::Responses];

/// The events of a stream that comes in pieces.
pub(super) fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<sse::Event> {
    let mut decoder = sse::Decoder::new(1 << 20);
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
    }
    decoder.end();
    let mut events = Vec::new();
    while let Step::Item(item) = decoder.next() {
        if let sse::Item::Event(event) = item {
            events.push(event);
        }
    }
    events
}

/// What a stream tells, and what became of its events.
pub(super) fn follow(api: Api, request: &str, stream: &str) -> (Told, Vec<Pass>) {
    let inspected = inspect(api, request.as_bytes()).unwrap();
    let mut observer = Stream::new(api, &inspected);
    let passes = events([stream.as_bytes()])
        .iter()
        .map(|event| observer.event(event))
        .collect();
    (observer.told(), passes)
}

/// What a stream tells whose events are this data: with event names where `type` gives them, and
/// without.
pub(super) fn told_of(api: Api, data: &[&str]) -> Told {
    let mut named = String::new();
    let mut nameless = String::new();
    for data in data {
        let value: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        if let Some(name) = value["type"].as_str() {
            named.extend(["event: ", name, "\n"]);
        }
        named.extend(["data: ", data, "\n\n"]);
        nameless.extend(["data: ", data, "\n\n"]);
    }
    let request = r#"{"model":"m","stream":true}"#;
    let (told, _) = follow(api, request, &named);
    assert_eq!(follow(api, request, &nameless).0, told);
    told
}

pub(super) fn usage(input: u64, output: u64, cache_read: u64, cache_write: u64) -> Usage {
    Usage {
        input,
        output,
        cache_read,
        cache_write,
        ..Usage::default()
    }
}

pub(super) fn with_extras(mut usage: Usage, extras: &[(&str, u64)]) -> Usage {
    let named = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
    usage.extras = extras.iter().map(named).collect();
    usage
}

pub(super) fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

pub(super) fn thought(source: &'static str, text: &str) -> Thought {
    let text = text.to_owned();
    Thought { source, text }
}
