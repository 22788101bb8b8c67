//! The bridge as an HTTP/1.1 server: framing, and what is refused before it becomes a request.

use aibridge_core::{Duration, api::Api};
use aibridge_testkit::{
    Ask, Fixture, Reply, Script, Sim,
    setup::{ok, raw, two_keys as config},
};

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
    let head =
        "POST /openai/v1/responses HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = r#"{"model":"m","input":"hi"}"#;
    let chunked = format!(
        "{head}5;x=y\r\n{}\r\n{:x}\r\n{}\r\n0\r\nTrailer: t\r\n\r\n",
        &body[..5],
        body.len() - 5,
        &body[5..]
    );
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
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
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
fn a_reply_that_breaks_off_does_not_look_complete_to_an_http_1_0_client() {
    let fixture = Fixture::named("messages/simple");
    let body = fixture.ask(false).body;
    let head = format!(
        "POST /anthropic/v1/messages HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for (route, request) in [
        ("bridged", [head.as_bytes(), &body].concat()),
        ("passed", b"GET /openai/v1/models HTTP/1.0\r\n\r\n".to_vec()),
    ] {
        let whole = Reply::sse(r#"{"data":[{"id":"a"},{"id":"b"}]"#)
            .header("content-type", "application/json");
        let reply = whole.clone().end_at(whole.bytes().len() - 5);
        let script = Script::in_order([reply]);
        let mut sim = Sim::new(config(), &script);
        let client = sim.connect();
        sim.send(client, request);
        sim.settle();
        assert!(
            sim.got(client).ends_with(b"]"),
            "{route}: what came is relayed"
        );
        assert!(sim.is_closed(client) && sim.was_reset(client), "{route}");
        script.verify();
    }
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
    let many = "h: v\r\n".repeat(200);
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
        (
            "both framings",
            format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"),
            body,
        ),
        (
            "two lengths",
            format!("Content-Length: {n}\r\nContent-Length: 0\r\n"),
            body,
        ),
        (
            "a list of lengths",
            format!("Content-Length: {n}, 0\r\n"),
            body,
        ),
        ("a signed length", format!("Content-Length: +{n}\r\n"), body),
        (
            "a negative length",
            "Content-Length: -1\r\n".to_owned(),
            body,
        ),
        (
            "a hexadecimal length",
            "Content-Length: 0x1a\r\n".to_owned(),
            body,
        ),
        (
            "a huge length",
            "Content-Length: 99999999999999999999999\r\n".to_owned(),
            body,
        ),
        ("an empty length", "Content-Length: \r\n".to_owned(), body),
        (
            "an unknown coding",
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            body,
        ),
        (
            "a coding behind chunked",
            "Transfer-Encoding: chunked, gzip\r\n".to_owned(),
            body,
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
            "0\r\n\r\n",
        ),
        (
            "a folded coding",
            "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
            "0\r\n\r\n",
        ),
        (
            "a space before the colon",
            "Transfer-Encoding : chunked\r\n".to_owned(),
            "0\r\n\r\n",
        ),
        (
            "a bare CR",
            "X: a\rTransfer-Encoding: chunked\r\n".to_owned(),
            "0\r\n\r\n",
        ),
        (
            "a vertical tab",
            "Transfer-Encoding: \x0bchunked\r\n".to_owned(),
            "0\r\n\r\n",
        ),
        (
            "no chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "\r\n\r\n",
        ),
        (
            "a prefixed chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "0x1\r\na\r\n0\r\n\r\n",
        ),
        (
            "a signed chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "+1\r\na\r\n0\r\n\r\n",
        ),
        (
            "a huge chunk size",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "fffffffffffffffff\r\na\r\n0\r\n\r\n",
        ),
        (
            "no CRLF behind a chunk",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "1\r\naX\r\n0\r\n\r\n",
        ),
        (
            "LF in a chunk line",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "1\na\n0\n\n",
        ),
    ] {
        let request = format!(
            "POST /openai/v1/responses HTTP/1.1\r\nHost: b\r\n{fields}\r\n{body}{smuggled}"
        );
        let (answer, closed, seen) = raw(config(), request.as_bytes());
        assert!(closed, "{what}");
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(seen.is_empty(), "{what}: {seen:?}");
    }
}

#[test]
fn a_chunked_body_of_http_1_0_is_refused() {
    let request =
        "POST /openai/v1/responses HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
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
