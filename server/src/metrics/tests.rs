//! Records counted, and what is told of them.

use std::sync::{
    Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use aibridge_core::{
    Duration, Instant, InterceptionId, Rng,
    api::ToolCall,
    bridge::{CircuitStatus, Connections, Endpoint, Load, ServerTools},
    keypool::{KeyStatus, Reason},
    mcp::{Failure, ServerState},
    record::Reason as TurnedAway,
};
use prometheus::{core::Desc, proto::MetricFamily};

use super::*;

fn text(metrics: &Metrics) -> String {
    let key = |state| KeyStatus {
        hint: "k...y".to_owned(),
        state,
    };
    let keys = ProviderKeys {
        name: "anthropic".into(),
        keys: vec![
            key(KeyState::Valid),
            key(KeyState::Permanent(Reason::Unauthorized)),
            key(KeyState::Valid),
        ],
    };
    let server = |name: &str, state, tools| ServerTools {
        name: name.into(),
        state,
        offered: vec![("bmcp_x".into(), "x".into()); tools],
        refused: Vec::new(),
        clashes: Vec::new(),
    };
    let down = ServerState::Down {
        why: Failure::Down,
        retry_at: Instant::EPOCH,
    };
    let bridge = Snapshot {
        circuits: vec![CircuitStatus {
            provider: "anthropic".into(),
            endpoint: Endpoint::Passthrough,
            state: "open",
        }],
        refusals: [("busy", 11)].into(),
        connections: Connections {
            idle: 3,
            opened: 4,
            reused: 5,
        },
        load: Load {
            connections: 8,
            requests: 2,
            buffered: 4096,
        },
        tool_servers: vec![
            server("coder", ServerState::Up, 2),
            server("files", down, 1),
            server("new", ServerState::Connecting, 0),
        ],
        panics: 1,
        lost_traces: 2,
    };
    let counts = Counts {
        pending: 6,
        lost: 7,
    };
    String::from_utf8(metrics.text(&[keys], &bridge, counts)).unwrap()
}

fn ended(outcome: Outcome) -> Ended {
    Ended {
        at: Instant::EPOCH,
        status: Some(200),
        outcome,
        error: None,
        class: None,
        credential_hint: "k...y".into(),
        attempts: 3,
        turns: 1,
        first_byte: Some(Duration::from_millis(200)),
        overhead: Duration::from_micros(30),
        total: Duration::from_millis(1500),
    }
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|it| it == *line), "{line}:\n{text}");
    }
}

#[test]
fn what_happens_is_counted_under_the_names_that_dashboards_use() {
    let metrics = Metrics::new();
    let provider = "anthropic".into();
    metrics.begin(&provider, Api::Messages);
    let series = metrics.begin(&provider, Api::Messages);
    metrics.prompt();
    let usage = Usage {
        input: 10,
        output: 20,
        cache_read: 30,
        cache_write: 40,
        ..Usage::default()
    };
    series.tokens("claude", &usage);
    series.tokens("claude", &usage);
    for (injected, server, error) in [
        (false, None, None),
        (true, Some("coder"), None),
        (true, Some("coder"), Some("it failed")),
    ] {
        let tool = ToolUsage {
            turn: 1,
            call: ToolCall {
                id: "toolu_1".to_owned(),
                name: "weather".to_owned(),
                arguments: "{}".to_owned(),
            },
            injected,
            server: server.map(Into::into),
            error: error.map(str::to_owned),
            class: error.map(Into::into),
            at: Instant::EPOCH,
        };
        series.tool(&tool, &metrics);
    }
    series.end(&ended(Outcome::Ok), CredentialKind::Centralized);
    metrics.turned_away(TurnedAway::Unauthenticated);
    metrics.turned_away(TurnedAway::Limit);
    metrics.passthrough(&Passthrough {
        id: InterceptionId::draw(&mut Rng::new(1)),
        provider: "anthropic".into(),
        status: Some(404),
        outcome: Outcome::UpstreamError,
        total: Duration::ZERO,
        at: Instant::EPOCH,
    });
    metrics.exhausted("anthropic", Exhausted::Unauthorized);
    metrics.exhausted("anthropic", Exhausted::RateLimited(Duration::from_secs(1)));
    for to in [
        KeyState::Temporary(Instant::EPOCH, Reason::RateLimited),
        KeyState::Valid,
        KeyState::Permanent(Reason::Unauthorized),
    ] {
        let transition = Transition {
            index: 0,
            hint: "k...y".to_owned(),
            from: KeyState::Valid,
            to,
        };
        metrics.key_changed("anthropic", &transition);
    }

    let text = text(&metrics);
    assert_lines(
        &text,
        &[
            "# TYPE aibridge_interceptions_total counter",
            "aibridge_interceptions_total{api=\"messages\",outcome=\"ok\",provider=\"anthropic\"} 1",
            "aibridge_interceptions_inflight{api=\"messages\",provider=\"anthropic\"} 1",
            "aibridge_interception_duration_seconds_bucket{api=\"messages\",provider=\"anthropic\",le=\"1\"} 0",
            "aibridge_interception_duration_seconds_bucket{api=\"messages\",provider=\"anthropic\",le=\"2.5\"} 1",
            "aibridge_interception_duration_seconds_bucket{api=\"messages\",provider=\"anthropic\",le=\"1800\"} 1",
            "aibridge_time_to_first_byte_seconds_sum{api=\"messages\",provider=\"anthropic\"} 0.2",
            "aibridge_overhead_seconds_count{api=\"messages\",provider=\"anthropic\"} 1",
            "aibridge_passthrough_total{outcome=\"upstream_error\",provider=\"anthropic\"} 1",
            "aibridge_prompts_total 1",
            "aibridge_tokens_total{model=\"claude\",provider=\"anthropic\",type=\"input\"} 20",
            "aibridge_tokens_total{model=\"claude\",provider=\"anthropic\",type=\"output\"} 40",
            "aibridge_tokens_total{model=\"claude\",provider=\"anthropic\",type=\"cache_read\"} 60",
            "aibridge_tokens_total{model=\"claude\",provider=\"anthropic\",type=\"cache_write\"} 80",
            "aibridge_injected_tool_invocations_total{outcome=\"ok\",server=\"coder\"} 1",
            "aibridge_injected_tool_invocations_total{outcome=\"error\",server=\"coder\"} 1",
            "aibridge_client_tool_calls_total{provider=\"anthropic\"} 1",
            "aibridge_key_pool_state{provider=\"anthropic\",state=\"valid\"} 2",
            "aibridge_key_pool_state{provider=\"anthropic\",state=\"temporary\"} 0",
            "aibridge_key_pool_state{provider=\"anthropic\",state=\"permanent\"} 1",
            "aibridge_key_pool_state_transitions_total{provider=\"anthropic\",reason=\"rate_limited\"} 1",
            "aibridge_key_pool_state_transitions_total{provider=\"anthropic\",reason=\"unauthorized\"} 1",
            "aibridge_key_pool_exhaustions_total{outcome=\"auth_failed\",provider=\"anthropic\"} 1",
            "aibridge_key_pool_exhaustions_total{outcome=\"rate_limited\",provider=\"anthropic\"} 1",
            "aibridge_key_pool_failover_attempts_sum{provider=\"anthropic\"} 3",
            "aibridge_key_pool_failover_attempts_count{provider=\"anthropic\"} 1",
            "aibridge_upstream_connections_idle 3",
            "aibridge_upstream_connections_opened_total 4",
            "aibridge_upstream_connections_reused_total 5",
            "aibridge_circuit_state{endpoint=\"passthrough\",provider=\"anthropic\",state=\"open\"} 1",
            "aibridge_circuit_state{endpoint=\"passthrough\",provider=\"anthropic\",state=\"closed\"} 0",
            "aibridge_mcp_server_state{server=\"coder\",state=\"up\"} 1",
            "aibridge_mcp_server_state{server=\"coder\",state=\"down\"} 0",
            "aibridge_mcp_server_state{server=\"coder\",state=\"connecting\"} 0",
            "aibridge_mcp_server_state{server=\"files\",state=\"down\"} 1",
            "aibridge_mcp_server_state{server=\"files\",state=\"up\"} 0",
            "aibridge_mcp_server_state{server=\"new\",state=\"connecting\"} 1",
            "aibridge_mcp_tools{server=\"coder\"} 2",
            "aibridge_mcp_tools{server=\"files\"} 1",
            "aibridge_mcp_tools{server=\"new\"} 0",
            "aibridge_refusals_total{reason=\"busy\"} 11",
            "aibridge_refusals_total{reason=\"unauthenticated\"} 1",
            "aibridge_refusals_total{reason=\"not_found\"} 0",
            "aibridge_client_connections 8",
            "aibridge_buffered_bytes 4096",
            "aibridge_panics_total 1",
            "aibridge_traces_lost_total 2",
            "aibridge_records_pending 6",
            "aibridge_records_lost_total 7",
            concat!(
                "aibridge_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ],
    );
}

#[test]
fn a_clients_own_key_is_no_attempt_of_the_pool() {
    let metrics = Metrics::new();
    let series = metrics.begin(&"anthropic".into(), Api::Messages);
    series.end(&ended(Outcome::Ok), CredentialKind::Byok);
    let text = text(&metrics);
    assert_lines(
        &text,
        &["aibridge_key_pool_failover_attempts_count{provider=\"anthropic\"} 0"],
    );
}

/// Defect 18: metrics that grow with what clients send.
#[test]
fn defect_18_models_beyond_a_bound_are_other_however_many_clients_name() {
    let metrics = Metrics::new();
    let series = metrics.begin(&"anthropic".into(), Api::Messages);
    let usage = Usage {
        input: 1,
        ..Usage::default()
    };
    series.tokens(&"long".repeat(100), &usage);
    for number in 0..10_000 {
        series.tokens(&format!("model-{number}"), &usage);
    }
    let text = text(&metrics);
    let told = text
        .lines()
        .filter(|line| line.starts_with("aibridge_tokens_total"));
    assert_eq!(told.count(), 4 * MODELS, "`other` is one of them");
    assert!(series.models.lock().unwrap().len() <= MODELS + 1);
    assert_lines(
        &text,
        &[
            "aibridge_tokens_total{model=\"model-7\",provider=\"anthropic\",type=\"input\"} 1",
            "aibridge_tokens_total{model=\"other\",provider=\"anthropic\",type=\"input\"} 9902",
        ],
    );
}

#[test]
fn what_is_told_again_is_not_counted_again() {
    let metrics = Metrics::new();
    text(&metrics);
    assert_lines(
        &text(&metrics),
        &[
            "aibridge_records_lost_total 7",
            "aibridge_upstream_connections_opened_total 4",
        ],
    );
}

/// Tells whether what is asked for was locked while it was gathered.
struct Witness {
    metrics: Weak<Metrics>,
    was_locked: Arc<AtomicBool>,
}

impl Collector for Witness {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metrics = self.metrics.upgrade().unwrap();
        let was_locked = metrics.asked.try_lock().is_err();
        self.was_locked.store(was_locked, Relaxed);
        Vec::new()
    }
}

#[test]
fn of_two_scrapes_at_a_time_none_sees_what_the_other_has_cleared() {
    let metrics = Arc::new(Metrics::new());
    let was_locked = Arc::new(AtomicBool::new(false));
    let witness = Witness {
        metrics: Arc::downgrade(&metrics),
        was_locked: Arc::clone(&was_locked),
    };
    metrics.registry.register(Box::new(witness)).unwrap();
    text(&metrics);
    assert!(was_locked.load(Relaxed));
}
