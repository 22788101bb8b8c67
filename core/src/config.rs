//! What a bridge is told at start, as values: resolved, validated, immutable, shared.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::{
    api::Vendor,
    http1,
    keypool::{Failover, Policy},
    mcp,
    secret::{Digest, Secret},
    target::Target,
    time::Duration,
};

/// What a client shows where its SDK insists on a key: it counts as none.
pub const PLACEHOLDER: &str = "aibridge";

/// The whole configuration. By default without providers, and with the limits and timeouts of the
/// shipped server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Providers, names unique.
    pub providers: Vec<Arc<Provider>>,
    /// Who may use the bridge; nobody named: everybody may.
    pub clients: Vec<Client>,
    /// MCP servers whose tools are offered to the models; names unique.
    pub mcp: Vec<Arc<mcp::Server>>,
    /// How far the loop of turns and tools goes.
    pub tools: ToolLimits,
    /// How much a client or an upstream may send.
    pub limits: http1::Limits,
    /// How much there may be of everything together.
    pub capacity: Capacity,
    /// How long things may take.
    pub timeouts: Timeouts,
}

/// One who may use the bridge.
#[derive(Clone, Debug)]
pub struct Client {
    /// The actor in the records.
    pub name: Arc<str>,
    /// The digest of what the client shows.
    pub token: Digest,
    /// How many of its requests may run at a time.
    pub max_in_flight: Option<u32>,
    /// How many requests it may begin at once, and then in every minute, evenly spread.
    pub requests_per_minute: Option<u32>,
    /// What providers with [`send_actor`](Provider::send_actor) are told of it besides its name, as
    /// whole header fields.
    pub metadata: Metadata,
}

/// Header fields `X-AI-Bridge-Actor-Metadata-<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Arc<[(HeaderName, HeaderValue)]>);

impl Metadata {
    /// What stands before each name, in lower case.
    pub const PREFIX: &str = "x-ai-bridge-actor-metadata-";

    /// Metadata of these names and values. `None` if one makes no header field of printable ASCII
    /// characters, or a name comes twice, in whatever case.
    ///
    /// ```
    /// use aibridge_core::config::Metadata;
    ///
    /// let metadata = Metadata::new([("Team", "search"), ("unit", "42")]).unwrap();
    /// let fields: Vec<_> = metadata.fields().iter().map(|(name, _)| name.as_str()).collect();
    /// assert_eq!(fields, ["x-ai-bridge-actor-metadata-team", "x-ai-bridge-actor-metadata-unit"]);
    /// assert_eq!(Metadata::new([("a b", "c")]), None);
    /// assert_eq!(Metadata::new([("a", "é")]), None);
    /// assert_eq!(Metadata::new([("a", "c"), ("A", "d")]), None);
    /// ```
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(format!("{}{name}", Self::PREFIX)).ok()?;
            let is_empty = name.as_str().len() == Self::PREFIX.len();
            let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            if is_empty || !is_printable || fields.iter().any(|it| it.0 == name) {
                return None;
            }
            fields.push((name, HeaderValue::from_str(value).ok()?));
        }
        Some(Self(fields.into()))
    }

    /// As header fields, in the order given.
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0
    }
}

impl Client {
    /// A client without limits.
    pub fn new(name: &str, token: Digest) -> Self {
        Self {
            name: name.into(),
            token,
            max_in_flight: None,
            requests_per_minute: None,
            metadata: Metadata::default(),
        }
    }

    /// Whether the bridge counts its requests.
    pub const fn is_limited(&self) -> bool {
        self.max_in_flight.is_some() || self.requests_per_minute.is_some()
    }
}

/// How much there may be of everything together. What is beyond is turned away with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Clients' connections.
    pub connections: usize,
    /// Bytes of requests that are kept in memory: those that are being read, and those that might
    /// have to be sent again. What tools add to a request that runs counts too, and is not refused.
    pub buffered: u64,
}

impl Default for Capacity {
    /// 10,000 connections, 1 GiB.
    fn default() -> Self {
        Self {
            connections: 10_000,
            buffered: 1 << 30,
        }
    }
}

/// When a provider that fails is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Replies in a row of status 503, 504 or 529 that open the circuit.
    pub failures: u32,
    /// How long it stays open: nothing is sent.
    pub open: Duration,
    /// How many requests may then try, and must succeed in a row, before it closes.
    pub half_open: u32,
}

impl Default for Breaker {
    /// Five in a row, 30 s, three.
    fn default() -> Self {
        Self {
            failures: 5,
            open: Duration::from_secs(30),
            half_open: 3,
        }
    }
}

/// One provider.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Route prefix: lower-case letters, digits and hyphens.
    pub name: Arc<str>,
    /// Which API it speaks.
    pub vendor: Vendor,
    /// Where it is.
    pub target: Target,
    /// What comes before the rest of a request's path: empty, or `/v1`; never ends in a slash.
    pub base_path: Arc<str>,
    /// The organisation's keys, in order; may be empty where clients bring their own.
    pub keys: Vec<Secret>,
    /// May clients bring their own key?
    pub byok: bool,
    /// Whether upstream is told the actor, in `X-AI-Bridge-Actor-ID`.
    pub send_actor: bool,
    /// What outcomes mean.
    pub policy: Arc<dyn Policy>,
    /// The cooldown where none is named.
    pub default_cooldown: Duration,
    /// The longest cooldown.
    pub max_cooldown: Duration,
    /// Whether it is left alone for a while when it fails; by default not.
    pub breaker: Option<Breaker>,
}

impl Provider {
    /// A provider with the default policy, no keys, and BYOK allowed.
    pub fn new(name: &str, vendor: Vendor, target: Target, base_path: &str) -> Self {
        let failover = Failover::default();
        Self {
            name: name.into(),
            vendor,
            target,
            base_path: base_path.trim_end_matches('/').into(),
            keys: Vec::new(),
            byok: true,
            send_actor: false,
            policy: Arc::new(failover),
            default_cooldown: failover.default_cooldown,
            max_cooldown: failover.max_cooldown,
            breaker: None,
        }
    }

    /// Whether it is the same API at the same place: what holds a key's state, and may be sent the
    /// key.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        let origin = |p: &Self| (p.vendor, p.target.clone(), Arc::clone(&p.base_path));
        self.name == other.name && origin(self) == origin(other)
    }

    /// The same with the shipped policy, so configured, and its cooldowns.
    #[must_use]
    pub fn with_failover(mut self, failover: Failover) -> Self {
        self.default_cooldown = failover.default_cooldown;
        self.max_cooldown = failover.max_cooldown;
        self.policy = Arc::new(failover);
        self
    }

    /// The same with these keys.
    #[must_use]
    pub fn with_keys<S: AsRef<str>>(mut self, keys: impl IntoIterator<Item = S>) -> Self {
        self.keys = keys
            .into_iter()
            .map(|key| Secret::new(key.as_ref()))
            .collect();
        self
    }
}

/// How far the loop of turns and tools goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolLimits {
    /// How often the model is called for one request, the first call included.
    pub turns: u32,
    /// How long one call of a tool may take. Unlike other limits of time, zero is no time at all.
    pub call: Duration,
    /// The whole loop, from the first call of a tool: a reply that calls none is no loop. Zero
    /// means no limit.
    pub whole: Duration,
    /// What of a tool's result the model is given, in bytes.
    pub result: usize,
}

impl Default for ToolLimits {
    fn default() -> Self {
        Self {
            turns: 16,
            call: Duration::from_secs(60),
            whole: Duration::from_secs(600),
            result: 1 << 20,
        }
    }
}

/// How long things may take. Zero means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection to upstream, TLS included.
    pub connect: Duration,
    /// Upstream's reply head after the request was sent.
    pub header: Duration,
    /// The same for requests that do not stream, whose replies take as long as the model does.
    pub header_blocking: Duration,
    /// Silence between upstream's bytes.
    pub idle: Duration,
    /// Silence between events of a stream after which the client is sent a keep-alive.
    pub ping: Duration,
    /// A client's request head, from its first byte to its last.
    pub client_header: Duration,
    /// How long a client may take over each 16 KiB of a request's body, and may leave a reply
    /// unread.
    pub client_body: Duration,
    /// How long a client may hold an idle connection.
    pub client_idle: Duration,
    /// How long an idle upstream connection is kept.
    pub upstream_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            header: Duration::from_secs(60),
            header_blocking: Duration::from_secs(600),
            idle: Duration::from_secs(300),
            ping: Duration::from_secs(15),
            client_header: Duration::from_secs(30),
            client_body: Duration::from_secs(60),
            client_idle: Duration::from_secs(120),
            upstream_idle: Duration::from_secs(55),
        }
    }
}
