//! Connections in, and an orderly end.

use std::{
    fmt, io,
    sync::{Arc, Once},
    time::Duration,
};

use aibridge_core::{Bridge, Instant, config::Config};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::{builder::Builder, driver::Driver, shared::Shared, stream::Stream};

/// How long accepting rests when the machine has no descriptors or memory left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
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
    phase: watch::Sender<Phase>,
    sessions: TaskTracker,
    keepers: Once,
}

impl Server {
    /// Begins to build a server with this configuration.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
            phase: watch::Sender::new(Phase::Serving),
            sessions: TaskTracker::new(),
            keepers: Once::new(),
        }
    }

    /// Accepts connections until the server is drained. Several listeners may be served at once.
    ///
    /// Cancel safe: a connection accepted is a connection served.
    pub async fn serve(&self, listener: TcpListener) {
        self.start_keepers();
        let mut phase = self.phase.subscribe();
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
                    Ok((stream, _)) => self.serve_connection(stream),
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
        self.start_keepers();
        // Fails where the peer has gone already, which the session finds out.
        let _ = stream.set_nodelay(true);
        let driver = Driver::new(Arc::clone(&self.shared), Stream::Plain(stream));
        self.sessions.spawn(driver.run(self.phase.subscribe()));
    }

    /// Begins the sessions that have no client, once.
    fn start_keepers(&self) {
        self.keepers.call_once(|| {
            let now = self.now();
            for session in self.shared.with_bridge(|bridge| bridge.keepers(now)) {
                let driver = Driver::without_client(Arc::clone(&self.shared), session);
                self.sessions.spawn(driver.run(self.phase.subscribe()));
            }
        });
    }

    /// Stops in order: nothing new is accepted, what runs may finish for so long, and what runs then still is given up and recorded as
    /// such. Returns when no session is left.
    pub async fn drain(&self, limit: Duration) {
        self.shared.with_bridge(Bridge::drain);
        self.phase.send_replace(Phase::Draining);
        self.sessions.close();
        if time::timeout(limit, self.sessions.wait()).await.is_err() {
            self.phase.send_replace(Phase::Stopping);
            self.sessions.wait().await;
        }
    }

    /// Asks the bridge: for keys' states, or to reset one. The sessions wait meanwhile, so make it short.
    pub fn with_bridge<T>(&self, ask: impl FnOnce(&mut Bridge) -> T) -> T {
        self.shared.with_bridge(ask)
    }

    /// The time as the bridge counts it.
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// How many sessions run: the clients', and one for each MCP server.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("phase", &*self.phase.borrow())
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
