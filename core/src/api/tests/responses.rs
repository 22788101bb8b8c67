use super::*;

const API: Api = Api::Responses;

fn inspected(members: &str) -> Inspected {
    inspect(API, format!(r#"{{"model":"m",{members}}}"#).as_bytes()).unwrap()
}

#[test]
fn the_prompt_is_the_input_string_or_the_last_user_items_text() {
    for (input, prompt) in [
        (r#""hi\tthere""#, Some("hi\tthere")),
        (r#"[{"role":"user","content":"plain"}]"#, Some("plain")),
        (
            r#"[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},
                {"type":"input_image","image_url":"u"},{"text":"b","type":"input_text"}]},
                {"type":"reasoning","summary":[]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"c"}]}]"#,
            Some("a\nb"),
        ),
        (
            r#"[{"role":"user","content":"one"},{"role":"developer","content":"two"},
                {"content":[{"type":"input_text","text":"three"}],"role":"user"}]"#,
            Some("three"),
        ),
        (
            r#"[{"role":"user","content":"one"},{"role":"user","content":[{"type":"input_image"}]}]"#,
            None,
        ),
        ("[]", None),
        ("null", None),
    ] {
        let found = inspected(&format!("\"input\":{input}"));
        assert_eq!(found.prompt.as_deref(), prompt, "{input}");
    }
}

#[test]
fn the_last_tool_result_is_found() {
    for (input, id) in [
        (
            r#"[{"type":"function_call_output","call_id":"c1","output":"x"},{"call_id":"c2","type":"custom_tool_call_output"}]"#,
            Some("c2"),
        ),
        (
            r#"[{"type":"function_call_output","call_id":"c1"},{"role":"user","content":"go on"}]"#,
            Some("c1"),
        ),
        (r#"[{"type":"function_call","call_id":"c1"}]"#, None),
    ] {
        let found = inspected(&format!("\"input\":{input}"));
        assert_eq!(found.tool_result.as_deref(), id, "{input}");
    }
}

#[test]
fn background_requests_are_recognised() {
    for (value, background) in [
        ("true", true),
        ("false", false),
        ("null", false),
        ("\"true\"", false),
    ] {
        assert_eq!(
            inspected(&format!("\"background\":{value}")).background,
            background
        );
    }
    assert!(!inspected("\"input\":\"i\"").background);
}

#[test]
fn nothing_is_withheld_and_nothing_is_changed() {
    let body = Bytes::from_static(br#"{"model":"m","stream":true,"input":"i"}"#);
    let found = inspect(API, &body).unwrap();
    assert_eq!(prepare(body.clone(), &found).as_ptr(), body.as_ptr());
    assert!(!Stream::new(API, &found).may_withhold());
}

const CREATED: &str = r#"{"type":"response.created","response":{"object":"response","id":"resp_1","status":"in_progress","output":[],"usage":null,"error":null},"sequence_number":0}"#;
const TEXT: &str = r#"{"type":"response.output_text.delta","content_index":0,"delta":"\"sequence_number\":99","item_id":"msg_1","logprobs":[{"sequence_number":98}],"output_index":0,"sequence_number":4}"#;
const CALL: &str = r#"{"type":"response.output_item.done","item":{"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"a\":1}","call_id":"call_1","name":"f"},"output_index":0,"sequence_number":5}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","status":"completed","error":null,"output":[{"type":"function_call","arguments":"{\"a\":1}","call_id":"call_1","name":"f"}],"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":60},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":8},"total_tokens":120}},"sequence_number":6}"#;

fn completed_usage() -> Usage {
    let extras = [
        ("output_tokens_details.reasoning_tokens", 8),
        ("total_tokens", 120),
    ];
    with_extras(usage(40, 20, 60, 0), &extras)
}

#[test]
fn a_stream_tells_its_calls_usage_status_and_place() {
    let told = told_of(API, &[CREATED, TEXT, CALL, COMPLETED]);
    let expected = Told {
        id: Some("resp_1".into()),
        usage: Some(completed_usage()),
        tool_calls: vec![call("call_1", "f", r#"{"a":1}"#)],
        stop: Some("completed".into()),
        complete: true,
        sequence_number: Some(6),
        ..Told::default()
    };
    assert_eq!(told, expected);
}

#[test]
fn a_stream_that_breaks_off_has_its_last_place_and_is_not_complete() {
    let told = told_of(API, &[CREATED, TEXT]);
    assert_eq!(told.id.as_deref(), Some("resp_1"));
    assert_eq!(
        (told.sequence_number, told.complete, told.usage),
        (Some(4), false, None)
    );
    let later = told_of(API, &[CREATED, TEXT, r#"{"type":"response.new_thing"}"#]);
    assert_eq!(later.sequence_number, Some(4));
}

#[test]
fn calls_are_taken_from_the_last_event_where_no_item_came_before() {
    let told = told_of(API, &[CREATED, COMPLETED]);
    assert_eq!(told.tool_calls, [call("call_1", "f", r#"{"a":1}"#)]);
}

#[test]
fn thoughts_are_summaries_open_reasoning_and_commentary() {
    let told = told_of(
        API,
        &[
            r#"{"type":"response.output_item.done","item":{"type":"reasoning","summary":[{"type":"summary_text","text":"one"},{"type":"summary_text","text":"two"}],"content":[{"type":"reasoning_text","text":"three"}],"encrypted_content":"x"}}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"four"}],"phase":"commentary"}}"#,
            r#"{"type":"response.output_item.done","item":{"type":"message","phase":"final_answer","content":[{"type":"output_text","text":"answer"}]}}"#,
            r#"{"type":"response.output_item.done","item":{"type":"custom_tool_call","call_id":"c","name":"apply_patch","input":"*** Begin"}}"#,
            r#"{"type":"response.output_item.done","item":{"type":"web_search_call","id":"ws"}}"#,
        ],
    );
    let thoughts = [
        thought("reasoning_summary", "one"),
        thought("reasoning_summary", "two"),
        thought("thinking", "three"),
        thought("commentary", "four"),
    ];
    assert_eq!(told.thoughts, thoughts);
    assert_eq!(told.tool_calls, [call("c", "apply_patch", "*** Begin")]);
}

#[test]
fn terminal_events_complete_the_stream_and_errors_are_told() {
    for (event, stop, error) in [
        (
            r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}}"#,
            Some("incomplete"),
            None,
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"It broke"}}}"#,
            Some("failed"),
            Some("It broke"),
        ),
        (
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}"#,
            Some("failed"),
            Some("server_error"),
        ),
        (
            r#"{"type":"error","code":"rate_limit_exceeded","message":"Slow down","param":null,"sequence_number":3}"#,
            None,
            Some("Slow down"),
        ),
        (
            r#"{"type":"error","error":{"type":"tokens","code":"x","message":"Nested"},"sequence_number":3}"#,
            None,
            Some("Nested"),
        ),
        (
            r#"{"type":"error","code":"only_code"}"#,
            None,
            Some("only_code"),
        ),
    ] {
        let told = told_of(API, &[CREATED, event]);
        assert!(told.complete, "{event}");
        assert_eq!(
            (told.stop.as_deref(), told.error.as_deref()),
            (stop, error),
            "{event}"
        );
    }
}

#[test]
fn malformed_events_are_relayed_and_not_understood() {
    let (told, passes) = follow(
        API,
        r#"{"model":"m"}"#,
        "event: response.completed\ndata: {\"response\":{\"id\":\"x\"}\n\n\
         event: error\ndata: no\n\ndata: 7\n\ndata: {\"type\":[],\"sequence_number\":1.5}\n\n",
    );
    assert_eq!(told, Told::default());
    assert!(passes.iter().all(|pass| *pass == Pass::Relay));
}

#[test]
fn a_whole_reply_tells_the_same_as_a_stream() {
    let event: serde_json::Value = serde_json::from_str(COMPLETED).unwrap();
    let told = read_body(API, event["response"].to_string().as_bytes());
    let streamed = Told {
        sequence_number: None,
        ..told_of(API, &[CREATED, CALL, COMPLETED])
    };
    assert_eq!(told, streamed);
}

#[test]
fn a_deltas_place_is_found_wherever_it_stands() {
    for (event, place) in [
        (
            r#"{"type":"response.output_text.delta","delta":"a","sequence_number":7}"#,
            7,
        ),
        (
            r#"{"type":"response.output_text.delta","delta":"a" , "sequence_number" : 8 } "#,
            8,
        ),
        (
            r#"{"sequence_number":9,"type":"response.output_text.delta","delta":"a"}"#,
            9,
        ),
        (
            r#"{"sequence_number":10,"type":"response.output_text.delta","delta":",\"sequence_number\":1}"}"#,
            10,
        ),
        (
            r#"{"sequence_number":11,"type":"response.output_text.delta","x,\"sequence_number":1}"#,
            11,
        ),
        (
            r#"{"sequence_number":12,"type":"response.output_text.delta","logprobs":[{"sequence_number":1}]}"#,
            12,
        ),
        (
            r#"{"sequence_number":13,"type":"response.output_text.delta","x":{"sequence_number":1}}"#,
            13,
        ),
        (
            r#"{"type":"response.output_text.delta","sequence_number":99999999999999999999}"#,
            0,
        ),
        (
            r#"{"type":"response.output_text.delta","sequence_number":-1}"#,
            0,
        ),
    ] {
        let told = told_of(API, &[CREATED, event]);
        assert_eq!(told.sequence_number, Some(place), "{event}");
    }
}
