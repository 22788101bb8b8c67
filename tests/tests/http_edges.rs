//! The bridge as an HTTP/1.1 server and client: framing, connections, refusals, headers.

use aibridge_core::{
    Duration,
    api::{Api, Vendor},
    config::Config,
    record::{CredentialKind, Outcome},
};
use aibridge_testkit::{
    APIS, Answer, Ask, Fixture, Reply, Script, Seen, Sim, path,
    setup::{self, KEYS},
};

fn config() -> Config {
    setup::config(&KEYS[..2])
}

fn ok() -> Reply {
    Reply::json(200, r#"{"id":"x"}"#)
}

fn always() -> Script {
    Script::choosing(|_| ok())
}

/// Sends these bytes on a connection of their own; the answer, and whether the bridge closed behind it.
fn raw(config: Config, bytes: &[u8]) -> (Answer, bool, Vec<Seen>) {
    let script = always();
    let mut sim = Sim::new(config, &script);
    let client = sim.connect();
    sim.send(client, bytes.to_vec());
    let answer = sim.take_answer(client);
    sim.settle();
    let closed = sim.is_closed(client);
    (answer, closed, script.verify())
}

/// One request and what upstream saw of it.
fn seen(config: Config, ask: &Ask) -> (Seen, Sim) {
    let script = Script::in_order([ok()]);
    let mut sim = Sim::new(config, &script);
    let answer = sim.ask(ask);
    assert_eq!(answer.status, 200, "{answer:?}");
    (script.verify().remove(0), sim)
}

#[track_caller]
fn assert_shape(answer: &Answer, vendor: Vendor) {
    let json = answer.json();
    assert!(json["error"]["message"].is_string(), "{answer:?}");
    match vendor {
        Vendor::Anthropic => {
            assert_eq!(json["type"], "error", "{answer:?}");
            assert_eq!(json["request_id"].as_str(), answer.header("x-aibridge-id"), "{answer:?}");
        }
        Vendor::OpenAi => {
            assert!(json.get("type").is_none(), "{answer:?}");
            assert!(json["error"].get("code").is_some(), "{answer:?}");
            assert!(json["error"]["param"].is_null(), "{answer:?}");
        }
    }
}

// --- connections --------------------------------------------------------------------------------------------

#[test]
fn pipelined_requests_are_answered_in_order() {
    let script = Script::choosing(|call| Reply::json(200, format!("\"{}\"", call.path)));
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    let (chat, models) = (Ask::new(Api::ChatCompletions, false), Ask::get("/openai/v1/models"));
    let all = [chat.bytes(), models.bytes(), chat.bytes(), Ask::get("/nowhere").bytes(), models.bytes()];
    sim.send(client, all.concat());
    sim.settle();
    let bodies: Vec<_> = sim.answers(client).iter().map(|a| (a.status, a.text().len())).collect();
    let (chat, models) = ("\"/v1/chat/completions\"".len(), "\"/v1/models\"".len());
    assert_eq!(bodies[..3], [(200, chat), (200, models), (200, chat)]);
    assert_eq!((bodies[3].0, bodies[4]), (404, (200, models)));
    assert!(!sim.is_closed(client));
    script.verify();
}

#[test]
fn a_connection_serves_one_request_after_another_and_so_does_upstreams() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    for api in APIS {
        assert_eq!(sim.ask_on(client, &Ask::new(api, false)).status, 200);
    }
    let other = sim.connect();
    sim.ask_on(other, &Ask::new(Api::Messages, false));
    let connections: Vec<_> = script.verify().iter().map(|call| call.connection).collect();
    assert_eq!(connections, [1; 4]);
    assert_eq!(sim.open_connections(), 1);
}

#[test]
fn an_idle_upstream_connection_is_closed_in_time() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.open_connections(), 1);
    sim.advance(Duration::from_secs(56));
    assert_eq!(sim.open_connections(), 0);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(script.verify()[1].connection, 2);
}

#[test]
fn an_idle_client_is_closed_in_time() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.ask_on(client, &Ask::new(Api::Messages, false));
    sim.advance(Duration::from_secs(119));
    assert!(!sim.is_closed(client));
    sim.advance(Duration::from_secs(2));
    assert!(sim.is_over(client));
    script.verify();
}

#[test]
fn a_client_that_never_hangs_up_is_let_go_anyway() {
    let script = always();
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.never_hangs_up(client);
    sim.send(client, "nonsense\r\n\r\n");
    sim.settle();
    assert!(sim.is_closed(client) && !sim.is_over(client));
    sim.advance(Duration::from_secs(5));
    assert!(sim.is_over(client));
    script.verify();
}

#[test]
fn a_reply_that_closes_upstreams_connection_is_no_trouble() {
    for closing in [ok().until_close(), ok().header("connection", "close")] {
        let script = Script::in_order([closing, ok()]);
        let mut sim = Sim::new(config(), &script);
        let client = sim.connect();
        for _ in 0..2 {
            assert_eq!(sim.ask_on(client, &Ask::new(Api::Messages, false)).text(), r#"{"id":"x"}"#);
        }
        assert_eq!(script.verify()[1].connection, 2);
    }
}

#[test]
fn a_dead_idle_connection_is_replaced_once_and_the_key_is_kept() {
    for dead in [Reply::hang_up(), Reply::reset()] {
        let script = Script::in_order([ok(), dead, ok()]);
        let mut sim = Sim::new(config(), &script);
        for _ in 0..2 {
            assert_eq!(sim.ask(&Ask::new(Api::ChatCompletions, true)).status, 200);
        }
        assert_eq!(sim.key_states("openai"), ["valid", "valid"]);
        let attempts: Vec<_> = sim.records.all_ended().iter().map(|ended| ended.attempts).collect();
        assert_eq!(attempts, [1, 1], "the dead connection does not count");
        let seen = script.verify();
        assert_eq!(seen.iter().map(|call| &*call.key).collect::<Vec<_>>(), [KEYS[0]; 3]);
        assert_eq!(seen.iter().map(|call| call.connection).collect::<Vec<_>>(), [1, 1, 2]);
    }
}

#[test]
fn a_fresh_connection_that_dies_is_not_tried_again() {
    let script = Script::in_order([ok(), Reply::hang_up(), Reply::hang_up()]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    let answer = sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!((answer.status, &*answer.error_type()), (502, "api_error"));
    script.verify();
}

#[test]
fn a_reused_connection_that_dies_within_the_reply_is_not_tried_again() {
    let script = Script::in_order([ok(), ok().reset_at(10)]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 502);
    script.verify();
}

#[test]
fn a_reused_connection_that_stays_silent_is_not_tried_again() {
    let script = Script::in_order([ok(), Reply::stall()]);
    let mut sim = Sim::new(config(), &script);
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(sim.ask(&Ask::new(Api::Messages, true)).status, 504);
    script.verify();
}

#[test]
fn stray_bytes_behind_a_reply_keep_the_connection_from_being_used_again() {
    let stray = [&ok().bytes()[..], b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"].concat();
    let script = Script::in_order([Reply::raw(stray), ok()]);
    let mut sim = Sim::new(config(), &script);
    for _ in 0..2 {
        assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).text(), r#"{"id":"x"}"#);
    }
    assert_eq!(script.verify()[1].connection, 2);
}

// --- the client leaves --------------------------------------------------------------------------------------

#[test]
fn a_client_that_leaves_before_the_head_aborts_upstream() {
    for api in APIS {
        for streaming in [false, true] {
            for reset in [false, true] {
                let script = Script::in_order([Reply::stall()]);
                let mut sim = Sim::new(config(), &script);
                let client = sim.connect();
                sim.send(client, Ask::new(api, streaming).bytes());
                sim.advance(Duration::from_secs(1));
                assert_eq!(sim.open_connections(), 1);
                if reset {
                    sim.reset(client);
                } else {
                    sim.end(client);
                }
                sim.settle();
                assert_eq!(sim.open_connections(), 0, "at once");
                assert!(sim.is_over(client));
                let ended = sim.records.ended();
                assert_eq!((ended.outcome, ended.status), (Outcome::Cancelled, None));
                script.verify();
            }
        }
    }
}

#[test]
fn a_client_that_leaves_mid_stream_aborts_upstream() {
    for api in APIS {
        let fixture = Fixture::all().into_iter().find(|f| f.api == api && f.name.ends_with("/simple"));
        let fixture = fixture.unwrap();
        let script = Script::in_order([fixture.reply(true).confirming()]);
        let mut sim = Sim::new(config(), &script);
        let client = sim.connect();
        sim.send(client, fixture.ask(true).bytes());
        sim.settle();
        assert_eq!(sim.answer(client).unwrap().status, 200);
        sim.end(client);
        sim.settle();
        assert_eq!(sim.open_connections(), 0);
        let ended = sim.records.ended();
        assert_eq!((ended.outcome, ended.status), (Outcome::Cancelled, Some(200)));
        script.verify();
    }
}

#[test]
fn a_client_that_leaves_within_its_request_causes_nothing() {
    let bytes = Ask::new(Api::Messages, false).bytes();
    for at in 0..bytes.len() {
        let script = Script::in_order([]);
        let mut sim = Sim::new(config(), &script).quiet();
        let client = sim.connect();
        sim.send(client, bytes.slice(..at));
        sim.end(client);
        sim.settle();
        assert!(sim.is_over(client), "at {at}");
        assert!(sim.records.0.is_empty(), "at {at}");
        script.verify();
    }
}

// --- requests -----------------------------------------------------------------------------------------------

#[test]
fn expect_100_continue_is_answered_before_the_body_comes() {
    let ask = Ask::new(Api::Messages, false).header("expect", "100-continue");
    let bytes = ask.bytes();
    let head = bytes.len() - ask.body.len();
    let script = Script::in_order([ok()]);
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.send(client, bytes.slice(..head));
    sim.settle();
    assert_eq!(sim.got(client), b"HTTP/1.1 100 Continue\r\n\r\n");
    sim.send(client, bytes.slice(head..));
    assert_eq!(sim.take_answer(client).status, 200);
    let seen = script.verify().remove(0);
    assert_eq!(seen.header("expect"), "", "not passed on");
}

#[test]
fn a_refusal_comes_instead_of_100_continue() {
    let ask = Ask::post("/nowhere", "{}").header("expect", "100-continue");
    let bytes = ask.bytes();
    let (answer, closed, _) = raw(config(), &bytes[..bytes.len() - 2]);
    assert_eq!((answer.status, closed), (404, true));
}

#[test]
fn a_chunked_request_reaches_upstream_with_a_length() {
    let head = "POST /openai/v1/responses HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = r#"{"model":"m","input":"hi"}"#;
    let chunked = format!("{head}5;x=y\r\n{}\r\n{:x}\r\n{}\r\n0\r\nTrailer: t\r\n\r\n", &body[..5], body.len() - 5, &body[5..]);
    let (answer, closed, seen) = raw(config(), chunked.as_bytes());
    assert_eq!((answer.status, closed), (200, false));
    assert_eq!(seen[0].body, body);
    assert_eq!(seen[0].header("content-length"), body.len().to_string());
    assert_eq!(seen[0].header("transfer-encoding"), "");
    assert_eq!(seen[0].header("trailer"), "");
}

#[test]
fn an_http_1_0_client_gets_its_reply_until_the_end() {
    let fixture = Fixture::named("messages/simple");
    let body = fixture.ask(true).body;
    let head = format!("POST /anthropic/v1/messages HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    let script = Script::in_order([fixture.reply(true)]);
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    sim.send(client, [head.as_bytes(), &body].concat());
    let answer = sim.take_answer(client);
    assert!(sim.is_closed(client));
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(answer.body, fixture.body(true));
    script.verify();
}

#[test]
fn connection_close_is_honoured() {
    let ask = Ask::get("/openai/v1/models").header("connection", "close");
    let (answer, closed, seen) = raw(config(), &ask.bytes());
    assert_eq!((answer.status, closed), (200, true));
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(seen[0].header("connection"), "");
}

#[test]
fn what_is_no_request_is_refused_with_its_status() {
    let long = "x".repeat(9000);
    let many: String = (0..200).map(|n| format!("h{n}: v\r\n")).collect();
    let big = format!("big: {}\r\n", "x".repeat(70_000));
    let get = |fields: &str| format!("GET /openai/v1/models HTTP/1.1\r\nHost: b\r\n{fields}\r\n");
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        ("\x16\x03\x01\x02\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
        (format!("GET /{long} HTTP/1.1\r\nHost: b\r\n\r\n"), 414),
        (get(&many), 431),
        (get(&big), 431),
        (get("bad header: v\r\n"), 400),
        (get("no-colon\r\n"), 400),
        (get("nul: a\0b\r\n"), 400),
        ("GET /openai/v1/models HTTP/1.1\r\n\r\n".to_owned(), 400),
        (get("Host: c\r\n"), 400),
    ] {
        let (answer, closed, seen) = raw(config(), request.as_bytes());
        let shown: String = request.chars().take(80).collect();
        assert_eq!((answer.status, closed), (status, true), "{shown:?}");
        assert!(answer.json()["error"]["message"].is_string(), "{shown:?}");
        assert!(seen.is_empty(), "{shown:?}");
    }
}

/// Shapes by which two parsers can be made to see different requests (RFC 9112 §11.2).
#[test]
fn smuggling_shapes_are_refused_and_the_connection_ends() {
    let body = r#"{"model":"m","input":"hi"}"#;
    let smuggled = "GET /openai/v1/models HTTP/1.1\r\nHost: b\r\n\r\n";
    let n = body.len();
    for (what, fields, body) in [
        ("both framings", format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"), body),
        ("two lengths", format!("Content-Length: {n}\r\nContent-Length: 0\r\n"), body),
        ("a list of lengths", format!("Content-Length: {n}, 0\r\n"), body),
        ("a signed length", format!("Content-Length: +{n}\r\n"), body),
        ("a negative length", "Content-Length: -1\r\n".to_owned(), body),
        ("a hexadecimal length", "Content-Length: 0x1a\r\n".to_owned(), body),
        ("a huge length", "Content-Length: 99999999999999999999999\r\n".to_owned(), body),
        ("an empty length", "Content-Length: \r\n".to_owned(), body),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".to_owned(), body),
        ("a coding behind chunked", "Transfer-Encoding: chunked, gzip\r\n".to_owned(), body),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a bare CR", "X: a\rTransfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("no chunk size", "Transfer-Encoding: chunked\r\n".to_owned(), "\r\n\r\n"),
        ("a prefixed chunk size", "Transfer-Encoding: chunked\r\n".to_owned(), "0x1\r\na\r\n0\r\n\r\n"),
        ("a signed chunk size", "Transfer-Encoding: chunked\r\n".to_owned(), "+1\r\na\r\n0\r\n\r\n"),
        ("a huge chunk size", "Transfer-Encoding: chunked\r\n".to_owned(), "fffffffffffffffff\r\na\r\n0\r\n\r\n"),
        ("no CRLF behind a chunk", "Transfer-Encoding: chunked\r\n".to_owned(), "1\r\naX\r\n0\r\n\r\n"),
        ("LF in a chunk line", "Transfer-Encoding: chunked\r\n".to_owned(), "1\na\n0\n\n"),
    ] {
        let request = format!("POST /openai/v1/responses HTTP/1.1\r\nHost: b\r\n{fields}\r\n{body}{smuggled}");
        let (answer, closed, seen) = raw(config(), request.as_bytes());
        assert!(closed, "{what}");
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(seen.is_empty(), "{what}: {seen:?}");
    }
}

#[test]
fn a_chunked_body_of_http_1_0_is_refused() {
    let request = "POST /openai/v1/responses HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (answer, closed, _) = raw(config(), request.as_bytes());
    assert_eq!((answer.status, closed), (400, true));
}

#[test]
fn a_request_that_dribbles_is_given_up() {
    let script = Script::in_order([]);
    let mut sim = Sim::new(config(), &script);
    let client = sim.connect();
    let bytes = Ask::new(Api::Messages, false).bytes();
    for at in 0..31 {
        sim.send(client, bytes.slice(at..=at));
        sim.advance(Duration::from_secs(1));
    }
    assert_eq!(sim.answer(client).unwrap().status, 408);
    assert!(sim.is_closed(client));
    script.verify();
}

// --- routes -------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_served_is_refused_in_the_apis_shape() {
    let upgrade = |path: &str| {
        let ask = Ask::get(path).header("connection", "Upgrade").header("upgrade", "websocket");
        ask.header("sec-websocket-key", "x").header("sec-websocket-version", "13")
    };
    let (anthropic, openai) = (Some(Vendor::Anthropic), Some(Vendor::OpenAi));
    for (ask, status, vendor) in [
        (Ask::get("/"), 404, None),
        (Ask::get("/nobody/v1/models"), 404, None),
        (Ask::get("/anthropic/v1/nothing"), 404, anthropic),
        (Ask::post("/anthropic/v1/chat/completions", "{}"), 404, anthropic),
        (Ask::get("/openai/v1/nothing"), 404, openai),
        (Ask::post("/openai/responses", "{}"), 404, openai),
        (Ask::get("/openai/v1/../../etc/passwd"), 400, None),
        (Ask::get("/openai/v1/models/%2e%2e/x"), 400, None),
        (Ask::get("/openai%2Fv1/models"), 400, None),
        (Ask::get("http://elsewhere.test/openai/v1/models"), 400, None),
        (Ask::get(path(Api::Messages)), 405, anthropic),
        (Ask::get(path(Api::ChatCompletions)), 405, openai),
        (upgrade(path(Api::Responses)), 426, openai),
        (upgrade(path(Api::Messages)), 426, anthropic),
    ] {
        let (answer, _, seen) = raw(config(), &ask.bytes());
        assert_eq!(answer.status, status, "{ask:?}");
        assert_shape(&answer, vendor.unwrap_or(Vendor::OpenAi));
        assert!(seen.is_empty(), "{ask:?}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"), "{ask:?}");
        if status == 426 {
            assert_eq!(answer.header("upgrade"), Some("HTTP/1.1"));
            let connection = answer.header("connection").unwrap_or_default();
            assert!(connection.eq_ignore_ascii_case("upgrade"), "RFC 9110 §7.8: they go together");
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
    let ask = Ask::with_body(Api::Responses, false, r#"{"model":"m","background":true,"input":"x"}"#);
    let (answer, _, seen) = raw(config(), &ask.bytes());
    assert_eq!(answer.status, 501);
    assert_eq!(answer.error_message(), "background requests are currently not supported");
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

// --- who is calling -----------------------------------------------------------------------------------------

#[test]
fn a_client_that_brings_its_key_has_it_forwarded_as_it_came() {
    for (name, value) in [("x-api-key", "sk-own-key-1"), ("authorization", "Bearer sk-own-key-1"), ("authorization", "bearer   sk-own-key-1")] {
        for api in APIS {
            let (call, sim) = seen(config(), &Ask::new(api, false).header(name, value));
            assert_eq!(call.key, "sk-own-key-1", "{name}");
            let other = if name == "x-api-key" { "authorization" } else { "x-api-key" };
            assert_eq!(call.headers.get(other), None, "{name}");
            assert_eq!(sim.records.started()[0].credential_kind, CredentialKind::Byok);
            assert_eq!(&*sim.records.ended().credential_hint, "sk...-1");
        }
    }
}

#[test]
fn the_placeholder_and_no_credential_use_the_pool() {
    for api in APIS {
        for ask in [Ask::new(api, false), Ask::new(api, false).key(api, "aibridge")] {
            let (call, sim) = seen(config(), &ask);
            assert_eq!(call.key, KEYS[0]);
            let (own, other) = match api.vendor() {
                Vendor::Anthropic => ("x-api-key", "authorization"),
                Vendor::OpenAi => ("authorization", "x-api-key"),
            };
            assert!(call.headers.contains_key(own) && !call.headers.contains_key(other));
            let started = sim.records.started()[0];
            assert_eq!((started.credential_kind, &*started.actor), (CredentialKind::Centralized, "local"));
        }
    }
}

#[test]
fn with_clients_configured_a_token_is_required() {
    let config = || setup::with_client(config(), "alice", "alice-token");
    for api in APIS {
        for ask in [
            Ask::new(api, false),
            Ask::new(api, false).key(api, "aibridge"),
            Ask::new(api, false).key(api, "alice-tokem"),
            Ask::new(api, false).header("x-aibridge-token", "wrong"),
        ] {
            let (answer, _, seen) = raw(config(), &ask.bytes());
            assert_eq!(answer.status, 401, "{ask:?}");
            assert_shape(&answer, api.vendor());
            match api.vendor() {
                Vendor::Anthropic => assert_eq!(answer.error_type(), "authentication_error"),
                Vendor::OpenAi => assert_eq!(answer.json()["error"]["code"], "invalid_api_key"),
            }
            assert!(seen.is_empty());
        }
        for ask in [
            Ask::new(api, false).header("x-aibridge-token", "alice-token"),
            Ask::new(api, false).header("x-api-key", "alice-token"),
            Ask::new(api, false).header("authorization", "Bearer alice-token"),
        ] {
            let (call, sim) = seen(config(), &ask);
            assert_eq!(call.key, KEYS[0], "{ask:?}");
            assert_eq!(call.headers.get("x-aibridge-token"), None);
            assert_eq!(&*sim.records.started()[0].actor, "alice");
        }
        let both = Ask::new(api, false).header("x-aibridge-token", "alice-token").key(api, "own-key-of-hers");
        let (call, sim) = seen(config(), &both);
        assert_eq!(call.key, "own-key-of-hers");
        assert_eq!(sim.records.started()[0].credential_kind, CredentialKind::Byok);
        assert_eq!(&*sim.records.started()[0].actor, "alice");
    }
}

#[test]
fn a_provider_may_refuse_keys_of_clients() {
    for api in APIS {
        let config = setup::with_providers(config(), |provider| provider.byok = false);
        let ask = Ask::new(api, false).key(api, "own-key");
        let (answer, _, seen) = raw(config, &ask.bytes());
        assert_eq!(answer.status, 403);
        assert_shape(&answer, api.vendor());
        assert!(seen.is_empty());
    }
}

#[test]
fn a_provider_without_keys_says_so() {
    for api in APIS {
        let (answer, _, seen) = raw(setup::config(&[]), &Ask::new(api, false).bytes());
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_shape(&answer, api.vendor());
        assert!(seen.is_empty());
    }
}

// --- headers ------------------------------------------------------------------------------------------------

#[test]
fn what_a_client_says_to_its_provider_is_passed_on() {
    let ask = Ask::post("/anthropic/v1/messages?beta=true", r#"{"model":"m"}"#)
        .header("anthropic-version", "2024-01-01")
        .header("anthropic-beta", "one,two")
        .header("anthropic-beta", "three")
        .header("user-agent", "claude-cli/2.0")
        .header("accept-encoding", "gzip, br")
        .header("te", "trailers")
        .header("keep-alive", "timeout=5")
        .header("x-hop", "1")
        .header("connection", "keep-alive, x-hop");
    let (call, _) = seen(config(), &ask);
    assert_eq!(call.path, "/v1/messages?beta=true");
    assert_eq!(call.header("anthropic-version"), "2024-01-01");
    let betas: Vec<_> = call.headers.get_all("anthropic-beta").iter().collect();
    assert_eq!(betas, ["one,two", "three"]);
    assert_eq!(call.header("user-agent"), "claude-cli/2.0");
    assert_eq!(call.header("accept-encoding"), "identity");
    for hop in ["te", "keep-alive", "x-hop", "connection"] {
        assert_eq!(call.headers.get(hop), None, "{hop}");
    }
}

#[test]
fn what_a_client_leaves_out_is_added() {
    let bare = "POST /anthropic/v1/messages HTTP/1.1\r\nHost: b\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}";
    let (_, _, calls) = raw(config(), bare.as_bytes());
    assert_eq!(calls[0].header("anthropic-version"), "2023-06-01");
    assert_eq!(calls[0].header("content-type"), "application/json");
}

#[test]
fn the_actor_is_told_only_where_configured() {
    let config = setup::with_client(config(), "alice", "alice-token");
    let ask = Ask::new(Api::Messages, false).header("x-api-key", "alice-token");
    let (call, _) = seen(config.clone(), &ask);
    assert_eq!(call.headers.get("x-ai-bridge-actor-id"), None);
    let config = setup::with_providers(config, |provider| provider.send_actor = true);
    let (call, _) = seen(config, &ask);
    assert_eq!(call.header("x-ai-bridge-actor-id"), "alice");
}

#[test]
fn upstreams_header_fields_reach_the_client() {
    let told = [
        ("request-id", "req_1"),
        ("x-request-id", "req_2"),
        ("anthropic-ratelimit-requests-remaining", "41"),
        ("x-ratelimit-remaining-tokens", "1000"),
        ("openai-processing-ms", "312"),
        ("retry-after", "7"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    for api in APIS {
        for status in [200, 400, 500] {
            let mut reply = ok().with_status(status);
            for (name, value) in told {
                reply = reply.header(name, value);
            }
            reply = reply.header("set-cookie", "a=b").header("keep-alive", "timeout=5").header("x-hop", "1").header("connection", "keep-alive, x-hop");
            let script = Script::in_order([reply]);
            let mut sim = Sim::new(config(), &script);
            let answer = sim.ask(&Ask::new(api, false));
            for (name, value) in told {
                assert_eq!(answer.header(name), Some(value));
            }
            for gone in ["set-cookie", "keep-alive", "x-hop"] {
                assert_eq!(answer.header(gone), None, "{gone}");
            }
            script.verify();
        }
    }
}

#[test]
fn every_bridged_reply_names_its_record() {
    for api in APIS {
        for (reply, streaming) in [(ok(), false), (Reply::sse("data: x\n\n"), true), (Reply::status(500), false), (Reply::refuse(), true)] {
            let script = Script::in_order([reply.header("x-aibridge-id", "forged")]);
            let mut sim = Sim::new(config(), &script);
            let answer = sim.ask(&Ask::new(api, streaming));
            let ids: Vec<_> = sim.records.0.iter().filter_map(|record| match record {
                aibridge_core::record::Record::Ended(id, _) => Some(id.to_string()),
                _ => None,
            }).collect();
            assert_eq!(answer.header("x-aibridge-id"), Some(&*ids[0]));
            let named = answer.headers.iter().filter(|(name, _)| name == "x-aibridge-id");
            assert_eq!(named.count(), 1);
            script.verify();
        }
    }
}

// --- passthrough --------------------------------------------------------------------------------------------

#[test]
fn passthrough_routes_are_relayed_with_a_pool_key() {
    for (method, path, upstream) in [
        ("GET", "/openai/v1/models", "/v1/models"),
        ("GET", "/openai/v1/models/gpt-5?x=1", "/v1/models/gpt-5?x=1"),
        ("DELETE", "/openai/v1/responses/resp_1", "/v1/responses/resp_1"),
        ("POST", "/openai/v1/embeddings", "/v1/embeddings"),
        ("POST", "/openai/v1/files", "/v1/files"),
        ("GET", "/openai/v1/conversations/c/items", "/v1/conversations/c/items"),
        ("POST", "/openai/v1/images/generations", "/v1/images/generations"),
        ("POST", "/openai/v1/audio/speech", "/v1/audio/speech"),
        ("POST", "/openai/v1/moderations", "/v1/moderations"),
        ("GET", "/openai/v1/batches", "/v1/batches"),
        ("POST", "/openai/v1/completions", "/v1/completions"),
        ("GET", "/anthropic/v1/models", "/v1/models"),
        ("POST", "/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("GET", "/anthropic/v1/messages/batches/b_1/results", "/v1/messages/batches/b_1/results"),
        ("GET", "/anthropic/v1/files/f", "/v1/files/f"),
        ("POST", "/anthropic/api/event_logging/batch", "/api/event_logging/batch"),
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
        assert_eq!((answer.status, &answer.body[..]), (200, &b"\x00binary"[..]), "{path}");
        let seen = script.verify();
        assert_eq!((seen[1].path.as_str(), seen[1].key.as_str()), (upstream, KEYS[1]));
        assert_eq!((seen[1].method.as_str(), &seen[1].body), (method, &ask.body), "{path}");
        assert_eq!(sim.records.passthrough().len(), 1, "{path}");
        assert!(sim.records.all_ended().is_empty(), "{path}: counted, not stored");
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
    assert!(sim.got(client).ends_with(b"\r\n\r\n"), "{:?}", sim.got(client));
    assert_eq!(sim.records.passthrough().len(), 1);
    sim.send(client, Ask::get("/openai/v1/models").bytes());
    sim.settle();
    assert!(sim.got(client).ends_with(br#"{"id":"x"}"#));
    script.verify();
}

#[test]
fn interim_replies_of_upstream_are_not_mistaken_for_the_reply() {
    let bytes = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", &ok().bytes()[..]].concat();
    let script = Script::in_order([Reply::raw(bytes).cut(aibridge_testkit::Cut::Every(3))]);
    let mut sim = Sim::new(config(), &script);
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).text(), r#"{"id":"x"}"#);
    script.verify();
}
