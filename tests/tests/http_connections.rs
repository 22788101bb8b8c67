//! The bridge's connections: kept, reused, replaced, closed in time, and left by clients.

use aibridge_core::{Duration, api::Api, record::Outcome};
use aibridge_testkit::{
    APIS, Ask, ClientId, Fixture, Reply, Script, Sim,
    setup::{KEYS, always, ok, two_keys as config},
};
use bytes::Bytes;

#[test]
fn pipelined_requests_are_answered_in_order() {
    let script = Script::choosing(|call| Reply::json(200, format!("\"{}\"", call.path)));
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    let (chat, models) = (
        Ask::new(Api::ChatCompletions, false),
        Ask::get("/openai/v1/models"),
    );
    let all = [
        chat.bytes(),
        models.bytes(),
        chat.bytes(),
        Ask::get("/nowhere").bytes(),
        models.bytes(),
    ];
    sim.send(client, all.concat());
    sim.settle();
    let bodies: Vec<_> = sim
        .answers(client)
        .iter()
        .map(|a| (a.status, a.text().len()))
        .collect();
    let (chat, models) = ("\"/v1/chat/completions\"".len(), "\"/v1/models\"".len());
    assert_eq!(bodies[..3], [(200, chat), (200, models), (200, chat)]);
    assert_eq!((bodies[3].0, bodies[4]), (404, (200, models)));
    assert!(!sim.is_closed(client));
    script.verify();
}

#[test]
fn a_connection_serves_one_request_after_another_and_so_does_upstreams() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    for api in APIS {
        assert_eq!(sim.ask_on(client, &Ask::new(api, false)).status, 200);
    }
    let other = sim.connect();
    sim.ask_on(other, &Ask::new(Api::Messages, false));
    let connections: Vec<_> = script.verify().iter().map(|call| call.connection).collect();
    assert_eq!(connections, [1; 4]);
    assert_eq!(sim.open_connections(), 1);
}

#[test]
fn an_idle_upstream_connection_is_closed_in_time() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.open_connections(), 1);
    sim.advance(Duration::from_secs(56));
    assert_eq!(sim.open_connections(), 0);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(script.verify()[1].connection, 2);
}

#[test]
fn an_idle_client_is_closed_in_time() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.ask_on(client, &Ask::new(Api::Messages, false));
    sim.advance(Duration::from_secs(119));
    assert!(!sim.is_closed(client));
    sim.advance(Duration::from_secs(2));
    assert!(sim.is_over(client));
    script.verify();
}

#[test]
fn a_client_that_never_hangs_up_is_let_go_anyway() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.never_hangs_up(client);
    sim.send(client, "nonsense\r\n\r\n");
    sim.settle();
    assert!(sim.is_closed(client) && !sim.is_over(client));
    sim.advance(Duration::from_secs(5));
    assert!(sim.is_over(client));
    script.verify();
}

/// An upload that is refused at its head, of which a piece comes every four seconds.
fn dribbling_upload(sim: &mut Sim, pieces: usize) -> ClientId {
    let client = sim.connect();
    sim.never_hangs_up(client);
    let head = "GET /anthropic/v1/messages HTTP/1.1\r\nhost: b\r\ncontent-length: 1000000\r\n\r\n";
    sim.send(client, head);
    for _ in 0..pieces {
        sim.advance(Duration::from_secs(4));
        assert!(sim.is_closed(client) && !sim.is_over(client));
        sim.send(client, vec![b' '; 100]);
    }
    sim.settle();
    client
}

#[test]
fn an_error_reply_to_a_slow_upload_is_not_destroyed() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = dribbling_upload(&mut sim, 5);
    assert_eq!(sim.answer(client).unwrap().status, 405);
    assert!(!sim.is_over(client));
    sim.end(client);
    sim.settle();
    assert!(sim.is_over(client));
    script.verify();
}

#[test]
fn a_refused_upload_is_let_go_when_it_falls_silent_or_never_ends() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let silent = dribbling_upload(&mut sim, 3);
    sim.advance(Duration::from_secs(4));
    assert!(!sim.is_over(silent));
    sim.advance(Duration::from_secs(1));
    assert!(sim.is_over(silent));

    let endless = dribbling_upload(&mut sim, 7);
    sim.advance(Duration::from_secs(2));
    assert!(sim.is_over(endless), "30 s after the reply");
    script.verify();
}

#[test]
fn a_refused_upload_is_not_read_without_end() {
    let script = always();
    let mut sim = Sim::new(config(), &script).quiet();
    let client = dribbling_upload(&mut sim, 1);
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    for _ in 0..255 {
        sim.send(client, piece.clone());
        sim.settle();
    }
    assert!(!sim.is_over(client));
    sim.send(client, piece);
    sim.settle();
    assert!(sim.is_over(client));
    script.verify();
}

#[test]
fn a_reply_that_closes_upstreams_connection_is_no_trouble() {
    for closing in [ok().until_close(), ok().header("connection", "close")] {
        let script = Script::in_order([closing, ok()]);
        let mut sim = Sim::new(config(), &script);
        let client = sim.connect();
        for _ in 0..2 {
            assert_eq!(
                sim.ask_on(client, &Ask::new(Api::Messages, false)).text(),
                r#"{"id":"x"}"#
            );
        }
        assert_eq!(script.verify()[1].connection, 2);
    }
}

#[test]
fn a_dead_idle_connection_is_replaced_once_and_the_key_is_kept() {
    for dead in [Reply::hang_up(), Reply::reset()] {
        let script = Script::in_order([ok(), dead, ok()]);
        let mut sim = Sim::new(config(), &script);
        for _ in 0..2 {
            assert_eq!(sim.ask(&Ask::new(Api::ChatCompletions, true)).status, 200);
        }
        assert_eq!(sim.key_states("openai"), ["valid", "valid"]);
        let attempts: Vec<_> = sim
            .records
            .all_ended()
            .iter()
            .map(|ended| ended.attempts)
            .collect();
        assert_eq!(attempts, [1, 1], "the dead connection does not count");
        let seen = script.verify();
        assert_eq!(
            seen.iter().map(|call| &*call.key).collect::<Vec<_>>(),
            [KEYS[0]; 3]
        );
        assert_eq!(
            seen.iter().map(|call| call.connection).collect::<Vec<_>>(),
            [1, 1, 2]
        );
    }
}

#[test]
fn a_fresh_connection_that_dies_is_not_tried_again() {
    let script = Script::in_order([ok(), Reply::hang_up(), Reply::hang_up()]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    let answer = sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!((answer.status, &*answer.error_type()), (502, "api_error"));
    script.verify();
}

#[test]
fn a_reused_connection_that_dies_within_the_reply_is_not_tried_again() {
    let script = Script::in_order([ok(), ok().reset_at(10)]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 502);
    script.verify();
}

#[test]
fn a_reused_connection_that_stays_silent_is_not_tried_again() {
    let script = Script::in_order([ok(), Reply::stall()]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.ask(&Ask::new(Api::Messages, true)).status, 504);
    script.verify();
}

#[test]
fn stray_bytes_behind_a_reply_keep_the_connection_from_being_used_again() {
    let stray = [
        &ok().bytes()[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    ]
    .concat();
    let script = Script::in_order([Reply::raw(stray), ok()]);
    let mut sim = Sim::new(config(), &script);
    for _ in 0..2 {
        assert_eq!(
            sim.ask(&Ask::new(Api::Messages, false)).text(),
            r#"{"id":"x"}"#
        );
    }
    assert_eq!(script.verify()[1].connection, 2);
}

#[test]
fn a_client_that_leaves_before_the_head_aborts_upstream() {
    for api in APIS {
        for streaming in [false, true] {
            for reset in [false, true] {
                let script = Script::in_order([Reply::stall()]);
                let mut sim = Sim::new(config(), &script);
                let client = sim.connect();
                sim.send(client, Ask::new(api, streaming).bytes());
                sim.advance(Duration::from_secs(1));
                assert_eq!(sim.open_connections(), 1);
                if reset {
                    sim.reset(client);
                } else {
                    sim.end(client);
                }
                sim.settle();
                assert_eq!(sim.open_connections(), 0, "at once");
                assert!(sim.is_over(client));
                let ended = sim.records.ended();
                assert_eq!((ended.outcome, ended.status), (Outcome::Cancelled, None));
                script.verify();
            }
        }
    }
}

#[test]
fn a_client_that_leaves_mid_stream_aborts_upstream() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(true).confirming()]);
        let mut sim = Sim::new(config(), &script);
        let client = sim.connect();
        sim.send(client, fixture.ask(true).bytes());
        sim.settle();
        assert_eq!(sim.answer(client).unwrap().status, 200);
        sim.end(client);
        sim.settle();
        assert_eq!(sim.open_connections(), 0);
        let ended = sim.records.ended();
        assert_eq!(
            (ended.outcome, ended.status),
            (Outcome::Cancelled, Some(200))
        );
        script.verify();
    }
}

#[test]
fn a_client_that_leaves_within_its_request_causes_nothing() {
    let bytes = Ask::new(Api::Messages, false).bytes();
    for at in 0..bytes.len() {
        let script = Script::in_order([]);
        let mut sim = Sim::new(config(), &script).quiet();
        let client = sim.connect();
        sim.send(client, bytes.slice(..at));
        sim.end(client);
        sim.settle();
        assert!(sim.is_over(client), "at {at}");
        assert!(sim.records.0.is_empty(), "at {at}");
        script.verify();
    }
}
