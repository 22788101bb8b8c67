//! The upstream's end: one exchange of a request and a response on one connection.
//!
//! A parked connection may have been closed by upstream at any moment. Where it fails before the first byte of a
//! response, the exchange begins once more on a fresh one: that is nobody's fault, so neither the key nor the client
//! hears of it.

use bytes::{Buf, Bytes};
use http::Method;

use super::{Action, Asked, Flow, Session};
use crate::{
    bridge::Query,
    codec::Step,
    fault::Fault,
    frame::Frame,
    http1::{
        Limits,
        client::{Decoder, Item, encode_head},
    },
    id::{CallId, ConnId},
    interception::{self, UpstreamRequest},
    target::Target,
    time::Instant,
};

/// One call to upstream.
#[derive(Debug)]
pub(super) struct Exchange {
    call: CallId,
    target: Target,
    /// What to send again on a fresh connection; gone with the first byte of the response.
    request: Option<UpstreamRequest>,
    stage: Stage,
    decoder: Decoder,
    /// Bytes given to the adapter and not yet written.
    unsent: usize,
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
    fn new(call: CallId, request: UpstreamRequest, limits: &Limits) -> Self {
        Self {
            call,
            target: request.provider.target.clone(),
            decoder: decoder(limits, &request.method),
            request: Some(request),
            stage: Stage::Asked,
            unsent: 0,
        }
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
    pub(super) fn begin_exchange(&mut self, call: CallId, request: UpstreamRequest) {
        let exchange = Exchange::new(call, request, &self.config.limits);
        let query = Query::Connect {
            target: exchange.target.clone(),
            fresh: false,
        };
        self.exchanges.push(exchange);
        self.ask(Asked::Connect(call), query);
    }

    /// The bridge has said which connection to use.
    pub(super) fn connect(&mut self, now: Instant, call: CallId, conn: ConnId, parked: bool) {
        if parked {
            self.out.actions.push_back(Action::Unpark(conn));
        }
        let Some(exchange) = self.exchanges.iter_mut().find(|e| e.call == call) else {
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
            let timeout = self.config.timeouts.connect;
            let deadline = (!timeout.is_zero()).then(|| now + timeout);
            exchange.stage = Stage::Opening(conn, deadline);
            self.out
                .actions
                .push_back(Action::Open(conn, exchange.target.clone()));
        }
        let head = encode_head(
            &request.method,
            &request.path,
            &exchange.target.authority(),
            &request.headers,
            std::slice::from_ref(&request.credential),
            request.body.len() as u64,
        );
        let body = Frame::raw(request.body.clone());
        for frame in [head, body] {
            if frame.has_remaining() {
                exchange.unsent += frame.remaining();
                self.out.actions.push_back(Action::Send(conn, frame));
            }
        }
    }

    /// Gives a call up. A response that happens to be complete leaves its connection in order.
    pub(super) fn abort_exchange(&mut self, call: CallId) {
        let Some(at) = self.exchanges.iter().position(|e| e.call == call) else {
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
        let call = exchange.call;
        if exchange.was_stale()
            && let Some(request) = &exchange.request
        {
            exchange.decoder = decoder(&self.config.limits, &request.method);
            exchange.stage = Stage::Asked;
            exchange.unsent = 0;
            let query = Query::Connect {
                target: exchange.target.clone(),
                fresh: true,
            };
            self.exchanges.push(exchange);
            self.ask(Asked::Connect(call), query);
            return;
        }
        self.tell(now, interception::Event::UpstreamFailed(call, fault));
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

    /// Tells the interception what the decoder has, until it wants more. `or` is the fault if it is no response.
    fn read_exchange(&mut self, now: Instant, conn: ConnId, or: Fault) {
        // Looked up afresh each time: what the interception is told may end the exchange.
        while let Some(at) = self.exchanges.iter().position(|e| e.is_on(conn)) {
            let exchange = &mut self.exchanges[at];
            let call = exchange.call;
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
                    let event = interception::Event::UpstreamHead(call, head.status, head.headers);
                    self.tell(now, event);
                }
                Item::Body(bytes) => self.tell(now, interception::Event::UpstreamBody(call, bytes)),
                Item::End => {
                    let exchange = self.exchanges.swap_remove(at);
                    self.release(conn, exchange);
                    self.tell(now, interception::Event::UpstreamEnd(call));
                }
            }
        }
    }

    /// What becomes of a connection whose exchange is over.
    fn release(&mut self, conn: ConnId, exchange: Exchange) {
        let action = if exchange.decoder.reusable() && exchange.unsent == 0 {
            Action::Park(conn, exchange.target)
        } else {
            Action::Close(conn)
        };
        self.out.actions.push_back(action);
    }

    fn tell(&mut self, now: Instant, event: interception::Event) {
        if let Flow::Running(running) = &mut self.flow {
            running.interception.handle(now, event);
            self.pump(now);
        }
    }
}
