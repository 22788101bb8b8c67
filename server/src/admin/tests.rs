//! The endpoints, asked over real sockets.

use std::{net::SocketAddr, sync::Mutex};

use aibridge_core::{
    InterceptionId, Rng,
    api::Api,
    bridge::{Connections, Load},
    keypool::Reason,
    mcp::Failure,
    record::{CredentialKind, Record, Started},
    secret::Digest,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// One provider with three keys, at second 1000.
struct ThreeKeys(Mutex<Vec<KeyState>>);

impl Keys for ThreeKeys {
    fn now(&self) -> Instant {
        Instant::from_secs(1000)
    }

    fn keys(&self, _: Instant) -> Vec<ProviderKeys> {
        let states = self.0.lock().unwrap();
        let keys = states.iter().map(|state| KeyStatus {
            hint: "k...y".to_owned(),
            state: *state,
        });
        vec![ProviderKeys {
            name: "anthropic".into(),
            keys: keys.collect(),
        }]
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            circuits: Vec::new(),
            refusals: [("draining", 4)].into(),
            connections: Connections {
                idle: 2,
                opened: 5,
                reused: 7,
            },
            load: Load {
                connections: 3,
                requests: 2,
                buffered: 4096,
            },
            tool_servers: self.tool_servers(),
            panics: 1,
            lost_traces: 2,
        }
    }

    fn tool_servers(&self) -> Vec<ServerTools> {
        let server = |name: &str, state| ServerTools {
            name: name.into(),
            state,
            offered: vec![("bmcp_a_b".into(), "b".into())],
            refused: Vec::new(),
            clashes: Vec::new(),
        };
        let down = ServerState::Down {
            why: Failure::TimedOut,
            retry_at: Instant::from_millis(1_001_500),
        };
        vec![server("coder", ServerState::Up), server("desk", down)]
    }

    fn reset(&self, now: Instant, provider: &str, index: usize) -> Option<KeyStatus> {
        if provider != "anthropic" {
            return None;
        }
        *self.0.lock().unwrap().get_mut(index)? = KeyState::Valid;
        Some(self.keys(now).remove(0).keys.remove(index))
    }
}

async fn start(token: Option<&str>) -> (SocketAddr, Arc<Admin>) {
    start_with(token, LIFETIME).await
}

async fn start_with(token: Option<&str>, lifetime: Duration) -> (SocketAddr, Arc<Admin>) {
    let states = vec![
        KeyState::Temporary(Instant::from_nanos(1_002_000_000_001), Reason::RateLimited),
        KeyState::Permanent(Reason::Unauthorized),
        KeyState::Valid,
    ];
    let recorder = Arc::new(Recorder::in_memory(10));
    for seed in 1..=3 {
        recorder.keep(Record::Started(
            InterceptionId::draw(&mut Rng::new(seed)),
            Box::new(Started {
                provider: "anthropic".into(),
                api: Api::Messages,
                model: format!("m{seed}").into(),
                streaming: false,
                actor: "local".into(),
                client: "Unknown",
                session_id: None,
                user_agent: None,
                credential_kind: CredentialKind::Centralized,
                correlating_tool_call_id: None,
                at: Instant::from_millis(seed),
            }),
        ));
    }
    let keys = Arc::new(ThreeKeys(Mutex::new(states)));
    let access = Access::new(
        token.map(|token| Digest::of(token.as_bytes())),
        vec!["admin".to_owned()],
    );
    let reload = Box::new(|| Err("x.toml: line 3: no".to_owned()));
    let mut admin = Admin::new(access, keys, recorder, reload);
    admin.lifetime = lifetime;
    let admin = Arc::new(admin);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Arc::clone(&admin).serve(listener, None));
    (address, admin)
}

/// Asks, and returns head, status and body.
async fn ask(address: SocketAddr, request: &str, fields: &str) -> (String, u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    (
        head.to_owned(),
        status,
        serde_json::from_str(body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn health_is_always_well_and_readiness_follows_the_phase() {
    let (address, admin) = start(None).await;
    for (phase, status, word) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Ready, 200, "ok"),
        (Phase::Draining, 503, "draining"),
    ] {
        admin.set_phase(phase);
        let (_, got, body) = ask(address, "GET /readyz", "").await;
        let mut expected = json!({"status": word});
        if phase == Phase::Ready {
            expected["mcp"] = json!({"connecting": 0, "down": 1, "up": 1});
        }
        assert_eq!((got, body), (status, expected));
        let (_, got, body) = ask(address, "GET /healthz", "").await;
        assert_eq!((got, body), (200, json!({"status": "ok"})));
    }
}

#[tokio::test]
async fn tools_are_shown_with_the_names_that_models_see() {
    let (address, _) = start(None).await;
    let (_, status, body) = ask(address, "GET /tools", "").await;
    let server = |name, state, reason: Value, retry: Value| {
        json!({
            "name": name, "state": state, "reason": reason, "retry_in_ms": retry,
            "tools": [{"name": "bmcp_a_b", "tool": "b"}], "refused": [], "clashes": [],
        })
    };
    let servers = json!([
        server("coder", "up", Value::Null, Value::Null),
        server("desk", "down", "timed out".into(), 1500.into()),
    ]);
    assert_eq!((status, body), (200, json!({"servers": servers})));
}

#[tokio::test]
async fn keys_are_shown_in_configured_order_and_can_be_reset() {
    let (address, _) = start(None).await;
    let valid =
        json!({"hint": "k...y", "state": "valid", "reason": null, "cooldown_remaining_ms": null});
    let retired = json!({"hint": "k...y", "state": "permanent", "reason": "unauthorized", "cooldown_remaining_ms": null});
    let cooling = json!({"hint": "k...y", "state": "temporary", "reason": "rate_limited", "cooldown_remaining_ms": 2001});
    let (_, status, body) = ask(address, "GET /keys", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"providers": [{"name": "anthropic", "keys": [cooling, retired, valid]}]})
    );

    let (_, status, body) = ask(
        address,
        "POST /keys/anthropic/1/reset",
        "content-length: 0\r\n",
    )
    .await;
    assert_eq!((status, body), (200, valid.clone()));
    let (_, _, body) = ask(address, "GET /keys", "").await;
    assert_eq!(
        body,
        json!({"providers": [{"name": "anthropic", "keys": [cooling, valid, valid]}]})
    );

    for path in [
        "anthropic/3",
        "openai/0",
        "anthropic/-1",
        "anthropic/x",
        "/0",
    ] {
        let (_, status, body) = ask(address, &format!("POST /keys/{path}/reset"), "").await;
        assert_eq!(
            (status, body),
            (404, json!({"error": "no such key"})),
            "{path}"
        );
    }
}

#[tokio::test]
async fn interceptions_come_newest_first_up_to_the_limit() {
    let (address, _) = start(None).await;
    for (query, models) in [
        ("", &["m3", "m2", "m1"][..]),
        ("?limit=2", &["m3", "m2"]),
        ("?&limit=1&", &["m3"]),
        ("?limit=999999", &["m3", "m2", "m1"]),
    ] {
        let (_, status, body) = ask(address, &format!("GET /interceptions{query}"), "").await;
        let shown: Vec<_> = body["interceptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| i["model"].as_str().unwrap())
            .collect();
        assert_eq!((status, &shown[..]), (200, models), "{query}");
    }
    for limit in ["", "0", "-1", "ten", "1.5"] {
        let (_, status, body) =
            ask(address, &format!("GET /interceptions?limit={limit}"), "").await;
        assert_eq!(
            (status, body),
            (400, json!({"error": "limit must be a whole number from 1"})),
            "{limit}"
        );
    }
}

#[tokio::test]
async fn interceptions_are_found_by_what_they_are_and_where_they_stand() {
    let (address, _) = start(None).await;
    let models = async |query: &str| {
        let (_, status, body) = ask(address, &format!("GET /interceptions?{query}"), "").await;
        assert_eq!(status, 200, "{query}: {body}");
        let shown = body["interceptions"].as_array().unwrap().clone();
        shown
            .into_iter()
            .map(|it| (it["model"].as_str().unwrap().to_owned(), it["id"].clone()))
            .collect::<Vec<_>>()
    };
    let all = models("").await;
    let id = all[1].1.as_str().unwrap();
    for (query, expected) in [
        ("actor=local", &["m3", "m2", "m1"][..]),
        ("actor=l%6fcal&outcome=running", &["m3", "m2", "m1"]),
        ("actor=alice", &[]),
        ("provider=anthropic&limit=1", &["m3"]),
        ("provider=openai", &[]),
        ("outcome=ok", &[]),
        (&format!("before={id}"), &["m1"]),
        ("before=1970-01-01T00:00:00.002Z", &["m1"]),
        ("before=1970-01-01T01:00:00.003%2B01:00", &["m2", "m1"]),
    ] {
        let found = models(query).await;
        let found: Vec<_> = found.iter().map(|(model, _)| model.as_str()).collect();
        assert_eq!(found, expected, "{query}");
    }
    for before in ["yesterday", "", "00000000-0000-4000-8000-000000000000"] {
        let (_, status, body) =
            ask(address, &format!("GET /interceptions?before={before}"), "").await;
        let error = body["error"].as_str().unwrap();
        assert_eq!(
            (status, error.starts_with("before")),
            (400, true),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_is_asked_for_by_a_wrong_name_is_refused_and_not_ignored() {
    let (address, _) = start(None).await;
    let known = "known are actor, before, limit, outcome and provider";
    for (query, named) in [
        ("limt=5", "\"limt\""),
        ("limit=5&Actor=alice", "\"Actor\""),
        ("=x", "\"\""),
        ("a%0ab", "\"a\\nb\""),
    ] {
        let (_, status, body) = ask(address, &format!("GET /interceptions?{query}"), "").await;
        let error = json!({"error": format!("unknown parameter {named}; {known}")});
        assert_eq!((status, body), (400, error), "{query}");
    }
}

#[test]
fn queries_are_read_as_forms_write_them() {
    let actor = |query| search(query).unwrap().actor.unwrap();
    assert_eq!(actor("actor=al+ice"), "al ice");
    assert_eq!(actor("act%6Fr=al%20ice"), "al ice");
    assert_eq!(actor("actor=al%2Bice"), "al+ice");
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_closed_in_time() {
    let (address, _) = start_with(Some("s3cret"), Duration::from_millis(50)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let requests = "GET /healthz HTTP/1.1\r\nhost: admin\r\n\r\n".repeat(2_000);
    // For as long as the connection is there, it takes requests, or lets us wait.
    let closed = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    let patience = Duration::from_secs(10);
    assert!(time::timeout(patience, closed).await.is_ok(), "it is open");
}

#[tokio::test]
async fn whoever_holds_all_connections_keeps_no_probe_out() {
    let (address, admin) = start(Some("s3cret")).await;
    admin.set_phase(Phase::Ready);
    let mut holding = Vec::new();
    for _ in 0..MOST_CONNECTIONS + 8 {
        holding.push(TcpStream::connect(address).await.unwrap());
    }
    for request in ["GET /healthz", "GET /readyz"] {
        let probe = time::timeout(PATIENCE / 2, ask(address, request, "")).await;
        assert_eq!(probe.expect("an answer at once").1, 200, "{request}");
    }
    drop(holding);
}

#[test]
fn probes_are_answered_while_all_threads_that_may_block_are_busy() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (address, admin) = start(None).await;
        admin.set_phase(Phase::Ready);
        let (release, held) = std::sync::mpsc::channel::<()>();
        task::spawn_blocking(move || held.recv());
        for path in ["/healthz", "/readyz", "/metrics", "/keys", "/tools"] {
            let asked = format!("GET {path}");
            let answer = time::timeout(PATIENCE, ask(address, &asked, "")).await;
            assert_eq!(answer.expect("an answer").1, 200, "{path}");
        }
        drop(release);
    });
}

#[tokio::test]
async fn metrics_are_text_and_need_the_token() {
    let (address, _) = start(Some("the-token")).await;
    let (_, status, _) = ask(address, "GET /metrics", "").await;
    assert_eq!(status, 401);

    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nauthorization: Bearer the-token\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    for part in [
        "content-type: text/plain; version=0.0.4",
        "\naibridge_interceptions_inflight{api=\"messages\",provider=\"anthropic\"} 3\n",
        "\naibridge_key_pool_state{provider=\"anthropic\",state=\"permanent\"} 1\n",
        "\naibridge_upstream_connections_idle 2\n",
        "\naibridge_records_pending 0\n",
    ] {
        assert!(reply.contains(part), "{part}:\n{reply}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_in_json() {
    let (address, _) = start(None).await;
    for request in [
        "GET /",
        "GET /key",
        "GET /keys/",
        "POST /keys/anthropic/0",
        "GET /metrics/",
    ] {
        let (head, status, body) = ask(address, request, "").await;
        assert_eq!(
            (status, body),
            (404, json!({"error": "no such endpoint"})),
            "{request}"
        );
        assert!(head.contains("content-type: application/json"));
    }
    for (request, allow) in [
        ("POST /healthz", "GET, HEAD"),
        ("DELETE /interceptions", "GET, HEAD"),
        ("GET /keys/anthropic/0/reset", "POST"),
    ] {
        let (head, status, body) = ask(address, request, "").await;
        assert_eq!(
            (status, body),
            (
                405,
                json!({"error": format!("method not allowed; use {allow}")})
            )
        );
        assert!(head.contains(&format!("allow: {allow}")), "{head}");
    }
}

#[tokio::test]
async fn a_token_protects_everything_but_the_probes() {
    let (address, admin) = start(Some("s3cret")).await;
    admin.set_phase(Phase::Ready);
    for (fields, status) in [
        ("", 401),
        ("authorization: Bearer wrong!\r\n", 401),
        ("authorization: Bearer s3cre\r\n", 401),
        ("authorization: Bearer\r\n", 401),
        ("authorization: Basic s3cret\r\n", 401),
        ("authorization: Bearer s3cret s3cret\r\n", 401),
        ("x-api-key: s3cret\r\n", 401),
        ("authorization: bearer  s3cret\r\n", 200),
    ] {
        let (head, got, body) = ask(address, "GET /keys", fields).await;
        assert_eq!(got, status, "{fields}");
        assert_eq!(head.contains("www-authenticate: Bearer"), status == 401);
        assert_eq!(body["error"].is_string(), status == 401);
    }
    for request in [
        "GET /interceptions",
        "POST /keys/anthropic/0/reset",
        "GET /nowhere",
    ] {
        assert_eq!(ask(address, request, "").await.1, 401, "{request}");
    }
    for request in ["GET /healthz", "GET /readyz"] {
        assert_eq!(ask(address, request, "").await.1, 200, "{request}");
    }
}
