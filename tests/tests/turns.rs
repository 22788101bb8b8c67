//! Laws of the agentic loop over random conversations: whatever turns a model takes, and however
//! their bytes are cut, the client reads one reply by its API's grammar, with all that was said and
//! nothing of the calls it must not see.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use aibridge_core::{
    api::{
        self, Api, Tool,
        turns::{CallResult, Content, Passed, Refusal, TurnEnd, Turns},
    },
    codec::Step,
    sse,
};
use aibridge_testkit::{APIS, Fixture, grammar, txtar::Archive};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

/// What a model says in a turn.
#[derive(Clone, Debug)]
enum Part {
    Text(Vec<String>),
    Thought(Vec<String>),
    Injected(u32),
    Own(u32),
    Noise,
}

/// A turn: what it says, and what it counts.
#[derive(Clone, Debug)]
struct Said {
    parts: Vec<Part>,
    input: u64,
    output: u64,
}

fn words() -> impl Strategy<Value = Vec<String>> {
    vec(
        select(vec!["a", " word", "é😀", "\"q\"\\", "\n"]).prop_map(str::to_owned),
        0..4,
    )
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        words().prop_map(Part::Text),
        words().prop_map(Part::Thought),
        Just(Part::Noise),
    ]
}

fn said(calls: impl Strategy<Value = Vec<Part>>) -> impl Strategy<Value = Said> {
    (vec(part(), 0..4), calls, 0..1000u64, 1..1000u64).prop_map(
        |(mut parts, calls, input, output)| {
            parts.extend(calls);
            Said {
                parts,
                input,
                output,
            }
        },
    )
}

/// Turns that call injected tools, and a last one that calls none, or the client's, or both.
fn conversation() -> impl Strategy<Value = Vec<Said>> {
    let injected = (0..9u32).prop_map(Part::Injected);
    let own = (0..9u32).prop_map(Part::Own);
    let last = vec(prop_oneof![own.clone(), own, injected.clone()], 0..4).prop_filter(
        "the last turn is not continued",
        |calls| {
            let is_own = |part: &Part| matches!(part, Part::Own(_));
            calls.is_empty() || calls.iter().any(is_own)
        },
    );
    (vec(said(vec(injected, 1..3)), 0..4), said(last)).prop_map(|(mut turns, last)| {
        turns.push(last);
        turns
    })
}

fn event(data: &Value) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

fn call_id(turn: usize, nth: usize) -> String {
    format!("call_{turn}_{nth}")
}

fn tool_call(part: &Part) -> Option<(&'static str, String)> {
    match part {
        Part::Injected(n) => Some(("bmcp_t", json!({ "n": n }).to_string())),
        Part::Own(n) => Some(("own", json!({ "n": n }).to_string())),
        Part::Noise | Part::Text(_) | Part::Thought(_) => None,
    }
}

fn messages(turn: usize, said: &Said) -> String {
    let id = format!("msg_{turn}");
    let mut stream = event(
        &json!({"type": "message_start", "message": {"id": id, "usage": {"input_tokens": said.input, "output_tokens": 1}}}),
    );
    let mut index = 0;
    let mut stop = "end_turn";
    for (nth, part) in said.parts.iter().enumerate() {
        let (block, deltas) = match part {
            Part::Noise => {
                stream += ": noise\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";
                continue;
            }
            Part::Text(words) => (
                json!({"type": "text", "text": ""}),
                words
                    .iter()
                    .map(|word| json!({"type": "text_delta", "text": word}))
                    .collect(),
            ),
            Part::Thought(words) => (
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                words
                    .iter()
                    .map(|word| json!({"type": "thinking_delta", "thinking": word}))
                    .chain([json!({"type": "signature_delta", "signature": "s=="})])
                    .collect::<Vec<_>>(),
            ),
            Part::Injected(_) | Part::Own(_) => {
                stop = "tool_use";
                let (name, arguments) = tool_call(part).unwrap();
                let (head, tail) = arguments.split_at(3);
                let block = json!({"type": "tool_use", "id": call_id(turn, nth), "name": name, "input": {}});
                let delta =
                    |piece: &str| json!({"type": "input_json_delta", "partial_json": piece});
                (block, vec![delta(""), delta(head), delta(tail)])
            }
        };
        stream +=
            &event(&json!({"type": "content_block_start", "index": index, "content_block": block}));
        for delta in deltas {
            stream +=
                &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        stream += &event(&json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    stream += &event(
        &json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": said.output}}),
    );
    stream + &event(&json!({"type": "message_stop"}))
}

fn chat_completions(turn: usize, said: &Said) -> String {
    let chunk = |delta: Value, finish: Option<&str>| {
        event(
            &json!({"id": format!("c{turn}"), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}),
        )
    };
    let mut stream = chunk(json!({"role": "assistant", "content": ""}), None);
    // Some servers count calls from one.
    let first = said.parts.iter().find(|part| tool_call(part).is_some());
    let mut index = usize::from(matches!(first, Some(Part::Injected(_)))) * (turn % 2);
    let mut finish = "stop";
    for (nth, part) in said.parts.iter().enumerate() {
        match part {
            Part::Noise => stream += ": noise\n\n",
            Part::Text(words) => {
                stream.extend(
                    words
                        .iter()
                        .map(|word| chunk(json!({ "content": word }), None)),
                );
            }
            Part::Thought(words) => {
                stream.extend(
                    words
                        .iter()
                        .map(|word| chunk(json!({ "reasoning_content": word }), None)),
                );
            }
            Part::Injected(_) | Part::Own(_) => {
                finish = "tool_calls";
                let (name, arguments) = tool_call(part).unwrap();
                let (head, tail) = arguments.split_at(3);
                let begin = json!({"index": index, "id": call_id(turn, nth), "type": "function", "function": {"name": name, "arguments": head}});
                stream += &chunk(json!({"tool_calls": [begin]}), None);
                stream += &chunk(
                    json!({"tool_calls": [{"index": index, "function": {"arguments": tail}}]}),
                    None,
                );
                index += 1;
            }
        }
    }
    stream += &chunk(json!({}), Some(finish));
    stream += &event(
        &json!({"id": format!("c{turn}"), "choices": [], "usage": {"prompt_tokens": said.input, "completion_tokens": said.output}}),
    );
    stream + "data: [DONE]\n\n"
}

fn responses(turn: usize, said: &Said) -> String {
    let id = format!("resp_{turn}");
    let mut number = 0;
    let mut next = |mut data: Value| {
        data["sequence_number"] = json!(number);
        number += 1;
        event(&data)
    };
    let mut stream =
        next(json!({"type": "response.created", "response": {"id": id, "output": []}}));
    let mut output = Vec::new();
    for (nth, part) in said.parts.iter().enumerate() {
        let place = output.len();
        let item = match part {
            Part::Noise => {
                stream += ": noise\n\n";
                continue;
            }
            Part::Text(words) => {
                json!({"type": "message", "content": [{"type": "output_text", "text": words.concat()}]})
            }
            Part::Thought(words) => {
                json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": words.concat()}]})
            }
            Part::Injected(_) | Part::Own(_) => {
                let (name, arguments) = tool_call(part).unwrap();
                json!({"type": "function_call", "call_id": call_id(turn, nth), "name": name, "arguments": arguments})
            }
        };
        stream += &next(
            json!({"type": "response.output_item.added", "output_index": place, "item": item}),
        );
        if let Part::Text(words) = part {
            for word in words {
                stream += &next(
                    json!({"type": "response.output_text.delta", "output_index": place, "delta": word}),
                );
            }
        }
        stream += &next(
            json!({"type": "response.output_item.done", "output_index": place, "item": item}),
        );
        output.push(item);
    }
    let usage = json!({"input_tokens": said.input, "output_tokens": said.output});
    let response = json!({"id": id, "status": "completed", "output": output, "usage": usage});
    stream + &next(json!({"type": "response.completed", "response": response}))
}

fn rendered(api: Api, turn: usize, said: &Said) -> String {
    match api {
        Api::ChatCompletions => chat_completions(turn, said),
        Api::Messages => messages(turn, said),
        Api::Responses => responses(turn, said),
    }
}

/// Follows a turn's stream in pieces of these sizes.
fn follow<'a>(
    turns: &mut Turns,
    mut stream: Bytes,
    sizes: &mut impl Iterator<Item = &'a usize>,
    client: &mut Vec<u8>,
) {
    let mut decoder = sse::Decoder::new(sse::MAX_EVENT);
    loop {
        let size = sizes
            .next()
            .map_or(stream.len(), |size| stream.len().min(*size));
        if size == 0 {
            decoder.end();
        }
        decoder.push(stream.split_to(size));
        while let Step::Item(item) = decoder.next() {
            match turns.item(&item) {
                Passed::Relay => client.extend_from_slice(item.raw()),
                Passed::Replace(bytes) => client.extend_from_slice(&bytes),
                Passed::Withhold => {}
            }
        }
        if size == 0 {
            return;
        }
    }
}

/// The loop over a conversation, each turn's stream in pieces of these sizes, over and over.
fn play(api: Api, conversation: &[Said], sizes: &[usize]) -> (Vec<u8>, Vec<TurnEnd>, Vec<Bytes>) {
    let request = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[],"input":[]}"#;
    let inspected = api::inspect(api, request.as_bytes()).unwrap();
    let tool = Tool::new(Arc::<str>::from("bmcp_t"), None, r#"{"type":"object"}"#).unwrap();
    let injected = api::inject(api, request.into(), &inspected, &[tool]);
    let mut turns = Turns::new(api, &inspected, injected.body, injected.names);
    let mut sizes = sizes.iter().cycle();
    let (mut client, mut ends, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for (nth, said) in conversation.iter().enumerate() {
        let stream = rendered(api, nth, said).into();
        follow(&mut turns, stream, &mut sizes, &mut client);
        let (tail, end) = turns.end();
        client.extend_from_slice(&tail);
        if let TurnEnd::Calls(calls) = &end {
            let result = |call| CallResult::new(call, vec![Content::Text("r".to_owned())], "{}");
            let results: Vec<_> = calls.iter().map(result).collect();
            requests.push(turns.continuation(&results));
        }
        ends.push(end);
    }
    (client, ends, requests)
}

/// What all fixtures give a client, is by the grammar, and is not changed by a tool that is offered
/// and not called.
#[test]
fn replies_that_call_no_injected_tool_arrive_as_they_are() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let (api, name) = (
                fixture.api,
                format!("{} streaming={streaming}", fixture.name),
            );
            let request = fixture.ask(streaming).body;
            let Ok(inspected) = api::inspect(api, &request) else {
                continue;
            };
            let tool = Tool::new("bmcp_t", None, r#"{"type":"object"}"#).unwrap();
            let injected = api::inject(api, request, &inspected, &[tool]);
            let mut turns = Turns::new(api, &inspected, injected.body, injected.names);
            let (sent, relayed) = (fixture.body(streaming), fixture.relayed(streaming));
            let mut client = Vec::new();
            let (rest, end) = if streaming {
                follow(&mut turns, sent, &mut std::iter::repeat(&31), &mut client);
                turns.end()
            } else {
                turns.body(sent)
            };
            client.extend_from_slice(&rest);
            assert_eq!(client, relayed, "{name}");
            assert_eq!(end, TurnEnd::Final, "{name}");
            let is_malformed = fixture.name.ends_with("malformed_body");
            if is_malformed || fixture.fact("stop", streaming).is_none() {
                continue;
            }
            let reply = if streaming {
                grammar::stream(api, &client)
            } else {
                grammar::body(api, &client)
            };
            let reply = reply.unwrap_or_else(|broken| panic!("{name}: {broken}"));
            assert_eq!(
                Some(&*reply.stop),
                fixture.fact("stop", streaming),
                "{name}"
            );
        }
    }
}

/// What providers really sent, in two turns. The recordings are no part of this repository: without
/// them this test says so and passes.
#[test]
fn recorded_turns_make_one_reply() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/recorded");
    for (api, name, parts) in [
        (Api::Messages, "messages-injected-tool", "streaming"),
        (Api::Messages, "messages-injected-tool", "non-streaming"),
        (Api::ChatCompletions, "chat-injected-tool", "streaming"),
        (Api::ChatCompletions, "chat-injected-tool", "non-streaming"),
        (
            Api::Responses,
            "responses-streaming-injected-tool",
            "streaming",
        ),
        (
            Api::Responses,
            "responses-blocking-injected-tool",
            "non-streaming",
        ),
    ] {
        let path = format!("{folder}/{name}.txtar");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!("skipped: no recording at {path}");
            continue;
        };
        let archive: Archive = text.parse().unwrap();
        let part = |title: &str| archive.get(title).unwrap().to_owned();
        let (first, last) = (part(parts), part(&format!("{parts}/tool-call")));
        let request = part("request");
        let body = Bytes::from(request);
        let inspected = api::inspect(api, &body).unwrap();
        let tools = [
            "list_workspaces",
            "list_templates",
            "template_version_parameters",
        ]
        .map(|tool| {
            let name = format!("bmcp_coder_coder_{tool}");
            Tool::new(name, None, r#"{"type":"object"}"#).unwrap()
        });
        let injected = api::inject(api, body, &inspected, &tools);
        let mut turns = Turns::new(api, &inspected, injected.body, injected.names);
        let mut client = Vec::new();
        let mut used = 0;
        let mut ends = Vec::new();
        for turn in [first, last] {
            let (rest, end) = if parts == "streaming" {
                follow(
                    &mut turns,
                    turn.into(),
                    &mut std::iter::repeat(&97),
                    &mut client,
                );
                turns.end()
            } else {
                turns.body(turn.into())
            };
            client.extend_from_slice(&rest);
            used += turns.told().usage.unwrap().output;
            if let TurnEnd::Calls(calls) = &end {
                let results: Vec<_> = calls
                    .iter()
                    .map(|call| CallResult::failed(call, "no"))
                    .collect();
                let next = turns.continuation(&results);
                api::inspect(api, &next).unwrap();
            }
            ends.push(end);
        }
        assert!(
            matches!(ends[0], TurnEnd::Calls(_)),
            "{name} {parts}: {ends:?}"
        );
        assert_eq!(ends[1], TurnEnd::Final);
        let reply = if parts == "streaming" {
            grammar::stream(api, &client)
        } else {
            grammar::body(api, &client)
        };
        let reply = reply.unwrap_or_else(|broken| panic!("{name} {parts}: {broken}"));
        assert!(
            reply.calls.is_empty() && !reply.text.is_empty(),
            "{reply:?}"
        );
        let output = if api == Api::ChatCompletions {
            "completion_tokens"
        } else {
            "output_tokens"
        };
        if reply.usage.contains_key(output) {
            assert_eq!(reply.usage[output], used, "{name} {parts}");
        } else {
            assert_eq!((name, parts), ("chat-injected-tool", "streaming"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_client_reads_one_reply(turns in conversation(), sizes in vec(1..200usize, 1..8)) {
        for api in APIS {
            let (client, ends, requests) = play(api, &turns, &sizes);
            let (whole, whole_ends, whole_requests) = play(api, &turns, &[usize::MAX]);
            prop_assert_eq!(&client, &whole);
            prop_assert_eq!(&ends, &whole_ends);
            prop_assert_eq!(&requests, &whole_requests);

            let reply = grammar::stream(api, &client);
            let text = String::from_utf8_lossy(&client);
            prop_assert!(reply.is_ok(), "{}\n{}", reply.unwrap_err(), text);
            let reply = reply.unwrap();
            prop_assert!(!text.contains("bmcp_t"), "{}", text);

            let seen = match api {
                Api::Responses => &turns[turns.len() - 1..],
                Api::ChatCompletions | Api::Messages => &turns[..],
            };
            let said = |pick: fn(&Part) -> Option<String>| -> String {
                seen.iter().flat_map(|said| &said.parts).filter_map(pick).collect()
            };
            prop_assert_eq!(&reply.text, &said(|part| match part {
                Part::Text(words) => Some(words.concat()),
                _ => None,
            }));
            prop_assert_eq!(&reply.thoughts, &said(|part| match part {
                Part::Thought(words) => Some(words.concat()),
                _ => None,
            }));
            let own = |part: &&Part| matches!(part, Part::Own(_));
            let last = &turns[turns.len() - 1].parts;
            prop_assert_eq!(reply.calls.len(), last.iter().filter(own).count());

            let (input, output) = match api {
                Api::ChatCompletions => ("prompt_tokens", "completion_tokens"),
                Api::Messages | Api::Responses => ("input_tokens", "output_tokens"),
            };
            prop_assert_eq!(reply.usage[input], turns.iter().map(|turn| turn.input).sum::<u64>());
            prop_assert_eq!(reply.usage[output], turns.iter().map(|turn| turn.output).sum::<u64>());

            let is_mixed = last.iter().any(|part| matches!(part, Part::Injected(_)));
            match ends.last() {
                Some(TurnEnd::Final) => prop_assert!(!is_mixed),
                Some(TurnEnd::Refused { why, .. }) => prop_assert!(is_mixed && *why == Refusal::Mixed),
                end => prop_assert!(false, "{:?}", end),
            }
            for (nth, request) in requests.iter().enumerate() {
                let request: Value = serde_json::from_slice(request).unwrap();
                let (list, answer) = match api {
                    Api::ChatCompletions => ("messages", "\"role\":\"tool\""),
                    Api::Messages => ("messages", "\"type\":\"tool_result\""),
                    Api::Responses => ("input", "\"type\":\"function_call_output\""),
                };
                let made = turns[..=nth].iter().flat_map(|said| &said.parts);
                let made = made.filter(|part| matches!(part, Part::Injected(_))).count();
                prop_assert_eq!(request[list].to_string().matches(answer).count(), made);
            }
        }
    }
}
