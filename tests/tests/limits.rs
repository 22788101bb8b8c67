//! How much there may be: of one client, and of everything together. Each refusal as the client
//! gets it.

use aibridge_core::{
    Duration,
    api::Api,
    config::{Capacity, Client, Config},
};
use aibridge_testkit::{
    APIS, Ask, Reply, Script, Sim,
    setup::{self, KEYS},
};
use refusal::assert_refused;

mod refusal;

const SECOND: Duration = Duration::from_secs(1);
const BUSY: &str = "the bridge is busy: try again";

fn good() -> Reply {
    Reply::json(200, r#"{"id":"x"}"#)
}

/// For `alice`, limited so, and `bob`, who is not.
fn clients(limit: impl Fn(&mut Client)) -> Config {
    let config = setup::with_client(setup::config(&KEYS[..1]), "alice", "token-of-alice");
    let mut config = setup::with_client(config, "bob", "token-of-bob");
    limit(&mut config.clients[0]);
    config
}

fn of(who: &str, ask: Ask) -> Ask {
    ask.header("x-aibridge-token", &format!("token-of-{who}"))
}

fn capacity(connections: usize, buffered: u64) -> Config {
    Config {
        capacity: Capacity {
            connections,
            buffered,
        },
        ..setup::config(&KEYS[..1])
    }
}

// --- of one client ------------------------------------------------------------------------------------------------

#[test]
fn a_client_may_have_so_many_requests_in_flight() {
    for api in APIS {
        let script = Script::choosing(|_| good().after(SECOND));
        let mut sim = Sim::new(clients(|alice| alice.max_in_flight = Some(2)), &script);
        let running: Vec<_> = (0..2).map(|_| sim.connect()).collect();
        for client in &running {
            sim.send(*client, of("alice", Ask::new(api, false)).bytes());
        }
        sim.settle();

        let refused = sim.ask(&of("alice", Ask::new(api, true)));
        let message = "this client may have 2 requests in flight: try again";
        assert_refused(api, &refused, 429, "1", message);
        assert_eq!(script.seen().len(), 2, "nothing is sent upstream");
        assert_eq!(sim.ask(&of("bob", Ask::new(api, false))).status, 200);

        for client in running {
            assert_eq!(sim.take_answer(client).status, 200);
        }
        assert_eq!(sim.ask(&of("alice", Ask::new(api, false))).status, 200);
        script.verify();
    }
}

#[test]
fn a_client_may_make_so_many_requests_in_a_minute() {
    for api in APIS {
        let script = Script::choosing(|_| good());
        let limit = |alice: &mut Client| alice.requests_per_minute = Some(3);
        let mut sim = Sim::new(clients(limit), &script);
        let ask = of("alice", Ask::new(api, false));
        for _ in 0..3 {
            assert_eq!(sim.ask(&ask).status, 200);
        }
        let message = "this client may make 3 requests per minute (retry after 20s)";
        assert_refused(api, &sim.ask(&ask), 429, "20", message);
        assert_eq!(sim.ask(&of("bob", Ask::new(api, false))).status, 200);
        sim.advance(SECOND * 19);
        let message = "this client may make 3 requests per minute (retry after 1s)";
        assert_refused(api, &sim.ask(&ask), 429, "1", message);
        sim.advance(SECOND);
        assert_eq!(sim.ask(&ask).status, 200, "a third of a minute pays for it");
        assert_eq!(sim.ask(&ask).status, 429);
        script.verify();
    }
}

/// A request that is over in whatever way takes no room any more.
#[test]
fn what_ends_early_makes_room_at_once() {
    let script = Script::choosing(|_| Reply::stall());
    let mut sim = Sim::new(clients(|alice| alice.max_in_flight = Some(1)), &script);
    let ask = of("alice", Ask::new(Api::Messages, true));
    let head = String::from_utf8(ask.bytes().to_vec()).unwrap();
    let half_a_body = head[..head.len() - 9].to_owned();
    for round in 0..4 {
        let client = sim.connect();
        // Leaving while the model thinks, and while the body is on its way; by an end, and by a
        // reset.
        let bytes = if round % 2 == 0 { &head } else { &half_a_body };
        sim.send(client, bytes.clone());
        sim.settle();
        assert_eq!(sim.bridge.load().requests, 1);
        assert_eq!(sim.ask(&ask).status, 429, "round {round}");
        if round < 2 {
            sim.end(client);
        } else {
            sim.reset(client);
        }
        sim.settle();
        let load = sim.bridge.load();
        assert_eq!(
            (load.connections, load.requests, load.buffered),
            (0, 0, 0),
            "round {round}"
        );
    }
    script.verify();
}

/// Who is refused for one limit has not used up the other.
#[test]
fn a_request_refused_for_those_in_flight_does_not_count_for_the_minute() {
    let script = Script::choosing(|_| good().after(SECOND));
    let limit = |alice: &mut Client| {
        alice.max_in_flight = Some(1);
        alice.requests_per_minute = Some(2);
    };
    let mut sim = Sim::new(clients(limit), &script);
    let ask = of("alice", Ask::new(Api::Messages, false));
    let running = sim.connect();
    sim.send(running, ask.bytes());
    sim.settle();
    for _ in 0..9 {
        let refused = sim.ask(&ask);
        assert!(refused.text().contains("in flight"), "{}", refused.text());
    }
    assert_eq!(sim.take_answer(running).status, 200);
    assert_eq!(sim.ask(&ask).status, 200);
    let refused = sim.ask(&ask);
    assert!(refused.text().contains("per minute"), "{}", refused.text());
    script.verify();
}

/// Limits hold for every route, and not only for those the bridge looks into.
#[test]
fn what_is_passed_through_counts_too() {
    let script = Script::choosing(|_| good());
    let limit = |alice: &mut Client| alice.requests_per_minute = Some(1);
    let mut sim = Sim::new(clients(limit), &script);
    let ask = of("alice", Ask::get("/openai/v1/models"));
    assert_eq!(sim.ask(&ask).status, 200);
    let message = "this client may make 1 requests per minute (retry after 60s)";
    assert_refused(Api::Responses, &sim.ask(&ask), 429, "60", message);
    script.verify();
}

// --- of everything together ---------------------------------------------------------------------------------------

#[test]
fn one_connection_too_many_is_told_so_and_ended() {
    for api in APIS {
        let script = Script::choosing(|_| good());
        let mut sim = Sim::new(capacity(2, 1 << 30), &script);
        let idle = [sim.connect(), sim.connect()];
        let client = sim.connect();
        let refused = sim.ask_on(client, &Ask::new(api, false));
        assert_refused(api, &refused, 503, "1", BUSY);
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(sim.is_closed(client));
        assert_eq!(script.seen().len(), 0);

        assert_eq!(sim.ask_on(idle[0], &Ask::new(api, false)).status, 200);
        sim.end(idle[1]);
        sim.settle();
        assert_eq!(sim.ask(&Ask::new(api, false)).status, 200, "there is room");
        script.verify();
    }
}

/// It takes a descriptor, so it has seconds where others have minutes.
#[test]
fn one_connection_too_many_that_asks_nothing_is_ended_soon() {
    let script = Script::choosing(|_| good());
    let mut sim = Sim::new(capacity(1, 1 << 30), &script);
    let first = sim.connect();
    let second = sim.connect();
    sim.send(second, "GET /anthropic/v1/mod");
    sim.advance(SECOND * 12);
    assert!(sim.is_over(second) && !sim.is_closed(first));
    script.verify();
}

/// Also where the caller is none of ours: that it would be refused anyway does not make it another
/// API's client.
#[test]
fn a_stranger_is_told_that_it_is_crowded_in_its_apis_shape() {
    for api in APIS {
        let script = Script::choosing(|_| good());
        let mut config = clients(|_| {});
        config.capacity.connections = 1;
        let mut sim = Sim::new(config, &script);
        let first = sim.connect();
        sim.send(first, "GET /anthropic/v1/mod");
        sim.settle();
        assert_refused(api, &sim.ask(&Ask::new(api, false)), 503, "1", BUSY);
        sim.end(first);
        sim.settle();
        script.verify();
    }
}

#[test]
fn bodies_that_do_not_fit_in_memory_are_refused_and_those_that_fit_go_on() {
    for api in APIS {
        let script = Script::choosing(|_| good().after(SECOND));
        let mut sim = Sim::new(capacity(100, 300 << 10), &script);
        let filler = "x".repeat(200 << 10);
        let body = format!(r#"{{"model":"m","messages":[],"input":"{filler}"}}"#);
        let large = Ask::with_body(api, false, &body);
        let first = sim.connect();
        sim.send(first, large.bytes());
        sim.settle();
        let held = sim.bridge.load().buffered;
        assert!(held >= 200 << 10, "{held}");

        let refused = sim.ask(&large);
        assert_refused(api, &refused, 503, "1", BUSY);
        assert_eq!(sim.ask(&Ask::new(api, false)).status, 200, "a small one");
        assert_eq!(sim.take_answer(first).status, 200);
        assert_eq!(sim.bridge.load().buffered, 0);
        assert_eq!(sim.ask(&large).status, 200);
        script.verify();
    }
}

/// Nobody keeps others out by saying that a large body is to come.
#[test]
fn a_declared_length_reserves_little() {
    let script = Script::choosing(|_| good());
    let mut sim = Sim::new(capacity(100, 1 << 20), &script);
    for _ in 0..10 {
        let client = sim.connect();
        sim.send(
            client,
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: b\r\ncontent-length: 1000000\r\n\r\n",
        );
    }
    sim.settle();
    assert!(sim.bridge.load().buffered <= 10 * (64 << 10));
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    script.verify();
}

/// From its first event on a stream cannot be tried again, and its request need not be kept.
#[test]
fn a_stream_that_has_begun_holds_nothing() {
    for api in APIS {
        let script = Script::choosing(|_| {
            let reply = Reply::sse("data: {}\n\n");
            let end = reply.bytes().len() - "0\r\n\r\n".len();
            reply.stall_at(end)
        });
        let mut sim = Sim::new(capacity(100, 64 << 10), &script);
        for count in 1..=20 {
            let client = sim.connect();
            sim.send(client, Ask::new(api, true).bytes());
            sim.settle();
            let status = sim.answer(client).map(|answer| answer.status);
            assert_eq!(status, Some(200), "{api:?}: stream {count}");
        }
        let load = sim.bridge.load();
        assert_eq!((load.requests, load.buffered), (20, 0));
        script.verify();
    }
}

/// Slowloris: a client that sends a byte now and then is as good as silent.
#[test]
fn a_body_that_dribbles_ends_in_time() {
    let script = Script::choosing(|_| good());
    let mut config = setup::config(&KEYS[..1]);
    config.timeouts.client_body = SECOND * 3;
    let mut sim = Sim::new(config, &script);
    let client = sim.connect();
    sim.never_hangs_up(client);
    sim.send(
        client,
        "POST /openai/v1/responses HTTP/1.1\r\nhost: b\r\ncontent-length: 1000\r\n\r\n",
    );
    for _ in 0..9 {
        if sim.answer(client).is_some() {
            break;
        }
        sim.send(client, "{");
        sim.advance(SECOND);
    }
    let answer = sim.answer(client).unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(
        answer.json()["error"]["message"],
        "the request's body took too long"
    );
    // It has a moment to read that, and goes on in vain.
    sim.advance(SECOND / 2);
    assert!(!sim.is_over(client));
    sim.send(client, "{");
    sim.advance(SECOND);
    assert!(sim.is_over(client));
    script.verify();
}
