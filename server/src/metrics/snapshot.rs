//! What is counted elsewhere, and asked for when it is to be told.

use std::collections::BTreeMap;

use aibridge_core::bridge::{CircuitStatus, Connections, Load, ProviderKeys, ServerTools};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counters, gauges};
use crate::records::Counts;

/// What a running bridge says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) circuits: Vec<CircuitStatus>,
    /// Requests turned away by a limit, by which.
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    pub(crate) connections: Connections,
    pub(crate) load: Load,
    /// MCP servers, and what is known of their tools.
    pub(crate) tool_servers: Vec<ServerTools>,
    pub(crate) panics: u64,
    /// Traces not written to their end.
    pub(crate) lost_traces: u64,
}

/// The metrics that are made of it.
pub(super) struct Asked {
    circuit_state: IntGaugeVec,
    refusals: IntCounterVec,
    key_state: IntGaugeVec,
    mcp_state: IntGaugeVec,
    mcp_tools: IntGaugeVec,
    connections_idle: IntGauge,
    connections_opened: IntCounter,
    connections_reused: IntCounter,
    client_connections: IntGauge,
    buffered: IntGauge,
    panics: IntCounter,
    pending: IntGauge,
    lost: IntCounter,
    lost_traces: IntCounter,
}

impl Asked {
    pub(super) fn new(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[_]| counters(registry, name, help, labels);
        let gauges = |name, help, labels: &[_]| gauges(registry, name, help, labels);
        let counter = |name, help| counters(name, help, &[]).with_label_values::<&str>(&[]);
        let gauge = |name, help| gauges(name, help, &[]).with_label_values::<&str>(&[]);
        Self {
            circuit_state: gauges(
                "circuit_state",
                "1 for the state that a provider's circuit breaker is in.",
                &["provider", "endpoint", "state"],
            ),
            refusals: counters(
                "refusals_total",
                "Requests turned away before anything was done for them.",
                &["reason"],
            ),
            key_state: gauges("key_pool_state", "Keys, by state.", &["provider", "state"]),
            mcp_state: gauges(
                "mcp_server_state",
                "1 for the state that an MCP server is in.",
                &["server", "state"],
            ),
            mcp_tools: gauges(
                "mcp_tools",
                "Tools of an MCP server that are offered.",
                &["server"],
            ),
            connections_idle: gauge(
                "upstream_connections_idle",
                "Connections to upstreams that are kept for the next request.",
            ),
            connections_opened: counter(
                "upstream_connections_opened_total",
                "Connections to upstreams opened, or tried to be.",
            ),
            connections_reused: counter(
                "upstream_connections_reused_total",
                "Calls made on a connection that was kept.",
            ),
            client_connections: gauge(
                "client_connections",
                "Connections of clients that are open.",
            ),
            buffered: gauge(
                "buffered_bytes",
                "Bytes of requests that are held in memory.",
            ),
            panics: counter(
                "panics_total",
                "Connections lost to a panic, each by itself.",
            ),
            pending: gauge("records_pending", "Records on their way to the store."),
            lost: counter("records_lost_total", "Records that could not be stored."),
            lost_traces: counter("traces_lost_total", "Traces not written to their end."),
        }
    }

    /// Counted here by limit; for other reasons where they come up.
    pub(super) const fn refusals(&self) -> &IntCounterVec {
        &self.refusals
    }

    /// Takes them all to what is so now.
    pub(super) fn catch_up(&self, keys: &[ProviderKeys], bridge: &Snapshot, counts: Counts) {
        self.key_state.reset();
        for provider in keys {
            for state in ["valid", "temporary", "permanent"] {
                let count = provider.keys.iter();
                let count = count.filter(|key| key.state.as_str() == state).count();
                let labels = [&*provider.name, state];
                let gauge = self.key_state.with_label_values(&labels);
                gauge.set(signed(count as u64));
            }
        }
        self.circuit_state.reset();
        for circuit in &bridge.circuits {
            for state in ["closed", "half_open", "open"] {
                let labels = [&*circuit.provider, circuit.endpoint.as_str(), state];
                let gauge = self.circuit_state.with_label_values(&labels);
                gauge.set(i64::from(state == circuit.state));
            }
        }
        // A server that a reload took out is not told of any more.
        self.mcp_state.reset();
        self.mcp_tools.reset();
        for server in &bridge.tool_servers {
            for state in ["connecting", "up", "down"] {
                let gauge = self.mcp_state.with_label_values(&[&*server.name, state]);
                gauge.set(i64::from(state == server.state.as_str()));
            }
            let gauge = self.mcp_tools.with_label_values(&[&*server.name]);
            gauge.set(signed(server.offered.len() as u64));
        }
        for (reason, count) in &bridge.refusals {
            catch_up(&self.refusals.with_label_values(&[*reason]), *count);
        }
        let Connections {
            idle,
            opened,
            reused,
        } = bridge.connections;
        self.connections_idle.set(signed(idle as u64));
        catch_up(&self.connections_opened, opened);
        catch_up(&self.connections_reused, reused);
        let clients = bridge.load.connections as u64;
        self.client_connections.set(signed(clients));
        self.buffered.set(signed(bridge.load.buffered));
        catch_up(&self.panics, bridge.panics);
        self.pending.set(signed(counts.pending));
        catch_up(&self.lost, counts.lost);
        catch_up(&self.lost_traces, bridge.lost_traces);
    }
}

/// Takes a counter to what somebody else has counted.
fn catch_up(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
