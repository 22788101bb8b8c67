//! What holds for all three APIs and any input.

use proptest::prelude::*;

use super::*;

/// Streams in which something of everything happens, with every way to end a line.
const STREAMS: [(Api, &str); 3] = [
    (
        Api::ChatCompletions,
        ": hello\n\n\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\r\n\r\n\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"h\\u00e4 \u{1f600}\"}}]}\n\n\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tea\"},\"finish_reason\":null}],\"usage\":null}\n\n\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"pot\"},\"finish_reason\":null}],\"usage\":null}\r\r\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n\
         data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n\
         data: {\"id\":\"c\",\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\n\
         data: [DONE]\n\n",
    ),
    (
        Api::Messages,
        "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\r\n\r\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"\u{1f600}\"}}\n\n\
         data: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
         event: ping\ndata: {\"type\": \"ping\"}\r\r\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\ndata: \"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":6}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    (
        Api::Responses,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"},\"sequence_number\":0}\n\n\
         event: response.output_text.delta\r\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\u{1f600}\",\"sequence_number\":1}\r\n\r\n\
         data: {\"type\":\"response.output_item.done\",\ndata: \"item\":{\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"s\"}]},\"sequence_number\":2}\r\r\
         event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"function_call\",\"call_id\":\"t\",\"name\":\"f\",\"arguments\":\"{}\"},\"sequence_number\":3}\n\n\
         event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"usage\":{\"input_tokens\":5,\"output_tokens\":6}},\"sequence_number\":4}\n\n",
    ),
];

fn observer(api: Api) -> Stream {
    Stream::new(
        api,
        &inspect(api, br#"{"model":"m","stream":true}"#).unwrap(),
    )
}

#[test]
fn all_three_tell_the_same_of_the_same_conversation() {
    for (api, stream) in STREAMS {
        let (told, _) = follow(api, r#"{"model":"m","stream":true}"#, stream);
        assert_eq!(told.usage, Some(usage(5, 6, 0, 0)), "{api:?}");
        assert_eq!(told.tool_calls, [call("t", "f", "{}")], "{api:?}");
        assert_eq!(told.thoughts.len(), 1, "{api:?}");
        assert!(told.complete, "{api:?}");
    }
}

#[test]
fn a_stream_is_empty_once_it_has_told() {
    for (api, stream) in STREAMS {
        let mut observer = observer(api);
        let events = events([stream.as_bytes()]);
        for event in &events {
            observer.event(event);
        }
        assert_ne!(observer.told(), Told::default());
        assert!(observer.is_complete());
        let again = observer.told();
        assert_eq!(
            (again.usage, again.tool_calls, again.thoughts),
            (None, vec![], vec![])
        );
        // Late events find nothing to add to, and do no harm.
        for event in &events {
            observer.event(event);
        }
    }
}

#[test]
fn what_is_kept_of_calls_and_thoughts_is_bounded() {
    let word = "ä".repeat(50_000);
    for (api, start, delta) in [
        (
            Api::Messages,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"partial_json":"WORD"}}"#,
        ),
        (
            Api::Messages,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"thinking":"WORD"}}"#,
        ),
        (
            Api::ChatCompletions,
            "{}",
            r#"{"choices":[{"index":0,"delta":{"reasoning":"WORD","tool_calls":[{"index":0,"id":"t","function":{"arguments":"WORD"}}]}}]}"#,
        ),
        (
            Api::Responses,
            "{}",
            r#"{"type":"response.output_item.done","item":{"type":"function_call","call_id":"t","arguments":"WORD"}}"#,
        ),
    ] {
        let delta = delta.replace("WORD", &word);
        let mut data = vec![start];
        data.extend([&*delta; 15]);
        let told = told_of(api, &data);
        let calls: usize = told
            .tool_calls
            .iter()
            .map(|call| call.arguments.len())
            .sum();
        let thoughts: usize = told.thoughts.iter().map(|thought| thought.text.len()).sum();
        assert!(calls <= 1 << 20 && thoughts <= 1 << 20);
        assert!(
            calls.max(thoughts) > 1_000_000,
            "{api:?} {calls} {thoughts}"
        );
    }
}

#[test]
fn usage_extras_are_bounded() {
    let many: Vec<String> = (0..1000).map(|i| format!("\"x{i}\":{i}")).collect();
    let many = many.join(",");
    let body = format!(
        r#"{{"content":[],"usage":{{"input_tokens":1,{many},"{}":1}}}}"#,
        "n".repeat(1000)
    );
    let usage = read_body(Api::Messages, body.as_bytes()).usage.unwrap();
    assert_eq!(usage.input, 1);
    assert!(usage.extras.len() <= 64);
}

#[test]
fn usage_that_is_no_whole_number_is_left_out() {
    let body = br#"{"content":[],"usage":{"input_tokens":3,"cost":0.001,"output_tokens":-1,"service_tier":"standard","iterations":[{"input_tokens":9}],"a":{"b":{"c":7}}}}"#;
    let told = read_body(Api::Messages, body);
    assert_eq!(
        told.usage,
        Some(with_extras(usage(3, 0, 0, 0), &[("a.b.c", 7)]))
    );
}

#[test]
fn turns_add_up() {
    let mut sum = with_extras(usage(1, 2, 3, 4), &[("x", 1)]);
    sum.add(&with_extras(
        usage(10, 20, 30, u64::MAX),
        &[("x", 1), ("y", 5)],
    ));
    assert_eq!(
        sum,
        with_extras(usage(11, 22, 33, u64::MAX), &[("x", 2), ("y", 5)])
    );
}

#[test]
fn an_error_body_is_told_and_a_broken_one_tells_nothing() {
    for api in APIS {
        for (body, error) in [
            (
                r#"{"type":"error","error":{"type":"t","message":"m"},"request_id":"r"}"#,
                Some("m"),
            ),
            (
                r#"{"error":{"message":"m","type":"t","param":null,"code":null}}"#,
                Some("m"),
            ),
            (r#"{"error":"m"}"#, Some("m")),
            (r#"{"error":{"message":"m"}} x"#, None),
            (r#"{"error":{"message":"m"}"#, None),
            ("<html>", None),
            ("[]", None),
            ("{}", None),
            ("", None),
        ] {
            let told = read_body(api, body.as_bytes());
            assert_eq!(told.error.as_deref(), error, "{body}");
            assert!(!told.complete);
        }
    }
}

#[test]
fn errors_are_kept_short() {
    let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "ä".repeat(5000));
    for api in APIS {
        assert_eq!(
            read_body(api, body.as_bytes()).error.map(|it| it.len()),
            Some(1024)
        );
    }
}

/// JSON-like text, so that the readers are reached and not only the scanner.
fn jsonish() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 48] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "null",
        "true",
        "false",
        "0",
        "18446744073709551616",
        "-1.5",
        " ",
        "\"a\"",
        "\"\\ud800\"",
        "\"model\":\"m\"",
        "\"stream\":true",
        "\"messages\":[",
        "\"input\":[",
        "{\"role\":\"user\",",
        "\"content\":",
        "\"type\":\"text\"",
        "\"text\":\"t\"",
        "\"metadata\":{\"user_id\":",
        "\"stream_options\":",
        "{\"include_usage\":",
        "\"choices\":[",
        "{\"delta\":{",
        "\"tool_calls\":[{",
        "\"index\":",
        "\"function\":{\"name\":\"f\",\"arguments\":",
        "\"usage\":{",
        "\"error\":",
        "\"type\":\"content_block_start\",",
        "\"type\":\"content_block_delta\",",
        "\"content_block\":{\"type\":\"tool_use\",\"input\":",
        "\"partial_json\":\"x\"",
        "\"type\":\"message_delta\",",
        "\"type\":\"response.completed\",",
        "\"type\":\"response.output_item.done\",",
        "\"response\":{",
        "\"item\":{",
        "\"output\":[",
        "\"summary\":[",
        "\u{1f600}",
        "[DONE]",
    ];
    let word = prop_oneof![
        20 => proptest::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_of_a_stream_tells_the_same(cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        for (api, text) in STREAMS {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            let mut pieces = Vec::new();
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);

            let mut whole = observer(api);
            let whole_passes: Vec<Pass> = events([bytes]).iter().map(|event| whole.event(event)).collect();
            let mut split = observer(api);
            let split_passes: Vec<Pass> = events(pieces).iter().map(|event| split.event(event)).collect();
            prop_assert_eq!(whole_passes, split_passes);
            prop_assert_eq!(whole.told(), split.told());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), jsonish()]) {
        for api in APIS {
            if let Ok(inspected) = inspect(api, &data) {
                prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_ok());
                prepare(Bytes::from(data.clone()), &inspected);
            }
            read_body(api, &data);
            let mut stream = observer(api);
            for event in events([&b"data: "[..], &data, b"\n\ndata: ", &data, b"\n\n"]) {
                stream.event(&event);
            }
            stream.told();
        }
    }

    /// The edit adds one wish and changes nothing else.
    #[test]
    fn a_prepared_body_differs_only_in_include_usage(
        options in proptest::sample::select(&["", "null", "{}", r#"{"a":[1]}"#, r#"{"include_usage":false,"a":1}"#, r#"{"b":2,"include_usage":null}"#][..]),
        before in proptest::sample::select(&["", r#""temperature":0.50,"#, r#""messages":[{"role":"user","content":"{\"stream_options\":null}"}],"#][..]),
    ) {
        let options = if options.is_empty() { String::new() } else { format!(r#""stream_options":{options},"#) };
        let body = format!(r#"{{{before}{options}"model":"m","stream":true}}"#);
        let inspected = inspect(Api::ChatCompletions, body.as_bytes()).unwrap();
        let prepared = prepare(Bytes::from(body.clone()), &inspected);
        let mut expected: serde_json::Value = serde_json::from_str(&body).unwrap();
        if expected["stream_options"].is_null() {
            expected["stream_options"] = serde_json::json!({});
        }
        expected["stream_options"]["include_usage"] = true.into();
        let prepared: serde_json::Value = serde_json::from_slice(&prepared).unwrap();
        prop_assert_eq!(prepared, expected);
    }
}
