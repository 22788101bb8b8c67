//! What an attempt's outcome means.

use std::fmt;

use http::{HeaderMap, StatusCode};

use crate::{
    fault::Fault,
    keypool::retry_after,
    time::{Duration, Instant},
};

/// Judges attempts, and picks keys. One pure function each: no state, no clock, no I/O.
///
/// A policy that cools a key as soon as Anthropic says that it has no request left:
///
/// ```
/// use std::time::Duration;
/// use aibridge_core::keypool::{Attempt, Failover, Fate, Outcome, Policy, Reason, Verdict};
///
/// #[derive(Debug)]
/// struct Proactive(Failover);
///
/// impl Policy for Proactive {
///     fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
///         let verdict = self.0.judge(attempt);
///         let Outcome::Reply { headers, .. } = attempt.outcome else { return verdict };
///         let used_up = headers.get("anthropic-ratelimit-requests-remaining").is_some_and(|left| left == "0");
///         if verdict.fate == Fate::Keep && used_up {
///             let fate = Fate::Cool(Some(Duration::from_secs(10)), Reason::RateLimited);
///             return Verdict { fate, ..verdict };
///         }
///         verdict
///     }
/// }
/// ```
pub trait Policy: fmt::Debug + Send + Sync {
    /// What this attempt's outcome means for its key and for the request.
    ///
    /// Asked when there is a reply's head, with as much of its body as is
    /// [wanted](Self::body_wanted), or a fault instead. A reply that is passed on and then breaks
    /// off, or falls silent for too long, is judged once more, as a [fault](Outcome::Fault): by
    /// then nothing can be tried again, so only the key's fate counts, and the step is ignored.
    /// (With tools injected, a reply may be held back, and then the client has none of it yet; that
    /// is no different.) A reply that is complete, and one whose client left, is not judged again.
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict;

    /// How many bytes of the body of a reply with this status [`judge`](Self::judge) wants to see.
    /// None by default, so that a reply is judged as soon as its head is here. At most 64 KiB are
    /// waited for.
    fn body_wanted(&self, _status: StatusCode) -> usize {
        0
    }

    /// The same policy as a value, where it is the shipped one: so a [trace](crate::trace) can say
    /// which policy judged, and be replayed without the program that recorded it.
    fn as_failover(&self) -> Option<&Failover> {
        None
    }

    /// Which of the candidates (valid now, not tried in this iteration, configured order) goes
    /// next: its position in [`candidates`](Offer::candidates), which is not its
    /// [`index`](Candidate::index). `None`, or a position that is not there, ends the walk, and the
    /// client is told that there is no key. By default the first one after the last one tried: a
    /// walk moves forward only.
    fn pick(&self, offer: &Offer<'_>) -> Option<usize> {
        offer
            .candidates
            .iter()
            .position(|c| offer.last.is_none_or(|last| c.index > last))
    }
}

/// The facts of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// When its outcome was known.
    pub now: Instant,
    /// The model asked for; `None` on passthrough routes.
    pub model: Option<&'a str>,
    /// What came back.
    pub outcome: Outcome<'a>,
    /// How many bytes of this reply's body the client has been given: more than 0 only for a fault
    /// mid-body.
    pub relayed: u64,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// No reply, or not all of it.
    Fault(Fault),
    /// A reply.
    Reply {
        /// Status.
        status: StatusCode,
        /// Header fields.
        headers: &'a HeaderMap,
        /// As much of the body as was asked for and is there.
        body: &'a [u8],
    },
}

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the key.
    pub fate: Fate,
    /// How far a cooldown reaches.
    pub scope: Scope,
    /// What becomes of the request.
    pub step: NextStep,
}

impl Verdict {
    /// The key is kept and the client gets the reply.
    pub const RELAY: Self = Self {
        fate: Fate::Keep,
        scope: Scope::Key,
        step: NextStep::Relay,
    };

    /// This becomes of the key, for every model, and the next key is tried.
    pub const fn next_key(fate: Fate) -> Self {
        Self {
            fate,
            scope: Scope::Key,
            step: NextStep::NextKey,
        }
    }
}

/// What becomes of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// It is not used for this long; `None` or zero means the pool's default.
    Cool(Option<Duration>, Reason),
    /// It is not used until an administrator resets it.
    Retire(Reason),
}

/// Why a key is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// 403.
    Forbidden,
    /// A reason of a user's own policy.
    Other(&'static str),
    /// 429.
    RateLimited,
    /// 401.
    Unauthorized,
}

impl Reason {
    /// As records and the admin endpoints spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Other(text) => text,
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// How far a cooldown reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The key for every model.
    #[default]
    Key,
    /// The key for the model asked for only: some providers limit per model.
    Model,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The request ends here with an error of the bridge's own (502).
    GiveUp,
    /// The next key is tried. Without effect on BYOK requests, which are not judged, and for a
    /// fault mid-body.
    NextKey,
    /// The client gets this reply. For a fault, which has none, the same as `GiveUp`.
    Relay,
}

/// What a walk can go on with.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The time.
    pub now: Instant,
    /// Keys that are valid and untried, in configured order; never empty.
    pub candidates: &'a [Candidate<'a>],
    /// Index of the key tried last in this iteration.
    pub last: Option<usize>,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// The client's session, where it told one.
    pub session: Option<&'a str>,
}

/// One key on offer.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its place in the configuration, from 0.
    pub index: usize,
    /// What may be shown of it.
    pub hint: &'a str,
    /// When its last cooldown ended, those of single models left out; the epoch if it never had
    /// one.
    pub limited_until: Instant,
}

/// The shipped policy: a 429 cools the key, a 401 or 403 retires it or cools it, and the next one
/// is tried; unless these are configured to be [relayed](Rejected::Relay), as all else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// What a 401 does to the key.
    pub unauthorized: Rejected,
    /// What a 403 does to the key.
    pub forbidden: Rejected,
    /// The cooldown of a 429 that names none.
    pub default_cooldown: Duration,
    /// The longest cooldown, whatever the provider says. Beyond
    /// [`Provider::max_cooldown`](crate::config::Provider::max_cooldown) nothing cools, whatever a
    /// policy says: [`with_failover`](crate::config::Provider::with_failover) sets both.
    pub max_cooldown: Duration,
}

/// What a rejection does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Cool it down this long, try the next.
    Cool(Duration),
    /// Leave the key alone and relay the reply.
    Relay,
    /// Retire it, try the next.
    Retire,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            unauthorized: Rejected::Retire,
            forbidden: Rejected::Retire,
            default_cooldown: Duration::from_secs(60),
            max_cooldown: Duration::from_secs(3600),
        }
    }
}

impl Policy for Failover {
    fn as_failover(&self) -> Option<&Failover> {
        Some(self)
    }

    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        let Outcome::Reply {
            status, headers, ..
        } = attempt.outcome
        else {
            return Verdict::RELAY;
        };
        let rejected = |rejected, reason| match rejected {
            Rejected::Cool(wait) => Verdict::next_key(Fate::Cool(Some(wait), reason)),
            Rejected::Relay => Verdict::RELAY,
            Rejected::Retire => Verdict::next_key(Fate::Retire(reason)),
        };
        match status {
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = retry_after(attempt.now, headers).unwrap_or(self.default_cooldown);
                let wait = wait.min(self.max_cooldown);
                Verdict::next_key(Fate::Cool(Some(wait), Reason::RateLimited))
            }
            StatusCode::UNAUTHORIZED => rejected(self.unauthorized, Reason::Unauthorized),
            StatusCode::FORBIDDEN => rejected(self.forbidden, Reason::Forbidden),
            _ => Verdict::RELAY,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::RETRY_AFTER};

    use super::*;

    fn judged(policy: &Failover, outcome: Outcome<'_>) -> Verdict {
        policy.judge(&Attempt {
            now: Instant::from_secs(9),
            model: None,
            outcome,
            relayed: 0,
        })
    }

    fn replied(policy: &Failover, status: u16, headers: &HeaderMap) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        judged(
            policy,
            Outcome::Reply {
                status,
                headers,
                body: b"<html>no JSON",
            },
        )
    }

    #[test]
    fn the_default_verdicts() {
        let policy = Failover::default();
        let none = HeaderMap::new();
        let cool = |secs| Fate::Cool(Some(Duration::from_secs(secs)), Reason::RateLimited);
        for (status, verdict) in [
            (200, Verdict::RELAY),
            (400, Verdict::RELAY),
            (404, Verdict::RELAY),
            (500, Verdict::RELAY),
            (503, Verdict::RELAY),
            (529, Verdict::RELAY),
            (401, Verdict::next_key(Fate::Retire(Reason::Unauthorized))),
            (403, Verdict::next_key(Fate::Retire(Reason::Forbidden))),
            (429, Verdict::next_key(cool(60))),
        ] {
            assert_eq!(replied(&policy, status, &none), verdict, "{status}");
        }
        assert_eq!(
            judged(&policy, Outcome::Fault(Fault::Reset)),
            Verdict::RELAY
        );

        let wait = |text| HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        assert_eq!(
            replied(&policy, 429, &wait("5")),
            Verdict::next_key(cool(5))
        );
        assert_eq!(
            replied(&policy, 429, &wait("86400")),
            Verdict::next_key(cool(3600))
        );
    }

    #[test]
    fn rejections_may_cool_or_be_relayed() {
        let policy = Failover {
            unauthorized: Rejected::Cool(Duration::from_secs(300)),
            forbidden: Rejected::Relay,
            ..Failover::default()
        };
        let none = HeaderMap::new();
        let cool = Fate::Cool(Some(Duration::from_secs(300)), Reason::Unauthorized);
        assert_eq!(replied(&policy, 401, &none), Verdict::next_key(cool));
        assert_eq!(replied(&policy, 403, &none), Verdict::RELAY);
    }
}
