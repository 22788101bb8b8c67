//! A request being served: what its interception wants done, and its reply on the way out.

use http::{Method, Version};

use super::{
    Action, Asked, Session,
    client::Await,
    flow::Flow,
    gather::Gather,
    upstream::{Wanted, Whose},
};
use crate::{
    bridge::Query,
    frame::Frame,
    http1::{BodyLength, server::Encoder},
    id::ConnId,
    interception::{self, Interception},
    record::Record,
    time::Instant,
};

/// How many bytes a request may grow by before the bridge is told, so that it is not asked for the
/// sake of some tools.
const UNTOLD: u64 = 16 << 10;

/// A request being served.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) interception: Interception,
    encoder: Encoder,
    /// Some of the body, on its way to the encoder.
    gather: Gather,
    keep_alive: bool,
    /// The bytes of the request that the bridge counts: its body as it came, or the largest that
    /// was made of it.
    pub(super) held: u64,
    /// The reply has broken off.
    broken: bool,
    /// Upstream's first answer is still to be told to the bridge, for a circuit breaker.
    pub(super) unjudged: bool,
}

/// What of a request's head its reply depends on.
#[derive(Clone, Debug)]
pub(super) struct ReplyTo {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
}

impl ReplyTo {
    /// A request whose head could not be read.
    pub(super) const UNKNOWN: Self = Self {
        method: Method::GET,
        version: Version::HTTP_11,
        keep_alive: false,
    };

    /// The same, as the connection's last.
    pub(super) fn last(&self) -> Self {
        Self {
            keep_alive: false,
            ..self.clone()
        }
    }
}

impl Running {
    pub(super) fn new(interception: Interception, reply: &ReplyTo) -> Self {
        Self {
            interception,
            encoder: Encoder::new(reply.version, &reply.method),
            gather: Gather::default(),
            keep_alive: reply.keep_alive,
            held: 0,
            broken: false,
            unjudged: false,
        }
    }
}

impl Session {
    /// Serves a request.
    pub(super) fn run(&mut self, now: Instant, running: Running) {
        self.client.in_head = false;
        self.client.awaits(now, Await::Nothing);
        self.flow = Flow::Running(Box::new(running));
        self.pump(now);
    }

    /// Takes what the interception has to say.
    pub(super) fn pump(&mut self, now: Instant) {
        let mut ended = false;
        // The last frame waits for the records after it.
        let mut last = None;
        while let Flow::Running(running) = &mut self.flow {
            if let Some(query) = running.interception.poll_query() {
                self.ask(Asked::Interception, Query::Interception(query));
                continue;
            }
            let Some(action) = running.interception.poll_action() else {
                break;
            };
            ended |= matches!(action, interception::Action::ReplyEnd);
            if let Some(frame) = self.act(now, action)
                && let Some(before) = last.replace(frame)
            {
                self.client.send(now, before, &mut self.out);
            }
        }
        if let Some(last) = last {
            self.client.send(now, last, &mut self.out);
        }
        if ended {
            self.end_reply(now);
        }
        self.go_on(now);
    }

    /// Does what the interception wants done, and gives what of it is for the client.
    fn act(&mut self, now: Instant, action: interception::Action) -> Option<Frame> {
        match action {
            interception::Action::Abort(call) => self.abort_exchange(Whose::Upstream(call)),
            interception::Action::AbortTools => self.abort_tools(now),
            interception::Action::Call(call, request) => {
                self.tell_size(request.body.len() as u64);
                let wanted = Wanted::Upstream(Box::new(request));
                self.begin_exchange(Whose::Upstream(call), wanted);
            }
            interception::Action::CallTool(id, call) => self.call_tool(id, call),
            interception::Action::Emit(record) => {
                self.tell_health(&record);
                self.out.actions.push_back(Action::Emit(record));
            }
            interception::Action::ReplyAbort => {
                if let Flow::Running(running) = &mut self.flow {
                    running.broken = true;
                }
            }
            interception::Action::ReplyBody(bytes) => {
                if let Flow::Running(running) = &mut self.flow {
                    let before = running.gather.push(bytes)?;
                    return Some(running.encoder.body(before));
                }
            }
            interception::Action::ReplyEnd => {}
            interception::Action::ReplyHead(reply) => return self.begin_reply(&reply),
        }
        None
    }

    /// What is sent to upstream may be larger than what came: it has tools in it, and their
    /// results.
    fn tell_size(&mut self, bytes: u64) {
        if let Flow::Running(running) = &mut self.flow
            && let Some(ticket) = self.ticket
            && bytes > running.held + UNTOLD
        {
            running.held = bytes;
            self.ask(Asked::Told, Query::Held { ticket, bytes });
        }
    }

    fn begin_reply(&mut self, reply: &interception::Reply) -> Option<Frame> {
        let Flow::Running(running) = &mut self.flow else {
            return None;
        };
        if let Some(ticket) = self.ticket
            && reply.length.is_none()
            && !running.interception.holds_request()
        {
            // What may take long from here on holds nothing that counts.
            self.asked.push_back(Asked::Told);
            let query = Query::Held { ticket, bytes: 0 };
            self.out.queries.push_back(query);
        }
        let length = reply.length.map_or(BodyLength::Chunked, BodyLength::Known);
        let close = !running.keep_alive || self.client.draining;
        let encoder = &mut running.encoder;
        Some(encoder.head(reply.status, &reply.headers, length, close))
    }

    /// Where the reply is over, moves on to the next request, or ends the connection.
    fn go_on(&mut self, now: Instant) {
        let Flow::Running(running) = &self.flow else {
            return;
        };
        if !running.interception.is_done() {
            return;
        }
        let broken = running.broken;
        let keeps = running.keep_alive && !running.encoder.closes();
        let is_cut = broken && running.encoder.ends_with_connection();
        self.leave();
        if is_cut {
            return self.over_by(Action::Reset(ConnId::CLIENT));
        }
        if broken || !keeps || self.client.draining {
            self.send_gathered(now);
            return self.close(now);
        }
        self.client.owe();
        self.flow = Flow::Head;
        self.client.decoder.next_message();
        self.client.awaits(now, Await::Request);
        self.read_client(now);
    }

    /// Tells the bridge how upstream answered, where a circuit breaker wants to know.
    fn tell_health(&mut self, record: &Record) {
        let status = match record {
            Record::Attempt(_, attempt) => attempt.result.ok(),
            Record::Passthrough(passthrough) => passthrough.status,
            _ => None,
        };
        if let Flow::Running(running) = &mut self.flow
            && let (Some(status), Some(ticket)) = (status, self.ticket)
            && running.unjudged
        {
            running.unjudged = false;
            self.ask(Asked::Told, Query::Judged { ticket, status });
        }
    }

    /// Sends what is left of a reply. All records of it have been emitted: who has seen the end of
    /// a reply can rely on them.
    fn end_reply(&mut self, now: Instant) {
        self.send_gathered(now);
        if let Flow::Running(running) = &mut self.flow {
            let frame = running.encoder.end();
            self.client.send(now, frame, &mut self.out);
        }
    }

    /// Sends what of the body the last event brought.
    pub(super) fn send_gathered(&mut self, now: Instant) {
        if let Flow::Running(running) = &mut self.flow
            && let Some(bytes) = running.gather.take()
        {
            let frame = running.encoder.body(bytes);
            self.client.send(now, frame, &mut self.out);
        }
    }
}
