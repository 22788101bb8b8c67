//! From an admitted request to a reply that may be relayed: keys, calls, judgements, and how it all ends.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{
    Action, Event, Interception, Outbox, Query, UpstreamRequest,
    caller::{self, Credential},
    headers,
    intake::{Intake, Refusal},
    journal::{Ending, Journal},
    relay::{Finished, Relay, after},
    route::Route,
};
use crate::{
    api::{self, Api, ApiError, Inspected},
    config::{Config, Provider, Timeouts},
    fault::Fault,
    id::{CallId, InterceptionId},
    keypool::{self, Exhausted, Fate, KeyId, Lease, NextStep, Scope, Verdict, Walker},
    record::Outcome,
    time::Instant,
};

/// How much of a reply's body is waited for at a policy's wish, in bytes.
const MAX_JUDGED_BODY: usize = 64 << 10;

/// Where an interception stands.
#[derive(Debug)]
pub(super) enum State {
    /// A call is under way, not yet judged.
    Calling(Replay, Call),
    /// A key has been asked for.
    Leasing(Replay),
    /// Nothing is left to happen.
    Over,
    /// The client is getting a reply.
    Relaying(Box<Relay>),
}

impl State {
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Calling(_, call) => call.deadline,
            Self::Leasing(_) | Self::Over => None,
            Self::Relaying(relay) => relay.deadline(),
        }
    }
}

/// All that is needed to call upstream, and to call it again. Consumed when relaying begins.
#[derive(Debug)]
pub(super) struct Replay(Box<Request>);

#[derive(Debug)]
struct Request {
    provider: Arc<Provider>,
    api: Option<(Api, Inspected)>,
    model: Option<Arc<str>>,
    session: Option<Arc<str>>,
    credential: Credential,
    method: Method,
    path: Arc<str>,
    headers: Arc<HeaderMap>,
    body: Bytes,
    timeouts: Timeouts,
    walker: Walker,
}

/// One call to upstream.
#[derive(Debug)]
pub(super) struct Call {
    id: CallId,
    /// The pool's key; `None` for the client's own.
    key: Option<(KeyId, usize)>,
    /// When the reply's head is overdue.
    deadline: Option<Instant>,
    /// A head that waits for as much of its body as the policy wants to see.
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Pending {
    status: StatusCode,
    headers: HeaderMap,
    body: BytesMut,
    wanted: usize,
}

/// What came of a call.
enum Came {
    Fault(Fault),
    Reply(Box<Pending>, Rest),
}

/// What of a judged reply is still to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Broken(Fault),
    Coming,
    Ended,
}

impl Interception {
    /// A request that is turned away: its answer is all there is.
    pub(crate) fn refused(refusal: Refusal, id: InterceptionId) -> Self {
        let mut out = Outbox::default();
        let mut journal = Journal::refused(id);
        reply(refusal, &mut journal, &mut out);
        Self {
            state: State::Over,
            journal,
            unanswered: 0,
            out,
        }
    }

    /// Begins with a request whose head has been accepted, and its whole body.
    pub fn admitted(
        now: Instant,
        config: &Config,
        id: InterceptionId,
        intake: Intake,
        body: Bytes,
    ) -> Self {
        let mut out = Outbox::default();
        let vendor = intake.vendor();
        let inspected = match intake.route {
            Route::Bridged(api) => inspect(api, &body).map(|inspected| Some((api, inspected))),
            Route::Passthrough => Ok(None),
        };
        let (mut api, error) = match inspected {
            Ok(api) => (api, None),
            Err(error) => (None, Some(error)),
        };
        let inspected = api.as_mut().map(|(_, inspected)| inspected);
        let (journal, session) = Journal::begin(now, id, &intake, inspected, &mut out);
        let mut interception = Self {
            state: State::Over,
            journal,
            unanswered: 0,
            out,
        };
        if let Some(error) = error {
            let ending = Ending::new(Outcome::BadRequest, error.message.clone());
            interception.give_up(now, Refusal::new(Some(vendor), error), ending);
            return interception;
        }

        let body = match &api {
            Some((api, inspected)) => api::prepare(*api, body, inspected),
            None => body,
        };
        let headers = headers::to_upstream(
            intake.headers,
            &intake.provider,
            &intake.caller.actor,
            !body.is_empty(),
        );
        let replay = Replay(Box::new(Request {
            model: api
                .as_ref()
                .map(|(_, inspected)| inspected.model.as_str().into()),
            session,
            provider: intake.provider,
            api,
            credential: intake.caller.credential,
            method: intake.method,
            path: intake.path,
            headers: Arc::new(headers),
            body,
            timeouts: config.timeouts,
            walker: Walker::new(),
        }));
        interception.state = interception.try_next(now, replay);
        interception
    }

    /// Something happened in this state: what state comes of it.
    pub(super) fn step(&mut self, now: Instant, state: State, event: Event) -> State {
        match (state, event) {
            (State::Over, _) => State::Over,
            (State::Relaying(relay), event) => self.relay(now, relay, event),
            (State::Leasing(_), Event::ClientGone) => self.cancel(now, None),
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
            (state @ (State::Leasing(_) | State::Calling(..)), _) => state,
        }
    }

    /// The bridge has said which key comes next.
    pub(super) fn leased(
        &mut self,
        now: Instant,
        state: State,
        lease: Result<Lease, Exhausted>,
        walker: Walker,
    ) -> State {
        let State::Leasing(mut replay) = state else {
            return state; // the client has left meanwhile
        };
        replay.0.walker = walker;
        match lease {
            Ok(lease) => {
                let field = caller::pool_credential(replay.0.provider.vendor, &lease.secret);
                let hint = lease.secret.hint().into();
                match field {
                    Some(field) => {
                        self.call(now, replay, Some((lease.key, lease.index)), field, hint)
                    }
                    None => self.exhausted(now, &replay, Exhausted::Unauthorized),
                }
            }
            Err(exhausted) => self.exhausted(now, &replay, exhausted),
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
            State::Relaying(mut relay) => {
                if !relay.handle_timeout(now, &mut self.out) {
                    return State::Relaying(relay);
                }
                self.out.actions.push_back(Action::Abort(relay.call));
                self.relay_failed(now, *relay, Fault::TimedOut)
            }
            state => state,
        }
    }

    /// The first attempt, or the next.
    fn try_next(&mut self, now: Instant, replay: Replay) -> State {
        let request = &replay.0;
        if let Credential::Byok { field, value, hint } = &request.credential {
            let (field, hint) = ((field.clone(), value.clone()), Arc::clone(hint));
            return self.call(now, replay, None, field, hint);
        }
        self.out.queries.push_back(Query::Lease {
            provider: Arc::clone(&request.provider.name),
            walker: request.walker.clone(),
            model: request.model.clone(),
            session: request.session.clone(),
        });
        State::Leasing(replay)
    }

    fn call(
        &mut self,
        now: Instant,
        replay: Replay,
        key: Option<(KeyId, usize)>,
        credential: (HeaderName, HeaderValue),
        hint: Arc<str>,
    ) -> State {
        self.journal.uses(hint);
        let id = CallId(self.journal.attempts());
        let request = &replay.0;
        // A blocking reply comes when the model has finished; a stream's head comes when it begins.
        let timeout = match &request.api {
            Some((_, inspected)) if inspected.stream => request.timeouts.header,
            _ => request.timeouts.header_blocking,
        };
        let request = UpstreamRequest {
            provider: Arc::clone(&request.provider),
            method: request.method.clone(),
            path: Arc::clone(&request.path),
            headers: Arc::clone(&request.headers),
            credential,
            body: request.body.clone(),
        };
        self.out.actions.push_back(Action::Call(id, request));
        State::Calling(
            replay,
            Call {
                id,
                key,
                deadline: after(now, timeout),
                pending: None,
            },
        )
    }

    fn head(
        &mut self,
        now: Instant,
        replay: Replay,
        mut call: Call,
        status: StatusCode,
        headers: HeaderMap,
    ) -> State {
        let wanted = match call.key {
            Some(_) => replay
                .0
                .provider
                .policy
                .body_wanted(status)
                .min(MAX_JUDGED_BODY),
            None => 0,
        };
        let pending = Box::new(Pending {
            status,
            headers,
            body: BytesMut::new(),
            wanted,
        });
        if wanted > 0 {
            call.pending = Some(pending);
            return State::Calling(replay, call);
        }
        self.judge(now, replay, &call, Came::Reply(pending, Rest::Coming))
    }

    fn awaited_body(
        &mut self,
        now: Instant,
        replay: Replay,
        mut call: Call,
        bytes: &Bytes,
    ) -> State {
        let Some(mut pending) = call.pending.take() else {
            return State::Calling(replay, call); // a body without a head: none of ours
        };
        pending.body.extend_from_slice(bytes);
        if pending.body.len() < pending.wanted {
            call.pending = Some(pending);
            return State::Calling(replay, call);
        }
        self.judge(now, replay, &call, Came::Reply(pending, Rest::Coming))
    }

    /// Asks the policy, and does what it says.
    fn judge(&mut self, now: Instant, replay: Replay, call: &Call, came: Came) -> State {
        let request = &replay.0;
        let outcome = match &came {
            Came::Fault(fault) => keypool::Outcome::Fault(*fault),
            Came::Reply(pending, _) => keypool::Outcome::Reply {
                status: pending.status,
                headers: &pending.headers,
                body: &pending.body,
            },
        };
        let verdict = match call.key {
            Some((key, _)) => {
                let model = request.model.as_deref();
                let attempt = keypool::Attempt {
                    now,
                    model,
                    outcome,
                    relayed: 0,
                };
                let verdict = request.provider.policy.judge(&attempt);
                self.report(request, key, verdict);
                verdict
            }
            None => Verdict {
                fate: Fate::Keep,
                scope: Scope::Key,
                step: NextStep::Relay,
            },
        };
        let result = match &came {
            Came::Fault(fault) => Err(*fault),
            Came::Reply(pending, _) => Ok(pending.status.as_u16()),
        };
        let key_index = call.key.map(|(_, index)| index);
        self.journal
            .attempt(now, key_index, result, verdict.step, &mut self.out);

        match (verdict.step, came) {
            (NextStep::NextKey, came) => {
                self.drop_call(call, &came);
                self.try_next(now, replay)
            }
            (NextStep::Relay, Came::Reply(pending, rest)) => {
                self.begin_relay(now, replay, call, *pending, rest)
            }
            (NextStep::GiveUp, came @ Came::Reply(..)) => {
                self.drop_call(call, &came);
                let error = ApiError::upstream_failed(Fault::Protocol);
                let ending = Ending::new(Outcome::UpstreamError, "the policy gave up");
                self.give_up(
                    now,
                    Refusal::new(Some(replay.0.provider.vendor), error),
                    ending,
                )
            }
            (NextStep::GiveUp | NextStep::Relay, Came::Fault(fault)) => {
                let (error, outcome) = match fault {
                    Fault::TimedOut => (ApiError::upstream_timeout(), Outcome::Timeout),
                    fault => (ApiError::upstream_failed(fault), Outcome::UpstreamError),
                };
                let ending = Ending::new(outcome, error.message.clone());
                self.give_up(
                    now,
                    Refusal::new(Some(replay.0.provider.vendor), error),
                    ending,
                )
            }
        }
    }

    /// Tells the pool what became of a key, if anything did.
    fn report(&mut self, request: &Request, key: KeyId, verdict: Verdict) {
        if verdict.fate == Fate::Keep {
            return;
        }
        let provider = Arc::clone(&request.provider.name);
        let model = request.model.clone();
        self.out.queries.push_back(Query::Report {
            provider,
            key,
            verdict,
            model,
        });
    }

    /// A reply that nobody wants: gives up what of it is still to come.
    fn drop_call(&mut self, call: &Call, came: &Came) {
        if matches!(came, Came::Reply(_, Rest::Coming)) {
            self.out.actions.push_back(Action::Abort(call.id));
        }
    }

    /// From here on nothing can be tried again: `replay` ends here.
    fn begin_relay(
        &mut self,
        now: Instant,
        replay: Replay,
        call: &Call,
        reply: Pending,
        rest: Rest,
    ) -> State {
        let Replay(request) = replay;
        let api = request
            .api
            .as_ref()
            .map(|(api, inspected)| (*api, inspected));
        let Pending {
            status,
            mut headers,
            body,
            ..
        } = reply;
        let mut relay = Relay::new(
            now,
            call.id,
            self.journal.id,
            status,
            &headers,
            api,
            request.timeouts,
        );
        let length = headers::to_client(&mut headers, self.journal.id, relay.is_stream());
        self.journal.replied(status);
        self.out.actions.push_back(Action::ReplyHead(super::Reply {
            status,
            headers,
            length,
        }));
        relay.body(now, body.freeze(), &mut self.out);
        match rest {
            Rest::Broken(fault) => self.relay_failed(now, relay, fault),
            Rest::Coming => State::Relaying(Box::new(relay)),
            Rest::Ended => self.relay_ended(now, relay),
        }
    }

    fn relay(&mut self, now: Instant, mut relay: Box<Relay>, event: Event) -> State {
        match event {
            Event::UpstreamBody(id, bytes) if id == relay.call => {
                relay.body(now, bytes, &mut self.out);
                State::Relaying(relay)
            }
            Event::UpstreamEnd(id) if id == relay.call => self.relay_ended(now, *relay),
            Event::UpstreamFailed(id, fault) if id == relay.call => {
                self.relay_failed(now, *relay, fault)
            }
            Event::ClientGone => {
                self.out.actions.push_back(Action::Abort(relay.call));
                let outcome = if relay.is_complete() {
                    Outcome::Ok
                } else {
                    Outcome::Cancelled
                };
                let first_byte = relay.first_byte;
                let finished = relay.cancel();
                self.journal.told(now, first_byte, finished, &mut self.out);
                self.journal.end(
                    now,
                    Ending {
                        outcome,
                        error: None,
                    },
                    &mut self.out,
                );
                State::Over
            }
            _ => State::Relaying(relay),
        }
    }

    fn relay_ended(&mut self, now: Instant, relay: Relay) -> State {
        let (status, first_byte) = (relay.status, relay.first_byte);
        let finished = relay.end(&mut self.out);
        self.conclude(now, status, first_byte, finished)
    }

    fn relay_failed(&mut self, now: Instant, relay: Relay, fault: Fault) -> State {
        let (status, first_byte) = (relay.status, relay.first_byte);
        let finished = relay.fail(fault, &mut self.out);
        self.conclude(now, status, first_byte, finished)
    }

    fn conclude(
        &mut self,
        now: Instant,
        status: StatusCode,
        first_byte: Option<Instant>,
        finished: Finished,
    ) -> State {
        let ending = ending(status, &finished);
        self.journal.told(now, first_byte, finished, &mut self.out);
        self.journal.end(now, ending, &mut self.out);
        State::Over
    }

    fn exhausted(&mut self, now: Instant, replay: &Replay, exhausted: Exhausted) -> State {
        let (error, outcome) = match exhausted {
            Exhausted::RateLimited(wait) => (ApiError::rate_limited(wait), Outcome::RateLimited),
            Exhausted::Unauthorized => (ApiError::keys_unauthorized(), Outcome::Unauthorized),
        };
        let ending = Ending::new(outcome, error.message.clone());
        self.give_up(
            now,
            Refusal::new(Some(replay.0.provider.vendor), error),
            ending,
        )
    }

    /// Ends a request that has had no reply with an error of our own.
    fn give_up(&mut self, now: Instant, refusal: Refusal, ending: Ending) -> State {
        reply(refusal, &mut self.journal, &mut self.out);
        self.journal.end(now, ending, &mut self.out);
        State::Over
    }

    /// The client left before it had a reply.
    fn cancel(&mut self, now: Instant, call: Option<CallId>) -> State {
        self.out.actions.extend(call.map(Action::Abort));
        self.journal.end(
            now,
            Ending {
                outcome: Outcome::Cancelled,
                error: None,
            },
            &mut self.out,
        );
        State::Over
    }
}

/// Looks into a request's body.
fn inspect(api: Api, body: &[u8]) -> Result<Inspected, ApiError> {
    let inspected = api::inspect(api, body)?;
    if inspected.background {
        return Err(ApiError::unsupported());
    }
    Ok(inspected)
}

/// A whole reply of our own.
fn reply(refusal: Refusal, journal: &mut Journal, out: &mut Outbox) {
    let (head, body) = refusal.into_reply(journal.id);
    journal.replied(head.status);
    out.actions.push_back(Action::ReplyHead(head));
    out.body(body);
    out.actions.push_back(Action::ReplyEnd);
}

/// What a relayed reply amounts to.
fn ending(status: StatusCode, finished: &Finished) -> Ending {
    if let Some(fault) = finished.fault {
        let outcome = match fault {
            Fault::TimedOut => Outcome::Timeout,
            _ => Outcome::UpstreamError,
        };
        return Ending::new(outcome, format!("upstream connection failed: {fault}"));
    }
    let error = finished.told.error.clone();
    if !status.is_success() {
        let outcome = match status {
            StatusCode::TOO_MANY_REQUESTS => Outcome::RateLimited,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Unauthorized,
            _ => Outcome::UpstreamError,
        };
        return Ending::new(
            outcome,
            error.unwrap_or_else(|| format!("upstream said {status}")),
        );
    }
    match error {
        Some(error) => Ending::new(Outcome::UpstreamError, error),
        None if !finished.complete => Ending::new(
            Outcome::UpstreamError,
            "upstream's reply is not a complete one",
        ),
        None => Ending {
            outcome: Outcome::Ok,
            error: None,
        },
    }
}
