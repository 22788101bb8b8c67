//! How a request ends: with upstream's reply, with an error of ours, or with the client gone.

use http::StatusCode;

use super::{
    Action, Event, Interception, Outbox,
    intake::Refusal,
    journal::{Ending, Journal, Trouble},
    relay::{Finished, Relay},
    state::{Request, State},
};
use crate::{
    api::{ApiError, Told},
    fault::Fault,
    id::CallId,
    keypool::{self, Exhausted},
    record::Outcome,
    time::Instant,
};

impl Interception {
    /// Something happened while a reply is relayed.
    pub(super) fn relay(&mut self, now: Instant, mut relay: Box<Relay>, event: Event) -> State {
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
                let (status, first_byte) = (relay.status, relay.first_byte);
                let finished = relay.cancel();
                let had_all = finished.complete.then(|| ending(status, &finished));
                self.tell(now, first_byte, finished.told);
                self.left(now, had_all)
            }
            _ => State::Relaying(relay),
        }
    }

    pub(super) fn relay_ended(&mut self, now: Instant, relay: Relay) -> State {
        let (status, first_byte) = (relay.status, relay.first_byte);
        let finished = relay.end(&mut self.out);
        self.conclude(now, status, first_byte, finished)
    }

    pub(super) fn relay_failed(&mut self, now: Instant, relay: Relay, fault: Fault) -> State {
        let (status, first_byte) = (relay.status, relay.first_byte);
        let (lent, relayed) = (relay.lent.clone(), relay.relayed);
        let finished = relay.fail(fault, &mut self.out);
        if let (Some(fault), Some(lent)) = (finished.fault, lent) {
            lent.judge(now, keypool::Outcome::Fault(fault), relayed, &mut self.out);
        }
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
        self.tell(now, first_byte, finished.told);
        self.journal.end(now, ending, &mut self.out);
        State::Over
    }

    fn tell(&mut self, now: Instant, first_byte: Option<Instant>, told: Told) {
        if let Some(at) = first_byte {
            self.journal.first_byte(at);
        }
        self.journal.told(now, told, &mut self.out);
    }

    /// There is no key for this request.
    pub(super) fn exhausted(
        &mut self,
        now: Instant,
        request: &Request,
        exhausted: Exhausted,
    ) -> State {
        self.journal.exhausted(now, exhausted, &mut self.out);
        let (error, outcome) = match exhausted {
            Exhausted::RateLimited(wait) => (ApiError::rate_limited(wait), Outcome::RateLimited),
            Exhausted::Unauthorized => (ApiError::keys_unauthorized(), Outcome::Unauthorized),
        };
        self.fail(now, request, &error, outcome)
    }

    /// The call failed, and nothing else is tried.
    pub(super) fn call_failed(&mut self, now: Instant, request: &Request, fault: Fault) -> State {
        let (error, outcome) = match fault {
            Fault::TimedOut => (ApiError::upstream_timeout(), Outcome::Timeout),
            fault => (ApiError::upstream_failed(fault), Outcome::UpstreamError),
        };
        self.fail(now, request, &error, outcome)
    }

    /// Ends a request with an error of our own: as a reply, or as the stream's last event where a
    /// loop's reply has begun.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        request: &Request,
        error: &ApiError,
        outcome: Outcome,
    ) -> State {
        let ending = Ending::new(outcome, Trouble::ours(error.message.clone()));
        match &request.agent {
            Some(agent) if agent.has_started() => {
                agent.break_off(error, self.journal.id, &mut self.out);
            }
            _ => {
                let refusal = Refusal::new(Some(request.provider.vendor), error.clone());
                reply(refusal, &mut self.journal, &mut self.out);
            }
        }
        self.journal.end(now, ending, &mut self.out);
        State::Over
    }

    /// Ends a request that upstream was not called for.
    pub(super) fn give_up(&mut self, now: Instant, refusal: Refusal, ending: Ending) {
        reply(refusal, &mut self.journal, &mut self.out);
        self.journal.end(now, ending, &mut self.out);
    }

    /// The client left before it had all of a reply.
    pub(super) fn cancel(&mut self, now: Instant, call: Option<CallId>) -> State {
        self.out.actions.extend(call.map(Action::Abort));
        self.left(now, None)
    }

    /// The client left. It has cancelled, unless it had all that upstream had to say: then that
    /// counts.
    pub(super) fn left(&mut self, now: Instant, had_all: Option<Ending>) -> State {
        let cancelled = Ending::quiet(Outcome::Cancelled);
        self.journal
            .end(now, had_all.unwrap_or(cancelled), &mut self.out);
        State::Over
    }
}

/// A whole reply of our own.
pub(super) fn reply(refusal: Refusal, journal: &mut Journal, out: &mut Outbox) {
    let (head, body) = refusal.into_reply(journal.id);
    journal.replied(head.status);
    out.actions.push_back(Action::ReplyHead(head));
    out.body(body);
    out.actions.push_back(Action::ReplyEnd);
}

/// What a relayed reply amounts to.
pub(super) fn ending(status: StatusCode, finished: &Finished) -> Ending {
    if let Some(fault) = finished.fault {
        let outcome = match fault {
            Fault::TimedOut => Outcome::Timeout,
            _ => Outcome::UpstreamError,
        };
        let trouble = Trouble::ours(format!("upstream connection failed: {fault}"));
        return Ending::new(outcome, trouble);
    }
    let error = finished.told.error.clone();
    if !status.is_success() {
        let outcome = match status {
            StatusCode::TOO_MANY_REQUESTS => Outcome::RateLimited,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Unauthorized,
            _ => Outcome::UpstreamError,
        };
        let class = format!("upstream said {status}");
        let trouble = match error {
            Some(error) => Trouble::theirs(error, class),
            None => Trouble::ours(class),
        };
        return Ending::new(outcome, trouble);
    }
    let trouble = match error {
        Some(error) => Trouble::theirs(error, "upstream's reply ended in an error"),
        None if !finished.complete => Trouble::ours("upstream's reply is not a complete one"),
        None => return Ending::quiet(Outcome::Ok),
    };
    Ending::new(Outcome::UpstreamError, trouble)
}
