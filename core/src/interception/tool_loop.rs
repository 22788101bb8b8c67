//! The agentic loop: turns of the model and the tools it calls between them, until a turn calls
//! none of ours.
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
//! What the client gets of each turn is [`Turns`]' business. Here is when: a stream's head leaves
//! with the first turn's, so that text streams at once; a blocking reply, and one of the Responses
//! API, leaves when it is known to be the last.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Action, Event, Interception, Outbox,
    journal::Trouble,
    relay::keep_alive,
    state::{Replay, Request, State},
    toolbox::Toolbox,
};
use crate::{
    api::{
        self, Api, ApiError,
        turns::{CallResult, Content, Turns},
    },
    id::InterceptionId,
    keypool::Walker,
    mcp::{self, Entry, Failure, ToolCallId, ToolResult},
    record::Outcome,
    time::{Duration, Instant, after, earliest},
};

/// How many tools of a request run at a time; the others wait. Each has a connection of its own,
/// and what a model writes must not use up all that the bridge can open.
const AT_ONCE: usize = 32;

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
    pub(super) api: Api,
    pub(super) turns: Turns,
    pub(super) toolbox: Arc<Toolbox>,
    /// The client asked for a stream.
    pub(super) streaming: bool,
    /// The client has been given the head of a stream.
    pub(super) started: bool,
    /// How many tools have been called.
    called: u32,
    /// When the loop has taken too long: set when it begins, with the first tools.
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
            // All that the client was sent is whole events; the last of the reply is the last.
            if !self.turns.is_complete() {
                out.body(Bytes::from_static(keep_alive(self.api)));
            }
        }
        false
    }

    /// The stream's own error event, and its end.
    pub(super) fn break_off(&self, error: &ApiError, id: InterceptionId, out: &mut Outbox) {
        out.body(self.turns.error_event(error, id));
        out.actions.push_back(Action::ReplyEnd);
    }

    /// The client has just been heard of.
    pub(super) fn rest(&mut self, now: Instant) {
        self.ping = after(now, self.silence);
    }
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
    call: api::ToolCall,
    server: Option<Arc<mcp::Server>>,
    /// It has not begun.
    waits: Option<Box<ToolCall>>,
    result: Option<CallResult>,
}

impl Running {
    const fn is_under_way(&self) -> bool {
        self.waits.is_none() && self.result.is_none()
    }
}

impl Tooling {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.agent.deadline()
    }

    /// Begins as many calls as there is room for, in their order.
    fn start(&mut self, out: &mut Outbox) {
        let under_way = self.calls.iter().filter(|call| call.is_under_way()).count();
        let waiting = self.calls.iter_mut().filter(|call| call.waits.is_some());
        for running in waiting.take(AT_ONCE.saturating_sub(under_way)) {
            let tool = running.waits.take();
            out.actions
                .extend(tool.map(|tool| Action::CallTool(running.id, tool)));
        }
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
                until: None,
                ping: None,
                silence: request.timeouts.ping,
            }));
        }
        self.try_next(now, replay)
    }

    /// Calls tools, all at once as far as there is room.
    pub(super) fn run_tools(
        &mut self,
        now: Instant,
        mut request: Box<Request>,
        mut agent: Box<Agent>,
        calls: Vec<api::ToolCall>,
    ) -> State {
        if self.journal.turn() >= request.limits.turns {
            let message = format!(
                "the loop of tools went on for {} turns",
                request.limits.turns
            );
            self.not_run(
                now,
                &agent,
                calls,
                "not run: the loop has had all its turns",
            );
            request.agent = Some(agent);
            return self.loop_failed(now, &request, &ApiError::loop_failed(message));
        }
        if agent.until.is_none() {
            agent.until = after(now, request.limits.whole);
        }
        let mut running = Vec::with_capacity(calls.len());
        for call in calls {
            agent.called += 1;
            let id = ToolCallId(agent.called);
            let entry = agent.toolbox.catalog().find(&call.name).cloned();
            let server = entry.as_ref().map(|entry| Arc::clone(&entry.server));
            let refusal = match &entry {
                None => Some(Failure::UnknownTool),
                Some(_) if !call.is_sound() => Some(Failure::Arguments),
                Some(_) => None,
            };
            let result = refusal.map(|failure| {
                let why = failure.to_string();
                let result = CallResult::failed(&call, &why);
                let (call, server) = (call.clone(), name(server.as_ref()));
                let why = Some(Trouble::ours(why));
                self.journal.tool(now, call, server, why, &mut self.out);
                result
            });
            let waits = entry.filter(|_| result.is_none()).map(|entry| {
                let arguments = Bytes::copy_from_slice(call.arguments.as_bytes());
                Box::new(ToolCall { entry, arguments })
            });
            running.push(Running {
                id,
                call,
                server,
                waits,
                result,
            });
        }
        let mut tooling = Tooling {
            request,
            agent,
            calls: running,
        };
        tooling.start(&mut self.out);
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
                self.abort_tools(now, tooling.calls, "cancelled: the client has left");
                self.cancel(now, None)
            }
            Event::ToolDone(id, done) => {
                let running = tooling.calls.iter_mut().find(|running| running.id == id);
                let Some(running) = running.filter(|running| running.result.is_none()) else {
                    return State::Tooling(tooling);
                };
                let server = running.server.as_deref();
                let (result, trouble) = told(tooling.agent.api, &running.call, server, done);
                running.result = Some(result);
                let (call, server) = (running.call.clone(), name(running.server.as_ref()));
                tooling.start(&mut self.out);
                self.journal.tool(now, call, server, trouble, &mut self.out);
                self.tools_ran(now, tooling)
            }
            _ => State::Tooling(tooling),
        }
    }

    pub(super) fn tooling_timed_out(&mut self, now: Instant, mut tooling: Box<Tooling>) -> State {
        if !tooling.agent.is_late(now, &mut self.out) {
            return State::Tooling(tooling);
        }
        let Tooling {
            mut request,
            agent,
            calls,
        } = *tooling;
        self.abort_tools(now, calls, "cancelled: the loop of tools took too long");
        request.agent = Some(agent);
        self.loop_took_too_long(now, &request)
    }

    /// Gives up what tools have not returned. They may have done what they do, so there is a record
    /// of each.
    fn abort_tools(&mut self, now: Instant, calls: Vec<Running>, why: &'static str) {
        self.out.actions.push_back(Action::AbortTools);
        for running in calls.into_iter().filter(|call| call.result.is_none()) {
            let Running { call, server, .. } = running;
            let (server, why) = (name(server.as_ref()), Some(Trouble::ours(why)));
            self.journal.tool(now, call, server, why, &mut self.out);
        }
    }

    /// Records calls that are not made.
    pub(super) fn not_run(
        &mut self,
        now: Instant,
        agent: &Agent,
        calls: Vec<api::ToolCall>,
        why: &'static str,
    ) {
        for call in calls {
            let entry = agent.toolbox.catalog().find(&call.name);
            let server = entry.map(|entry| Arc::clone(&entry.server.name));
            let why = Some(Trouble::ours(why));
            self.journal.tool(now, call, server, why, &mut self.out);
        }
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
        request.walker = Walker::new();
        request.agent = Some(agent);
        self.journal.next_turn();
        self.try_next(now, Replay(request))
    }

    /// The time for the whole loop is over.
    pub(super) fn loop_took_too_long(&mut self, now: Instant, request: &Request) -> State {
        let seconds = request.limits.whole.as_secs();
        let error = ApiError::loop_failed(format!("the loop of tools took longer than {seconds}s"));
        self.fail(now, request, &error, Outcome::Timeout)
    }

    pub(super) fn loop_failed(
        &mut self,
        now: Instant,
        request: &Request,
        error: &ApiError,
    ) -> State {
        self.fail(now, request, error, Outcome::Internal)
    }
}

fn name(server: Option<&Arc<mcp::Server>>) -> Option<Arc<str>> {
    server.map(|server| Arc::clone(&server.name))
}

/// What the model is told of a tool's result, and what of it went wrong. A tool that fails may say
/// what its server was shown.
fn told(
    api: Api,
    call: &api::ToolCall,
    server: Option<&mcp::Server>,
    done: Result<ToolResult, Failure>,
) -> (CallResult, Option<Trouble>) {
    let result = match done {
        Ok(result) => result,
        Err(failure) => {
            let why = failure.to_string();
            let result = CallResult::failed(call, &why);
            return (result, Some(Trouble::theirs(why, failure.class())));
        }
    };
    let mut content: Vec<_> = result
        .blocks()
        .iter()
        .map(|block| content(&block.content))
        .collect();
    if content.is_empty() && api == Api::Messages && result.structured().is_some() {
        // The OpenAI APIs are given the whole result as JSON.
        content.extend(result.parts().into_iter().map(part));
    }
    let failed = result.is_error();
    let mask = |text: String| match server.filter(|_| failed) {
        Some(server) => server.masked_in(text),
        None => text,
    };
    for part in &mut content {
        if let Content::Text(text) = part {
            *text = mask(std::mem::take(text));
        }
    }
    let text = mask(result.text());
    let trouble = failed.then(|| Trouble::theirs(text.clone(), "the tool's result is an error"));
    let told = CallResult {
        is_error: failed,
        ..CallResult::new(call, content, text)
    };
    (told, trouble)
}

fn part(part: mcp::Part) -> Content {
    match part {
        mcp::Part::Image { mime, data } => Content::Image { mime, data },
        mcp::Part::Text(text) => Content::Text(text),
    }
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
