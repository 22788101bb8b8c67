//! Who is in: requests and connections, counted against the limits of all and of each client.
//!
//! A request that is admitted has a [`Ticket`] until it is released. By the ticket the bridge knows
//! what the request holds, whose it is, and which configuration it began with, so that what only
//! earlier configurations had can go when the last request from then is over.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Endpoint, Refused,
    circuit::{Circuit, CircuitStatus, Health, Pass},
};
use crate::{
    config::{Breaker, Client, Config, Provider},
    time::{Duration, Instant},
};

/// When a client that met a limit of the whole bridge is to come back: requests end all the time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// An admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// What is in.
#[derive(Debug, Default)]
pub(super) struct Admission {
    last: u64,
    running: BTreeMap<Ticket, Running>,
    /// How many of them began with which configuration.
    epochs: BTreeMap<u64, usize>,
    /// Bytes that they hold together.
    held: u64,
    /// Connections of clients.
    pub(super) connections: usize,
    /// Only those of limited clients, and of configured ones: nothing here grows with what clients
    /// send.
    clients: BTreeMap<Arc<str>, Usage>,
    circuits: BTreeMap<(Arc<str>, Endpoint), Circuit>,
}

/// A request that is in.
#[derive(Debug)]
struct Running {
    epoch: u64,
    bytes: u64,
    client: Option<Arc<str>>,
    passing: Option<Passing>,
}

/// Through which circuit a request has passed, and has not been judged yet.
#[derive(Debug)]
struct Passing {
    circuit: (Arc<str>, Endpoint),
    breaker: Breaker,
    pass: Pass,
}

/// What a client uses.
#[derive(Debug, Default)]
struct Usage {
    running: u32,
    /// When it will have paid for all it has begun: each request costs a part of a minute, and it
    /// may owe a whole one. (The generic cell rate algorithm.)
    paid_at: Option<Instant>,
}

impl Admission {
    pub(super) fn admit(
        &mut self,
        epoch: u64,
        bytes: u64,
        config: &Config,
    ) -> Result<Ticket, Refused> {
        // What tools add to running requests may have gone beyond the limit. A request that holds
        // nothing does no harm.
        if bytes > 0 && self.held.saturating_add(bytes) > config.capacity.buffered {
            return Err(Refused::Busy(RETRY_AFTER));
        }
        self.held += bytes;
        self.last += 1;
        let ticket = Ticket(self.last);
        *self.epochs.entry(epoch).or_default() += 1;
        let running = Running {
            epoch,
            bytes,
            client: None,
            passing: None,
        };
        self.running.insert(ticket, running);
        Ok(ticket)
    }

    /// The request holds so many bytes now, or may not.
    pub(super) fn hold(
        &mut self,
        ticket: Ticket,
        bytes: u64,
        config: &Config,
    ) -> Result<(), Refused> {
        let before = self.running.get(&ticket).map_or(0, |running| running.bytes);
        let held = (self.held - before).saturating_add(bytes);
        if held > config.capacity.buffered {
            return Err(Refused::Busy(RETRY_AFTER));
        }
        self.held(ticket, bytes);
        Ok(())
    }

    /// The request holds so many bytes now.
    pub(super) fn held(&mut self, ticket: Ticket, bytes: u64) {
        if let Some(running) = self.running.get_mut(&ticket) {
            self.held = (self.held - running.bytes).saturating_add(bytes);
            running.bytes = bytes;
        }
    }

    /// The request is this client's, and goes through this circuit.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        ticket: Ticket,
        client: Option<&Client>,
        circuit: Option<(&Provider, Endpoint)>,
    ) -> Result<(), Refused> {
        let Some(running) = self.running.get_mut(&ticket) else {
            return Ok(());
        };
        if let Some(client) = client {
            let usage = self.clients.entry(Arc::clone(&client.name)).or_default();
            usage.begin(now, client)?;
            running.client = Some(Arc::clone(&client.name));
        }
        if let Some((provider, endpoint)) = circuit
            && let Some(breaker) = provider.breaker
        {
            let name = (Arc::clone(&provider.name), endpoint);
            let circuit = self.circuits.entry(name.clone()).or_default();
            let pass = circuit.enter(now, &breaker).map_err(Refused::Failing)?;
            running.passing = Some(Passing {
                circuit: name,
                breaker,
                pass,
            });
        }
        Ok(())
    }

    /// What upstream answered. Only the first answer of a request is asked for.
    pub(super) fn judge(&mut self, now: Instant, ticket: Ticket, status: u16) {
        let Some(running) = self.running.get_mut(&ticket) else {
            return;
        };
        if let Some(passing) = running.passing.take()
            && let Some(circuit) = self.circuits.get_mut(&passing.circuit)
        {
            circuit.judge(now, &passing.breaker, passing.pass, Health::of(status));
        }
    }

    /// The request is over. Says whether it was the last of its configuration.
    pub(super) fn release(&mut self, ticket: Ticket) -> bool {
        let Some(running) = self.running.remove(&ticket) else {
            return false;
        };
        self.held -= running.bytes;
        if let Some(usage) = running.client.and_then(|name| self.clients.get_mut(&name)) {
            usage.running -= 1;
        }
        if let Some(passing) = running.passing
            && let Some(circuit) = self.circuits.get_mut(&passing.circuit)
        {
            circuit.abandon(passing.pass);
        }
        let Some(count) = self.epochs.get_mut(&running.epoch) else {
            return false;
        };
        *count -= 1;
        let was_last = *count == 0;
        if was_last {
            self.epochs.remove(&running.epoch);
        }
        was_last
    }

    /// The earliest configuration that a request runs on, if there is any request.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.epochs.keys().next().copied()
    }

    /// Another configuration is in force: what it has no use for goes. A provider that has moved is
    /// not to blame for what failed where it was.
    pub(super) fn adopt(&mut self, before: &Config, config: &Config) {
        let running = |usage: &Usage| usage.running > 0;
        self.clients.retain(|name, usage| {
            let mut limited = config.clients.iter().filter(|client| client.is_limited());
            running(usage) || limited.any(|client| client.name == *name)
        });
        self.circuits.retain(|(name, _), _| {
            let of = |config: &Config| {
                let mut providers = config.providers.iter();
                providers.find(|provider| provider.name == *name).cloned()
            };
            let stays = |(before, now): (Arc<Provider>, Arc<Provider>)| {
                now.breaker.is_some() && now.is_same_origin(&before)
            };
            of(before).zip(of(config)).is_some_and(stays)
        });
    }

    /// Whether one more connection is one too many.
    pub(super) fn connect(&mut self, config: &Config) -> bool {
        self.connections += 1;
        self.connections > config.capacity.connections
    }

    /// The circuits that have had requests so far.
    pub(super) fn circuits(&self, now: Instant) -> Vec<CircuitStatus> {
        let status =
            |((provider, endpoint), circuit): (&(Arc<str>, Endpoint), &Circuit)| CircuitStatus {
                provider: Arc::clone(provider),
                endpoint: *endpoint,
                state: circuit.state(now),
            };
        self.circuits.iter().map(status).collect()
    }

    /// Requests that are in, and the bytes that they hold.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.running.len(), self.held)
    }
}

impl Usage {
    fn begin(&mut self, now: Instant, client: &Client) -> Result<(), Refused> {
        if let Some(limit) = client.max_in_flight
            && self.running >= limit
        {
            return Err(Refused::ClientBusy {
                limit,
                retry_after: RETRY_AFTER,
            });
        }
        if let Some(limit) = client.requests_per_minute {
            let cost = MINUTE / limit.max(1);
            let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + cost;
            let owed = paid_at.since(now);
            if owed > MINUTE {
                return Err(Refused::ClientTooFast {
                    limit,
                    retry_after: owed.saturating_sub(MINUTE),
                });
            }
            self.paid_at = Some(paid_at);
        }
        self.running += 1;
        Ok(())
    }
}
