use super::*;

const REQUEST: &str =
    r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;

fn chunk(id: &str, delta: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"usage":null,"obfuscation":"xy"}}"#
    )
}

fn say(id: &str, text: &str) -> String {
    chunk(id, &format!(r#"{{"content":"{text}"}}"#), "null")
}

fn role(id: &str) -> String {
    chunk(
        id,
        r#"{"role":"assistant","content":"","refusal":null}"#,
        "null",
    )
}

fn begin(index: u64, id: &str, name: &str) -> String {
    let delta = format!(
        r#"{{"tool_calls":[{{"index":{index},"id":"{id}","type":"function","function":{{"name":"{name}","arguments":""}}}}]}}"#
    );
    chunk("c1", &delta, "null")
}

fn more(index: u64, arguments: &str) -> String {
    let arguments = serde_json::to_string(arguments).unwrap();
    let delta =
        format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{arguments}}}}}]}}"#);
    chunk("c1", &delta, "null")
}

fn finish(id: &str, reason: &str) -> String {
    chunk(id, "{}", &format!("\"{reason}\""))
}

fn usage(id: &str, input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"{id}","object":"chat.completion.chunk","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":1}}}}}}"#
    )
}

fn stream_of(data: &[String]) -> String {
    let mut data: Vec<_> = data.iter().map(String::as_str).collect();
    data.push("[DONE]");
    chunks(&data)
}

fn calling() -> String {
    stream_of(&[
        role("c1"),
        say("c1", "Let"),
        say("c1", " me"),
        begin(0, "a", "bmcp_t"),
        more(0, "{\"x\""),
        more(0, ":1}"),
        finish("c1", "tool_calls"),
        usage("c1", 10, 5),
    ])
}

fn last() -> String {
    stream_of(&[
        role("c2"),
        say("c2", "Do"),
        say("c2", "ne"),
        finish("c2", "stop"),
        usage("c2", 20, 7),
    ])
}

#[test]
fn two_turns_are_one_completion() {
    let played = stream(Api::ChatCompletions, REQUEST, &[&calling(), &last()]);
    let call = call("a", "bmcp_t", "{\"x\":1}");
    assert_eq!(played.ends, [TurnEnd::Calls(vec![call]), TurnEnd::Final]);
    let expected = stream_of(&[
        role("c1"),
        say("c1", "Let"),
        say("c1", " me"),
        say("c1", "Do"),
        say("c1", "ne"),
        finish("c1", "stop"),
        usage("c1", 30, 12).replace("\"cached_tokens\":1", "\"cached_tokens\":2"),
    ]);
    assert_eq!(played.client, expected);
    assert_eq!(
        added(&played, 1, "]}"),
        concat!(
            r#"{"role":"assistant","content":"Let me","tool_calls":[{"id":"a","type":"function","function":{"name":"bmcp_t","arguments":"{\"x\":1}"}}]},"#,
            r#"{"role":"tool","tool_call_id":"a","content":"result of a"}"#
        )
    );
    let used: Vec<_> = played
        .told
        .iter()
        .map(|told| told.usage.as_ref().unwrap().output)
        .collect();
    assert_eq!(used, [5, 7]);
}

#[test]
fn usage_that_was_not_asked_for_is_withheld() {
    let request = r#"{"model":"m","stream":true,"messages":[]}"#;
    let played = stream(Api::ChatCompletions, request, &[&calling(), &last()]);
    assert!(!played.client.contains("\"usage\":{"));
    assert!(played.client.ends_with("data: [DONE]\n\n"));
    assert_eq!(played.client.matches("[DONE]").count(), 1);
    assert!(played.told.iter().all(|told| told.usage.is_some()));
}

#[test]
fn a_turn_that_calls_nothing_passes_byte_for_byte() {
    // Defect 13: comments are no JSON.
    let stream_of = ": OPENROUTER PROCESSING\n\n".to_owned() + &last();
    let played = stream(Api::ChatCompletions, REQUEST, &[&stream_of]);
    assert_eq!(played.client, stream_of);
    assert_eq!(played.ends, [TurnEnd::Final]);
}

#[test]
fn a_call_may_come_with_the_role_without_text_and_with_any_index() {
    let first = chunk(
        "c1",
        r#"{"role":"assistant","content":null,"tool_calls":[{"index":3,"id":"a","type":"function","function":{"name":"bmcp_t","arguments":"{}"}}]}"#,
        "null",
    );
    let first = stream_of(&[first, finish("c1", "tool_calls")]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    assert_eq!(
        played.ends[0],
        TurnEnd::Calls(vec![call("a", "bmcp_t", "{}")])
    );
    let role = chunk("c1", r#"{"role":"assistant","content":null}"#, "null");
    assert!(played.client.starts_with(&format!("data: {role}\n\n")));
    assert_eq!(played.client.matches("\"role\"").count(), 1);
    assert!(
        added(&played, 1, "]}")
            .starts_with(r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","#)
    );
}

#[test]
fn calls_without_index_or_with_the_same_are_told_apart() {
    let whole = |index: &str, id: &str| {
        chunk(
            "c1",
            &format!(
                r#"{{"tool_calls":[{{{index}"id":"{id}","function":{{"name":"bmcp_t","arguments":"{{}}"}}}}]}}"#
            ),
            "null",
        )
    };
    for index in ["", "\"index\":0,"] {
        let first = stream_of(&[
            whole(index, "a"),
            whole(index, "b"),
            finish("c1", "tool_calls"),
        ]);
        let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
        let calls = vec![call("a", "bmcp_t", "{}"), call("b", "bmcp_t", "{}")];
        assert_eq!(played.ends[0], TurnEnd::Calls(calls), "{index}");
        assert_eq!(played.requests[1].matches("\"role\":\"tool\"").count(), 2);
    }
}

#[test]
fn a_mixed_turn_leaves_the_client_its_own_calls() {
    let first = stream_of(&[
        role("c1"),
        begin(0, "a", "bmcp_t"),
        more(0, "{}"),
        begin(1, "c", "own"),
        more(1, "{\"q\":0}"),
        finish("c1", "tool_calls"),
        usage("c1", 10, 5),
    ]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first]);
    let (calls, why) = (vec![call("a", "bmcp_t", "{}")], Refusal::Mixed);
    assert_eq!(played.ends, [TurnEnd::Refused { calls, why }]);
    let expected = stream_of(&[
        role("c1"),
        begin(0, "c", "own"),
        more(0, "{\"q\":0}"),
        finish("c1", "tool_calls"),
        usage("c1", 10, 5),
    ]);
    assert_eq!(played.client, expected);
}

#[test]
fn the_clients_own_calls_pass_untouched() {
    let first = stream_of(&[
        role("c1"),
        begin(2, "c", "own"),
        more(2, "{}"),
        finish("c1", "tool_calls"),
    ]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first]);
    assert_eq!((&*played.client, played.last()), (&*first, &TurnEnd::Final));
}

#[test]
fn a_truncated_call_is_not_run() {
    for (reason, shown, why) in [
        ("length", "length", Refusal::Truncated),
        ("content_filter", "content_filter", Refusal::Truncated),
        ("tool_calls", "stop", Refusal::Malformed),
    ] {
        let first = stream_of(&[
            role("c1"),
            begin(0, "a", "bmcp_t"),
            more(0, "{\"x\""),
            finish("c1", reason),
        ]);
        let played = stream(Api::ChatCompletions, REQUEST, &[&first]);
        let calls = vec![call("a", "bmcp_t", "{\"x\"")];
        assert_eq!(played.ends, [TurnEnd::Refused { calls, why }], "{reason}");
        assert_eq!(played.client, stream_of(&[role("c1"), finish("c1", shown)]));
    }
}

#[test]
fn a_malformed_call_beside_a_sound_one_is_answered_and_stands_as_received() {
    let first = stream_of(&[
        role("c1"),
        begin(0, "a", "bmcp_t"),
        more(0, "{\"x\":1}"),
        begin(1, "b", "bmcp_t"),
        more(1, "{\"x\""),
        finish("c1", "tool_calls"),
    ]);
    let streamed = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    let member = |id: &str, arguments: &str| {
        let arguments = serde_json::to_string(arguments).unwrap();
        format!(
            r#"{{"id":"{id}","type":"function","function":{{"name":"bmcp_t","arguments":{arguments}}}}}"#
        )
    };
    let members = format!("{},{}", member("a", "{\"x\":1}"), member("b", "{\"x\""));
    let body = format!(
        r#"{{"choices":[{{"message":{{"role":"assistant","content":null,"tool_calls":[{members}]}},"finish_reason":"tool_calls"}}]}}"#
    );
    let blocking = block(
        Api::ChatCompletions,
        REQUEST,
        &[
            &body,
            r#"{"choices":[{"message":{},"finish_reason":"stop"}]}"#,
        ],
    );
    for played in [streamed, blocking] {
        let calls = vec![
            call("a", "bmcp_t", "{\"x\":1}"),
            call("b", "bmcp_t", "{\"x\""),
        ];
        assert_eq!(played.ends, [TurnEnd::Calls(calls), TurnEnd::Final]);
        let added = added(&played, 1, "]}");
        assert!(added.contains(&format!("[{members}]")), "{added}");
        assert!(added.contains("result of b"), "{added}");
    }
}

#[test]
fn a_call_that_a_server_finishes_with_stop_is_run() {
    let first = stream_of(&[role("c1"), begin(0, "a", "bmcp_t"), finish("c1", "stop")]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    assert_eq!(
        played.ends[0],
        TurnEnd::Calls(vec![call("a", "bmcp_t", "{}")])
    );
}

#[test]
fn usage_before_the_finish_is_told_behind_it() {
    for reason in ["length", "stop"] {
        let calls = [begin(0, "a", "bmcp_t"), more(0, "{")];
        let calls = if reason == "length" { &calls[..] } else { &[] };
        let data = [
            &[role("c1")],
            calls,
            &[usage("c1", 1, 2), finish("c1", reason)],
        ]
        .concat();
        let played = stream(Api::ChatCompletions, REQUEST, &[&stream_of(&data)]);
        let expected = [role("c1"), finish("c1", reason), usage("c1", 1, 2)];
        assert_eq!(played.client, stream_of(&expected));
    }
}

#[test]
fn a_chunk_that_says_all_at_once_is_taken_apart() {
    let all = |delta: &str, finish: &str| chunk("c1", delta, finish);
    let call = r#"[{"index":0,"id":"a","function":{"name":"bmcp_t","arguments":"{}"}}]"#;
    let first = stream_of(&[all(
        &format!(r#"{{"role":"assistant","content":"hm","tool_calls":{call}}}"#),
        "\"tool_calls\"",
    )]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    assert!(matches!(played.ends[0], TurnEnd::Calls(_)));
    let now = all(r#"{"role":"assistant","content":"hm"}"#, "null");
    assert!(
        played
            .client
            .starts_with(&format!("data: {now}\n\ndata: {}", say("c1", "Do")))
    );
}

#[test]
fn defect_10_usage_on_every_chunk_counts_once() {
    let with_usage = |chunk: String, input: u64, output: u64| {
        chunk.replace(
            "\"usage\":null",
            &format!(r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}"#),
        )
    };
    let first = stream_of(&[
        with_usage(say("c1", "a"), 10, 1),
        with_usage(begin(0, "a", "bmcp_t"), 10, 2),
        with_usage(more(0, "{}"), 10, 3),
        with_usage(finish("c1", "tool_calls"), 10, 4),
    ]);
    let second = stream_of(&[
        with_usage(say("c2", "b"), 20, 1),
        with_usage(finish("c2", "stop"), 20, 2),
    ]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &second]);
    let expected = stream_of(&[
        with_usage(say("c1", "a"), 10, 1),
        with_usage(say("c1", "b"), 30, 5),
        with_usage(finish("c1", "stop"), 30, 6),
    ]);
    assert_eq!(played.client, expected);
}

#[test]
fn a_stream_without_done_still_ends() {
    let without = |stream: String| stream.replace("data: [DONE]\n\n", "");
    let played = stream(
        Api::ChatCompletions,
        REQUEST,
        &[&without(calling()), &without(last())],
    );
    assert!(matches!(played.ends[0], TurnEnd::Calls(_)));
    assert_eq!(*played.last(), TurnEnd::Final);
}

#[test]
fn a_stump_at_the_end_of_a_turn_does_not_spoil_the_next() {
    let first = calling();
    let first = first.strip_suffix('\n').unwrap();
    assert!(first.ends_with("data: [DONE]\n"));
    let second = "\u{feff}".to_owned() + &last();
    let played = stream_in(Api::ChatCompletions, REQUEST, &[first, &second], 7);
    let whole = stream(Api::ChatCompletions, REQUEST, &[&calling(), &last()]);
    assert_eq!(played.ends, whole.ends);
    assert_eq!(played.client, whole.client);
}

#[test]
fn an_error_runs_nothing() {
    let error = r#"{"error":{"message":"busy","type":"server_error","param":"p","code":"c"}}"#;
    let first = chunks(&[&begin(0, "a", "bmcp_t"), &more(0, "{}"), error]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first]);
    assert!(matches!(
        played.last(),
        TurnEnd::Refused {
            why: Refusal::Truncated,
            ..
        }
    ));
    assert_eq!(played.client, chunks(&[error]));
}

#[test]
fn thoughts_of_open_models_are_carried_along() {
    let think = |text: &str| {
        chunk(
            "c1",
            &format!(r#"{{"reasoning_content":"{text}"}}"#),
            "null",
        )
    };
    let first = stream_of(&[
        think("h\\u00e9"),
        think("mm"),
        begin(0, "a", "bmcp_t"),
        finish("c1", "tool_calls"),
    ]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    assert!(
        played.requests[1]
            .contains(r#""content":null,"reasoning_content":"h\u00e9mm","tool_calls""#)
    );
}

#[test]
fn what_a_server_says_of_a_call_is_said_again() {
    let details = |n: u32| {
        chunk(
            "c1",
            &format!(r#"{{"content":"","reasoning_details":[{{"n":{n}}}]}}"#),
            "null",
        )
    };
    let signed = begin(0, "a", "bmcp_t").replace(
        r#"{"index":0,"#,
        r#"{"extra_content":{"signature":"s+/="},"index":0,"#,
    );
    assert!(signed.contains("extra_content"));
    let first = stream_of(&[
        details(1),
        details(2),
        signed,
        more(0, "{}"),
        finish("c1", "tool_calls"),
    ]);
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &last()]);
    assert!(played.requests[1].contains(
        r#""content":null,"reasoning_details":[{"n":1},{"n":2}],"tool_calls":[{"id":"a","#
    ));
    assert!(
        played.requests[1].contains(r#""arguments":"{}"},"extra_content":{"signature":"s+/="}}]}"#)
    );
}

#[test]
fn blocking_turns_are_one_completion() {
    let request = r#"{"model":"m","messages":[]}"#;
    let message = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"bmcp_t","arguments":"{\"x\":1}"}}],"annotations":[]}"#;
    let first = format!(
        r#"{{"id":"1","choices":[{{"index":0,"message":{message},"finish_reason":"tool_calls"}}],"usage":{{"prompt_tokens":10,"completion_tokens":5}}}}"#
    );
    let second = r#"{"id":"2","choices":[{"index":0,"message":{"role":"assistant","content":"done"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":7}}"#;
    let played = block(Api::ChatCompletions, request, &[&first, second]);
    assert_eq!(
        played.ends[0],
        TurnEnd::Calls(vec![call("a", "bmcp_t", "{\"x\":1}")])
    );
    assert_eq!(
        played.client,
        second.replace(":20", ":30").replace(":7", ":12")
    );
    assert_eq!(
        added(&played, 1, "]}"),
        message.to_owned() + r#",{"role":"tool","tool_call_id":"a","content":"result of a"}"#
    );
}

#[test]
fn blocking_calls_that_are_not_run_are_cut_out() {
    let request = r#"{"model":"m","messages":[]}"#;
    let call = |id: &str, name: &str| {
        format!(r#"{{"id":"{id}","function":{{"name":"{name}","arguments":"{{}}"}}}}"#)
    };
    let (injected, own) = (call("a", "bmcp_t"), call("c", "own"));
    let body = |calls: &str, reason: &str| {
        format!(
            r#"{{"choices":[{{"message":{{"content":"x"{calls}}},"finish_reason":"{reason}"}}]}}"#
        )
    };
    for (calls, reason, shown, shown_reason, why) in [
        (
            format!(",\"tool_calls\":[{injected},{own}]"),
            "tool_calls",
            format!(",\"tool_calls\":[{own}]"),
            "tool_calls",
            Refusal::Mixed,
        ),
        (
            format!(",\"tool_calls\":[{injected}]"),
            "length",
            String::new(),
            "length",
            Refusal::Truncated,
        ),
        (
            format!(",\"tool_calls\":[{}]", injected.replace("{}", "{")),
            "tool_calls",
            String::new(),
            "stop",
            Refusal::Malformed,
        ),
    ] {
        let played = block(Api::ChatCompletions, request, &[&body(&calls, reason)]);
        assert!(
            matches!(played.last(), TurnEnd::Refused { why: it, .. } if *it == why),
            "{why:?}"
        );
        assert_eq!(played.client, body(&shown, shown_reason));
    }
}

/// A client that asked for usage gets it, whichever turn reported it, and once.
#[test]
fn usage_of_earlier_turns_is_told_though_the_last_reports_none() {
    let calls = |id: &str, rest: &[String]| {
        let head = [
            begin(0, id, "bmcp_t"),
            more(0, "{}"),
            finish("c1", "tool_calls"),
        ];
        stream_of(&[&head, rest].concat())
    };
    let silent = stream_of(&[say("c3", "Hi"), finish("c3", "stop")]);
    let shown = |count: String| stream_of(&[say("c1", "Hi"), finish("c1", "stop"), count]);
    let (first, second) = (
        calls("a", &[usage("c1", 10, 5)]),
        calls("b", &[usage("c2", 20, 7)]),
    );

    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &silent]);
    assert_eq!(played.client, shown(usage("c1", 10, 5)));

    let sum = usage("c1", 30, 12).replace("\"cached_tokens\":1", "\"cached_tokens\":2");
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &second, &silent]);
    assert_eq!(played.client, shown(sum));

    // Without `[DONE]`, and from a server that counts in the chunk that finishes.
    let finishing = finish("c1", "tool_calls").replace(
        "\"usage\":null",
        r#""usage":{"prompt_tokens":10,"completion_tokens":5}"#,
    );
    let first = stream_of(&[begin(0, "a", "bmcp_t"), more(0, "{}"), finishing.clone()]);
    let (begins, rest) = finishing.split_once("\"choices\":").unwrap();
    let (_, ends) = rest.split_once("}],").unwrap();
    let count = format!("{begins}\"choices\":[],{ends}");
    let cut = silent.replace("data: [DONE]\n\n", "");
    let played = stream(Api::ChatCompletions, REQUEST, &[&first, &cut]);
    assert_eq!(played.client, shown(count).replace("data: [DONE]\n\n", ""));

    // Nobody asked.
    let request = REQUEST.replace(r#""stream_options":{"include_usage":true},"#, "");
    let first = calls("a", &[usage("c1", 10, 5)]);
    let played = stream(Api::ChatCompletions, &request, &[&first, &silent]);
    assert!(
        !played.client.contains("prompt_tokens"),
        "{}",
        played.client
    );
}
