//! One client request and all that it causes, at the level of HTTP messages.

mod query;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use crate::{
    config::{Config, Provider},
    fault::Fault,
    id::{CallId, InterceptionId},
    record::Record,
    time::Instant,
};

pub use query::{Answer, Query};

/// What happens to an interception.
#[derive(Debug)]
pub enum Event {
    /// The client left.
    ClientGone,
    /// Some of a reply's body, in any pieces.
    UpstreamBody(CallId, Bytes),
    /// The reply is complete.
    UpstreamEnd(CallId),
    /// The call failed, before its reply or within.
    UpstreamFailed(CallId, Fault),
    /// The reply's head. Hop-by-hop fields may still be in it.
    UpstreamHead(CallId, StatusCode, HeaderMap),
}

/// What an interception wants done.
#[derive(Debug)]
pub enum Action {
    /// Give up a call; nothing it brings is wanted any more.
    Abort(CallId),
    /// Call upstream.
    Call(CallId, UpstreamRequest),
    /// Keep a record.
    Emit(Box<Record>),
    /// The reply's head. Comes once, before all other `Reply*`.
    ReplyHead(Reply),
    /// Some of the reply's body; never empty.
    ReplyBody(Bytes),
    /// The reply is complete.
    ReplyEnd,
    /// The reply is broken off, and the client's library must see it: no proper end, the connection is closed.
    ReplyAbort,
}

/// A reply's head.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Header fields, none of them hop-by-hop or framing.
    pub headers: HeaderMap,
    /// The body's length, where it is known.
    pub length: Option<u64>,
}

/// A request to upstream.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// Where to; its `target` is the origin.
    pub provider: Arc<Provider>,
    /// Method.
    pub method: Method,
    /// Path and query, in origin form.
    pub path: Arc<str>,
    /// Header fields but the credential, `host` and framing.
    pub headers: Arc<HeaderMap>,
    /// The one place where a key's secret goes.
    pub credential: (HeaderName, HeaderValue),
    /// Body.
    pub body: Bytes,
}

/// One client request and all that it causes. See the [module](self).
#[derive(Debug)]
pub struct Interception {}

impl Interception {
    /// Begins with a client's whole request. `id` is a fresh one.
    pub fn new(
        _now: Instant,
        _config: Arc<Config>,
        _id: InterceptionId,
        _request: Request<Bytes>,
    ) -> Self {
        todo!()
    }
    /// Something happened.
    pub fn handle(&mut self, _now: Instant, _event: Event) {
        todo!()
    }
    /// The answer to the last query.
    pub fn handle_answer(&mut self, _now: Instant, _answer: Answer) {
        todo!()
    }
    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// The next question. Each is answered before the next is asked.
    #[must_use]
    pub fn poll_query(&mut self) -> Option<Query> {
        todo!()
    }
    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Whether all is over and every action has been taken.
    pub fn is_done(&self) -> bool {
        todo!()
    }
}
