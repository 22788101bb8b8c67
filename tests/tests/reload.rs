//! Another configuration in the middle of everything: what runs finishes on what it began with,
//! what begins has the new one.

use std::sync::Arc;

use aibridge_core::{
    Duration, Target,
    api::Api,
    config::{Config, Provider},
    mcp::ServerState,
};
use aibridge_testkit::{
    APIS, Ask, Fixture, Ran, Reply, Script, Sim, model,
    setup::{self, HINTS, KEYS},
    tool_server, tools_origin,
};
use desk::{ADD, TOOLS, World, add, adds, ask, forms, read, results, says};

mod desk;

const SECOND: Duration = Duration::from_secs(1);

fn good() -> Reply {
    Reply::json(200, r#"{"id":"x"}"#)
}

/// Providers with these keys, and no others.
fn keys(keys: &[&str]) -> Config {
    setup::config(keys)
}

fn provider(api: Api) -> &'static str {
    if api == Api::Messages {
        "anthropic"
    } else {
        "openai"
    }
}

fn elsewhere() -> Target {
    Target {
        host: "elsewhere.test".into(),
        port: 80,
        tls: false,
    }
}

/// The first key is limited for a minute at every call.
fn first_is_limited() -> Script {
    Script::choosing(|call| {
        if call.key == KEYS[0] {
            Reply::status(429).retry_after(60)
        } else {
            good()
        }
    })
}

// --- keys ---------------------------------------------------------------------------------------------------------

#[test]
fn keys_that_stay_keep_their_state_in_whatever_order() {
    for api in APIS {
        let script = first_is_limited();
        let mut sim = Sim::new(keys(&KEYS[..2]), &script);
        let provider = provider(api);
        assert_eq!(sim.ask(&Ask::new(api, false)).status, 200);
        assert_eq!(sim.key_states(provider), ["temporary", "valid"]);

        sim.reload(keys(&[KEYS[2], KEYS[0]])).unwrap();
        assert_eq!(sim.key_states(provider), ["valid", "temporary"]);
        assert_eq!(sim.ask(&Ask::new(api, false)).status, 200);
        assert_eq!(script.keys(), [KEYS[0], KEYS[1], KEYS[2]]);

        sim.advance(SECOND * 60);
        assert_eq!(sim.key_states(provider), ["valid", "valid"]);
        script.verify();
    }
}

/// The key of a request that runs may go meanwhile, and others may stand where it stood.
#[test]
fn a_late_report_on_a_key_that_has_gone_hits_no_other() {
    let script = Script::choosing(|call| {
        if call.key == KEYS[0] {
            Reply::status(401).after(SECOND)
        } else {
            good()
        }
    });
    let mut sim = Sim::new(keys(&KEYS[..1]), &script);
    let client = sim.connect();
    sim.send(client, Ask::new(Api::Messages, false).bytes());
    sim.settle();
    sim.reload(keys(&KEYS[1..])).unwrap();
    assert_eq!(sim.take_answer(client).status, 200, "with a key that is");
    assert_eq!(sim.key_states("anthropic"), ["valid", "valid"]);
    script.verify();
}

#[test]
fn a_configuration_that_makes_no_bridge_changes_nothing() {
    let script = first_is_limited();
    let mut sim = Sim::new(keys(&KEYS[..2]), &script);
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    let twice = sim.reload(keys(&[KEYS[2], KEYS[2]])).unwrap_err();
    assert!(
        twice.to_string().contains("provider anthropic"),
        "{twice}: says where"
    );
    assert_eq!(sim.key_states("anthropic"), ["temporary", "valid"]);
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    assert_eq!(script.keys(), [KEYS[0], KEYS[1], KEYS[1]]);
    script.verify();
}

// --- providers ----------------------------------------------------------------------------------------------------

/// Its keys are still there for a failover, and gone afterwards.
#[test]
fn a_request_to_a_provider_that_goes_meanwhile_finishes_as_it_began() {
    for api in APIS {
        let script = Script::choosing(|call| {
            if call.key == KEYS[0] {
                Reply::status(429).after(SECOND)
            } else {
                good().after(SECOND)
            }
        });
        let mut sim = Sim::new(keys(&KEYS[..2]), &script);
        let client = sim.connect();
        sim.send(client, Ask::new(api, false).bytes());
        sim.settle();
        sim.reload(Config::default()).unwrap();
        assert!(
            sim.debug().contains(HINTS[1]),
            "{api:?}: somebody may need it"
        );
        let other = sim.ask(&Ask::new(api, false));
        assert_eq!(other.status, 404, "new requests have no provider");

        assert_eq!(sim.take_answer(client).status, 200);
        assert_eq!(script.keys(), KEYS[..2]);
        sim.end(client); // a connection without a request may know them for as long as it may be idle
        sim.settle();
        let debug = sim.debug();
        for hint in HINTS {
            assert!(!debug.contains(hint), "{api:?}: {hint} is still kept");
        }
        script.verify();
    }
}

#[test]
fn defect_20_a_stream_that_runs_is_not_cut() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(true).pausing(SECOND)]);
        let mut sim = Sim::new(keys(&KEYS[..1]), &script);
        let client = sim.connect();
        sim.send(client, fixture.ask(true).bytes());
        let mut reloads = 0;
        while !sim.answer(client).is_some_and(|it| it.is_complete()) {
            sim.advance(SECOND);
            // In turn: nothing at all, other keys, the first again.
            let next = [Config::default(), keys(&KEYS[1..]), keys(&KEYS[..1])];
            let next = next.into_iter().nth(reloads % 3).unwrap();
            sim.reload(next).unwrap();
            reloads += 1;
        }
        assert!(reloads > 3, "{api:?}: {reloads}");
        assert_eq!(sim.take_answer(client).body, fixture.relayed(true));
        script.verify();
    }
}

/// A key is sent to the origin that it was configured for, and to no other; and what was learnt of
/// it there does not hold elsewhere.
#[test]
fn a_provider_that_moves_takes_its_keys_along() {
    let here = Script::choosing(|_| Reply::status(429).retry_after(60).after(SECOND));
    let there = Script::choosing(|_| good());
    let moved = |keys: &[&str]| setup::config_at(&elsewhere(), keys);
    let mut sim = Sim::new(keys(&KEYS[..2]), &here);
    sim.serve_at(&elsewhere(), &there);
    let client = sim.connect();
    sim.send(client, Ask::new(Api::Messages, false).bytes());
    sim.settle();
    sim.reload(moved(&[KEYS[2], KEYS[0]])).unwrap();

    assert_eq!(sim.take_answer(client).status, 429);
    assert_eq!(here.keys(), KEYS[..2], "the old keys at the old origin");
    assert_eq!(sim.key_states("anthropic"), ["valid", "valid"]);
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    assert_eq!(there.keys(), KEYS[2..]);
    here.verify();
    there.verify();
}

#[test]
fn a_new_provider_serves_at_once() {
    let script = Script::choosing(|_| good());
    let mut sim = Sim::new(keys(&KEYS[..1]), &script);
    let client = sim.connect();
    let path = "/second/v1/messages";
    let ask = Ask::post(path, Ask::new(Api::Messages, false).body);
    assert_eq!(sim.ask_on(client, &Ask::get(path)).status, 404);
    let mut config = keys(&KEYS[..1]);
    let second = Provider::new(
        "second",
        aibridge_core::api::Vendor::Anthropic,
        setup::upstream(),
        "",
    );
    config.providers.push(Arc::new(second.with_keys([KEYS[1]])));
    sim.reload(config).unwrap();
    let status = sim.ask_on(client, &ask).status;
    assert_eq!(status, 200, "on a connection from before, too");
    assert_eq!(script.keys(), [KEYS[1]]);
    script.verify();
}

// --- clients and limits -------------------------------------------------------------------------------------------

#[test]
fn a_client_that_goes_finishes_what_runs_and_begins_nothing() {
    let script = Script::choosing(|_| good().after(SECOND));
    let for_alice = || setup::with_client(keys(&KEYS[..1]), "alice", "token-of-alice");
    let mut sim = Sim::new(for_alice(), &script);
    let ask = Ask::new(Api::Messages, false).header("x-aibridge-token", "token-of-alice");
    let client = sim.connect();
    sim.send(client, ask.bytes());
    sim.settle();
    let for_bob = setup::with_client(keys(&KEYS[..1]), "bob", "token-of-bob");
    sim.reload(for_bob).unwrap();
    assert_eq!(sim.take_answer(client).status, 200);
    assert_eq!(
        sim.ask_on(client, &ask).status,
        401,
        "on the same connection"
    );
    sim.reload(for_alice()).unwrap();
    assert_eq!(sim.ask(&ask).status, 200);
    script.verify();
}

#[test]
fn what_a_client_has_running_counts_under_its_new_limit() {
    let script = Script::choosing(|_| good().after(SECOND));
    let limited = |limit| {
        let mut config = setup::with_client(keys(&KEYS[..1]), "alice", "token-of-alice");
        config.clients[0].max_in_flight = Some(limit);
        config
    };
    let mut sim = Sim::new(limited(3), &script);
    let ask = Ask::new(Api::Messages, false).header("x-aibridge-token", "token-of-alice");
    let running: Vec<_> = (0..3).map(|_| sim.connect()).collect();
    for client in &running {
        sim.send(*client, ask.bytes());
    }
    sim.settle();
    sim.reload(limited(1)).unwrap();
    assert_eq!(sim.ask(&ask).status, 429);
    for client in running {
        assert_eq!(sim.take_answer(client).status, 200);
    }
    assert_eq!(sim.ask(&ask).status, 200);
    script.verify();
}

#[test]
fn a_larger_body_is_taken_from_the_next_request_on() {
    let script = Script::choosing(|_| good());
    let limited = |body| {
        let mut config = keys(&KEYS[..1]);
        config.limits.body = body;
        config
    };
    let mut sim = Sim::new(limited(16), &script);
    let ask = Ask::new(Api::Responses, false);
    assert_eq!(sim.ask(&ask).status, 413);
    sim.reload(limited(1 << 20)).unwrap();
    assert_eq!(sim.ask(&ask).status, 200);
    script.verify();
}

// --- tools --------------------------------------------------------------------------------------------------------

#[test]
fn a_loop_goes_on_with_tools_that_are_not_configured_any_more() {
    for (api, streaming) in forms() {
        let turns = [adds(0), adds(1), says("3.")];
        let replies = model::replies(api, streaming, &turns);
        let replies: Vec<_> = replies.map(|reply| reply.after(SECOND)).collect();
        let mut world = World::new(replies, TOOLS, add);
        let client = world.sim.connect();
        world.sim.send(client, ask(api, streaming).bytes());
        world.sim.settle();
        world.sim.reload(keys(&KEYS[..2])).unwrap();
        assert_eq!(world.sim.bridge.tool_servers().len(), 0);

        let answer = world.sim.take_answer(client);
        assert_eq!(read(api, streaming, &answer).text.trim(), "3.");
        assert_eq!(world.ran(), 2, "{api:?} {streaming}");
        // Nobody can call it any more, so its session is given back; not before.
        world.sim.advance(SECOND * 5);
        let seen = world.server.seen();
        let left = seen.iter().filter(|call| call.method == "DELETE").count();
        assert_eq!(left, 1);
        assert_eq!(seen.last().unwrap().method, "DELETE");
        world.upstream.verify();
        world.server.verify();
    }
}

#[test]
fn a_new_server_is_kept_and_its_tools_are_offered() {
    let turns = [says("Alone."), adds(0), says("3.")];
    let replies = model::replies(Api::Messages, false, &turns);
    let upstream = Script::in_order(replies);
    let server = tool_server(TOOLS, add);
    let mut sim = Sim::new(keys(&KEYS[..1]), &upstream);
    sim.serve_at(&tools_origin(), &server);
    assert_eq!(sim.ask(&ask(Api::Messages, false)).status, 200);

    let with_server = || aibridge_testkit::with_tools(keys(&KEYS[..1]), &tools_origin());
    sim.reload(with_server()).unwrap();
    assert_eq!(sim.bridge.tool_servers()[0].state, ServerState::Up);
    assert_eq!(&*sim.bridge.tool_servers()[0].offered[0].0, ADD);
    let asked = server.seen().len();
    sim.reload(with_server()).unwrap();
    let answer = sim.ask(&ask(Api::Messages, false));
    assert_eq!(read(Api::Messages, false, &answer).text.trim(), "3.");
    let begun = server.seen();
    let begun = begun.iter().skip(asked);
    let handshakes = begun.filter(|call| call.body.windows(12).any(|it| it == br#""initialize""#));
    assert_eq!(handshakes.count(), 0, "what stays is not begun anew");
    upstream.verify();
    server.verify();
}

/// A client that stays connected gets the limits of the configuration in force, too.
#[test]
fn limits_on_tools_hold_from_the_next_request_on() {
    let api = Api::Messages;
    let turns = [adds(0), says("One."), adds(1), says("Two.")];
    let replies = model::replies(api, false, &turns);
    let hundred = |_: &str, _: &serde_json::Value| Ran::Text("x".repeat(100));
    let mut world = World::new(replies, TOOLS, hundred);
    let client = world.sim.connect();
    for (limit, shown) in [(1000, 100), (10, 10)] {
        let mut config = desk::config();
        config.tools.result = limit;
        world.sim.reload(config).unwrap();
        world.sim.ask_on(client, &ask(api, false));
        let bodies = world.bodies();
        let told = results(api, bodies.last().unwrap());
        let text = told.last().unwrap().content[0]["text"].as_str().unwrap();
        assert_eq!(text.len(), shown, "{text}");
    }
    world.close();
}
