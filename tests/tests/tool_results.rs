//! What the model is told of what a tool did: results of every kind, and every way to fail.

use std::sync::Arc;

use aibridge_core::{Duration, Secret, api::Api, mcp};
use aibridge_testkit::{Ran, Reply, Script, model, setup::KEYS, tool_server};
use desk::{TOOLS, Told, World, adds, as_told, forms, json, results, says};
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

mod desk;

/// What a tool did, and what becomes of it.
struct Row {
    name: &'static str,
    ran: Ran,
    /// As Anthropic's content blocks, and whether that is an error.
    blocks: Value,
    is_error: bool,
    /// As text; `None` where it is MCP's result as JSON.
    text: Option<&'static str>,
    /// The record says that it failed.
    failed: bool,
}

/// What the model is told in the turn after the call.
#[track_caller]
fn told(api: Api, streaming: bool, ran: Ran) -> (Told, Option<String>) {
    let turns = [adds(0), says("Done.")];
    let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
    let mut world = World::new(replies, TOOLS, move |_, _| ran.clone());
    assert_eq!(world.hear(api, streaming).text, "Done.");
    let bodies = world.bodies();
    let told = results(api, &bodies[1]);
    assert_eq!(told.len(), 1, "{api:?}");
    assert_eq!(told[0].id, "call_0");
    let tools = world.sim.records.tools();
    assert_eq!(tools.len(), 1);
    let (call, server) = (&tools[0].call, tools[0].server.as_deref());
    assert_eq!((&*call.id, &*call.name), ("call_0", "bmcp_desk_add"));
    assert_eq!(json(call.arguments.as_bytes()), json!({"a": 1, "b": 2}));
    assert_eq!(
        (tools[0].turn, tools[0].injected, server),
        (1, true, Some("desk"))
    );
    let error = tools[0].error.clone();
    world.close();
    (told[0].clone(), error)
}

fn text(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}

fn rows() -> Vec<Row> {
    let row = |name, content: Value, blocks, text| Row {
        name,
        ran: Ran::Result(json!({"content": content})),
        blocks,
        is_error: false,
        text,
        failed: false,
    };
    let two = json!([{"type": "text", "text": "one"}, {"type": "text", "text": "tw\u{f6}\n\"2\""}]);
    let image = json!({"type": "image", "mimeType": "image/png", "data": "aVZC"});
    let source = json!({"type": "base64", "media_type": "image/png", "data": "aVZC"});
    let shown = json!({"type": "image", "source": source});
    let note = json!({"type": "text", "text": "A picture:"});
    let text_resource = json!([{"type": "resource", "resource": {"uri": "file:///a", "mimeType": "text/x", "text": "hi"}}]);
    let blob = json!([{"type": "resource", "resource": {"uri": "file:///b", "mimeType": "application/x", "blob": "AAEC"}}]);
    let audio = json!([{"type": "audio", "mimeType": "audio/wav", "data": "AAAA"}]);
    let blob_text = "Binary resource (MIME: application/x, URI: file:///b): AAEC";
    let unsupported = "Error: unsupported tool result content type: audio";
    vec![
        row("texts", two.clone(), two, Some("one\ntw\u{f6}\n\"2\"")),
        row("an image", json!([image]), json!([shown]), None),
        row(
            "an image and text",
            json!([note, image]),
            json!([note, shown]),
            Some("A picture:"),
        ),
        row("a text resource", text_resource, text("hi"), Some("hi")),
        row("a binary resource", blob, text(blob_text), None),
        Row {
            is_error: true,
            failed: true,
            ..row("another kind", audio, text(unsupported), None)
        },
        Row {
            is_error: true,
            failed: true,
            ..row(
                "nothing",
                json!([]),
                text("Error: no valid tool result content"),
                None,
            )
        },
        Row {
            ran: Ran::Result(json!({"content": [], "structuredContent": {"sum": 3}})),
            ..row("structure alone", json!([]), text(r#"{"sum":3}"#), None)
        },
        Row {
            ran: Ran::Result(json!({"content": text("It is broken."), "isError": true})),
            is_error: true,
            failed: true,
            ..row(
                "isError",
                json!([]),
                text("It is broken."),
                Some("It is broken."),
            )
        },
    ]
}

#[test]
fn results_of_every_kind_are_told_in_each_apis_form() {
    for (api, streaming) in forms() {
        for row in rows() {
            let name = format!("{api:?} {streaming} {}", row.name);
            let Ran::Result(result) = &row.ran else {
                unreachable!("rows have results");
            };
            let (told, error) = told(api, streaming, row.ran.clone());
            if api == Api::Messages {
                assert_eq!(told.content, row.blocks, "{name}");
                assert_eq!(told.is_error, row.is_error, "{name}");
            } else if let Some(text) = row.text {
                assert_eq!(told.content, text, "{name}");
            } else {
                let content = told.content.as_str().unwrap();
                assert_eq!(json(content.as_bytes()), *result, "{name}");
            }
            assert_eq!(error.is_some(), row.failed, "{name}: {error:?}");
        }
    }
}

#[test]
fn failures_are_told_as_errors_and_the_loop_goes_on() {
    let reply = |reply| Ran::Reply(Box::new(reply));
    let failures = [
        (
            "unknown tool",
            Ran::Error(-32602, "Unknown tool: add"),
            "Unknown tool: add (code -32602)",
        ),
        ("status", reply(Reply::json(500, "{}")), "status 500"),
        ("reset", reply(Reply::reset()), "connection reset"),
        ("hang up", reply(Reply::hang_up()), "connection closed"),
        (
            "no JSON",
            reply(Reply::json(200, "<html>")),
            "malformed reply",
        ),
        ("no result", Ran::Result(json!(3)), "malformed reply"),
        (
            "too much",
            reply(Reply::json(200, vec![b' '; 17 << 20])),
            "reply too large",
        ),
    ];
    for (api, streaming) in forms() {
        for (name, ran, why) in &failures {
            let (told, error) = told(api, streaming, ran.clone());
            let name = format!("{api:?} {streaming} {name}: {told:?}");
            assert!(told.is_error, "{name}");
            let text = match api {
                Api::Messages => told.content[0]["text"].clone(),
                Api::ChatCompletions | Api::Responses => told.content.clone(),
            };
            let text = text.as_str().unwrap();
            assert!(text.starts_with("Error: calling tool: "), "{name}");
            assert!(text.contains(why), "{name}");
            assert!(error.unwrap().contains(why), "{name}");
        }
    }
}

#[test]
fn a_tool_that_hangs_is_given_up_after_a_minute_and_told_so() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("Too slow.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let mut world = World::new(replies, TOOLS, |_, _| Ran::Reply(Box::new(Reply::stall())));
        let began = world.sim.now;
        assert_eq!(world.hear(api, streaming).text, "Too slow.");
        assert_eq!(world.sim.now.since(began), Duration::from_secs(60));
        let told = &results(api, &world.bodies()[1])[0];
        assert_eq!(told.content, as_told(api, "Error: calling tool: timed out"));
        // The server is told which of its requests is meant.
        let cancelled = world.heard("notifications/cancelled");
        assert_eq!(cancelled.len(), 1);
        assert_eq!(
            cancelled[0]["params"]["requestId"],
            world.heard("tools/call")[0]["id"]
        );
        world.close();
    }
}

#[test]
fn five_mebibytes_are_cut_to_one_with_a_note() {
    for (api, streaming) in forms() {
        let long = "\u{e9}".repeat(5 << 19);
        let (told, error) = told(api, streaming, Ran::Text(long.clone()));
        let (text, note) = match api {
            Api::Messages => {
                assert_eq!(told.content.as_array().unwrap().len(), 2);
                let block = |nth: usize| told.content[nth]["text"].as_str().unwrap().to_owned();
                (block(0), block(1))
            }
            Api::ChatCompletions | Api::Responses => {
                let text = told.content.as_str().unwrap();
                let (text, note) = text.rsplit_once('\n').unwrap();
                (text.to_owned(), note.to_owned())
            }
        };
        assert_eq!(text.len(), 1 << 20, "{api:?}");
        assert!(long.starts_with(&text));
        assert!(
            note.contains("truncated") && note.contains("5242880"),
            "{note}"
        );
        assert!(!told.is_error && error.is_none(), "{api:?}: {error:?}");
    }
}

#[test]
fn an_image_of_five_mebibytes_is_replaced_by_a_note() {
    for (api, streaming) in forms() {
        let image = json!({"type": "image", "mimeType": "image/png", "data": "A".repeat(5 << 20)});
        let (told, _) = told(api, streaming, Ran::Result(json!({"content": [image]})));
        let told = told.content.to_string();
        assert!(
            told.len() < 1 << 10 && told.contains("truncated"),
            "{api:?} {told}"
        );
    }
}

/// What a model writes must not use up what the bridge can open: beyond 32, calls wait for each
/// other.
#[test]
fn of_very_many_calls_a_part_runs_at_a_time() {
    for (api, streaming) in forms() {
        let mut turn = aibridge_testkit::Turn::new();
        for nth in 0..70 {
            turn = turn.calls(
                &format!("call_{nth}"),
                desk::ADD,
                &format!(r#"{{"a":{nth}}}"#),
            );
        }
        let turns = [turn, says("All of them.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let run = |_: &str, arguments: &Value| {
            let text = arguments["a"].to_string();
            let result = json!({"content": [{"type": "text", "text": text}]});
            Ran::Late(Duration::from_secs(1), result)
        };
        let mut world = World::new(replies, TOOLS, run);
        let began = world.sim.now;
        world.hear(api, streaming);
        assert_eq!(world.sim.now.since(began), Duration::from_secs(3));
        let told = results(api, &world.bodies()[1]);
        for (nth, told) in told.iter().enumerate() {
            assert_eq!(told.id, format!("call_{nth}"));
            assert_eq!(told.content, as_told(api, &nth.to_string()));
        }
        assert_eq!((told.len(), world.ran()), (70, 70));
        world.close();
    }
}

/// A model that was told of a key may pass it on to a tool, and the tool may repeat it.
#[test]
fn of_a_key_that_a_tool_repeats_a_record_has_the_hint_alone() {
    for (api, streaming) in forms() {
        let said = format!("no such user: {}", KEYS[0]);
        let result = json!({"content": text(&said), "isError": true});
        let (_, error) = told(api, streaming, Ran::Result(result));
        let hint = Secret::new(KEYS[0]).hint();
        assert_eq!(error, Some(format!("no such user: {hint}")));
    }
}

/// A server that is not content with what it was shown may say so, and quote it.
#[test]
fn of_what_its_server_was_shown_a_failing_tool_tells_the_hint_alone() {
    let secret = Secret::new("Bearer desk-secret-0123456789");
    let mut config = desk::config();
    for server in &mut config.mcp {
        let known = mcp::Server::clone(server);
        *server = Arc::new(known.with_header(AUTHORIZATION, &secret).unwrap());
    }
    let quoted = "desk-secret-0123456789 is over";
    for (is_error, shown) in [(true, "desk...6789 is over"), (false, quoted)] {
        for (api, streaming) in forms() {
            let turns = [adds(0), says("Done.")];
            let replies = model::replies(api, streaming, &turns);
            let ran = Ran::Result(json!({"content": text(quoted), "isError": is_error}));
            let server = tool_server(TOOLS, move |_, _| ran.clone());
            let mut world = World::of(config.clone(), Script::in_order(replies), server);
            world.hear(api, streaming);
            let told = results(api, &world.bodies()[1]);
            assert_eq!(told[0].content, as_told(api, shown), "{api:?}");
            let error = world.sim.records.tools()[0].error.clone();
            assert_eq!(error, is_error.then(|| shown.to_owned()));
            world.close();
        }
    }
}
