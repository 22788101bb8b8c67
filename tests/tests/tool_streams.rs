//! The loop as the client lives through it: text at once, keep-alives while tools run, errors in
//! later turns, leaving half-way, and what is recorded of it all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aibridge_core::{
    Duration,
    api::Api,
    record::{Outcome, Record},
};
use aibridge_testkit::{Ask, Ran, Reply, Turn, answer::events, grammar, model};
use desk::{TOOLS, World, add, adds, ask, forms, read, results, says, streams_at_once};
use serde_json::{Value, json};

mod desk;

const SECOND: Duration = Duration::from_secs(1);

/// The text in a stream, as far as it is there.
fn text_in(api: Api, stream: &[u8]) -> String {
    let text = |data: &str| -> String {
        let data: Value = serde_json::from_str(data).unwrap_or_default();
        let text = match api {
            Api::ChatCompletions => &data["choices"][0]["delta"]["content"],
            Api::Messages => &data["delta"]["text"],
            Api::Responses if data["type"] == "response.output_text.delta" => &data["delta"],
            Api::Responses => &Value::Null,
        };
        text.as_str().unwrap_or_default().to_owned()
    };
    let found = events(stream);
    found.iter().map(|event| text(&event.data)).collect()
}

/// Plays turns event by event, and gives after each what upstream has said so far and what the
/// client has of it.
fn step_by_step(api: Api, turns: &[Reply], mut look: impl FnMut(&str, &str)) -> World {
    let replies = turns.iter().map(|reply| reply.clone().confirming());
    let mut world = World::new(replies, TOOLS, add);
    let client = world.sim.connect();
    world.sim.send(client, ask(api, true).bytes());
    world.sim.settle();
    let mut before = String::new();
    for turn in turns {
        let body = turn.body();
        let said = events(&body);
        let mut sent = Vec::new();
        for (nth, _) in said.iter().enumerate() {
            if nth > 0 {
                world.upstream.confirm();
                world.sim.settle();
            }
            let ends = body.windows(2).enumerate();
            let end = ends.filter(|(_, two)| *two == b"\n\n").nth(nth).unwrap().0 + 2;
            sent = body[..end].to_vec();
            let answer = world.sim.answer(client);
            let got = answer.map(|it| it.body).unwrap_or_default();
            look(
                &(before.clone() + &text_in(api, &sent)),
                &text_in(api, &got),
            );
        }
        before += &text_in(api, &sent);
        // The reply's own end comes with its last event; confirmations of the next one are its own.
    }
    world
}

#[test]
fn text_is_streamed_as_it_comes_before_a_call_and_behind_it() {
    for api in [Api::Messages, Api::ChatCompletions] {
        let turns = [
            Turn::new().says(&["One ", "two ", "\u{1f600}"]).calls(
                "call_0",
                desk::ADD,
                r#"{"a":1,"b":2}"#,
            ),
            Turn::new().says(&[" three", " four"]),
        ];
        let replies: Vec<_> = model::replies(api, true, &turns).collect();
        // Of the second turn everything but the first event has been confirmed by then.
        let mut steps = 0;
        let world = step_by_step(api, &replies[..1], |said, got| {
            assert_eq!(got, said, "{api:?}");
            steps += 1;
        });
        assert!(steps > 8);
        world.upstream.abandon();
        world.server.abandon();
        let world = step_by_step(api, &replies[1..], |said, got| assert_eq!(got, said));
        world.close();
    }
}

/// ARCHITECTURE: a turn of the Responses API is held until it is known to call none of our tools.
#[test]
fn responses_are_held_until_they_say_that_they_are_final() {
    let api = Api::Responses;
    let turn = Turn::new().says(&["One ", "two"]);
    let silent = turn.reply(api, true, 0);
    let whole = text_in(api, &silent.body());
    step_by_step(api, std::slice::from_ref(&silent), |said, got| {
        let is_over = said == whole && got == whole;
        assert!(got.is_empty() || is_over, "{got:?} of {said:?}");
    })
    .close();
    // A message that calls itself the answer is let go as it begins.
    let body = String::from_utf8(silent.body().to_vec()).unwrap();
    let body = body.replace(
        r#""role":"assistant""#,
        r#""phase":"final_answer","role":"assistant""#,
    );
    step_by_step(api, &[Reply::sse(body)], |said, got| assert_eq!(got, said)).close();
}

#[test]
fn the_client_is_kept_alive_while_tools_run_and_while_the_next_turn_is_awaited() {
    for (api, streaming) in forms() {
        let second = says("3.").reply(api, streaming, 1);
        let replies = [adds(0).reply(api, streaming, 0), second.after(SECOND * 40)];
        let slow = |_: &str, _: &Value| {
            Ran::Late(
                SECOND * 40,
                json!({"content": [{"type": "text", "text": "3"}]}),
            )
        };
        let mut world = World::new(replies, TOOLS, slow);
        let client = world.sim.connect();
        world.sim.send(client, ask(api, streaming).bytes());
        let mark = match api {
            Api::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            Api::ChatCompletions | Api::Responses => "\n: ",
        };
        let mut kept = Vec::new();
        for _ in 0..16 {
            world.sim.advance(SECOND * 5);
            let answer = world.sim.answer(client);
            kept.push(answer.map_or(0, |it| it.text().matches(mark).count()));
        }
        let answer = world.sim.take_answer(client);
        assert_eq!(read(api, streaming, &answer).text, "3.");
        if streams_at_once(api, streaming) {
            // Every 15 s, whether a tool runs or upstream is awaited.
            let expected = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5];
            assert_eq!(kept[..15], expected, "{api:?}");
        } else {
            assert_eq!(
                kept[..15],
                [0; 15],
                "nothing is said before it is known what"
            );
        }
        world.sim.end(client);
        world.sim.settle();
        world.close();
    }
}

#[test]
fn a_client_that_leaves_while_tools_run_has_them_cancelled() {
    for (api, streaming) in forms() {
        for resets in [false, true] {
            let both = adds(0).calls("call_b", desk::ADD, "{}");
            let replies = [both.reply(api, streaming, 0)];
            let hang = |_: &str, arguments: &Value| {
                if arguments["a"].is_null() {
                    Ran::Text("0".to_owned())
                } else {
                    Ran::Reply(Box::new(Reply::stall()))
                }
            };
            let mut world = World::new(replies, TOOLS, hang);
            let client = world.sim.connect();
            world.sim.send(client, ask(api, streaming).bytes());
            world.sim.advance(SECOND * 3);
            assert_eq!(world.ran(), 2);
            if resets {
                world.sim.reset(client);
            } else {
                world.sim.end(client);
            }
            world.sim.settle();
            let cancelled = world.heard("notifications/cancelled");
            assert_eq!(cancelled.len(), 1, "the other one was done");
            let calls = world.heard("tools/call");
            assert_eq!(cancelled[0]["params"]["requestId"], calls[0]["id"]);
            let ended = world.sim.records.ended();
            assert_eq!((ended.outcome, ended.turns), (Outcome::Cancelled, 1));
            // What may have been done is on record.
            let tools = world.sim.records.tools();
            let mut told: Vec<_> = tools
                .iter()
                .map(|tool| (&*tool.call.id, tool.error.as_deref()))
                .collect();
            told.sort_unstable();
            let why = "cancelled: the client has left";
            assert_eq!(told, [("call_0", Some(why)), ("call_b", None)]);
            world.sim.advance(SECOND * 10);
            assert!(world.sim.is_over(client));
            world.close();
        }
    }
}

#[test]
fn a_client_that_leaves_in_a_later_turn_has_upstreams_call_aborted() {
    for (api, streaming) in forms() {
        let last = says("It is three.").reply(api, streaming, 1);
        let half = last.bytes().len() - 30;
        for second in [Reply::stall(), last.stall_at(half)] {
            let replies = [adds(0).reply(api, streaming, 0), second];
            let mut world = World::new(replies, TOOLS, add);
            let client = world.sim.connect();
            world.sim.send(client, ask(api, streaming).bytes());
            world.sim.advance(SECOND);
            world.sim.reset(client);
            world.sim.settle();
            assert_eq!(world.sim.open_connections(), 0, "{api:?} {streaming}");
            let ended = world.sim.records.ended();
            assert_eq!((ended.outcome, ended.turns), (Outcome::Cancelled, 2));
            assert!(world.sim.is_over(client));
            world.close();
        }
    }
}

/// What upstream says to a later turn reaches the client: whole where nothing has been said yet,
/// else as an event.
#[test]
fn errors_of_later_turns_reach_the_client() {
    let own = "sk-client-own-key-0001";
    let overloaded = |api| match api {
        Api::Messages => {
            r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_9"}"#
        }
        Api::ChatCompletions | Api::Responses => {
            r#"{"error":{"message":"busy","type":"server_error","param":"p","code":"c9"}}"#
        }
    };
    for (api, streaming) in forms() {
        for status in [400, 429, 529] {
            let refused = Reply::json(status, overloaded(api)).retry_after(7);
            let refused = refused.header("request-id", "req_9");
            let replies = [adds(0).reply(api, streaming, 0), refused];
            let mut world = World::new(replies, TOOLS, add);
            let answer = world.sim.ask(&ask(api, streaming).key(api, own));
            let form = format!("{api:?} {streaming} {status}: {}", answer.text());
            if streams_at_once(api, streaming) {
                assert_eq!((answer.status, answer.header("retry-after")), (200, None));
                let reply = grammar::stream(api, &answer.body);
                let error = reply
                    .unwrap_or_else(|e| panic!("{e} {form}"))
                    .error
                    .unwrap();
                assert_eq!(error, desk::json(overloaded(api).as_bytes()), "{form}");
            } else {
                assert_eq!(answer.status, status, "{form}");
                assert_eq!(answer.text(), overloaded(api));
                assert_eq!(answer.header("retry-after"), Some("7"), "{form}");
                assert_eq!(answer.header("request-id"), Some("req_9"), "{form}");
            }
            let ended = world.sim.records.ended();
            let outcome = match status {
                429 => Outcome::RateLimited,
                _ => Outcome::UpstreamError,
            };
            assert_eq!((ended.outcome, ended.turns), (outcome, 2), "{form}");
            assert_eq!(ended.error.as_deref(), Some("busy"), "{form}");
            world.close();
        }
    }
}

/// An error that is none of the API's own still is one in the API's form for the client, with what
/// it says.
#[test]
fn odd_errors_of_later_turns_become_events_of_the_api() {
    for api in [Api::Messages, Api::ChatCompletions] {
        for (body, says) in [
            ("<html>Bad Gateway</html>", "status 502"),
            (r#"{"error":"no upstream"}"#, "no upstream"),
            (r#"{"error":{"message":"gone"}}"#, "gone"),
            (r#"{"detail":"x"}"#, "status 502"),
            ("", "status 502"),
        ] {
            let replies = [adds(0).reply(api, true, 0), Reply::json(502, body)];
            let mut world = World::new(replies, TOOLS, add);
            let answer = world.sim.ask(&ask(api, true));
            let reply = grammar::stream(api, &answer.body);
            let reply = reply.unwrap_or_else(|e| panic!("{api:?} {body}: {e}\n{}", answer.text()));
            let error = reply.error.unwrap();
            let message = error["error"]["message"].as_str().unwrap();
            assert!(message.contains(says), "{api:?} {body}: {message}");
            world.close();
        }
    }
}

/// Behind an error nothing is said, not even what waited for the end of the turn.
#[test]
fn an_error_within_a_turn_that_calls_tools_is_the_last_word() {
    for (api, error) in [
        (
            Api::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"broke\"}}\n\n",
        ),
        (
            Api::ChatCompletions,
            "data: {\"error\":{\"message\":\"broke\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
        ),
        (
            Api::Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"broke\",\"param\":null,\"sequence_number\":900}\n\n",
        ),
    ] {
        let stream = says("Hm.").calls("call_0", desk::ADD, "{}").stream(api, 0);
        let ends: Vec<_> = stream.match_indices("\n\n").map(|(at, _)| at + 2).collect();
        // At each place in the turn, the very last but one included.
        for end in &ends[..ends.len() - 1] {
            let broken = stream[..*end].to_owned() + error;
            let mut world = World::new([Reply::sse(broken.clone())], TOOLS, add);
            let answer = world.sim.ask(&ask(api, true));
            assert!(!answer.text().contains("bmcp_"), "{api:?}: {broken}");
            let reply = grammar::stream(api, &answer.body);
            let reply = reply.unwrap_or_else(|e| panic!("{e}\n{}\nof {broken}", answer.text()));
            assert!(reply.error.is_some());
            assert_eq!(world.ran(), 0);
            assert_eq!(world.sim.records.ended().outcome, Outcome::UpstreamError);
            world.close();
        }
    }
}

#[test]
fn the_first_byte_is_the_first_that_the_client_gets() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("3.")];
        let replies = model::replies(api, streaming, &turns).map(|it| it.after(SECOND * 2));
        let slow = |_: &str, _: &Value| {
            Ran::Late(
                SECOND * 5,
                json!({"content": [{"type": "text", "text": "3"}]}),
            )
        };
        let mut world = World::new(replies, TOOLS, slow);
        world.hear(api, streaming);
        let ended = world.sim.records.ended();
        let at = if streams_at_once(api, streaming) {
            2
        } else {
            9
        };
        assert_eq!(ended.first_byte, Some(SECOND * at), "{api:?} {streaming}");
        assert_eq!(ended.total, SECOND * 9);
        world.close();
    }
}

#[test]
fn the_clients_reply_has_one_id_and_upstreams_headers() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("3.")];
        let replies = model::replies(api, streaming, &turns).enumerate();
        let replies = replies.map(|(nth, it)| it.header("x-request-id", &format!("req_{nth}")));
        let mut world = World::new(replies, TOOLS, add);
        let answer = world.sim.ask(&ask(api, streaming));
        read(api, streaming, &answer);
        let turn = if streams_at_once(api, streaming) {
            "req_0"
        } else {
            "req_1"
        };
        assert_eq!(
            answer.header("x-request-id"),
            Some(turn),
            "{api:?} {streaming}"
        );
        let Some(Record::Ended(id, _)) = world.sim.records.0.last() else {
            panic!("{:?}", world.sim.records);
        };
        assert_eq!(answer.header("x-aibridge-id"), Some(&*id.to_string()));
        if !streaming {
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("content-length"), Some(&*length));
        }
        world.close();
    }
}

/// One interception, one prompt, an attempt and tokens per turn, a record per call,
/// each thought.
#[test]
fn a_loop_leaves_one_interception_with_all_its_turns() {
    for (api, streaming) in forms() {
        let turns = [
            Turn::new()
                .thinks(&["hm"], "c2ln")
                .calls("call_0", desk::ADD, r#"{"a":1,"b":2}"#)
                .counts(100, 5),
            Turn::new()
                .thinks(&["well"], "c2ln")
                .says(&["Now you."])
                .calls("call_own", "own_tool", r#"{"q":1}"#)
                .counts(120, 6),
        ];
        let mut world = World::adding(api, streaming, &turns);
        let reply = world.hear(api, streaming);
        assert_eq!(reply.calls.len(), 1);
        let records = &world.sim.records;
        assert_eq!((records.started().len(), records.prompts().len()), (1, 1));
        let attempts: Vec<_> = records.attempts().iter().map(|it| it.turn).collect();
        assert_eq!(attempts, [1, 2]);
        let usage: Vec<_> = records
            .usage()
            .iter()
            .map(|it| (it.turn, it.usage.input, it.usage.output))
            .collect();
        assert_eq!(usage, [(1, 100, 5), (2, 120, 6)], "{api:?} {streaming}");
        let tools: Vec<_> = records
            .tools()
            .iter()
            .map(|it| (it.turn, it.call.id.clone(), it.injected, it.error.is_some()))
            .collect();
        let expected = [
            (1, "call_0".to_owned(), true, false),
            (2, "call_own".to_owned(), false, false),
        ];
        assert_eq!(tools, expected, "{api:?} {streaming}");
        let thoughts = records.thoughts().len();
        assert_eq!(thoughts, 2, "{api:?} {streaming}");
        let ended = records.ended();
        assert_eq!(
            (ended.turns, ended.attempts, ended.outcome),
            (2, 2, Outcome::Ok)
        );
        assert_eq!(ended.status, Some(200));
        world.close();
    }
}

/// A chat stream whose client did not ask for usage gets no chunk of it in any turn, and the
/// records have it.
#[test]
fn usage_that_only_the_bridge_asked_for_is_withheld_in_all_turns() {
    let api = Api::ChatCompletions;
    let mut world = World::adding(api, true, &[adds(0), says("3.")]);
    let answer = world.sim.ask(&Ask::new(api, true));
    let reply = read(api, true, &answer);
    assert_eq!((&*reply.text, reply.usage.len()), ("3.", 0));
    assert_eq!(world.sim.records.usage().len(), 2);
    for body in world.bodies() {
        assert_eq!(body["stream_options"]["include_usage"], true);
    }
    assert_eq!(results(api, &world.bodies()[1]).len(), 1);
    world.close();
}
