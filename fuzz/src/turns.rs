//! The turns of a request with injected tools: whatever a provider streams is followed, no split
//! shows, what is sent upstream is JSON, and no more is held than a turn has brought: its text, its
//! message, and what waits for its end.

use std::iter;

use aibridge_core::{
    api::{
        self, Api, Tool,
        turns::{CallResult, Content, Passed, TurnEnd, Turns},
    },
    codec::Step,
    sse,
};
use bytes::Bytes;

use crate::pieces;

/// What separates one turn's stream from the next in an input.
const NEXT: &[u8] = b"\n====\n";

/// What an event may need besides its own bytes, to be made a message of the conversation.
const OVERHEAD: usize = 256;

/// Follows the streams in `data`, one a turn, in each API; and each of them as a blocking reply.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let streams = split(data);
    for api in [Api::ChatCompletions, Api::Messages, Api::Responses] {
        let whole = follow(api, &streams, |stream| iter::once(stream).collect());
        let cut = follow(api, &streams, |stream| pieces(stream).collect());
        assert_eq!(cut, whole, "{api:?}");
        block(api, &streams);
    }
}

fn split(data: &[u8]) -> Vec<&[u8]> {
    let mut streams = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(NEXT.len()).position(|window| window == NEXT) {
        streams.push(&rest[..at]);
        rest = &rest[at + NEXT.len()..];
    }
    streams.push(rest);
    streams
}

fn begin(api: Api) -> Option<Turns> {
    let body = Bytes::from_static(br#"{"model":"m","stream":true,"messages":[],"input":[]}"#);
    let inspected = api::inspect(api, &body).ok()?;
    let tool = Tool::new("bmcp_t", None, r#"{"type":"object"}"#).ok()?;
    let injected = api::inject(api, body, &inspected, &[tool]);
    Some(Turns::new(api, &inspected, injected.body, injected.names))
}

/// What the client gets, but for line feeds, and what goes upstream.
fn follow<'a>(
    api: Api,
    streams: &[&'a [u8]],
    cut: impl Fn(&'a [u8]) -> Vec<&'a [u8]>,
) -> (Vec<u8>, Vec<Bytes>) {
    let Some(mut turns) = begin(api) else {
        panic!("tools can be injected");
    };
    let (mut client, mut requests) = (Vec::new(), Vec::new());
    for stream in streams {
        let mut decoder = sse::Decoder::new(sse::MAX_EVENT);
        let mut came = 0;
        for piece in cut(stream).into_iter().map(Some).chain([None]) {
            match piece {
                Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
                None => decoder.end(),
            }
            while let Step::Item(item) = decoder.next() {
                match turns.item(&item) {
                    Passed::Relay => client.extend_from_slice(item.raw()),
                    Passed::Replace(bytes) => client.extend_from_slice(&bytes),
                    Passed::Withhold => {}
                }
                came += item.raw().len() + OVERHEAD;
                let held = turns.buffered();
                assert!(held <= 3 * came, "{held} bytes held of {came}");
            }
        }
        let (rest, end) = turns.end();
        client.extend_from_slice(&rest);
        let _ = turns.told();
        if !go_on(api, &mut turns, end, &mut requests) {
            break;
        }
    }
    (client, requests)
}

fn block(api: Api, bodies: &[&[u8]]) {
    let Some(mut turns) = begin(api) else { return };
    let mut requests = Vec::new();
    for body in bodies {
        let (given, end) = turns.body(Bytes::copy_from_slice(body));
        let is_json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
        assert!(given.is_empty() || !is_json(body) || is_json(&given));
        if !go_on(api, &mut turns, end, &mut requests) {
            break;
        }
    }
}

/// Runs what is called, if anything.
fn go_on(api: Api, turns: &mut Turns, end: TurnEnd, requests: &mut Vec<Bytes>) -> bool {
    let TurnEnd::Calls(calls) = end else {
        return false;
    };
    assert!(!calls.is_empty());
    let results: Vec<_> = calls
        .iter()
        .map(|call| CallResult::new(call, vec![Content::Text("\"done\"".into())], "{}"))
        .collect();
    let request = turns.continuation(&results);
    assert!(
        api::inspect(api, &request).is_ok(),
        "{}",
        request.escape_ascii()
    );
    requests.push(request);
    true
}
