//! How a server is put together.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use aibridge_core::{
    Bridge, bridge::Invalid, config::Config, proxy::Proxies, record::Record, trace::Tracer,
};

use crate::{
    connect::Connector,
    roots::Roots,
    runtime::Runtime,
    server::Server,
    shared::{Shared, Sink},
};

/// Puts a [`Server`] together. Begins with [`Server::builder`].
#[must_use]
pub struct Builder<R> {
    runtime: R,
    config: Config,
    seed: u64,
    sink: Arc<dyn Sink>,
    tracer: Option<Arc<dyn Tracer>>,
    roots: Roots,
    proxies: Proxies,
}

/// Keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn keep(&self, _: Record) {}
}

impl<R: Runtime> Builder<R> {
    pub(crate) fn new(runtime: R, config: Config) -> Self {
        Self {
            runtime,
            config,
            seed: RandomState::new().hash_one("aibridge"),
            sink: Arc::new(Nowhere),
            tracer: None,
            roots: Roots::default(),
            proxies: Proxies::default(),
        }
    }

    /// What all identifiers derive from, for tests: two servers with one seed give the same ids.
    /// By default it is drawn at random.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Where records go. By default nowhere.
    pub fn sink(mut self, sink: Arc<dyn Sink>) -> Self {
        self.sink = sink;
        self
    }

    /// Who [records](aibridge_core::trace) clients' sessions. By default nobody.
    pub fn tracer(mut self, tracer: Arc<dyn Tracer>) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// Whom to trust in place of the platform's authorities.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Through which proxy upstreams are reached. By default through none, whatever the environment
    /// says.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// What runs it, where the runtime has more than one way.
    pub fn runtime(mut self, runtime: R) -> Self {
        self.runtime = runtime;
        self
    }

    /// The server, ready to serve.
    ///
    /// # Errors
    /// The configuration makes no [`Bridge`], or TLS cannot be set up.
    pub fn build(self) -> Result<Server<R>, BuildError> {
        let bridge = Bridge::new(Arc::new(self.config), self.seed).map_err(BuildError::Config)?;
        let tls = self.roots.client_config().map_err(BuildError::Tls)?;
        let runtime = Arc::new(self.runtime);
        let connector = Connector::new(Arc::clone(&runtime), Arc::new(tls), self.proxies);
        let shared = Shared::new(runtime, bridge, connector, self.sink, self.tracer);
        Ok(Server::new(shared))
    }
}

impl<R> fmt::Debug for Builder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("roots", &self.roots)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

/// Why a server cannot be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration makes no bridge.
    Config(Invalid),
    /// TLS cannot be set up.
    Tls(rustls::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}
