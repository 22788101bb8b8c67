//! Tool calls: many at once, on whichever servers, and the renewal of sessions that servers have
//! forgotten.
//!
//! ```text
//!  Running ──answer──▶ done
//!    │  ▲
//!    │  └──agreed── Renewing ──failed──▶ done
//!    └──session lost──▶ │  (once per call; calls that lost the same session share one renewal)
//! ```
//!
//! A call that is given up, by its owner or by the clock, is cancelled at the server too.

use std::{collections::VecDeque, fmt, sync::Arc};

use http::{HeaderMap, HeaderName};

use super::{
    exchange::{Answer, Exchange},
    failure::Failure,
    list::Tool,
    mirror,
    outbox::{Action, ExchangeId, Input, Outbox},
    peer::Peer,
    renewal::{Lost, Renewals, Renewed},
    result::ToolResult,
    round, rpc,
    server::Server,
    terms::Terms,
};
use crate::{
    json::{self, Scanner},
    rng::Rng,
    time::{Duration, Instant, earliest},
};

const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

/// How long a call may take, and how much it may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// The whole call, the renewal of a session included.
    pub timeout: Duration,
    /// What is kept of a result's content, in bytes.
    pub result: usize,
}

impl Default for CallLimits {
    /// A minute, and a mebibyte.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            result: 1 << 20,
        }
    }
}

/// One call of a tool, counted from 1 by the [`Calls`] that make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolCallId(pub u32);

/// What [`Calls`] have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// A call is over.
    Done(ToolCallId, Result<ToolResult, Failure>),
    /// A server let it be known that its tools are others now, or a call failed in a way that makes
    /// one doubt that it is still there: its keeper is to look again.
    Recheck(Arc<Server>),
    /// A server had forgotten the session, and a new one was begun: whoever calls next should use
    /// it, and the server's keeper must know.
    Renewed {
        /// The server, not just one of its name: no other may be told of the session.
        server: Arc<Server>,
        /// What is of no use any more.
        stale: Terms,
        /// What took its place.
        fresh: Terms,
    },
}

/// The tool calls of one client. See the [module](super) for where it stands.
///
/// After `begin`, `handle`, `cancel` and `handle_timeout`: take every
/// [`poll_action`](Self::poll_action) and [`poll_event`](Self::poll_event), then wait for an input
/// or for [`poll_timeout`](Self::poll_timeout).
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{
///     Instant, Rng, Target,
///     mcp::{Action, CallEvent, CallLimits, Calls, Input, Server, Terms, Tool, Version},
/// };
/// use bytes::Bytes;
/// use http::{HeaderMap, HeaderValue, StatusCode};
///
/// let target = Target { host: "127.0.0.1".into(), port: 3001, tls: false };
/// let server = Arc::new(Server::new("maths", target, "/mcp"));
/// let terms = Terms { version: Version::V20260728, session: None };
/// let tool = Tool::new("add", "Adds.", Bytes::from(r#"{"type":"object"}"#));
///
/// let now = Instant::from_secs(1);
/// let mut calls = Calls::new(CallLimits::default(), &mut Rng::new(1));
/// let call = calls.begin(now, &server, &terms, &tool, br#"{"a":1,"b":2}"#);
///
/// let Some(Action::Request(on, request)) = calls.poll_action() else { panic!() };
/// assert_eq!(request.headers["mcp-name"], "add");
/// let sent: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
/// let reply = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":"3"}}]}}}}"#, sent["id"]);
///
/// let json = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
/// calls.handle(now, on, Input::Head(StatusCode::OK, json));
/// calls.handle(now, on, Input::Body(reply.into()));
/// calls.handle(now, on, Input::End);
/// let Some(CallEvent::Done(done, Ok(result))) = calls.poll_event() else { panic!() };
/// assert_eq!((done, result.text().as_str()), (call, "3"));
/// ```
#[derive(Debug)]
pub struct Calls {
    limits: CallLimits,
    begun: u32,
    running: Vec<Call>,
    renewals: Renewals,
    events: VecDeque<CallEvent>,
    out: Outbox,
}

struct Call {
    id: ToolCallId,
    server: Arc<Server>,
    terms: Terms,
    /// The request's parameters and fields, to be sent again in a new session.
    params: String,
    more: HeaderMap,
    until: Instant,
    stage: Stage,
    /// Whether its session has been renewed once.
    renewed: bool,
    /// How often the server had it repeated.
    rounds: u32,
}

#[derive(Debug)]
enum Stage {
    Renewing,
    Running(Box<Exchange>),
}

impl Calls {
    /// Without any call yet. The generator serves ids of requests, which must differ between all
    /// that share a session.
    pub fn new(limits: CallLimits, rng: &mut Rng) -> Self {
        Self {
            limits,
            begun: 0,
            running: Vec::new(),
            renewals: Renewals::default(),
            events: VecDeque::new(),
            out: Outbox::new(rng),
        }
    }

    /// From now on these limits: the configuration may change while a client stays.
    pub fn set_limits(&mut self, limits: CallLimits) {
        self.limits = limits;
    }

    /// Calls a tool. `arguments` is the text of a JSON object, sent as it is; an empty text stands
    /// for an empty object.
    pub fn begin(
        &mut self,
        now: Instant,
        server: &Arc<Server>,
        terms: &Terms,
        tool: &Tool,
        arguments: &[u8],
    ) -> ToolCallId {
        self.begun += 1;
        let id = ToolCallId(self.begun);
        let Ok(arguments) = as_object(arguments) else {
            self.done(id, Err(Failure::Arguments));
            return id;
        };
        let mut more = mirror::fields(&tool.mirrors, arguments.as_bytes());
        more.insert(MCP_NAME, mirror::encode(&tool.name));
        let name = rpc::quote(&tool.name);
        let params = format!(r#""name":{name},"arguments":{arguments}"#);
        let mut call = Call {
            id,
            server: Arc::clone(server),
            terms: terms.clone(),
            params,
            more,
            until: now + self.limits.timeout,
            stage: Stage::Renewing,
            renewed: false,
            rounds: 0,
        };
        call.send("", &mut self.out);
        self.running.push(call);
        id
    }

    /// Gives up a call, of which nothing more is heard.
    pub fn cancel(&mut self, now: Instant, id: ToolCallId) {
        if let Some(at) = self.running.iter().position(|call| call.id == id) {
            let mut call = self.running.remove(at);
            call.cancel(now, "the client has left", &mut self.out);
        }
    }

    /// Gives up all calls, the client having left. What was found out of servers is still told.
    pub fn cancel_all(&mut self, now: Instant) {
        for mut call in std::mem::take(&mut self.running) {
            call.cancel(now, "the client has left", &mut self.out);
        }
        self.renewals.abort(now, &mut self.out);
        self.events
            .retain(|event| !matches!(event, CallEvent::Done(..)));
    }

    /// Something happened to an exchange. Late inputs for exchanges that are over are ignored.
    pub fn handle(&mut self, now: Instant, on: ExchangeId, input: Input) {
        self.out.handle(on, &input);
        if let Some(at) = self.running.iter().position(|call| call.is_on(on)) {
            let call = &mut self.running[at];
            let Stage::Running(exchange) = &mut call.stage else {
                return;
            };
            let answer = exchange.handle(now, on, input, &mut self.out);
            if exchange.list_changed() {
                let server = Arc::clone(&call.server);
                self.events.push_back(CallEvent::Recheck(server));
            }
            if let Some(answer) = answer {
                self.answered(now, at, answer);
            }
            return;
        }
        if let Some(renewed) = self.renewals.handle(now, on, input, &mut self.out) {
            self.renewed(renewed);
        }
    }

    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.out.handle_timeout(now);
        let (late, left) = self.running.drain(..).partition(|call| call.until <= now);
        self.running = left;
        for mut call in Vec::<Call>::into_iter(late) {
            call.cancel(now, "timed out", &mut self.out);
            self.over(&call, Err(Failure::TimedOut));
        }
        for call in &mut self.running {
            if let Stage::Running(exchange) = &mut call.stage {
                exchange.handle_timeout(now, &mut self.out);
            }
        }
        while let Some(renewed) = self.renewals.handle_timeout(now, &mut self.out) {
            self.renewed(renewed);
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.poll()
    }

    /// The next thing to know.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<CallEvent> {
        self.events.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let calls = self.running.iter().filter_map(Call::deadline).min();
        earliest(
            earliest(calls, self.renewals.deadline()),
            self.out.deadline(),
        )
    }

    /// How many bytes of replies it holds: of each call, a message that is not complete.
    pub fn buffered(&self) -> usize {
        let exchanges = self.running.iter().filter_map(|call| match &call.stage {
            Stage::Renewing => None,
            Stage::Running(exchange) => Some(exchange.buffered()),
        });
        exchanges.sum()
    }

    /// Whether nothing is under way, words of farewell included, and everything has been taken.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
            && self.renewals.is_idle()
            && self.events.is_empty()
            && self.out.is_idle()
    }

    fn answered(&mut self, now: Instant, at: usize, answer: Answer) {
        let call = &mut self.running[at];
        if answer == Err(Failure::SessionLost) && !call.renewed {
            call.renewed = true;
            return self.renew(now, at);
        }
        if call.terms.version.is_stateless()
            && call.rounds < round::MAX_ROUNDS
            && let Ok(json) = &answer
            && let Some(state) = round::wanted(json)
        {
            call.rounds += 1;
            return call.send(&state, &mut self.out);
        }
        let call = self.running.remove(at);
        let result = answer.and_then(|json| ToolResult::read(json, self.limits.result));
        self.over(&call, result);
    }

    /// A call's session is lost: goes on in the one that took its place, or waits for one that
    /// will.
    fn renew(&mut self, now: Instant, at: usize) {
        let call = &mut self.running[at];
        let (lost, timeout) = (call.lost(), self.limits.timeout);
        let fresh = self.renewals.begin(now, &lost, timeout, &mut self.out);
        match fresh {
            Some(fresh) => call.go_on(fresh, &mut self.out),
            None => call.stage = Stage::Renewing,
        }
    }

    fn renewed(&mut self, (lost, fresh): Renewed) {
        let waits = |call: &Call| matches!(call.stage, Stage::Renewing) && call.lost() == lost;
        match fresh {
            Ok(fresh) => {
                for call in self.running.iter_mut().filter(|call| waits(call)) {
                    call.go_on(fresh.clone(), &mut self.out);
                }
                self.events.push_back(CallEvent::Renewed {
                    server: lost.server,
                    stale: lost.stale,
                    fresh,
                });
            }
            Err(failure) => {
                let (failed, left) = self.running.drain(..).partition(|call| waits(call));
                self.running = left;
                for call in Vec::<Call>::into_iter(failed) {
                    self.over(&call, Err(failure.clone()));
                }
            }
        }
    }

    /// A call that was sent is over.
    fn over(&mut self, call: &Call, result: Result<ToolResult, Failure>) {
        let is_doubtful = match &result {
            Ok(result) => result.names_unknown_tool(),
            Err(failure) => failure.casts_doubt(),
        };
        self.done(call.id, result);
        if is_doubtful {
            let server = Arc::clone(&call.server);
            self.events.push_back(CallEvent::Recheck(server));
        }
    }

    fn done(&mut self, id: ToolCallId, result: Result<ToolResult, Failure>) {
        self.events.push_back(CallEvent::Done(id, result));
    }
}

impl fmt::Debug for Call {
    /// Without the parameters: they are what users write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, server, stage) = (self.id, &self.server.name, &self.stage);
        write!(f, "Call({id:?} at {server}, {stage:?})")
    }
}

impl Call {
    fn is_on(&self, on: ExchangeId) -> bool {
        matches!(&self.stage, Stage::Running(exchange) if exchange.is_on(on))
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Renewing => Some(self.until),
            Stage::Running(exchange) => earliest(Some(self.until), exchange.deadline()),
        }
    }

    /// Its session, as one that is lost.
    fn lost(&self) -> Lost {
        Lost {
            server: Arc::clone(&self.server),
            stale: self.terms.clone(),
        }
    }

    fn go_on(&mut self, fresh: Terms, out: &mut Outbox) {
        self.terms = fresh;
        self.send("", out);
    }

    /// Sends the call; `state` is what the server wants back with it.
    fn send(&mut self, state: &str, out: &mut Outbox) {
        let peer = Peer::new(&self.server, Some(self.terms.clone())).in_new_session(self.renewed);
        let params = format!("{}{state}", self.params);
        let more = self.more.clone();
        let exchange = Exchange::request(peer, "tools/call", &params, more, out);
        self.stage = Stage::Running(Box::new(exchange));
    }

    fn cancel(&mut self, now: Instant, reason: &str, out: &mut Outbox) {
        if let Stage::Running(exchange) = &mut self.stage {
            exchange.cancel(now, reason, out);
        }
    }
}

/// A text that is a JSON object.
fn as_object(text: &[u8]) -> Result<&str, json::Error> {
    if text.trim_ascii().is_empty() {
        return Ok("{}");
    }
    let mut scan = Scanner::new(text)?;
    let mut object = scan.clone();
    object.object()?;
    let range = scan.skip()?;
    scan.end()?;
    // The scanner has found it to be UTF-8.
    Ok(std::str::from_utf8(&text[range]).unwrap_or("{}"))
}
