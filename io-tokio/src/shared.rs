//! What the sessions of a server share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aibridge_core::{Bridge, ConnId, Instant, Target, record::Record, trace::Tracer};

use crate::{clock::Clock, connect::Connector, stream::Stream};

/// Where records go.
///
/// Called by a session's task between two system calls: it must not block.
pub trait Sink: Send + Sync {
    /// Takes a record.
    fn keep(&self, record: Record);
}

/// What the sessions of a server share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) connector: Arc<Connector>,
    pub(crate) sink: Arc<dyn Sink>,
    /// Who records clients' sessions, if anybody does.
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
    registry: Mutex<Registry>,
    panics: AtomicU64,
}

/// The bridge, and the sockets it lends. One lock for both, so that a connection the bridge lends is always there.
struct Registry {
    bridge: Bridge,
    shelf: HashMap<ConnId, Stream>,
}

impl Shared {
    pub(crate) fn new(
        bridge: Bridge,
        connector: Connector,
        sink: Arc<dyn Sink>,
        tracer: Option<Arc<dyn Tracer>>,
    ) -> Self {
        Self {
            clock: Clock::new(),
            connector: Arc::new(connector),
            sink,
            tracer,
            registry: Mutex::new(Registry {
                bridge,
                shelf: HashMap::new(),
            }),
            panics: AtomicU64::new(0),
        }
    }

    /// Asks the bridge, or tells it. Sockets that it lets go by that are closed.
    pub(crate) fn with_bridge<T>(&self, ask: impl FnOnce(&mut Bridge) -> T) -> T {
        let mut registry = self.registry();
        let answer = ask(&mut registry.bridge);
        let closed = registry.take_closed();
        drop(registry); // before the sockets are closed
        drop(closed);
        answer
    }

    /// Puts an idle connection on the shelf, to be lent to the next who asks.
    pub(crate) fn park(&self, now: Instant, conn: ConnId, target: Target, stream: Stream) {
        let mut registry = self.registry();
        registry.shelf.insert(conn, stream);
        registry.bridge.park(now, conn, target);
        let closed = registry.take_closed();
        drop(registry);
        drop(closed);
    }

    /// Takes a lent connection off the shelf.
    pub(crate) fn unpark(&self, conn: ConnId) -> Option<Stream> {
        self.registry().shelf.remove(&conn)
    }

    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // The core does not panic; if it did, it was before it changed anything that others look at.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn take_closed(&mut self) -> Vec<Stream> {
        let mut closed = Vec::new();
        while let Some(conn) = self.bridge.poll_close() {
            closed.extend(self.shelf.remove(&conn));
        }
        closed
    }
}
