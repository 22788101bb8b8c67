//! The agentic loop on the wire: what upstream is asked, which calls are run, and what the client
//! reads, in all APIs, blocking and streaming. Every stream is read by its API's grammar.

use aibridge_core::{
    Duration,
    api::Api,
    record::{Outcome, Record},
};
use aibridge_testkit::{Cut, Ran, Reply, Turn, model};
use desk::{
    ADD, TOOLS, World, add, adds, as_told, ask, forms, read, results, says, streams_at_once, tokens,
};
use proptest::prelude::*;
use serde_json::{Value, json};

mod desk;

// --- which calls are run ------------------------------------------------------------------------------------------

#[test]
fn two_calls_of_one_tool_in_one_turn_each_get_their_own_result() {
    for (api, streaming) in forms() {
        let both = Turn::new().calls("call_a", ADD, r#"{"a":1,"b":2}"#).calls(
            "call_b",
            ADD,
            r#"{"a":30,"b":40}"#,
        );
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

/// One malformed call does not keep its neighbour from being run; the model is told, and may mend
/// it.
#[test]
fn of_two_calls_of_which_one_is_malformed_the_other_is_run() {
    for (api, streaming) in forms() {
        let turn = adds(0).calls("call_b", ADD, "[1]");
        let mut world = World::adding(api, streaming, &[turn, says("3.")]);
        assert_eq!(world.hear(api, streaming).text, "3.");
        assert_eq!(world.ran(), 1);
        let bodies = world.bodies();
        let told = results(api, &bodies[1]);
        let why = "Error: calling tool: the arguments are not a JSON object";
        assert_eq!(told[0].content, as_told(api, "3"));
        assert_eq!(told[1].content, as_told(api, why));
        assert_eq!((&*told[1].id, told[1].is_error), ("call_b", true));
        if api == Api::Messages {
            let assistant = &bodies[1]["messages"].as_array().unwrap()[1];
            assert_eq!(assistant["content"][1]["input"], json!({}));
        }
        let records = world.sim.records.tools();
        let failed = records.iter().find(|it| it.call.id == "call_b").unwrap();
        assert_eq!(
            failed.error.as_deref(),
            why.strip_prefix("Error: calling tool: ")
        );
        assert_eq!(failed.call.arguments, "[1]");
        world.close();
    }
}

#[test]
fn a_call_without_arguments_is_one_with_none() {
    for (api, streaming) in forms().filter(|form| *form != (Api::Messages, false)) {
        let turn = Turn::new().calls("call_a", ADD, "");
        let mut world = World::adding(api, streaming, &[turn, says("0.")]);
        world.hear(api, streaming);
        assert_eq!(
            world.heard("tools/call")[0]["params"]["arguments"],
            json!({})
        );
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

        let steps = "Step 0. Step 1. Step 2. Step 3. Step 4. ";
        let is_seen = api == Api::Messages || streams_at_once(api, streaming);
        let expected = if is_seen {
            steps.to_owned() + "Done."
        } else {
            "Done.".to_owned()
        };
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
        let expected: Vec<_> = (1..=5)
            .map(|nth| (nth, 100, 7))
            .chain([(6, 500, 11)])
            .collect();
        assert_eq!(usage, expected, "{api:?} {streaming}");
        world.close();
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
    let turns = [
        adds(0).counts(50, 20),
        Turn::new().says(&["It ", "is ", "3."]).counts(50, 30),
    ];
    let replies = turns
        .iter()
        .enumerate()
        .map(|(nth, turn)| repeat(turn.stream(api, nth)));
    let mut world = World::new(replies, TOOLS, add);
    let reply = world.hear(api, true);
    assert_eq!(
        (
            reply.usage["prompt_tokens"],
            reply.usage["completion_tokens"]
        ),
        (100, 50)
    );
    let usage: Vec<_> = world
        .sim
        .records
        .usage()
        .iter()
        .map(|it| it.usage.output)
        .collect();
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
    let usage: Vec<_> = world
        .sim
        .records
        .usage()
        .iter()
        .map(|it| (it.usage.output, it.usage.cache_read))
        .collect();
    assert_eq!(usage, [(30, 5), (60, 5)]);
    world.close();
}

// --- any split ----------------------------------------------------------------------------------------------------

/// Conversations that end in every way a loop can end.
fn conversations() -> [Vec<Turn>; 5] {
    let call = |turn: Turn, id| turn.calls(id, ADD, r#"{"a":1,"b":2}"#);
    let first = Turn::new()
        .thinks(&["h\u{e9}", "m"], "c2ln")
        .says(&["One ", "\u{1f600}"]);
    let first = call(first, "call_0");
    let own = says(" yours").calls("call_own", "own_tool", "{}");
    let both = call(call(says(" two "), "call_1"), "call_2");
    let last = Turn::new().says(&[" and", " three."]);
    [
        vec![last.clone()],
        vec![first.clone(), both, last],
        vec![first.clone(), own.clone()],
        vec![first.clone(), call(own, "call_3")],
        vec![first.clone(), first.truncated()],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However upstream's bytes are cut on the wire, the client gets the same ones, and upstream
    /// too.
    #[test]
    fn how_upstreams_bytes_are_split_changes_nothing(cuts in proptest::collection::btree_set(1..4000usize, 0..24)) {
        let cuts = Cut::At(cuts.into_iter().collect());
        for (api, streaming) in forms() {
            for turns in conversations() {
                let play = |cut: &Cut| {
                    let replies: Vec<_> = model::replies(api, streaming, &turns).map(|it| it.cut(cut.clone())).collect();
                    let mut world = World::new(replies, TOOLS, add);
                    let answer = world.sim.ask(&ask(api, streaming));
                    let reply = read(api, streaming, &answer);
                    let sent: Vec<_> = world.upstream.seen().into_iter().map(|it| it.body).collect();
                    world.close();
                    (answer.body, reply, sent)
                };
                let (whole, split) = (play(&Cut::None), play(&cuts));
                prop_assert_eq!(&whole, &split);
                prop_assert_eq!(whole.2.len(), turns.len());
            }
        }
    }
}
