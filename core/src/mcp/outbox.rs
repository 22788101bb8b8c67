//! What the machines push their outputs into, and what they are fed with.

use std::{collections::VecDeque, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::server::Server;
use crate::{
    fault::Fault,
    rng::Rng,
    time::{Duration, Instant},
};

/// How long an errand may take.
const ERRAND: Duration = Duration::from_secs(5);

/// How long a stream that has said all may stay open. Servers close it at once, or never.
const LINGER: Duration = Duration::from_secs(1);

/// Most errands at once: what a server asks of us beyond it is left unanswered.
const MAX_ERRANDS: usize = 64;

/// One HTTP exchange with a server, counted from 1 by the machine that begins it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(u32);

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

/// What happens to an exchange. Nothing follows `End` and `Failed`.
#[derive(Clone, Debug)]
pub enum Input {
    /// Some of the reply's body, in any pieces.
    Body(Bytes),
    /// The reply is complete.
    End,
    /// The exchange failed, before its reply or within.
    Failed(Fault),
    /// The reply's head; interim ones (1xx) are not told.
    Head(StatusCode, HeaderMap),
}

/// What a machine wants done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Give up an exchange; nothing more of it is wanted.
    Abort(ExchangeId),
    /// Begin an exchange.
    Request(ExchangeId, Request),
}

/// A request to a server.
#[derive(Clone)]
pub struct Request {
    /// Where to: its `target` is the origin, its `path` the request's target.
    pub server: Arc<Server>,
    /// Method.
    pub method: Method,
    /// All fields but `host` and framing; the configured ones are among them, marked sensitive.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl fmt::Debug for Request {
    /// Without the body: arguments are what users write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            server,
            method,
            headers,
            body,
        } = self;
        write!(f, "{method} {}{} ", server.target, server.path)?;
        write!(f, "{headers:?} ({} B)", body.len())
    }
}

/// Actions, the ids that they carry, and the exchanges that nobody waits for.
#[derive(Debug)]
pub(super) struct Outbox {
    actions: VecDeque<Action>,
    exchanges: u32,
    rpc_id: u64,
    errands: Vec<Errand>,
}

/// An exchange whose outcome changes nothing. It is watched so that it does not hold a connection
/// for ever.
#[derive(Debug)]
struct Errand {
    on: ExchangeId,
    until: Instant,
}

impl Outbox {
    /// JSON-RPC ids start at a random place. Several machines speak in one session of a server's,
    /// and the ids of requests that run at the same time must differ; 2^53 bounds what all JSON
    /// readers take for an integer.
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self {
            actions: VecDeque::new(),
            exchanges: 0,
            rpc_id: rng.next_u64() >> 12,
            errands: Vec::new(),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn rpc_id(&mut self) -> u64 {
        self.rpc_id += 1;
        self.rpc_id
    }

    pub(super) fn request(&mut self, request: Request) -> ExchangeId {
        self.exchanges += 1;
        let on = ExchangeId(self.exchanges);
        self.actions.push_back(Action::Request(on, request));
        on
    }

    pub(super) fn abort(&mut self, on: ExchangeId) {
        self.actions.push_back(Action::Abort(on));
    }

    /// Sends something whose reply does not matter.
    pub(super) fn errand(&mut self, now: Instant, request: Request) {
        if self.errands.len() < MAX_ERRANDS {
            let on = self.request(request);
            let until = now + ERRAND;
            self.errands.push(Errand { on, until });
        }
    }

    /// Lets an exchange that has said all come to its end, so that its connection can serve again.
    pub(super) fn linger(&mut self, now: Instant, on: ExchangeId) {
        let until = now + LINGER;
        self.errands.push(Errand { on, until });
    }

    /// Takes what concerns an errand.
    pub(super) fn handle(&mut self, on: ExchangeId, input: &Input) {
        if matches!(input, Input::End | Input::Failed(_)) {
            self.errands.retain(|errand| errand.on != on);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let (late, left) = self.errands.drain(..).partition(|e| e.until <= now);
        self.errands = left;
        for errand in Vec::<Errand>::into_iter(late) {
            self.abort(errand.on);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.errands.iter().map(|errand| errand.until).min()
    }

    /// Gives up the errands.
    pub(super) fn drop_errands(&mut self) {
        for errand in std::mem::take(&mut self.errands) {
            self.abort(errand.on);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.errands.is_empty() && self.actions.is_empty()
    }
}
