use super::*;

const API: Api = Api::ChatCompletions;
const STREAMING: &str = r#"{"model":"m","stream":true}"#;

fn inspected(members: &str) -> Inspected {
    inspect(API, format!(r#"{{"model":"m",{members}}}"#).as_bytes()).unwrap()
}

#[test]
fn the_prompt_is_the_last_user_messages_text() {
    for (messages, prompt) in [
        (r#"[{"role":"user","content":"hi"}]"#, Some("hi")),
        (
            r#"[{"content":"a\u0041","role":"user"},{"role":"assistant","content":"b"}]"#,
            Some("aA"),
        ),
        (
            r#"[{"role":"user","content":[{"type":"text","text":"one"},{"text":"two","type":"text"},{"type":"image_url"}]}]"#,
            Some("two"),
        ),
        (
            r#"[{"role":"user","content":"one"},{"role":"tool","tool_call_id":"t","content":"two"}]"#,
            Some("one"),
        ),
        (
            r#"[{"role":"user","content":"one"},{"role":"user","content":[{"type":"input_audio"}]}]"#,
            None,
        ),
        ("[]", None),
    ] {
        let found = inspected(&format!("\"messages\":{messages}"));
        assert_eq!(found.prompt.as_deref(), prompt, "{messages}");
    }
}

#[test]
fn the_last_tool_result_is_found() {
    let found = inspected(
        r#""messages":[{"role":"tool","tool_call_id":"a"},{"tool_call_id":"b","content":"","role":"tool"},
            {"role":"user","tool_call_id":"no","content":"x"},{"role":"tool"}]"#,
    );
    assert_eq!(found.tool_result.as_deref(), Some("b"));
}

#[test]
fn usage_is_asked_for_and_every_other_byte_kept() {
    for (sent, upstream) in [
        (
            r#"{"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{ "model":"m","stream":true, "n":1.0}"#,
            r#"{"stream_options":{"include_usage":true}, "model":"m","stream":true, "n":1.0}"#,
        ),
        (
            r#"{"stream":true,"stream_options":null,"model":"m"}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"model":"m"}"#,
        ),
        (
            r#"{"stream":true,"stream_options": {} ,"model":"m"}"#,
            r#"{"stream":true,"stream_options": {"include_usage":true} ,"model":"m"}"#,
        ),
        (
            r#"{"stream_options":{ "include_obfuscation" : false },"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true, "include_obfuscation" : false },"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage" : false, "x":[1, 2]},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage" : true, "x":[1, 2]},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":null},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"stream_options":{"include_usage":false},"model":"m","stream":true}"#,
            r#"{"stream_options":{"include_usage":true},"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
    ] {
        let found = inspect(API, sent.as_bytes()).unwrap();
        assert!(!found.usage_wanted, "{sent}");
        let prepared = prepare(Bytes::from(sent), &found);
        assert_eq!(prepared, upstream);
        assert!(inspect(API, &prepared).unwrap().usage_wanted, "{sent}");
        assert!(Stream::new(API, &found).may_withhold());
    }
}

#[test]
fn nothing_is_asked_for_where_it_is_not_ours_to_ask() {
    for (sent, usage_wanted) in [
        (r#"{"model":"m"}"#, false),
        (
            r#"{"model":"m","stream":false,"stream_options":{"include_usage":false}}"#,
            false,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            true,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false,"include_usage":true}}"#,
            true,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":"odd"}}"#,
            false,
        ),
        (r#"{"model":"m","stream":true,"stream_options":7}"#, false),
    ] {
        let found = inspect(API, sent.as_bytes()).unwrap();
        assert_eq!(found.usage_wanted, usage_wanted, "{sent}");
        let sent = Bytes::from(sent);
        assert_eq!(prepare(sent.clone(), &found).as_ptr(), sent.as_ptr());
        assert!(!Stream::new(API, &found).may_withhold());
    }
}

const TEXT: &str = r#"{"id":"c-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xyz"}"#;
const FINISH: &str =
    r#"{"id":"c-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#;
const USAGE: &str = r#"{"id":"c-1","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":7,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":10,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":5}}}"#;

fn usage_told() -> Usage {
    let extras = [
        ("completion_tokens_details.reasoning_tokens", 5),
        ("prompt_tokens_details.audio_tokens", 0),
        ("total_tokens", 37),
    ];
    with_extras(usage(20, 7, 10, 0), &extras)
}

fn framed(data: &[&str]) -> String {
    format!("data: {}\n\n", data.join("\n\ndata: "))
}

#[test]
fn the_usage_chunk_is_recorded_and_withheld_only_where_it_was_not_asked_for() {
    let stream = framed(&[TEXT, FINISH, USAGE, "[DONE]"]);
    let (told, passes) = follow(API, STREAMING, &stream);
    assert_eq!(told.usage, Some(usage_told()));
    assert_eq!(told.stop.as_deref(), Some("stop"));
    assert_eq!(told.id.as_deref(), Some("c-1"));
    assert!(told.complete);
    assert_eq!(
        passes,
        [Pass::Relay, Pass::Relay, Pass::Withhold, Pass::Relay]
    );

    let wanted = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let (told, passes) = follow(API, wanted, &stream);
    assert_eq!(told.usage, Some(usage_told()));
    assert_eq!(passes, [Pass::Relay; 4]);
}

#[test]
fn only_a_chunk_of_usage_alone_is_withheld() {
    let (_, passes) = follow(
        API,
        STREAMING,
        &framed(&[
            r#"{"choices":[],"prompt_filter_results":[]}"#,
            r#"{"choices":[],"usage":null}"#,
            r#"{"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":null,"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"index":0,"delta":{"content":""}}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1},"error":{"message":"no"}}"#,
            r#" { "usage" : { } , "choices" : [ ] } "#,
        ]),
    );
    let mut expected = [Pass::Relay; 7];
    expected[6] = Pass::Withhold;
    assert_eq!(passes, expected);
}

/// Defect 10: a server that repeats usage on every chunk reports a running total.
#[test]
fn defect_10_repeated_usage_is_not_summed() {
    let chunk = |completion: u64| {
        format!(
            r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":"a"}}}}],"usage":{{"prompt_tokens":9,"completion_tokens":{completion}}}}}"#
        )
    };
    let chunks: Vec<String> = (1..=100).map(chunk).collect();
    let data: Vec<&str> = chunks.iter().map(String::as_str).collect();
    assert_eq!(told_of(API, &data).usage, Some(usage(9, 100, 0, 0)));
}

/// Defect 13: comments are no events, and nothing is made of them.
#[test]
fn defect_13_comment_only_streams_are_not_broken_json() {
    let stream = ": OPENROUTER PROCESSING\n\n".repeat(3);
    let (told, passes) = follow(API, STREAMING, &stream);
    assert_eq!((told, passes), (Told::default(), vec![]));

    let (told, _) = follow(API, STREAMING, &(stream + &framed(&[TEXT, "[DONE]"])));
    assert!(told.complete && told.error.is_none());
}

#[test]
fn cached_tokens_beyond_the_prompt_do_not_underflow() {
    let told = told_of(
        API,
        &[
            r#"{"choices":[],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":5}}}"#,
        ],
    );
    assert_eq!(told.usage, Some(usage(0, 0, 5, 0)));
}

#[test]
fn tool_calls_are_put_together_from_their_deltas() {
    let chunk = |calls: &str| {
        format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{{"tool_calls":{calls}}}}}]}}"#)
    };
    for (deltas, calls) in [
        (
            // By the book, with indexes that start above 0 and calls that take turns.
            &[
                r#"[{"index":1,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
                r#"[{"index":2,"id":"b","type":"function","function":{"arguments":"[","name":"g"}}]"#,
                r#"[{"index":1,"function":{"arguments":"{}"}},{"index":2,"function":{"arguments":"]"}}]"#,
            ][..],
            &[call("a", "f", "{}"), call("b", "g", "[]")][..],
        ),
        (
            // Without indexes.
            &[
                r#"[{"id":"a","function":{"name":"f","arguments":"1"}}]"#,
                r#"[{"function":{"arguments":"2"}}]"#,
                r#"[{"id":"b","function":{"name":"g","arguments":"3"}}]"#,
            ],
            &[call("a", "f", "12"), call("b", "g", "3")],
        ),
        (
            // All under one index.
            &[
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}},{"index":0,"id":"b","function":{"name":"f","arguments":"2"}}]"#,
            ],
            &[call("a", "f", "1"), call("b", "f", "2")],
        ),
        (
            // The id repeated, or made up anew for every delta; the name repeated.
            &[
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}]"#,
                r#"[{"index":0,"id":"a","function":{"name":"f","arguments":"2"}}]"#,
                r#"[{"index":0,"id":"z","function":{"arguments":"3"}}]"#,
            ],
            &[call("a", "f", "123")],
        ),
        (
            // The name after the id.
            &[
                r#"[{"index":0,"id":"a"}]"#,
                r#"[{"index":0,"function":{"name":"f","arguments":"x"}}]"#,
            ],
            &[call("a", "f", "x")],
        ),
        (
            // A custom tool.
            &[
                r#"[{"index":0,"id":"a","type":"custom","custom":{"name":"f","input":"free"}}]"#,
                r#"[{"index":0,"custom":{"input":" text"}}]"#,
            ],
            &[call("a", "f", "free text")],
        ),
    ] {
        let chunks: Vec<String> = deltas.iter().map(|calls| chunk(calls)).collect();
        let data: Vec<&str> = chunks.iter().map(String::as_str).collect();
        assert_eq!(told_of(API, &data).tool_calls, calls, "{deltas:?}");
    }
}

#[test]
fn choices_have_calls_of_their_own() {
    let told = told_of(
        API,
        &[
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"1"}}]},"index":0}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"f","arguments":"2"}}]},"index":1}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"3"}}]},"index":0}]}"#,
        ],
    );
    assert_eq!(told.tool_calls, [call("a", "f", "13"), call("b", "f", "2")]);
}

#[test]
fn the_older_function_call_is_a_tool_call() {
    let told = told_of(
        API,
        &[
            r#"{"choices":[{"index":0,"delta":{"function_call":{"name":"f","arguments":""}}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"function_call":{"arguments":"{}"}}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"function_call":null},"finish_reason":"function_call"}]}"#,
        ],
    );
    assert_eq!(told.tool_calls, [call("", "f", "{}")]);
    assert_eq!(told.stop.as_deref(), Some("function_call"));
}

#[test]
fn reasoning_is_a_thought_until_something_else_is_said() {
    let chunk =
        |delta: &str| format!(r#"{{"id":"c","choices":[{{"index":0,"delta":{{{delta}}}}}]}}"#);
    let chunks = [
        chunk(r#""content":"warm-up""#),
        chunk(r#""reasoning_content":"a","content":null"#),
        chunk(r#""reasoning":"b","reasoning_content":"b","content":"""#),
        chunk(r#""reasoning":"c","reasoning_content":null"#),
        chunk(r#""content":"answer""#),
        chunk(r#""content":"answer""#),
        chunk(r#""reasoning":"d","reasoning_details":[{"text":"d"}]"#),
    ];
    let data: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let thoughts = [thought("thinking", "abc"), thought("thinking", "d")];
    assert_eq!(told_of(API, &data).thoughts, thoughts);
}

#[test]
fn an_error_in_the_stream_is_told() {
    for (chunk, error) in [
        (
            r#"{"error":{"message":"Overloaded","type":"server_error","code":502}}"#,
            "Overloaded",
        ),
        (r#"{"error":{"type":"server_error"}}"#, "server_error"),
        (r#"{"error":"plain"}"#, "plain"),
        (
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"message":"Gone"}}"#,
            "Gone",
        ),
    ] {
        let told = told_of(API, &[TEXT, chunk]);
        assert_eq!(told.error.as_deref(), Some(error));
        assert!(told.complete);
    }
    assert_eq!(
        told_of(API, &[TEXT, r#"{"choices":[],"error":null}"#]).error,
        None
    );
}

/// A chunk like the one before is told by its shape; one that only looks like it is not.
#[test]
fn chunks_that_resemble_the_usual_one_are_read() {
    let with =
        |content: &str, padding: &str| TEXT.replace("\"a\"", content).replace("\"xyz\"", padding);
    for (chunk, check) in [
        (TEXT.replace("null}],", "\"length\"}],"), "finish"),
        (
            TEXT.replace("\"usage\":null", "\"usage\":{\"prompt_tokens\":3}"),
            "usage",
        ),
        (
            with(r#""b","reasoning_content":"deep""#, "\"x\""),
            "thought",
        ),
        (
            with(r#""\\\"b\\","reasoning_content":"deep""#, "\"x\""),
            "thought",
        ),
        (with("\"b\"", r#""p","error":"bad""#), "error"),
        (with("\"b\"", r#""p\\","error":"bad""#), "error"),
    ] {
        let told = told_of(API, &[TEXT, &with("\"\\\"\"", "\"\""), TEXT, &chunk, TEXT]);
        let found = match check {
            "finish" => told.stop.as_deref() == Some("length"),
            "usage" => told.usage == Some(usage(3, 0, 0, 0)),
            "thought" => told.thoughts == [thought("thinking", "deep")],
            _ => told.error.as_deref() == Some("bad"),
        };
        assert!(found, "{chunk}: {told:?}");
    }
}

#[test]
fn malformed_chunks_are_relayed_and_not_understood() {
    let (told, passes) = follow(
        API,
        STREAMING,
        &framed(&[
            r#"{"id":"x","choices":[],"usage":{"prompt_tokens":1}"#,
            r#"{"id":"x","error":"e"} x"#,
            "[DONE",
            "[]",
            "\"[DONE]\"",
            r#"{"choices":[7,{"delta":8},{"delta":{"tool_calls":[9,{"function":10}],"content":[]}}],"id":11}"#,
        ]),
    );
    let expected = Told {
        tool_calls: vec![ToolCall::default()],
        ..Told::default()
    };
    assert_eq!(told, expected);
    assert_eq!(passes, [Pass::Relay; 6]);
}

#[test]
fn a_whole_reply_tells_the_same_as_a_stream() {
    let told = read_body(
        API,
        br#"{"id":"c-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x",
            "reasoning_content":"hm","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},
            {"id":"","type":"function","function":{"name":"g","arguments":"[]"}}]},"finish_reason":"tool_calls"}],
            "usage":{"prompt_tokens":30,"completion_tokens":7,"total_tokens":37,"prompt_tokens_details":{"cached_tokens":10}}}"#,
    );
    let expected = Told {
        id: Some("c-1".into()),
        usage: Some(with_extras(usage(20, 7, 10, 0), &[("total_tokens", 37)])),
        tool_calls: vec![call("a", "f", "{}"), call("", "g", "[]")],
        thoughts: vec![thought("thinking", "hm")],
        stop: Some("tool_calls".into()),
        complete: true,
        ..Told::default()
    };
    assert_eq!(told, expected);
}
