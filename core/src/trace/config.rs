//! What a session knows of the configuration, as a trace has it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{heads, secrets::Secrets};
use crate::{
    api::Vendor,
    config::{self, Breaker, Metadata, Timeouts, ToolLimits},
    http1::Limits,
    keypool::{Failover, Rejected},
    mcp,
    secret::{Digest, Secret},
    target::Target,
    time::Duration,
};

/// The configuration, without what only the bridge looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    providers: Vec<Provider>,
    clients: Vec<Client>,
    mcp: Vec<Server>,
    #[serde(with = "ToolLimitsForm")]
    tools: ToolLimits,
    #[serde(with = "LimitsForm")]
    limits: Limits,
    #[serde(with = "TimeoutsForm")]
    timeouts: Timeouts,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    name: String,
    #[serde(with = "VendorForm")]
    vendor: Vendor,
    target: Place,
    base_path: String,
    /// How many there are.
    keys: usize,
    byok: bool,
    send_actor: bool,
    /// `None` if it is not the shipped one.
    policy: Option<Policy>,
    default_cooldown: Duration,
    max_cooldown: Duration,
    breaker: Option<Circuit>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy(#[serde(with = "FailoverForm")] Failover);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Circuit(#[serde(with = "BreakerForm")] Breaker);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    name: String,
    /// The placeholder of its token, once it has shown it.
    token: Option<String>,
    max_in_flight: Option<u32>,
    requests_per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metadata: Vec<(String, String)>,
}

/// An MCP server. What it offers is decided before a session sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    name: String,
    target: Place,
    path: String,
    /// Names and values with placeholders in them.
    headers: Vec<(String, String)>,
}

impl Config {
    /// All secrets in it become known.
    pub(super) fn of(config: &config::Config, secrets: &mut Secrets) -> Self {
        for provider in &config.providers {
            for key in &provider.keys {
                secrets.placeholder(key.expose().as_bytes());
            }
        }
        Self {
            providers: config.providers.iter().map(|it| Provider::of(it)).collect(),
            mcp: config
                .mcp
                .iter()
                .map(|it| Server::of(it, secrets))
                .collect(),
            clients: config
                .clients
                .iter()
                .map(|client| Client {
                    name: client.name.to_string(),
                    token: secrets.of_digest(client.token),
                    max_in_flight: client.max_in_flight,
                    requests_per_minute: client.requests_per_minute,
                    metadata: client.metadata.fields().iter().map(pair).collect(),
                })
                .collect(),
            tools: config.tools,
            limits: config.limits.clone(),
            timeouts: config.timeouts,
        }
    }

    /// As a session takes it.
    pub(super) fn read(self) -> Result<config::Config, String> {
        let providers = self.providers.into_iter().map(Provider::read);
        let servers = self.mcp.into_iter().map(Server::read);
        Ok(config::Config {
            providers: providers.collect::<Result<_, _>>()?,
            clients: self.clients.into_iter().map(Client::read).collect(),
            mcp: servers.collect::<Result<_, _>>()?,
            tools: self.tools,
            limits: self.limits,
            timeouts: self.timeouts,
            ..config::Config::default()
        })
    }
}

impl Provider {
    fn of(provider: &config::Provider) -> Self {
        Self {
            name: provider.name.to_string(),
            vendor: provider.vendor,
            target: Place::of(&provider.target),
            base_path: provider.base_path.to_string(),
            keys: provider.keys.len(),
            byok: provider.byok,
            send_actor: provider.send_actor,
            policy: provider.policy.as_failover().copied().map(Policy),
            default_cooldown: provider.default_cooldown,
            max_cooldown: provider.max_cooldown,
            breaker: provider.breaker.map(Circuit),
        }
    }

    fn read(self) -> Result<Arc<config::Provider>, String> {
        let Some(Policy(policy)) = self.policy else {
            let name = self.name;
            return Err(format!(
                "provider {name:?} had a policy of somebody's own, which a trace cannot have"
            ));
        };
        let made =
            config::Provider::new(&self.name, self.vendor, self.target.read(), &self.base_path);
        Ok(Arc::new(config::Provider {
            // Which they are does not matter: the bridge hands them out.
            keys: vec![Secret::new("key"); self.keys.min(1)],
            byok: self.byok,
            send_actor: self.send_actor,
            policy: Arc::new(policy),
            default_cooldown: self.default_cooldown,
            max_cooldown: self.max_cooldown,
            breaker: self.breaker.map(|Circuit(breaker)| breaker),
            ..made
        }))
    }
}

/// A name and a value, as they were configured.
fn pair((field, value): &(HeaderName, HeaderValue)) -> (String, String) {
    let name = field.as_str().strip_prefix(Metadata::PREFIX);
    let value = String::from_utf8_lossy(value.as_bytes());
    (name.unwrap_or_default().to_owned(), value.into_owned())
}

impl Client {
    fn read(self) -> config::Client {
        // A token that was not shown is equal to none that was.
        let token = self.token.as_deref().unwrap_or("\0");
        let pairs = self
            .metadata
            .iter()
            .map(|(name, value)| (&**name, &**value));
        config::Client {
            max_in_flight: self.max_in_flight,
            requests_per_minute: self.requests_per_minute,
            metadata: Metadata::new(pairs).unwrap_or_default(),
            ..config::Client::new(&self.name, Digest::of(token.as_bytes()))
        }
    }
}

impl Server {
    pub(super) fn of(server: &mcp::Server, secrets: &mut Secrets) -> Self {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            secrets.add_name(name.as_str());
            let mut value = value.as_bytes().to_vec();
            for place in heads::secrets_in(name.as_str().as_bytes(), &value) {
                secrets.replace(&mut value[place]);
            }
            let value = String::from_utf8_lossy(&value).into_owned();
            (name.to_string(), value)
        };
        Self {
            headers: server.headers.iter().map(header).collect(),
            name: server.name.to_string(),
            target: Place::of(&server.target),
            path: server.path.to_string(),
        }
    }

    pub(super) fn read(self) -> Result<Arc<mcp::Server>, String> {
        let mut server = mcp::Server::new(&self.name, self.target.read(), &self.path);
        for (name, value) in self.headers {
            let field = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(&value);
            let (Ok(field), Ok(mut value)) = (field, value) else {
                return Err(format!("{name:?} is no header field"));
            };
            value.set_sensitive(true);
            server.headers.append(field, value);
        }
        Ok(Arc::new(server))
    }
}

/// A target.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    host: String,
    port: u16,
    tls: bool,
}

impl Place {
    fn of(target: &Target) -> Self {
        Self {
            host: target.host.to_string(),
            port: target.port,
            tls: target.tls,
        }
    }

    fn read(self) -> Target {
        Target {
            host: self.host.into(),
            port: self.port,
            tls: self.tls,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Vendor", rename_all = "lowercase")]
enum VendorForm {
    Anthropic,
    OpenAi,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Failover", deny_unknown_fields)]
struct FailoverForm {
    #[serde(with = "RejectedForm")]
    unauthorized: Rejected,
    #[serde(with = "RejectedForm")]
    forbidden: Rejected,
    default_cooldown: Duration,
    max_cooldown: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rejected", rename_all = "snake_case")]
enum RejectedForm {
    Cool(Duration),
    Relay,
    Retire,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Breaker", deny_unknown_fields)]
struct BreakerForm {
    failures: u32,
    open: Duration,
    half_open: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "ToolLimits", deny_unknown_fields)]
struct ToolLimitsForm {
    turns: u32,
    call: Duration,
    whole: Duration,
    result: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Limits", deny_unknown_fields)]
struct LimitsForm {
    start_line: usize,
    head: usize,
    headers: usize,
    body: u64,
    chunk_line: usize,
    trailers: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Timeouts", deny_unknown_fields)]
struct TimeoutsForm {
    connect: Duration,
    header: Duration,
    header_blocking: Duration,
    idle: Duration,
    ping: Duration,
    client_header: Duration,
    client_body: Duration,
    client_idle: Duration,
    upstream_idle: Duration,
}
