//! Secrets that are cut, repeated or misplaced, and what becomes of a recorder that cannot keep up.

use std::sync::{Arc, mpsc};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Ending, Opening, Recorder, Step, Trouble, Watched, replay, secrets::Secrets, stream::Stream,
};
use crate::{
    Bridge, ConnId, Duration, Instant, Target,
    api::Vendor,
    config::{Config, Provider},
    http1::Limits,
    mcp,
    secret::Secret,
    session::{Action, Event, Session},
};

const KEY: &str = "sk-pool-never-shown-0001";
const OWN: &str = "sk-mine-never-shown-0002";
const NEVER: &str = "never-shown";

/// What a stream makes of these pieces.
fn redacted(mut stream: Stream, pieces: impl IntoIterator<Item = Bytes>) -> String {
    let mut secrets = Secrets::default();
    secrets.placeholder(KEY.as_bytes());
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(stream.push(&piece, &mut secrets).bytes);
    }
    all.extend(stream.end(&mut secrets).bytes);
    String::from_utf8(all).unwrap()
}

/// Bytes in pieces that end at these places.
fn cut(bytes: &'static str, mut at: Vec<usize>) -> Vec<Bytes> {
    at.sort_unstable();
    let mut rest = Bytes::from_static(bytes.as_bytes());
    let mut pieces = Vec::new();
    let mut before = 0;
    for at in at {
        pieces.push(rest.split_to(at - before));
        before = at;
    }
    pieces.push(rest);
    pieces
}

/// Two requests one after the other, the first with a secret in its body, and something that is no
/// request.
const REQUESTS: &str = "POST /v1?key=never-shown-1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer sk-mine-never-shown-0002\r\ncontent-length: 57\r\n\r\n\
    {\"a\":\"sk-pool-never-shown-0001 sk-mine-never-shown-0002\"}\
    GET / HTTP/1.1\r\nhost: h\r\nx-api-key: never-shown-4\r\n\r\n\
    \x01\x02\r\nx-api-key: never-shown-5\r\n\r\n";
const REPLY: &str = "HTTP/1.1 103 Early Hints\r\nset-cookie: never-shown-6\r\n\r\n\
    HTTP/1.1 200 OK\r\nset-cookie: a=never-shown-7; path=/\r\nmcp-session-id: never-shown-8\r\n\r\n\
    the key sk-pool-never-shown-0001 is bad, sk-pool-never-sh";

proptest! {
    #[test]
    fn wherever_input_is_cut_no_secret_is_left_and_all_else_is(
        at in prop::collection::vec(0..REQUESTS.len(), 0..12),
        reply_at in prop::collection::vec(0..REPLY.len(), 0..12),
    ) {
        let of_client = || Stream::of_client(&Limits::default());
        let streams: [(Stream, Stream, &'static str, Vec<usize>); 2] = [
            (of_client(), of_client(), REQUESTS, at),
            (Stream::of_upstream(), Stream::of_upstream(), REPLY, reply_at),
        ];
        for (one, other, bytes, at) in streams {
            let whole = redacted(one, [Bytes::from_static(bytes.as_bytes())]);
            prop_assert_eq!(whole.len(), bytes.len());
            prop_assert!(!whole.contains(NEVER), "{}", whole);
            let pieces = redacted(other, cut(bytes, at));
            // Of what comes after something that is no request, nobody reads anything: it is blank.
            let read = bytes.find('\x01').unwrap_or(bytes.len());
            prop_assert_eq!(&pieces[..read], &whole[..read]);
            prop_assert!(!pieces.contains(NEVER), "{}", pieces);
        }
    }
}

#[test]
fn what_is_no_secret_stays() {
    for bytes in [
        "POST /v1/messages?beta=true HTTP/1.1\r\nhost: h\r\nx-api-key: aibridge\r\ncontent-length: 4\r\n\r\n{s: sk-po",
        "GET /?q=a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer\r\n\r\nGET / HTTP/1.1\r\nhost: h",
    ] {
        let pieces = bytes.as_bytes().chunks(3).map(Bytes::from_static);
        assert_eq!(
            redacted(Stream::of_client(&Limits::default()), pieces),
            bytes
        );
    }
}

/// A bridge with one session that is recorded, and the connection of its one call, if it has made
/// one.
struct World {
    bridge: Bridge,
    session: Watched,
    steps: mpsc::Receiver<Step>,
    recorder: Recorder,
    now: Instant,
    call: Option<ConnId>,
}

impl World {
    fn new() -> Self {
        let target = Target {
            host: "h".into(),
            port: 1,
            tls: false,
        };
        let anthropic =
            Provider::new("anthropic", Vendor::Anthropic, target.clone(), "").with_keys([KEY]);
        let server = mcp::Server::new("desk", target, "/mcp")
            .with_header("x-desk".parse().unwrap(), &Secret::new("never-shown-desk"))
            .unwrap();
        let config = Config {
            providers: vec![Arc::new(anthropic)],
            mcp: vec![Arc::new(server)],
            ..Config::default()
        };
        let mut bridge = Bridge::new(Arc::new(config), 5).unwrap();
        let now = Instant::from_secs(1_700_000_000);
        let session: Session = bridge.connected(now);
        let recorder = Recorder::new(Opening::of(now, &session), "test");
        let (tell, steps) = mpsc::channel();
        let tell = move |step: Step| tell.send(step).unwrap();
        Self {
            session: Watched::new(session, Some(Box::new(tell))),
            bridge,
            steps,
            recorder,
            now,
            call: None,
        }
    }

    fn tell(&mut self, event: Event) {
        self.now += Duration::from_millis(1);
        self.session.handle(self.now, event);
        loop {
            while let Some(action) = self.session.poll_action() {
                if let Action::Open(conn, _) = action {
                    self.call = Some(conn);
                }
            }
            let Some(query) = self.session.poll_query() else {
                break;
            };
            let answer = self.bridge.answer(self.now, query);
            self.session.handle_answer(self.now, answer);
        }
        for step in self.steps.try_iter() {
            self.recorder.record(step);
        }
    }

    /// Bytes from the client, one by one.
    fn dribble(&mut self, conn: ConnId, text: &str) {
        for byte in text.bytes() {
            self.tell(Event::Received(conn, Bytes::from(vec![byte])));
        }
    }

    fn ask(&mut self, body: &str) -> ConnId {
        let len = body.len();
        let request = format!(
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: h\r\nx-api-key: {OWN}\r\ncontent-length: {len}\r\n\r\n{body}"
        );
        self.dribble(ConnId::CLIENT, &request);
        let conn = self.call.unwrap();
        self.tell(Event::Opened(conn));
        conn
    }

    fn trace(mut self) -> String {
        self.tell(Event::Ended(ConnId::CLIENT));
        String::from_utf8(self.recorder.finish()).unwrap()
    }
}

const QUESTION: &str =
    r#"{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;

#[test]
fn a_client_that_quotes_its_key_is_compared_to_the_end() {
    let mut world = World::new();
    let quotes = QUESTION.replace("Hi", &format!("Is {OWN} a key? Is {KEY}?"));
    let conn = world.ask(&quotes);
    world.dribble(
        conn,
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
    );
    let trace = world.trace();
    assert!(!trace.contains(NEVER), "{trace}");
    assert_eq!(replay(trace.as_bytes()).unwrap().unsure, None);
}

#[test]
fn an_upstream_that_repeats_a_key_leaves_lengths_to_be_compared() {
    let mut world = World::new();
    let conn = world.ask(QUESTION);
    let said = format!("data: the key {OWN} is wrong\n\n");
    let len = said.len();
    world.dribble(
        conn,
        &format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len}\r\n\r\n{said}"),
    );
    let trace = world.trace();
    assert!(!trace.contains(NEVER), "{trace}");
    let summary = replay(trace.as_bytes()).unwrap();
    assert_eq!(
        summary.unsure.as_deref(),
        Some("an upstream repeated a secret")
    );

    let longer = trace.replacen("\"len\":1,", "\"len\":2,", 1);
    if longer != trace {
        assert!(matches!(
            replay(longer.as_bytes()),
            Err(Trouble::Differs(_))
        ));
    }
}

#[test]
fn a_recorder_that_would_hold_too_much_gives_up_and_says_so() {
    let mut world = World::new();
    let conn = world.ask(QUESTION);
    // A head that does not come to its end holds back all that happens meanwhile.
    world.tell(Event::Received(
        ConnId::CLIENT,
        "POST / HTTP/1.1\r\nx-api-key: never-sh".into(),
    ));
    world.dribble(
        conn,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
    );
    let piece = Bytes::from("data: x\n\n".repeat(10_000));
    for _ in 0..200 {
        world.tell(Event::Received(conn, piece.clone()));
        world.tell(Event::Sent(ConnId::CLIENT, usize::MAX));
    }
    let trace = world.trace();
    assert!(!trace.contains("never-sh"), "{}", trace.len());
    assert!(trace.len() < 1 << 20, "{}", trace.len());
    let summary = replay(trace.as_bytes()).unwrap();
    assert!(matches!(&summary.ending, Ending::Early(why) if why.contains("too much came")));
}

/// Found by the fuzzer: to replace a "key" wherever it stands made another request of it.
#[test]
fn a_key_that_is_a_word_of_http_or_json_is_replaced_in_its_own_place_only() {
    for key in ["HTTP/1.1", "h1 HTTP/1.1", "messages", "application/json"] {
        let mut world = World::new();
        let len = QUESTION.len();
        let request = format!(
            "POST /anthropic/v1/messages HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\nx-api-key: {key}\r\ncontent-length: {len}\r\n\r\n{QUESTION}"
        );
        world.dribble(ConnId::CLIENT, &request);
        let conn = world.call.unwrap();
        world.tell(Event::Opened(conn));
        world.dribble(
            conn,
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
        );
        let trace = world.trace();
        let shown = format!("x-api-key: {key}");
        assert!(!trace.contains(&shown), "{trace}");
        if let Err(trouble) = replay(trace.as_bytes()) {
            panic!("{key}: {trouble}");
        }
    }
}
