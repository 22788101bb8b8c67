//! Where a session stands with its client: one request after another is read, admitted, served, and
//! the connection ended in order. How one is served is in `running`.

use bytes::Bytes;
use http::StatusCode;

use super::{
    Action, Asked, Event, SEND_WINDOW, Session,
    client::Await,
    running::{ReplyTo, Running},
    tools::Keeping,
    upload::{FIRST_RESERVE, Upload, declared},
};
use crate::{
    api::ApiError,
    bridge::{Query, Refused},
    codec::Step,
    http1::{self, RequestHead, server::Item},
    id::{ConnId, InterceptionId},
    interception::{self, Intake, Interception, Refusal},
    mcp::KeeperEvent,
    time::{Duration, Instant},
};

/// How much of a body must come within the time that a client has for it, in bytes: who sends less
/// is as good as silent.
const PROGRESS: usize = 16 << 10;
/// When a client is to come back that met too many connections.
const CROWDED: Duration = Duration::from_secs(1);
/// Where a session stands with its client.
#[derive(Debug)]
pub(super) enum Flow {
    /// A head is here, and the bridge has been asked whether the request may begin.
    Admitting(Box<RequestHead>),
    /// The body is being read.
    Body(Box<Upload>),
    /// It is known what is asked and by whom, and the bridge has been asked whether there is room
    /// for that.
    Entering(Box<Upload>),
    /// The next head is being read, or not there yet.
    Head,
    /// There is no client: an MCP server is kept.
    Keeping(Box<Keeping>),
    /// The last reply is out and our side ended; the client's end is waited for.
    Lingering,
    /// Nothing is left to happen.
    Over,
    /// The client has left, and MCP servers are being told.
    Parting,
    /// A request is being served.
    Running(Box<Running>),
}

impl Session {
    /// Bytes came from the client.
    pub(super) fn client_sent(&mut self, now: Instant, bytes: Bytes) {
        if matches!(self.flow, Flow::Lingering) {
            if !self.client.ignore(now, bytes.len()) {
                self.over();
            }
            return;
        }
        self.client.push(bytes);
        self.read_client(now);
    }

    /// The client has ended its side. While a request of its is read or runs, that means it left:
    /// tokens cost money. A finished reply it may still be waiting for.
    pub(super) fn client_ended(&mut self, now: Instant) {
        if !self.client.is_owed() || matches!(self.flow, Flow::Parting) {
            return self.client_gone(now);
        }
        self.cancel(now);
        if !matches!(self.flow, Flow::Lingering) {
            self.leave();
            self.close(now);
        }
    }

    /// The client's connection is of no use any more.
    pub(super) fn client_gone(&mut self, now: Instant) {
        self.cancel(now);
        self.over();
    }

    /// Nobody waits for a reply to what is read or runs, and nothing more is read.
    fn cancel(&mut self, now: Instant) {
        self.client.ended = true;
        if let Flow::Running(running) = &mut self.flow {
            running
                .interception
                .handle(now, interception::Event::ClientGone);
            self.pump(now);
        }
    }

    /// The client has taken some bytes.
    pub(super) fn client_took(&mut self, now: Instant, count: usize) {
        self.client.took(now, count);
        if self.client.unsent > 0 {
            return;
        }
        match self.flow {
            // Also one that has ended its side: what is written may still be in the adapter's TLS.
            Flow::Lingering => self.client.linger(now),
            Flow::Head => self.read_client(now),
            _ => {}
        }
    }

    /// The bridge is shutting down.
    pub(super) fn drain(&mut self, now: Instant) {
        self.client.draining = true;
        if matches!(self.flow, Flow::Keeping(_)) {
            return self.keep(now, vec![KeeperEvent::Shutdown]);
        }
        if matches!(self.flow, Flow::Head) && !self.client.in_head {
            self.close(now);
        }
    }

    /// Takes what the client's decoder has, as far as the flow is ready for it.
    pub(super) fn read_client(&mut self, now: Instant) {
        loop {
            let ready = match &self.flow {
                Flow::Head => !self.client.ended && self.client.unsent < SEND_WINDOW,
                Flow::Body(upload) => !upload.asked,
                _ => false,
            };
            if !ready {
                return;
            }
            let item = match self.client.decoder.next() {
                Ok(Step::Item(item)) => item,
                Ok(Step::More | Step::Pause) => return self.await_client(now),
                Err(error) => return self.refuse_syntax(now, error),
            };
            match item {
                Item::Head(head) => {
                    self.client.in_head = false;
                    let bytes = declared(head.length).min(FIRST_RESERVE);
                    self.flow = Flow::Admitting(head);
                    if self.crowded {
                        return self.admitted(now, Err(Refused::Busy(CROWDED)));
                    }
                    self.ask(Asked::Admit, Query::Admit { bytes });
                }
                Item::Body(bytes) => self.collect(now, &bytes),
                Item::End => self.begin(now),
            }
        }
    }

    /// The client owes us bytes: starts the clock.
    fn await_client(&mut self, now: Instant) {
        match self.flow {
            Flow::Head if self.client.decoder.buffered() == 0 => {}
            Flow::Head if !self.client.in_head => {
                // Once per head: a client that dribbles gains no time by it.
                self.client.in_head = true;
                self.client.awaits(now, Await::Head);
            }
            Flow::Body(ref mut upload) => {
                let len = upload.body.len();
                // Likewise once for each so many bytes.
                if upload.clocked.is_none_or(|at| len - at >= PROGRESS) {
                    upload.clocked = Some(len);
                    self.client.awaits(now, Await::Body);
                }
            }
            _ => {}
        }
    }

    /// The request is complete.
    fn begin(&mut self, now: Instant) {
        let Flow::Body(upload) = std::mem::replace(&mut self.flow, Flow::Head) else {
            return;
        };
        let Upload {
            intake,
            config,
            reply,
            body,
            ..
        } = *upload;
        let id = InterceptionId::draw(&mut self.rng);
        let held = body.capacity() as u64;
        let has_breaker = |intake: &Intake| intake.provider().breaker.is_some();
        let unjudged = intake.as_ref().is_ok_and(has_breaker);
        let interception = match intake {
            Ok(intake) => Interception::admitted(now, &config, id, intake, body.freeze()),
            Err(refusal) => Interception::refused(now, refusal, id),
        };
        let mut running = Running::new(interception, &reply);
        running.held = held;
        running.unjudged = unjudged;
        self.run(now, running);
    }

    /// What came is no HTTP that we speak.
    fn refuse_syntax(&mut self, now: Instant, error: http1::Error) {
        self.turn_away(now, ApiError::http(error.status(), error.to_string()));
    }

    /// Answers what is being read with an error. What is left of it is not read, so the connection
    /// ends.
    pub(super) fn turn_away(&mut self, now: Instant, error: ApiError) {
        let (provider, reply) = match &self.flow {
            Flow::Body(upload) => (
                upload.intake.as_ref().ok().map(Intake::provider),
                upload.reply.last(),
            ),
            _ => (None, ReplyTo::UNKNOWN),
        };
        let refusal = Refusal::new(None, error).by(provider.map(|provider| &**provider));
        self.refuse(now, refusal, &reply);
    }

    pub(super) fn refuse(&mut self, now: Instant, refusal: Refusal, reply: &ReplyTo) {
        let id = InterceptionId::draw(&mut self.rng);
        let interception = Interception::refused(now, refusal, id);
        self.run(now, Running::new(interception, reply));
    }

    /// Ends our side, after what is still to be written, and waits for the client to end its own.
    pub(super) fn close(&mut self, now: Instant) {
        self.client.owe();
        self.flow = Flow::Lingering;
        self.out.actions.push_back(Action::Finish(ConnId::CLIENT));
        if self.client.unsent > 0 {
            self.client.awaits(now, Await::Nothing);
        } else {
            self.client.linger(now);
        }
    }

    /// Drops everything, but what MCP servers are still to be told.
    pub(super) fn over(&mut self) {
        self.over_by(Action::Close(ConnId::CLIENT));
    }

    /// The same; `parting` is what becomes of the client's connection.
    pub(super) fn over_by(&mut self, parting: Action) {
        let has_client = !matches!(self.flow, Flow::Keeping(_) | Flow::Parting);
        self.out.actions.extend(has_client.then_some(parting));
        if matches!(self.flow, Flow::Parting) || !self.is_parting() {
            return self.done();
        }
        self.flow = Flow::Parting;
    }

    pub(super) fn time_interception(&mut self, now: Instant) {
        if let Flow::Running(running) = &mut self.flow
            && running
                .interception
                .poll_timeout()
                .is_some_and(|at| at <= now)
        {
            running.interception.handle_timeout(now);
            self.pump(now);
        }
    }

    pub(super) fn time_client(&mut self, now: Instant) {
        if matches!(self.flow, Flow::Keeping(_) | Flow::Parting) {
            return; // there is none
        }
        if self.client.is_stalled(now) {
            // It does not read: as good as gone.
            return self.handle(
                now,
                Event::Failed(ConnId::CLIENT, crate::fault::Fault::TimedOut),
            );
        }
        if !self.client.is_due(now) {
            return;
        }
        match &self.flow {
            Flow::Head if !self.client.in_head => self.close(now),
            Flow::Lingering => self.over(),
            Flow::Body(_) => self.turn_overdue_away(now, "body"),
            Flow::Head => self.turn_overdue_away(now, "head"),
            Flow::Admitting(_)
            | Flow::Entering(_)
            | Flow::Keeping(_)
            | Flow::Over
            | Flow::Parting
            | Flow::Running(_) => {}
        }
    }

    fn turn_overdue_away(&mut self, now: Instant, part: &str) {
        self.client.give_up(now);
        let said = format!("the request's {part} took too long");
        self.turn_away(now, ApiError::http(StatusCode::REQUEST_TIMEOUT, said));
    }
}
