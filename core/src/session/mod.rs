//! One client connection, at the level of bytes.
//!
//! A [`Session`] reads HTTP/1.1 requests from its client one at a time (pipelined ones wait in the
//! decoder), runs an [`Interception`](crate::Interception) for each, speaks HTTP/1.1 to upstreams
//! on connections of its own, and writes the reply. What it shares with other sessions (keys, idle
//! connections, admission) it never touches: it asks.
//!
//! It is driven by [the contract](crate#the-contract). Besides: an interception's last record comes
//! before the last bytes of its reply ([`Action::Emit`] before [`Action::Send`]): an adapter that
//! keeps records where they survive a crash before it writes on, has every interception whose reply
//! a client has seen to its end.
//!
//! # States of the client's connection
//!
//! ```text
//!         head              admitted, a limit to it           body complete
//!  Head ────────▶ Admitting ─────────────────▶ Entering ──▶ Body ──────────▶ Running
//!   ▲                 │ └─────── no limit ──────────┼────────▲ │                │
//!   │                 └────────── refused ──────────┴──────────┴─ error reply ─▶│
//!   └────────────────────────────── keep-alive ─────────────────────────────────┤ close
//!                                                                               ▼
//!                                                                           Lingering ──▶ Over
//! ```
//!
//! From anywhere, a client that is gone leads to `Over`; through `Parting`, where MCP servers are
//! still to be told that nobody waits for their tools. A session without a client is in `Keeping`,
//! from its start to `Over`.
//!
//! A client that ends its side has left: what it asked for is cancelled. Of a finished reply it
//! still gets what is to be written.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::{
    bridge::{Answer, Query, Ticket},
    config::Config,
    fault::Fault,
    frame::Frame,
    id::ConnId,
    interception::{self, ToolCall},
    mcp::{self, Keeper, KeeperSettings, ToolCallId},
    record::Record,
    rng::Rng,
    target::Target,
    time::{Duration, Instant, earliest},
};

mod client;
mod flow;
mod gather;
mod running;
#[cfg(test)]
mod tests;
mod tools;
mod upload;
mod upstream;

use client::Client;
use flow::Flow;
use tools::{Keeping, Tools};
use upstream::{Exchange, Whose};

/// What happens to a session's connections.
#[derive(Clone, Debug)]
pub enum Event {
    /// The bridge is shutting down: finish what runs, take nothing new.
    Drain,
    /// The peer ended its side: no more bytes will come. Those that came, came before.
    Ended(ConnId),
    /// The connection failed, or could not be opened, or was not alive on the shelf. It is gone.
    ///
    /// An adapter that has to give a session up tells it that the client's connection failed, and
    /// drains it once more: so nothing goes unrecorded.
    Failed(ConnId, Fault),
    /// `Open` has succeeded, TLS included.
    Opened(ConnId),
    /// Bytes came.
    Received(ConnId, Bytes),
    /// So many more of the bytes given with `Send` have been written to the socket.
    Sent(ConnId, usize),
}

/// What a session wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Drop the connection at once, unsent bytes too.
    Close(ConnId),
    /// The session is over: drop it. Every connection of its own has been closed or parked before.
    Done,
    /// Keep a record.
    Emit(Box<Record>),
    /// When all that was given is written, end our side (`shutdown(SHUT_WR)`). `Close` follows when
    /// the peer has ended its own, or soon after: closing at once could destroy bytes on their way
    /// to the client (RFC 9112 §9.6).
    Finish(ConnId),
    /// Connect. Answered by `Opened` or `Failed`; `Send` may come before that and waits.
    Open(ConnId, Target),
    /// The connection to this origin is idle and in order: put it on the shelf, then tell
    /// [`Bridge::park`](crate::Bridge::park) of it. In this order: who is lent the connection must
    /// find it there. It has no unsent bytes.
    Park(ConnId, Target),
    /// Drop the connection at once and have the peer see that it was cut (a TCP reset), where its
    /// orderly end would pass for the end of the reply.
    Reset(ConnId),
    /// Write.
    Send(ConnId, Frame),
    /// Take the connection from the shelf. If it is gone, or has bytes or an end to read, answer
    /// `Failed(_, Closed)`.
    Unpark(ConnId),
}

/// What a TLS connection of a session's is said to carry (RFC 7301 §6).
pub const ALPN: &[u8] = b"http/1.1";

/// Bytes on their way to the client above which upstream is not read, so that a slow client slows
/// its upstream.
const SEND_WINDOW: usize = 128 << 10;

/// How much later than a call's own limit its MCP session may be deleted at the earliest.
const CALL_MARGIN: Duration = Duration::from_secs(10);

/// One client connection. See the [module](self), and [the contract](crate#the-contract).
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{Bridge, ConnId, Instant, Session, config::Config, session::{Action, Event}};
/// use bytes::{Buf, Bytes};
///
/// let mut bridge = Bridge::new(Arc::new(Config::default()), 1).unwrap();
/// let now = Instant::from_secs(1);
/// let mut session = bridge.connected(now);
///
/// let request = Bytes::from_static(b"GET /nowhere HTTP/1.1\r\nhost: bridge\r\n\r\n");
/// session.handle(now, Event::Received(ConnId::CLIENT, request));
///
/// let mut written = Vec::new();
/// loop {
///     while let Some(action) = session.poll_action() {
///         match action {
///             Action::Emit(record) => println!("{record:?}"),
///             Action::Send(ConnId::CLIENT, mut frame) => {
///                 let bytes = frame.copy_to_bytes(frame.remaining());
///                 session.handle(now, Event::Sent(ConnId::CLIENT, bytes.len()));
///                 written.extend_from_slice(&bytes);
///             }
///             action => panic!("{action:?}"),
///         }
///     }
///     let Some(query) = session.poll_query() else { break };
///     let answer = bridge.answer(now, query);
///     session.handle_answer(now, answer);
/// }
/// assert!(written.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
/// assert!(session.wants_read(ConnId::CLIENT));
///
/// // The client has left.
/// bridge.disconnected(&session);
/// ```
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    rng: Rng,
    client: Client,
    flow: Flow,
    exchanges: Vec<Exchange>,
    asked: VecDeque<Asked>,
    /// Only once a tool was called.
    tools: Option<Box<Tools>>,
    /// The request that is in.
    ticket: Option<Ticket>,
    /// The bridge counts its connection.
    counted: bool,
    /// There are too many connections: this one is told so.
    crowded: bool,
    out: Outbox,
}

/// What an outstanding query is for.
#[derive(Debug)]
enum Asked {
    Admit,
    Connect(Whose),
    Enter,
    Hold,
    Interception,
    Keep,
    Terms(ToolCallId, Box<ToolCall>),
    Told,
}

/// What the parts of a session push their outputs into.
#[derive(Debug, Default)]
struct Outbox {
    queries: VecDeque<Query>,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session at the start of its connection, under the configuration in force.
    /// [`Bridge::connected`](crate::Bridge::connected) makes one that is counted.
    pub(crate) fn new(now: Instant, config: Arc<Config>, rng: Rng) -> Self {
        Self {
            client: Client::new(now, &config),
            config,
            rng,
            flow: Flow::Head,
            exchanges: Vec::new(),
            asked: VecDeque::new(),
            tools: None,
            ticket: None,
            counted: false,
            crowded: false,
            out: Outbox::default(),
        }
    }

    /// The same, as one of the connections that the bridge counts.
    pub(crate) fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded
    }

    pub(crate) const fn rng(&self) -> &Rng {
        &self.rng
    }

    pub(crate) const fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Whether neither an action nor a question is left to take.
    pub(crate) fn is_drained(&self) -> bool {
        self.out.actions.is_empty() && self.out.queries.is_empty()
    }

    /// The connections that it wants to read.
    pub(crate) fn reading(&self) -> impl Iterator<Item = ConnId> {
        let conns = self.exchanges.iter().filter_map(Exchange::conn);
        let conns = [ConnId::CLIENT].into_iter().chain(conns);
        conns.filter(|conn| self.wants_read(*conn))
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.counted
    }

    /// The same, as one connection too many: its first request is answered with 503, and it has
    /// little time to make one.
    pub(crate) fn crowded(mut self, now: Instant) -> Self {
        self.crowded = true;
        self.client.hurry(now);
        self
    }

    /// The request that is in, as the bridge knows it. One that has ended is still in while the
    /// bridge has not been told, which it never is if the session is over with that.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        let untold_release = || {
            let mut untold = self.out.queries.iter();
            untold.find_map(|query| match query {
                Query::Release(ticket) => Some(*ticket),
                _ => None,
            })
        };
        self.ticket.or_else(untold_release)
    }

    /// A session without a client, which keeps an MCP server: connected, and its tools known. It
    /// asks and is driven as any other; [`Event::Drain`] makes it take leave, and comes when no
    /// client's session is left: calls run in what it keeps. See
    /// [`Bridge::keepers`](crate::Bridge::keepers).
    pub fn keeper(
        now: Instant,
        config: Arc<Config>,
        server: Arc<mcp::Server>,
        mut rng: Rng,
    ) -> Self {
        let settings = KeeperSettings::default();
        let call = config.tools.call.saturating_add(CALL_MARGIN);
        let settings = KeeperSettings {
            retire: settings.retire.max(call),
            ..settings
        };
        let keeper = Keeper::new(now, server, settings, rng.fork());
        let mut session = Self::new(now, config, rng);
        session.flow = Flow::Keeping(Box::new(Keeping::new(now, keeper)));
        session.pump_keeper();
        session
    }

    /// Something happened to a connection.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            _ if matches!(self.flow, Flow::Over) => {}
            Event::Drain => self.drain(now),
            Event::Ended(ConnId::CLIENT) => self.client_ended(now),
            Event::Failed(ConnId::CLIENT, _) => self.client_gone(now),
            Event::Opened(ConnId::CLIENT) => {}
            Event::Received(ConnId::CLIENT, bytes) => self.client_sent(now, bytes),
            Event::Sent(ConnId::CLIENT, count) => self.client_took(now, count),
            Event::Ended(conn) => self.upstream_ended(now, conn),
            Event::Failed(conn, fault) => self.upstream_failed(now, conn, fault),
            Event::Opened(conn) => self.upstream_opened(conn),
            Event::Received(conn, bytes) => self.upstream_sent(now, conn, bytes),
            Event::Sent(conn, count) => self.upstream_took(conn, count),
        }
        self.send_gathered(now);
    }

    /// The answer to the last query.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        let Some(asked) = self.asked.pop_front() else {
            return;
        };
        match (asked, answer) {
            (Asked::Admit, Answer::Admit(admitted)) => self.admitted(now, admitted),
            (Asked::Connect(whose), Answer::Connect { conn, parked }) => {
                self.connect(now, whose, conn, parked);
            }
            (Asked::Enter, Answer::Granted(granted)) => self.entered(now, granted),
            (Asked::Hold, Answer::Granted(granted)) => self.held(now, granted),
            (Asked::Interception, Answer::Interception(answer)) => self.answered(now, answer),
            (Asked::Keep, Answer::Keep(words)) => self.keep(now, words),
            (Asked::Terms(id, call), Answer::Terms(terms)) => {
                self.terms(now, id, &call, terms.as_ref());
            }
            (Asked::Told, Answer::Told(record)) => self.told(record),
            (asked, answer) => debug_assert!(false, "{asked:?} answered by {answer:?}"),
        }
        self.send_gathered(now);
    }

    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.flow, Flow::Over) {
            return;
        }
        self.time_exchanges(now);
        self.time_interception(now);
        self.time_tools(now);
        self.time_client(now);
        self.send_gathered(now);
    }

    /// The next question. Each is answered, with `handle_answer`, before the next is asked.
    #[must_use]
    pub fn poll_query(&mut self) -> Option<Query> {
        self.out.queries.pop_front()
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connecting = self.exchanges.iter().filter_map(Exchange::deadline).min();
        let tools = self.tools.as_ref().and_then(|tools| tools.deadline());
        let flow = match &self.flow {
            Flow::Over => return None,
            Flow::Keeping(keeping) => Some(keeping.deadline()),
            Flow::Parting => None,
            Flow::Running(running) => {
                earliest(self.client.deadline(), running.interception.poll_timeout())
            }
            _ => self.client.deadline(),
        };
        earliest(earliest(flow, tools), connecting)
    }

    /// Whether bytes of this connection are wanted now. While not, the adapter reads none of them.
    pub fn wants_read(&self, conn: ConnId) -> bool {
        match &self.flow {
            Flow::Over => false,
            _ if !conn.is_client() => {
                let exchange = self.exchanges.iter().find(|e| e.is_on(conn));
                // What tools return is not on its way to the client.
                exchange.is_some_and(|e| e.is_with_server() || self.client.unsent < SEND_WINDOW)
            }
            Flow::Keeping(_) | Flow::Parting => false,
            Flow::Lingering => !self.client.ended,
            _ => !self.client.ended && self.client.may_hold_more(),
        }
    }

    fn ask(&mut self, asked: Asked, query: Query) {
        self.asked.push_back(asked);
        self.out.queries.push_back(query);
    }

    fn answered(&mut self, now: Instant, answer: interception::Answer) {
        if let Flow::Running(running) = &mut self.flow {
            running.interception.handle_answer(now, answer);
        }
        self.pump(now);
    }
}
