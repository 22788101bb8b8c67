//! The upstream's end: one exchange of a request and a response on one connection.
//!
//! A parked connection may have been closed by upstream at any moment. Where it fails before the
//! first byte of a response, the exchange begins once more on a fresh one: that is nobody's fault,
//! so neither the key nor the client hears of it.

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method};

use super::{Action, Asked, Flow, Session};
use crate::{
    bridge::Query,
    codec::Step,
    fault::Fault,
    frame::Frame,
    http1::{
        Limits,
        client::{Decoder, Item, encode_head},
        is_credential,
    },
    id::{CallId, ConnId},
    interception::{self, UpstreamRequest},
    mcp::{self, Input as Came},
    target::Target,
    time::{Instant, after},
};

/// One request and its response.
#[derive(Debug)]
pub(super) struct Exchange {
    whose: Whose,
    target: Target,
    /// What to send again on a fresh connection; gone with the first byte of the response.
    request: Option<Wanted>,
    stage: Stage,
    decoder: Decoder,
    /// Bytes given to the adapter and not yet written.
    unsent: usize,
}

/// Whom an exchange is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// An exchange with an MCP server.
    Tool(mcp::ExchangeId),
    /// A call of the interception's.
    Upstream(CallId),
}

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Wanted {
    Tool(Box<mcp::Request>),
    Upstream(Box<UpstreamRequest>),
}

impl Wanted {
    fn target(&self) -> &Target {
        match self {
            Self::Tool(request) => &request.server.target,
            Self::Upstream(request) => &request.provider.target,
        }
    }

    fn method(&self) -> &Method {
        match self {
            Self::Tool(request) => &request.method,
            Self::Upstream(request) => &request.method,
        }
    }

    fn body(&self) -> &Bytes {
        match self {
            Self::Tool(request) => &request.body,
            Self::Upstream(request) => &request.body,
        }
    }

    fn head(&self) -> Frame {
        let authority = self.target().authority();
        let len = self.body().len() as u64;
        match self {
            Self::Tool(request) => {
                let (credentials, others): (Vec<_>, Vec<_>) = request
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .partition(|(name, _)| is_credential(name));
                let headers = HeaderMap::from_iter(others);
                let (method, path) = (&request.method, &request.server.path);
                encode_head(method, path, &authority, &headers, &credentials, len)
            }
            Self::Upstream(request) => encode_head(
                &request.method,
                &request.path,
                &authority,
                &request.headers,
                std::slice::from_ref(&request.credential),
                len,
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The bridge has been asked for a connection.
    Asked,
    /// The connection is being opened, until then.
    Opening(ConnId, Option<Instant>),
    /// The connection is up; whether it was parked before.
    Up(ConnId, Reused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reused {
    No,
    Yes,
}

impl Exchange {
    fn new(whose: Whose, request: Wanted, limits: &Limits) -> Self {
        Self {
            whose,
            target: request.target().clone(),
            decoder: decoder(limits, request.method()),
            request: Some(request),
            stage: Stage::Asked,
            unsent: 0,
        }
    }

    /// Whether it is with an MCP server.
    pub(super) const fn is_with_server(&self) -> bool {
        matches!(self.whose, Whose::Tool(_))
    }

    pub(super) fn is_on(&self, conn: ConnId) -> bool {
        self.conn() == Some(conn)
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.stage {
            Stage::Asked => None,
            Stage::Opening(conn, _) | Stage::Up(conn, _) => Some(conn),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Opening(_, deadline) => deadline,
            Stage::Asked | Stage::Up(..) => None,
        }
    }

    /// Whether a failure now only says that a parked connection was dead.
    fn was_stale(&self) -> bool {
        matches!(self.stage, Stage::Up(_, Reused::Yes)) && !self.decoder.started()
    }
}

/// Upstream's bodies have no limit: they are relayed, not kept.
fn decoder(limits: &Limits, method: &Method) -> Decoder {
    Decoder::new(
        Limits {
            body: u64::MAX,
            ..limits.clone()
        },
        method,
    )
}

impl Session {
    /// Begins a call.
    pub(super) fn begin_exchange(&mut self, whose: Whose, request: Wanted) {
        let exchange = Exchange::new(whose, request, &self.config.limits);
        let query = Query::Connect {
            target: exchange.target.clone(),
            fresh: exchange.is_with_server(),
        };
        self.exchanges.push(exchange);
        self.ask(Asked::Connect(whose), query);
    }

    /// The bridge has said which connection to use.
    pub(super) fn connect(&mut self, now: Instant, whose: Whose, conn: ConnId, parked: bool) {
        if parked {
            self.out.actions.push_back(Action::Unpark(conn));
        }
        let Some(exchange) = self.exchanges.iter_mut().find(|e| e.whose == whose) else {
            // Given up meanwhile.
            if parked {
                self.out.actions.push_back(Action::Close(conn));
            }
            return;
        };
        let Some(request) = &exchange.request else {
            return;
        };
        if parked {
            exchange.stage = Stage::Up(conn, Reused::Yes);
        } else {
            let deadline = after(now, self.config.timeouts.connect);
            exchange.stage = Stage::Opening(conn, deadline);
            self.out
                .actions
                .push_back(Action::Open(conn, exchange.target.clone()));
        }
        let (head, body) = (request.head(), Frame::raw(request.body().clone()));
        for frame in [head, body] {
            if frame.has_remaining() {
                exchange.unsent += frame.remaining();
                self.out.actions.push_back(Action::Send(conn, frame));
            }
        }
    }

    /// Gives a call up. A response that happens to be complete leaves its connection in order.
    pub(super) fn abort_exchange(&mut self, whose: Whose) {
        let Some(at) = self.exchanges.iter().position(|e| e.whose == whose) else {
            return;
        };
        let mut exchange = self.exchanges.swap_remove(at);
        let Some(conn) = exchange.conn() else {
            return;
        };
        while let Ok(Step::Item(_)) = exchange.decoder.next() {}
        self.release(conn, exchange);
    }

    pub(super) fn upstream_opened(&mut self, conn: ConnId) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|e| e.is_on(conn)) {
            exchange.stage = Stage::Up(conn, Reused::No);
        }
    }

    pub(super) fn upstream_took(&mut self, conn: ConnId, count: usize) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|e| e.is_on(conn)) {
            exchange.unsent = exchange.unsent.saturating_sub(count);
        }
    }

    pub(super) fn upstream_sent(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|e| e.is_on(conn)) {
            exchange.decoder.push(bytes);
            self.read_exchange(now, conn, Fault::Protocol);
        }
    }

    pub(super) fn upstream_ended(&mut self, now: Instant, conn: ConnId) {
        if let Some(exchange) = self.exchanges.iter_mut().find(|e| e.is_on(conn)) {
            exchange.decoder.end();
            self.read_exchange(now, conn, Fault::Closed);
        }
    }

    /// The connection is gone, with whatever was on it.
    pub(super) fn upstream_failed(&mut self, now: Instant, conn: ConnId, fault: Fault) {
        let Some(at) = self.exchanges.iter().position(|e| e.is_on(conn)) else {
            return;
        };
        let mut exchange = self.exchanges.swap_remove(at);
        let whose = exchange.whose;
        if exchange.was_stale()
            && let Some(request) = &exchange.request
        {
            exchange.decoder = decoder(&self.config.limits, request.method());
            exchange.stage = Stage::Asked;
            exchange.unsent = 0;
            let query = Query::Connect {
                target: exchange.target.clone(),
                fresh: true,
            };
            self.exchanges.push(exchange);
            self.ask(Asked::Connect(whose), query);
            return;
        }
        self.came(now, whose, Came::Failed(fault));
    }

    /// Connections that took too long to come up.
    pub(super) fn time_exchanges(&mut self, now: Instant) {
        let is_late = |e: &Exchange| e.deadline().is_some_and(|at| at <= now);
        while let Some(conn) = self
            .exchanges
            .iter()
            .find(|e| is_late(e))
            .and_then(Exchange::conn)
        {
            self.out.actions.push_back(Action::Close(conn));
            self.upstream_failed(now, conn, Fault::ConnectTimeout);
        }
    }

    /// Tells the interception what the decoder has, until it wants more. `or` is the fault if it is
    /// no response.
    fn read_exchange(&mut self, now: Instant, conn: ConnId, or: Fault) {
        // Looked up afresh each time: what the interception is told may end the exchange.
        while let Some(at) = self.exchanges.iter().position(|e| e.is_on(conn)) {
            let exchange = &mut self.exchanges[at];
            let whose = exchange.whose;
            let item = match exchange.decoder.next() {
                Ok(Step::Item(item)) => item,
                Ok(Step::More | Step::Pause) => return,
                Err(_) => {
                    self.out.actions.push_back(Action::Close(conn));
                    return self.upstream_failed(now, conn, or);
                }
            };
            match item {
                Item::Interim(_) => exchange.request = None,
                Item::Head(head) => {
                    exchange.request = None;
                    self.came(now, whose, Came::Head(head.status, head.headers));
                }
                Item::Body(bytes) => self.came(now, whose, Came::Body(bytes)),
                Item::End => {
                    let exchange = self.exchanges.swap_remove(at);
                    self.release(conn, exchange);
                    self.came(now, whose, Came::End);
                }
            }
        }
    }

    /// Tells whose exchange it is what came of it.
    fn came(&mut self, now: Instant, whose: Whose, came: Came) {
        match whose {
            Whose::Tool(on) => self.tool_exchange(now, on, came),
            Whose::Upstream(call) => {
                let event = match came {
                    Came::Body(bytes) => interception::Event::UpstreamBody(call, bytes),
                    Came::End => interception::Event::UpstreamEnd(call),
                    Came::Failed(fault) => interception::Event::UpstreamFailed(call, fault),
                    Came::Head(status, headers) => {
                        interception::Event::UpstreamHead(call, status, headers)
                    }
                };
                self.tell(now, event);
            }
        }
    }

    /// What becomes of a connection whose exchange is over.
    fn release(&mut self, conn: ConnId, exchange: Exchange) {
        let is_in_order = exchange.decoder.reusable() && exchange.unsent == 0;
        let action = if is_in_order && !exchange.is_with_server() {
            Action::Park(conn, exchange.target)
        } else {
            Action::Close(conn)
        };
        self.out.actions.push_back(action);
    }

    pub(super) fn tell(&mut self, now: Instant, event: interception::Event) {
        if let Flow::Running(running) = &mut self.flow {
            running.interception.handle(now, event);
            self.pump(now);
        }
    }
}
