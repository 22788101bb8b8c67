//! One client request and all that it causes, at the level of HTTP messages.
//!
//! An [`Interception`] is fed with what happens ([`Event`]) and the answers to its questions
//! ([`Query`], [`Answer`]), and says what to do ([`Action`]). It knows no bytes of HTTP and no
//! sockets: whoever has an HTTP stack already embeds this, and [`Session`](crate::Session) is built
//! on it.
//!
//! ```text
//!            tools         key            head, judged "relay"            end, fault, client gone
//!  Choosing ──────▶ Leasing ──▶ Calling ────────────────────▶ Relaying ────────────────────▶ Over
//!                    ▲ ▲           │ │ the same, tools in it                                 ▲
//!                    │ └───────────┘ └───────────▶ Turning ──────────────────────────────────┤
//!                    │ judged "next key"              │ calls of injected tools              │
//!                    ├────────── all results ───── Tooling                                   │
//!                    └── no key left, refused, timed out ────────────────────────────────────┘
//! ```
//!
//! It begins in `Choosing` where there may be tools to inject, and in `Leasing` where not.
//!
//! Nothing is tried again once the client has been given a byte of a turn's reply. Without injected
//! tools there is one turn, and no flag to get wrong: the request's replayable body belongs to the
//! states before `Relaying` and is dropped on the way into it. `Turning` and `Tooling` keep the
//! request, to make the next turn's of it. That is a call of its own, on a fresh walk over the
//! keys: it fails over though the client has bytes of the turns before it.
//!
//! It is driven by [the contract](crate#the-contract).

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};

use crate::{
    config::{Config, Provider},
    fault::Fault,
    id::{CallId, InterceptionId},
    mcp::{Failure, ToolCallId, ToolResult},
    record::Record,
    time::Instant,
};

mod attempt;
mod caller;
mod ending;
mod headers;
mod intake;
mod journal;
mod program;
mod query;
mod relay;
mod route;
mod sieve;
mod state;
#[cfg(test)]
mod tests;
mod tool_loop;
mod toolbox;
mod turn;

use journal::Journal;
use state::State;

pub use intake::{Intake, Refusal};
pub use query::{Answer, Query};
pub use route::Route;
pub use tool_loop::ToolCall;
pub use toolbox::Toolbox;

/// What happens to an interception.
#[derive(Debug)]
pub enum Event {
    /// The client left.
    ClientGone,
    /// A tool has run, or could not.
    ToolDone(ToolCallId, Result<ToolResult, Failure>),
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
    /// Give up a call; nothing more of it is wanted.
    Abort(CallId),
    /// Give up all tools that run; nothing more of them is wanted.
    AbortTools,
    /// Call upstream.
    Call(CallId, UpstreamRequest),
    /// Call a tool: several may run at once. [`mcp::Calls`](crate::mcp::Calls) does it, given
    /// exchanges.
    CallTool(ToolCallId, Box<ToolCall>),
    /// Keep a record.
    Emit(Box<Record>),
    /// The reply is broken off, and the client's library must see it: no proper end, the connection
    /// is closed.
    ReplyAbort,
    /// Some of the reply's body; never empty.
    ReplyBody(Bytes),
    /// The reply is complete.
    ReplyEnd,
    /// The reply's head. Comes once, before all other `Reply*`.
    ReplyHead(Reply),
}

/// A reply's head.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Header fields, none of them hop-by-hop or framing.
    pub headers: HeaderMap,
    /// The body's length in bytes, where it is known.
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

impl UpstreamRequest {
    /// As a request of the `http` crate, for embedders with a client of their own.
    ///
    /// # Errors
    /// The provider's address does not make a URI.
    pub fn into_http(self) -> Result<Request<Bytes>, http::Error> {
        let uri = format!("{}{}", self.provider.target, self.path);
        let mut request = Request::builder()
            .method(self.method)
            .uri(uri)
            .body(self.body)?;
        *request.headers_mut() = Arc::unwrap_or_clone(self.headers);
        let (name, value) = self.credential;
        request.headers_mut().insert(name, value);
        Ok(request)
    }
}

/// What the parts of an interception push their outputs into.
#[derive(Debug, Default)]
struct Outbox {
    queries: VecDeque<Query>,
    actions: VecDeque<Action>,
}

impl Outbox {
    /// Pushes some of the reply's body; says how many bytes.
    fn body(&mut self, bytes: Bytes) -> u64 {
        let len = bytes.len() as u64;
        if len > 0 {
            self.actions.push_back(Action::ReplyBody(bytes));
        }
        len
    }

    fn emit(&mut self, record: Record) {
        self.actions.push_back(Action::Emit(Box::new(record)));
    }
}

/// One client request and all that it causes. See the [module](self); the [front
/// page](crate#a-failover) has an example.
#[derive(Debug)]
pub struct Interception {
    state: State,
    journal: Journal,
    /// Queries asked and not yet answered.
    unanswered: usize,
    out: Outbox,
}

impl Interception {
    /// Begins with a client's whole request. `id` is a fresh one.
    ///
    /// The size of the body, limits of clients, [`Config::capacity`] and circuit breakers are kept
    /// by a [`Session`](crate::Session): without one, enforce what you need of them before this.
    pub fn new(now: Instant, config: &Config, id: InterceptionId, request: Request<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        match Intake::new(config, parts.method, &parts.uri, parts.headers) {
            Ok(intake) => Self::admitted(now, config, id, intake, body),
            Err(refusal) => Self::refused(now, refusal, id),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = self.step(now, state, event);
    }

    /// The answer to the last query.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        self.unanswered = self.unanswered.saturating_sub(1);
        match answer {
            Answer::Lease(lease, walker) => {
                let state = std::mem::replace(&mut self.state, State::Over);
                self.state = self.leased(now, state, lease, walker);
            }
            Answer::Tools(toolbox) => {
                let state = std::mem::replace(&mut self.state, State::Over);
                self.state = self.chosen(now, state, toolbox);
            }
            Answer::Reported(transition) => {
                if let Some(transition) = transition {
                    self.journal.key_changed(now, transition, &mut self.out);
                }
            }
        }
    }

    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Over);
        self.state = self.timed_out(now, state);
    }

    /// The next question. Each is answered before the next is asked.
    #[must_use]
    pub fn poll_query(&mut self) -> Option<Query> {
        let query = self.out.queries.pop_front()?;
        self.unanswered += 1;
        Some(query)
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.state.deadline()
    }

    /// Whether the request's body is kept, to be sent again: to the next key, or with what tools
    /// returned.
    pub fn holds_request(&self) -> bool {
        !matches!(self.state, State::Over | State::Relaying(_))
    }

    /// Whether all is over, every question answered and every action taken.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Over)
            && self.unanswered == 0
            && self.out.queries.is_empty()
            && self.out.actions.is_empty()
    }
}
