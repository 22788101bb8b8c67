use super::*;

const REQUEST: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

fn start(id: &str, input: u64) -> String {
    format!(
        r#"{{"type":"message_start","message":{{"id":"{id}","type":"message","role":"assistant","content":[],"stop_reason":null,"usage":{{"input_tokens":{input},"cache_read_input_tokens":2,"output_tokens":1}}}}}}"#
    )
}

fn open(index: u64, block: &str) -> String {
    format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#)
}

fn delta(index: u64, delta: &str) -> String {
    format!(r#"{{"type":"content_block_delta","index":{index},"delta":{delta}}}"#)
}

fn close(index: u64) -> String {
    format!(r#"{{"type":"content_block_stop","index":{index}}}"#)
}

fn text(index: u64, words: &[&str]) -> Vec<String> {
    let mut events = vec![open(index, r#"{"type":"text","text":""}"#)];
    for word in words {
        events.push(delta(
            index,
            &format!(r#"{{"type":"text_delta","text":"{word}"}}"#),
        ));
    }
    events.push(close(index));
    events
}

fn tool_use(index: u64, id: &str, name: &str, pieces: &[&str]) -> Vec<String> {
    let mut events = vec![open(
        index,
        &format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{{}}}}"#),
    )];
    for piece in pieces {
        let piece = serde_json::to_string(piece).unwrap();
        let piece = format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#);
        events.push(delta(index, &piece));
    }
    events.push(close(index));
    events
}

fn end(stop: &str, usage: &str) -> Vec<String> {
    vec![
        format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"{stop}","stop_sequence":null}},"usage":{usage}}}"#
        ),
        r#"{"type":"message_stop"}"#.to_owned(),
    ]
}

fn turn(start: String, parts: &[Vec<String>]) -> String {
    let mut events = vec![start];
    for part in parts {
        events.extend_from_slice(part);
    }
    named(&events.iter().map(String::as_str).collect::<Vec<_>>())
}

fn final_turn() -> String {
    turn(
        start("msg_2", 20),
        &[
            text(0, &["Done", "."]),
            end("end_turn", r#"{"output_tokens":7}"#),
        ],
    )
}

#[test]
fn defect_4_blocks_of_all_turns_are_numbered_through() {
    let first = turn(
        start("msg_1", 10),
        &[
            text(0, &["Let me", " see"]),
            tool_use(1, "a", "bmcp_t", &["", "{\"x\"", ":1}"]),
            end("tool_use", r#"{"output_tokens":5}"#),
        ],
    );
    let played = stream(Api::Messages, REQUEST, &[&first, &final_turn()]);
    assert_eq!(
        played.ends,
        [
            TurnEnd::Calls(vec![call("a", "bmcp_t", "{\"x\":1}")]),
            TurnEnd::Final
        ]
    );
    let expected = turn(
        start("msg_1", 10),
        &[
            text(0, &["Let me", " see"]),
            text(1, &["Done", "."]),
            // Defect 11: output counted once per turn, by the last figure.
            end(
                "end_turn",
                r#"{"input_tokens":30,"cache_read_input_tokens":4,"output_tokens":12}"#,
            ),
        ],
    );
    assert_eq!(played.client, expected);
    assert_eq!(
        added(&played, 1, "]}"),
        concat!(
            r#",{"role":"assistant","content":[{"type":"text","text":"Let me see"},{"type":"tool_use","id":"a","name":"bmcp_t","input":{"x":1}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"result of a"}]}]}"#
        )
    );
    let used = played
        .told
        .iter()
        .map(|told| told.usage.as_ref().unwrap().output);
    assert_eq!(used.collect::<Vec<_>>(), [5, 7]);
}

#[test]
fn a_turn_that_calls_nothing_passes_byte_for_byte() {
    let stream_of = ": hello\n\n".to_owned() + &final_turn() + ": bye\n\n";
    let played = stream(Api::Messages, REQUEST, &[&stream_of]);
    assert_eq!(played.client, stream_of);
    assert_eq!(played.ends, [TurnEnd::Final]);
}

#[test]
fn five_turns_are_one_message() {
    let calling = |nth: u64| {
        turn(
            start(&format!("msg_{nth}"), nth),
            &[
                text(0, &["a"]),
                tool_use(1, &format!("id{nth}"), "bmcp_u", &["{}"]),
                end("tool_use", r#"{"output_tokens":1}"#),
            ],
        )
    };
    let streams: Vec<_> = (1..5).map(calling).chain([final_turn()]).collect();
    let streams: Vec<_> = streams.iter().map(String::as_str).collect();
    let played = stream(Api::Messages, REQUEST, &streams);
    assert_eq!(*played.last(), TurnEnd::Final);
    let mut parts: Vec<_> = (0..4).map(|index| text(index, &["a"])).collect();
    parts.push(text(4, &["Done", "."]));
    parts.push(end(
        "end_turn",
        r#"{"input_tokens":30,"cache_read_input_tokens":10,"output_tokens":11}"#,
    ));
    assert_eq!(played.client, turn(start("msg_1", 1), &parts));
    assert_eq!(played.requests[4].matches("tool_result").count(), 4);
}

#[test]
fn a_call_without_any_text_and_two_calls_of_one_tool() {
    let first = turn(
        start("msg_1", 10),
        &[
            tool_use(0, "a", "bmcp_t", &[]),
            tool_use(1, "b", "bmcp_t", &["{\"n\":2}"]),
            end("tool_use", r#"{"output_tokens":5}"#),
        ],
    );
    let played = stream(Api::Messages, REQUEST, &[&first, &final_turn()]);
    let calls = vec![call("a", "bmcp_t", "{}"), call("b", "bmcp_t", "{\"n\":2}")];
    assert_eq!(played.ends[0], TurnEnd::Calls(calls));
    assert!(played.requests[1].contains(concat!(
        r#""tool_use_id":"a","content":[{"type":"text","text":"result of a"}]},"#,
        r#"{"type":"tool_result","tool_use_id":"b","content":[{"type":"text","text":"result of b"}]}"#
    )));
}

#[test]
fn thoughts_and_their_signatures_are_carried_byte_for_byte() {
    let thinking = [
        open(0, r#"{"type":"thinking","thinking":"","signature":""}"#),
        delta(
            0,
            r#"{"type":"thinking_delta","thinking":"I \u00e9 \ud83d"}"#,
        ),
        delta(
            0,
            r#"{"type":"thinking_delta","thinking":"\ude00 think\/"}"#,
        ),
        delta(0, r#"{"type":"signature_delta","signature":"EqQB+/=="}"#),
        close(0),
        open(1, r#"{"type":"redacted_thinking","data":"xyz=="}"#),
        close(1),
        open(2, r#"{"type":"text","text":""}"#),
        delta(
            2,
            r#"{"type":"citations_delta","citation":{"type":"page","n":1}}"#,
        ),
        delta(2, r#"{"type":"text_delta","text":"cited"}"#),
        delta(
            2,
            r#"{"type":"citations_delta","citation":{"type":"page","n":2}}"#,
        ),
        close(2),
        open(3, r#"{"type":"text","text":""}"#),
        close(3),
    ];
    let first = turn(
        start("msg_1", 10),
        &[
            thinking.to_vec(),
            tool_use(4, "a", "bmcp_t", &["{}"]),
            end("tool_use", "{}"),
        ],
    );
    let played = stream(Api::Messages, REQUEST, &[&first, &final_turn()]);
    assert!(played.requests[1].contains(concat!(
        r#"{"role":"assistant","content":["#,
        r#"{"type":"thinking","thinking":"I \u00e9 \ud83d\ude00 think\/","signature":"EqQB+/=="},"#,
        r#"{"type":"redacted_thinking","data":"xyz=="},"#,
        r#"{"type":"text","text":"cited","citations":[{"type":"page","n":1},{"type":"page","n":2}]},"#,
        r#"{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}]}"#
    )));
}

#[test]
fn a_mixed_turn_leaves_the_client_its_own_calls() {
    let first = turn(
        start("msg_1", 10),
        &[
            tool_use(0, "a", "bmcp_t", &["{}"]),
            tool_use(1, "c", "own", &["{\"q\":", "0}"]),
            end("tool_use", r#"{"output_tokens":5}"#),
        ],
    );
    let played = stream(Api::Messages, REQUEST, &[&first]);
    let why = Refusal::Mixed;
    let calls = vec![call("a", "bmcp_t", "{}")];
    assert_eq!(played.ends, [TurnEnd::Refused { calls, why }]);
    let expected = turn(
        start("msg_1", 10),
        &[
            tool_use(0, "c", "own", &["{\"q\":", "0}"]),
            end("tool_use", r#"{"output_tokens":5}"#),
        ],
    );
    assert_eq!(played.client, expected);
}

#[test]
fn a_truncated_call_is_not_run() {
    for (stop, shown, why) in [
        ("max_tokens", "max_tokens", Refusal::Truncated),
        ("refusal", "refusal", Refusal::Truncated),
        ("tool_use", "end_turn", Refusal::Malformed),
    ] {
        let first = turn(
            start("msg_1", 10),
            &[
                text(0, &["a"]),
                tool_use(1, "a", "bmcp_t", &["{\"x\""]),
                end(stop, "{}"),
            ],
        );
        let played = stream(Api::Messages, REQUEST, &[&first]);
        let calls = vec![call("a", "bmcp_t", "{\"x\"")];
        assert_eq!(played.ends, [TurnEnd::Refused { calls, why }], "{stop}");
        let expected = turn(start("msg_1", 10), &[text(0, &["a"]), end(shown, "{}")]);
        assert_eq!(played.client, expected);
    }
}

/// What stands in the history must be an object there; what the model wrote is in the records.
#[test]
fn a_malformed_call_beside_a_sound_one_is_answered_and_stands_as_an_empty_one() {
    let malformed = "{\"x\"";
    let first = turn(
        start("msg_1", 10),
        &[
            tool_use(0, "a", "bmcp_t", &["{\"x\":", "1}"]),
            tool_use(1, "b", "bmcp_t", &["{\"x\"", ""]),
            end("tool_use", "{}"),
        ],
    );
    let streamed = stream(Api::Messages, REQUEST, &[&first, &final_turn()]);
    let calls = vec![
        call("a", "bmcp_t", "{\"x\":1}"),
        call("b", "bmcp_t", malformed),
    ];
    assert_eq!(streamed.ends, [TurnEnd::Calls(calls), TurnEnd::Final]);

    let block = |id: &str, input: &str| {
        format!(r#"{{"type":"tool_use","id":"{id}","name":"bmcp_t","input":{input}}}"#)
    };
    let body = format!(
        r#"{{"id":"m","content":[{},{}],"stop_reason":"tool_use"}}"#,
        block("a", r#"{"x":1}"#),
        block("b", "[1]")
    );
    let blocking = super::block(
        Api::Messages,
        REQUEST,
        &[&body, r#"{"content":[],"stop_reason":"end_turn"}"#],
    );
    let calls = vec![call("a", "bmcp_t", "{\"x\":1}"), call("b", "bmcp_t", "[1]")];
    assert_eq!(blocking.ends[0], TurnEnd::Calls(calls));

    for played in [streamed, blocking] {
        let added = added(&played, 1, "]}");
        let expected = format!(
            r#",{{"role":"assistant","content":[{},{}]}},"#,
            block("a", r#"{"x":1}"#),
            block("b", "{}")
        );
        assert!(added.starts_with(&expected), "{added}");
        assert!(added.contains("result of b"), "{added}");
    }
}

#[test]
fn defect_6_a_turn_that_breaks_off_runs_nothing() {
    let first = turn(
        start("msg_1", 10),
        &[tool_use(0, "a", "bmcp_t", &["{}"]), end("tool_use", "{}")],
    );
    let broken = turn(start("msg_2", 10), &[text(0, &["a"])]);
    let played = stream(Api::Messages, REQUEST, &[&first, &broken]);
    assert_eq!(*played.last(), TurnEnd::Final);
    assert_eq!(played.requests.len(), 2);

    let unstopped = first.replace(
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "",
    );
    let played = stream(Api::Messages, REQUEST, &[&unstopped]);
    assert!(matches!(
        played.last(),
        TurnEnd::Refused {
            why: Refusal::Truncated,
            ..
        }
    ));
    assert!(played.client.contains("message_delta"));
}

#[test]
fn an_error_in_a_later_turn_passes_verbatim_and_runs_nothing() {
    let first = turn(
        start("msg_1", 10),
        &[tool_use(0, "a", "bmcp_t", &["{}"]), end("tool_use", "{}")],
    );
    let error =
        r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"r"}"#;
    let second = turn(
        start("msg_2", 10),
        &[tool_use(0, "b", "bmcp_t", &["{}"]), vec![error.to_owned()]],
    );
    let played = stream(Api::Messages, REQUEST, &[&first, &second]);
    assert!(
        played
            .client
            .ends_with(&format!("event: error\ndata: {error}\n\n"))
    );
    assert!(matches!(
        played.last(),
        TurnEnd::Refused {
            why: Refusal::Truncated,
            ..
        }
    ));
}

#[test]
fn pings_comments_and_unknown_events_pass() {
    let odd = "event: ping\ndata: {\"type\": \"ping\"}\n\n: comment\n\nevent: new\ndata: {\"type\":\"new\",\"index\":9}\n\ndata: {broken\n\n";
    let first = turn(
        start("msg_1", 10),
        &[tool_use(0, "a", "bmcp_t", &["{}"]), end("tool_use", "{}")],
    );
    let played = stream(
        Api::Messages,
        REQUEST,
        &[
            &(odd.to_owned() + &first),
            &(odd.to_owned() + &final_turn()),
        ],
    );
    assert_eq!(played.client.matches(odd).count(), 2);
}

#[test]
fn text_leaves_at_once() {
    let (mut turns, _) = turns(Api::Messages, REQUEST);
    let stream = turn(start("msg_1", 10), &[text(0, &["a", "b", "c"])]);
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(stream.into());
    while let Step::Item(item) = decoder.next() {
        assert_eq!(turns.item(&item), Passed::Relay);
    }
    assert!(!turns.is_turn_over() && !turns.is_complete());
}

#[test]
fn data_in_several_fields_is_edited_too() {
    let first = turn(
        start("msg_1", 10),
        &[
            text(0, &["a"]),
            tool_use(1, "a", "bmcp_t", &["{}"]),
            end("tool_use", "{}"),
        ],
    );
    let second = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\ndata: \"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n";
    let played = stream_in(Api::Messages, REQUEST, &[&first, second], 1);
    assert!(
        played
            .client
            .ends_with(&second.replace("\"index\":0", "\"index\":1"))
    );
}

#[test]
fn blocking_turns_are_one_message() {
    let request = r#"{"messages":[],"model":"m"}"#;
    let first = r#"{"id":"1","content":[{"type":"text","text":"see"},{"type":"thinking","thinking":"t","signature":"s"}, {"type":"tool_use","id":"a","name":"bmcp_t","input":{"x":[1]}}],"stop_reason":"tool_use","usage":{"input_tokens":10,"output_tokens":5}}"#;
    let second = r#"{"id":"2","content":[{"type":"text","text":"done"}],"stop_reason":"end_turn","usage":{"input_tokens":20,"output_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":0}}}"#;
    let played = block(Api::Messages, request, &[first, second]);
    assert_eq!(
        played.ends[0],
        TurnEnd::Calls(vec![call("a", "bmcp_t", "{\"x\":[1]}")])
    );
    assert_eq!(
        played.client,
        r#"{"id":"2","content":[{"type":"text","text":"see"},{"type":"text","text":"done"}],"stop_reason":"end_turn","usage":{"input_tokens":30,"output_tokens":12,"cache_creation":{"ephemeral_5m_input_tokens":0}}}"#
    );
    assert!(played.requests[1].contains(concat!(
        r#""messages":[{"role":"assistant","content":[{"type":"text","text":"see"},{"type":"thinking","thinking":"t","signature":"s"},"#,
        r#"{"type":"tool_use","id":"a","name":"bmcp_t","input":{"x":[1]}}]},{"role":"user","content":["#
    )));
    assert_eq!(played.told[1].usage.as_ref().unwrap().output, 7);
}

/// Anthropic refuses to take it back. The client has it nevertheless.
#[test]
fn text_of_white_space_alone_is_left_out_of_the_history() {
    for blank in ["", " ", r"\n\n", r"\u0020\t\u00a0"] {
        let call = tool_use(1, "a", "bmcp_t", &["{}"]);
        let uses = end("tool_use", "{}");
        let first = turn(start("msg_1", 10), &[text(0, &[blank]), call, uses]);
        let streamed = stream(Api::Messages, REQUEST, &[&first, &final_turn()]);
        let shown = text(0, &[blank]);
        let shown: Vec<_> = shown.iter().map(String::as_str).collect();
        assert!(streamed.client.contains(&named(&shown)));

        let said = format!(r#"{{"type":"text","text":"{blank}"}}"#);
        let call = r#"{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}"#;
        let first = format!(r#"{{"id":"1","content":[{said},{call}],"stop_reason":"tool_use"}}"#);
        let last = r#"{"id":"2","content":[],"stop_reason":"end_turn"}"#;
        let blocking = block(Api::Messages, REQUEST, &[&first, last]);
        assert_eq!(blocking.client.contains(&said), !blank.is_empty());

        let alone = format!(r#"{{"role":"assistant","content":[{call}]}}"#);
        for played in [streamed, blocking] {
            let sent = &played.requests[1];
            assert!(sent.contains(&alone), "{sent}");
        }
    }
}

#[test]
fn blocking_calls_that_are_not_run_are_cut_out() {
    let request = r#"{"messages":[],"model":"m"}"#;
    let injected = r#"{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}"#;
    let own = r#"{"type":"tool_use","id":"c","name":"own","input":{}}"#;
    for (content, stop, shown, shown_stop, refusal) in [
        (
            format!("{injected}, {own}"),
            "tool_use",
            format!(" {own}"),
            "tool_use",
            Refusal::Mixed,
        ),
        (
            format!("{own},{injected}"),
            "tool_use",
            own.to_owned(),
            "tool_use",
            Refusal::Mixed,
        ),
        (
            injected.to_owned(),
            "max_tokens",
            String::new(),
            "max_tokens",
            Refusal::Truncated,
        ),
    ] {
        let body = format!(r#"{{"content":[{content}],"stop_reason":"{stop}"}}"#);
        let played = block(Api::Messages, request, &[&body]);
        let calls = vec![call("a", "bmcp_t", "{}")];
        assert_eq!(
            played.ends,
            [TurnEnd::Refused {
                calls,
                why: refusal
            }]
        );
        assert_eq!(
            played.client,
            format!(r#"{{"content":[{shown}],"stop_reason":"{shown_stop}"}}"#)
        );
    }
}

#[test]
fn a_body_that_is_no_message_is_the_end() {
    for body in [
        "",
        "{",
        "[]",
        r#"{"content":7}"#,
        r#"{"type":"error","error":{}}"#,
    ] {
        let played = block(Api::Messages, REQUEST, &[body]);
        assert_eq!((&*played.client, played.last()), (body, &TurnEnd::Final));
    }
}
