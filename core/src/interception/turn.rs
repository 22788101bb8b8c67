//! One turn of the agentic loop: a reply that may call injected tools, followed to its end.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::{
    Action, Event, Interception, Outbox, Reply,
    ending::ending,
    headers,
    journal::Ending,
    relay::{Finished, is_encoded, is_stream},
    sieve::Sieve,
    state::{Call, Lent, Pending, Request, Rest, State},
    tool_loop::Agent,
};
use crate::{
    api::{
        self, Api, ApiError,
        turns::{self, Refusal, TurnEnd},
    },
    fault::Fault,
    id::CallId,
    keypool,
    time::{Instant, after, earliest},
};

/// A turn's blocking reply longer than this cannot be looked into.
const MAX_TURN: usize = turns::MAX_TURN;
/// What of an error's body is looked into, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// A turn's reply, as it comes.
#[derive(Debug)]
pub(super) struct Turn {
    request: Box<Request>,
    agent: Box<Agent>,
    call: CallId,
    /// The pool's key; `None` for the client's own.
    lent: Option<Lent>,
    status: StatusCode,
    follow: Follow,
    /// The head, until the client is given it.
    head: Option<Reply>,
    /// Bytes of the reply that the client was given.
    relayed: u64,
    idle: Option<Instant>,
}

/// How a turn's body is read.
#[derive(Debug)]
enum Follow {
    /// An error, after the start of the client's reply.
    Error(BytesMut),
    Events(Box<Sieve>),
    Whole(BytesMut),
}

impl Follow {
    /// For the reply of this head; or why it cannot be followed.
    fn new(status: StatusCode, headers: &HeaderMap, agent: &Agent) -> Result<Self, &'static str> {
        if !status.is_success() {
            return Ok(Self::Error(BytesMut::new()));
        }
        if is_encoded(headers) {
            return Err("upstream's reply is encoded");
        }
        if is_stream(status, headers, agent.streaming) {
            return Ok(Self::Events(Box::new(Sieve::new())));
        }
        // What was asked to stream did not, and what the client has is a stream.
        if agent.started {
            return Err("upstream's reply is no stream");
        }
        Ok(Self::Whole(BytesMut::new()))
    }
}

impl Turn {
    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.idle, self.agent.deadline())
    }

    /// Some of the stream. Whether the client got anything of it.
    fn events(&mut self, now: Instant, bytes: Bytes, out: &mut Outbox) -> bool {
        let Follow::Events(sieve) = &mut self.follow else {
            return false;
        };
        let before = self.relayed;
        sieve.push(bytes);
        while let Some(bytes) = sieve.next(|item| self.agent.turns.item(item)) {
            self.relayed += give(&mut self.head, &mut self.agent, now, bytes, out);
        }
        self.relayed > before
    }

    /// Its terminal event has come, or upstream's own error: what follows is no failure.
    fn is_over(&self) -> bool {
        self.agent.turns.is_turn_over() || self.agent.turns.is_complete()
    }
}

/// Gives the client some of a stream, its head first where it has not had that. Says how many bytes
/// that was.
fn give(
    head: &mut Option<Reply>,
    agent: &mut Agent,
    now: Instant,
    bytes: Bytes,
    out: &mut Outbox,
) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    start(head, agent, now, out);
    agent.rest(now);
    out.body(bytes)
}

fn start(head: &mut Option<Reply>, agent: &mut Agent, now: Instant, out: &mut Outbox) {
    if let Some(head) = head.take() {
        agent.started = true;
        agent.rest(now);
        out.actions.push_back(Action::ReplyHead(head));
    }
}

impl Interception {
    /// A turn's reply has come and been judged: follows it.
    pub(super) fn begin_turn(
        &mut self,
        now: Instant,
        mut request: Box<Request>,
        mut agent: Box<Agent>,
        call: &Call,
        reply: Pending,
        rest: Rest,
    ) -> State {
        if !agent.started && !reply.status.is_success() {
            return self.begin_plain_relay(now, &request, call, reply, rest);
        }
        let Pending {
            status,
            mut headers,
            body,
            ..
        } = reply;
        let follow = match Follow::new(status, &headers, &agent) {
            Ok(follow) => follow,
            Err(why) => {
                if rest == Rest::Coming {
                    self.out.actions.push_back(Action::Abort(call.id));
                }
                request.agent = Some(agent);
                return self.loop_failed(now, &request, &ApiError::loop_failed(why));
            }
        };
        let is_stream = matches!(follow, Follow::Events(_));
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
        // In the Responses API nothing leaves before it is known that a turn calls none of our
        // tools.
        if is_stream && agent.api != Api::Responses {
            start(&mut head, &mut agent, now, &mut self.out);
        }
        let idle = after(now, request.timeouts.idle);
        let turn = Box::new(Turn {
            request,
            agent,
            call: call.id,
            lent: call.lent.clone(),
            status,
            follow,
            head,
            relayed: 0,
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
            Event::ClientGone => self.turn_left(now, *turn),
            _ => State::Turning(turn),
        }
    }

    pub(super) fn turn_timed_out(&mut self, now: Instant, mut turn: Box<Turn>) -> State {
        let is_late = turn.agent.is_late(now, &mut self.out);
        let is_silent = turn.idle.is_some_and(|at| at <= now);
        if !is_late && !is_silent {
            return State::Turning(turn);
        }
        self.out.actions.push_back(Action::Abort(turn.call));
        if is_late && !turn.agent.turns.is_complete() {
            let request = self.abandon(now, *turn);
            return self.loop_took_too_long(now, &request);
        }
        self.turn_failed(now, turn, Fault::TimedOut)
    }

    fn turn_body(&mut self, now: Instant, mut turn: Box<Turn>, bytes: Bytes) -> State {
        if bytes.is_empty() {
            return State::Turning(turn);
        }
        turn.idle = after(now, turn.request.timeouts.idle);
        match &mut turn.follow {
            Follow::Error(body) => {
                let room = MAX_ERROR.saturating_sub(body.len());
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Follow::Events(_) => {
                if turn.events(now, bytes, &mut self.out) {
                    self.journal.first_byte(now);
                }
            }
            Follow::Whole(body) if body.len() + bytes.len() > MAX_TURN => {
                self.out.actions.push_back(Action::Abort(turn.call));
                let error = ApiError::loop_failed("upstream's reply is too long to be looked into");
                let request = self.abandon(now, *turn);
                return self.loop_failed(now, &request, &error);
            }
            Follow::Whole(body) => body.extend_from_slice(&bytes),
        }
        State::Turning(turn)
    }

    /// The reply broke off. Behind the turn's terminal event that is no loss.
    fn turn_failed(&mut self, now: Instant, turn: Box<Turn>, fault: Fault) -> State {
        if turn.is_over() {
            return self.turn_ended(now, turn);
        }
        if let Some(lent) = &turn.lent {
            let outcome = keypool::Outcome::Fault(fault);
            lent.judge(now, outcome, turn.relayed, &mut self.out);
        }
        let request = self.abandon(now, *turn);
        self.call_failed(now, &request, fault)
    }

    /// The client left, perhaps since it has all there is.
    fn turn_left(&mut self, now: Instant, mut turn: Turn) -> State {
        self.out.actions.push_back(Action::Abort(turn.call));
        let is_complete = turn.agent.turns.is_complete();
        let end = is_complete.then(|| turn.agent.turns.end().1);
        let not_run = (!is_complete).then_some("not run: the client has left");
        let ending = self.turn_told(now, &mut turn, not_run);
        if let Some(TurnEnd::Refused { calls, why }) = end {
            self.refused_calls(now, &turn.agent, calls, why);
        }
        self.left(now, is_complete.then_some(ending))
    }

    /// Leaves a turn where it stands. Gives the request back: its client is still to be told.
    fn abandon(&mut self, now: Instant, mut turn: Turn) -> Box<Request> {
        self.turn_told(now, &mut turn, Some("not run: the turn broke off"));
        let Turn {
            mut request, agent, ..
        } = turn;
        request.agent = Some(agent);
        request
    }

    /// Records what a turn told; gives what it amounts to. `not_run` is why nothing more becomes of
    /// its calls of injected tools; else these are recorded when they are over.
    fn turn_told(
        &mut self,
        now: Instant,
        turn: &mut Turn,
        not_run: Option<&'static str>,
    ) -> Ending {
        let turns = &mut turn.agent.turns;
        let mut told = turns.told();
        let is_injected = |call: &mut api::ToolCall| turns.is_injected(&call.name);
        let injected: Vec<_> = told.tool_calls.extract_if(.., is_injected).collect();
        let finished = Finished {
            fault: None,
            complete: told.complete,
            told,
        };
        let ending = ending(turn.status, &finished);
        self.journal.told(now, finished.told, &mut self.out);
        if let Some(why) = not_run {
            self.not_run(now, &turn.agent, injected, why);
        }
        ending
    }

    /// Calls of injected tools that the client does not see, and that are not run.
    fn refused_calls(
        &mut self,
        now: Instant,
        agent: &Agent,
        calls: Vec<api::ToolCall>,
        why: Refusal,
    ) {
        let what = format!("calls of injected tools were {}", refusal(why));
        self.journal.warn(what, &mut self.out);
        self.not_run(now, agent, calls, refusal(why));
    }

    /// The reply is complete: the last one, or one that calls tools.
    fn turn_ended(&mut self, now: Instant, mut turn: Box<Turn>) -> State {
        let (rest, end) = match &mut turn.follow {
            Follow::Error(body) => {
                let body = body.split().freeze();
                return self.turn_was_refused(now, &turn, &body);
            }
            Follow::Events(sieve) => {
                sieve.end();
                if turn.events(now, Bytes::new(), &mut self.out) {
                    self.journal.first_byte(now);
                }
                turn.agent.turns.end()
            }
            Follow::Whole(body) => turn.agent.turns.body(body.split().freeze()),
        };
        let not_run = (end == TurnEnd::TooLong).then_some("not run: the turn is too long");
        let ending = self.turn_told(now, &mut turn, not_run);
        match end {
            TurnEnd::Calls(calls) => {
                let Turn {
                    request,
                    mut agent,
                    mut head,
                    ..
                } = *turn;
                if give(&mut head, &mut agent, now, rest, &mut self.out) > 0 {
                    self.journal.first_byte(now);
                }
                self.run_tools(now, request, agent, calls)
            }
            TurnEnd::TooLong => {
                let error = ApiError::loop_failed("the turn is too long to be continued");
                let Turn {
                    mut request, agent, ..
                } = *turn;
                request.agent = Some(agent);
                self.loop_failed(now, &request, &error)
            }
            TurnEnd::Final => self.last_turn(now, *turn, rest, ending),
            TurnEnd::Refused { calls, why } => {
                self.refused_calls(now, &turn.agent, calls, why);
                self.last_turn(now, *turn, rest, ending)
            }
        }
    }

    /// No more turns: the client is given what it has not had.
    fn last_turn(&mut self, now: Instant, mut turn: Turn, rest: Bytes, ending: Ending) -> State {
        if let (Follow::Whole(_), Some(head)) = (&turn.follow, &mut turn.head) {
            head.length = Some(rest.len() as u64);
        }
        // Also where there is nothing after the head.
        start(&mut turn.head, &mut turn.agent, now, &mut self.out);
        if self.out.body(rest) > 0 {
            self.journal.first_byte(now);
        }
        self.out.actions.push_back(Action::ReplyEnd);
        self.journal.end(now, ending, &mut self.out);
        State::Over
    }

    /// A later turn was answered with an error, and the client has the beginning of a stream.
    fn turn_was_refused(&mut self, now: Instant, turn: &Turn, body: &[u8]) -> State {
        let event = turn
            .agent
            .turns
            .upstream_error_event(turn.status, body, self.journal.id);
        self.out.body(event);
        self.journal.first_byte(now);
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
}

const fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::Malformed => "not run: its arguments are no JSON object",
        Refusal::Mixed => "not run: the turn calls the client's own tools too",
        Refusal::Truncated => "not run: the turn ended before its time",
    }
}
