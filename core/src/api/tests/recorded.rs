//! What providers really sent. The recordings are no part of this repository: without them these
//! tests say so and pass.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test may read a file, and must say that it did not"
)]

use super::*;

/// The parts of a recording, a `txtar` archive.
fn recording(name: &str) -> Option<Vec<(String, String)>> {
    let path = format!(
        "{}/../../shared/recorded/{name}.txtar",
        env!("CARGO_MANIFEST_DIR")
    );
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no recording at {path}");
        return None;
    };
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        let title = line
            .trim_end()
            .strip_prefix("-- ")
            .and_then(|it| it.strip_suffix(" --"));
        match (title, parts.last_mut()) {
            (Some(title), _) => parts.push((title.to_owned(), String::new())),
            (None, Some((_, text))) => text.push_str(line),
            (None, None) => {}
        }
    }
    Some(parts)
}

/// The model and the prompt asked with.
type Request = (&'static str, &'static str);
/// Part, input, output and cached tokens, stop reason, and the names of the tools called.
type Reply = (
    &'static str,
    [u64; 3],
    &'static str,
    &'static [&'static str],
);

fn check(api: Api, name: &str, (model, prompt): Request, replies: &[Reply]) {
    let Some(parts) = recording(name) else { return };
    let part = |name: &str| &parts.iter().find(|(title, _)| title == name).unwrap().1;
    let inspected = inspect(api, part("request").as_bytes()).unwrap();
    assert_eq!(inspected.model, model);
    assert_eq!(inspected.prompt.as_deref(), Some(prompt));
    for (title, [input, output, cached], stop, tools) in replies {
        let told = if title.starts_with("streaming") {
            follow(api, part("request"), part(title)).0
        } else {
            read_body(api, part(title).as_bytes())
        };
        let used = told.usage.map(|it| [it.input, it.output, it.cache_read]);
        assert_eq!(used, Some([*input, *output, *cached]), "{name} {title}");
        assert_eq!(told.stop.as_deref(), Some(*stop), "{name} {title}");
        let called: Vec<&str> = told.tool_calls.iter().map(|call| &*call.name).collect();
        assert_eq!(called, *tools, "{name} {title}");
        for call in &told.tool_calls {
            assert!(serde_json::from_str::<serde_json::Value>(&call.arguments).is_ok());
        }
        assert!(told.complete && told.id.is_some(), "{name} {title}");
        assert_eq!(told.error, None);
    }
}

#[test]
fn recorded_messages_tell_what_is_known_of_them() {
    check(
        Api::Messages,
        "messages-simple",
        (
            "claude-sonnet-4-0",
            "how many angels can dance on the head of a pin\n",
        ),
        &[
            ("streaming", [18, 240, 0], "end_turn", &[]),
            ("non-streaming", [18, 254, 0], "end_turn", &[]),
        ],
    );
    let tool: &[&str] = &["bmcp_coder_coder_list_workspaces"];
    check(
        Api::Messages,
        "messages-injected-tool",
        (
            "claude-sonnet-4-20250514",
            "list coder workspace IDs for admin",
        ),
        &[
            ("streaming", [7545, 74, 0], "tool_use", tool),
            ("streaming/tool-call", [7763, 128, 0], "end_turn", &[]),
            ("non-streaming", [7545, 75, 0], "tool_use", tool),
        ],
    );
}

#[test]
fn recorded_thoughts_are_found() {
    let Some(parts) = recording("messages-simple") else {
        return;
    };
    let (told, _) = follow(Api::Messages, &parts[0].1, &parts[1].1);
    let whole = read_body(Api::Messages, parts[2].1.as_bytes());
    assert_eq!(told.thoughts, whole.thoughts);
    assert!(told.thoughts[0].text.starts_with("This is a classic"));
}

#[test]
fn recorded_chat_completions_tell_what_is_known_of_them() {
    check(
        Api::ChatCompletions,
        "chat-simple",
        (
            "gpt-4.1",
            "how many angels can dance on the head of a pin\n",
        ),
        &[
            ("streaming", [19, 238, 0], "stop", &[]),
            ("non-streaming", [19, 200, 0], "stop", &[]),
        ],
    );
    let tool: &[&str] = &["bmcp_coder_coder_list_workspaces"];
    check(
        Api::ChatCompletions,
        "chat-injected-tool",
        ("gpt-4.1", "list coder workspace IDs for admin"),
        &[("non-streaming", [4862, 45, 0], "tool_calls", tool)],
    );
}

#[test]
fn recorded_responses_tell_what_is_known_of_them() {
    check(
        Api::Responses,
        "responses-streaming-simple",
        ("gpt-4o-mini", "tell me a joke"),
        &[("streaming", [11, 18, 0], "completed", &[])],
    );
    check(
        Api::Responses,
        "responses-blocking-simple",
        ("gpt-4o-mini", "tell me a joke"),
        &[("non-streaming", [11, 18, 0], "completed", &[])],
    );
    check(
        Api::Responses,
        "responses-blocking-injected-tool",
        (
            "gpt-5.2",
            "list the template params for version aa4e30e4-a086-4df6-a364-1343f1458104",
        ),
        &[
            (
                "non-streaming",
                [227, 75, 6144],
                "completed",
                &["bmcp_coder_coder_template_version_parameters"],
            ),
            (
                "non-streaming/tool-call",
                [612, 231, 6144],
                "completed",
                &[],
            ),
        ],
    );
    let Some(parts) = recording("responses-streaming-injected-tool") else {
        return;
    };
    let (told, _) = follow(Api::Responses, &parts[0].1, &parts[2].1);
    assert_eq!(told.sequence_number, Some(187));
    assert_eq!(told.usage.map(|it| it.input), Some(319));
}
