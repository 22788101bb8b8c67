//! The bridge, running: the one place that knows the adapter.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use aibridge_core::{
    Duration, Instant,
    bridge::{Connections, ProviderKeys, ServerTools},
    config::Config,
    keypool::KeyStatus,
    proxy::Proxies,
    record::Record,
};
use aibridge_tokio::{Roots, Server, Sink};
use tokio::net::TcpListener;

use crate::{Failure, admin, config::Authority, records::Recorder};

impl Sink for Recorder {
    fn keep(&self, record: Record) {
        Self::keep(self, record);
    }
}

/// A server and its one listener.
pub(crate) struct Running {
    server: Arc<Server>,
    drain_timeout: Duration,
}

impl Running {
    /// Begins to serve.
    ///
    /// # Errors
    /// The configuration makes no bridge.
    pub(crate) fn start(
        config: Config,
        listener: TcpListener,
        sink: Arc<dyn Sink>,
        authority: Option<&Authority>,
        proxies: Proxies,
    ) -> Result<Self, Failure> {
        let drain_timeout = config.timeouts.drain;
        let mut roots = Roots::default();
        if let Some(Authority { path, pem }) = authority {
            roots = roots
                .with_pem(pem)
                .map_err(|error| Failure::Runtime(format!("{}: {error}", path.display())))?;
        }
        let server = Server::builder(config)
            .seed(RandomState::new().hash_one("aibridge"))
            .sink(sink)
            .roots(roots)
            .proxies(proxies)
            .build()
            .map_err(|error| Failure::Runtime(error.to_string()))?;
        let server = Arc::new(server);
        let serving = Arc::clone(&server);
        tokio::spawn(async move { serving.serve(listener).await });
        Ok(Self {
            server,
            drain_timeout,
        })
    }

    /// Turns new requests away, to come back after this long; `None` ends that.
    pub(crate) fn pause(&self, retry_after: Option<Duration>) {
        self.server.with_bridge(|bridge| bridge.pause(retry_after));
    }

    /// Stops accepting, and lets what runs finish within the time configured.
    pub(crate) async fn drain(&self) {
        self.server.drain(self.drain_timeout).await;
    }
}

impl admin::Keys for Running {
    fn now(&self) -> Instant {
        self.server.now()
    }

    fn keys(&self, now: Instant) -> Vec<ProviderKeys> {
        self.server.with_bridge(|bridge| bridge.keys(now))
    }

    fn connections(&self) -> Connections {
        self.server.with_bridge(|bridge| bridge.connections())
    }

    fn tool_servers(&self) -> Vec<ServerTools> {
        self.server.with_bridge(|bridge| bridge.tool_servers())
    }

    fn reset(&self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus> {
        self.server
            .with_bridge(|bridge| bridge.reset_key(now, provider, index))
    }
}
