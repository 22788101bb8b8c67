//! What sessions share: keys, idle connections, admission.
//!
//! A [`Bridge`] is a registry: a pure function of its questions, that never waits and never queues
//! a waiter. An adapter keeps it behind a lock and holds that for one [`answer`](Bridge::answer) at
//! a time, a few times per request.

mod admission;
mod circuit;
mod idle;
mod query;
mod reload;
#[cfg(test)]
mod tests;
mod tools;

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    config::{Config, Provider},
    id::ConnId,
    interception,
    keypool::{KeyStatus, Pool, PoolError},
    mcp::NameError,
    rng::Rng,
    session::Session,
    target::Target,
    time::{Duration, Instant},
};

use admission::Admission;
use idle::Idle;
use reload::Departed;
use tools::Tools;

pub use admission::Ticket;
pub use circuit::{CircuitStatus, Endpoint};
pub use query::{Answer, Query, Refused};
pub use tools::ServerTools;

/// A provider's keys, as an administrator sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderKeys {
    /// The provider's name.
    pub name: Arc<str>,
    /// Its keys, in configured order.
    pub keys: Vec<KeyStatus>,
}

/// What sessions share. See the [module](self).
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{Bridge, Instant, Target, api::Vendor, config::{Config, Provider}, keypool::KeyState};
///
/// let target = Target { host: "api.example".into(), port: 443, tls: true };
/// let provider = Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(["key-one", "key-two"]);
/// let config = Config { providers: vec![Arc::new(provider)], ..Config::default() };
/// let bridge = Bridge::new(Arc::new(config), 42).unwrap();
///
/// let keys = &bridge.keys(Instant::from_secs(1))[0].keys;
/// assert_eq!((keys.len(), keys[0].state), (2, KeyState::Valid));
/// ```
#[derive(Debug)]
pub struct Bridge {
    config: Arc<Config>,
    /// Which configuration is in force: the first, the second, …
    epoch: u64,
    pools: BTreeMap<Arc<str>, Pool>,
    departed: Vec<Departed>,
    /// How many requests were turned away, by reason.
    refusals: BTreeMap<&'static str, u64>,
    admission: Admission,
    idle: Idle,
    tools: Tools,
    rng: Rng,
    last_conn: u64,
    /// Connections lent from the shelf so far.
    reused: u64,
    draining: bool,
    /// Set while no record can be kept: when to come back.
    paused: Option<Duration>,
}

/// Connections to upstreams, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Idle on the shelf now.
    pub idle: usize,
    /// Opened so far, or tried to be.
    pub opened: u64,
    /// Taken from the shelf so far.
    pub reused: u64,
}

/// How much there is of what has a limit in [`Capacity`](crate::config::Capacity).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Clients' connections.
    pub connections: usize,
    /// Requests admitted and not yet over.
    pub requests: usize,
    /// Bytes that they hold.
    pub buffered: u64,
}

/// Why a configuration makes no bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// Several providers have this name. Requests would be given one's keys and sent to the other.
    Provider(Arc<str>),
    /// The keys of this provider do not make a pool.
    Keys(Arc<str>, PoolError),
    /// The tools of MCP servers could not be told apart.
    Tools(NameError),
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(name) => write!(f, "several providers are named {name}"),
            Self::Keys(provider, error) => write!(f, "provider {provider}: {error}"),
            Self::Tools(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}

/// How long a client that was refused for a shutdown is asked to wait: about what a restart takes.
const RETRY_AFTER_DRAIN: Duration = Duration::from_secs(5);

impl Bridge {
    /// A bridge with every key valid. `seed` decides all identifiers.
    ///
    /// # Errors
    /// Two providers have one name, a provider's keys do not make a pool, or MCP servers' names do
    /// not go together. A provider without keys has no pool, and that is no error.
    pub fn new(config: Arc<Config>, seed: u64) -> Result<Self, Invalid> {
        let pools = reload::pools(&config, |_| None)?;
        let rng = Rng::new(seed);
        Ok(Self {
            tools: Tools::new(&config.mcp).map_err(Invalid::Tools)?,
            config,
            epoch: 0,
            pools,
            departed: Vec::new(),
            refusals: Refused::REASONS.map(|reason| (reason, 0)).into(),
            admission: Admission::default(),
            idle: Idle::default(),
            rng,
            last_conn: 0,
            reused: 0,
            draining: false,
            paused: None,
        })
    }

    /// Answers a session's question.
    pub fn answer(&mut self, now: Instant, query: Query) -> Answer {
        let answer = self.consider(now, query);
        if let Answer::Admit(Err(refused)) | Answer::Granted(Err(refused)) = &answer {
            self.count_refusal(refused.as_str());
        }
        answer
    }

    fn consider(&mut self, now: Instant, query: Query) -> Answer {
        match query {
            Query::Admit { .. } if self.draining => {
                Answer::Admit(Err(Refused::Draining(RETRY_AFTER_DRAIN)))
            }
            Query::Admit { bytes } => {
                let unrecorded = self.paused.map(Refused::Unrecorded);
                let admitted = unrecorded.map_or_else(
                    || self.admission.admit(self.epoch, bytes, &self.config),
                    Err,
                );
                Answer::Admit(admitted.map(|ticket| (Arc::clone(&self.config), ticket)))
            }
            Query::Connect { target, fresh } => {
                let parked = if fresh {
                    None
                } else {
                    self.idle.take(now, &target)
                };
                match parked {
                    Some(conn) => {
                        self.reused += 1;
                        Answer::Connect { conn, parked: true }
                    }
                    None => Answer::Connect {
                        conn: self.dial(),
                        parked: false,
                    },
                }
            }
            Query::Enter {
                ticket,
                client,
                circuit,
            } => {
                let mut clients = self.config.clients.iter();
                let client = client.and_then(|name| clients.find(|known| known.name == name));
                let circuit = circuit
                    .as_ref()
                    .map(|(provider, endpoint)| (&**provider, *endpoint));
                Answer::Granted(self.admission.enter(now, ticket, client, circuit))
            }
            Query::Hold { ticket, bytes } => {
                Answer::Granted(self.admission.hold(ticket, bytes, &self.config))
            }
            Query::Held { ticket, bytes } => {
                self.admission.held(ticket, bytes);
                Answer::Told(None)
            }
            Query::Interception(query) => {
                Answer::Interception(self.answer_interception(now, query))
            }
            Query::Judged { ticket, status } => {
                self.admission.judge(now, ticket, status);
                Answer::Told(None)
            }
            Query::Release(ticket) => {
                self.release(ticket);
                Answer::Told(None)
            }
            Query::Keep(server) => Answer::Keep(self.tools.words(&server)),
            Query::News(server, news) => Answer::Told(self.tools.news(now, &server, news)),
            Query::Tell(server, word) => {
                self.tools.tell(&server, word);
                Answer::Told(None)
            }
            Query::Terms(server) => Answer::Terms(self.tools.terms(&server)),
        }
    }

    /// Answers an interception's question, where there is no session around it.
    pub fn answer_interception(
        &mut self,
        now: Instant,
        query: interception::Query,
    ) -> interception::Answer {
        match query {
            interception::Query::Lease {
                provider,
                mut walker,
                model,
                session,
            } => {
                let lease = self.pool_of(&provider).and_then(|pool| {
                    let (model, session) = (model.as_deref(), session.as_deref());
                    pool.lease(now, &mut walker, &*provider.policy, model, session)
                });
                interception::Answer::Lease(lease, walker)
            }
            interception::Query::Report {
                provider,
                key,
                verdict,
                model,
            } => {
                let model = model.as_deref();
                for pool in self.departed_pools(&provider) {
                    pool.apply(now, key, &verdict, model);
                }
                let pool = self.pools.get_mut(&provider);
                let transition = pool.and_then(|pool| pool.apply(now, key, &verdict, model));
                interception::Answer::Reported(transition)
            }
            interception::Query::Tools => {
                interception::Answer::Tools(Arc::clone(self.tools.toolbox()))
            }
        }
    }

    /// This connection is idle, and on the adapter's shelf: it may be lent to the next session that
    /// asks. What is not kept, for a bound or a shutdown, comes out of
    /// [`poll_close`](Self::poll_close), maybe this one itself.
    pub fn park(&mut self, now: Instant, conn: ConnId, target: Target) {
        if self.draining {
            return self.idle.close.push_back(conn);
        }
        let expires = now + self.config.timeouts.upstream_idle;
        self.idle.park(conn, target, expires);
    }

    /// A session for a client that has just connected. Tell [`disconnected`](Self::disconnected)
    /// when it is over.
    pub fn connected(&mut self, now: Instant) -> Session {
        let config = Arc::clone(&self.config);
        let is_one_too_many = self.admission.connect(&config);
        let session = Session::new(now, config, self.rng.fork()).counted();
        if is_one_too_many {
            self.count_refusal(Refused::Busy(Duration::ZERO).as_str());
            return session.crowded(now);
        }
        session
    }

    /// A session is over, or is about to be dropped as it is: whatever it held is free.
    pub fn disconnected(&mut self, session: &Session) {
        if session.is_counted() {
            self.admission.connections = self.admission.connections.saturating_sub(1);
        }
        if let Some(ticket) = session.ticket() {
            self.release(ticket);
        }
    }

    /// How many requests were turned away so far, by reason. A connection too many counts as one.
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// The circuits of providers with a breaker that have had requests.
    pub fn circuits(&self, now: Instant) -> Vec<CircuitStatus> {
        self.admission.circuits(now)
    }

    /// What is in at the moment.
    pub fn load(&self) -> Load {
        let (requests, buffered) = self.admission.load();
        Load {
            connections: self.admission.connections,
            requests,
            buffered,
        }
    }

    /// Sessions without a client, which an adapter runs beside those of its clients: one for each
    /// MCP server that is not kept yet. They end by themselves when their server is not configured
    /// any more.
    pub fn keepers(&mut self, now: Instant) -> Vec<Session> {
        let servers = self.tools.take_unkept();
        let keeper = |server| {
            let config = Arc::clone(&self.config);
            Session::keeper(now, config, server, self.rng.fork())
        };
        servers.into_iter().map(keeper).collect()
    }

    /// A generator for an embedder of interceptions, to draw their ids from.
    pub fn fork_rng(&mut self) -> Rng {
        self.rng.fork()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// From now on nothing new is admitted, and no connection is kept.
    pub fn drain(&mut self) {
        self.draining = true;
        self.idle.clear();
    }

    /// Whether `drain` was called.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// All keys, by provider in configured order.
    pub fn keys(&self, now: Instant) -> Vec<ProviderKeys> {
        let keys = |provider: &Arc<Provider>| ProviderKeys {
            name: Arc::clone(&provider.name),
            keys: self
                .pools
                .get(&provider.name)
                .map_or_else(Vec::new, |pool| pool.statuses(now)),
        };
        self.config.providers.iter().map(keys).collect()
    }

    /// All MCP servers in configured order, and their tools.
    pub fn tool_servers(&self) -> Vec<ServerTools> {
        self.tools.statuses()
    }

    /// Makes a key valid again; `None` if there is no such key.
    pub fn reset_key(&mut self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus> {
        self.pools.get_mut(provider)?.reset(now, index)
    }

    /// Takes idle connections off whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.idle.expire(now);
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.idle.deadline()
    }

    /// The next parked connection that the adapter shall take off its shelf and close.
    #[must_use]
    pub fn poll_close(&mut self) -> Option<ConnId> {
        self.idle.close.pop_front()
    }

    fn release(&mut self, ticket: Ticket) {
        if self.admission.release(ticket) {
            self.forget_departed();
        }
    }

    /// Turns new requests away with 503 and this `Retry-After`, because what they do could not be
    /// recorded; `None` ends that. What runs goes on.
    pub fn pause(&mut self, retry_after: Option<Duration>) {
        self.paused = retry_after;
    }

    /// The connections to upstreams, counted.
    pub fn connections(&self) -> Connections {
        Connections {
            idle: self.idle.len(),
            opened: self.last_conn,
            reused: self.reused,
        }
    }

    fn count_refusal(&mut self, reason: &'static str) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// The number of a new connection.
    fn dial(&mut self) -> ConnId {
        self.last_conn += 1;
        ConnId::new(self.last_conn)
    }
}
