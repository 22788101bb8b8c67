use super::*;

const API: Api = Api::Messages;

fn inspected(members: &str) -> Inspected {
    inspect(API, format!(r#"{{"model":"m",{members}}}"#).as_bytes()).unwrap()
}

#[test]
fn the_prompt_is_the_last_text_of_the_last_user_message() {
    for (messages, prompt) in [
        (r#"[{"role":"user","content":"hi"}]"#, Some("hi")),
        (r#"[{"content":"a\nb","role":"user"}]"#, Some("a\nb")),
        (
            r#"[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]"#,
            Some("one"),
        ),
        (
            r#"[{"role":"user","content":[{"type":"text","text":"<system-reminder>x</system-reminder>"},
                {"type":"text","text":"the prompt","cache_control":{"type":"ephemeral"}}]},
                {"role":"system","content":"behind it"}]"#,
            Some("the prompt"),
        ),
        (
            r#"[{"role":"user","content":[{"text":"type behind text","type":"text"},
                {"type":"image","source":{"type":"base64","text":"no"}}]}]"#,
            Some("type behind text"),
        ),
        (
            r#"[{"role":"user","content":"old"},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"no"}]}]}]"#,
            None,
        ),
        (
            r#"[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"no"},
                {"type":"text","text":"and now"}]}]"#,
            Some("and now"),
        ),
        (r#"[{"role":"user","content":"x","content":[]}]"#, None),
        ("[]", None),
        ("\"odd\"", None),
    ] {
        let found = inspected(&format!("\"messages\":{messages}"));
        assert_eq!(found.prompt.as_deref(), prompt, "{messages}");
    }
}

#[test]
fn of_two_messages_members_the_last_one_counts() {
    let found = inspected(
        r#""messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"tool_result","tool_use_id":"t"}]}],
           "messages":[{"role":"assistant","content":"b"}]"#,
    );
    assert_eq!((found.prompt, found.tool_result), (None, None));
}

#[test]
fn the_last_tool_result_is_found() {
    let found = inspected(
        r#""messages":[
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1"},{"tool_use_id":"t2","type":"tool_result"}]},
            {"role":"assistant","content":[{"type":"tool_use","id":"t3"}]},
            {"role":"user","content":"thanks"}]"#,
    );
    assert_eq!(found.tool_result.as_deref(), Some("t2"));
    assert_eq!(found.prompt.as_deref(), Some("thanks"));
}

#[test]
fn the_session_is_in_the_user_id() {
    for (user_id, session) in [
        (
            r#""{\"device_id\":\"d\",\"session_id\":\"s-1\"}""#,
            Some("s-1"),
        ),
        (r#""{\"device_id\":\"a_session_b\"}""#, None),
        (r#""{\"session_id\":7}""#, None),
        (r#""user_abc_account__session_s-2""#, Some("s-2")),
        (r#""user_abc_session_""#, None),
        (r#""{broken_session_s-3""#, Some("s-3")),
        (r#""alice""#, None),
        ("7", None),
        ("null", None),
    ] {
        let found = inspected(&format!(r#""metadata":{{"user_id":{user_id}}}"#));
        assert_eq!(found.session.as_deref(), session, "{user_id}");
    }
}

#[test]
fn nothing_is_withheld_and_nothing_is_changed() {
    let body = Bytes::from_static(br#"{"model":"m","stream":true,"stream_options":null}"#);
    let found = inspect(API, &body).unwrap();
    assert_eq!(prepare(body.clone(), &found).as_ptr(), body.as_ptr());
    assert!(!Stream::new(API, &found).may_withhold());
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","content":[],"stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}"#;
const END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":20,"server_tool_use":{"web_search_requests":2}}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

/// Defect 11: the figures of `message_delta` replace those of `message_start`.
#[test]
fn defect_11_output_tokens_are_not_counted_twice() {
    let told = told_of(API, &[START, r#"{"type":"ping"}"#, END, STOP]);
    let extras = [
        ("cache_creation.ephemeral_1h_input_tokens", 0),
        ("cache_creation.ephemeral_5m_input_tokens", 3),
        ("server_tool_use.web_search_requests", 2),
    ];
    assert_eq!(told.usage, Some(with_extras(usage(10, 20, 4, 3), &extras)));
    assert_eq!(told.stop.as_deref(), Some("end_turn"));
    assert_eq!(told.id.as_deref(), Some("msg_1"));
    assert!(told.complete);
}

#[test]
fn later_figures_replace_earlier_ones_one_by_one() {
    let later = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":12,"cache_read_input_tokens":null,"output_tokens":5}}"#;
    let told = told_of(API, &[START, later, END]);
    let figures = told.usage.map(|usage| {
        (
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write,
        )
    });
    assert_eq!(figures, Some((12, 20, 4, 3)));
    assert!(!told.complete);
}

#[test]
fn tool_calls_and_thoughts_are_collected_from_their_deltas() {
    let told = told_of(
        API,
        &[
            START,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Let me \u00e4"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" see."}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"partial_json"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"content_block":{"input":{},"name":"f","id":"toolu_1","type":"tool_use"},"index":2,"type":"content_block_start"}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{ "delta" : { "partial_json" : "{\"a\"" , "type":"input_json_delta"}, "index" : 2 , "type" : "content_block_delta" }"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":":1}"}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"g","input":{}}}"#,
            r#"{"type":"content_block_stop","index":3}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_3","name":"h","input":{"whole": true}}}"#,
            r#"{"type":"content_block_stop","index":4}"#,
            r#"{"type":"content_block_start","index":5,"content_block":{"type":"server_tool_use","id":"srv","name":"web_search","input":{}}}"#,
            r#"{"type":"content_block_delta","index":5,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#"{"type":"content_block_stop","index":5}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
            STOP,
        ],
    );
    let calls = [
        call("toolu_1", "f", r#"{"a":1}"#),
        call("toolu_2", "g", "{}"),
        call("toolu_3", "h", r#"{"whole": true}"#),
    ];
    assert_eq!(told.tool_calls, calls);
    assert_eq!(told.thoughts, [thought("thinking", "Let me ä see.")]);
    assert_eq!(told.stop.as_deref(), Some("tool_use"));
}

#[test]
fn blocks_may_be_open_side_by_side() {
    let told = told_of(
        API,
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"f","input":{}}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"g","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"partial_json":"[0]"}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"partial_json":"[1]"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"partial_json":"late"}}"#,
        ],
    );
    assert_eq!(
        told.tool_calls,
        [call("a", "f", "[0]"), call("b", "g", "[1]")]
    );
}

#[test]
fn thoughts_that_a_model_hides_are_none() {
    let told = told_of(
        API,
        &[
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2ln"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
        ],
    );
    assert_eq!(told.thoughts, []);
}

#[test]
fn an_error_in_the_stream_ends_it_and_is_told() {
    for (event, error) in [
        (
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#,
            "Overloaded",
        ),
        (
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            "overloaded_error",
        ),
        (r#"{"type":"error","error":"plain"}"#, "plain"),
        (r#"{"type":"error"}"#, "unspecified error"),
    ] {
        let told = told_of(API, &[START, event]);
        assert_eq!(told.error.as_deref(), Some(error));
        assert!(told.complete);
        assert_eq!(told.usage.map(|usage| usage.output), Some(1));
    }
}

#[test]
fn malformed_events_are_relayed_and_not_understood() {
    let (told, passes) = follow(
        API,
        r#"{"model":"m"}"#,
        "event: message_start\ndata: {\"message\":{\"id\":\"x\"}\n\n\
         event: error\ndata: not json\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"} trailing\n\n\
         event: \ndata: []\n\ndata: \n\ndata: \u{fffd}\n\n\
         event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":-1}\n\n",
    );
    assert_eq!(told, Told::default());
    assert!(passes.iter().all(|pass| *pass == Pass::Relay));
}

#[test]
fn a_whole_reply_tells_the_same_as_a_stream() {
    let told = read_body(
        API,
        br#"{"id":"msg_1","type":"message","role":"assistant","content":[
            {"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"t"},
            {"type":"tool_use","id":"toolu_1","name":"f","input":{ "a" : [1, 2.50] }}],
            "stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":6,"cache_read_input_tokens":7}}"#,
    );
    let expected = Told {
        id: Some("msg_1".into()),
        usage: Some(usage(5, 6, 7, 0)),
        tool_calls: vec![call("toolu_1", "f", r#"{ "a" : [1, 2.50] }"#)],
        thoughts: vec![thought("thinking", "hm")],
        stop: Some("tool_use".into()),
        complete: true,
        ..Told::default()
    };
    assert_eq!(told, expected);
}
