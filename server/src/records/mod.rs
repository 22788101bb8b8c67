//! What becomes of the core's records: the latest are in memory for the admin endpoint, all are
//! counted and logged, and, where that is configured, kept in a [store](Store).
//!
//! Only a store has prompts, thoughts and tool arguments: nothing else here shows them.

mod journal;
mod jsonl;
mod line;
mod log;
mod ring;
mod scalar;
mod spool;
mod sqlite;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::{
    cmp::Reverse,
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use aibridge_core::{InterceptionId, record::Record};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    config::{Place, Records},
    metrics::Metrics,
};
use journal::Journal;
use line::Texts;
use ring::Ring;
#[cfg(test)]
pub(crate) use view::{Attempt, Tool, Usage};
pub(crate) use view::{Cursor, Interception, Search};

/// How many ended interceptions are kept in memory. Few enough to stay in the processor's cache,
/// where every request writes to them.
const LATEST: usize = 2_000;

/// Where records are kept for good.
trait Store: fmt::Debug + Send + Sync {
    /// Where records go first.
    fn journal(&self) -> &Arc<Journal>;
    /// The newest that are asked for; those of the last moment may be missing. May take a while.
    ///
    /// # Errors
    /// Why they cannot be found.
    fn find(&self, search: &Search) -> Result<Vec<Interception>, NotFound>;
    /// A remark for those who are shown interceptions of this store.
    fn note(&self) -> Option<&'static str> {
        None
    }
    /// How much is on its way, and how much was lost.
    fn counts(&self) -> Counts;
    /// Puts what is on its way where it belongs. May take a while; nothing is taken from then on.
    fn close(&self);
}

/// Records on their way, and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) lost: u64,
}

/// Why interceptions are not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// There is no interception of the id to go on after.
    NoSuchPlace,
    /// The store cannot be read.
    Unreadable(String),
}

/// Takes all records.
#[derive(Debug)]
pub(crate) struct Recorder {
    ring: Mutex<Ring>,
    metrics: Metrics,
    store: Option<Box<dyn Store>>,
    texts: Texts,
    retention: Option<Duration>,
}

impl Recorder {
    /// As configured.
    ///
    /// # Errors
    /// The store cannot be used: why, for people.
    pub(crate) fn open(records: &Records) -> Result<Self, String> {
        let texts = if records.prompts {
            Texts::Kept
        } else {
            Texts::Dropped
        };
        let store: Option<Box<dyn Store>> = match &records.place {
            Place::Memory => None,
            Place::Jsonl(file) => Some(Box::new(jsonl::JsonLines::open(file, texts)?)),
            Place::Sqlite(file) => {
                let terms = sqlite::Terms {
                    texts,
                    retention: records.retention,
                    sweep: sqlite::SWEEP,
                    backlog: records.backlog,
                };
                Some(Box::new(sqlite::Sqlite::open(file, terms)?))
            }
        };
        Ok(Self {
            store,
            texts,
            retention: records.retention,
            ..Self::in_memory(LATEST)
        })
    }

    /// With room for this many ended interceptions, and without a store.
    pub(crate) fn in_memory(capacity: usize) -> Self {
        Self {
            ring: Mutex::new(Ring::new(capacity)),
            metrics: Metrics::new(),
            store: None,
            texts: Texts::Kept,
            retention: None,
        }
    }

    /// Takes a record.
    pub(crate) fn keep(&self, mut record: Record) {
        if self.texts == Texts::Dropped {
            line::drop_words(&mut record);
        }
        if let Some(store) = &self.store {
            store.journal().keep(&record);
        }
        match record {
            Record::Exhausted {
                provider,
                exhausted,
                ..
            } => self.metrics.exhausted(&provider, exhausted),
            Record::KeyChanged {
                provider,
                transition,
                ..
            } => {
                self.metrics.key_changed(&provider, &transition);
                log::transition(&provider, &transition);
            }
            Record::Passthrough(passthrough) => {
                self.metrics.passthrough(&passthrough);
                log::passthrough(&passthrough);
            }
            Record::ToolServer(server) => log::tool_server(&server),
            Record::TurnedAway(id, turned_away) => {
                self.metrics.turned_away(turned_away.reason);
                log::turned_away(id, &turned_away);
            }
            Record::Warning(id, what) => warn!(id = %id, "{what}"),
            record => {
                let logged = tracing::enabled!(tracing::Level::INFO);
                // The lock is not held while the log is written: that may take its time.
                let ended = self
                    .ring()
                    .keep(record, &self.metrics)
                    .filter(|_| logged)
                    .map(Interception::new);
                if let Some(ended) = ended {
                    log::ended(&ended);
                }
            }
        }
    }

    /// The place after what was kept so far.
    pub(crate) fn mark(&self) -> u64 {
        self.journal().map_or(0, |journal| journal.mark())
    }

    /// Ready once what was kept before this place is written, so that it survives the process, or
    /// once it is known that it cannot be written.
    pub(crate) fn poll_commit(&self, context: &mut Context<'_>, mark: u64) -> Poll<()> {
        let journal = self.journal();
        journal.map_or(Poll::Ready(()), |journal| {
            journal.poll_commit(context, mark)
        })
    }

    /// Runs for ever: has the journal write as soon as a session waits for it, and releases
    /// sessions whose write has failed or hangs.
    pub(crate) fn usher(&self) -> impl Future<Output = ()> + use<> {
        let journal = self.journal().map(Arc::clone);
        async move {
            if let Some(journal) = journal {
                journal.usher().await;
            }
        }
    }

    /// The newest interceptions that are asked for, running ones included. May take a while.
    ///
    /// # Errors
    /// Why they cannot be found.
    pub(crate) fn find(&self, search: &Search) -> Result<Vec<Interception>, NotFound> {
        let mut search = search.clone();
        // What is in memory is known better there than in the store.
        let (mut found, known) = {
            let ring = self.ring();
            let mut in_memory = true;
            if let Some(before) = &mut search.before
                && before.started_at.is_none()
            {
                let id = before.id.parse::<InterceptionId>().ok();
                let place = ring.newest().find(|it| Some(it.id) == id);
                before.started_at = place.map(|it| view::rfc3339(it.started.at));
                in_memory = place.is_some();
            }
            let mut entries: Vec<_> = ring.newest().filter(|_| in_memory).collect();
            entries.sort_unstable_by_key(|it| Reverse((it.started.at.as_millis(), it.id)));
            let known: HashSet<_> = entries.iter().map(|it| it.id).collect();
            let found = entries.into_iter().filter(|it| search.wants(it));
            // Memory may have forgotten the one to go on after; then also all that come after it.
            if !in_memory && self.store.is_none() && !ring.has_forgotten() {
                return Err(NotFound::NoSuchPlace);
            }
            let found = found.take(search.limit).map(Interception::new);
            (found.collect::<Vec<_>>(), known)
        };
        if let Some(store) = &self.store {
            let stored = match store.find(&search) {
                // The one to go on after may have been deleted as too old; then so were all others.
                Err(NotFound::NoSuchPlace) if self.retention.is_some() => Vec::new(),
                stored => stored?,
            };
            let is_known = |it: &Interception| {
                let id = it.id.parse::<InterceptionId>();
                id.is_ok_and(|id| known.contains(&id))
            };
            found.extend(stored.into_iter().filter(|it| !is_known(it)));
        }
        // What is too old may not be deleted from the store yet, or still be in memory.
        if let Some(oldest) = self.retention.and_then(view::oldest_of) {
            found.retain(|it| it.ended_at.is_none() || it.started_at >= oldest);
        }
        found.sort_by(|a, b| b.place().cmp(&a.place()));
        found.truncate(search.limit);
        Ok(found)
    }

    /// A remark for those who are shown what was found.
    pub(crate) fn note(&self) -> Option<&'static str> {
        self.store.as_ref().and_then(|store| store.note())
    }

    /// The newest interceptions in memory, running ones included.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Interception> {
        let ring = self.ring();
        ring.newest().take(limit).map(Interception::new).collect()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Records on their way to the store, and lost.
    pub(crate) fn counts(&self) -> Counts {
        self.store
            .as_ref()
            .map_or_else(Counts::default, |store| store.counts())
    }

    /// Tells whether records are about to be lost; `None` where there is no store.
    pub(crate) fn full(&self) -> Option<watch::Receiver<bool>> {
        self.journal().map(|journal| journal.full())
    }

    /// Puts what is on its way where it belongs. May take a while.
    pub(crate) fn close(&self) {
        if let Some(store) = &self.store {
            store.close();
        }
    }

    fn journal(&self) -> Option<&Arc<Journal>> {
        self.store.as_ref().map(|store| store.journal())
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A panic while it was held leaves at worst one interception incomplete.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
