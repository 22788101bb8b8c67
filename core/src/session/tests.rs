//! Sessions driven by hand, where it matters when the client takes what it is sent.

use std::fmt::Write;

use bytes::Buf;

use super::*;
use crate::{
    api::Vendor,
    bridge::Bridge,
    config::Provider,
    mcp::{News, Terms, Version},
    record::Outcome,
    time::Duration,
};

/// A session, its bridge, and what it wanted done with its client's connection.
struct Desk {
    bridge: Bridge,
    session: Session,
    now: Instant,
    sent: Vec<u8>,
    /// Bytes sent that the client has not taken.
    untaken: usize,
    called: Option<ConnId>,
    actions: Vec<Action>,
    outcomes: Vec<Outcome>,
}

impl Desk {
    fn new(config: Config) -> Self {
        let target = Target {
            host: "api.example".into(),
            port: 80,
            tls: false,
        };
        let provider = Provider::new("p", Vendor::Anthropic, target, "").with_keys(["key-one"]);
        let config = Config {
            providers: vec![Arc::new(provider)],
            ..config
        };
        let mut bridge = Bridge::new(Arc::new(config), 1).unwrap();
        let now = Instant::from_secs(1);
        Self {
            session: bridge.connected(now),
            bridge,
            now,
            sent: vec![],
            untaken: 0,
            called: None,
            actions: vec![],
            outcomes: vec![],
        }
    }

    fn drain(&mut self) {
        loop {
            while let Some(action) = self.session.poll_action() {
                match action {
                    Action::Send(conn, mut frame) => {
                        let bytes = frame.copy_to_bytes(frame.remaining());
                        if conn.is_client() {
                            self.untaken += bytes.len();
                            self.sent.extend_from_slice(&bytes);
                        } else {
                            self.session
                                .handle(self.now, Event::Sent(conn, bytes.len()));
                        }
                    }
                    Action::Open(conn, _) => {
                        self.called = Some(conn);
                        self.session.handle(self.now, Event::Opened(conn));
                    }
                    Action::Emit(record) => {
                        if let Record::Ended(_, ended) = *record {
                            self.outcomes.push(ended.outcome);
                        }
                    }
                    action => self.actions.push(action),
                }
            }
            let Some(query) = self.session.poll_query() else {
                return;
            };
            let answer = self.bridge.answer(self.now, query);
            self.session.handle_answer(self.now, answer);
        }
    }

    fn tell(&mut self, event: Event) {
        self.session.handle(self.now, event);
        self.drain();
    }

    fn receive(&mut self, bytes: impl Into<Bytes>) {
        self.tell(Event::Received(ConnId::CLIENT, bytes.into()));
    }

    fn end(&mut self) {
        self.tell(Event::Ended(ConnId::CLIENT));
    }

    fn take(&mut self, count: usize) {
        self.untaken -= count;
        self.tell(Event::Sent(ConnId::CLIENT, count));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.drain();
    }

    fn wants_read(&self) -> bool {
        self.session.wants_read(ConnId::CLIENT)
    }

    fn is_finished(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|it| matches!(it, Action::Finish(ConnId::CLIENT)))
    }

    fn is_closed(&self) -> bool {
        let mut actions = self.actions.iter();
        actions.any(|it| matches!(it, Action::Close(ConnId::CLIENT)))
    }

    /// The client takes all there is, a few bytes at a time, and the session is over.
    fn take_the_rest(&mut self) {
        assert!(self.untaken > 0);
        while self.untaken > 0 {
            assert!(!self.is_closed(), "{} bytes destroyed", self.untaken);
            self.take(self.untaken.min(100));
        }
        assert!(self.is_finished());
        self.pass(Duration::from_secs(1));
        assert!(self.is_closed() && matches!(self.actions.last(), Some(Action::Done)));
    }
}

const NOWHERE: &str = "GET /nowhere HTTP/1.1\r\nhost: b\r\n\r\n";
const LAST: &str = "GET /nowhere HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n";

fn post(body: &str) -> String {
    let len = body.len();
    format!("POST /p/v1/messages HTTP/1.1\r\nhost: b\r\ncontent-length: {len}\r\n\r\n{body}")
}

fn ask() -> String {
    post(r#"{"model":"m","stream":true,"messages":[]}"#)
}

#[test]
fn a_client_that_ends_its_side_gets_the_rest_of_a_finished_reply() {
    for request in [NOWHERE, LAST, "nonsense\r\n\r\n"] {
        let mut desk = Desk::new(Config::default());
        desk.receive(request);
        desk.end();
        desk.take_the_rest();
    }
}

#[test]
fn a_reply_that_was_relayed_is_sent_to_its_end_too() {
    let mut desk = Desk::new(Config::default());
    desk.receive(ask());
    let upstream = desk.called.unwrap();
    let reply = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    desk.tell(Event::Received(upstream, Bytes::from(reply)));
    desk.end();
    desk.take_the_rest();
    assert_eq!(desk.outcomes.len(), 1);
    assert!(desk.sent.ends_with(b"{}"));
}

#[test]
fn a_request_that_runs_is_cancelled_and_the_reply_before_it_is_sent() {
    let mut desk = Desk::new(Config::default());
    desk.receive([NOWHERE, &*ask()].concat());
    assert!(desk.called.is_some());
    desk.end();
    assert_eq!(desk.outcomes, [Outcome::Cancelled]);
    desk.take_the_rest();
}

#[test]
fn a_request_that_is_being_read_is_given_up_and_the_reply_before_it_is_sent() {
    let whole = ask();
    for cut in [10, whole.len() - 1] {
        let mut desk = Desk::new(Config::default());
        desk.receive([NOWHERE, &whole[..cut]].concat());
        desk.end();
        assert!(desk.session.ticket().is_none());
        desk.take_the_rest();
        assert!(desk.called.is_none());
    }
}

#[test]
fn a_client_that_ends_its_side_and_takes_nothing_is_let_go() {
    let mut desk = Desk::new(Config::default());
    desk.receive(LAST);
    desk.end();
    assert!(!desk.is_closed());
    desk.pass(Duration::from_secs(60));
    assert!(desk.is_closed() && matches!(desk.actions.last(), Some(Action::Done)));
}

#[test]
fn a_client_that_ends_its_side_while_its_request_runs_has_left() {
    let mut desk = Desk::new(Config::default());
    desk.receive(ask());
    let upstream = desk.called.unwrap();
    let begun =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    desk.tell(Event::Received(upstream, Bytes::from(begun)));
    assert!(desk.untaken > 0);
    desk.end();
    assert!(desk.is_closed(), "what was begun is of no use");
    assert_eq!(desk.outcomes, [Outcome::Cancelled]);
}

#[test]
fn a_head_as_large_as_its_limit_is_read_and_a_larger_one_refused() {
    let config = || {
        let mut config = Config::default();
        config.limits.head = 256 << 10;
        config
    };
    let mut head = String::from("GET /nowhere HTTP/1.1\r\nhost: b\r\n");
    for nth in 0..20 {
        write!(head, "x-{nth}: {}\r\n", "x".repeat(10_000)).unwrap();
    }
    for (end, status) in [("\r\n", "404"), ("x: ", "431")] {
        let mut desk = Desk::new(config());
        let endless = [head.as_str(), end, &"x".repeat(100_000)].concat();
        let sent = if status == "404" {
            [head.as_str(), end].concat()
        } else {
            endless
        };
        for piece in sent.as_bytes().chunks(16 << 10) {
            if desk.sent.is_empty() {
                assert!(desk.wants_read());
                desk.receive(Bytes::copy_from_slice(piece));
            }
        }
        let answer = String::from_utf8_lossy(&desk.sent);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

/// The MCP server is told to give up the call, though nobody waits for the client any more.
#[test]
fn a_client_that_stalls_while_a_tool_runs_has_it_cancelled_all_the_same() {
    let target = Target {
        host: "tools.example".into(),
        port: 80,
        tls: false,
    };
    let server = Arc::new(mcp::Server::new("desk", target, "/mcp"));
    let mut config = Config {
        mcp: vec![Arc::clone(&server)],
        ..Config::default()
    };
    config.timeouts.client_body = Duration::from_secs(5);
    let mut desk = Desk::new(config);
    let terms = Terms {
        version: Version::V20251125,
        session: None,
    };
    let tools = News::Tools {
        tools: [Arc::new(mcp::Tool::new("look", "", "{}".into()))].into(),
        refused: vec![],
    };
    for news in [tools, News::Up(terms)] {
        let query = Query::News(Arc::clone(&server), news);
        desk.bridge.answer(desk.now, query);
    }
    desk.receive(ask());
    let body = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"bmcp_desk_look\",\"input\":{}}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = desk.called.take().unwrap();
    desk.tell(Event::Received(upstream, reply.into()));
    assert!(desk.called.is_some(), "the tool is called");
    assert!(desk.untaken > 0);
    desk.pass(Duration::from_secs(5));
    assert!(desk.is_closed(), "the client is given up");
    desk.pass(Duration::from_millis(1));
    let is_over = |desk: &Desk| desk.actions.iter().any(|it| matches!(it, Action::Done));
    assert!(!is_over(&desk), "the server has not heard it yet");
    let farewell = desk.called.unwrap();
    let heard = Bytes::from("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    desk.tell(Event::Received(farewell, heard));
    assert!(is_over(&desk));
}
