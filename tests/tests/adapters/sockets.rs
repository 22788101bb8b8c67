//! What only real sockets can show: that bytes leave when they are there, and that connections end
//! when they should.
//!
//! No test sleeps. Where order matters, the upstream waits for the client's confirmation.

use aibridge_core::{Duration, api::Api, record::Outcome};
use aibridge_testkit::{
    APIS, Ask, Fixture, Reply, Script, Seen, ToolServer, Turn, model,
    setup::{self, KEYS},
    sockets::{Client, Server, refusing},
    with_tools,
};
use serde_json::{Value, json};

use crate::{Bridge, Gateway};

fn start(script: &Script) -> (Server, Gateway, Client) {
    let server = Server::start(script).unwrap();
    let gateway = Gateway::start(setup::config_at(&server.target(), &KEYS[..2]));
    let client = Client::connect(gateway.addr()).unwrap();
    (server, gateway, client)
}

#[test]
fn the_first_event_is_read_before_upstream_sends_the_second() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(true).confirming()]);
        let (_server, gateway, mut client) = start(&script);
        client.send(&fixture.ask(true).bytes()).unwrap();
        let events = aibridge_testkit::answer::events(&fixture.relayed(true));
        for count in 1..=events.len() {
            if api == Api::ChatCompletions && count == events.len() {
                script.confirm(); // the usage chunk before the last event, which is withheld
            }
            let answer = client.wait_events(count).unwrap();
            assert_eq!(
                answer.events(),
                events[..count],
                "{api:?}: no more than was sent"
            );
            script.confirm();
        }
        let answer = client.answer().unwrap();
        assert_eq!(answer.body, fixture.relayed(true));
        assert_eq!(gateway.records(1).ended().outcome, Outcome::Ok);
        script.verify();
    }
}

#[test]
fn every_fixture_is_relayed_on_one_connection() {
    let fixtures = Fixture::all();
    let replies = fixtures
        .iter()
        .flat_map(|f| f.forms().into_iter().map(|form| f.reply(form)));
    let script = Script::in_order(replies);
    let (_server, gateway, mut client) = start(&script);
    let mut asked = 0;
    for fixture in &fixtures {
        for streaming in fixture.forms() {
            let answer = client.ask(&fixture.ask(streaming)).unwrap();
            asked += 1;
            let name = format!("{} streaming={streaming}", fixture.name);
            assert_eq!(answer.body, fixture.relayed(streaming), "{name}");
            assert_eq!(
                Some(u64::from(answer.status)),
                fixture.number("status", streaming),
                "{name}"
            );
            let records = gateway.records(asked);
            let outcome = records.all_ended()[asked - 1].outcome;
            assert_eq!(
                Some(outcome.as_str()),
                fixture.fact("outcome", streaming),
                "{name}"
            );
        }
    }
    script.verify();
}

#[test]
fn a_client_that_leaves_ends_the_upstream_call() {
    for streaming in [false, true] {
        let script = Script::in_order([Reply::stall()]);
        let (server, gateway, mut client) = start(&script);
        client
            .send(&Ask::new(Api::Messages, streaming).bytes())
            .unwrap();
        while script.seen().is_empty() {
            std::thread::yield_now();
        }
        drop(client);
        assert_eq!(gateway.records(1).ended().outcome, Outcome::Cancelled);
        assert!(server.wait_over(1), "upstream goes on");
        script.verify();
    }
}

/// Calls of tools run in the session that the MCP server's keeper keeps: it must not be given back
/// while a loop goes on.
#[test]
fn at_shutdown_mcp_sessions_outlast_the_loops_that_run_in_them() {
    let call = |id| Turn::new().calls(id, "bmcp_desk_add", "{}");
    let turns = [call("call_0"), call("call_1"), Turn::new().says(&["Done."])];
    // The model takes its time, in which whoever leaves too early has left.
    let think = Duration::from_millis(300);
    let replies = model::replies(Api::Messages, true, &turns);
    let script = Script::in_order(replies.map(|reply| reply.after(think)));
    let desk = ToolServer::new(&["add"]);
    let mut called = 0;
    let tools = Script::choosing(move |seen| {
        let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        if message["method"] != "tools/call" {
            return desk.answer(seen, |_, _| unreachable!("no call"));
        }
        called += 1;
        let result = json!({"content": [{"type": "text", "text": "3"}]});
        let result = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        let reply = Reply::sse(format!(": working\n\ndata: {result}\n\n"));
        if called == 1 {
            reply.confirming()
        } else {
            reply
        }
    });
    let upstream = Server::start(&script).unwrap();
    let server = Server::start(&tools).unwrap();
    let config = setup::config_at(&upstream.target(), &KEYS[..1]);
    let gateway = Gateway::start(with_tools(config, &server.target()));
    gateway.wait_for_tools(1);
    let methods = || -> Vec<String> {
        let method = |seen: &Seen| {
            let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let method = message["method"].as_str().map(str::to_owned);
            method.unwrap_or_else(|| seen.method.to_string())
        };
        tools.seen().iter().map(method).collect()
    };
    let mut client = Client::connect(gateway.addr()).unwrap();
    client.send(&Ask::new(Api::Messages, true).bytes()).unwrap();
    while !methods().contains(&"tools/call".to_owned()) {
        std::thread::yield_now();
    }
    let answer = std::thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain(Duration::from_secs(20)));
        // Nothing is accepted any more: the drain has begun.
        while Client::connect(gateway.addr()).is_ok() {
            std::thread::yield_now();
        }
        tools.confirm();
        let answer = client.answer().unwrap();
        drained.join().unwrap();
        answer
    });
    assert!(
        answer.is_complete() && answer.text().contains("Done."),
        "{answer:?}"
    );
    let methods = methods();
    let calls = methods.iter().filter(|it| *it == "tools/call").count();
    assert_eq!(
        (calls, methods.last().map(String::as_str)),
        (2, Some("DELETE"))
    );
    let begun = methods.iter().filter(|it| *it == "initialize").count();
    assert_eq!(begun, 1, "{methods:?}");
    script.verify();
    tools.abandon();
}

#[test]
fn servers_without_a_seed_draw_different_ids() {
    let draw = || {
        let builder = Bridge::builder(setup::config(&KEYS[..1]));
        let server = builder.build().unwrap();
        server.with_bridge(|bridge| bridge.fork_rng().next_u64())
    };
    assert_ne!(draw(), draw());
}

#[test]
fn defect_03_a_refused_connection_is_a_502() {
    let gateway = Gateway::start(setup::config_at(&refusing().unwrap(), &KEYS[..1]));
    for api in APIS {
        let mut client = Client::connect(gateway.addr()).unwrap();
        let answer = client.ask(&Ask::new(api, true)).unwrap();
        assert_eq!(answer.status, 502);
        assert_eq!(
            answer.error_message(),
            "upstream connection failed: connection refused"
        );
    }
}

#[test]
fn an_upstream_that_breaks_off_is_told_to_the_client() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let half = reply.bytes().len() / 2;
        let script = Script::in_order([reply.reset_at(half), fixture.reply(false).reset_at(300)]);
        let (_server, _gateway, mut client) = start(&script);
        let answer = client.ask(&fixture.ask(true)).unwrap();
        assert!(answer.is_complete() && answer.text().contains("upstream connection failed"));
        let answer = client.ask(&fixture.ask(false)).unwrap();
        assert!(!answer.is_complete(), "{answer:?}");
        script.verify();
    }
}
