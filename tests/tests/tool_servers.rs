//! MCP servers as the bridge lives with them: down and up again, sessions that are lost, lists that
//! are long, odd or change.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use aibridge_core::{
    Duration, Instant, Target,
    api::Api,
    mcp::{Pattern, Server, ServerState},
    record::Record,
};
use aibridge_testkit::{
    Ran, Reply, Script, Seen, Sim, ToolServer, Turn, model, setup, tool_server,
    tool_server::described, tools_origin,
};
use desk::{ADD, TOOLS, World, add, adds, as_told, ask, config, forms, json, read, results, says};
use serde_json::{Value, json};

mod desk;

const SECOND: Duration = Duration::from_secs(1);

/// When the server is tried again; `None` while it is not down.
fn retry_at(sim: &Sim) -> Option<Instant> {
    match &sim.bridge.tool_servers()[0].state {
        ServerState::Down { retry_at, .. } => Some(*retry_at),
        ServerState::Connecting | ServerState::Up => None,
    }
}

/// The names that models see.
fn offered(sim: &Sim) -> Vec<String> {
    let servers = sim.bridge.tool_servers();
    let names = servers.iter().flat_map(|server| &server.offered);
    names.map(|(name, _)| name.to_string()).collect()
}

/// How often the log was told that the server is up, and down.
fn told(sim: &Sim) -> (usize, usize) {
    let told = |is_down: bool| {
        let is_it = |record: &&Record| matches!(record, Record::ToolServer(it) if it.down.is_some() == is_down);
        sim.records.0.iter().filter(is_it).count()
    };
    (told(false), told(true))
}

/// What the log was told is not offered.
fn left_out(sim: &Sim) -> Vec<String> {
    let told = sim.records.0.iter().filter_map(|record| match record {
        Record::ToolServer(it) => Some(&it.left_out),
        _ => None,
    });
    told.flatten().cloned().collect()
}

// --- down and up --------------------------------------------------------------------------------------------------

#[test]
fn a_server_that_is_down_at_start_is_done_without_until_it_is_up() {
    for (api, streaming) in forms() {
        let turns = [says("Alone."), adds(0), says("3.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let server = tool_server(TOOLS, add);
        server.set_down(true);
        let mut world = World::of(config(), Script::in_order(replies), server);
        assert!(retry_at(&world.sim).is_some());
        assert_eq!(offered(&world.sim), [""; 0]);

        let question = ask(api, streaming);
        let answer = world.sim.ask(&question);
        assert_eq!(read(api, streaming, &answer).text, "Alone.");
        let sent = world.upstream.seen()[0].body.clone();
        assert_eq!(sent, question.body, "nothing is put into the request");

        world.server.set_down(false);
        assert!(
            world
                .sim
                .run_until(SECOND * 2, |sim| retry_at(sim).is_none())
        );
        assert_eq!(offered(&world.sim), [ADD]);
        assert_eq!(world.sim.bridge.tool_servers()[0].state, ServerState::Up);
        assert_eq!(told(&world.sim), (1, 1), "up once, down once");
        assert_eq!(world.hear(api, streaming).text.trim(), "3.");
        assert_eq!(world.ran(), 1);
        world.close();
    }
}

#[test]
fn a_server_that_stays_down_is_tried_ever_more_slowly() {
    let server = tool_server(TOOLS, add);
    server.set_down(true);
    let mut world = World::of(config(), Script::in_order([]), server);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let at = retry_at(&world.sim).expect("it is down");
        waits.push(at.since(world.sim.now).as_millis());
        world
            .sim
            .run_until(SECOND * 61, |sim| retry_at(sim) != Some(at));
    }
    for (nth, wait) in waits.iter().enumerate() {
        let most = (1000 << nth.min(16)).min(60_000);
        assert!((most * 3 / 4..=most).contains(wait), "{waits:?}");
    }
    assert_eq!(told(&world.sim), (0, 1), "that it is still down is no news");
    // However long it was down, a minute is the most that it is missed for.
    world.server.set_down(false);
    assert!(
        world
            .sim
            .run_until(SECOND * 60, |sim| retry_at(sim).is_none())
    );
    world.close();
}

/// While no tool is on offer, not even the Responses API waits for the end of a turn.
#[test]
fn without_tools_a_responses_stream_is_not_held() {
    let turn = Turn::new().says(&["One ", "two"]);
    let reply = turn.reply(Api::Responses, true, 0).confirming();
    let server = tool_server(TOOLS, add);
    server.set_down(true);
    let mut world = World::of(config(), Script::in_order([reply]), server);
    let client = world.sim.connect();
    world.sim.send(client, ask(Api::Responses, true).bytes());
    world.sim.settle();
    let answer = world.sim.answer(client).expect("a head");
    assert!(answer.text().contains("response.created"));
    world.upstream.abandon();
    world.server.abandon();
}

/// A server that goes down keeps its tools on offer: the model is told what is wrong, and prompts
/// stay cached.
#[test]
fn a_server_that_goes_down_later_is_told_of_and_comes_back() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("No luck."), adds(1), says("3.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let mut world = World::new(replies, TOOLS, add);
        world.server.set_down(true);
        assert_eq!(world.hear(api, streaming).text.trim(), "No luck.");
        let bodies = world.bodies();
        let why = "Error: calling tool: connection refused";
        assert_eq!(results(api, &bodies[1])[0].content, as_told(api, why));
        assert_eq!(
            world.sim.records.tools()[0].error.as_deref(),
            Some("connection refused")
        );
        // The failed call makes its keeper look, long before it would anyway.
        let is_down = |sim: &Sim| retry_at(sim).is_some();
        assert!(world.sim.run_until(SECOND * 3, is_down), "{api:?}");
        let server = &world.sim.bridge.tool_servers()[0];
        let ServerState::Down { why, retry_at: at } = &server.state else {
            panic!("{:?}", server.state)
        };
        assert_eq!(why.to_string(), "connection refused");
        assert!(at.since(world.sim.now) <= SECOND);
        assert_eq!(offered(&world.sim), [ADD], "a prompt that stays is cached");
        world.server.set_down(false);
        assert!(world.sim.run_until(SECOND * 3, |sim| !is_down(sim)));
        assert_eq!(world.sim.bridge.tool_servers()[0].state, ServerState::Up);
        assert_eq!(told(&world.sim), (2, 1), "up, down, and up again");
        assert_eq!(world.hear(api, streaming).text.trim(), "3.");
        assert_eq!(world.bodies()[2]["tools"], bodies[0]["tools"]);
        world.close();
    }
}

/// A tool that the server says it does not have: its list is read again, once, however many calls
/// say so.
#[test]
fn an_unknown_tool_makes_the_list_be_read_again() {
    let python =
        json!({"content": [{"type": "text", "text": "Unknown tool: add"}], "isError": true});
    let typescript = "Tool add not found";
    for ran in [Ran::Result(python), Ran::Error(-32602, typescript)] {
        let (api, streaming) = (Api::Messages, true);
        let thrice = adds(0).calls("b", ADD, "{}").calls("c", ADD, "{}");
        let replies: Vec<_> = model::replies(api, streaming, &[thrice, says("No.")]).collect();
        let mut world = World::new(replies, TOOLS, move |_, _| ran.clone());
        assert_eq!(world.heard("tools/list").len(), 1);
        world.hear(api, streaming);
        world.sim.advance(SECOND * 10);
        assert_eq!(world.heard("tools/list").len(), 2);
        assert_eq!(world.sim.bridge.tool_servers()[0].state, ServerState::Up);
        world.close();
    }
}

/// A tool that fails by itself says nothing of its server.
#[test]
fn a_tools_own_failure_does_not_make_the_list_be_read_again() {
    let (api, streaming) = (Api::Messages, true);
    let replies: Vec<_> = model::replies(api, streaming, &[adds(0), says("No.")]).collect();
    let result = json!({"content": [{"type": "text", "text": "No such city."}], "isError": true});
    let mut world = World::new(replies, TOOLS, move |_, _| Ran::Result(result.clone()));
    world.hear(api, streaming);
    world.sim.advance(SECOND * 10);
    assert_eq!(world.heard("tools/list").len(), 1);
    world.close();
}

#[test]
fn one_turn_may_use_tools_of_two_servers_of_which_one_fails() {
    let other = Target {
        host: "other.test".into(),
        ..tools_origin()
    };
    for (api, streaming) in forms() {
        let both = adds(0).calls("call_other", "bmcp_lab_add", r#"{"a":5,"b":6}"#);
        let turns = [both, says("Half of it.")];
        let upstream = Script::in_order(model::replies(api, streaming, &turns));
        let mut config = config();
        config
            .mcp
            .push(Arc::new(Server::new("lab", other.clone(), "/x")));
        let fails = |_: &str, _: &Value| Ran::Reply(Box::new(Reply::status(503)));
        let (desk, lab) = (tool_server(TOOLS, fails), tool_server(TOOLS, add));
        let sim = Sim::new(config, &upstream);
        let sim = sim.with_servers([(&tools_origin(), &desk), (&other, &lab)]);
        let mut world = World {
            sim,
            upstream,
            server: desk,
        };
        assert_eq!(
            offered(&world.sim),
            [ADD, "bmcp_lab_add"],
            "in configured order"
        );
        world.hear(api, streaming);
        let told = results(api, &world.bodies()[1]);
        assert!(told[0].is_error && told[0].content.to_string().contains("503"));
        assert_eq!(told[1].content, as_told(api, "11"));
        let servers: Vec<_> = world
            .sim
            .records
            .tools()
            .iter()
            .map(|it| (it.call.id.clone(), it.server.as_deref().map(str::to_owned)))
            .collect();
        assert!(servers.contains(&("call_0".to_owned(), Some("desk".to_owned()))));
        assert!(servers.contains(&("call_other".to_owned(), Some("lab".to_owned()))));
        world.close();
        lab.abandon();
    }
}

// --- sessions -----------------------------------------------------------------------------------------------------

/// How servers say that they have forgotten a session: the status, and the code of a JSON-RPC error
/// where there is one. With a 400, "unknown method" and "invalid parameters" are what they say.
const FORGOTTEN: [(u16, Option<i64>); 12] = [
    (404, None),
    (404, Some(-32000)),
    (404, Some(-32001)),
    (404, Some(-32600)),
    (404, Some(-32601)),
    (404, Some(-32602)),
    (404, Some(-32603)),
    (404, Some(-32700)),
    (400, None),
    (400, Some(-32000)),
    (400, Some(-32603)),
    (400, Some(-32700)),
];

/// A server that dies within the first call and comes back with another session.
fn mortal(forgotten: u16, code: Option<i64>) -> (Script, Arc<Mutex<Vec<String>>>) {
    let sessions = Arc::new(Mutex::new(Vec::new()));
    let called_in = Arc::clone(&sessions);
    let mut server = ToolServer::new(TOOLS);
    server.forgotten = forgotten;
    server.forgotten_code = code;
    let script = Script::choosing(move |seen: &Seen| {
        let is_call = !seen.body.is_empty() && json(&seen.body)["method"] == "tools/call";
        if is_call {
            let session = seen.header("mcp-session-id").to_owned();
            called_in.lock().unwrap().push(session);
            if server.session.ends_with('1') {
                "desk-session-2".clone_into(&mut server.session);
                return Reply::reset();
            }
        }
        server.answer(seen, add)
    });
    (script, sessions)
}

#[test]
fn a_server_that_dies_within_a_call_is_used_again_in_a_new_session() {
    for (api, streaming) in forms() {
        for forgotten in FORGOTTEN {
            let turns = [
                adds(0),
                adds(1),
                says("3 at last."),
                adds(2),
                says("3 again."),
            ];
            let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
            let (script, sessions) = mortal(forgotten.0, forgotten.1);
            let mut world = World::of(config(), Script::in_order(replies), script);
            assert_eq!(world.hear(api, streaming).text, "3 at last.");
            let told = results(api, &world.bodies()[2]);
            // What may have run is not run again; what the model asks for next is.
            let lost = as_told(api, "Error: calling tool: connection reset");
            assert_eq!(
                (&told[0].content, &told[1].content),
                (&lost, &as_told(api, "3"))
            );
            assert_eq!(world.hear(api, streaming).text, "3 again.");
            let sessions = sessions.lock().unwrap().clone();
            let (one, two) = ("desk-session-1", "desk-session-2");
            assert_eq!(sessions, [one, one, two, two], "{api:?} {forgotten:?}");
            // The server's keeper goes on in the new session too, where it is not asked to begin a
            // third.
            world.sim.advance(SECOND * 10);
            assert_eq!(world.sim.bridge.tool_servers()[0].state, ServerState::Up);
            assert_eq!(world.heard("initialize").len(), 2, "{api:?} {forgotten:?}");
            world.close();
        }
    }
}

/// A session that another has taken the place of is deleted only when no call can run in it any
/// more, however long a call may take.
#[test]
fn a_session_is_not_deleted_under_a_call() {
    let (api, streaming) = (Api::Messages, true);
    let turns = [adds(0), adds(1), says("3 at last.")];
    let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
    let (script, _) = mortal(404, None);
    let mut config = config();
    config.tools.call = SECOND * 600;
    let mut world = World::of(config, Script::in_order(replies), script);
    world.hear(api, streaming);
    let deleted = |world: &World| {
        let seen = world.server.seen();
        let deleted = seen.iter().filter(|it| it.method == "DELETE");
        let sessions = deleted.map(|it| it.header("mcp-session-id").to_owned());
        sessions.collect::<Vec<_>>()
    };
    world.sim.advance(SECOND * 600);
    assert!(deleted(&world).is_empty());
    world.sim.advance(SECOND * 20);
    assert_eq!(deleted(&world), ["desk-session-1"]);
    world.close();
}

#[test]
fn at_shutdown_loops_go_on_to_their_end_and_then_the_session_is_given_back() {
    let api = Api::Messages;
    let turns = [adds(0), adds(1), says("3.")];
    let replies: Vec<_> = model::replies(api, true, &turns).collect();
    let slow = |_: &str, _: &Value| {
        let result = json!({"content": [{"type": "text", "text": "3"}]});
        Ran::Late(SECOND * 5, result)
    };
    let mut world = World::new(replies, TOOLS, slow);
    let client = world.sim.connect();
    world.sim.send(client, ask(api, true).bytes());
    world.sim.advance(SECOND);
    world.sim.drain();
    let answer = world.sim.take_answer(client);
    assert_eq!(read(api, true, &answer).text, "3.");
    assert_eq!(world.heard("initialize").len(), 1);
    world.sim.take_leave();
    world.sim.settle();
    let seen = world.server.seen();
    let last = seen.last().unwrap();
    assert_eq!(last.method, "DELETE");
    assert_eq!(last.header("mcp-session-id"), "desk-session-1");
    world.close();
}

// --- lists --------------------------------------------------------------------------------------------------------

/// A world whose server has these tools.
fn listing(server: ToolServer, replies: Vec<Reply>) -> World {
    let script = Script::choosing(move |seen: &Seen| server.answer(seen, add));
    World::of(config(), Script::in_order(replies), script)
}

/// Defect 21: a schema reaches the model whole.
#[test]
fn defect_21_schemas_survive_whole() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"amount": {"type": "number", "minimum": 1.5}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/amount"}, "b": {"type": ["string", "null"]}},
        "required": ["a"],
        "additionalProperties": false,
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "x-own": {"kept": true},
    });
    for (api, streaming) in forms() {
        let mut server = ToolServer::new(TOOLS);
        server.tools[0]["inputSchema"] = schema.clone();
        let mut world = listing(server, vec![says("Hi.").reply(api, streaming, 0)]);
        world.hear(api, streaming);
        let tool = &world.bodies()[0]["tools"][0];
        let sent = match api {
            Api::ChatCompletions => &tool["function"]["parameters"],
            Api::Messages => &tool["input_schema"],
            Api::Responses => &tool["parameters"],
        };
        assert_eq!(*sent, schema, "{api:?}");
        world.close();
    }
}

/// §3: an empty `required` is left out; and it is, whatever else the schema has.
#[test]
fn an_empty_list_of_what_is_required_is_left_out() {
    for (api, streaming) in forms() {
        let mut server = ToolServer::new(TOOLS);
        server.tools[0]["inputSchema"]["required"] = json!([]);
        let mut world = listing(server, vec![says("Hi.").reply(api, streaming, 0)]);
        world.hear(api, streaming);
        let tool = world.bodies()[0]["tools"][0].to_string();
        assert!(!tool.contains("required"), "{tool}");
        assert!(tool.contains("additionalProperties"), "{tool}");
        world.close();
    }
}

/// Defect 21: all pages of a list.
#[test]
fn defect_21_all_pages_of_a_list_are_offered() {
    let names: Vec<_> = (0..23).map(|nth| format!("tool_{nth:02}")).collect();
    let mut server = ToolServer::new(&[]);
    server.tools = names.iter().map(|name| described(name)).collect();
    server.page = 5;
    let world = listing(server, vec![]);
    let expected: Vec<_> = names
        .iter()
        .map(|name| format!("bmcp_desk_{name}"))
        .collect();
    assert_eq!(offered(&world.sim), expected);
    assert_eq!(world.heard("tools/list").len(), 5);
    world.close();
}

/// Defect 21: of two tools that come to one name none is offered, and both are told of.
#[test]
fn defect_21_tools_that_come_to_one_name_are_told_of() {
    let long = "x".repeat(80);
    let tools = [
        "add",
        "say hi",
        "say/hi",
        &format!("{long}a"),
        &format!("{long}b"),
    ];
    let world = listing(ToolServer::new(&tools), vec![]);
    assert_eq!(offered(&world.sim), [ADD]);
    let servers = world.sim.bridge.tool_servers();
    let longest = format!("bmcp_desk_{}", "x".repeat(54));
    assert_eq!(longest.len(), 64);
    let clashes = ["bmcp_desk_say_hi".to_owned(), longest.clone()];
    assert_eq!(servers[0].clashes, clashes);
    let both = format!("\"{long}a\" of desk, \"{long}b\" of desk would all be {longest}");
    let hi = "\"say hi\" of desk, \"say/hi\" of desk would all be bmcp_desk_say_hi";
    assert_eq!(left_out(&world.sim), [hi.to_owned(), both]);
    world.close();
}

/// Of what is not offered the log is told once, and again where something comes to it.
#[test]
fn what_is_not_offered_is_told_when_it_changes_and_not_with_every_list() {
    let server = Arc::new(Mutex::new(ToolServer::new(&["add", "say hi", "say/hi"])));
    server
        .lock()
        .unwrap()
        .tools
        .push(json!({"name": "odd", "inputSchema": 7}));
    let shared = Arc::clone(&server);
    let script = Script::choosing(move |seen: &Seen| shared.lock().unwrap().answer(seen, add));
    let mut world = World::of(config(), Script::in_order([]), script);
    let hi = "\"say hi\" of desk, \"say/hi\" of desk would all be bmcp_desk_say_hi";
    let first = left_out(&world.sim);
    assert_eq!(first.len(), 2, "{first:?}");
    assert_eq!(first[0], hi);
    assert!(first[1].starts_with("\"odd\": "), "{first:?}");

    server.lock().unwrap().tools.push(described("more"));
    world.sim.advance(SECOND * 301);
    assert_eq!(offered(&world.sim), [ADD, "bmcp_desk_more"]);
    assert_eq!(left_out(&world.sim), first);

    server.lock().unwrap().tools.push(described("add it"));
    server.lock().unwrap().tools.push(described("add+it"));
    world.sim.advance(SECOND * 301);
    let then = left_out(&world.sim);
    assert_eq!(then.len(), 3, "{then:?}");
    assert!(
        then[2].ends_with("would all be bmcp_desk_add_it"),
        "{then:?}"
    );
    world.close();
}

#[test]
fn names_are_made_fit_for_providers_and_calls_use_the_servers_own() {
    for (api, streaming) in forms() {
        let name = "bmcp_desk_get_weather__v2__";
        let turns = [Turn::new().calls("call_0", name, "{}"), says("Rain.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let own = "get weather.\u{e9}v2!\u{1f600}";
        let run = |_: &str, _: &Value| Ran::Text("rain".to_owned());
        let mut world = World::new(replies, &[own], run);
        assert_eq!(offered(&world.sim), [name]);
        world.hear(api, streaming);
        assert_eq!(world.heard("tools/call")[0]["params"]["name"], own);
        assert_eq!(&*world.sim.records.tools()[0].call.name, name);
        world.close();
    }
}

#[test]
fn only_what_is_allowed_and_not_denied_is_offered() {
    let mut config = setup::config(&setup::KEYS[..1]);
    let mut server = Server::new("desk", tools_origin(), "/mcp");
    server.allow = Some(Pattern::new("^read|^drop").unwrap());
    server.deny = Some(Pattern::new("drop").unwrap());
    config.mcp.push(Arc::new(server));
    let script = tool_server(&["read_it", "drop_it", "write_it"], add);
    let world = World::of(config, Script::in_order([]), script);
    assert_eq!(offered(&world.sim), ["bmcp_desk_read_it"]);
    world.close();
}

/// A server may say within a call's reply that its tools are others now; progress comes before the
/// result as well.
#[test]
fn a_list_that_changes_within_a_call_is_read_again() {
    for (api, streaming) in forms() {
        let turns = [adds(0), says("3."), says("Hi.")];
        let replies: Vec<_> = model::replies(api, streaming, &turns).collect();
        let mut server = ToolServer::new(TOOLS);
        let script = Script::choosing(move |seen: &Seen| {
            let message = if seen.body.is_empty() {
                Value::Null
            } else {
                json(&seen.body)
            };
            if message["method"] != "tools/call" {
                return server.answer(seen, add);
            }
            server.tools.push(described("subtract"));
            let notify = |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": method, "params": params});
            let progress = json!({"progressToken": 1, "progress": 1});
            let result = json!({"content": [{"type": "text", "text": "3"}]});
            let messages = [
                notify("notifications/progress", progress),
                notify("notifications/tools/list_changed", json!({})),
                json!({"jsonrpc": "2.0", "id": message["id"], "result": result}),
            ];
            Reply::sse(
                messages
                    .map(|it| format!("event: message\ndata: {it}\n\n"))
                    .concat(),
            )
        });
        let mut world = World::of(config(), Script::in_order(replies), script);
        assert_eq!(world.hear(api, streaming).text, "3.");
        let bodies = world.bodies();
        assert_eq!(
            bodies[0]["tools"], bodies[1]["tools"],
            "a loop keeps what it began with"
        );
        world.sim.advance(SECOND * 3);
        assert_eq!(offered(&world.sim), [ADD, "bmcp_desk_subtract"]);
        world.hear(api, streaming);
        assert_eq!(world.bodies()[2]["tools"].as_array().unwrap().len(), 2);
        world.close();
    }
}
