//! What is counted, for Prometheus.
//!
//! Every label has a bounded set of values: names from the configuration, words of fixed sets, and
//! models, of which a hundred per provider are told apart. Nothing else that a client chooses is a
//! label.
//!
//! What belongs to an interception is looked up once, when it begins ([`Series`]); from then on, to
//! count is to add to a number.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use aibridge_core::{
    api::{Api, Usage},
    bridge::ProviderKeys,
    keypool::{Exhausted, KeyState, Transition},
    record::{CredentialKind, Ended, Outcome, Passthrough, Reason, ToolUsage},
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use crate::records::Counts;

mod snapshot;

use snapshot::Asked;
pub(crate) use snapshot::Snapshot;

/// Models of one provider that are told apart. Clients choose their names, so there is no end to
/// them.
const MODELS: usize = 100;
/// A longer name is not that of a model, in bytes.
const LONGEST_MODEL: usize = 100;
/// What models beyond that are called.
const OTHER: &str = "other";

/// Of things that take milliseconds to half an hour, in seconds.
const LONG: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1200.0, 1800.0,
];
/// Of what the bridge itself takes, in seconds.
const SHORT: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 1.0,
];
/// Of attempts.
const FEW: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 12.0, 20.0, 50.0];

/// All that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    interceptions: IntCounterVec,
    inflight: IntGaugeVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    overhead: HistogramVec,
    passthrough: IntCounterVec,
    prompts: IntCounter,
    tokens: IntCounterVec,
    injected_tools: IntCounterVec,
    client_tools: IntCounterVec,
    failover: HistogramVec,
    transitions: IntCounterVec,
    exhaustions: IntCounterVec,
    refusals: IntCounterVec,
    reloads: IntCounterVec,
    /// What is known elsewhere, and asked for when it is to be told.
    asked: Mutex<Asked>,
    series: RwLock<HashMap<PerApi, Arc<Series>>>,
}

/// A provider's name and an API.
type PerApi = (Arc<str>, &'static str);

/// What interceptions of one provider and API are counted in.
pub(crate) struct Series {
    provider: Arc<str>,
    inflight: IntGauge,
    outcomes: [(Outcome, IntCounter); 8],
    duration: Histogram,
    first_byte: Histogram,
    overhead: Histogram,
    failover: Histogram,
    client_tools: IntCounter,
    tokens: IntCounterVec,
    models: Mutex<HashMap<String, Arc<Tokens>>>,
}

/// What tokens of one provider and model are counted in.
struct Tokens {
    input: IntCounter,
    output: IntCounter,
    cache_read: IntCounter,
    cache_write: IntCounter,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let build = gauges(&registry, "build_info", "Always 1.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let counters = |name, help, labels: &[_]| counters(&registry, name, help, labels);
        let counter = |name, help| counters(name, help, &[]).with_label_values::<&str>(&[]);
        let histograms =
            |name, help, labels: &[_], buckets| histograms(&registry, name, help, labels, buckets);
        let per_api = &["provider", "api"];
        let asked = Asked::new(&registry);
        let refusals = asked.refusals().clone();
        for reason in Reason::ALL.into_iter().filter(|it| *it != Reason::Limit) {
            refusals.with_label_values(&[reason.as_str()]);
        }
        Self {
            refusals,
            interceptions: counters(
                "interceptions_total",
                "Interceptions that ended.",
                &["provider", "api", "outcome"],
            ),
            inflight: gauges(
                &registry,
                "interceptions_inflight",
                "Interceptions that are running.",
                per_api,
            ),
            duration: histograms(
                "interception_duration_seconds",
                "From an interception's start to its end.",
                per_api,
                LONG,
            ),
            first_byte: histograms(
                "time_to_first_byte_seconds",
                "From an interception's start to the first byte of its reply's body.",
                per_api,
                LONG,
            ),
            overhead: histograms(
                "overhead_seconds",
                "The bridge's own share: from when a provider could be called to when it was, summed over an interception's calls.",
                per_api,
                SHORT,
            ),
            passthrough: counters(
                "passthrough_total",
                "Requests passed through that ended.",
                &["provider", "outcome"],
            ),
            prompts: counter("prompts_total", "Prompts of users."),
            tokens: counters(
                "tokens_total",
                "Tokens, as providers report them; input without reads from the cache.",
                &["provider", "model", "type"],
            ),
            injected_tools: counters(
                "injected_tool_invocations_total",
                "Calls of the bridge's own tools.",
                &["server", "outcome"],
            ),
            client_tools: counters(
                "client_tool_calls_total",
                "Calls of clients' own tools.",
                &["provider"],
            ),
            failover: histograms(
                "key_pool_failover_attempts",
                "Calls to the provider per interception with the pool's keys, over all its turns.",
                &["provider"],
                FEW,
            ),
            transitions: counters(
                "key_pool_state_transitions_total",
                "Keys that became unusable.",
                &["provider", "reason"],
            ),
            exhaustions: counters(
                "key_pool_exhaustions_total",
                "Requests for which there was no key.",
                &["provider", "outcome"],
            ),
            reloads: counters(
                "reloads_total",
                "Times that the configuration was read again.",
                &["outcome"],
            ),
            asked: Mutex::new(asked),
            series: RwLock::default(),
            registry,
        }
    }

    /// An interception begins.
    pub(crate) fn begin(&self, provider: &Arc<str>, api: Api) -> Arc<Series> {
        let key = (Arc::clone(provider), api.as_str());
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&key).cloned();
        drop(known);
        let series = found.unwrap_or_else(|| {
            let made = self.new_series(provider, api.as_str());
            let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(key).or_insert(made))
        });
        series.inflight.inc();
        series
    }

    fn new_series(&self, provider: &Arc<str>, api: &str) -> Arc<Series> {
        let labels = [&**provider, api];
        let outcome = |outcome: Outcome| {
            let labels = [&**provider, api, outcome.as_str()];
            (outcome, self.interceptions.with_label_values(&labels))
        };
        let all = [
            Outcome::BadRequest,
            Outcome::Cancelled,
            Outcome::Internal,
            Outcome::Ok,
            Outcome::RateLimited,
            Outcome::Timeout,
            Outcome::Unauthorized,
            Outcome::UpstreamError,
        ];
        Arc::new(Series {
            provider: Arc::clone(provider),
            inflight: self.inflight.with_label_values(&labels),
            outcomes: all.map(outcome),
            duration: self.duration.with_label_values(&labels),
            first_byte: self.first_byte.with_label_values(&labels),
            overhead: self.overhead.with_label_values(&labels),
            failover: self.failover.with_label_values(&[&**provider]),
            client_tools: self.client_tools.with_label_values(&[&**provider]),
            tokens: self.tokens.clone(),
            models: Mutex::default(),
        })
    }

    /// A prompt came.
    pub(crate) fn prompt(&self) {
        self.prompts.inc();
    }

    /// A passthrough is over.
    pub(crate) fn passthrough(&self, over: &Passthrough) {
        let labels = [&*over.provider, over.outcome.as_str()];
        self.passthrough.with_label_values(&labels).inc();
    }

    /// A request was turned away. Those that a limit turned away, the bridge counts, by which
    /// limit.
    pub(crate) fn turned_away(&self, reason: Reason) {
        if reason != Reason::Limit {
            self.refusals.with_label_values(&[reason.as_str()]).inc();
        }
    }

    /// A key changed state.
    pub(crate) fn key_changed(&self, provider: &str, transition: &Transition) {
        let reason = match transition.to {
            KeyState::Valid => return,
            KeyState::Temporary(_, reason) | KeyState::Permanent(reason) => reason,
        };
        let labels = [provider, reason.as_str()];
        self.transitions.with_label_values(&labels).inc();
    }

    /// The configuration was read again, and put in force or not.
    pub(crate) fn reloaded(&self, is_in_force: bool) {
        let outcome = if is_in_force { "ok" } else { "refused" };
        self.reloads.with_label_values(&[outcome]).inc();
    }

    /// There was no key.
    pub(crate) fn exhausted(&self, provider: &str, exhausted: Exhausted) {
        let outcome = match exhausted {
            Exhausted::RateLimited(_) => "rate_limited",
            Exhausted::Unauthorized => "auth_failed",
        };
        let labels = [provider, outcome];
        self.exhaustions.with_label_values(&labels).inc();
    }

    /// All of it, in Prometheus's text format, version 0.0.4.
    pub(crate) fn text(&self, keys: &[ProviderKeys], bridge: &Snapshot, counts: Counts) -> Vec<u8> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.catch_up(keys, bridge, counts);
        // Before it is unlocked: whoever catches up next clears some of it first.
        let gathered = self.registry.gather();
        drop(asked);
        let mut text = Vec::new();
        // Fails only where a metric has no name or no value.
        let _ = TextEncoder::new().encode(&gathered, &mut text);
        text
    }
}

impl Series {
    /// The provider has reported tokens.
    pub(crate) fn tokens(&self, model: &str, usage: &Usage) {
        let tokens = self.of_model(model);
        tokens.input.inc_by(usage.input);
        tokens.output.inc_by(usage.output);
        tokens.cache_read.inc_by(usage.cache_read);
        tokens.cache_write.inc_by(usage.cache_write);
    }

    fn of_model(&self, model: &str) -> Arc<Tokens> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = models.get(model) {
            return Arc::clone(tokens);
        }
        let fits = models.len() < MODELS && model.len() <= LONGEST_MODEL;
        let name = if fits { model } else { OTHER };
        let count = |kind| {
            let labels = [&*self.provider, name, kind];
            self.tokens.with_label_values(&labels)
        };
        let tokens = Tokens {
            input: count("input"),
            output: count("output"),
            cache_read: count("cache_read"),
            cache_write: count("cache_write"),
        };
        let entry = models.entry(name.to_owned());
        Arc::clone(entry.or_insert_with(|| Arc::new(tokens)))
    }

    /// A tool was called.
    pub(crate) fn tool(&self, tool: &ToolUsage, metrics: &Metrics) {
        if !tool.injected {
            return self.client_tools.inc();
        }
        let server = tool.server.as_deref().unwrap_or("unknown");
        let outcome = if tool.error.is_some() { "error" } else { "ok" };
        let labels = [server, outcome];
        metrics.injected_tools.with_label_values(&labels).inc();
    }

    /// An interception is over.
    pub(crate) fn end(&self, ended: &Ended, credential: CredentialKind) {
        self.inflight.dec();
        let outcome = self
            .outcomes
            .iter()
            .find(|(outcome, _)| *outcome == ended.outcome);
        if let Some((_, counter)) = outcome {
            counter.inc();
        }
        self.duration.observe(ended.total.as_secs_f64());
        if let Some(first_byte) = ended.first_byte {
            self.first_byte.observe(first_byte.as_secs_f64());
        }
        if ended.attempts > 0 {
            self.overhead.observe(ended.overhead.as_secs_f64());
        }
        if credential == CredentialKind::Centralized {
            self.failover.observe(ended.attempts.into());
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let opts = Opts::new(name, help).namespace("aibridge");
    registered(registry, IntCounterVec::new(opts, labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let opts = Opts::new(name, help).namespace("aibridge");
    registered(registry, IntGaugeVec::new(opts, labels))
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let opts = HistogramOpts::new(name, help)
        .namespace("aibridge")
        .buckets(buckets.to_vec());
    registered(registry, HistogramVec::new(opts, labels))
}

#[expect(
    clippy::expect_used,
    reason = "names are constants, and a test makes all of them"
)]
fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let made = made.expect("the name is well formed");
    registry
        .register(Box::new(made.clone()))
        .expect("the name is new");
    made
}

#[cfg(test)]
mod tests;
