//! What the user configures: a TOML file or, without one, a handful of environment variables.
//!
//! Three steps, one file each: [`raw`] is what is written, [`resolve`] checks it and follows
//! references to secrets, and [`Settings`] is the result, from which the core's own configuration
//! is made. Complaints are collected, so that one run names all that is wrong.

mod address;
mod authority;
mod entries;
mod environment;
mod error;
mod identity;
mod limits;
mod proxy;
mod raw;
mod read;
mod records;
mod resolve;
mod secret;
mod show;
#[cfg(test)]
mod tests;
mod tools;
mod units;
mod whole;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use aibridge_core::{
    Duration, Target,
    api::Vendor,
    config::{
        Breaker, Capacity, Client as CoreClient, Config, Metadata, Provider as CoreProvider,
        Timeouts, ToolLimits,
    },
    http1::Limits,
    keypool::Failover,
    proxy::Proxies,
};
use http::HeaderName;
use zeroize::Zeroizing;

pub(crate) use address::socket_addr;
pub(crate) use authority::Authority;
pub(crate) use error::Error;
pub(crate) use identity::Tls;
pub(crate) use records::{OnFull, Place, Records};
pub(crate) use secret::{Credential, Sources, Token};
pub(crate) use tools::Matching;

/// How long running interceptions have at a shutdown where nothing else is said.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// A checked configuration: every key is here, every value is in range, every name is unique. Of
/// tokens it has what it takes to know them again.
#[derive(Debug)]
pub(crate) struct Settings {
    /// What it was read from: the file as the user named it, or `environment`.
    pub(crate) origin: String,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) admin_token: Option<Token>,
    /// Of the clients' listener.
    pub(crate) tls: Option<Tls>,
    /// Of the admin listener.
    pub(crate) admin_tls: Option<Tls>,
    /// Names by which the admin listener is reached, in lower case.
    pub(crate) admin_hosts: Vec<String>,
    /// Bytes of a client's request body.
    pub(crate) max_body: u64,
    pub(crate) capacity: Capacity,
    /// As configured: blocking replies are given more time by [`core`](Self::core).
    pub(crate) timeouts: Timeouts,
    /// How long running interceptions have at a shutdown.
    pub(crate) drain_timeout: Duration,
    pub(crate) upstream_ca: Option<Authority>,
    pub(crate) clients: Vec<Client>,
    pub(crate) providers: Vec<Provider>,
    pub(crate) tool_servers: Vec<ToolServer>,
    pub(crate) tools: ToolLimits,
    pub(crate) records: Records,
    /// Where traces of clients' sessions are written, if they are.
    pub(crate) trace: Option<PathBuf>,
    /// How upstreams are reached.
    pub(crate) proxies: Proxies,
    /// What is allowed but probably not meant.
    pub(crate) warnings: Vec<String>,
}

/// One who may use the bridge.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) token: Token,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) requests_per_minute: Option<u32>,
    /// Names and values for providers that are told who asks.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) vendor: Vendor,
    pub(crate) target: Target,
    /// Empty, or begins with a slash; never ends in one.
    pub(crate) base_path: String,
    pub(crate) keys: Vec<Credential>,
    pub(crate) byok: bool,
    pub(crate) send_actor: bool,
    pub(crate) failover: Failover,
    /// `None`: it is called however it answers.
    pub(crate) breaker: Option<Breaker>,
}

/// An MCP server.
#[derive(Debug)]
pub(crate) struct ToolServer {
    pub(crate) name: Arc<str>,
    pub(crate) target: Target,
    /// Begins with a slash.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, Credential)>,
    /// Which of its tools are offered, by their own names.
    pub(crate) allow: Option<Matching>,
    pub(crate) deny: Option<Matching>,
}

/// What the command line says in place of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
}

impl Settings {
    /// Reads this file, or the environment where there is none.
    ///
    /// # Errors
    /// Whatever keeps the bridge from running on it.
    pub(crate) fn load(path: Option<&Path>, overrides: Overrides) -> Result<Self, Error> {
        let Some(path) = path else {
            return Self::from_environment(&Sources::of_process(PathBuf::new()), overrides);
        };
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).map(Zeroizing::new);
        let text = text.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Error::new(&shown, "is not UTF-8 text; save it as that"),
            io::ErrorKind::IsADirectory => Error::new(&shown, "is a folder; name a file in it"),
            _ => {
                let fix = "check the path given with --config";
                Error::new(&shown, format_args!("cannot be read ({error}); {fix}"))
            }
        })?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Self::from_toml(&shown, &text, &Sources::of_process(folder), overrides)
    }

    /// Reads this text, as the file `origin`.
    pub(crate) fn from_toml(
        origin: &str,
        text: &str,
        sources: &Sources,
        overrides: Overrides,
    ) -> Result<Self, Error> {
        let mut problems = error::Problems::new(origin, text);
        let settings = read::file(text, &mut problems)
            .map(|file| resolve::file(origin, file, sources, overrides, &mut problems));
        problems.into_result()?;
        let settings = settings.ok_or_else(|| Error::new(origin, "is not a configuration"))?;
        settings.with_proxies(sources)
    }

    /// Reads the environment variables of the provider SDKs.
    pub(crate) fn from_environment(sources: &Sources, overrides: Overrides) -> Result<Self, Error> {
        environment::read(sources, overrides)?.with_proxies(sources)
    }

    /// Proxies are in the environment also where there is a file.
    fn with_proxies(mut self, sources: &Sources) -> Result<Self, Error> {
        self.proxies = proxy::read(sources)?;
        Ok(self)
    }

    /// The first key that differs of those that a running bridge cannot change, if one does.
    pub(crate) fn fixed_against(&self, new: &Self) -> Option<&'static str> {
        let roots = |it: &Self| it.upstream_ca.as_ref().map(|ca| ca.pem.clone());
        let checks = [
            ("server: listen", self.listen == new.listen),
            ("server: admin", self.admin == new.admin),
            ("server: tls", self.tls.is_some() == new.tls.is_some()),
            (
                "server: admin_tls",
                self.admin_tls.is_some() == new.admin_tls.is_some(),
            ),
            ("server: upstream_ca", roots(self) == roots(new)),
            ("records", self.records == new.records),
            ("trace: dir", self.trace == new.trace),
            ("the proxy of the environment", self.proxies == new.proxies),
        ];
        checks
            .into_iter()
            .find_map(|(key, same)| (!same).then_some(key))
    }

    /// Takes over what another was read as. Our listeners keep the identities that they know, which
    /// were renewed.
    pub(crate) fn replace(&mut self, new: Self) {
        let (tls, admin_tls) = (self.tls.take(), self.admin_tls.take());
        *self = Self {
            tls,
            admin_tls,
            ..new
        };
    }

    /// What the core is told.
    pub(crate) fn core(&self) -> Config {
        Config {
            providers: self
                .providers
                .iter()
                .map(|provider| Arc::new(provider.core()))
                .collect(),
            clients: self.clients.iter().map(Client::core).collect(),
            mcp: self
                .tool_servers
                .iter()
                .map(|server| Arc::new(server.core()))
                .collect(),
            tools: self.tools,
            limits: Limits {
                body: self.max_body,
                ..Limits::default()
            },
            capacity: self.capacity,
            timeouts: Timeouts {
                header_blocking: blocking(self.timeouts.header),
                ..self.timeouts
            },
        }
    }
}

impl Client {
    fn core(&self) -> CoreClient {
        let metadata = self.metadata.iter();
        let metadata = Metadata::new(metadata.map(|(name, value)| (&**name, &**value)));
        CoreClient {
            max_in_flight: self.max_in_flight,
            requests_per_minute: self.requests_per_minute,
            // It was checked that they make header fields.
            metadata: metadata.unwrap_or_default(),
            ..CoreClient::new(&self.name, self.token.digest)
        }
    }
}

impl Provider {
    fn core(&self) -> CoreProvider {
        let provider = CoreProvider::new(
            &self.name,
            self.vendor,
            self.target.clone(),
            &self.base_path,
        );
        CoreProvider {
            keys: self.keys.iter().map(|key| key.secret.clone()).collect(),
            byok: self.byok,
            send_actor: self.send_actor,
            breaker: self.breaker,
            ..provider.with_failover(self.failover)
        }
    }
}

/// A blocking reply's head comes when the model has finished, so it has ten minutes at least; no
/// limit stays none.
fn blocking(header_timeout: Duration) -> Duration {
    if header_timeout.is_zero() {
        header_timeout
    } else {
        header_timeout.max(Duration::from_secs(600))
    }
}
