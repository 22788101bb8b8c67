//! Which requests are served, passed through or refused, and how a refusal looks.

use aibridge_core::api::{Api, Vendor};
use aibridge_testkit::{
    APIS, Answer, Ask, Fixture, Reply, Script, Sim, path,
    setup::{KEYS, ok, raw, two_keys as config},
};

#[track_caller]
fn assert_shape(answer: &Answer, vendor: Vendor) {
    let json = answer.json();
    assert!(json["error"]["message"].is_string(), "{answer:?}");
    match vendor {
        Vendor::Anthropic => {
            assert_eq!(json["type"], "error", "{answer:?}");
            assert_eq!(
                json["request_id"].as_str(),
                answer.header("x-aibridge-id"),
                "{answer:?}"
            );
        }
        Vendor::OpenAi => {
            assert!(json.get("type").is_none(), "{answer:?}");
            assert!(json["error"].get("code").is_some(), "{answer:?}");
            assert!(json["error"]["param"].is_null(), "{answer:?}");
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_the_apis_shape() {
    let upgrade = |path: &str| {
        let ask = Ask::get(path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket");
        ask.header("sec-websocket-key", "x")
            .header("sec-websocket-version", "13")
    };
    let (anthropic, openai) = (Some(Vendor::Anthropic), Some(Vendor::OpenAi));
    for (ask, status, vendor) in [
        (Ask::get("/"), 404, None),
        (Ask::get("/nobody/v1/models"), 404, None),
        (Ask::get("/anthropic"), 404, anthropic),
        (Ask::get("/anthropic/v1/nothing"), 404, anthropic),
        (Ask::get("/anthropic/v1/models/../x"), 400, anthropic),
        (
            Ask::post("/anthropic/v1/chat/completions", "{}"),
            404,
            anthropic,
        ),
        (Ask::get("/openai/v1/nothing"), 404, openai),
        (Ask::post("/openai/responses", "{}"), 404, openai),
        (Ask::get("/openai/v1/../../etc/passwd"), 400, openai),
        (Ask::get("/openai/v1/models/%2e%2e/x"), 400, openai),
        (Ask::get("/openai%2Fv1/models"), 400, None),
        (
            Ask::get("http://elsewhere.test/openai/v1/models"),
            400,
            None,
        ),
        (Ask::get(path(Api::Messages)), 405, anthropic),
        (Ask::get(path(Api::ChatCompletions)), 405, openai),
        (upgrade(path(Api::Responses)), 426, openai),
        (upgrade(path(Api::Messages)), 426, anthropic),
    ] {
        let (answer, _, seen) = raw(config(), &ask.bytes());
        assert_eq!(answer.status, status, "{ask:?}");
        assert_shape(&answer, vendor.unwrap_or(Vendor::OpenAi));
        assert!(seen.is_empty(), "{ask:?}");
        assert_eq!(
            answer.header("allow"),
            (status == 405).then_some("POST"),
            "{ask:?}"
        );
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("HTTP/1.1"));
            let connection = answer.header("connection").unwrap_or_default();
            assert!(
                connection.eq_ignore_ascii_case("upgrade"),
                "RFC 9110 §7.8: they go together"
            );
        }
    }
}

#[test]
fn a_body_beyond_the_limit_is_refused_in_the_apis_shape() {
    for api in APIS {
        let mut config = config();
        config.limits.body = 1000;
        let body = format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(1000));
        let declared = Ask::with_body(api, false, &body).bytes();
        let chunked = format!(
            "POST {} HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            path(api),
            body.len()
        );
        for bytes in [&declared[..], &declared[..400], chunked.as_bytes()] {
            let (answer, closed, seen) = raw(config.clone(), bytes);
            assert_eq!((answer.status, closed), (413, true), "{answer:?}");
            assert_shape(&answer, api.vendor());
            assert!(seen.is_empty());
        }
    }
}

#[test]
fn background_requests_are_refused() {
    let ask = Ask::with_body(
        Api::Responses,
        false,
        r#"{"model":"m","background":true,"input":"x"}"#,
    );
    let (answer, _, seen) = raw(config(), &ask.bytes());
    assert_eq!(answer.status, 501);
    assert_eq!(
        answer.error_message(),
        "background requests are currently not supported"
    );
    assert!(seen.is_empty());
}

#[test]
fn a_draining_bridge_finishes_what_runs_and_takes_nothing_new() {
    let fixture = Fixture::named("messages/simple");
    let script = Script::in_order([fixture.reply(true).confirming()]);
    let mut sim = Sim::new(config(), &script);
    let (running, idle) = (sim.connect(), sim.connect());
    sim.send(running, fixture.ask(true).bytes());
    sim.settle();
    sim.drain();
    sim.settle();
    assert!(sim.is_over(idle), "an idle connection is closed");

    let late = sim.connect();
    sim.send(late, Ask::new(Api::Messages, false).bytes());
    let answer = sim.take_answer(late);
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_shape(&answer, Vendor::Anthropic);

    for _ in 0..100 {
        script.confirm();
    }
    assert_eq!(sim.take_answer(running).body, fixture.body(true));
    sim.settle();
    assert!(sim.is_over(running) && sim.is_over(late));
    assert_eq!(sim.open_connections(), 0, "nothing is parked any more");
    script.verify();
}

#[test]
fn passthrough_routes_are_relayed_with_a_pool_key() {
    for (method, path, upstream) in [
        ("GET", "/openai/v1/models", "/v1/models"),
        ("GET", "/openai/v1/models/gpt-5?x=1", "/v1/models/gpt-5?x=1"),
        (
            "DELETE",
            "/openai/v1/responses/resp_1",
            "/v1/responses/resp_1",
        ),
        ("POST", "/openai/v1/embeddings", "/v1/embeddings"),
        ("POST", "/openai/v1/files", "/v1/files"),
        (
            "GET",
            "/openai/v1/conversations/c/items",
            "/v1/conversations/c/items",
        ),
        (
            "POST",
            "/openai/v1/images/generations",
            "/v1/images/generations",
        ),
        ("POST", "/openai/v1/audio/speech", "/v1/audio/speech"),
        ("POST", "/openai/v1/moderations", "/v1/moderations"),
        ("GET", "/openai/v1/batches", "/v1/batches"),
        ("POST", "/openai/v1/completions", "/v1/completions"),
        ("GET", "/anthropic/v1/models", "/v1/models"),
        (
            "POST",
            "/anthropic/v1/messages/count_tokens",
            "/v1/messages/count_tokens",
        ),
        (
            "GET",
            "/anthropic/v1/messages/batches/b_1/results",
            "/v1/messages/batches/b_1/results",
        ),
        ("GET", "/anthropic/v1/files/f", "/v1/files/f"),
        (
            "POST",
            "/anthropic/api/event_logging/batch",
            "/api/event_logging/batch",
        ),
    ] {
        let mut ask = Ask::get(path);
        ask.method = method.parse().unwrap();
        if method == "POST" {
            ask.body = "not JSON, and nobody minds".into();
        }
        let script = Script::in_order([
            Reply::status(429).retry_after(9),
            Reply::json(200, "\x00binary").header("content-type", "application/octet-stream"),
        ]);
        let mut sim = Sim::new(config(), &script);
        let answer = sim.ask(&ask);
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, &b"\x00binary"[..]),
            "{path}"
        );
        let seen = script.verify();
        assert_eq!(
            (seen[1].path.as_str(), seen[1].key.as_str()),
            (upstream, KEYS[1])
        );
        assert_eq!(
            (seen[1].method.as_str(), &seen[1].body),
            (method, &ask.body),
            "{path}"
        );
        assert_eq!(sim.records.passthrough().len(), 1, "{path}");
        assert!(
            sim.records.all_ended().is_empty(),
            "{path}: counted, not stored"
        );
    }
}

#[test]
fn a_head_request_has_no_body() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-type: application/json\r\n\r\n";
    let script = Script::in_order([Reply::raw(&head[..]), ok()]);
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    let mut ask = Ask::get("/openai/v1/models");
    ask.method = http::Method::HEAD;
    sim.send(client, ask.bytes());
    sim.settle();
    assert!(
        sim.got(client).ends_with(b"\r\n\r\n"),
        "{:?}",
        sim.got(client)
    );
    assert_eq!(sim.records.passthrough().len(), 1);
    sim.send(client, Ask::get("/openai/v1/models").bytes());
    sim.settle();
    assert!(sim.got(client).ends_with(br#"{"id":"x"}"#));
    script.verify();
}

#[test]
fn interim_replies_of_upstream_are_not_mistaken_for_the_reply() {
    let bytes = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n",
        &ok().bytes()[..],
    ]
    .concat();
    let script = Script::in_order([Reply::raw(bytes).cut(aibridge_testkit::Cut::Every(3))]);
    let mut sim = Sim::new(config(), &script);
    assert_eq!(
        sim.ask(&Ask::new(Api::Messages, false)).text(),
        r#"{"id":"x"}"#
    );
    script.verify();
}
