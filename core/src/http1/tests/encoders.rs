//! Both encoders, to the byte.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::*;
use crate::http1::{BodyLength, server::Encoder, strip_hop_by_hop};

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

/// The whole response with the body "hello" in two pieces, and whether the connection closes.
fn response(
    version: Version,
    method: &Method,
    status: u16,
    length: BodyLength,
    close: bool,
) -> (String, bool) {
    let mut encoder = Encoder::new(version, method);
    let status = StatusCode::from_u16(status).unwrap();
    let mut out = text(encoder.head(status, &headers(&[("x", "y")]), length, close));
    for piece in [&b"hel"[..], b"", b"lo"] {
        out += &text(encoder.body(Bytes::from_static(piece)));
    }
    out += &text(encoder.end());
    assert_eq!(text(encoder.end()), "", "ending twice writes nothing");
    assert_eq!(text(encoder.body(Bytes::from_static(b"late"))), "");
    (out, encoder.closes())
}

#[test]
fn responses_are_framed_by_version_method_and_status() {
    use BodyLength::*;
    const NEW: Version = Version::HTTP_11;
    const OLD: Version = Version::HTTP_10;
    let (get, head) = (&Method::GET, &Method::HEAD);
    for (version, method, status, length, close, expected, closes) in [
        (
            NEW,
            get,
            200,
            Known(5),
            false,
            "200 OK|x: y|content-length: 5||hello",
            false,
        ),
        (
            NEW,
            get,
            200,
            Known(5),
            true,
            "200 OK|x: y|content-length: 5|connection: close||hello",
            true,
        ),
        (
            NEW,
            get,
            200,
            Known(0),
            false,
            "200 OK|x: y|content-length: 0||",
            false,
        ),
        (
            NEW,
            get,
            200,
            Chunked,
            false,
            "200 OK|x: y|transfer-encoding: chunked||3|hel|2|lo|0||",
            false,
        ),
        (
            NEW,
            get,
            200,
            UntilClose,
            false,
            "200 OK|x: y|connection: close||hello",
            true,
        ),
        (
            NEW,
            get,
            204,
            Known(0),
            false,
            "204 No Content|x: y||",
            false,
        ),
        (
            NEW,
            get,
            204,
            Chunked,
            false,
            "204 No Content|x: y||",
            false,
        ),
        (
            NEW,
            get,
            304,
            Known(5),
            false,
            "304 Not Modified|x: y||",
            false,
        ),
        (
            NEW,
            get,
            304,
            UntilClose,
            false,
            "304 Not Modified|x: y||",
            false,
        ),
        (
            NEW,
            head,
            200,
            Known(5),
            false,
            "200 OK|x: y|content-length: 5||",
            false,
        ),
        (
            NEW,
            head,
            200,
            Chunked,
            false,
            "200 OK|x: y|transfer-encoding: chunked||",
            false,
        ),
        (NEW, head, 200, UntilClose, false, "200 OK|x: y||", false),
        (
            NEW,
            get,
            529,
            Known(5),
            false,
            "529 |x: y|content-length: 5||hello",
            false,
        ),
        (
            OLD,
            get,
            200,
            Chunked,
            false,
            "200 OK|x: y|connection: close||hello",
            true,
        ),
        (
            OLD,
            get,
            200,
            Known(5),
            false,
            "200 OK|x: y|content-length: 5|connection: keep-alive||hello",
            false,
        ),
        (
            OLD,
            get,
            200,
            Known(5),
            true,
            "200 OK|x: y|content-length: 5|connection: close||hello",
            true,
        ),
        (
            OLD,
            head,
            200,
            Chunked,
            true,
            "200 OK|x: y|connection: close||",
            true,
        ),
    ] {
        let expected = format!("HTTP/1.1 {}", expected.replace('|', "\r\n"));
        let got = response(version, method, status, length, close);
        assert_eq!(
            got,
            (expected, closes),
            "{version:?} {method} {status} {length:?} {close}"
        );
    }
}

#[test]
fn never_writes_more_than_the_known_length() {
    let (out, closes) = response(
        Version::HTTP_11,
        &Method::GET,
        200,
        BodyLength::Known(4),
        false,
    );
    assert!(out.ends_with("\r\n\r\nhell"), "{out}");
    assert!(!closes);
}

#[test]
fn closes_when_less_came_than_the_known_length() {
    let (_, closes) = response(
        Version::HTTP_11,
        &Method::GET,
        200,
        BodyLength::Known(6),
        false,
    );
    assert!(closes);
}

#[test]
fn an_upgrade_offer_is_named_in_connection() {
    let mut encoder = Encoder::new(Version::HTTP_11, &Method::GET);
    let offer = headers(&[("upgrade", "HTTP/1.1")]);
    let status = StatusCode::UPGRADE_REQUIRED;
    let head = text(encoder.head(status, &offer, BodyLength::Known(0), true));
    assert!(
        head.contains("\r\nconnection: upgrade, close\r\n"),
        "{head}"
    );
}

#[test]
fn a_message_is_never_framed_twice() {
    let fields = headers(&[
        ("content-length", "7"),
        ("transfer-encoding", "chunked"),
        ("connection", "x"),
        ("host", "b"),
    ]);
    let mut encoder = Encoder::new(Version::HTTP_11, &Method::GET);
    assert_eq!(
        text(encoder.head(StatusCode::OK, &fields, BodyLength::Known(1), false)),
        "HTTP/1.1 200 OK\r\nhost: b\r\ncontent-length: 1\r\n\r\n"
    );
    assert_eq!(
        text(client::encode_head(
            &Method::POST,
            "/",
            "a",
            &fields,
            &[],
            1
        )),
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n"
    );
}

#[test]
fn requests_have_a_length_where_one_is_expected() {
    for (method, len, expected) in [
        (Method::GET, 0, None),
        (Method::DELETE, 0, None),
        (Method::GET, 3, Some(3)),
        (Method::POST, 0, Some(0)),
        (Method::PUT, 0, Some(0)),
        (Method::PATCH, 0, Some(0)),
        (Method::POST, u64::MAX, Some(u64::MAX)),
    ] {
        let head = text(client::encode_head(
            &method,
            "/",
            "a",
            &HeaderMap::new(),
            &[],
            len,
        ));
        let expected = expected.map(|n: u64| format!("\r\ncontent-length: {n}\r\n\r\n"));
        match expected {
            Some(field) => assert!(head.ends_with(&field), "{head:?}"),
            None => assert_eq!(head, format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")),
        }
    }
}

#[test]
fn a_credential_is_written_only_from_the_extra_fields() {
    let fields = headers(&[
        ("authorization", "Bearer leaked"),
        ("x-api-key", "leaked"),
        ("cookie", "leaked"),
        ("x-aibridge-token", "leaked"),
        ("accept", "*/*"),
    ]);
    let extra = [(
        HeaderName::from_static("x-api-key"),
        HeaderValue::from_static("k0"),
    )];
    assert_eq!(
        text(client::encode_head(
            &Method::GET,
            "/",
            "a",
            &fields,
            &extra,
            0
        )),
        "GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\nx-api-key: k0\r\n\r\n"
    );
}

#[test]
fn a_target_cannot_break_the_request_line() {
    let head = client::encode_head(
        &Method::GET,
        "/ HTTP/1.1\r\nx: y",
        "a\r\nb",
        &HeaderMap::new(),
        &[],
        0,
    );
    assert_eq!(text(head), "GET /HTTP/1.1x:y HTTP/1.1\r\nhost: ab\r\n\r\n");
}

#[test]
fn values_are_written_as_the_bytes_they_are() {
    let value = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let extra = [(HeaderName::from_static("x"), value)];
    let mut frame = client::encode_head(&Method::GET, "/", "a", &HeaderMap::new(), &extra, 0);
    let bytes = frame.copy_to_bytes(frame.remaining());
    assert!(bytes.ends_with(b"\r\nx: caf\xe9\r\n\r\n"));
}

#[test]
fn strips_fields_that_end_at_this_hop() {
    let mut fields = headers(&[
        ("connection", "close, X-Hop, host, content-length"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "x"),
        ("proxy-authorization", "x"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("host", "a"),
        ("content-length", "1"),
        ("accept", "*/*"),
    ]);
    fields.append("connection", HeaderValue::from_static("x-other,, (bad)"));
    strip_hop_by_hop(&mut fields, |_| false);
    let mut kept: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["accept", "content-length", "host"]);
}
