//! Drives an [`Interception`] alone: messages in, messages out, against a scripted upstream, in
//! virtual time.
//!
//! No session, no connections: what an embedder with an HTTP stack of its own does.

use std::{collections::VecDeque, sync::Arc};

use aibridge_core::{
    Bridge, CallId, Fault, Instant, Interception, InterceptionId, Rng,
    bridge::Query,
    codec::Step as Decoded,
    config::Config,
    http1::{Limits, client},
    interception::{Action, Event, UpstreamRequest},
    mcp::{News, Terms, Version},
};
use bytes::BytesMut;
use http::{Method, Request};
use serde_json::Value;

use crate::{
    Ask, Connect, Records, Upstream,
    answer::{Answer, Progress},
    reply::Step,
    script::Seen,
    tool_server::{Ran, listed, returned},
};

/// Steps of one interception above which it is said to run in circles.
const MAX_STEPS: usize = 1_000_000;

/// Runs interceptions one after the other on one [`Bridge`].
pub struct Drive {
    /// The time. Interceptions move it on; a test may too.
    pub now: Instant,
    /// What the interceptions share.
    pub bridge: Bridge,
    config: Arc<Config>,
    upstream: Upstream,
    tools: Option<Tools>,
    rng: Rng,
}

/// What a tool of this name does with these arguments.
type Tools = Box<dyn FnMut(&str, &Value) -> Ran + Send>;

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drive")
            .field("now", &self.now)
            .field("bridge", &self.bridge)
            .finish_non_exhaustive()
    }
}

/// What came of an interception.
#[derive(Debug)]
pub struct Outcome {
    /// What the client got.
    pub answer: Answer,
    /// What was recorded.
    pub records: Records,
}

/// A call under way.
struct Call {
    id: CallId,
    decoder: client::Decoder,
    steps: VecDeque<Step>,
    /// The decoder has said all.
    over: bool,
}

impl Drive {
    /// A bridge of this configuration, in front of this upstream.
    ///
    /// # Panics
    /// The keys do not make pools.
    pub fn new(config: Config, upstream: Upstream) -> Self {
        let config = Arc::new(config);
        Self {
            now: Instant::from_secs(1_700_000_000),
            bridge: Bridge::new(Arc::clone(&config), 7).expect("the keys make pools"),
            config,
            upstream,
            tools: None,
            rng: Rng::new(7),
        }
    }

    /// The same, with the configured MCP server up, and these tools on it.
    ///
    /// # Panics
    /// No server is configured.
    #[must_use]
    pub fn with_tools(
        mut self,
        tools: &[&str],
        run: impl FnMut(&str, &Value) -> Ran + Send + 'static,
    ) -> Self {
        let server = Arc::clone(self.config.mcp.first().expect("a server"));
        let terms = Terms {
            version: Version::V20251125,
            session: None,
        };
        let listed = News::Tools {
            tools: listed(tools),
            refused: Vec::new(),
        };
        for news in [listed, News::Up(terms)] {
            let _ = self
                .bridge
                .answer(self.now, Query::News(Arc::clone(&server), news));
        }
        self.tools = Some(Box::new(run));
        self
    }

    /// Serves a request to its end.
    ///
    /// # Panics
    /// It runs in circles, waits for nothing, or replies out of order.
    pub fn ask(&mut self, ask: &Ask) -> Outcome {
        let id = InterceptionId::draw(&mut self.rng);
        let mut run = Run {
            interception: Interception::new(self.now, &self.config, id, ask.request()),
            call: None,
            answer: None,
            body: BytesMut::new(),
            records: Records::default(),
        };
        for _ in 0..MAX_STEPS {
            run.drain(self);
            if run.interception.is_done() {
                return run.finish();
            }
            run.advance(self);
        }
        panic!("the interception runs in circles: {:?}", run.interception);
    }
}

struct Run {
    interception: Interception,
    call: Option<Call>,
    answer: Option<Answer>,
    body: BytesMut,
    records: Records,
}

impl Run {
    /// Answers queries and takes actions until there are none.
    fn drain(&mut self, drive: &mut Drive) {
        loop {
            if let Some(query) = self.interception.poll_query() {
                let answer = drive.bridge.answer_interception(drive.now, query);
                self.interception.handle_answer(drive.now, answer);
                continue;
            }
            let Some(action) = self.interception.poll_action() else {
                return;
            };
            match action {
                Action::AbortTools => {}
                Action::CallTool(id, call) => {
                    let run = drive.tools.as_mut().expect("tools to call");
                    let arguments = serde_json::from_slice(&call.arguments).expect("JSON");
                    if let Some(done) = returned(run(&call.entry.tool.name, &arguments)) {
                        self.interception
                            .handle(drive.now, Event::ToolDone(id, done));
                    }
                }
                Action::Abort(id) => {
                    self.call.take_if(|call| call.id == id);
                }
                Action::Call(id, request) => self.begin_call(drive, id, request),
                Action::Emit(record) => self.records.0.push(*record),
                Action::ReplyHead(head) => {
                    assert!(self.answer.is_none(), "a second head");
                    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                        let value = value.to_str().expect("a value is text");
                        (name.to_string(), value.to_owned())
                    };
                    self.answer = Some(Answer {
                        status: head.status.as_u16(),
                        headers: head.headers.iter().map(field).collect(),
                        body: bytes::Bytes::new(),
                        progress: Progress::Partial,
                    });
                }
                Action::ReplyBody(bytes) => {
                    assert!(
                        self.answer.is_some() && !bytes.is_empty(),
                        "a body out of order"
                    );
                    self.body.extend_from_slice(&bytes);
                }
                Action::ReplyEnd => {
                    let answer = self.answer.as_mut().expect("an end behind a head");
                    answer.progress = Progress::Complete;
                }
                Action::ReplyAbort => assert!(self.answer.is_some(), "an abort behind a head"),
            }
        }
    }

    fn begin_call(&mut self, drive: &Drive, id: CallId, request: UpstreamRequest) {
        assert!(self.call.is_none(), "two calls at once");
        let method = request.method.clone();
        match drive.upstream.connect() {
            Connect::Accept(_) => {}
            Connect::Fail(fault) => {
                return self
                    .interception
                    .handle(drive.now, Event::UpstreamFailed(id, fault));
            }
            Connect::NoAnswer => return self.set_call(id, &method, [Step::Stall].into()),
        }
        let seen = Seen::new(as_seen(request), 0);
        let steps = drive.upstream.call(seen).steps();
        self.set_call(id, &method, steps.into());
    }

    fn set_call(&mut self, id: CallId, method: &Method, steps: VecDeque<Step>) {
        self.call = Some(Call {
            id,
            decoder: client::Decoder::new(Limits::default(), method),
            steps,
            over: false,
        });
    }

    /// Does the next thing that the upstream does, or lets time pass.
    fn advance(&mut self, drive: &mut Drive) {
        let due = self.interception.poll_timeout();
        let step = self.call.as_mut().and_then(|call| call.steps.pop_front());
        let call = match (&mut self.call, step) {
            (None, _) | (Some(_), None | Some(Step::Stall | Step::Confirm)) => {
                drive.now = drive.now.max(due.expect("it waits for nothing"));
                return self.interception.handle_timeout(drive.now);
            }
            (Some(call), Some(Step::Wait(wait))) => {
                let end = drive.now + wait;
                drive.now = due.map_or(end, |due| due.clamp(drive.now, end));
                if drive.now < end {
                    call.steps.push_front(Step::Wait(end - drive.now));
                }
                return self.interception.handle_timeout(drive.now);
            }
            (Some(call), Some(Step::Bytes(bytes))) => {
                call.decoder.push(bytes);
                call
            }
            (Some(call), Some(Step::End)) => {
                call.decoder.end();
                call
            }
            (Some(call), Some(Step::Reset)) => {
                let id = call.id;
                self.call = None;
                return self
                    .interception
                    .handle(drive.now, Event::UpstreamFailed(id, Fault::Reset));
            }
        };
        let events = call.events();
        if call.over {
            self.call = None;
        }
        for event in events {
            self.interception.handle(drive.now, event);
        }
    }

    fn finish(self) -> Outcome {
        let mut answer = self.answer.expect("every request is replied to");
        answer.body = self.body.freeze();
        Outcome {
            answer,
            records: self.records,
        }
    }
}

impl Call {
    /// What the decoder has to say.
    fn events(&mut self) -> Vec<Event> {
        let id = self.id;
        let mut events = Vec::new();
        loop {
            let event = match self.decoder.next() {
                Ok(Decoded::Item(client::Item::Interim(_))) => continue,
                Ok(Decoded::Item(client::Item::Head(head))) => {
                    Event::UpstreamHead(id, head.status, head.headers)
                }
                Ok(Decoded::Item(client::Item::Body(bytes))) => Event::UpstreamBody(id, bytes),
                Ok(Decoded::Item(client::Item::End)) => Event::UpstreamEnd(id),
                Ok(Decoded::More | Decoded::Pause) => return events,
                Err(aibridge_core::http1::Error::Incomplete) => {
                    Event::UpstreamFailed(id, Fault::Closed)
                }
                Err(_) => Event::UpstreamFailed(id, Fault::Protocol),
            };
            self.over = matches!(event, Event::UpstreamEnd(_) | Event::UpstreamFailed(..));
            events.push(event);
            if self.over {
                return events;
            }
        }
    }
}

/// The request as an HTTP client would send it.
fn as_seen(request: UpstreamRequest) -> Request<bytes::Bytes> {
    let mut seen = Request::new(request.body);
    *seen.method_mut() = request.method;
    *seen.uri_mut() = request.path.parse().expect("the path is one");
    *seen.headers_mut() = (*request.headers).clone();
    let (name, value) = request.credential;
    seen.headers_mut().insert(name, value);
    seen
}
