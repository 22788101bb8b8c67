//! Results are read.

use crate::mcp::{Failure, Part, ToolResult};

fn read(content: &str, max: usize) -> ToolResult {
    let json = format!(r#"{{"content":[{content}]}}"#);
    ToolResult::read(json.into(), max).unwrap()
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

#[test]
fn each_kind_of_content_is_shown() {
    for (content, part, is_error) in [
        (r#"{"type":"text","text":"a\nb"}"#, text("a\nb"), false),
        (
            r#"{"type":"image","data":"AAAA","mimeType":"image/png"}"#,
            Part::Image {
                mime: "image/png".into(),
                data: "AAAA".into(),
            },
            false,
        ),
        (
            r#"{"type":"resource","resource":{"uri":"f:a","mimeType":"t","text":"hi"}}"#,
            text("hi"),
            false,
        ),
        (
            r#"{"resource":{"uri":"f:a","mimeType":"m/t","blob":"QQ=="},"type":"resource"}"#,
            text("Binary resource (MIME: m/t, URI: f:a): QQ=="),
            false,
        ),
        (
            r#"{"type":"audio","data":"AAAA","mimeType":"audio/wav"}"#,
            text("Error: unsupported tool result content: audio"),
            true,
        ),
    ] {
        let result = read(content, 1000);
        assert_eq!(result.parts(), [part], "{content}");
        assert_eq!(result.is_error(), is_error, "{content}");
        assert_eq!(
            &result.json()[result.blocks()[0].range.clone()],
            content.as_bytes()
        );
    }
}

#[test]
fn nothing_is_an_error_unless_there_is_structure() {
    let result = read("", 1000);
    assert_eq!(
        result.parts(),
        [text("Error: no valid tool result content")]
    );
    assert!(result.is_error());
    assert_eq!(result.text(), r#"{"content":[]}"#);

    let result = ToolResult::read(r#"{"structuredContent": {"n":1}}"#.into(), 100).unwrap();
    assert_eq!(result.parts(), [text(r#"{"n":1}"#)]);
    assert!(!result.is_error());
}

#[test]
fn texts_are_joined_and_else_the_json_is_told() {
    let (a, b) = (
        r#"{"type":"text","text":"a"}"#,
        r#"{"type":"text","text":"b"}"#,
    );
    let image = r#"{"type":"image","data":"AAAA","mimeType":"image/png"}"#;
    assert_eq!(read(&format!("{a},{image},{b}"), 100).text(), "a\nb");
    assert_eq!(
        read(image, 100).text(),
        format!(r#"{{"content":[{image}]}}"#)
    );
    let short = read(image, 30).text();
    assert!(short.contains("truncated"), "{short}");
}

#[test]
fn five_mebibytes_are_cut_with_a_note() {
    let long = "é".repeat(5 << 19);
    let result = read(
        &format!(r#"{{"type":"text","text":"{long}"}},{{"type":"text","text":"z"}}"#),
        1 << 20,
    );
    assert!(result.is_cut());
    let parts = result.parts();
    let [Part::Text(cut), Part::Text(note)] = &parts[..] else {
        panic!("{parts:?}")
    };
    assert_eq!(cut.len(), 1 << 20);
    assert_eq!(
        note,
        "[tool result truncated: it has 5242881 bytes, the limit is 1048576]"
    );
    assert!(result.text().len() < (1 << 20) + 100);
}

#[test]
fn an_image_above_the_limit_is_left_out_whole() {
    let image = r#"{"type":"image","data":"AAAAAAAA","mimeType":"image/png"}"#;
    let parts = read(&format!(r#"{{"type":"text","text":"a"}},{image}"#), 10).parts();
    assert!(
        matches!(&parts[..], [Part::Text(a), Part::Text(note)] if a == "a" && note.contains("truncated"))
    );
}

#[test]
fn other_results_are_no_tool_results() {
    let read = |json: &'static str| ToolResult::read(json.into(), 100).unwrap_err();
    assert_eq!(
        read(r#"{"resultType":"input_required"}"#),
        Failure::InputRequired
    );
    for json in ["[]", "null", r#"{"content":[}"#, r#"{"resultType":"task"}"#] {
        assert!(matches!(read(json), Failure::Malformed(_)), "{json}");
    }
}
