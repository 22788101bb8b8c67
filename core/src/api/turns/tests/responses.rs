use super::*;

const REQUEST: &str = r#"{"model":"m","stream":true,"input":"hi"}"#;

fn created(id: &str) -> String {
    format!(
        r#"{{"type":"response.created","response":{{"id":"{id}","status":"in_progress","output":[]}},"sequence_number":0}}"#
    )
}

fn added_item(index: u64, item: &str) -> String {
    format!(
        r#"{{"type":"response.output_item.added","item":{item},"output_index":{index},"sequence_number":1}}"#
    )
}

fn delta(index: u64, text: &str) -> String {
    format!(
        r#"{{"type":"response.output_text.delta","delta":"{text}","output_index":{index},"sequence_number":2}}"#
    )
}

fn done(index: u64, item: &str) -> String {
    format!(
        r#"{{"type":"response.output_item.done","item":{item},"output_index":{index},"sequence_number":3}}"#
    )
}

fn end(kind: &str, output: &str, input: u64) -> String {
    format!(
        r#"{{"type":"response.{kind}","response":{{"id":"r","status":"{kind}","output":[{output}],"usage":{{"input_tokens":{input},"output_tokens":5}}}},"sequence_number":4}}"#
    )
}

fn call_item(id: &str, name: &str, arguments: &str) -> String {
    let arguments = serde_json::to_string(arguments).unwrap();
    format!(
        r#"{{"type":"function_call","id":"fc_{id}","call_id":"{id}","name":"{name}","arguments":{arguments}}}"#
    )
}

const MESSAGE: &str =
    r#"{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}"#;
const THOUGHT: &str = r#"{"type":"reasoning","id":"rs","summary":[],"encrypted_content":"zz=="}"#;

fn stream_of(data: &[String]) -> String {
    named(&data.iter().map(String::as_str).collect::<Vec<_>>())
}

fn calling() -> String {
    let item = call_item("a", "bmcp_t", "{\"x\":1}");
    stream_of(&[
        created("r1"),
        added_item(0, THOUGHT),
        done(0, THOUGHT),
        added_item(1, &call_item("a", "bmcp_t", "")),
        done(1, &item),
        end("completed", &format!("{THOUGHT},{item}"), 10),
    ])
}

fn last(input: u64) -> String {
    stream_of(&[
        created("r2"),
        added_item(0, MESSAGE),
        delta(0, "done"),
        done(0, MESSAGE),
        end("completed", MESSAGE, input),
    ])
}

#[test]
fn the_client_gets_the_last_turn() {
    let played = stream(Api::Responses, REQUEST, &[&calling(), &last(20)]);
    let call = call("a", "bmcp_t", "{\"x\":1}");
    assert_eq!(played.ends, [TurnEnd::Calls(vec![call]), TurnEnd::Final]);
    let expected = last(30).replace("\"output_tokens\":5", "\"output_tokens\":10");
    assert_eq!(played.client, expected);
    assert!(played.requests[1].ends_with(&format!(
        r#""input":[{{"type":"message","role":"user","content":"hi"}},{THOUGHT},{},{{"type":"function_call_output","call_id":"a","output":"result of a"}}]}}"#,
        call_item("a", "bmcp_t", "{\"x\":1}")
    )));
}

#[test]
fn output_that_comes_in_the_last_event_only_counts_too() {
    let item = call_item("a", "bmcp_t", "{}");
    let first = stream_of(&[created("r1"), end("completed", &item, 10)]);
    let played = stream(Api::Responses, REQUEST, &[&first, &last(20)]);
    assert!(matches!(played.ends[0], TurnEnd::Calls(_)));
    assert!(played.requests[1].contains(&item));
    assert!(!played.client.contains("bmcp_t"));
}

#[test]
fn a_turn_that_calls_nothing_arrives_byte_for_byte() {
    let stream_of = ": hello\n\n".to_owned() + &last(20) + ": bye\n\n";
    let played = stream(Api::Responses, REQUEST, &[&stream_of]);
    assert_eq!(played.client, stream_of);
}

#[test]
fn defect_12_a_final_answer_leaves_as_it_comes() {
    let answer = MESSAGE.replace("\"role\"", "\"phase\":\"final_answer\",\"role\"");
    let (mut turns, _) = turns(Api::Responses, REQUEST);
    let events = [
        created("r"),
        added_item(0, &answer),
        delta(0, "a"),
        delta(0, "b"),
    ];
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(stream_of(&events).into());
    let mut passed = Vec::new();
    while let Step::Item(item) = decoder.next() {
        passed.push(turns.item(&item));
    }
    let start = Passed::Replace(stream_of(&events[..2]).into());
    assert_eq!(
        passed,
        [Passed::Withhold, start, Passed::Relay, Passed::Relay]
    );
}

#[test]
fn a_mixed_turn_leaves_the_client_its_own_calls() {
    let (injected, own) = (call_item("a", "bmcp_t", "{}"), call_item("c", "own", "{}"));
    let first = stream_of(&[
        created("r1"),
        added_item(0, &injected),
        done(0, &injected),
        added_item(1, &own),
        delta(1, "x"),
        done(1, &own),
        end("completed", &format!("{injected}, {own}"), 10),
    ]);
    let played = stream(Api::Responses, REQUEST, &[&first]);
    let (calls, why) = (vec![call("a", "bmcp_t", "{}")], Refusal::Mixed);
    assert_eq!(played.ends, [TurnEnd::Refused { calls, why }]);
    let expected = stream_of(&[
        created("r1"),
        added_item(0, &own),
        delta(0, "x"),
        done(0, &own),
        end("completed", &format!(" {own}"), 10),
    ]);
    assert_eq!(played.client, expected);
}

#[test]
fn a_truncated_call_is_not_run() {
    let item = call_item("a", "bmcp_t", "{\"x\"");
    for (kind, why) in [
        ("incomplete", Refusal::Truncated),
        ("failed", Refusal::Truncated),
        ("completed", Refusal::Malformed),
    ] {
        let first = stream_of(&[
            created("r1"),
            added_item(0, &item),
            done(0, &item),
            end(kind, &item, 1),
        ]);
        let played = stream(Api::Responses, REQUEST, &[&first]);
        let calls = vec![call("a", "bmcp_t", "{\"x\"")];
        assert_eq!(played.ends, [TurnEnd::Refused { calls, why }], "{kind}");
        assert_eq!(played.client, stream_of(&[created("r1"), end(kind, "", 1)]));
    }
}

#[test]
fn a_malformed_call_beside_a_sound_one_is_answered_and_stands_as_received() {
    let (sound, malformed) = (
        call_item("a", "bmcp_t", "{\"x\":1}"),
        call_item("b", "bmcp_t", "{\"x\""),
    );
    let both = format!("{sound},{malformed}");
    let first = stream_of(&[
        created("r1"),
        added_item(0, &sound),
        done(0, &sound),
        added_item(1, &malformed),
        done(1, &malformed),
        end("completed", &both, 10),
    ]);
    let second = stream_of(&[
        created("r2"),
        done(0, MESSAGE),
        end("completed", MESSAGE, 1),
    ]);
    let streamed = stream(Api::Responses, REQUEST, &[&first, &second]);
    let body = |output: &str| format!(r#"{{"id":"r","status":"completed","output":[{output}]}}"#);
    let blocking = block(Api::Responses, REQUEST, &[&body(&both), &body(MESSAGE)]);
    for played in [streamed, blocking] {
        let calls = vec![
            call("a", "bmcp_t", "{\"x\":1}"),
            call("b", "bmcp_t", "{\"x\""),
        ];
        assert_eq!(played.ends, [TurnEnd::Calls(calls), TurnEnd::Final]);
        let request = &played.requests[1];
        assert!(request.contains(&both), "{request}");
        assert!(request.contains("result of b"), "{request}");
    }
}

#[test]
fn a_stream_without_its_end_is_let_go_and_runs_nothing() {
    let item = call_item("a", "bmcp_t", "{}");
    let first = stream_of(&[
        created("r1"),
        delta(0, "x"),
        added_item(1, &item),
        done(1, &item),
    ]);
    let played = stream(Api::Responses, REQUEST, &[&first]);
    assert!(matches!(
        played.last(),
        TurnEnd::Refused {
            why: Refusal::Truncated,
            ..
        }
    ));
    assert_eq!(played.client, stream_of(&[created("r1"), delta(0, "x")]));

    let error = r#"{"type":"error","code":"c","message":"m","param":null,"sequence_number":9}"#;
    let first = stream_of(&[created("r1"), error.to_owned()]);
    let played = stream(Api::Responses, REQUEST, &[&first]);
    assert_eq!((&*played.client, played.last()), (&*first, &TurnEnd::Final));
}

#[test]
fn blocking_turns_are_one_response() {
    let request = r#"{"model":"m","input":[{"role":"user","content":"hi"}]}"#;
    let item = call_item("a", "bmcp_t", "{}");
    let body = |output: &str, status: &str, input: u64, output_tokens: u64| {
        format!(
            r#"{{"id":"r","status":"{status}","output":[{output}],"usage":{{"input_tokens":{input},"output_tokens":{output_tokens}}}}}"#
        )
    };
    let first = body(&format!("{THOUGHT},\n {item}"), "completed", 10, 5);
    let played = block(
        Api::Responses,
        request,
        &[&first, &body(MESSAGE, "completed", 20, 7)],
    );
    assert_eq!(played.client, body(MESSAGE, "completed", 30, 12));
    assert_eq!(
        added(&played, 1, "]}"),
        format!(
            r#",{THOUGHT},{item},{{"type":"function_call_output","call_id":"a","output":"result of a"}}"#
        )
    );
    let own = call_item("c", "own", "{}");
    for (output, status, shown, why) in [
        (
            format!("{own},{item}"),
            "completed",
            own.clone(),
            Refusal::Mixed,
        ),
        (
            item.clone(),
            "incomplete",
            String::new(),
            Refusal::Truncated,
        ),
    ] {
        let played = block(Api::Responses, request, &[&body(&output, status, 1, 1)]);
        assert!(matches!(played.last(), TurnEnd::Refused { why: it, .. } if *it == why));
        assert_eq!(played.client, body(&shown, status, 1, 1));
    }
}

/// A provider that stores nothing knows no item by its id alone.
#[test]
fn thoughts_that_nobody_keeps_are_left_out_of_the_next_request() {
    let sealed = THOUGHT;
    let bare = r#"{"type":"reasoning","id":"rs_1","summary":[]}"#;
    let null = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":null}"#;
    let empty = r#"{"type":"reasoning","id":"rs_1","content":[],"encrypted_content":""}"#;
    let open =
        r#"{"type":"reasoning","id":"rs_1","content":[{"type":"reasoning_text","text":"x"}]}"#;
    let item = call_item("a", "bmcp_t", "{}");
    for (store, is_kept) in [
        ("", true),
        (r#""store":true,"#, true),
        (r#""store":null,"#, true),
        (r#""store":false,"#, false),
    ] {
        for (thought, is_whole) in [
            (sealed, true),
            (open, true),
            (bare, false),
            (null, false),
            (empty, false),
        ] {
            let first = stream_of(&[
                created("r1"),
                done(0, thought),
                done(1, MESSAGE),
                done(2, &item),
                end("completed", &format!("{thought},{MESSAGE},{item}"), 10),
            ]);
            let request = REQUEST.replacen('{', &format!("{{{store}"), 1);
            let streamed = stream(Api::Responses, &request, &[&first, &last(20)]);
            let body =
                |output: &str| format!(r#"{{"id":"r","status":"completed","output":[{output}]}}"#);
            let first = body(&format!("{thought},\n {MESSAGE},{item}"));
            let blocking = block(Api::Responses, &request, &[&first, &body(MESSAGE)]);
            for played in [streamed, blocking] {
                let history = if is_kept || is_whole {
                    format!("{thought},{MESSAGE},{item}")
                } else {
                    format!("{MESSAGE},{item}")
                };
                let expected = format!(
                    r#","content":"hi"}},{history},{{"type":"function_call_output","call_id":"a""#
                );
                let sent = &played.requests[1];
                assert!(sent.contains(&expected), "{sent}");
            }
        }
    }
}
