//! Tools are called.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::{fault::Fault, mcp::Part, rng::Rng};

const STATELESS: Terms = Terms {
    version: Version::V20260728,
    session: None,
};

pub(super) fn calls() -> Calls {
    Calls::new(CallLimits::default(), &mut Rng::new(1))
}

/// Terms of a fake server that gives sessions; begins one.
pub(super) fn session(fake: &mut Fake) -> Terms {
    fake.begun += 1;
    let id = format!("session-{}", fake.begun);
    fake.session = Some(id.clone());
    Terms {
        version: fake.handshake.unwrap(),
        session: Some(id.parse().unwrap()),
    }
}

pub(super) fn begin(
    world: &World,
    calls: &mut Calls,
    terms: &Terms,
    name: &str,
) -> crate::mcp::ToolCallId {
    let arguments = br#"{"n":1}"#;
    calls.begin(world.now, &server(), terms, &tool(name), arguments)
}

/// Calls a tool, and lets a minute pass.
pub(super) fn call(world: &mut World, terms: &Terms, name: &str) -> Vec<CallEvent> {
    let mut calls = calls();
    begin(world, &mut calls, terms, name);
    world.settle(&mut calls);
    world.pass(&mut calls, Duration::from_secs(70));
    assert_eq!(world.open, [], "{name}: exchanges are left open");
    let events = std::iter::from_fn(|| calls.poll_event()).collect();
    assert!(calls.is_idle());
    events
}

pub(super) fn outcome(events: &[CallEvent]) -> Result<&ToolResult, &Failure> {
    let done: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            CallEvent::Done(_, result) => Some(result.as_ref()),
            CallEvent::Recheck(_) | CallEvent::Renewed { .. } => None,
        })
        .collect();
    assert_eq!(done.len(), 1, "{events:?}");
    done[0]
}

/// A server of each way to answer, and terms for it.
fn every_kind() -> Vec<(Fake, Terms)> {
    let mut kinds = Vec::new();
    for streams in [false, true] {
        let fake = Fake::modern();
        kinds.push((Fake { streams, ..fake }, STATELESS));
        for version in [
            Version::V20241105,
            Version::V20250326,
            Version::V20250618,
            Version::V20251125,
        ] {
            let handshake = Some(version);
            let fake = Fake {
                handshake,
                streams,
                sessions: false,
                ..Fake::new()
            };
            kinds.push((
                fake,
                Terms {
                    version,
                    session: None,
                },
            ));
            let mut fake = Fake {
                handshake,
                streams,
                ..Fake::new()
            };
            let terms = session(&mut fake);
            kinds.push((fake, terms));
        }
    }
    kinds
}

#[test]
fn a_tool_of_any_server_is_called() {
    for (fake, terms) in every_kind() {
        let mut world = World::new(fake);
        let events = call(&mut world, &terms, "echo");
        assert_eq!(outcome(&events).unwrap().text(), r#"{"n":1}"#, "{terms:?}");
        assert_eq!(world.fake.seen, ["tools/call"]);
    }
}

#[test]
fn results_of_every_kind_are_read() {
    for (name, shown, is_error) in [
        ("nothing", "Error: no valid tool result content", true),
        ("wrong", "no", true),
        ("chatty", "done", false),
        ("big", "", false),
    ] {
        let mut fake = Fake::new();
        let terms = session(&mut fake);
        let events = call(&mut World::new(fake), &terms, name);
        let result = outcome(&events).unwrap();
        let parts = result.parts();
        assert!(
            matches!(&parts[0], Part::Text(text) if text.starts_with(shown)),
            "{name}: {parts:?}"
        );
        assert_eq!(result.is_error(), is_error, "{name}");
        assert_eq!(result.is_cut(), name == "big");
        assert!(result.text().len() < (1 << 20) + 100);
    }
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let events = call(&mut World::new(fake), &terms, "image");
    let image = Part::Image {
        mime: "image/png".into(),
        data: "AAAA".into(),
    };
    assert_eq!(outcome(&events).unwrap().parts(), [image]);
}

#[test]
fn what_goes_wrong_is_told_in_words() {
    for (name, told) in [
        (
            "null-id",
            "Error: calling tool: Broken inside (code -32603)",
        ),
        (
            "no such tool",
            "Error: calling tool: Unknown tool (code -32602)",
        ),
        ("other-id", "Error: calling tool: malformed reply: wrong id"),
        (
            "html",
            "Error: calling tool: malformed reply: neither JSON nor events",
        ),
        ("garbage", "Error: calling tool: malformed reply: not JSON"),
        (
            "empty",
            "Error: calling tool: malformed reply: neither JSON nor events",
        ),
        ("huge", "Error: calling tool: reply too large"),
        ("forbidden", "Error: calling tool: status 403: not yours"),
        ("teapot", "Error: calling tool: status 418"),
        ("fading", "Error: calling tool: connection closed"),
        (
            "input",
            "Error: calling tool: the tool asks for input, which is not supported",
        ),
        ("hang", "Error: calling tool: timed out"),
        ("die", "Error: calling tool: connection reset"),
    ] {
        let mut fake = Fake::new();
        let terms = session(&mut fake);
        let events = call(&mut World::new(fake), &terms, name);
        assert_eq!(outcome(&events).unwrap_err().told(), told, "{name}");
        // The server or the tool may be gone: its keeper is to look.
        let is_doubtful = ["no such tool", "fading", "hang", "die"].contains(&name);
        assert_eq!(events.len(), 1 + usize::from(is_doubtful), "{name}");
        let recheck = CallEvent::Recheck(server());
        assert_eq!(events.contains(&recheck), is_doubtful, "{name}");
    }
}

#[test]
fn a_server_that_nobody_runs_is_a_fault() {
    let mut world = World::new(Fake {
        down: true,
        ..Fake::modern()
    });
    let events = call(&mut world, &STATELESS, "echo");
    assert_eq!(outcome(&events), Err(&Failure::Fault(Fault::Refused)));
}

#[test]
fn what_the_server_asks_meanwhile_is_answered() {
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let mut world = World::new(fake);
    let events = call(&mut world, &terms, "chatty");
    assert!(events.contains(&CallEvent::Recheck(server())));
    let answers: Vec<_> = world
        .fake
        .bodies
        .iter()
        .filter(|b| b["method"].is_null())
        .collect();
    assert_eq!(answers.len(), 2);
    assert_eq!(
        (&answers[0]["id"], &answers[0]["result"]),
        (&"p1".into(), &serde_json::json!({}))
    );
    assert_eq!(
        (&answers[1]["id"], &answers[1]["error"]["code"]),
        (&7.into(), &(-32601).into())
    );
}

#[test]
fn without_a_session_the_server_is_never_answered() {
    let mut world = World::new(Fake::modern());
    let events = call(&mut world, &STATELESS, "chatty");
    assert_eq!(outcome(&events).unwrap().text(), "done");
    assert_eq!(world.fake.seen, ["tools/call"]);
}

#[test]
fn a_stream_that_ends_early_is_resumed_after_the_time_the_server_names() {
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let mut world = World::new(fake);
    let mut calls = calls();
    begin(&world, &mut calls, &terms, "later");
    world.settle(&mut calls);
    assert_eq!(
        calls.poll_timeout(),
        Some(world.now + Duration::from_millis(2500))
    );
    world.pass(&mut calls, Duration::from_millis(2499));
    assert_eq!(world.fake.seen, ["tools/call"]);
    world.pass(&mut calls, Duration::from_secs(5));
    assert_eq!(world.fake.seen, ["tools/call", "GET", "GET"]);
    let Some(CallEvent::Done(_, Ok(result))) = calls.poll_event() else {
        panic!()
    };
    assert_eq!(result.text(), "resumed");
}

#[test]
fn without_a_session_nothing_is_resumed() {
    let mut world = World::new(Fake::modern());
    let events = call(&mut world, &STATELESS, "later");
    assert_eq!(outcome(&events), Err(&Failure::Fault(Fault::Closed)));
    assert_eq!(world.fake.seen, ["tools/call"]);
}

#[test]
fn a_call_that_the_server_wants_repeated_is_but_not_for_ever() {
    let mut world = World::new(Fake::modern());
    let events = call(&mut world, &STATELESS, "rounds");
    assert_eq!(outcome(&events).unwrap().text(), "at last");
    let ids: Vec<_> = world.fake.bodies.iter().map(|b| b["id"].as_u64()).collect();
    assert!(ids.len() == 3 && ids.windows(2).all(|pair| pair[0] < pair[1]));

    let mut world = World::new(Fake::modern());
    let events = call(&mut world, &STATELESS, "endless");
    assert_eq!(outcome(&events), Err(&Failure::InputRequired));
    assert_eq!(world.fake.seen.len(), 9);
}

#[test]
fn a_server_that_repeats_its_token_is_not_quoted_in_full() {
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let events = call(&mut World::new(fake), &terms, "blabs");
    let failure = outcome(&events).unwrap_err();
    assert_eq!(
        failure.told(),
        "Error: calling tool: status 401: Bear...6789 is over; mcp-...6789 was good, mcp-..."
    );
}

#[test]
fn a_call_that_hangs_is_cancelled_at_the_server() {
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let mut world = World::new(fake);
    call(&mut world, &terms, "hang");
    assert_eq!(world.fake.seen, ["tools/call", "notifications/cancelled"]);
    let [call, cancelled] = &world.fake.bodies[..] else {
        panic!()
    };
    assert_eq!(call["id"], cancelled["params"]["requestId"]);
    assert_eq!(world.aborted.len(), 1);
}

#[test]
fn when_the_client_goes_its_calls_do() {
    for (terms_of, seen) in [
        (
            session as fn(&mut Fake) -> Terms,
            &["tools/call", "tools/call", "notifications/cancelled"][..],
        ),
        (|_| STATELESS, &["tools/call", "tools/call"]),
    ] {
        let mut fake = Fake {
            stateless: true,
            ..Fake::new()
        };
        let terms = terms_of(&mut fake);
        let mut world = World::new(fake);
        let mut calls = calls();
        begin(&world, &mut calls, &terms, "echo");
        let hanging = begin(&world, &mut calls, &terms, "hang");
        world.settle(&mut calls);
        calls.cancel_all(world.now);
        calls.cancel(world.now, hanging);
        world.settle(&mut calls);
        assert_eq!(world.fake.seen, seen);
        assert!(calls.is_idle() && calls.poll_event().is_none());
    }
}

#[test]
fn a_stream_left_open_behind_the_result_is_closed_in_time() {
    let mut fake = Fake {
        streams: true,
        ..Fake::new()
    };
    let terms = session(&mut fake);
    let mut world = World::new(fake);
    let mut calls = calls();
    begin(&world, &mut calls, &terms, "echo");
    let Some(Action::Request(on, request)) = calls.poll_action() else {
        panic!()
    };
    world.open.push(on);
    let mut reply = world.fake.reply(&request);
    reply.pop();
    for input in reply {
        calls.handle(world.now, on, input);
    }
    assert!(matches!(
        calls.poll_event(),
        Some(CallEvent::Done(_, Ok(_)))
    ));
    assert!(!calls.is_idle());
    world.pass(&mut calls, Duration::from_secs(1));
    assert!(calls.is_idle() && world.aborted.contains(&on));
}

#[test]
fn arguments_that_are_no_object_are_not_sent() {
    let mut calls = calls();
    let now = Instant::from_secs(1);
    for (arguments, is_sent) in [
        ("[]", false),
        ("{", false),
        ("{} x", false),
        ("\u{1}", false),
        ("", true),
        (" {} ", true),
    ] {
        calls.begin(
            now,
            &server(),
            &STATELESS,
            &tool("echo"),
            arguments.as_bytes(),
        );
        let action = calls.poll_action();
        assert_eq!(action.is_some(), is_sent, "{arguments:?}");
        if !is_sent {
            let event = calls.poll_event();
            assert!(matches!(
                event,
                Some(CallEvent::Done(_, Err(Failure::Arguments)))
            ));
        }
    }
}

#[test]
fn equal_calls_send_equal_bytes_and_show_no_secret() {
    let sent = || {
        let mut calls = calls();
        let terms = Terms {
            version: Version::V20251125,
            session: Some("s".parse().unwrap()),
        };
        begin(&World::new(Fake::new()), &mut calls, &terms, "echo");
        let Some(Action::Request(_, request)) = calls.poll_action() else {
            panic!()
        };
        request
    };
    let request: Request = sent();
    assert_eq!(request.body, sent().body);
    let body = std::str::from_utf8(&request.body).unwrap();
    let params = r#""method":"tools/call","params":{"name":"echo","arguments":{"n":1}}}"#;
    assert!(body.ends_with(params), "{body}");
    assert!(!format!("{request:?}").contains("mcp-token"));
}

#[test]
fn arguments_are_mirrored_where_the_schema_asks_for_it() {
    let schema = br#"{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}}"#;
    let mirrors = crate::mcp::mirror::find(schema).unwrap();
    let tool = Tool {
        mirrors,
        ..tool("é")
    };
    let mut calls = calls();
    calls.begin(Instant::EPOCH, &server(), &STATELESS, &tool, br#"{"n":1}"#);
    let Some(Action::Request(_, request)) = calls.poll_action() else {
        panic!()
    };
    assert_eq!(request.headers["mcp-param-n"], "1");
    assert_eq!(request.headers["mcp-name"], "=?base64?w6k=?=");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_a_reply_gives_the_same_outcome(piece in 1..200_usize, kind in 0..18_usize) {
        for name in ["echo", "chatty", "later", "null-id", "garbage", "die", "wrong", "forbidden"] {
            let run = |piece| {
                let (fake, terms) = every_kind().remove(kind);
                let mut world = World { piece, ..World::new(fake) };
                let events = call(&mut world, &terms, name);
                (events, world.fake.bodies)
            };
            prop_assert_eq!(run(usize::MAX), run(piece), "{}", name);
        }
    }

    #[test]
    fn no_input_panics(inputs in proptest::collection::vec(any_input(), 0..20)) {
        let mut calls = calls();
        let world = World::new(Fake::new());
        begin(&world, &mut calls, &STATELESS, "echo");
        let Some(Action::Request(on, _)) = calls.poll_action() else { panic!() };
        for input in inputs {
            calls.handle(world.now, on, input);
        }
        calls.handle_timeout(Instant::FAR_FUTURE);
        prop_assert!(matches!(calls.poll_event(), Some(CallEvent::Done(..))));
    }
}

pub(super) fn any_input() -> impl Strategy<Value = Input> {
    let headers = |media: &'static str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", media.parse().unwrap());
        headers
    };
    prop_oneof![
        Just(Input::End),
        Just(Input::Failed(Fault::Reset)),
        (100..600_u16, any::<bool>()).prop_map(move |(status, streams)| {
            let media = if streams {
                "text/event-stream"
            } else {
                "application/json"
            };
            Input::Head(StatusCode::from_u16(status).unwrap(), headers(media))
        }),
        "(data: |id: |retry: 9|\n|[{}]|\"id\":1|,|\"result\":2|\"method\":\"x\"){0,12}"
            .prop_map(|text| Input::Body(text.into())),
    ]
}
