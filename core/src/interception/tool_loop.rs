//! The agentic loop: turns of the model and the tools it calls between them, until a turn calls none of ours.
//!
//! ```text
//!               key           head            end, calls of injected tools
//!  Leasing ──▶ Calling ──▶ Turning ─────────────────────────────▶ Tooling
//!     ▲                       │ end, none                            │ all results
//!     │                       ▼                                      │
//!     │                     Over                                     │
//!     └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! What the client gets of each turn is [`Turns`]' business. Here is when: a stream's head leaves with the first turn's, so that text
//! streams at once; a blocking reply, and one of the Responses API, leaves when it is known to be the last.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::{
    Action, Event, Interception, Outbox, Reply,
    ending::ending,
    headers,
    relay::{Finished, after, is_encoded, is_stream, keep_alive},
    state::{Call, Pending, Replay, Request, Rest, State},
    toolbox::Toolbox,
};
use crate::{
    api::{
        self, Api, ApiError,
        turns::{self, CallResult, Content, Passed, Refusal, TurnEnd, Turns},
    },
    codec::Step,
    fault::Fault,
    id::{CallId, InterceptionId},
    mcp::{self, Entry, Failure, ToolCallId, ToolResult},
    record::Outcome,
    sse,
    time::{Duration, Instant, earliest},
};

/// A turn's blocking reply longer than this cannot be looked into.
const MAX_TURN: usize = turns::MAX_TURN;
/// What of an error's body is looked into, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// A tool to call.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// The tool, and who runs it.
    pub entry: Entry,
    /// Its arguments: a JSON object.
    pub arguments: Bytes,
}

/// What the loop of a request carries from turn to turn.
#[derive(Debug)]
pub(super) struct Agent {
    api: Api,
    turns: Turns,
    toolbox: Arc<Toolbox>,
    streaming: bool,
    /// The client has been given the head of a stream.
    started: bool,
    /// How many tools have been called.
    called: u32,
    /// When the whole loop has taken too long.
    until: Option<Instant>,
    /// When the client is to be sent a keep-alive.
    ping: Option<Instant>,
    silence: Duration,
}

impl Agent {
    pub(super) const fn has_started(&self) -> bool {
        self.started
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.until, self.ping.filter(|_| self.started))
    }

    /// Time has passed: keeps the client's connection alive. True if the loop has taken too long.
    pub(super) fn is_late(&mut self, now: Instant, out: &mut Outbox) -> bool {
        if self.until.is_some_and(|at| at <= now) {
            return true;
        }
        if self.started && self.ping.is_some_and(|at| at <= now) {
            self.rest(now);
            // All that the client was sent is whole events.
            out.body(Bytes::from_static(keep_alive(self.api)));
        }
        false
    }

    /// The stream's own error event, and its end.
    pub(super) fn break_off(&self, error: &ApiError, id: InterceptionId, out: &mut Outbox) {
        out.body(self.turns.error_event(error, id));
        out.actions.push_back(Action::ReplyEnd);
    }

    /// The client has just been heard of.
    fn rest(&mut self, now: Instant) {
        self.ping = after(now, self.silence);
    }

    fn is_injected(&self, name: &str) -> bool {
        self.toolbox.catalog().find(name).is_some()
    }
}

/// A turn's reply, as it comes.
#[derive(Debug)]
pub(super) struct Turn {
    request: Box<Request>,
    agent: Box<Agent>,
    call: CallId,
    status: StatusCode,
    follow: Follow,
    /// The head, until the client is given it.
    head: Option<Reply>,
    idle: Option<Instant>,
}

/// How a turn's body is read.
#[derive(Debug)]
enum Follow {
    /// An error, behind the start of the client's reply.
    Error(BytesMut),
    Events(Box<sse::Decoder>),
    Whole(BytesMut),
}

/// Tools that are running.
#[derive(Debug)]
pub(super) struct Tooling {
    request: Box<Request>,
    agent: Box<Agent>,
    calls: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    id: ToolCallId,
    call: turns::Call,
    server: Option<Arc<str>>,
    result: Option<CallResult>,
}

impl Turn {
    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.idle, self.agent.deadline())
    }

    /// Some of the stream.
    fn events(&mut self, now: Instant, bytes: Bytes, out: &mut Outbox) {
        let Follow::Events(decoder) = &mut self.follow else {
            return;
        };
        decoder.push(bytes);
        while let Step::Item(item) = decoder.next() {
            let bytes = match self.agent.turns.item(&item) {
                Passed::Relay => item.raw().clone(),
                Passed::Replace(bytes) => bytes,
                Passed::Withhold => continue,
            };
            give(&mut self.head, &mut self.agent, now, bytes, out);
        }
    }
}

/// Gives the client some of a stream, its head first where it has not had that.
fn give(head: &mut Option<Reply>, agent: &mut Agent, now: Instant, bytes: Bytes, out: &mut Outbox) {
    if bytes.is_empty() {
        return;
    }
    start(head, agent, now, out);
    agent.rest(now);
    out.body(bytes);
}

fn start(head: &mut Option<Reply>, agent: &mut Agent, now: Instant, out: &mut Outbox) {
    if let Some(head) = head.take() {
        agent.started = true;
        agent.rest(now);
        out.actions.push_back(Action::ReplyHead(head));
    }
}

impl Tooling {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.agent.deadline()
    }
}

impl Interception {
    /// The tools on offer are known: puts them into the request.
    pub(super) fn chosen(&mut self, now: Instant, state: State, toolbox: Arc<Toolbox>) -> State {
        let State::Choosing(mut replay) = state else {
            return state; // the client has left meanwhile
        };
        let request = &mut *replay.0;
        let Some((api, inspected)) = &request.api else {
            return self.try_next(now, replay);
        };
        let body = std::mem::take(&mut request.body);
        let injected = api::inject(*api, body, inspected, toolbox.tools());
        for name in &injected.shadowed {
            let what = format!("the client's own tool {name} stands in for the injected one");
            self.journal.warn(what, &mut self.out);
        }
        request.body = injected.body;
        if !injected.names.is_empty() {
            let body = request.body.clone();
            request.agent = Some(Box::new(Agent {
                api: *api,
                turns: Turns::new(*api, inspected, body, injected.names),
                toolbox,
                streaming: inspected.stream,
                started: false,
                called: 0,
                until: after(now, request.limits.whole),
                ping: None,
                silence: request.timeouts.ping,
            }));
        }
        self.try_next(now, replay)
    }

    /// A turn's reply has come and been judged: follows it.
    pub(super) fn begin_turn(
        &mut self,
        now: Instant,
        request: Box<Request>,
        mut agent: Box<Agent>,
        call: &Call,
        reply: Pending,
        rest: Rest,
    ) -> State {
        let Pending {
            status, headers, ..
        } = &reply;
        let is_readable = status.is_success() && !is_encoded(headers);
        if !is_readable && !agent.started {
            return self.begin_plain_relay(now, &request, call.id, reply, rest);
        }
        let Pending {
            status,
            mut headers,
            body,
            ..
        } = reply;
        let is_stream = is_stream(status, &headers, agent.streaming);
        let follow = match (is_readable, is_stream) {
            (false, _) => Follow::Error(BytesMut::new()),
            (true, true) => Follow::Events(Box::new(sse::Decoder::new(sse::MAX_EVENT))),
            (true, false) => Follow::Whole(BytesMut::new()),
        };
        let mut head = None;
        if !agent.started {
            headers::to_client(&mut headers, self.journal.id, is_stream);
            self.journal.replied(status);
            head = Some(Reply {
                status,
                headers,
                length: None,
            });
        }
        // In the Responses API nothing leaves before it is known that a turn calls none of our tools.
        if is_stream && agent.api != Api::Responses {
            start(&mut head, &mut agent, now, &mut self.out);
        }
        let idle = after(now, request.timeouts.idle);
        let turn = Box::new(Turn {
            request,
            agent,
            call: call.id,
            status,
            follow,
            head,
            idle,
        });
        let state = self.turn_body(now, turn, body.freeze());
        match (rest, state) {
            (Rest::Broken(fault), State::Turning(turn)) => self.turn_failed(now, turn, fault),
            (Rest::Ended, State::Turning(turn)) => self.turn_ended(now, turn),
            (_, state) => state,
        }
    }

    /// Something happened while a turn's reply comes.
    pub(super) fn turn(&mut self, now: Instant, turn: Box<Turn>, event: Event) -> State {
        match event {
            Event::UpstreamBody(id, bytes) if id == turn.call => self.turn_body(now, turn, bytes),
            Event::UpstreamEnd(id) if id == turn.call => self.turn_ended(now, turn),
            Event::UpstreamFailed(id, fault) if id == turn.call => {
                self.turn_failed(now, turn, fault)
            }
            Event::ClientGone => {
                let mut agent = turn.agent;
                let told = agent.turns.told();
                let is_injected = |name: &str| agent.is_injected(name);
                self.journal.told(now, told, is_injected, &mut self.out);
                self.cancel(now, Some(turn.call))
            }
            _ => State::Turning(turn),
        }
    }

    pub(super) fn turn_timed_out(&mut self, now: Instant, mut turn: Box<Turn>) -> State {
        if turn.agent.is_late(now, &mut self.out) {
            self.out.actions.push_back(Action::Abort(turn.call));
            let Turn {
                mut request, agent, ..
            } = *turn;
            request.agent = Some(agent);
            return self.loop_took_too_long(now, request);
        }
        if turn.idle.is_some_and(|at| at <= now) {
            self.out.actions.push_back(Action::Abort(turn.call));
            return self.turn_failed(now, turn, Fault::TimedOut);
        }
        State::Turning(turn)
    }

    fn turn_body(&mut self, now: Instant, mut turn: Box<Turn>, bytes: Bytes) -> State {
        if bytes.is_empty() {
            return State::Turning(turn);
        }
        self.journal.first_byte(now);
        turn.idle = after(now, turn.request.timeouts.idle);
        match &mut turn.follow {
            Follow::Error(body) => {
                let room = MAX_ERROR.saturating_sub(body.len());
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Follow::Events(_) => turn.events(now, bytes, &mut self.out),
            Follow::Whole(body) if body.len() + bytes.len() > MAX_TURN => {
                self.out.actions.push_back(Action::Abort(turn.call));
                let error = ApiError::loop_failed("upstream's reply is too long to be looked into");
                return self.loop_failed(now, turn.request, turn.agent, &error);
            }
            Follow::Whole(body) => body.extend_from_slice(&bytes),
        }
        State::Turning(turn)
    }

    /// The reply broke off. Behind the turn's terminal event that is no loss.
    fn turn_failed(&mut self, now: Instant, turn: Box<Turn>, fault: Fault) -> State {
        if turn.agent.turns.is_turn_over() {
            return self.turn_ended(now, turn);
        }
        let Turn {
            mut request,
            mut agent,
            ..
        } = *turn;
        let told = agent.turns.told();
        let is_injected = |name: &str| agent.is_injected(name);
        self.journal.told(now, told, is_injected, &mut self.out);
        request.agent = Some(agent);
        self.call_failed(now, &request, fault)
    }

    /// The reply is complete: the last one, or one that calls tools.
    fn turn_ended(&mut self, now: Instant, mut turn: Box<Turn>) -> State {
        let (rest, end) = match &mut turn.follow {
            Follow::Error(body) => {
                let body = body.split().freeze();
                return self.turn_was_refused(now, turn, &body);
            }
            Follow::Events(decoder) => {
                decoder.end();
                turn.events(now, Bytes::new(), &mut self.out);
                turn.agent.turns.end()
            }
            Follow::Whole(body) => {
                let body = body.split().freeze();
                if turn.agent.started {
                    // What was asked to stream did not, and what the client has is a stream.
                    let error = ApiError::loop_failed("upstream's reply is no stream");
                    return self.loop_failed(now, turn.request, turn.agent, &error);
                }
                turn.agent.turns.body(body)
            }
        };
        let told = turn.agent.turns.told();
        let finished = Finished {
            fault: None,
            complete: told.complete,
            told: told.clone(),
        };
        let is_injected = |name: &str| turn.agent.is_injected(name);
        self.journal.told(now, told, is_injected, &mut self.out);
        match end {
            TurnEnd::Calls(calls) => {
                let Turn {
                    request,
                    mut agent,
                    mut head,
                    ..
                } = *turn;
                give(&mut head, &mut agent, now, rest, &mut self.out);
                self.run_tools(now, request, agent, calls)
            }
            TurnEnd::TooLong => {
                let error = ApiError::loop_failed("the turn is too long to be continued");
                self.loop_failed(now, turn.request, turn.agent, &error)
            }
            TurnEnd::Final => self.last_turn(now, *turn, rest, &finished),
            TurnEnd::Refused { calls, why } => {
                let what = format!("calls of injected tools were {}", refusal(why));
                self.journal.warn(what, &mut self.out);
                for call in calls {
                    let entry = turn.agent.toolbox.catalog().find(&call.name);
                    let server = entry.map(|entry| Arc::clone(&entry.server.name));
                    let why = Some(refusal(why).to_owned());
                    self.journal.tool(now, call, server, why, &mut self.out);
                }
                self.last_turn(now, *turn, rest, &finished)
            }
        }
    }

    /// No more turns: the client is given what it has not had.
    fn last_turn(
        &mut self,
        now: Instant,
        mut turn: Turn,
        rest: Bytes,
        finished: &Finished,
    ) -> State {
        if let (Follow::Whole(_), Some(head)) = (&turn.follow, &mut turn.head) {
            head.length = Some(rest.len() as u64);
        }
        // Also where there is nothing behind the head.
        start(&mut turn.head, &mut turn.agent, now, &mut self.out);
        self.out.body(rest);
        self.out.actions.push_back(Action::ReplyEnd);
        self.journal
            .end(now, ending(turn.status, finished), &mut self.out);
        State::Over
    }

    /// A later turn was answered with an error, and the client has the beginning of a stream.
    fn turn_was_refused(&mut self, now: Instant, turn: Box<Turn>, body: &[u8]) -> State {
        let event = turn
            .agent
            .turns
            .upstream_error_event(turn.status, body, self.journal.id);
        self.out.body(event);
        self.out.actions.push_back(Action::ReplyEnd);
        let told = api::read_body(turn.agent.api, body);
        let finished = Finished {
            fault: None,
            complete: true,
            told,
        };
        self.journal
            .end(now, ending(turn.status, &finished), &mut self.out);
        State::Over
    }

    /// Calls tools, all at once.
    fn run_tools(
        &mut self,
        now: Instant,
        request: Box<Request>,
        mut agent: Box<Agent>,
        calls: Vec<turns::Call>,
    ) -> State {
        if self.journal.turn() >= request.limits.turns {
            let message = format!(
                "the loop of tools went on for {} turns",
                request.limits.turns
            );
            return self.loop_failed(now, request, agent, &ApiError::loop_failed(message));
        }
        let mut running = Vec::with_capacity(calls.len());
        for call in calls {
            agent.called += 1;
            let id = ToolCallId(agent.called);
            let entry = agent.toolbox.catalog().find(&call.name).cloned();
            let server = entry.as_ref().map(|entry| Arc::clone(&entry.server.name));
            let mut result = None;
            match entry {
                Some(entry) => {
                    let arguments = Bytes::copy_from_slice(call.arguments.as_bytes());
                    let tool = ToolCall { entry, arguments };
                    self.out
                        .actions
                        .push_back(Action::CallTool(id, Box::new(tool)));
                }
                None => {
                    result = Some(CallResult::failed(&call, &Failure::UnknownTool.to_string()));
                }
            }
            running.push(Running {
                id,
                call,
                server,
                result,
            });
        }
        let tooling = Tooling {
            request,
            agent,
            calls: running,
        };
        self.tools_ran(now, Box::new(tooling))
    }

    /// Something happened while tools run.
    pub(super) fn tooling(
        &mut self,
        now: Instant,
        mut tooling: Box<Tooling>,
        event: Event,
    ) -> State {
        match event {
            Event::ClientGone => {
                self.out.actions.push_back(Action::AbortTools);
                self.cancel(now, None)
            }
            Event::ToolDone(id, done) => {
                let running = tooling.calls.iter_mut().find(|running| running.id == id);
                let Some(running) = running.filter(|running| running.result.is_none()) else {
                    return State::Tooling(tooling);
                };
                let (result, error) = told(&running.call, done);
                running.result = Some(result);
                let (call, server) = (running.call.clone(), running.server.clone());
                self.journal.tool(now, call, server, error, &mut self.out);
                self.tools_ran(now, tooling)
            }
            _ => State::Tooling(tooling),
        }
    }

    pub(super) fn tooling_timed_out(&mut self, now: Instant, mut tooling: Box<Tooling>) -> State {
        if !tooling.agent.is_late(now, &mut self.out) {
            return State::Tooling(tooling);
        }
        self.out.actions.push_back(Action::AbortTools);
        let Tooling {
            mut request, agent, ..
        } = *tooling;
        request.agent = Some(agent);
        self.loop_took_too_long(now, request)
    }

    /// Begins the next turn, once every result is there.
    fn tools_ran(&mut self, now: Instant, tooling: Box<Tooling>) -> State {
        if tooling.calls.iter().any(|running| running.result.is_none()) {
            return State::Tooling(tooling);
        }
        let Tooling {
            mut request,
            mut agent,
            calls,
        } = *tooling;
        let results: Vec<_> = calls
            .into_iter()
            .filter_map(|running| running.result)
            .collect();
        request.body = agent.turns.continuation(&results);
        request.walker = crate::keypool::Walker::new();
        request.agent = Some(agent);
        self.journal.next_turn();
        self.try_next(now, Replay(request))
    }

    /// The time for the whole loop is over.
    pub(super) fn loop_took_too_long(&mut self, now: Instant, request: Box<Request>) -> State {
        let seconds = request.limits.whole.as_secs();
        let error = ApiError::loop_failed(format!("the loop of tools took longer than {seconds}s"));
        self.fail(now, &request, &error, Outcome::Timeout)
    }

    fn loop_failed(
        &mut self,
        now: Instant,
        mut request: Box<Request>,
        agent: Box<Agent>,
        error: &ApiError,
    ) -> State {
        request.agent = Some(agent);
        self.fail(now, &request, error, Outcome::Internal)
    }
}

/// What the model is told of a tool's result, and what the records are told of its failure.
fn told(call: &turns::Call, done: Result<ToolResult, Failure>) -> (CallResult, Option<String>) {
    let result = match done {
        Ok(result) => result,
        Err(failure) => {
            let why = failure.to_string();
            return (CallResult::failed(call, &why), Some(why));
        }
    };
    let content: Vec<_> = result
        .blocks()
        .iter()
        .map(|block| content(&block.content))
        .collect();
    let text = result.text();
    let error = result.is_error().then(|| text.clone());
    let told = CallResult {
        is_error: result.is_error(),
        ..CallResult::new(call, content, text)
    };
    (told, error)
}

fn content(content: &mcp::Content) -> Content {
    match content {
        mcp::Content::BlobResource { uri, mime, blob } => Content::Blob {
            mime: mime.clone(),
            uri: uri.clone(),
            data: blob.clone(),
        },
        mcp::Content::Image { mime, data } => Content::Image {
            mime: mime.clone(),
            data: data.clone(),
        },
        mcp::Content::Other(kind) => Content::Other(kind.clone()),
        mcp::Content::Text(text) | mcp::Content::TextResource { text, .. } => {
            Content::Text(text.clone())
        }
    }
}

const fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::Malformed => "not run: its arguments are no JSON object",
        Refusal::Mixed => "not run: the turn calls the client's own tools too",
        Refusal::Truncated => "not run: the turn ended before its time",
    }
}
