//! Results of calls, and the requests they go into.

use super::*;

#[test]
fn results_are_told_in_each_apis_way() {
    let call = call("c1", "bmcp_t", "{}");
    let image = |mime: &str| Content::Image {
        mime: mime.into(),
        data: "QUJD".into(),
    };
    let blob = Content::Blob {
        mime: "application/pdf".into(),
        uri: "file:///a".into(),
        data: "QUJD".into(),
    };
    let raw = r#"{"content":[{"type":"image"}]}"#;
    for (content, is_error, block, text) in [
        (
            vec![Content::Text("a".into()), Content::Text("b".into())],
            false,
            r#","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#,
            "a\nb",
        ),
        (
            vec![Content::Text("no".into())],
            true,
            r#","content":[{"type":"text","text":"no"}],"is_error":true"#,
            "no",
        ),
        (
            vec![image("image/png")],
            false,
            r#","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]"#,
            raw,
        ),
        (
            vec![image("image/svg+xml")],
            false,
            r#","content":[{"type":"text","text":"Error: unsupported tool result content type: image/svg+xml"}],"is_error":true"#,
            raw,
        ),
        (
            vec![blob],
            false,
            r#","content":[{"type":"text","text":"Binary resource (MIME: application/pdf, URI: file:///a): QUJD"}]"#,
            raw,
        ),
        (
            vec![Content::Other("audio".into())],
            false,
            r#","content":[{"type":"text","text":"Error: unsupported tool result content type: audio"}],"is_error":true"#,
            raw,
        ),
        (
            vec![],
            false,
            r#","content":[{"type":"text","text":"Error: no valid tool result content"}],"is_error":true"#,
            raw,
        ),
        (
            vec![Content::Text(" \n".into()), Content::Text(" a ".into())],
            false,
            r#","content":[{"type":"text","text":" a "}]"#,
            " \n\n a ",
        ),
        // Nothing to say is no failure; but one without words is refused there.
        (vec![Content::Text(String::new())], false, "", ""),
        (
            vec![Content::Text(String::new())],
            true,
            r#","content":[{"type":"text","text":"Error: no valid tool result content"}],"is_error":true"#,
            "",
        ),
        (
            vec![Content::Text("\t\u{a0}\n".into())],
            false,
            "",
            "\t\u{a0}\n",
        ),
        (
            vec![Content::Text(" ".into())],
            true,
            r#","content":[{"type":"text","text":"Error: no valid tool result content"}],"is_error":true"#,
            " ",
        ),
    ] {
        let result = CallResult {
            is_error,
            ..CallResult::new(&call, content, raw)
        };
        let text = serde_json::to_string(text).unwrap();
        for (api, expected) in [
            (
                Api::Messages,
                format!(
                    r#"{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"c1"{block}}}]}}"#
                ),
            ),
            (
                Api::ChatCompletions,
                format!(r#"{{"role":"tool","tool_call_id":"c1","content":{text}}}"#),
            ),
            (
                Api::Responses,
                format!(r#"{{"type":"function_call_output","call_id":"c1","output":{text}}}"#),
            ),
        ] {
            let mut told = Vec::new();
            result::append(api, std::slice::from_ref(&result), &mut told);
            assert_eq!(str::from_utf8(&told).unwrap(), expected);
        }
    }
    let failed = CallResult::failed(&call, "timed out");
    assert!(failed.is_error);
    assert_eq!(
        failed.content,
        [Content::Text("Error: calling tool: timed out".into())]
    );
}

#[test]
fn a_large_result_is_cut_with_a_note() {
    let call = call("c1", "bmcp_t", "{}");
    let note = Content::Text("[truncated: the result is longer than 4 bytes]".into());
    let text = |text: &str| Content::Text(text.into());
    let image = Content::Image {
        mime: "image/png".into(),
        data: "12345".into(),
    };
    for (content, raw, expected) in [
        (vec![text("abcd")], "", vec![text("abcd")]),
        (
            vec![text("ab"), text("cdé")],
            "",
            vec![text("ab"), text("cd"), note.clone()],
        ),
        (vec![text("abcé")], "", vec![text("abc"), note.clone()]),
        (vec![image, text("ab")], "", vec![text("ab"), note.clone()]),
        (vec![], "long raw", vec![note.clone()]),
    ] {
        let mut result = CallResult::new(&call, content, raw);
        result.limit(4);
        assert_eq!(result.content, expected);
    }
}

#[test]
fn a_conversation_is_appended_to_wherever_it_stands() {
    for (api, body, expected) in [
        (
            Api::Messages,
            r#"{"messages":[],"model":"m"}"#,
            r#"{"messages":[X],"model":"m"}"#,
        ),
        (
            Api::Messages,
            r#"{"messages":[ {} ],"model":"m"}"#,
            r#"{"messages":[ {} ,X],"model":"m"}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"a":[1],"messages":[{"m":[]}]}"#,
            r#"{"a":[1],"messages":[{"m":[]},X]}"#,
        ),
        (
            Api::Responses,
            r#"{"input":"a\"b","k":1}"#,
            r#"{"input":[{"type":"message","role":"user","content":"a\"b"},X],"k":1}"#,
        ),
        (Api::Responses, r#"{"input":[{}]}"#, r#"{"input":[{},X]}"#),
        (Api::Responses, r#"{"k":1}"#, r#"{"input":[X],"k":1}"#),
        (Api::Messages, r#"{"messages":7}"#, r#"{"messages":7}"#),
    ] {
        let mut request = Request::new(api, body.into());
        assert_eq!(request.append(b"X"), expected);
        let Some((head, tail)) = expected.split_once('X') else {
            continue;
        };
        assert_eq!(request.append(b"Y"), format!("{head}X,Y{tail}"));
    }
}
