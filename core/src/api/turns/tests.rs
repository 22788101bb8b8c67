//! Turns as a caller drives them, by API.

use bytes::Bytes;

use super::*;
use crate::{
    Rng,
    api::{Tool, inject, inspect},
    codec::Step,
};

mod chat_completions;
mod laws;
mod messages;
mod responses;
mod results;

/// A loop that is played: the request, and what came of it.
struct Played {
    /// What the client got, all turns together.
    client: String,
    ends: Vec<TurnEnd>,
    /// The requests sent upstream, one more than there were continuations.
    requests: Vec<String>,
    told: Vec<Told>,
}

impl Played {
    fn last(&self) -> &TurnEnd {
        self.ends.last().unwrap()
    }
}

fn tool(name: &str) -> Tool {
    Tool::new(name, None, r#"{"type":"object"}"#).unwrap()
}

fn turns(api: Api, request: &str) -> (Turns, Bytes) {
    let body = Bytes::copy_from_slice(request.as_bytes());
    let inspected = inspect(api, &body).unwrap();
    let injected = inject(api, body, &inspected, &[tool("bmcp_t"), tool("bmcp_u")]);
    let turns = Turns::new(api, &inspected, injected.body.clone(), injected.names);
    (turns, injected.body)
}

/// Results that name their call.
fn results(calls: &[ToolCall]) -> Vec<CallResult> {
    let result = |call: &ToolCall| {
        let text = format!("result of {}", call.id);
        CallResult::new(call, vec![Content::Text(text)], "{}")
    };
    calls.iter().map(result).collect()
}

/// Plays streamed turns, each in pieces of `piece` bytes.
fn stream_in(api: Api, request: &str, streams: &[&str], piece: usize) -> Played {
    let (mut turns, first) = turns(api, request);
    let mut played = Played {
        client: String::new(),
        ends: Vec::new(),
        requests: vec![String::from_utf8(first.to_vec()).unwrap()],
        told: Vec::new(),
    };
    for stream in streams {
        let mut client = Vec::new();
        let mut decoder = sse::Decoder::new(sse::MAX_EVENT);
        let mut follow = |decoder: &mut sse::Decoder| {
            while let Step::Item(item) = decoder.next() {
                match turns.item(&item) {
                    Passed::Relay => client.extend_from_slice(item.raw()),
                    Passed::Replace(bytes) => client.extend_from_slice(&bytes),
                    Passed::Withhold => {}
                }
            }
        };
        for piece in stream.as_bytes().chunks(piece) {
            decoder.push(Bytes::copy_from_slice(piece));
            follow(&mut decoder);
        }
        decoder.end();
        follow(&mut decoder);
        let (rest, end) = turns.end();
        client.extend_from_slice(&rest);
        played.client += str::from_utf8(&client).unwrap();
        played.told.push(turns.told());
        if let TurnEnd::Calls(calls) = &end {
            let next = turns.continuation(&results(calls));
            played
                .requests
                .push(String::from_utf8(next.to_vec()).unwrap());
        }
        played.ends.push(end);
    }
    played
}

/// Plays streamed turns, and checks that how they are cut into pieces changes nothing.
fn stream(api: Api, request: &str, streams: &[&str]) -> Played {
    let whole = stream_in(api, request, streams, usize::MAX);
    for piece in [1, 2, 7, 64] {
        let played = stream_in(api, request, streams, piece);
        assert_eq!(played.client, whole.client, "pieces of {piece}");
        assert_eq!(played.ends, whole.ends);
        assert_eq!(played.requests, whole.requests);
    }
    for line_end in ["\r\n", "\r"] {
        let streams: Vec<_> = streams
            .iter()
            .map(|it| it.replace('\n', line_end))
            .collect();
        let streams: Vec<_> = streams.iter().map(String::as_str).collect();
        let at_once = stream_in(api, request, &streams, usize::MAX);
        assert_eq!(at_once.requests, whole.requests);
        let bytewise = stream_in(api, request, &streams, 1);
        assert_eq!(bytewise.client, at_once.client, "{line_end:?}");
        if line_end == "\r\n" {
            assert_eq!(at_once.client.replace("\r\n", "\n"), whole.client);
        }
    }
    whole
}

fn block(api: Api, request: &str, bodies: &[&str]) -> Played {
    let (mut turns, first) = turns(api, request);
    let mut played = Played {
        client: String::new(),
        ends: Vec::new(),
        requests: vec![String::from_utf8(first.to_vec()).unwrap()],
        told: Vec::new(),
    };
    for body in bodies {
        let (client, end) = turns.body(Bytes::copy_from_slice(body.as_bytes()));
        played.client += str::from_utf8(&client).unwrap();
        played.told.push(turns.told());
        if let TurnEnd::Calls(calls) = &end {
            let next = turns.continuation(&results(calls));
            played
                .requests
                .push(String::from_utf8(next.to_vec()).unwrap());
        }
        played.ends.push(end);
    }
    played
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    }
}

/// What a request has more than the one before, whose conversation ends before the last bracket of
/// `tail`.
fn added(played: &Played, nth: usize, tail: &str) -> String {
    let before = played.requests[nth - 1].strip_suffix(tail).unwrap();
    let after = played.requests[nth].strip_suffix(tail).unwrap();
    after.strip_prefix(before).unwrap().to_owned()
}

/// A stream of unnamed events.
fn chunks(data: &[&str]) -> String {
    let event = |data: &&str| ["data: ", data, "\n\n"].concat();
    data.iter().map(event).collect()
}

/// A stream of events that are named by their type.
fn named(data: &[&str]) -> String {
    let event = |data: &&str| {
        let name = data.strip_prefix(r#"{"type":""#).unwrap();
        let name = name.split('"').next().unwrap();
        format!("event: {name}\ndata: {data}\n\n")
    };
    data.iter().map(event).collect()
}

#[test]
fn the_limit_of_a_turn_ends_the_loop() {
    let big = "x".repeat(MAX_TURN);
    let body = format!(
        r#"{{"content":[{{"type":"text","text":"{big}"}},{{"type":"tool_use","id":"a","name":"bmcp_t","input":{{}}}}],"stop_reason":"tool_use"}}"#
    );
    let played = block(Api::Messages, r#"{"model":"m","messages":[]}"#, &[&body]);
    assert_eq!(*played.last(), TurnEnd::TooLong);
    assert_eq!(played.client, "");
}

#[test]
fn the_limit_of_a_turn_ends_a_streamed_loop_too() {
    let big = "x".repeat(MAX_TURN / 3);
    let messages = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"X"}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let chat = [
        r#"{"id":"c","choices":[]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"X"}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"bmcp_t","arguments":"{}"}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        "[DONE]",
    ];
    let responses = [
        r#"{"type":"response.created","response":{"id":"r"}}"#,
        r#"{"type":"response.output_text.delta","delta":"X"}"#,
        r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"bmcp_t","arguments":"{}"}}"#,
        r#"{"type":"response.in_progress"}"#,
        r#"{"type":"response.completed","response":{"output":[]}}"#,
    ];
    for (api, data) in [
        (Api::Messages, messages),
        (Api::ChatCompletions, chat),
        (Api::Responses, responses),
    ] {
        let word = data[1].replace('X', &big);
        let order = [0, 2, 1, 1, 1, 1, 3, 4].map(|nth| if nth == 1 { &*word } else { data[nth] });
        // A call after the text is as good as one before it, if the text has not been let go.
        let stream = chunks(&order);
        let request = r#"{"model":"m","stream":true,"messages":[]}"#;
        let played = stream_in(api, request, &[&stream], usize::MAX);
        assert_eq!(played.ends, [TurnEnd::TooLong], "{api:?}");
        assert!(!played.client.contains("bmcp_t") && !played.client.contains("DONE"));
    }
    // What calls nothing is let go instead.
    let word = responses[1].replace('X', &big);
    let stream = chunks(&[responses[0], &word, &word, &word, &word, responses[4]]);
    let played = stream_in(
        Api::Responses,
        r#"{"model":"m","stream":true}"#,
        &[&stream],
        usize::MAX,
    );
    assert_eq!(played.ends, [TurnEnd::Final]);
    assert!(played.client == stream);
}

#[test]
fn whatever_a_provider_repeats_what_is_kept_of_a_turn_stays_within_its_limit() {
    let big = "x".repeat(1 << 20);
    let messages = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"x":"X"}"#,
    ];
    let chat = [
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"bmcp_t","arguments":"{}"}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"x":"X"}"#,
    ];
    let calls = [
        chat[0],
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":N,"id":"X","function":{"name":"bmcp_t"}}]}}]}"#,
    ];
    for (api, [call, repeated]) in [
        (Api::Messages, messages),
        (Api::ChatCompletions, chat),
        (Api::ChatCompletions, calls),
    ] {
        let request = r#"{"model":"m","stream":true,"messages":[]}"#;
        let (mut turns, _) = turns(api, request);
        let mut decoder = sse::Decoder::new(sse::MAX_EVENT);
        decoder.push(chunks(&[call]).into());
        for nth in 1..=100 {
            let data = repeated.replace('X', &big).replace('N', &nth.to_string());
            decoder.push(chunks(&[&data]).into());
            while let Step::Item(item) = decoder.next() {
                turns.item(&item);
            }
            let kept = turns.buffered();
            assert!(
                kept <= 2 * MAX_TURN + (2 << 20),
                "{api:?}: {kept} after {nth}"
            );
        }
    }
}

#[test]
fn an_error_answer_to_a_later_turn_keeps_what_the_provider_said() {
    let id = InterceptionId::draw(&mut Rng::new(7));
    let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_1"}"#;
    let status = StatusCode::from_u16(529).unwrap();
    let (turns, _) = turns(Api::Messages, r#"{"model":"m","stream":true}"#);
    let event = turns.upstream_error_event(status, body, id);
    let expected = [b"event: error\ndata: ", &body[..], b"\n\n"].concat();
    assert_eq!(event, expected);
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let event = turns.upstream_error_event(status, b"<html>", id);
        let start =
            format!("event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\"");
        assert!(event.starts_with(start.as_bytes()), "{event:?}");
    }
}
