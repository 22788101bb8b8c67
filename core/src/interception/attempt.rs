//! From an admitted request to a reply that may be relayed: keys, calls, judgements, and how it all
//! ends.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    Action, Interception, Outbox, Query, UpstreamRequest,
    caller::{self, Credential},
    ending::reply,
    headers,
    intake::{Intake, Refusal},
    journal::{Ending, Journal, Trouble},
    relay::Relay,
    route::Route,
    state::{Call, Came, Lent, Pending, Replay, Request, Rest, State},
};
use crate::{
    api::{self, Api, ApiError, Inspected},
    config::Config,
    fault::Fault,
    id::{CallId, InterceptionId},
    keypool::{self, Exhausted, Lease, NextStep, Verdict, Walker},
    record::Outcome,
    secret::Secret,
    time::{Instant, after},
};

/// How much of a reply's body is waited for at a policy's wish, in bytes.
const MAX_JUDGED_BODY: usize = 64 << 10;

impl Interception {
    /// A request that is turned away: its answer is all there is.
    pub(crate) fn refused(now: Instant, refusal: Refusal, id: InterceptionId) -> Self {
        let mut out = Outbox::default();
        let mut journal = Journal::refused(id);
        out.emit(refusal.record(now, id));
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
            let trouble = Trouble::ours(error.message.clone());
            let ending = Ending::new(Outcome::BadRequest, trouble);
            interception.give_up(now, Refusal::new(Some(vendor), error), ending);
            return interception;
        }

        let body = match &api {
            // With tools, it is prepared when these are put in.
            Some((_, inspected)) if config.mcp.is_empty() => api::prepare(body, inspected),
            _ => body,
        };
        let headers = headers::to_upstream(
            intake.headers,
            &intake.provider,
            &intake.caller,
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
            limits: config.tools,
            walker: Walker::new(),
            agent: None,
        }));
        interception.state = if replay.0.may_have_tools(config) {
            interception.journal.prepares(now);
            interception.out.queries.push_back(Query::Tools);
            State::Choosing(replay)
        } else {
            interception.try_next(now, replay)
        };
        interception
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
                let request = &replay.0;
                let field = caller::pool_credential(request.provider.vendor, &lease.secret);
                let lent = Lent {
                    key: lease.key,
                    index: lease.index,
                    provider: Arc::clone(&request.provider),
                    model: request.model.clone(),
                };
                match field {
                    Some(field) => self.call(now, replay, Some(lent), field, lease.secret),
                    None => self.exhausted(now, &replay.0, Exhausted::Unauthorized),
                }
            }
            Err(exhausted) => self.exhausted(now, &replay.0, exhausted),
        }
    }

    /// The first attempt, or the next.
    pub(super) fn try_next(&mut self, now: Instant, replay: Replay) -> State {
        self.journal.prepares(now);
        let request = &replay.0;
        if let Credential::Byok {
            field,
            value,
            secret,
        } = &request.credential
        {
            let (field, secret) = ((field.clone(), value.clone()), secret.clone());
            return self.call(now, replay, None, field, secret);
        }
        self.out.queries.push_back(Query::Lease {
            provider: Arc::clone(&request.provider),
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
        lent: Option<Lent>,
        credential: (HeaderName, HeaderValue),
        secret: Secret,
    ) -> State {
        self.journal.calls(now, secret);
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
                lent,
                deadline: after(now, timeout),
                pending: None,
            },
        )
    }

    pub(super) fn head(
        &mut self,
        now: Instant,
        replay: Replay,
        mut call: Call,
        status: StatusCode,
        headers: HeaderMap,
    ) -> State {
        let wanted = match call.lent {
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

    pub(super) fn awaited_body(
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
    pub(super) fn judge(&mut self, now: Instant, replay: Replay, call: &Call, came: Came) -> State {
        let outcome = match &came {
            Came::Fault(fault) => keypool::Outcome::Fault(*fault),
            Came::Reply(pending, _) => keypool::Outcome::Reply {
                status: pending.status,
                headers: &pending.headers,
                body: &pending.body,
            },
        };
        let verdict = match &call.lent {
            Some(lent) => lent.judge(now, outcome, 0, &mut self.out),
            None => Verdict::RELAY,
        };
        let result = match &came {
            Came::Fault(fault) => Err(*fault),
            Came::Reply(pending, _) => Ok(pending.status.as_u16()),
        };
        // There is nothing to relay of a fault: to relay it is to give up.
        let step = match (verdict.step, &came) {
            (NextStep::Relay, Came::Fault(_)) => NextStep::GiveUp,
            (step, _) => step,
        };
        let key_index = call.lent.as_ref().map(|lent| lent.index);
        self.journal
            .attempt(now, key_index, result, step, &mut self.out);

        match (step, came) {
            (NextStep::NextKey, came) => {
                self.drop_call(call, &came);
                self.try_next(now, replay)
            }
            (NextStep::Relay, Came::Reply(pending, rest)) => {
                self.begin_relay(now, replay, call, *pending, rest)
            }
            (NextStep::GiveUp, came @ Came::Reply(..)) => {
                self.drop_call(call, &came);
                self.call_failed(now, &replay.0, Fault::Protocol)
            }
            (_, Came::Fault(fault)) => self.call_failed(now, &replay.0, fault),
        }
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
        let Replay(mut request) = replay;
        if let Some(agent) = request.agent.take() {
            return self.begin_turn(now, request, agent, call, reply, rest);
        }
        self.begin_plain_relay(now, &request, call, reply, rest)
    }

    /// Relays a reply as it is.
    pub(super) fn begin_plain_relay(
        &mut self,
        now: Instant,
        request: &Request,
        call: &Call,
        reply: Pending,
        rest: Rest,
    ) -> State {
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
            call,
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
}

/// Looks into a request's body.
fn inspect(api: Api, body: &[u8]) -> Result<Inspected, ApiError> {
    let inspected = api::inspect(api, body)?;
    if inspected.background {
        return Err(ApiError::unsupported());
    }
    Ok(inspected)
}
