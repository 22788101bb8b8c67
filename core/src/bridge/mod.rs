//! What sessions share: keys, idle connections, admission.

mod query;

use std::sync::Arc;

use crate::{
    config::Config,
    id::ConnId,
    interception,
    keypool::{KeyStatus, PoolError},
    rng::Rng,
    time::Instant,
};

pub use query::{Answer, Query, Refused};

/// A provider's keys, as an administrator sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKeys {
    /// The provider's name.
    pub name: Arc<str>,
    /// Its keys, in configured order.
    pub keys: Vec<KeyStatus>,
}

/// What sessions share. See the [module](self).
#[derive(Debug)]
pub struct Bridge {}

impl Bridge {
    /// A bridge with every key valid. `seed` decides all identifiers.
    ///
    /// # Errors
    /// A provider's keys do not make a pool; with the provider's name. A provider without keys has no pool, and that is
    /// no error.
    pub fn new(_config: Arc<Config>, _seed: u64) -> Result<Self, (Arc<str>, PoolError)> {
        todo!()
    }
    /// Answers a session's question.
    pub fn answer(&mut self, _now: Instant, _query: Query) -> Answer {
        todo!()
    }
    /// Answers an interception's question, where there is no session around it.
    pub fn answer_interception(
        &mut self,
        _now: Instant,
        _query: interception::Query,
    ) -> interception::Answer {
        todo!()
    }
    /// A generator for a new session.
    pub fn fork_rng(&mut self) -> Rng {
        todo!()
    }
    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        todo!()
    }
    /// From now on nothing new is admitted.
    pub fn drain(&mut self) {
        todo!()
    }
    /// Whether `drain` was called.
    pub fn is_draining(&self) -> bool {
        todo!()
    }
    /// A session is gone with these connections (given up by its adapter rather than by itself).
    pub fn forget(&mut self, _conns: &[ConnId]) {
        todo!()
    }
    /// All keys.
    pub fn keys(&self, _now: Instant) -> Vec<ProviderKeys> {
        todo!()
    }
    /// Makes a key valid again; `None` if there is no such key.
    pub fn reset_key(
        &mut self,
        _now: Instant,
        _provider: &str,
        _index: usize,
    ) -> Option<KeyStatus> {
        todo!()
    }
    /// Drops idle connections whose time is over.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// The next parked connection that the adapter shall take off its shelf and close.
    #[must_use]
    pub fn poll_close(&mut self) -> Option<ConnId> {
        todo!()
    }
}
