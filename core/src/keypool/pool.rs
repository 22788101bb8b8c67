//! The keys of one provider and their states.

use crate::{
    keypool::{Policy, Reason, Verdict, Walker},
    secret::Secret,
    time::{Duration, Instant},
};

/// A key's identity within its pool, stable across reloads that keep the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u32);

/// A key's state at some moment. Derived when read; there is no timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Retired until reset.
    Permanent(Reason),
    /// Cooling down until then.
    Temporary(Instant, Reason),
    /// In use.
    Valid,
}

impl KeyState {
    /// `valid`, `temporary` or `permanent`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent(_) => "permanent",
            Self::Temporary(..) => "temporary",
            Self::Valid => "valid",
        }
    }
}

/// What an administrator sees of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// First and last characters.
    pub hint: String,
    /// State now, over all models.
    pub state: KeyState,
}

/// A key handed out for one attempt.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Identity, to report the outcome under.
    pub key: KeyId,
    /// Place in the configuration, from 0.
    pub index: usize,
    /// The key itself.
    pub secret: Secret,
}

/// No key is left for this iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// Some key is only cooling down, or is valid again by now. Wait this long: whole seconds, at least 1.
    RateLimited(Duration),
    /// Every key is retired.
    Unauthorized,
}

/// A key changed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Place in the configuration.
    pub index: usize,
    /// What may be shown of the key.
    pub hint: String,
    /// State before.
    pub from: KeyState,
    /// State after.
    pub to: KeyState,
}

/// Why a pool cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// `duplicate key`, with its index
    Duplicate(usize),
    /// `no keys provided`
    Empty,
    /// Empty, blank, or not allowed in a header value; with its index.
    Malformed(usize),
}

/// The keys of one provider, in configured order.
#[derive(Debug)]
pub struct Pool {}

impl Pool {
    /// A pool of valid keys. `default_cooldown` stands in for absent ones, `max_cooldown` caps all.
    ///
    /// # Errors
    /// No keys, a duplicate, or a key that cannot be sent.
    pub fn new(
        _keys: Vec<Secret>,
        _default_cooldown: Duration,
        _max_cooldown: Duration,
    ) -> Result<Self, PoolError> {
        todo!()
    }
    /// The walk's next key, as `policy` picks it. Never one that the walker handed out before.
    ///
    /// # Errors
    /// None is left.
    pub fn lease(
        &self,
        _now: Instant,
        _walker: &mut Walker,
        _policy: &dyn Policy,
        _model: Option<&str>,
        _session: Option<&str>,
    ) -> Result<Lease, Exhausted> {
        todo!()
    }
    /// Applies a verdict's fate; says so if the key's state really changed. An unknown key (gone by
    /// a reload) is ignored.
    pub fn apply(
        &mut self,
        _now: Instant,
        _key: KeyId,
        _verdict: &Verdict,
        _model: Option<&str>,
    ) -> Option<Transition> {
        todo!()
    }
    /// All keys, in configured order.
    pub fn statuses(&self, _now: Instant) -> Vec<KeyStatus> {
        todo!()
    }
    /// Makes a key valid again; `None` if there is no such key.
    pub fn reset(&mut self, _now: Instant, _index: usize) -> Option<KeyStatus> {
        todo!()
    }
    /// Number of keys.
    #[expect(clippy::len_without_is_empty, reason = "a pool is never empty")]
    pub fn len(&self) -> usize {
        todo!()
    }
}
