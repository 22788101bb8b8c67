//! The agentic loop on the wire: what upstream is asked, which calls are run, and what the client reads, in all APIs,
//! blocking and streaming. Every stream is read by its API's grammar.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aibridge_core::{
    Duration,
    api::Api,
    record::{Outcome, Record},
};
use aibridge_testkit::{Ask, Cut, Ran, Reply, Script, Turn, grammar, model, tool_server};
use desk::{
    ADD, TOOLS, World, add, adds, as_told, ask, config, forms, json, list, read, results, says,
    streams_at_once, tokens,
};
use proptest::prelude::*;
use serde_json::{Value, json};

mod desk;

// --- which calls are run ------------------------------------------------------------------------------------------

#[test]
fn two_calls_of_one_tool_in_one_turn_each_get_their_own_result() {
    for (api, streaming) in forms() {
        let both = Turn::new()
            .calls("call_a", ADD, r#"{"a":1,"b":2}"#)
            .calls("call_b", ADD, r#"{"a":30,"b":40}"#);
        // The first takes longer: results stand in the order of the calls nevertheless.
        let run = |_: &str, arguments: &Value| {
            let sum = arguments["a"].as_i64().unwrap() + arguments["b"].as_i64().unwrap();
            let result = json!({"content": [{"type": "text", "text": sum.to_string()}]});
            Ran::Late(Duration::from_secs(if sum == 3 { 5 } else { 1 }), result)
        };
        let replies: Vec<_> = model::replies(api, streaming, &[both, says("Done.")]).collect();
        let mut world = World::new(replies, TOOLS, run);
        let began = world.sim.now;
        assert_eq!(world.hear(api, streaming).text, "Done.");
        assert_eq!(
            world.sim.now.since(began),
            Duration::from_secs(5),
            "both run at once"
        );
        let told = results(api, &world.bodies()[1]);
        let told: Vec<_> = told.iter().map(|it| (&*it.id, &it.content)).collect();
        let (first, second) = (as_told(api, "3"), as_told(api, "70"));
        assert_eq!(told, [("call_a", &first), ("call_b", &second)], "{api:?}");
        world.close();
    }
}

#[test]
fn of_mixed_calls_the_client_gets_its_own_and_nothing_is_run() {
    for (api, streaming) in forms() {
        let mixed = Turn::new()
            .says(&["I need both."])
            .calls("call_a", ADD, "{}")
            .calls("call_own", "own_tool", r#"{"n":1}"#)
            .calls("call_b", ADD, "{}");
        let mut world = World::adding(api, streaming, &[mixed]);
        let reply = world.hear(api, streaming);
        assert_eq!(reply.text, "I need both.");
        let calls: Vec<_> = reply.calls.iter().map(|it| (&*it.id, &*it.name)).collect();
        assert_eq!(calls, [("call_own", "own_tool")], "{api:?} {streaming}");
        assert_eq!(reply.calls[0].arguments, r#"{"n":1}"#);
        assert_eq!(world.ran(), 0);

        let records = &world.sim.records;
        let not_run: Vec<_> = records
            .tools()
            .iter()
            .filter(|tool| tool.injected)
            .map(|tool| (tool.call.id.clone(), tool.error.is_some()))
            .collect();
        let expected = [("call_a".to_owned(), true), ("call_b".to_owned(), true)];
        assert_eq!(not_run, expected);
        let warned = |record: &&Record| matches!(record, Record::Warning(..));
        assert_eq!(records.0.iter().filter(warned).count(), 1, "{records:?}");
        assert_eq!(records.ended().outcome, Outcome::Ok);
        world.close();
    }
}

#[test]
fn a_truncated_call_is_not_run() {
    for (api, streaming) in forms() {
        let cut = Turn::new()
            .says(&["Adding"])
            .calls("call_a", ADD, r#"{"a":1}"#)
            .truncated();
        let mut world = World::adding(api, streaming, &[cut]);
        let reply = world.hear(api, streaming);
        assert_eq!((&*reply.text, reply.calls.len()), ("Adding", 0));
        let stop = match api {
            Api::ChatCompletions => "length",
            Api::Messages => "max_tokens",
            Api::Responses => "incomplete",
        };
        assert_eq!(reply.stop, stop);
        assert_eq!(world.ran(), 0);
        let tools = world.sim.records.tools();
        assert_eq!(tools.len(), 1);
        assert!(tools[0].error.is_some(), "{tools:?}");
        world.close();
    }
}

#[test]
fn a_call_whose_arguments_are_no_object_is_not_run() {
    // Blocking messages have their arguments as JSON already.
    for (api, streaming) in forms().filter(|form| *form != (Api::Messages, false)) {
        for arguments in [r#"{"a":1"#, "[1]", r#"{"a":1}}"#] {
            let turn = says("Hm.").calls("call_a", ADD, arguments);
            let mut world = World::adding(api, streaming, &[turn]);
            let reply = world.hear(api, streaming);
            assert_eq!((&*reply.text, reply.calls.len()), ("Hm.", 0));
            assert_eq!(world.ran(), 0, "{api:?} {arguments}");
            world.close();
        }
    }
}

#[test]
fn a_call_without_arguments_is_one_with_none() {
    for (api, streaming) in forms().filter(|form| *form != (Api::Messages, false)) {
        let turn = Turn::new().calls("call_a", ADD, "");
        let mut world = World::adding(api, streaming, &[turn, says("0.")]);
        world.hear(api, streaming);
        assert_eq!(world.heard("tools/call")[0]["params"]["arguments"], json!({}));
        world.close();
    }
}

#[test]
fn a_call_needs_no_text_before_it_and_may_have_some() {
    for (api, streaming) in forms() {
        let first = [adds(0), says("Let me add.").calls("call_0", ADD, "{}")];
        for (turn, before) in first.into_iter().zip(["", "Let me add."]) {
            let mut world = World::adding(api, streaming, &[turn, says(" It is 3.")]);
            let reply = world.hear(api, streaming);
            // Text of turns before the last: in messages always, in chat where it streamed.
            let is_seen = api == Api::Messages || streams_at_once(api, streaming);
            let before = if is_seen { before } else { "" };
            assert_eq!(reply.text, format!("{before} It is 3."), "{api:?}");
            assert_eq!(world.ran(), 1);
            world.close();
        }
    }
}

#[test]
fn chat_calls_may_be_counted_from_more_than_zero() {
    for index in [0, 1, 5] {
        let turn = Turn::new()
            .calls("call_a", ADD, r#"{"a":1,"b":1}"#)
            .calls("call_b", ADD, r#"{"a":2,"b":2}"#)
            .first_call_index(index);
        let mut world = World::adding(Api::ChatCompletions, true, &[turn, says("2 and 4.")]);
        let reply = world.hear(Api::ChatCompletions, true);
        assert_eq!(reply.text, "2 and 4.");
        let told = results(Api::ChatCompletions, &world.bodies()[1]);
        let told: Vec<_> = told.iter().map(|it| (&*it.id, &it.content)).collect();
        assert_eq!(told, [("call_a", &json!("2")), ("call_b", &json!("4"))]);
        world.close();
    }
}

#[test]
fn the_clients_own_tool_of_that_name_wins() {
    for (api, streaming) in forms() {
        let turn = Turn::new().calls("call_a", ADD, r#"{"a":1}"#);
        let mut world = World::adding(api, streaming, &[turn]);
        let tool = match api {
            Api::ChatCompletions => json!({"type": "function", "function": {"name": ADD}}),
            Api::Messages => json!({"name": ADD, "input_schema": {"type": "object"}}),
            Api::Responses => json!({"type": "function", "name": ADD}),
        };
        let body = String::from_utf8(ask(api, streaming).body.to_vec()).unwrap();
        let body = body.replacen('{', &format!(r#"{{"tools":[{tool}],"#), 1);
        let answer = world.sim.ask(&Ask::with_body(api, false, &body));
        let reply = if streaming {
            grammar::stream(api, &answer.body).unwrap()
        } else {
            grammar::body(api, &answer.body).unwrap()
        };
        assert_eq!((&*reply.calls[0].name, reply.calls.len()), (ADD, 1));
        assert_eq!(world.ran(), 0);
        assert_eq!(world.upstream.only_call().body, body, "nothing is injected");
        let warned = world.sim.records.0.iter().any(
            |record| matches!(record, Record::Warning(_, what) if what.contains("the client's own")),
        );
        assert!(warned);
        world.close();
    }
}

/// Defect 14.
#[test]
fn defect_14_tools_of_any_kind_stand_beside_injected_ones() {
    let odd = r#"{"type":"namespace","name":"shell","tools":[]},{"type":"custom","name":"own","format":{"type":"text"}},{"type":"made_up_2031"}"#;
    for (api, streaming) in forms() {
        let mut world = World::adding(api, streaming, &[adds(0), says("3.")]);
        let body = String::from_utf8(ask(api, streaming).body.to_vec()).unwrap();
        let body = body.replacen('{', &format!(r#"{{"tools":[{odd}],"#), 1);
        let answer = world.sim.ask(&Ask::with_body(api, false, &body));
        assert_eq!(read(api, streaming, &answer).text, "3.");
        for call in world.upstream.seen() {
            let sent = String::from_utf8_lossy(&call.body).into_owned();
            assert!(sent.contains(odd), "{api:?}: {sent}");
            assert_eq!(json(&call.body)["tools"].as_array().unwrap().len(), 4);
        }
        world.close();
    }
}

// --- how far it goes ----------------------------------------------------------------------------------------------

/// Defects 4 and 11 over five turns of tools: one reply, indexes without gaps, tokens counted once.
#[test]
fn defect_04_five_turns_in_a_row_make_one_reply() {
    for (api, streaming) in forms() {
        let mut turns: Vec<_> = (0..5)
            .map(|nth| {
                Turn::new()
                    .thinks(&["hm"], "c2ln")
                    .says(&["Step ", &nth.to_string(), ". "])
                    .calls(&format!("call_{nth}"), ADD, r#"{"a":1,"b":2}"#)
                    .counts(100, 7)
            })
            .collect();
        turns.push(says("Done.").counts(500, 11));
        let mut world = World::adding(api, streaming, &turns);
        let reply = world.hear(api, streaming);

        let steps: String = (0..5).map(|nth| format!("Step {nth}. ")).collect();
        let is_seen = api == Api::Messages || streams_at_once(api, streaming);
        let expected = if is_seen { steps + "Done." } else { "Done.".to_owned() };
        assert_eq!(reply.text, expected, "{api:?} {streaming}");
        let (input, output) = tokens(api);
        assert_eq!(
            (reply.usage[input], reply.usage[output]),
            (5 * 100 + 500, 5 * 7 + 11),
            "{api:?} {streaming}"
        );
        let id = match (api, streams_at_once(api, streaming)) {
            (Api::ChatCompletions, true) => "chatcmpl-0",
            (Api::ChatCompletions, false) => "chatcmpl-5",
            (Api::Messages, true) => "msg_0",
            (Api::Messages, false) => "msg_5",
            (Api::Responses, _) => "resp_5",
        };
        assert_eq!(reply.id, id);
        assert_eq!(world.ran(), 5);
        // Each turn's request is the beginning of the next one's.
        let bodies = world.bodies();
        for (nth, body) in bodies.iter().enumerate() {
            let told = results(api, body);
            let ids: Vec<_> = told.iter().map(|it| it.id.clone()).collect();
            let expected: Vec<_> = (0..nth).map(|nth| format!("call_{nth}")).collect();
            assert_eq!(ids, expected, "{api:?}");
        }
        let records = &world.sim.records;
        let ended = records.ended();
        assert_eq!((ended.turns, ended.attempts), (6, 6));
        let usage: Vec<_> = records
            .usage()
            .iter()
            .map(|it| (it.turn, it.usage.input, it.usage.output))
            .collect();
        let expected: Vec<_> = (1..=5).map(|nth| (nth, 100, 7)).chain([(6, 500, 11)]).collect();
        assert_eq!(usage, expected, "{api:?} {streaming}");
        world.close();
    }
}

/// How the client is told that the loop failed: by the stream's own error event, or by a plain reply.
#[track_caller]
fn assert_failed(api: Api, streaming: bool, answer: &aibridge_testkit::Answer, why: &str) {
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
        let errors: Vec<_> = records.tools().iter().map(|it| it.error.is_some()).collect();
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
                vec![
                    adds(0).reply(api, streaming, 0),
                    last.clone().after(minute),
                ],
                false,
            ),
            (
                vec![
                    adds(0).reply(api, streaming, 0),
                    last.stall_at(most),
                ],
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
            assert_eq!(world.heard("notifications/cancelled").len(), usize::from(hangs));
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
        let reply = reply.reply(api, streaming, 0).after(Duration::from_secs(20));
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
                assert!(reply.is_ok(), "{api:?} {what}: {reply:?}\n{}", answer.text());
            }
            world.close();
        }
    }
}

// --- usage --------------------------------------------------------------------------------------------------------

/// Defect 10: a server that repeats its count on every chunk.
#[test]
fn defect_10_a_count_on_every_chunk_counts_once() {
    let api = Api::ChatCompletions;
    let repeat = |stream: String| {
        let lines = stream.split_inclusive("\n\n");
        let mut written = 0;
        let lines = lines.map(|line| {
            written += 1;
            let usage = format!(
                r#""usage":{{"prompt_tokens":50,"completion_tokens":{written},"total_tokens":{}}}"#,
                50 + written
            );
            line.replace(r#""usage":null"#, &usage)
        });
        Reply::sse(lines.collect::<String>())
    };
    let turns = [adds(0).counts(50, 20), Turn::new().says(&["It ", "is ", "3."]).counts(50, 30)];
    let replies = turns.iter().enumerate().map(|(nth, turn)| repeat(turn.stream(api, nth)));
    let mut world = World::new(replies, TOOLS, add);
    let reply = world.hear(api, true);
    assert_eq!((reply.usage["prompt_tokens"], reply.usage["completion_tokens"]), (100, 50));
    let usage: Vec<_> = world.sim.records.usage().iter().map(|it| it.usage.output).collect();
    assert_eq!(usage, [20, 30]);
    world.close();
}

/// Defect 11: `message_delta` replaces what `message_start` said, in each turn.
#[test]
fn defect_11_output_is_not_counted_twice_within_a_turn() {
    let start = |nth| {
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m{nth}\",\"usage\":{{\"input_tokens\":40,\"cache_read_input_tokens\":5,\"output_tokens\":25}}}}}}\n\n"
        )
    };
    let replies = [adds(0).counts(40, 30), says("3.").counts(40, 60)]
        .iter()
        .enumerate()
        .map(|(nth, turn)| {
            let stream = turn.stream(Api::Messages, nth);
            let rest = stream.split_once("\n\n").unwrap().1;
            Reply::sse(start(nth) + rest)
        })
        .collect::<Vec<_>>();
    let mut world = World::new(replies, TOOLS, add);
    let reply = world.hear(Api::Messages, true);
    assert_eq!(reply.usage["output_tokens"], 90);
    assert_eq!(reply.usage["input_tokens"], 80);
    assert_eq!(reply.usage["cache_read_input_tokens"], 10);
    let usage: Vec<_> = world.sim.records.usage().iter().map(|it| (it.usage.output, it.usage.cache_read)).collect();
    assert_eq!(usage, [(30, 5), (60, 5)]);
    world.close();
}

// --- what upstream is asked ---------------------------------------------------------------------------------------

#[test]
fn ten_equal_requests_give_ten_equal_upstream_bodies() {
    let tools: &[&str] = &["zeta", "alpha", "mid", "add", "add_two"];
    for (api, streaming) in forms() {
        let turns = [adds(0), says("3.")];
        let choose = move |seen: &aibridge_testkit::Seen| {
            let nth = usize::from(!results(api, &json(&seen.body)).is_empty());
            turns[nth].reply(api, streaming, nth)
        };
        let server = tool_server(tools, add);
        let mut world = World::of(config(), Script::choosing(choose), server);
        for _ in 0..10 {
            world.hear(api, streaming);
        }
        let bodies: Vec<_> = world.upstream.seen().iter().map(|it| it.body.clone()).collect();
        assert_eq!(bodies.len(), 20);
        for pair in bodies.chunks(2) {
            assert_eq!(pair, &bodies[..2], "{api:?} {streaming}");
        }
        // Tools are on offer in the same words in both turns: prompts stay cached.
        assert_eq!(json(&bodies[0])["tools"], json(&bodies[1])["tools"]);
        assert_eq!(json(&bodies[0])["tools"].as_array().unwrap().len(), 5);
        world.close();
    }
}

/// §3: where tools go, in which form, and how parallel calls are switched off.
#[test]
fn tools_are_offered_in_each_apis_form() {
    let parameters = json!({"type": "object", "properties": {}, "additionalProperties": true});
    for (api, streaming) in forms() {
        let mut world = World::adding(api, streaming, &[says("Hi.")]);
        let own = json!({"type": "web_search", "name": "own"});
        let body = String::from_utf8(ask(api, streaming).body.to_vec()).unwrap();
        let body = body.replacen('{', &format!(r#"{{"odd":1.50,"tools":[{own}],"#), 1);
        world.sim.ask(&Ask::with_body(api, false, &body));
        let seen = world.upstream.only_call().body;
        assert!(String::from_utf8_lossy(&seen).contains(r#""odd":1.50,"#), "bytes stay");
        let sent = json(&seen);
        let (name, description) = (ADD, "What add does");
        let expected = match api {
            Api::ChatCompletions => json!([own, {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, "strict": false}}]),
            Api::Messages => json!([{"name": name, "description": description, "input_schema": parameters, "type": "custom"}, own]),
            Api::Responses => json!([own, {"type": "function", "name": name, "description": description, "parameters": parameters, "strict": false}]),
        };
        assert_eq!(sent["tools"], expected, "{api:?}");
        match api {
            Api::Messages => assert_eq!(
                sent["tool_choice"],
                json!({"type": "auto", "disable_parallel_tool_use": true})
            ),
            _ => assert_eq!(sent["parallel_tool_calls"], false),
        }
        world.close();
    }
}

#[test]
fn the_turn_goes_into_the_history_as_it_came() {
    for (api, streaming) in forms() {
        let first = Turn::new()
            .thinks(&["I must ", "add."], "c2lnbmVk")
            .says(&["Let ", "me."])
            .calls("call_0", ADD, r#"{"a": 1, "b": 2}"#);
        let mut world = World::adding(api, streaming, &[first.clone(), says("3.")]);
        world.hear(api, streaming);
        let bodies = world.bodies();
        let whole: Value = serde_json::from_str(&first.body(api, 0)).unwrap();
        let (before, after) = (&bodies[0][list(api)], &bodies[1][list(api)]);
        let after = after.as_array().unwrap();
        match api {
            Api::ChatCompletions => {
                let mut said = whole["choices"][0]["message"].clone();
                if streaming {
                    // Chunks do not say what is null.
                    said.as_object_mut().unwrap().remove("refusal");
                }
                let told = json!({"role": "tool", "tool_call_id": "call_0", "content": "3"});
                assert_eq!(after[..1], before.as_array().unwrap()[..]);
                assert_eq!(after[1..], [said, told], "{streaming}");
            }
            Api::Messages => {
                let said = json!({"role": "assistant", "content": whole["content"]});
                let result = json!({"type": "tool_result", "tool_use_id": "call_0", "content": [{"type": "text", "text": "3"}]});
                let told = json!({"role": "user", "content": [result]});
                assert_eq!(after[..1], before.as_array().unwrap()[..]);
                assert_eq!(after[1..], [said, told], "{streaming}");
            }
            Api::Responses => {
                // The input was a string.
                let asked = json!({"type": "message", "role": "user", "content": before});
                let told = json!({"type": "function_call_output", "call_id": "call_0", "output": "3"});
                let mut expected = vec![asked];
                expected.extend(whole["output"].as_array().unwrap().iter().cloned());
                expected.push(told);
                assert_eq!(*after, expected, "{streaming}");
            }
        }
        world.close();
    }
}

/// Thoughts are signed over their bytes: how a signature is spelled must not change, not even its escapes.
#[test]
fn signed_thoughts_are_carried_byte_for_byte() {
    let thought = r#"{"type":"thinking","thinking":"a\u00e9\/b \ud83d\ude00","signature":"EqQB\/x+y\u003d="}"#;
    let redacted = r#"{"type":"redacted_thinking","data":"ZW5j\/cnlw"}"#;
    let call = r#"{"type":"tool_use","id":"t1","name":"bmcp_desk_add","input":{"b":2.0,"a":1e0}}"#;
    let body = format!(
        r#"{{"id":"msg_0","type":"message","role":"assistant","content":[{thought},{redacted},{call}],"stop_reason":"tool_use","usage":{{"input_tokens":1,"output_tokens":1}}}}"#
    );
    let events = [
        r#"{"type":"message_start","message":{"id":"msg_0","usage":{"input_tokens":1,"output_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a\u00e9\/b"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" \ud83d\ude00"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB\/x+y\u003d="}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"ZW5j\/cnlw"}}"#,
        r#"{"type":"content_block_stop","index":1}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t1","name":"bmcp_desk_add","input":{}}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"b\":2.0,"}}"#,
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"a\":1e0}"}}"#,
        r#"{"type":"content_block_stop","index":2}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let stream: String = events
        .iter()
        .map(|data| {
            let name = data.split('"').nth(3).unwrap();
            format!("event: {name}\ndata: {data}\n\n")
        })
        .collect();
    for (streaming, first) in [(false, Reply::json(200, body)), (true, Reply::sse(stream))] {
        for size in [1, 7, usize::MAX] {
            let second = says("3.").reply(Api::Messages, streaming, 1);
            let first = first.clone().cut(Cut::Every(size));
            let mut world = World::new([first, second], TOOLS, add);
            assert_eq!(world.hear(Api::Messages, streaming).text, "3.");
            let sent = world.upstream.seen()[1].body.clone();
            let sent = String::from_utf8(sent.to_vec()).unwrap();
            let history = format!(
                r#",{{"role":"assistant","content":[{thought},{redacted},{call}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t1","content""#
            );
            assert!(sent.contains(&history), "{streaming} {size}: {sent}");
            world.close();
        }
    }
}

// --- any split ----------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However upstream's bytes are cut on the wire, the client gets the same ones.
    #[test]
    fn how_upstreams_bytes_are_split_changes_nothing(cuts in proptest::collection::vec(1..4000usize, 0..24)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        cuts.dedup();
        for (api, streaming) in forms() {
            let turns = [
                Turn::new().thinks(&["h\u{e9}", "m"], "c2ln").says(&["One ", "\u{1f600}"]).calls("call_0", ADD, r#"{"a":1,"b":2}"#),
                says(" two ").calls("call_1", ADD, r#"{"a":3,"b":4}"#).calls("call_2", ADD, r#"{"a":5,"b":6}"#),
                Turn::new().says(&[" and", " three."]),
            ];
            let play = |cut: &Cut| {
                let replies = model::replies(api, streaming, &turns).map(|it| it.cut(cut.clone()));
                let mut world = World::new(replies.collect::<Vec<_>>(), TOOLS, add);
                let answer = world.sim.ask(&ask(api, streaming));
                let reply = read(api, streaming, &answer);
                let sent: Vec<_> = world.upstream.seen().iter().map(|it| it.body.clone()).collect();
                world.close();
                (answer.body, reply, sent)
            };
            let whole = play(&Cut::None);
            let split = play(&Cut::At(cuts.clone()));
            prop_assert_eq!(&whole.0, &split.0);
            prop_assert_eq!(&whole.1, &split.1);
            prop_assert_eq!(&whole.2, &split.2);
            prop_assert!(whole.1.text.ends_with(" and three."));
        }
    }
}
