//! Another configuration in place of the one in force, without anybody noticing who is being
//! served.
//!
//! A request goes on with what it began with: its provider, its limits, its tools. So a reload
//! takes nothing away at once. What only the earlier configuration had (keys of a provider that is
//! gone, an MCP server) stays until the last request from then is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Bridge, Invalid};
use crate::{
    config::{Config, Provider},
    keypool::{Exhausted, Pool, Renewal},
    time::Instant,
};

/// A provider's keys that are not configured any more, for requests from when they were.
#[derive(Debug)]
pub(super) struct Departed {
    /// The last configuration that had them.
    epoch: u64,
    provider: Arc<Provider>,
    pool: Pool,
}

impl Bridge {
    /// Puts another configuration in force. Requests that run go on with the one they began with;
    /// keys that stay with their provider keep their state, told by their secrets. Then begin the
    /// sessions of [`keepers`](Self::keepers) that there are now.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and then nothing has changed.
    pub fn reload(&mut self, now: Instant, config: Arc<Config>) -> Result<(), Invalid> {
        let mut pools = pools(&config, |provider| self.former(provider))?;
        let registry = self.tools.renewed(&config.mcp).map_err(Invalid::Tools)?;

        let ending = self.epoch;
        self.epoch += 1;
        let before = std::mem::replace(&mut self.config, config);
        std::mem::swap(&mut self.pools, &mut pools);
        for provider in &before.providers {
            let stays = self.current(provider).is_some();
            if let Some(pool) = pools.remove(&provider.name).filter(|_| !stays) {
                self.departed.push(Departed {
                    epoch: ending,
                    provider: Arc::clone(provider),
                    pool,
                });
            }
        }
        self.tools.adopt(registry, ending);
        self.admission.adopt(&before, &self.config);
        self.forget_departed();
        self.idle.expire(now);
        Ok(())
    }

    /// The pool that a request of this provider's is given keys from.
    pub(super) fn pool_of(&self, provider: &Provider) -> Result<&Pool, Exhausted> {
        let departed = || {
            let mut departed = self.departed.iter().rev();
            let same = departed.find(|departed| departed.provider.is_same_origin(provider))?;
            Some(&same.pool)
        };
        self.current(provider)
            .or_else(departed)
            .ok_or(Exhausted::Unauthorized)
    }

    /// The configured pool, if the provider is still where it was: no other may be sent its keys.
    fn current(&self, provider: &Provider) -> Option<&Pool> {
        let mut providers = self.config.providers.iter();
        providers
            .any(|known| known.is_same_origin(provider))
            .then(|| self.pools.get(&provider.name))?
    }

    /// The pool that a provider of this name had before, and what of it still holds.
    fn former(&self, provider: &Provider) -> Option<(&Pool, Renewal)> {
        let renewal = |former: &Provider| {
            if former.is_same_origin(provider) {
                Renewal::Keep
            } else {
                Renewal::Forget
            }
        };
        if let Some(pool) = self.pools.get(&provider.name) {
            let mut known = self.config.providers.iter();
            let former = known.find(|known| known.name == provider.name)?;
            return Some((pool, renewal(former)));
        }
        let mut departed = self.departed.iter().rev();
        let former = departed.find(|departed| departed.provider.name == provider.name)?;
        Some((&former.pool, renewal(&former.provider)))
    }

    /// Drops what no running request can ask for any more.
    pub(super) fn forget_departed(&mut self) {
        let oldest = self.admission.oldest().unwrap_or(self.epoch);
        self.departed.retain(|departed| departed.epoch >= oldest);
        self.tools.forget_before(oldest);
    }

    pub(super) fn departed_pools(&mut self, provider: &str) -> impl Iterator<Item = &mut Pool> {
        let departed = self.departed.iter_mut();
        departed
            .filter(move |departed| *departed.provider.name == *provider)
            .map(|departed| &mut departed.pool)
    }
}

/// The pools of a configuration, each after the one that its provider had before.
pub(super) fn pools<'a>(
    config: &Config,
    former: impl Fn(&Provider) -> Option<(&'a Pool, Renewal)>,
) -> Result<BTreeMap<Arc<str>, Pool>, Invalid> {
    let mut names = BTreeSet::new();
    if let Some(other) = config.providers.iter().find(|p| !names.insert(&p.name)) {
        return Err(Invalid::Provider(Arc::clone(&other.name)));
    }
    let mut pools = BTreeMap::new();
    for provider in config.providers.iter().filter(|p| !p.keys.is_empty()) {
        let keys = provider.keys.clone();
        let (default, max) = (provider.default_cooldown, provider.max_cooldown);
        let pool = match former(provider) {
            Some((former, renewal)) => former.renewed(keys, default, max, renewal),
            None => Pool::new(keys, default, max),
        };
        let pool = pool.map_err(|error| Invalid::Keys(Arc::clone(&provider.name), error))?;
        pools.insert(Arc::clone(&provider.name), pool);
    }
    Ok(pools)
}
