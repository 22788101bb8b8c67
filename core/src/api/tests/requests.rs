//! What is the same in all three requests.

use super::*;

#[test]
fn model_and_stream_are_read_wherever_they_stand() {
    for api in APIS {
        for (body, model, stream) in [
            (r#"{"model":"m"}"#, "m", false),
            (r#"{"model":"m","stream":null}"#, "m", false),
            (r#"{"model":"m","stream":false}"#, "m", false),
            (r#"{ "stream" : true , "model" : "m" } "#, "m", true),
            (
                r#"{"messages":[{"role":"user","content":"\"model\":\"no\""}],"input":"i","model":"m"}"#,
                "m",
                false,
            ),
            (
                r#"{"tools":[{"model":"inner","stream":7}],"model":"m"}"#,
                "m",
                false,
            ),
            (r#"{"mo\u0064el":"\u0041\ud83d\ude00"}"#, "A😀", false),
            (
                r#"{"model":"first","stream":1,"model":"last","stream":true}"#,
                "last",
                true,
            ),
        ] {
            let inspected = inspect(api, body.as_bytes()).unwrap();
            assert_eq!(
                (&*inspected.model, inspected.stream),
                (model, stream),
                "{body}"
            );
        }
    }
}

/// Defect 17: a client's malformed JSON is its own fault, and it is told which.
#[test]
fn defect_17_malformed_bodies_are_refused_with_a_reason() {
    for api in APIS {
        for (body, reason) in [
            (r#"{"model":"m""#, "request body is not valid JSON: "),
            (r#"{"model":"m"} x"#, "request body is not valid JSON: "),
            (r#"{"model":"m"}{"#, "request body is not valid JSON: "),
            (
                r#"{"model":"m","max_tokens":}"#,
                "request body is not valid JSON: ",
            ),
            (
                r#"{"model":"m","a":01}"#,
                "request body is not valid JSON: ",
            ),
            (r#"{"model":"m",}"#, "request body is not valid JSON: "),
            (
                r#"{"model":"m","messages":[{"content":"\x"}]}"#,
                "request body is not valid JSON: ",
            ),
            ("", "request body is not valid JSON: "),
            ("[1,", "request body is not valid JSON: "),
            ("[]", "request body must be a JSON object"),
            ("null", "request body must be a JSON object"),
            (r#""model""#, "request body must be a JSON object"),
            ("{}", "`model` must be a non-empty string"),
            (r#"{"model":""}"#, "`model` must be a non-empty string"),
            (r#"{"model":7}"#, "`model` must be a non-empty string"),
            (
                r#"{"model":"m","model":null}"#,
                "`model` must be a non-empty string",
            ),
            (
                r#"{"model":"m","stream":"true"}"#,
                "`stream` must be a boolean",
            ),
            (r#"{"model":"m","stream":1}"#, "`stream` must be a boolean"),
            (
                r#"{"model":"m","stream":true,"stream":{}}"#,
                "`stream` must be a boolean",
            ),
        ] {
            let error = inspect(api, body.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{body}: {error}");
            assert_eq!(ApiError::from(error).status, 400);
        }
    }
}

#[test]
fn a_refusal_says_where() {
    let error = inspect(Api::Messages, br#"{"max_tokens":   }"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request body is not valid JSON: expected a value at byte 17"
    );
}

#[test]
fn invalid_utf_8_is_refused_also_where_it_would_not_be_read() {
    for api in APIS {
        let body = b"{\"model\":\"m\",\"x\":\"\xff\"}";
        assert!(matches!(inspect(api, body), Err(Invalid::Json(_))));
    }
}

#[test]
fn nesting_is_limited_to_128() {
    let nested = |depth: usize| {
        format!(
            r#"{{"model":"m","x":{}{}}}"#,
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        )
    };
    for api in APIS {
        assert!(inspect(api, nested(128).as_bytes()).is_ok());
        let refused = inspect(api, nested(129).as_bytes());
        assert!(matches!(refused, Err(Invalid::Json(_))));
        let hostile = format!(
            "{{\"input\":{0},\"messages\":{0}",
            "[{\"content\":".repeat(100_000)
        );
        assert!(matches!(
            inspect(api, hostile.as_bytes()),
            Err(Invalid::Json(_))
        ));
    }
}

/// Defect 14: what the provider accepts passes, also where it is new to the bridge.
#[test]
fn defect_14_unknown_members_and_tool_types_pass_untouched() {
    let body = br#"{"model":"m","tools":[{"type":"namespace","tools":[{"type":"custom"}]},{"type":"web_search"}],
        "tool_choice":{"type":"allowed_tools"},"include":["reasoning.encrypted_content"],"n":1e400,
        "messages":[{"role":"martian","content":{"no":"array"}},7,null,[]],
        "input":[{"type":"compaction","encrypted_content":"x"},8,null,[]],
        "metadata":["odd"],"stream":true,"stream_options":{"include_usage":true}}"#;
    for api in APIS {
        let inspected = inspect(api, body).unwrap();
        assert_eq!(inspected.prompt, None);
        let sent = Bytes::from_static(body);
        let upstream = prepare(sent.clone(), &inspected);
        assert_eq!(upstream, sent);
        assert_eq!(
            upstream.as_ptr(),
            sent.as_ptr(),
            "the same bytes, not a copy"
        );
    }
}
