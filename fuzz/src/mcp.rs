//! What an MCP server replies to a call: in JSON or as a stream, it ends the call exactly once, no
//! split shows, and no more is held than a message that is not complete.

use std::{iter, sync::Arc};

use aibridge_core::{
    Fault, Instant, Rng, Target,
    mcp::{Action, CallEvent, CallLimits, Calls, Input, Server, Terms, Tool, Version},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};

use crate::pieces;

/// Stands in an input for the id of the call's request.
const ID: &[u8] = b"$ID";

/// More deadlines than any call has.
const ROUNDS: usize = 1000;

/// Takes `data` as the reply to a call, as JSON and as a stream.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    for kind in ["application/json", "text/event-stream"] {
        for version in [Version::V20250618, Version::V20260728] {
            let whole = call(kind, version, data, |data| iter::once(data).collect());
            let cut = call(kind, version, data, |data| pieces(data).collect());
            assert_eq!(cut, whole, "{kind} {version:?}");
            let done = |event: &&CallEvent| matches!(event, CallEvent::Done(..));
            assert_eq!(whole.iter().filter(done).count(), 1, "{whole:?}");
        }
    }
}

fn call(
    kind: &'static str,
    version: Version,
    data: &[u8],
    cut: impl Fn(&[u8]) -> Vec<&[u8]>,
) -> Vec<CallEvent> {
    let target = Target {
        host: "a".into(),
        port: 1,
        tls: false,
    };
    let server = Arc::new(Server::new("fuzz", target, "/mcp"));
    let terms = Terms {
        version,
        session: None,
    };
    let tool = Tool::new("add", "", Bytes::from_static(b"{}"));
    let mut now = Instant::from_secs(1);
    let limits = CallLimits {
        result: 200,
        ..CallLimits::default()
    };
    let mut calls = Calls::new(limits, &mut Rng::new(1));
    calls.begin(now, &server, &terms, &tool, b"{}");
    let mut events = Vec::new();
    let mut is_first = true;
    for _ in 0..ROUNDS {
        while let Some(action) = calls.poll_action() {
            let Action::Request(on, request) = action else {
                continue;
            };
            if !std::mem::take(&mut is_first) {
                calls.handle(now, on, Input::Failed(Fault::Refused));
                continue;
            }
            let reply = with_id(data, &request.body);
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            calls.handle(now, on, Input::Head(StatusCode::OK, headers));
            let mut came = 0;
            for piece in cut(&reply) {
                calls.handle(now, on, Input::Body(Bytes::copy_from_slice(piece)));
                came += piece.len();
                let (held, most) = (calls.buffered(), unfinished(kind, &reply[..came]));
                assert!(held <= most, "{held} bytes held of {most}");
            }
            calls.handle(now, on, Input::End);
        }
        events.extend(iter::from_fn(|| calls.poll_event()));
        let Some(at) = calls.poll_timeout() else {
            assert_eq!(
                calls.buffered(),
                0,
                "nothing is kept of a call that is over"
            );
            // To be told twice to list again is to be told once: news that is still to be heard is
            // not repeated.
            events.dedup_by(|next, last| next == last && matches!(next, CallEvent::Recheck(_)));
            return events;
        };
        now = now.max(at);
        calls.handle_timeout(now);
    }
    panic!("the call does not end");
}

/// How many bytes may have to be held of a body: of a stream, what follows the last blank line, and
/// an id of an event before that.
fn unfinished(kind: &str, body: &[u8]) -> usize {
    if kind == "application/json" {
        return body.len();
    }
    let is_end = |byte: u8| matches!(byte, b'\n' | b'\r');
    let blank = body
        .windows(2)
        .rposition(|pair| pair == b"\n\n" || pair == b"\r\r" || pair == b"\n\r");
    let last = body.len() - blank.map_or(0, |at| at + 2);
    let longest = body.split(|byte| is_end(*byte)).map(<[u8]>::len).max();
    last + longest.unwrap_or_default()
}

/// `data` with the request's id in its place.
fn with_id(data: &[u8], request: &[u8]) -> Vec<u8> {
    let id = serde_json::from_slice::<serde_json::Value>(request)
        .ok()
        .map(|request| request["id"].to_string())
        .unwrap_or_default();
    let mut reply = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(ID.len()).position(|window| window == ID) {
        reply.extend_from_slice(&rest[..at]);
        reply.extend_from_slice(id.as_bytes());
        rest = &rest[at + ID.len()..];
    }
    reply.extend_from_slice(rest);
    reply
}
