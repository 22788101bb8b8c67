//! The bridge, running: the one place that knows the adapter.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use aibridge_core::{
    Duration, Instant,
    bridge::{Invalid, ProviderKeys, ServerTools},
    config::Config,
    keypool::KeyStatus,
    proxy::Proxies,
    record::Record,
};
pub(crate) use aibridge_tokio::{Identity, InvalidIdentity};
use aibridge_tokio::{Roots, Server, Sink};
use tokio::net::TcpListener;

use crate::{
    Failure, admin, config::Authority, metrics::Snapshot, records::Recorder, trace::Traces,
};

impl Sink for Recorder {
    fn keep(&self, record: Record) {
        Self::keep(self, record);
    }

    fn mark(&self) -> u64 {
        Self::mark(self)
    }

    fn poll_commit(&self, context: &mut Context<'_>, mark: u64) -> Poll<()> {
        Self::poll_commit(self, context, mark)
    }
}

/// How clients reach us and we reach upstreams: what stays while the bridge runs.
#[derive(Default)]
pub(crate) struct Links<'a> {
    pub(crate) authority: Option<&'a Authority>,
    pub(crate) identity: Option<Identity>,
    pub(crate) proxies: Proxies,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// A server and its one listener.
pub(crate) struct Running {
    server: Arc<Server>,
    traces: Option<Arc<Traces>>,
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
        links: Links<'_>,
    ) -> Result<Self, Failure> {
        let mut roots = Roots::default();
        if let Some(Authority { path, pem }) = links.authority {
            roots = roots
                .with_pem(pem)
                .map_err(|error| Failure::Runtime(format!("{}: {error}", path.display())))?;
        }
        let mut builder = Server::builder(config)
            .sink(sink)
            .roots(roots)
            .proxies(links.proxies);
        if let Some(traces) = &links.traces {
            builder = builder.tracer(Arc::clone(traces) as _);
        }
        let server = builder
            .build()
            .map_err(|error| Failure::Runtime(error.to_string()))?;
        let server = Arc::new(server);
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            match links.identity {
                Some(identity) => serving.serve_tls(listener, &identity).await,
                None => serving.serve(listener).await,
            }
        });
        Ok(Self {
            server,
            traces: links.traces,
        })
    }

    /// Puts another configuration in force. What runs goes on with what it began with.
    ///
    /// # Errors
    /// It makes no bridge, and the one in force stays.
    pub(crate) fn reload(&self, config: Config) -> Result<(), Invalid> {
        self.server.reload(config)
    }

    /// Turns new requests away, to come back after this long; `None` ends that.
    pub(crate) fn pause(&self, retry_after: Option<Duration>) {
        self.server.with_bridge(|bridge| bridge.pause(retry_after));
    }

    /// Stops accepting, and lets what runs finish within the time configured.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.server.drain(limit).await;
    }
}

impl admin::Keys for Running {
    fn now(&self) -> Instant {
        self.server.now()
    }

    fn keys(&self, now: Instant) -> Vec<ProviderKeys> {
        self.server.with_bridge(|bridge| bridge.keys(now))
    }

    fn snapshot(&self) -> Snapshot {
        let (now, panics) = (self.server.now(), self.server.panics());
        self.server.with_bridge(|bridge| Snapshot {
            circuits: bridge.circuits(now),
            refusals: bridge.refusals().clone(),
            connections: bridge.connections(),
            load: bridge.load(),
            tool_servers: bridge.tool_servers(),
            panics,
            lost_traces: self.traces.as_ref().map_or(0, |traces| traces.lost()),
        })
    }

    fn tool_servers(&self) -> Vec<ServerTools> {
        self.server.with_bridge(|bridge| bridge.tool_servers())
    }

    fn reset(&self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus> {
        self.server
            .with_bridge(|bridge| bridge.reset_key(now, provider, index))
    }
}
