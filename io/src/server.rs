//! Connections in, and an orderly end.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Poll,
    time::{self, Duration},
};

use aibridge_core::{Bridge, ConnId, Instant, bridge::Invalid, config::Config};
use tracing::warn;

use crate::{
    builder::Builder,
    connection::Connection,
    driver::Driver,
    identity::Identity,
    runtime::Runtime,
    sessions::{Phase, Sessions},
    shared::Shared,
    stream::Stream,
};

/// How long accepting rests when the machine has no descriptors or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long MCP servers have at least to be told that the bridge leaves.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often idle connections are looked through for those whose time is over.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// A bridge that serves clients.
///
/// Every connection is a task of its runtime's. Dropping the server leaves the connections that are
/// open to themselves: call [`drain`](Self::drain).
pub struct Server<R: Runtime> {
    shared: Arc<Shared<R>>,
    clients: Arc<Sessions>,
    /// They outlast the clients, whose calls of tools run in what they keep.
    keepers: Arc<Sessions>,
    /// Whether what runs beside the clients does.
    background: Mutex<bool>,
}

impl<R: Runtime> Server<R> {
    /// Begins to build a server with this configuration.
    pub fn builder(config: Config) -> Builder<R>
    where
        R: Default,
    {
        Builder::new(R::default(), config)
    }

    pub(crate) fn new(shared: Shared<R>) -> Self {
        Self {
            shared: Arc::new(shared),
            clients: Arc::default(),
            keepers: Arc::default(),
            background: Mutex::default(),
        }
    }

    /// Accepts connections until the server is drained. Several listeners may be served at once.
    ///
    /// What runs in the background, for all clients, runs in the runtime in which the server is
    /// used first, by this or by [`serve_connection`](Self::serve_connection).
    ///
    /// Cancel safe: a connection accepted is a connection served.
    pub async fn serve(&self, listener: R::Listener) {
        self.accept(listener, |stream| self.serve_connection(stream))
            .await;
    }

    /// The same, for clients that come with TLS.
    pub async fn serve_tls(&self, listener: R::Listener, identity: &Identity) {
        self.accept(listener, |stream| {
            self.serve_tls_connection(stream, identity);
        })
        .await;
    }

    async fn accept(&self, listener: R::Listener, begin: impl Fn(R::Stream)) {
        self.start_background();
        let runtime = &*self.shared.runtime;
        let mut watcher = self.clients.watch();
        loop {
            let next = poll_fn(|context| {
                if watcher.poll_phase(context, Phase::Serving).is_ready() {
                    return Poll::Ready(None);
                }
                runtime.poll_accept(&listener, context).map(Some)
            });
            match next.await {
                None => return,
                Some(Ok(stream)) => begin(stream),
                Some(Err(error)) if concerns_one_connection(&error) => {}
                Some(Err(error)) => {
                    warn!(%error, "cannot accept");
                    let mut rest = runtime.sleep_until(time::Instant::now() + ACCEPT_BACKOFF);
                    poll_fn(|context| R::poll_sleep(&mut rest, context)).await;
                }
            }
        }
    }

    /// Serves a connection that was accepted elsewhere, in a task of its own.
    ///
    /// What runs in the background does so where the server is used first; see
    /// [`serve`](Self::serve).
    pub fn serve_connection(&self, stream: R::Stream) {
        // Fails where the peer has gone already, which the session finds out.
        let _ = R::set_nodelay(&stream);
        self.run(Connection::open(ConnId::CLIENT, Stream::Plain(stream)));
    }

    /// The same, for a client that comes with TLS.
    pub fn serve_tls_connection(&self, stream: R::Stream, identity: &Identity) {
        let _ = R::set_nodelay(&stream);
        let accepting = identity.accepting(&*self.shared.runtime, stream);
        self.run(Connection::connecting(ConnId::CLIENT, accepting));
    }

    fn run(&self, client: Connection<R>) {
        self.start_background();
        let driver = Driver::new(Arc::clone(&self.shared), self.clients.begin(), client);
        self.shared.runtime.spawn(driver.run());
    }

    /// Begins what runs beside the clients, once.
    ///
    /// Outside of a runtime, some panic when they are to spawn. That is so before anything else is
    /// done, and the next call tries again.
    fn start_background(&self) {
        let mut background = self.background();
        if *background {
            return;
        }
        let runtime = Arc::clone(&self.shared.runtime);
        let housekeeping = keep_house(runtime, Arc::downgrade(&self.shared));
        self.shared.runtime.spawn(housekeeping);
        self.run_keepers();
        *background = true;
    }

    fn background(&self) -> MutexGuard<'_, bool> {
        self.background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn run_keepers(&self) {
        let now = self.now();
        for session in self.shared.with_bridge(|bridge| bridge.keepers(now)) {
            let shared = Arc::clone(&self.shared);
            let driver = Driver::without_client(shared, self.keepers.begin(), session);
            self.shared.runtime.spawn(driver.run());
        }
    }

    /// Puts another configuration in force; see [`Bridge::reload`]. No connection notices.
    ///
    /// # Errors
    /// It makes no bridge, and the one in force stays.
    pub fn reload(&self, config: Config) -> Result<(), Invalid> {
        let now = self.now();
        self.shared
            .with_bridge(|bridge| bridge.reload(now, Arc::new(config)))?;
        if *self.background() && self.clients.phase() == Phase::Serving {
            self.run_keepers();
        }
        Ok(())
    }

    /// Stops in order: nothing new is accepted, what runs may finish for so long, and what runs
    /// then still is given up and recorded as such. Then MCP servers are told, in what is left of
    /// the time and at least a second. Returns when no session is left.
    pub async fn drain(&self, limit: Duration) {
        let began = time::Instant::now();
        self.shared.with_bridge(Bridge::drain);
        let runtime = &*self.shared.runtime;
        self.clients.finish(runtime, limit).await;
        let left = limit.saturating_sub(began.elapsed());
        self.keepers.finish(runtime, left.max(FAREWELL)).await;
    }

    /// Asks the bridge: for keys' states, or to reset one. The sessions wait meanwhile, so make it
    /// short.
    pub fn with_bridge<T>(&self, ask: impl FnOnce(&mut Bridge) -> T) -> T {
        self.shared.with_bridge(ask)
    }

    /// The time as the bridge counts it.
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// How many sessions have panicked. Each took its own connection with it and nothing else.
    pub fn panics(&self) -> u64 {
        self.shared.panics()
    }

    /// How many sessions run: the clients', and one for each MCP server.
    pub fn connections(&self) -> usize {
        self.clients.running() + self.keepers.running()
    }
}

impl<R: Runtime> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("phase", &self.clients.phase())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

/// Lets go of idle connections whose time is over, as long as there is a server.
async fn keep_house<R: Runtime>(runtime: Arc<R>, shared: Weak<Shared<R>>) {
    loop {
        let mut rest = runtime.sleep_until(time::Instant::now() + HOUSEKEEPING);
        poll_fn(|context| R::poll_sleep(&mut rest, context)).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = shared.clock.now();
        shared.with_bridge(|bridge| bridge.handle_timeout(now));
    }
}

/// The peer was gone before it was accepted; the next one may be fine.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
