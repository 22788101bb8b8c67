//! What an adapter does with connections: reuse, backpressure, an orderly end.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use aibridge_core::{Target, api::Api, record::Outcome};
use aibridge_testkit::{
    APIS, Ask, Fixture, Reply, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};

use crate::Gateway;

fn start(script: &Script) -> (Server, Gateway, Client) {
    let server = Server::start(script).unwrap();
    let gateway = Gateway::start(setup::config_at(&server.target(), &KEYS[..2]));
    let client = Client::connect(gateway.addr()).unwrap();
    (server, gateway, client)
}

/// An upstream that does this on its one connection.
fn playing<T: Send + 'static>(
    play: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Target, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        tls: false,
    };
    let upstream = thread::spawn(move || play(listener.accept().unwrap().0));
    (target, upstream)
}

#[test]
fn an_idle_upstream_connection_is_used_again_by_any_session() {
    let fixture = Fixture::simple(Api::Messages);
    let limited = Reply::json(429, "{}").retry_after(5);
    let replies = (0..3).map(|_| fixture.reply(false));
    let script = Script::in_order(std::iter::once(limited).chain(replies));
    let (_server, gateway, mut first) = start(&script);
    assert_eq!(first.ask(&fixture.ask(false)).unwrap().status, 200);
    assert_eq!(first.ask(&fixture.ask(false)).unwrap().status, 200);
    let mut second = Client::connect(gateway.addr()).unwrap();
    assert_eq!(second.ask(&fixture.ask(false)).unwrap().status, 200);
    let connections: Vec<_> = script.verify().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 1, 1], "failover and another client too");
}

#[test]
fn an_idle_connection_that_upstream_closed_is_replaced_and_nobody_hears_of_it() {
    let fixture = Fixture::simple(Api::Messages);
    let whole = fixture.reply(false).bytes().len();
    let script = Script::in_order([fixture.reply(false).end_at(whole), fixture.reply(false)]);
    let (_server, gateway, mut client) = start(&script);
    for count in 1..=2 {
        assert_eq!(client.ask(&fixture.ask(false)).unwrap().status, 200);
        let records = gateway.records(count);
        assert_eq!(records.all_ended()[count - 1].attempts, 1);
    }
    let connections: Vec<_> = script.verify().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 2]);
}

#[test]
fn bodies_larger_than_any_buffer_come_through_both_ways() {
    let text = "x".repeat(3 << 20);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let reply = format!(r#"{{"id":"msg_1","type":"message","content":[],"padding":"{text}"}}"#);
    let script = Script::in_order([Reply::json(200, reply.clone())]);
    let (_server, gateway, mut client) = start(&script);
    let answer = client
        .ask(&Ask::with_body(Api::Messages, false, &body))
        .unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, reply.len()));
    assert_eq!(gateway.records(1).ended().outcome, Outcome::Ok);
    assert_eq!(script.verify()[0].body, body);
}

#[test]
fn draining_finishes_what_runs_and_closes_what_is_idle() {
    let fixture = Fixture::simple(Api::Messages);
    let script = Script::in_order([fixture.reply(true).confirming()]);
    let (_server, gateway, mut running) = start(&script);
    let mut idle = Client::connect(gateway.addr()).unwrap();
    running.send(&fixture.ask(true).bytes()).unwrap();
    running.wait_events(1).unwrap();

    thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain(Duration::from_secs(20)));
        assert!(idle.answer().is_err(), "it is told to go");
        while TcpStream::connect(gateway.addr()).is_ok() {
            thread::yield_now(); // until nobody listens any more
        }
        let events = aibridge_testkit::answer::events(&fixture.relayed(true)).len();
        (0..events).for_each(|_| script.confirm());
        let answer = running.answer().unwrap();
        assert_eq!(answer.body, fixture.relayed(true));
        drop((idle, running));
        drained.join().unwrap();
    });
    assert_eq!(gateway.connections(), 0);
    assert_eq!(gateway.records(1).ended().outcome, Outcome::Ok);
    script.verify();
}

#[test]
fn what_outlasts_the_drain_is_given_up_and_recorded() {
    let script = Script::in_order([Reply::stall()]);
    let (_server, gateway, mut client) = start(&script);
    client.send(&Ask::new(Api::Messages, true).bytes()).unwrap();
    while script.seen().is_empty() {
        thread::yield_now();
    }
    gateway.drain(Duration::ZERO);
    assert_eq!(gateway.connections(), 0);
    assert_eq!(gateway.records(1).ended().outcome, Outcome::Cancelled);
    script.verify();
}

#[test]
fn an_upstream_that_answers_before_it_has_read_all_is_heard() {
    // It says no to the head, reads no body, and hangs up: what providers' front ends do with
    // bodies they find too large.
    let (target, upstream) = playing(|mut stream| {
        stream.read_exact(&mut [0; 100]).unwrap();
        stream
            .write_all(
                b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nno.\n",
            )
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    });
    let gateway = Gateway::start(setup::config_at(&target, &KEYS[..1]));
    let mut client = Client::connect(gateway.addr()).unwrap();
    let text = "x".repeat(8 << 20);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let answer = client
        .ask(&Ask::with_body(Api::Messages, false, &body))
        .unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"no.\n"[..]));
    drop(upstream.join().unwrap());
}

/// What always has more to say keeps no deadline from being met.
#[test]
fn an_upstream_that_never_stops_talking_is_given_up_in_time() {
    let (target, upstream) = playing(|mut stream| {
        let flood = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
        let begun = Instant::now();
        while stream.write_all(&flood).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is given up");
        }
    });
    let mut config = setup::config_at(&target, &KEYS[..1]);
    config.timeouts.header = Duration::from_millis(300);
    let gateway = Gateway::start(config);
    let mut client = Client::connect(gateway.addr()).unwrap();
    let answer = client.ask(&Ask::new(Api::Messages, true)).unwrap();
    assert_eq!(answer.status, 504);
    upstream.join().unwrap();
}

#[test]
fn many_clients_at_once_get_each_their_own() {
    let script = Script::choosing(|seen| {
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        let number = body.rsplit("number ").next().unwrap_or_default();
        let number: String = number.chars().take_while(char::is_ascii_digit).collect();
        Reply::json(200, format!(r#"{{"id":"for {number}"}}"#))
    });
    let (_server, gateway, _) = start(&script);
    thread::scope(|scope| {
        for thread in 0..8 {
            let addr = gateway.addr();
            scope.spawn(move || {
                let mut client = Client::connect(addr).unwrap();
                for turn in 0..25 {
                    let number = thread * 100 + turn;
                    let api = APIS[turn % 3];
                    let body = format!(
                        r#"{{"model":"m","messages":[{{"role":"user","content":"number {number}"}}]}}"#
                    );
                    let answer = client.ask(&Ask::with_body(api, false, &body)).unwrap();
                    assert_eq!(answer.text(), format!(r#"{{"id":"for {number}"}}"#));
                }
            });
        }
    });
    assert_eq!(gateway.records(200).all_ended().len(), 200);
    script.verify();
}
