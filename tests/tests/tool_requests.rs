//! What upstream is asked in each turn: tools in each API's form, the history as it came, and
//! nothing else changed.

use aibridge_core::{
    api::Api,
    record::{Outcome, Record},
};
use aibridge_testkit::{Cut, Reply, Script, Turn, grammar, model, tool_server};
use desk::{
    ADD, TOOLS, World, add, adds, config, forms, json, list, read, results, says, with_member,
};
use serde_json::{Value, json};

mod desk;

/// A tool of the client's own, by this name.
fn own_tool(api: Api, name: &str) -> Value {
    match api {
        Api::ChatCompletions => json!({"type": "function", "function": {"name": name}}),
        Api::Messages => json!({"name": name, "input_schema": {"type": "object"}}),
        Api::Responses => json!({"type": "function", "name": name}),
    }
}

/// Also where the server has a tool more, which is injected.
#[test]
fn the_clients_own_tool_of_that_name_wins() {
    let servers: [&[&str]; 2] = [TOOLS, &["add", "subtract"]];
    for ((api, streaming), tools) in forms().flat_map(|form| servers.map(|tools| (form, tools))) {
        let turn = Turn::new().calls("call_a", ADD, r#"{"a":1}"#);
        let mut world = World::new(model::replies(api, streaming, &[turn]), tools, add);
        let tool = own_tool(api, ADD);
        let asked = with_member(api, streaming, &format!(r#""tools":[{tool}]"#));
        let answer = world.sim.ask(&asked);
        let reply = if streaming {
            grammar::stream(api, &answer.body).unwrap()
        } else {
            grammar::body(api, &answer.body).unwrap()
        };
        assert_eq!((&*reply.calls[0].name, reply.calls.len()), (ADD, 1));
        assert_eq!(world.ran(), 0);
        let sent = world.upstream.only_call().body;
        assert_eq!(sent == asked.body, tools == TOOLS, "nothing is injected");
        let offered = json(&sent)["tools"].as_array().unwrap().len();
        assert_eq!(offered, tools.len(), "one of them is the client's");
        let records = &world.sim.records;
        let warned = records.0.iter().any(
            |record| matches!(record, Record::Warning(_, what) if what.contains("the client's own")),
        );
        assert!(warned);
        let called = records.tools();
        let called: Vec<_> = called
            .iter()
            .map(|it| (&*it.call.id, it.injected))
            .collect();
        assert_eq!(called, [("call_a", false)], "{api:?} {streaming}");
        world.close();
    }
}

/// Defect 14.
#[test]
fn defect_14_tools_of_any_kind_stand_beside_injected_ones() {
    let odd = r#"{"type":"namespace","name":"shell","tools":[]},{"type":"custom","name":"own","format":{"type":"text"}},{"type":"made_up_2031"}"#;
    for (api, streaming) in forms() {
        let mut world = World::adding(api, streaming, &[adds(0), says("3.")]);
        let asked = with_member(api, streaming, &format!(r#""tools":[{odd}]"#));
        let answer = world.sim.ask(&asked);
        assert_eq!(read(api, streaming, &answer).text, "3.");
        for call in world.upstream.seen() {
            let sent = String::from_utf8_lossy(&call.body).into_owned();
            assert!(sent.contains(odd), "{api:?}: {sent}");
            assert_eq!(json(&call.body)["tools"].as_array().unwrap().len(), 4);
        }
        world.close();
    }
}

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
        let bodies: Vec<_> = world
            .upstream
            .seen()
            .iter()
            .map(|it| it.body.clone())
            .collect();
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
        let asked = with_member(api, streaming, &format!(r#""odd":1.50,"tools":[{own}]"#));
        world.sim.ask(&asked);
        let seen = world.upstream.only_call().body;
        assert!(
            String::from_utf8_lossy(&seen).contains(r#""odd":1.50,"#),
            "bytes stay"
        );
        let sent = json(&seen);
        let (name, description) = (ADD, "What add does");
        let expected = match api {
            Api::ChatCompletions => {
                json!([own, {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, "strict": false}}])
            }
            Api::Messages => {
                json!([{"name": name, "description": description, "input_schema": parameters, "type": "custom"}, own])
            }
            Api::Responses => {
                json!([own, {"type": "function", "name": name, "description": description, "parameters": parameters, "strict": false}])
            }
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
                let told =
                    json!({"type": "function_call_output", "call_id": "call_0", "output": "3"});
                let mut expected = vec![asked];
                expected.extend(whole["output"].as_array().unwrap().iter().cloned());
                expected.push(told);
                assert_eq!(*after, expected, "{streaming}");
            }
        }
        world.close();
    }
}

/// Thoughts are signed over their bytes: how a signature is spelled must not change, not even its
/// escapes.
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
    let event = |data: &&str| {
        let name = data.split('"').nth(3).unwrap();
        ["event: ", name, "\ndata: ", data, "\n\n"].concat()
    };
    let stream: String = events.iter().map(event).collect();
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

/// A client may insist on tools. Where only injected ones can be meant, they are called once and
/// the model is free then; or it would call them in every turn up to the limit.
#[test]
fn a_forced_call_of_an_injected_tool_is_forced_once() {
    let allowed = |mode: &str, named: Value| json!({"mode": mode, "tools": [named]});
    let chat_name = json!({"type": "function", "function": {"name": ADD}});
    let name = json!({"type": "function", "name": ADD});
    let with_type = |mut choice: Value| {
        choice["type"] = json!("allowed_tools");
        choice
    };
    for (api, streaming) in forms() {
        let free = match api {
            Api::Messages => json!({"type": "auto", "disable_parallel_tool_use": true}),
            Api::ChatCompletions | Api::Responses => json!("auto"),
        };
        let forced = match api {
            Api::Messages => vec![
                (json!({"type": "tool", "name": ADD}), free.clone()),
                (json!({"type": "any"}), free),
            ],
            Api::ChatCompletions => vec![
                (chat_name.clone(), free.clone()),
                (json!("required"), free),
                (
                    json!({"type": "allowed_tools", "allowed_tools": allowed("required", chat_name.clone())}),
                    json!({"type": "allowed_tools", "allowed_tools": allowed("auto", chat_name.clone())}),
                ),
            ],
            Api::Responses => vec![
                (name.clone(), free.clone()),
                (json!("required"), free),
                (
                    with_type(allowed("required", name.clone())),
                    with_type(allowed("auto", name.clone())),
                ),
            ],
        };
        for (choice, then) in forced {
            let turns = [adds(0), adds(1), says("3.")];
            let mut world = World::adding(api, streaming, &turns);
            let member = format!(r#""tool_choice":{choice}"#);
            let answer = world.sim.ask(&with_member(api, streaming, &member));
            assert_eq!(read(api, streaming, &answer).text, "3.", "{api:?} {choice}");
            let bodies = world.bodies();
            let kind = |body: &Value| match &body["tool_choice"] {
                Value::Object(choice) => choice.get("type").cloned(),
                choice => Some(choice.clone()),
            };
            let asked = match &choice {
                Value::Object(choice) => choice.get("type").cloned(),
                choice => Some(choice.clone()),
            };
            assert_eq!(kind(&bodies[0]), asked, "{api:?}");
            assert_eq!(bodies[1]["tool_choice"], then, "{api:?} {choice}");
            assert_eq!(bodies[2]["tool_choice"], then, "{api:?} {choice}");
            world.close();
        }
    }
}

/// Where a tool of the client's may be meant, the client waits for a call of it: what it insists on
/// stands.
#[test]
fn a_forced_choice_with_tools_of_the_clients_stands() {
    for (api, streaming) in forms() {
        let own = own_tool(api, "own");
        let choice = match api {
            Api::Messages => json!({"type": "any"}),
            Api::ChatCompletions | Api::Responses => json!("required"),
        };
        let turns = [adds(0), Turn::new().calls("call_own", "own", "{}")];
        let mut world = World::adding(api, streaming, &turns);
        let members = format!(r#""tools":[{own}],"tool_choice":{choice}"#);
        let answer = world.sim.ask(&with_member(api, streaming, &members));
        assert_eq!(read(api, streaming, &answer).calls.len(), 1);
        let bodies = world.bodies();
        assert_eq!(
            bodies[0]["tool_choice"], bodies[1]["tool_choice"],
            "{api:?}"
        );
        world.close();
    }
}

/// A model that is not to call tools is not told otherwise, whoever offers them.
#[test]
fn a_choice_of_no_tools_stays() {
    for (api, streaming) in forms() {
        let none = match api {
            Api::Messages => json!({"type": "none"}),
            Api::ChatCompletions | Api::Responses => json!("none"),
        };
        let mut world = World::adding(api, streaming, &[says("No.")]);
        let member = format!(r#""tool_choice":{none}"#);
        world.sim.ask(&with_member(api, streaming, &member));
        assert_eq!(world.bodies()[0]["tool_choice"], none);
        world.close();
    }
}

/// A `conversation` has the turn's input and output when the turn is over: the next turn only adds
/// the results.
#[test]
fn of_a_conversation_that_the_provider_keeps_only_results_are_sent() {
    let api = Api::Responses;
    for streaming in [false, true] {
        for conversation in [json!("conv_1"), json!({"id": "conv_1"}), Value::Null] {
            let turns = [adds(0), adds(1), says("3.")];
            let mut world = World::adding(api, streaming, &turns);
            let member = format!(r#""conversation":{conversation}"#);
            let answer = world.sim.ask(&with_member(api, streaming, &member));
            assert_eq!(read(api, streaming, &answer).text, "3.");
            let bodies = world.bodies();
            let lengths: Vec<_> = bodies[1..]
                .iter()
                .map(|body| body["input"].as_array().unwrap().len())
                .collect();
            let is_kept = !conversation.is_null();
            assert_eq!(
                lengths,
                if is_kept { [1, 1] } else { [3, 5] },
                "{conversation}"
            );
            let last = results(api, &bodies[2]);
            assert_eq!(last.last().unwrap().id, "call_1");
            assert_eq!(bodies[2]["conversation"], conversation);
            world.close();
        }
    }
}

/// Not the loop's business, but on its way: a background response cannot be followed.
#[test]
fn background_responses_are_refused_with_tools_on_offer_too() {
    let mut world = World::adding(Api::Responses, false, &[]);
    let answer = world
        .sim
        .ask(&with_member(Api::Responses, false, r#""background":true"#));
    assert_eq!(answer.status, 501);
    let message = answer.error_message();
    assert_eq!(message, "background requests are currently not supported");
    assert_eq!(world.sim.records.ended().outcome, Outcome::BadRequest);
    world.close();
}
