//! Where an interception stands, and what each event makes of that.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::{
    Action, Event, Interception, Outbox, Query,
    caller::Credential,
    relay::Relay,
    tool_loop::{Agent, Tooling},
    turn::Turn,
};
use crate::{
    api::{Api, Inspected},
    config::{Config, Provider, Timeouts, ToolLimits},
    fault::Fault,
    id::CallId,
    keypool::{self, Fate, KeyId, Verdict, Walker},
    time::{Instant, earliest},
};

/// Where an interception stands.
#[derive(Debug)]
pub(super) enum State {
    /// A call is under way, not yet judged.
    Calling(Replay, Call),
    /// The tools on offer have been asked for.
    Choosing(Replay),
    /// A key has been asked for.
    Leasing(Replay),
    /// Nothing is left to happen.
    Over,
    /// The client is getting a reply.
    Relaying(Box<Relay>),
    /// Injected tools are running.
    Tooling(Box<Tooling>),
    /// A reply is followed that may call injected tools.
    Turning(Box<Turn>),
}

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Calling(replay, call) => earliest(call.deadline, replay.loop_deadline()),
            Self::Choosing(_) | Self::Leasing(_) | Self::Over => None,
            Self::Relaying(relay) => relay.deadline(),
            Self::Tooling(tooling) => tooling.deadline(),
            Self::Turning(turn) => turn.deadline(),
        }
    }
}

/// All that is needed to call upstream, and to call it again. Consumed when relaying begins.
#[derive(Debug)]
pub(super) struct Replay(pub(super) Box<Request>);

impl Replay {
    fn loop_deadline(&self) -> Option<Instant> {
        self.0.agent.as_ref().and_then(|agent| agent.deadline())
    }
}

/// A request as upstream gets it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) provider: Arc<Provider>,
    pub(super) api: Option<(Api, Inspected)>,
    pub(super) model: Option<Arc<str>>,
    pub(super) session: Option<Arc<str>>,
    pub(super) credential: Credential,
    pub(super) method: Method,
    pub(super) path: Arc<str>,
    pub(super) headers: Arc<HeaderMap>,
    pub(super) body: Bytes,
    pub(super) timeouts: Timeouts,
    pub(super) limits: ToolLimits,
    pub(super) walker: Walker,
    /// Only where tools were injected.
    pub(super) agent: Option<Box<Agent>>,
}

impl Request {
    /// Whether tools might be put into it.
    pub(super) fn may_have_tools(&self, config: &Config) -> bool {
        self.api.is_some() && !config.mcp.is_empty()
    }
}

/// One call to upstream.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    /// The pool's key; `None` for the client's own.
    pub(super) lent: Option<Lent>,
    /// When the reply's head is overdue.
    pub(super) deadline: Option<Instant>,
    /// A head that waits for as much of its body as the policy wants to see.
    pub(super) pending: Option<Box<Pending>>,
}

/// A pool's key at work, and what it takes to judge what comes of that.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    pub(super) key: KeyId,
    /// Its place in the configuration.
    pub(super) index: usize,
    pub(super) provider: Arc<Provider>,
    pub(super) model: Option<Arc<str>>,
}

impl Lent {
    /// Asks the policy, and tells the pool what becomes of the key, if anything does.
    pub(super) fn judge(
        &self,
        now: Instant,
        outcome: keypool::Outcome<'_>,
        relayed: u64,
        out: &mut Outbox,
    ) -> Verdict {
        let verdict = self.provider.policy.judge(&keypool::Attempt {
            now,
            model: self.model.as_deref(),
            outcome,
            relayed,
        });
        if verdict.fate != Fate::Keep {
            out.queries.push_back(Query::Report {
                provider: Arc::clone(&self.provider.name),
                key: self.key,
                verdict,
                model: self.model.clone(),
            });
        }
        verdict
    }
}

/// A reply not yet judged.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: BytesMut,
    pub(super) wanted: usize,
}

/// What came of a call.
pub(super) enum Came {
    Fault(Fault),
    Reply(Box<Pending>, Rest),
}

/// What of a judged reply is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Broken(Fault),
    Coming,
    Ended,
}

impl Interception {
    /// Something happened in this state: what state comes of it.
    pub(super) fn step(&mut self, now: Instant, state: State, event: Event) -> State {
        match (state, event) {
            (State::Over, _) => State::Over,
            (State::Relaying(relay), event) => self.relay(now, relay, event),
            (State::Turning(turn), event) => self.turn(now, turn, event),
            (State::Tooling(tooling), event) => self.tooling(now, tooling, event),
            (State::Choosing(_) | State::Leasing(_), Event::ClientGone) => self.cancel(now, None),
            (State::Calling(_, call), Event::ClientGone) => self.cancel(now, Some(call.id)),
            (State::Calling(replay, call), Event::UpstreamHead(id, status, headers))
                if id == call.id && call.pending.is_none() =>
            {
                self.head(now, replay, call, status, headers)
            }
            (State::Calling(replay, call), Event::UpstreamBody(id, bytes)) if id == call.id => {
                self.awaited_body(now, replay, call, &bytes)
            }
            (State::Calling(replay, mut call), Event::UpstreamEnd(id)) if id == call.id => {
                let came = match call.pending.take() {
                    Some(pending) => Came::Reply(pending, Rest::Ended),
                    None => Came::Fault(Fault::Closed),
                };
                self.judge(now, replay, &call, came)
            }
            (State::Calling(replay, mut call), Event::UpstreamFailed(id, fault))
                if id == call.id =>
            {
                let came = match call.pending.take() {
                    Some(pending) => Came::Reply(pending, Rest::Broken(fault)),
                    None => Came::Fault(fault),
                };
                self.judge(now, replay, &call, came)
            }
            // Late news of a call that is over.
            (state @ (State::Choosing(_) | State::Leasing(_) | State::Calling(..)), _) => state,
        }
    }

    /// Time has passed in this state.
    pub(super) fn timed_out(&mut self, now: Instant, state: State) -> State {
        match state {
            State::Calling(replay, mut call) if call.deadline.is_some_and(|at| at <= now) => {
                self.out.actions.push_back(Action::Abort(call.id));
                let came = match call.pending.take() {
                    Some(pending) => Came::Reply(pending, Rest::Broken(Fault::TimedOut)),
                    None => Came::Fault(Fault::TimedOut),
                };
                self.judge(now, replay, &call, came)
            }
            State::Calling(mut replay, call) => {
                let late = replay
                    .0
                    .agent
                    .as_mut()
                    .is_some_and(|agent| agent.is_late(now, &mut self.out));
                if late {
                    self.out.actions.push_back(Action::Abort(call.id));
                    return self.loop_took_too_long(now, &replay.0);
                }
                State::Calling(replay, call)
            }
            State::Relaying(mut relay) => {
                if !relay.handle_timeout(now, &mut self.out) {
                    return State::Relaying(relay);
                }
                self.out.actions.push_back(Action::Abort(relay.call));
                self.relay_failed(now, *relay, Fault::TimedOut)
            }
            State::Tooling(tooling) => self.tooling_timed_out(now, tooling),
            State::Turning(turn) => self.turn_timed_out(now, turn),
            state @ (State::Choosing(_) | State::Leasing(_) | State::Over) => state,
        }
    }
}
