//! The client's decoder, case by case.

use http::{StatusCode, Version};

use super::*;
use crate::http1::{BodyLength, Error::*};

fn decode(method: &Method, input: &str, ends: bool) -> (Outcome, bool) {
    decode_response(&Limits::default(), method, [input.as_bytes()], ends)
}

#[test]
fn refuses_malformed_responses() {
    for (input, error) in [
        ("\x15\x03\x01", StartLine),
        ("SSH-2.0-x\r\n", StartLine),
        ("HTTP/", Incomplete),
        ("", Incomplete),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 20 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 099 x\r\n\r\n", StartLine),
        ("HTTP/1.1  200 OK\r\n\r\n", StartLine),
        ("HTTP/1.1\r\n\r\n", StartLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Version),
        ("HTTP/2 200 OK\r\n\r\n", StartLine),
        ("HTTP/1.1 200 O\x00K\r\n\r\n", StartLine),
        ("HTTP/1.1 200 OK\n\n", LineEnd),
        ("HTTP/1.1 200 OK\r\nx : y\r\n\r\n", FieldName),
        ("HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n", FieldName),
        ("HTTP/1.1 200 OK\r\nx: y\x01\r\n\r\n", FieldValue),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            LengthAndCoding,
        ),
        (
            "HTTP/1.1 204 x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            LengthAndCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n",
            ContentLength,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            UnknownCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
            ChunkedNotLast,
        ),
        (
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            CodingInHttp10,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
            SwitchedProtocols,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello",
            ChunkSize,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            Incomplete,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            Incomplete,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
            Incomplete,
        ),
    ] {
        let (outcome, reusable) = decode(&Method::GET, input, true);
        assert_eq!(outcome.error, Some(error), "{input:?}");
        assert!(!reusable, "{input:?}");
    }
}

#[test]
fn bodies_end_where_the_framing_says() {
    let (get, head, connect) = (&Method::GET, &Method::HEAD, &Method::CONNECT);
    for (method, input, ends, body, reusable) in [
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            false,
            "hello",
            true,
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            true,
            "hello",
            false,
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello!",
            false,
            "hello",
            false,
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            false,
            "",
            true,
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            false,
            "hi",
            true,
        ),
        (
            get,
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
            false,
            "hi",
            false,
        ),
        (
            get,
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            false,
            "hi",
            false,
        ),
        (
            get,
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
            false,
            "hi",
            true,
        ),
        (get, "HTTP/1.1 200 OK\r\n\r\nhello", true, "hello", false),
        (get, "HTTP/1.1 200 OK\r\n\r\n", true, "", false),
        (get, "HTTP/1.1 204 No Content\r\n\r\n", false, "", true),
        (
            get,
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
            false,
            "",
            true,
        ),
        (
            get,
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            false,
            "",
            true,
        ),
        (
            get,
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
            false,
            "",
            true,
        ),
        (
            head,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            false,
            "",
            true,
        ),
        (head, "HTTP/1.1 200 OK\r\n\r\n", false, "", true),
        (connect, "HTTP/1.1 200 OK\r\n\r\n", false, "", false),
        (
            connect,
            "HTTP/1.1 407 No\r\ncontent-length: 2\r\n\r\nno",
            false,
            "no",
            true,
        ),
    ] {
        let (outcome, is_reusable) = decode(method, input, ends);
        assert_eq!(outcome.error, None, "{input:?}");
        assert_eq!(outcome.messages[0].body, body, "{input:?}");
        assert!(outcome.messages[0].complete, "{input:?}");
        assert_eq!(is_reusable, reusable, "{method} {input:?}");
    }
}

#[test]
fn a_body_up_to_the_end_waits_for_the_end() {
    let (outcome, reusable) = decode(&Method::GET, "HTTP/1.1 200 OK\r\n\r\nhello", false);
    assert_eq!(outcome.error, None);
    assert!(!outcome.messages[0].complete && !reusable);
}

#[test]
fn interim_responses_come_before_the_head() {
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (outcome, reusable) = decode(&Method::POST, input, false);
    assert_eq!(outcome.interim, [100, 103]);
    assert!(outcome.messages[0].complete && reusable);
}

#[test]
fn reads_all_parts_of_a_head() {
    let head = response_head("HTTP/1.1 529\r\nRetry-After: 3\r\ncontent-length: 7\r\n\r\n");
    assert_eq!(head.status, StatusCode::from_u16(529).unwrap());
    assert_eq!(head.version, Version::HTTP_11);
    assert_eq!(head.headers["retry-after"], "3");
    assert_eq!(head.length, BodyLength::Known(7));
    assert!(head.keep_alive);
}

#[test]
fn response_bodies_have_no_limit() {
    let limits = Limits {
        body: 1,
        ..Limits::default()
    };
    for input in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let (outcome, _) = decode_response(&limits, &Method::GET, [input.as_bytes()], false);
        assert!(outcome.messages[0].complete, "{input:?}");
    }
}

#[test]
fn knows_whether_a_response_has_started() {
    let mut decoder = client::Decoder::new(Limits::default(), &Method::GET);
    decoder.push(Bytes::new());
    assert!(!decoder.started());
    decoder.push(Bytes::from_static(b"H"));
    assert!(decoder.started());
    decoder.end();
    for _ in 0..2 {
        assert_eq!(decoder.next().unwrap_err(), Incomplete);
    }
    assert!(decoder.started());
}
