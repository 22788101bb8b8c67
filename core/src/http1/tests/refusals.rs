//! What the server's decoder refuses, each case with its error and status.

use super::*;
use crate::http1::Error::*;

#[test]
fn refuses_malformed_start_lines() {
    for (line, error, status) in [
        ("\x16\x03\x01\x02", StartLine, 400),
        ("GET / HTTP/1.1\x00\r\n", StartLine, 400),
        (" GET / HTTP/1.1\r\n", StartLine, 400),
        ("GET  / HTTP/1.1\r\n", StartLine, 400),
        ("GET /  HTTP/1.1\r\n", StartLine, 400),
        ("GET / HTTP/1.1 \r\n", LineEnd, 400),
        ("GET\t/ HTTP/1.1\r\n", StartLine, 400),
        ("GET /\r\n", StartLine, 400),
        ("GET\r\n", StartLine, 400),
        ("G(T / HTTP/1.1\r\n", StartLine, 400),
        ("GET / HTTP/1.\r\n", StartLine, 400),
        ("GET / HTTQ/1.1\r\n", StartLine, 400),
        ("GET / http/1.1\r\n", StartLine, 400),
        ("GET / HTTP/2.0\r\n", Version, 505),
        ("PRI * HTTP/2.0\r\n", Version, 505),
        ("GET / HTTP/3.1\r\n", Version, 505),
        ("GET /\rx HTTP/1.1\r\n", StartLine, 400),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\n", StartLine, 400),
        ("\rGET / HTTP/1.1\r\n", LineEnd, 400),
        ("\nGET / HTTP/1.1\r\n", LineEnd, 400),
        ("GET / HTTP/1.1\n", LineEnd, 400),
        ("GET a HTTP/1.1\r\n", Target, 400),
        ("GET * HTTP/1.1\r\n", Target, 400),
        ("GET /a#b HTTP/1.1\r\n", Target, 400),
        ("GET http:// HTTP/1.1\r\n", Target, 400),
        ("GET http://u:p@a/ HTTP/1.1\r\n", Target, 400),
        ("CONNECT /a HTTP/1.1\r\n", Target, 400),
        ("CONNECT http://a/ HTTP/1.1\r\n", Target, 400),
        (
            "GET /0123456789012345678901234567890 HTTP/1.1\r\n",
            StartLineTooLong,
            414,
        ),
        (
            "GET /0123456789012345678901234567890 HTTP/1.",
            StartLineTooLong,
            414,
        ),
    ] {
        let input = format!("{line}host: a\r\n\r\n");
        let outcome = decode_requests(&tight(), [input.as_bytes()], false);
        assert_eq!(outcome.error, Some(error), "{line:?}");
        assert_eq!(error.status(), status, "{line:?}");
        assert!(outcome.messages.is_empty(), "{line:?}");
    }
}

#[test]
fn refuses_malformed_fields() {
    for (fields, error) in [
        ("name : x\r\n", FieldName),
        ("name\t: x\r\n", FieldName),
        ("na me: x\r\n", FieldName),
        ("name\r\n", FieldName),
        (": x\r\n", FieldName),
        ("n\x00: x\r\n", FieldName),
        ("n\u{e9}: x\r\n", FieldName),
        ("name: x\r\n folded\r\n", FieldName),
        ("name: x\r\n\tfolded\r\n", FieldName),
        (" name: x\r\n", FieldName),
        ("name: a\x00b\r\n", FieldValue),
        ("name: a\x0bb\r\n", FieldValue),
        ("name: a\x7fb\r\n", FieldValue),
        ("name: a\rb\r\n", FieldValue),
        ("name: a\r\r\n", FieldValue),
        ("name: a\n", LineEnd),
        ("name: a\r\n\n", LineEnd),
    ] {
        let outcome = decode_requests(&Limits::default(), [with(fields).as_bytes()], false);
        assert_eq!(outcome.error, Some(error), "{fields:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn refuses_ambiguous_framing() {
    for (fields, error) in [
        (
            "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            LengthAndCoding,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            LengthAndCoding,
        ),
        (
            "transfer-encoding: x\r\ncontent-length: x\r\n",
            LengthAndCoding,
        ),
        ("content-length: 5\r\ncontent-length: 6\r\n", ContentLength),
        ("content-length: 5\r\nContent-Length: 5\r\n", ContentLength),
        ("content-length: 5, 5\r\n", ContentLength),
        ("content-length: 5,\r\n", ContentLength),
        ("content-length: +5\r\n", ContentLength),
        ("content-length: -5\r\n", ContentLength),
        ("content-length: 5 5\r\n", ContentLength),
        ("content-length: 0x5\r\n", ContentLength),
        ("content-length: 5.0\r\n", ContentLength),
        ("content-length: five\r\n", ContentLength),
        ("content-length:\r\n", ContentLength),
        ("content-length: \u{665}\r\n", ContentLength),
        ("content-length: 18446744073709551616\r\n", ContentLength),
        ("content-length: 99999999999999999999999\r\n", ContentLength),
        ("transfer-encoding: chunked, chunked\r\n", ChunkedNotLast),
        (
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            ChunkedNotLast,
        ),
        ("transfer-encoding: chunked, gzip\r\n", ChunkedNotLast),
        ("transfer-encoding: chunked,\r\n", ChunkedNotLast),
        ("transfer-encoding: gzip, chunked\r\n", UnknownCoding),
        (
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            UnknownCoding,
        ),
        ("transfer-encoding: identity\r\n", UnknownCoding),
        ("transfer-encoding: xchunked\r\n", UnknownCoding),
        ("transfer-encoding: chunked;q=1\r\n", UnknownCoding),
        ("transfer-encoding: \"chunked\"\r\n", UnknownCoding),
        ("transfer-encoding: , chunked\r\n", UnknownCoding),
        ("transfer-encoding:\r\n", UnknownCoding),
    ] {
        let outcome = decode_requests(&Limits::default(), [with(fields).as_bytes()], false);
        assert_eq!(outcome.error, Some(error), "{fields:?}");
        assert_eq!(error.status(), 400);
    }
    let old = "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let outcome = decode_requests(&Limits::default(), [old.as_bytes()], false);
    assert_eq!(outcome.error, Some(CodingInHttp10));
    assert_eq!(CodingInHttp10.status(), 400);
}

#[test]
fn refuses_missing_repeated_and_malformed_hosts() {
    for (version, fields, error) in [
        ("1.1", "", Some(Host)),
        ("1.1", "host: a\r\nhost: a\r\n", Some(Host)),
        ("1.0", "host: a\r\nhost: b\r\n", Some(Host)),
        ("1.1", "host: a b\r\n", Some(Host)),
        ("1.1", "host: u@a\r\n", Some(Host)),
        ("1.1", "host: a/b\r\n", Some(Host)),
        ("1.1", "host: \u{e9}\r\n", Some(Host)),
        ("1.0", "", None),
        ("1.1", "host:\r\n", None),
        ("1.1", "host: a:80\r\n", None),
        ("1.1", "host: [::1]:80\r\n", None),
    ] {
        let input = format!("GET / HTTP/{version}\r\n{fields}\r\n");
        let outcome = decode_requests(&Limits::default(), [input.as_bytes()], false);
        assert_eq!(outcome.error, error, "{input:?}");
    }
    assert_eq!(Host.status(), 400);
}

#[test]
fn refuses_malformed_chunks() {
    for (body, error) in [
        ("\r\n", ChunkSize),
        ("g\r\n", ChunkSize),
        ("0x5\r\nhello\r\n", ChunkSize),
        ("-5\r\n", ChunkSize),
        ("+5\r\n", ChunkSize),
        (" 5\r\nhello\r\n", ChunkSize),
        ("5 \r\nhello\r\n", ChunkSize),
        ("5 ;a\r\nhello\r\n", ChunkSize),
        ("5\t\r\nhello\r\n", ChunkSize),
        (";a\r\n", ChunkSize),
        ("5\nhello\r\n", ChunkSize),
        ("5\rhello\r\n", ChunkSize),
        ("5_0\r\n", ChunkSize),
        ("10000000000000000\r\n", ChunkSize),
        ("fffffffffffffffff\r\n", ChunkSize),
        ("5;a\nhello\r\n", ChunkExtension),
        ("5;a\x00\r\nhello\r\n", ChunkExtension),
        ("5;a\x7f\r\nhello\r\n", ChunkExtension),
        ("5;a\rb\r\nhello\r\n", ChunkSize),
        ("5\r\nhelloo\r\n", ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\rx", ChunkEnd),
        ("5\r\nhello0\r\n\r\n", ChunkEnd),
        ("0\r\nname : x\r\n\r\n", FieldName),
        ("0\r\n folded\r\n\r\n", FieldName),
        ("0\r\nname: a\x00\r\n\r\n", FieldValue),
        ("0\r\nname: x\n\r\n", LineEnd),
        ("0\r\n\n", LineEnd),
    ] {
        let outcome = decode_requests(&Limits::default(), [chunked(body).as_bytes()], false);
        assert_eq!(outcome.error, Some(error), "{body:?}");
        assert_eq!(error.status(), 400);
        assert_eq!(outcome.messages.len(), 1);
    }
}

#[test]
fn refuses_what_exceeds_a_limit() {
    let long_value = with(&format!("a: {}\r\n", "x".repeat(200)));
    let endless_head = with(&format!("a: {}", "x".repeat(400)));
    for (input, error, status) in [
        (with("a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n"), TooManyFields, 431),
        (with("a:\r\na:\r\na:\r\na:\r\n"), TooManyFields, 431),
        (long_value, HeadTooLarge, 431),
        (endless_head, HeadTooLarge, 431),
        (with("content-length: 11\r\n"), BodyTooLarge, 413),
        (
            with("content-length: 18446744073709551615\r\n"),
            BodyTooLarge,
            413,
        ),
        (chunked("b\r\n"), BodyTooLarge, 413),
        (chunked("5\r\nhello\r\n6\r\n"), BodyTooLarge, 413),
        (chunked("ffffffffff\r\n"), BodyTooLarge, 413),
        (
            chunked("5;aaaaaaaaaaaaaaa\r\nhello\r\n"),
            ChunkLineTooLong,
            400,
        ),
        (chunked("0000000000000\r\n"), ChunkLineTooLong, 400),
        (
            chunked("0\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n"),
            TooManyFields,
            431,
        ),
        (
            chunked("0\r\naaaaaaaaaaaaaaaa: aaaaaaaaaaaaaaaa"),
            TrailersTooLarge,
            431,
        ),
    ] {
        let outcome = decode_requests(&tight(), [input.as_bytes()], false);
        assert_eq!(outcome.error, Some(error), "{input:?}");
        assert_eq!(error.status(), status, "{input:?}");
    }
}

#[test]
fn chunk_sizes_cannot_overflow_the_sum() {
    let input = chunked("5\r\nhello\r\nffffffffffffffff\r\n");
    let outcome = decode_requests(&Limits::default(), [input.as_bytes()], false);
    assert_eq!(outcome.error, Some(BodyTooLarge));
}

#[test]
fn refuses_garbage_at_the_first_byte_that_shows_it() {
    for (input, error) in [
        (&b"\x16"[..], StartLine),
        (b"\r\n\x16", StartLine),
        (b"GET /\x00", StartLine),
        (b"GET / HTTP/1.1\n", LineEnd),
        (b"GET / HTTP/1.1\r\nhost: a\n", LineEnd),
    ] {
        let outcome = decode_requests(&tight(), [input], false);
        assert_eq!(outcome.error, Some(error), "{input:?}");
    }
}

#[test]
fn repeats_an_error_and_drops_what_follows() {
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(Bytes::from_static(b"\0"));
    for _ in 0..3 {
        assert_eq!(decoder.next().unwrap_err(), StartLine);
        decoder.push(Bytes::from_static(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        decoder.next_message();
        assert_eq!(decoder.buffered(), 0);
    }
}
