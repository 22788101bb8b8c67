//! Connections in, and an orderly end.

use std::{
    fmt, io,
    sync::{Arc, Once},
    time::Duration,
};

use aibridge_core::{Bridge, ConnId, Instant, bridge::Invalid, config::Config};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{
    builder::Builder, driver::Driver, identity::Identity, shared::Shared, socket::Socket,
    stream::Stream,
};

/// How long accepting rests when the machine has no descriptors or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// How long MCP servers have at least to be told that the bridge leaves.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often idle connections are looked through for those whose time is over.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// What runs may finish.
    Draining,
    /// What runs is given up.
    Stopping,
}

/// A bridge that serves clients.
///
/// It runs in the tokio runtime it is used in, on any number of threads. Dropping it leaves the connections that are open to themselves:
/// call [`drain`](Self::drain).
pub struct Server {
    shared: Arc<Shared>,
    clients: Sessions,
    /// They outlast the clients, whose calls of tools run in what they keep.
    keepers: Sessions,
    keepers_begun: Once,
}

/// Sessions that begin and end together.
struct Sessions {
    phase: watch::Sender<Phase>,
    tasks: TaskTracker,
}

impl Sessions {
    fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            tasks: TaskTracker::new(),
        }
    }

    fn run(&self, driver: Driver) {
        self.tasks.spawn(driver.run(self.phase.subscribe()));
    }

    /// Lets them finish for so long, and gives up those that have not.
    async fn finish(&self, limit: Duration) {
        self.phase.send_replace(Phase::Draining);
        self.tasks.close();
        if time::timeout(limit, self.tasks.wait()).await.is_err() {
            self.phase.send_replace(Phase::Stopping);
            self.tasks.wait().await;
        }
    }
}

impl Server {
    /// Begins to build a server with this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            clients: Sessions::new(),
            keepers: Sessions::new(),
            keepers_begun: Once::new(),
        }
    }

    /// Accepts connections until the server is drained. Several listeners may be served at once.
    ///
    /// Cancel safe: a connection accepted is a connection served.
    pub async fn serve(&self, listener: TcpListener) {
        self.accept(listener, |stream| self.serve_connection(stream))
            .await;
    }

    /// The same, for clients that come with TLS.
    pub async fn serve_tls(&self, listener: TcpListener, identity: &Identity) {
        self.accept(listener, |stream| {
            self.serve_tls_connection(stream, identity);
        })
        .await;
    }

    async fn accept(&self, listener: TcpListener, begin: impl Fn(TcpStream)) {
        self.start_keepers();
        let mut phase = self.clients.phase.subscribe();
        let mut housekeeping = time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *phase.borrow_and_update() == Phase::Serving {
            tokio::select! {
                _ = phase.changed() => {}
                _ = housekeeping.tick() => {
                    let now = self.now();
                    self.shared.with_bridge(|bridge| bridge.handle_timeout(now));
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => begin(stream),
                    Err(error) if concerns_one_connection(&error) => {}
                    Err(error) => {
                        warn!(%error, "cannot accept");
                        time::sleep(ACCEPT_BACKOFF).await;
                    }
                },
            }
        }
    }

    /// Serves a connection that was accepted elsewhere, in a task of its own.
    pub fn serve_connection(&self, stream: TcpStream) {
        // Fails where the peer has gone already, which the session finds out.
        let _ = stream.set_nodelay(true);
        self.run(Socket::open(ConnId::CLIENT, Stream::Plain(stream)));
    }

    /// The same, for a client that comes with TLS.
    pub fn serve_tls_connection(&self, stream: TcpStream, identity: &Identity) {
        let _ = stream.set_nodelay(true);
        let accepting = identity.accepting(stream);
        self.run(Socket::connecting(ConnId::CLIENT, accepting));
    }

    fn run(&self, client: Socket) {
        self.start_keepers();
        let driver = Driver::new(Arc::clone(&self.shared), client);
        self.clients.run(driver);
    }

    /// Begins the sessions that have no client, once.
    fn start_keepers(&self) {
        self.keepers_begun.call_once(|| self.run_keepers());
    }

    fn run_keepers(&self) {
        let now = self.now();
        for session in self.shared.with_bridge(|bridge| bridge.keepers(now)) {
            let driver = Driver::without_client(Arc::clone(&self.shared), session);
            self.keepers.run(driver);
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
        if self.keepers_begun.is_completed() && *self.clients.phase.borrow() == Phase::Serving {
            self.run_keepers();
        }
        Ok(())
    }

    /// Stops in order: nothing new is accepted, what runs may finish for so long, and what runs then still is given up and recorded as
    /// such. Then MCP servers are told, in what is left of the time and at least a second. Returns when no session is left.
    pub async fn drain(&self, limit: Duration) {
        let began = time::Instant::now();
        self.shared.with_bridge(Bridge::drain);
        self.clients.finish(limit).await;
        let left = limit.saturating_sub(began.elapsed());
        self.keepers.finish(left.max(FAREWELL)).await;
    }

    /// Asks the bridge: for keys' states, or to reset one. The sessions wait meanwhile, so make it short.
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
        self.clients.tasks.len() + self.keepers.tasks.len()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("phase", &*self.clients.phase.borrow())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
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
