//! One request from its first byte to its last: an `Interception` alone, and a `Session` with its
//! HTTP/1.1 on both sides.

use std::sync::Arc;

use aibridge_core::{
    Bridge, ConnId, Instant, Interception, InterceptionId, Rng, Session, Target,
    api::Vendor,
    config::{Config, Provider},
    interception,
    session::{Action, Event},
};
use bytes::{Buf, Bytes};
use divan::{Bencher, black_box, counter::ItemsCount};
use http::{HeaderMap, Request, StatusCode};

fn main() {
    divan::main();
}

const NOW: Instant = Instant::from_secs(1_700_000_000);
const EVENTS: usize = 100;

fn config() -> Arc<Config> {
    let target = Target {
        host: "127.0.0.1".into(),
        port: 9,
        tls: false,
    };
    let provider = Provider::new("anthropic", Vendor::Anthropic, target, "")
        .with_keys(["sk-first-key-0123456789", "sk-second-key-0123456789"]);
    Arc::new(Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    })
}

/// What a client sends, as an SDK does.
fn request(stream: bool) -> Bytes {
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":{stream},"messages":[{{"role":"user","content":"What is a bridge?"}}]}}"#
    );
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: 127.0.0.1:8787\r\naccept: application/json\r\n\
         user-agent: Anthropic/Python 0.75.0\r\nx-api-key: aibridge\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\nx-stainless-lang: python\r\nx-stainless-os: Linux\r\n\
         accept-encoding: gzip, deflate\r\nconnection: keep-alive\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    head.into()
}

/// A reply of 300 bytes.
fn blocking_reply() -> Bytes {
    let text = "a".repeat(140);
    let body = format!(
        r#"{{"id":"msg_0123456789","type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":12,"output_tokens":34}}}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_0123456789\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    head.into()
}

/// A stream of 100 events, each as the read that brings it.
fn events() -> Vec<Bytes> {
    let start = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","content":[],"usage":{"input_tokens":12,"output_tokens":1}}}

"#;
    let block = r#"event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

"#;
    let delta = r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" some words of an answer"}}

"#;
    let stop = r#"event: message_stop
data: {"type":"message_stop"}

"#;
    let deltas = std::iter::repeat_n(delta, EVENTS - 3);
    let all = [start, block].into_iter().chain(deltas).chain([stop]);
    all.map(|event| Bytes::from_static(event.as_bytes()))
        .collect()
}

#[divan::bench]
fn interception_of_100_events(bencher: Bencher<'_, '_>) {
    let config = config();
    let mut bridge = Bridge::new(Arc::clone(&config), 1).expect("good keys");
    let events = events();
    let body = Bytes::from_static(
        br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    );
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        "text/event-stream".parse().expect("a value"),
    );
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        let request = Request::post("/anthropic/v1/messages")
            .body(body.clone())
            .expect("a request");
        let id = InterceptionId::draw(&mut Rng::new(1));
        let mut interception = Interception::new(NOW, &config, id, request);
        let mut relayed = 0;
        let mut call = None;
        let mut settle = |interception: &mut Interception| {
            let mut called = None;
            while let Some(query) = interception.poll_query() {
                let answer = bridge.answer_interception(NOW, query);
                interception.handle_answer(NOW, answer);
            }
            while let Some(action) = interception.poll_action() {
                match action {
                    interception::Action::Call(id, _) => called = Some(id),
                    interception::Action::ReplyBody(bytes) => relayed += bytes.len(),
                    other => drop(black_box(other)),
                }
            }
            called
        };
        call = settle(&mut interception).or(call);
        let call = call.expect("a call");
        let head = interception::Event::UpstreamHead(call, StatusCode::OK, headers.clone());
        interception.handle(NOW, head);
        settle(&mut interception);
        for event in &events {
            interception.handle(NOW, interception::Event::UpstreamBody(call, event.clone()));
            settle(&mut interception);
        }
        interception.handle(NOW, interception::Event::UpstreamEnd(call));
        settle(&mut interception);
        relayed
    });
}

/// A session and what stands around it.
struct World {
    bridge: Bridge,
    session: Session,
    /// The connection to upstream.
    upstream: ConnId,
    written: usize,
}

impl World {
    fn new() -> Self {
        let config = config();
        let mut bridge = Bridge::new(Arc::clone(&config), 1).expect("good keys");
        let session = bridge.connected(NOW);
        Self {
            bridge,
            session,
            upstream: ConnId::new(0),
            written: 0,
        }
    }

    fn tell(&mut self, event: Event) {
        self.session.handle(NOW, event);
        loop {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Open(conn, _) => {
                        self.upstream = conn;
                        self.session.handle(NOW, Event::Opened(conn));
                    }
                    Action::Park(conn, target) => self.bridge.park(NOW, conn, target),
                    Action::Send(conn, frame) => {
                        self.written += frame.remaining();
                        self.session
                            .handle(NOW, Event::Sent(conn, frame.remaining()));
                    }
                    other => drop(black_box(other)),
                }
            }
            let Some(query) = self.session.poll_query() else {
                return;
            };
            let answer = self.bridge.answer(NOW, query);
            self.session.handle_answer(NOW, answer);
        }
    }
}

#[divan::bench]
fn session_of_one_blocking_request(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let (request, reply) = (request(false), blocking_reply());
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        world.tell(Event::Received(ConnId::CLIENT, request.clone()));
        world.tell(Event::Received(world.upstream, reply.clone()));
        world.written
    });
}

#[divan::bench]
fn session_of_100_events(bencher: Bencher<'_, '_>) {
    let mut world = World::new();
    let request = request(true);
    let head = Bytes::from_static(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let chunks: Vec<_> = events()
        .iter()
        .map(|event| {
            let mut chunk = aibridge_core::Frame::chunked(event.clone());
            chunk.copy_to_bytes(chunk.remaining())
        })
        .chain([Bytes::from_static(b"0\r\n\r\n")])
        .collect();
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(|| {
        world.tell(Event::Received(ConnId::CLIENT, request.clone()));
        world.tell(Event::Received(world.upstream, head.clone()));
        for chunk in &chunks {
            world.tell(Event::Received(world.upstream, chunk.clone()));
        }
        world.written
    });
}
