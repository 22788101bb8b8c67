//! Where the loop ends though the model would go on, and that nothing is run twice.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aibridge_core::{Duration, api::Api, record::Outcome};
use aibridge_testkit::{Answer, Ran, Reply, Script, Turn, grammar, model, tool_server};
use desk::{TOOLS, World, add, adds, ask, config, forms, read, says, streams_at_once};
use serde_json::Value;

mod desk;

/// How the client is told that the loop failed: by the stream's own error event, or by a plain
/// reply.
#[track_caller]
fn assert_failed(api: Api, streaming: bool, answer: &Answer, why: &str) {
    let form = format!("{api:?} {streaming}: {}", answer.text());
    assert!(answer.is_complete(), "{form}");
    if !streams_at_once(api, streaming) {
        assert!(answer.status >= 500, "{form}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.error_message().contains(why), "{form}");
        assert_eq!(answer.error_type(), "api_error", "{form}");
        return;
    }
    assert_eq!(answer.status, 200);
    let reply = grammar::stream(api, &answer.body).unwrap_or_else(|e| panic!("{e}: {form}"));
    let error = reply.error.unwrap_or_else(|| panic!("no error: {form}"));
    assert_eq!(error["error"]["type"], "api_error", "{form}");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(why), "{form}");
    assert!(!answer.text().contains("[DONE]"), "{form}");
}

#[test]
fn the_iteration_limit_ends_the_loop_with_an_error() {
    for (api, streaming) in forms() {
        let mut config = config();
        config.tools.turns = 3;
        let turns: Vec<_> = (0..3).map(adds).collect();
        let script = Script::in_order(model::replies(api, streaming, &turns));
        let mut world = World::of(config, script, tool_server(TOOLS, add));
        let answer = world.sim.ask(&ask(api, streaming));
        assert_failed(api, streaming, &answer, "3 turns");
        assert_eq!(world.ran(), 2, "nobody would read the third result");
        let records = &world.sim.records;
        assert_eq!(records.ended().turns, 3);
        assert_eq!(records.ended().outcome, Outcome::Internal);
        let errors: Vec<_> = records
            .tools()
            .iter()
            .map(|it| it.error.is_some())
            .collect();
        assert_eq!(errors, [false, false, true], "the call not run is recorded");
        world.close();
    }
}

#[test]
fn sixteen_turns_are_the_limit_by_default() {
    let turns: Vec<_> = (0..16).map(adds).collect();
    let mut world = World::adding(Api::Messages, true, &turns);
    let answer = world.sim.ask(&ask(Api::Messages, true));
    assert_failed(Api::Messages, true, &answer, "16 turns");
    world.close();
}

#[test]
fn the_time_limit_ends_the_loop_wherever_it_stands() {
    let hang = |_: &str, _: &Value| Ran::Reply(Box::new(Reply::stall()));
    for (api, streaming) in forms() {
        let mut config = config();
        config.tools.whole = Duration::from_secs(30);
        let minute = Duration::from_secs(60);
        let last = says("3.").reply(api, streaming, 1);
        let most = last.bytes().len() - 20;
        // While a tool runs; while upstream thinks; while it speaks.
        let late = [
            (vec![adds(0).reply(api, streaming, 0)], true),
            (
                vec![adds(0).reply(api, streaming, 0), last.clone().after(minute)],
                false,
            ),
            (
                vec![adds(0).reply(api, streaming, 0), last.stall_at(most)],
                false,
            ),
        ];
        for (replies, hangs) in late {
            let server = if hangs {
                tool_server(TOOLS, hang)
            } else {
                tool_server(TOOLS, add)
            };
            let mut world = World::of(config.clone(), Script::in_order(replies), server);
            let began = world.sim.now;
            let answer = world.sim.ask(&ask(api, streaming));
            assert_failed(api, streaming, &answer, "longer than 30s");
            assert_eq!(world.sim.now.since(began), Duration::from_secs(30));
            let records = &world.sim.records;
            assert_eq!(records.ended().outcome, Outcome::Timeout);
            assert_eq!(records.tools().len(), 1, "{api:?} {hangs}: {records:?}");
            assert_eq!(records.tools()[0].error.is_some(), hangs);
            assert_eq!(
                world.heard("notifications/cancelled").len(),
                usize::from(hangs)
            );
            world.close();
        }
    }
}

/// The limit is one of loops: a long reply is no loop because tools are on offer.
#[test]
fn the_time_limit_is_not_one_of_replies_that_call_nothing() {
    for (api, streaming) in forms() {
        let mut config = config();
        config.tools.whole = Duration::from_secs(30);
        let reply = Turn::new().says(&["a", "b", "c", "d"]);
        let reply = reply
            .reply(api, streaming, 0)
            .after(Duration::from_secs(20));
        let script = Script::in_order([reply.pausing(Duration::from_secs(20))]);
        let mut world = World::of(config, script, tool_server(TOOLS, add));
        let answer = world.sim.ask(&ask(api, streaming));
        assert_eq!(read(api, streaming, &answer).text, "abcd");
        world.close();
    }
}

/// Defect 6: whatever becomes of a continuation, the tools of the turn before it are not run again.
#[test]
fn defect_06_tools_run_once_though_the_continuation_ends_early() {
    for (api, streaming) in forms() {
        let whole = says("It is three.").reply(api, streaming, 1);
        let half = whole.bytes().len() - 60;
        for (what, second) in [
            ("reset", vec![whole.clone().reset_at(half)]),
            ("early end", vec![whole.clone().end_at(half)]),
            // Once more, since the connection was an idle one.
            ("no head", vec![Reply::reset(), Reply::reset()]),
            ("error", vec![Reply::status(500)]),
            ("nothing said", vec![Turn::new().reply(api, streaming, 1)]),
        ] {
            let replies = [vec![adds(0).reply(api, streaming, 0)], second].concat();
            let mut world = World::new(replies, TOOLS, add);
            let answer = world.sim.ask(&ask(api, streaming));
            assert_eq!(world.ran(), 1, "{api:?} {streaming} {what}");
            assert_eq!(world.sim.records.tools().len(), 1);
            assert!(!answer.text().contains("bmcp_"), "{what}");
            let outcome = world.sim.records.ended().outcome;
            assert_eq!(outcome == Outcome::Ok, what == "nothing said", "{what}");
            if streaming && what != "early end" && what != "reset" && answer.status == 200 {
                let reply = grammar::stream(api, &answer.body);
                assert!(
                    reply.is_ok(),
                    "{api:?} {what}: {reply:?}\n{}",
                    answer.text()
                );
            }
            world.close();
        }
    }
}

/// What cannot be followed ends the loop with an error that says so, on the wire and in the
/// records.
#[test]
fn a_later_turn_that_cannot_be_followed_is_an_error() {
    for api in [Api::Messages, Api::ChatCompletions] {
        let whole = says("3.");
        let encoded = whole.reply(api, true, 1).header("content-encoding", "gzip");
        for (second, why) in [
            (whole.reply(api, false, 1), "no stream"),
            (encoded, "encoded"),
        ] {
            let replies = [adds(0).reply(api, true, 0), second];
            let mut world = World::new(replies, TOOLS, add);
            let answer = world.sim.ask(&ask(api, true));
            assert_failed(api, true, &answer, why);
            assert_eq!(world.sim.records.ended().outcome, Outcome::Internal);
            world.close();
        }
    }
}

/// What is encoded cannot be looked into: it might show the client a call of an injected tool.
#[test]
fn an_encoded_reply_is_an_error_in_any_turn_and_at_once() {
    for ((api, streaming), nth) in forms().flat_map(|form| [(form, 0), (form, 1)]) {
        let last = adds(nth).reply(api, streaming, nth);
        let last = last.header("content-encoding", "gzip");
        let half = last.bytes().len() - 20;
        for (stalls, last) in [(false, last.clone()), (true, last.stall_at(half))] {
            let before = (0..nth).map(|nth| adds(nth).reply(api, streaming, nth));
            let mut world = World::new(before.chain([last]), TOOLS, add);
            let began = world.sim.now;
            let answer = world.sim.ask(&ask(api, streaming));
            assert_eq!(world.sim.now, began, "{api:?} {streaming} {nth}");
            assert!(!stalls || world.sim.open_connections() == 0, "given up");
            let has_begun = streaming && nth > 0;
            assert_failed(api, has_begun, &answer, "upstream's reply is encoded");
            assert!(!answer.text().contains("bmcp_"), "{}", answer.text());
            assert_eq!(answer.header("content-encoding"), None);
            let ended = world.sim.records.ended();
            assert_eq!(ended.outcome, Outcome::Internal);
            assert_eq!(ended.status, Some(answer.status));
            assert_eq!(world.ran(), nth);
            world.close();
        }
    }
}

#[test]
fn a_reply_that_is_encoded_as_itself_is_read() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("3.")];
        let replies = model::replies(api, streaming, &turns);
        let replies = replies.map(|it| it.header("content-encoding", "Identity"));
        let mut world = World::new(replies, TOOLS, add);
        assert_eq!(world.hear(api, streaming).text, "3.");
        world.close();
    }
}

#[test]
fn an_upstream_that_falls_silent_in_a_later_turn_is_given_up() {
    for (api, streaming) in forms() {
        let last = says("It is three.").reply(api, streaming, 1);
        let most = last.bytes().len() - 20;
        for second in [Reply::stall(), last.stall_at(most)] {
            let replies = [adds(0).reply(api, streaming, 0), second];
            let mut config = config();
            config.timeouts.header = Duration::from_secs(20);
            config.timeouts.header_blocking = Duration::from_secs(20);
            config.timeouts.idle = Duration::from_secs(20);
            let server = tool_server(TOOLS, add);
            let mut world = World::of(config, Script::in_order(replies), server);
            let began = world.sim.now;
            let answer = world.sim.ask(&ask(api, streaming));
            assert_eq!(world.sim.now.since(began), Duration::from_secs(20));
            let form = format!("{api:?} {streaming}: {}", answer.text());
            if streams_at_once(api, streaming) {
                let reply = grammar::stream(api, &answer.body).unwrap();
                let error = reply.error.unwrap_or_else(|| panic!("no error: {form}"));
                assert_eq!(error["error"]["type"], "timeout_error", "{form}");
            } else {
                assert_eq!(
                    (answer.status, &*answer.error_type()),
                    (504, "timeout_error")
                );
            }
            let ended = world.sim.records.ended();
            assert_eq!(
                (ended.outcome, ended.turns),
                (Outcome::Timeout, 2),
                "{form}"
            );
            assert_eq!(world.ran(), 1);
            world.close();
        }
    }
}

/// What tools return is sent to upstream with the request, and takes as much memory.
#[test]
fn what_a_loop_adds_to_a_request_is_counted_while_it_is_held() {
    const LEN: usize = 100 << 10;
    for (api, streaming) in forms() {
        let turns = [adds(0), says("done")];
        let replies =
            model::replies(api, streaming, &turns).map(|reply| reply.after(Duration::from_secs(1)));
        let mut world = World::new(replies, TOOLS, |_, _| Ran::Text("x".repeat(LEN)));
        let client = world.sim.connect();
        world.sim.send(client, ask(api, streaming).bytes());
        world.sim.settle();
        let before = world.sim.bridge.load().buffered;
        assert!(before < LEN as u64, "{api:?} {streaming}: {before}");

        world.sim.advance(Duration::from_millis(1500));
        assert_eq!(world.ran(), 1);
        let held = world.sim.bridge.load().buffered;
        assert!(held > LEN as u64, "{api:?} {streaming}: {held}");
        assert_eq!(world.sim.take_answer(client).status, 200);
        assert_eq!(world.sim.bridge.load().buffered, 0);
        world.close();
    }
}
