//! What the sessions of a server share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use aibridge_core::{Bridge, ConnId, Instant, Target, record::Record, trace::Tracer};

use crate::{clock::Clock, connect::Connector, runtime::Runtime, stream::Stream};

/// Where records go.
///
/// Called by a session's task between two system calls: it must not block.
pub trait Sink: Send + Sync {
    /// Takes a record.
    fn keep(&self, record: Record);

    /// A place after all that was kept, for [`poll_commit`](Self::poll_commit).
    fn mark(&self) -> u64 {
        0
    }

    /// Ready once everything kept before this place is safe; until then the task is to be woken.
    ///
    /// After an interception's last record, nothing is sent on its session's connections before: so
    /// nobody has a whole reply that is not on record. Other sessions go on meanwhile.
    fn poll_commit(&self, _: &mut Context<'_>, _mark: u64) -> Poll<()> {
        Poll::Ready(())
    }
}

/// What the sessions of a server share.
pub(crate) struct Shared<R: Runtime> {
    pub(crate) runtime: Arc<R>,
    pub(crate) clock: Clock,
    pub(crate) connector: Arc<Connector<R>>,
    pub(crate) sink: Arc<dyn Sink>,
    /// Who records clients' sessions, if anybody does.
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
    registry: Mutex<Registry<R>>,
    panics: AtomicU64,
}

/// The bridge, and the sockets it lends. One lock for both, so that a connection the bridge lends
/// is always there.
struct Registry<R: Runtime> {
    bridge: Bridge,
    shelf: HashMap<ConnId, Stream<R>>,
}

impl<R: Runtime> Shared<R> {
    pub(crate) fn new(
        runtime: Arc<R>,
        bridge: Bridge,
        connector: Connector<R>,
        sink: Arc<dyn Sink>,
        tracer: Option<Arc<dyn Tracer>>,
    ) -> Self {
        Self {
            runtime,
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
    pub(crate) fn park(&self, now: Instant, conn: ConnId, target: Target, stream: Stream<R>) {
        let mut registry = self.registry();
        registry.shelf.insert(conn, stream);
        registry.bridge.park(now, conn, target);
        let closed = registry.take_closed();
        drop(registry);
        drop(closed);
    }

    /// Takes a lent connection off the shelf.
    pub(crate) fn unpark(&self, conn: ConnId) -> Option<Stream<R>> {
        self.registry().shelf.remove(&conn)
    }

    pub(crate) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    fn registry(&self) -> MutexGuard<'_, Registry<R>> {
        // The core does not panic; if it did, it was before it changed anything that others look
        // at.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Runtime> Registry<R> {
    fn take_closed(&mut self) -> Vec<Stream<R>> {
        let mut closed = Vec::new();
        while let Some(conn) = self.bridge.poll_close() {
            closed.extend(self.shelf.remove(&conn));
        }
        closed
    }
}
