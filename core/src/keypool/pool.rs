//! The keys of one provider and their states.

use std::{collections::BTreeMap, fmt};

use crate::{
    keypool::{Candidate, Fate, Offer, Policy, Reason, Scope, Verdict, Walker},
    secret::Secret,
    time::{Duration, Instant, whole_seconds},
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
    /// Some key is only cooling down, or is valid again by now. Wait this long: whole seconds, at
    /// least 1.
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

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(_) => f.write_str("duplicate key"),
            Self::Empty => f.write_str("no keys provided"),
            Self::Malformed(_) => {
                f.write_str("a key is blank or has characters that no header may have")
            }
        }
    }
}

impl std::error::Error for PoolError {}

/// Models of one key that may cool down at a time; one more, and the whole key does.
const MAX_MODELS: usize = 64;

/// What becomes of the state of keys that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The provider is now elsewhere, and what was learnt of its keys does not hold there.
    Forget,
    /// It is kept.
    Keep,
}

/// The keys of one provider, in configured order.
///
/// ```
/// use aibridge_core::{Duration, Instant, Secret, keypool::{Exhausted, Failover, Fate, Pool, Reason, Verdict, Walker}};
///
/// let keys = ["key-one", "key-two"].map(Secret::new);
/// let mut pool = Pool::new(keys.into(), Duration::from_secs(60), Duration::from_secs(3600)).unwrap();
/// let (now, policy) = (Instant::from_secs(1), Failover::default());
///
/// let mut walker = Walker::new();
/// let first = pool.lease(now, &mut walker, &policy, None, None).unwrap();
/// let limited = Fate::Cool(Some(Duration::from_secs(5)), Reason::RateLimited);
/// pool.apply(now, first.key, &Verdict::next_key(limited), None);
/// let second = pool.lease(now, &mut walker, &policy, None, None).unwrap();
/// assert_eq!((first.index, second.index), (0, 1));
///
/// let exhausted = pool.lease(now, &mut walker, &policy, None, None).unwrap_err();
/// assert_eq!(exhausted, Exhausted::RateLimited(Duration::from_secs(1))); // the second key is valid
/// ```
#[derive(Debug)]
pub struct Pool {
    keys: Vec<Key>,
    /// The id of the next key that is new. None is ever given twice, so that late reports on a key
    /// that has gone hit no other.
    next: u32,
    default_cooldown: Duration,
    max_cooldown: Duration,
}

#[derive(Clone, Debug)]
struct Key {
    id: KeyId,
    secret: Secret,
    hint: String,
    retired: Option<Reason>,
    cooling: Option<Cooling>,
    /// Cooldowns of single models.
    models: BTreeMap<String, Cooling>,
}

#[derive(Clone, Copy, Debug)]
struct Cooling {
    until: Instant,
    reason: Reason,
}

impl Key {
    fn state(&self, now: Instant) -> KeyState {
        match (self.retired, self.cooling) {
            (Some(reason), _) => KeyState::Permanent(reason),
            (None, Some(cooling)) if now < cooling.until => {
                KeyState::Temporary(cooling.until, cooling.reason)
            }
            _ => KeyState::Valid,
        }
    }

    /// As `state`, for requests for this model.
    fn state_for(&self, now: Instant, model: Option<&str>) -> KeyState {
        let whole = self.state(now);
        let cooling = model
            .and_then(|model| self.models.get(model))
            .filter(|c| now < c.until);
        match (whole, cooling) {
            (KeyState::Permanent(_), _) | (_, None) => whole,
            (KeyState::Temporary(until, _), Some(cooling)) if until >= cooling.until => whole,
            (_, Some(cooling)) => KeyState::Temporary(cooling.until, cooling.reason),
        }
    }

    fn cool(&mut self, now: Instant, cooling: Cooling, model: Option<&str>) {
        let slot = match model {
            Some(model) => {
                self.models.retain(|_, cooling| now < cooling.until);
                if self.models.len() < MAX_MODELS || self.models.contains_key(model) {
                    let slot = self.models.entry(model.to_owned()).or_insert(cooling);
                    if slot.until < cooling.until {
                        *slot = cooling;
                    }
                    return;
                }
                &mut self.cooling
            }
            None => &mut self.cooling,
        };
        if slot.is_none_or(|known| known.until < cooling.until) {
            *slot = Some(cooling);
        }
    }
}

impl Pool {
    /// A pool of valid keys. `default_cooldown` stands in for absent ones, `max_cooldown` caps all.
    ///
    /// # Errors
    /// No keys, a duplicate, or a key that cannot be sent.
    pub fn new(
        keys: Vec<Secret>,
        default_cooldown: Duration,
        max_cooldown: Duration,
    ) -> Result<Self, PoolError> {
        let none = Self {
            keys: Vec::new(),
            next: 0,
            default_cooldown,
            max_cooldown,
        };
        none.renewed(keys, default_cooldown, max_cooldown, Renewal::Keep)
    }

    /// The pool that comes after this one, with other keys or another order. What `renewal` says
    /// becomes of the state of keys that stay, which are told by their secrets; a new key is valid.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn renewed(
        &self,
        keys: Vec<Secret>,
        default_cooldown: Duration,
        max_cooldown: Duration,
        renewal: Renewal,
    ) -> Result<Self, PoolError> {
        if keys.is_empty() {
            return Err(PoolError::Empty);
        }
        for (index, key) in keys.iter().enumerate() {
            if !key.fits_header() {
                return Err(PoolError::Malformed(index));
            }
            if keys[..index].contains(key) {
                return Err(PoolError::Duplicate(index));
            }
        }
        let mut next = self.next;
        let mut stays = |secret| {
            let known = self.keys.iter().find(|known| known.secret == secret);
            if let Some(known) = known.filter(|_| renewal == Renewal::Keep) {
                return known.clone();
            }
            let id = KeyId(next);
            next += 1;
            Key {
                id,
                hint: secret.hint(),
                secret,
                retired: None,
                cooling: None,
                models: BTreeMap::new(),
            }
        };
        Ok(Self {
            keys: keys.into_iter().map(&mut stays).collect(),
            next,
            default_cooldown,
            max_cooldown,
        })
    }

    /// The walk's next key, as `policy` picks it. Never one that the walker handed out before, nor
    /// one that is not valid now, whatever the policy says.
    ///
    /// # Errors
    /// None is left.
    pub fn lease(
        &self,
        now: Instant,
        walker: &mut Walker,
        policy: &dyn Policy,
        model: Option<&str>,
        session: Option<&str>,
    ) -> Result<Lease, Exhausted> {
        let candidates: Vec<_> = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| {
                key.state_for(now, model) == KeyState::Valid && !walker.has_tried(key.id)
            })
            .map(|(index, key)| Candidate {
                index,
                hint: &key.hint,
                limited_until: key.cooling.map_or(Instant::EPOCH, |cooling| cooling.until),
            })
            .collect();
        let offer = Offer {
            now,
            candidates: &candidates,
            last: walker.last(),
            model,
            session,
        };
        let picked = if candidates.is_empty() {
            None
        } else {
            policy.pick(&offer)
        };
        let Some(candidate) = picked.and_then(|at| candidates.get(at)) else {
            return Err(self.exhausted(now, model));
        };
        let key = &self.keys[candidate.index];
        walker.take(key.id, candidate.index);
        Ok(Lease {
            key: key.id,
            index: candidate.index,
            secret: key.secret.clone(),
        })
    }

    /// What to tell a client when a walk is over: from the pool as it is now, not from what the
    /// walk met.
    fn exhausted(&self, now: Instant, model: Option<&str>) -> Exhausted {
        let wait = self
            .keys
            .iter()
            .filter_map(|key| match key.state_for(now, model) {
                KeyState::Permanent(_) => None,
                KeyState::Temporary(until, _) => Some(until.since(now)),
                KeyState::Valid => Some(Duration::ZERO),
            });
        let Some(wait) = wait.min() else {
            return Exhausted::Unauthorized;
        };
        Exhausted::RateLimited(Duration::from_secs(whole_seconds(wait)))
    }

    /// Applies a verdict's fate. Says so if the state of the whole key really changed: not for a
    /// longer cooldown of a key that cools already, nor for a cooldown of one model. An unknown key
    /// is ignored.
    pub fn apply(
        &mut self,
        now: Instant,
        key: KeyId,
        verdict: &Verdict,
        model: Option<&str>,
    ) -> Option<Transition> {
        let index = self.keys.iter().position(|known| known.id == key)?;
        let key = &mut self.keys[index];
        let from = key.state(now);
        match verdict.fate {
            _ if key.retired.is_some() => {}
            Fate::Keep => {}
            Fate::Cool(wait, reason) => {
                let wait = wait
                    .filter(|wait| !wait.is_zero())
                    .unwrap_or(self.default_cooldown);
                let until = now + wait.min(self.max_cooldown);
                let model = model.filter(|_| verdict.scope == Scope::Model);
                key.cool(now, Cooling { until, reason }, model);
            }
            Fate::Retire(reason) => key.retired = Some(reason),
        }
        let to = key.state(now);
        (from.as_str() != to.as_str()).then(|| Transition {
            index,
            hint: key.hint.clone(),
            from,
            to,
        })
    }

    /// All keys, in configured order.
    pub fn statuses(&self, now: Instant) -> Vec<KeyStatus> {
        let status = |key: &Key| KeyStatus {
            hint: key.hint.clone(),
            state: key.state(now),
        };
        self.keys.iter().map(status).collect()
    }

    /// Makes a key valid again, for every model; `None` if there is no such key.
    pub fn reset(&mut self, now: Instant, index: usize) -> Option<KeyStatus> {
        let key = self.keys.get_mut(index)?;
        key.retired = None;
        key.cooling = None;
        key.models.clear();
        Some(KeyStatus {
            hint: key.hint.clone(),
            state: key.state(now),
        })
    }
}
