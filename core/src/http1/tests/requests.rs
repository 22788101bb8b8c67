//! What the server's decoder accepts, case by case.

use http::{Method, Version};

use super::*;
use crate::http1::{BodyLength, Error::*};

#[test]
fn takes_what_just_fits() {
    let input =
        chunked("5;aaaaaaaa\r\nhello\r\n5\r\nworld\r\n00\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\n\r\n");
    let outcome = decode_requests(&tight(), [input.as_bytes()], true);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.messages[0].body, "helloworld");

    let line = format!("GET /{} HTTP/1.1", "x".repeat(26));
    let base = format!("{line}\r\nhost: a\r\na: \r\nb: \r\nc: \r\n\r\n");
    let fill = "x".repeat(200 - base.len());
    let input = base.replace("c: ", &format!("c: {fill}"));
    assert_eq!((line.len(), input.len()), (40, 200));
    let outcome = decode_requests(&tight(), [input.as_bytes()], true);
    assert_eq!(outcome.error, None);
    assert!(outcome.messages[0].complete);
}

#[test]
fn gives_the_head_before_it_refuses_a_declared_length() {
    let input = with("content-length: 11\r\nexpect: 100-continue\r\n");
    let mut decoder = server::Decoder::new(tight());
    decoder.push(Bytes::from(input));
    let Ok(Step::Item(server::Item::Head(head))) = decoder.next() else {
        panic!("the head comes first");
    };
    assert_eq!(head.length, BodyLength::Known(11));
    assert!(
        !head.expect_continue,
        "nobody waits for a body that is refused"
    );
    assert_eq!(decoder.next().unwrap_err(), BodyTooLarge);
}

#[test]
fn reads_all_parts_of_a_head() {
    let head = request_head(
        "POST /v1/messages?beta=true HTTP/1.1\r\nHost: a:1\r\nAccept:\t */* \t\r\nX-Many: 1\r\nx-many: 2\r\n\
         x-empty:\r\nContent-Length: 0012\r\n\r\n",
    );
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target, "/v1/messages?beta=true");
    assert_eq!(head.version, Version::HTTP_11);
    assert_eq!(head.length, BodyLength::Known(12));
    assert!(head.keep_alive && !head.expect_continue);
    assert_eq!(head.headers["accept"], "*/*");
    assert_eq!(head.headers["x-empty"], "");
    assert_eq!(
        head.headers.get_all("x-many").iter().collect::<Vec<_>>(),
        ["1", "2"]
    );
}

#[test]
fn takes_every_form_of_target_with_its_method() {
    for (line, host) in [
        ("GET http://a.test:81/b?c HTTP/1.1", Some("a.test")),
        ("OPTIONS * HTTP/1.1", None),
        ("CONNECT a.test:443 HTTP/1.1", Some("a.test")),
        ("GET //a/b HTTP/1.1", None),
    ] {
        let head = request_head(&format!("{line}\r\nhost: a\r\n\r\n"));
        assert_eq!(head.target.host(), host, "{line}");
    }
}

#[test]
fn reads_fields_beyond_those_on_the_stack() {
    use std::fmt::Write;
    let mut fields = String::new();
    for n in 0..100 {
        write!(fields, "x-{n}: {n}\r\n").unwrap();
    }
    assert_eq!(request_head(&with(&fields)).headers.len(), 101);
}

#[test]
fn keep_alive_follows_version_and_connection() {
    for (version, connection, keeps) in [
        ("1.1", "", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: keep-alive\r\n", true),
        ("1.1", "connection: x, CLOSE\r\n", false),
        ("1.1", "connection: x\r\nconnection: close\r\n", false),
        ("1.1", "connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "connection: x\r\n", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let head = request_head(&format!(
            "GET / HTTP/{version}\r\nhost: a\r\n{connection}\r\n"
        ));
        assert_eq!(head.keep_alive, keeps, "{version} {connection:?}");
    }
}

#[test]
fn expectations_count_only_where_a_body_comes() {
    for (version, fields, expects) in [
        ("1.1", "expect: 100-Continue\r\ncontent-length: 1\r\n", true),
        (
            "1.1",
            "expect: 100-continue\r\ntransfer-encoding: chunked\r\n",
            true,
        ),
        (
            "1.1",
            "expect: 100-continue\r\ncontent-length: 0\r\n",
            false,
        ),
        ("1.1", "expect: 100-continue\r\n", false),
        ("1.1", "expect: something\r\ncontent-length: 1\r\n", false),
        (
            "1.0",
            "expect: 100-continue\r\ncontent-length: 1\r\n",
            false,
        ),
    ] {
        let head = request_head(&format!("PUT / HTTP/{version}\r\nhost: a\r\n{fields}\r\n"));
        assert_eq!(head.expect_continue, expects, "{version} {fields:?}");
    }
}

#[test]
fn debug_output_shows_no_credential_and_no_body() {
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(Bytes::from(with(
        "authorization: Bearer k0\r\nx-api-key: k0\r\ncookie: k0\r\n",
    )));
    assert!(!format!("{decoder:?}").contains("k0"));
    let head = decoder.next().unwrap();
    assert!(!format!("{head:?}").contains("k0"));
    decoder.push(Bytes::from_static(b"x-api-key: k0"));
    assert!(!format!("{decoder:?}").contains("k0"));
    let body = server::Item::Body(Bytes::from_static(b"prompt"));
    assert_eq!(format!("{body:?}"), "Body(6)");
}

#[test]
fn pipelined_requests_wait_until_the_caller_moves_on() {
    let mut decoder = server::Decoder::new(Limits::default());
    let second = "GET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    decoder.push(Bytes::from(with("content-length: 2\r\n") + "hi" + second));
    assert!(matches!(
        decoder.next(),
        Ok(Step::Item(server::Item::Head(_)))
    ));
    decoder.next_message();
    assert!(matches!(decoder.next(), Ok(Step::Item(server::Item::Body(b))) if b == "hi"));
    assert!(matches!(decoder.next(), Ok(Step::Item(server::Item::End))));
    assert!(matches!(decoder.next(), Ok(Step::Pause)));
    assert!(matches!(decoder.next(), Ok(Step::Pause)));
    assert_eq!(decoder.buffered(), second.len());
    decoder.next_message();
    let Ok(Step::Item(server::Item::Head(head))) = decoder.next() else {
        panic!("the second request follows");
    };
    assert_eq!(head.target.path(), "/2");
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn a_body_shares_the_pushed_buffer_and_a_head_does_not() {
    let read = Bytes::from(with("content-length: 2\r\n") + "hi");
    let range = read.as_ptr_range();
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(read.clone());
    let Ok(Step::Item(server::Item::Head(head))) = decoder.next() else {
        panic!("the head comes first");
    };
    assert!(!range.contains(&head.headers["content-length"].as_bytes().as_ptr()));
    let Ok(Step::Item(server::Item::Body(body))) = decoder.next() else {
        panic!("the body follows");
    };
    assert!(range.contains(&body.as_ptr()));
    drop(body);
    assert!(
        read.is_unique(),
        "neither decoder nor head holds on to the read buffer"
    );
}

#[test]
fn the_end_is_an_error_only_inside_a_request() {
    for (input, error) in [
        ("", None),
        ("\r\n", None),
        ("\r", None),
        ("G", Some(Incomplete)),
        ("\r\nGET / HTTP/1.1\r\n", Some(Incomplete)),
        (&with("")[..], None),
        (&with("content-length: 5\r\n"), Some(Incomplete)),
        (&(with("content-length: 5\r\n") + "hell"), Some(Incomplete)),
        (&(with("content-length: 5\r\n") + "hello"), None),
        (&chunked("5\r\nhello\r\n"), Some(Incomplete)),
        (&chunked("0\r\n"), Some(Incomplete)),
        (&chunked("0\r\na: b\r\n"), Some(Incomplete)),
        (&chunked("0\r\n\r\n"), None),
    ] {
        let outcome = decode_requests(&Limits::default(), [input.as_bytes()], true);
        assert_eq!(outcome.error, error, "{input:?}");
    }
}

#[test]
fn chunks_may_have_extensions_and_trailers_which_are_dropped() {
    let body =
        "5;name=\"a b\";x\r\nhello\r\n0006\r\n world\r\n0;last\r\nX-Sum: 1\r\nhost: b\r\n\r\n";
    let input = chunked(body) + &with("");
    let outcome = decode_requests(&Limits::default(), [input.as_bytes()], true);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.messages.len(), 2);
    assert_eq!(outcome.messages[0].body, "hello world");
    assert!(outcome.messages[0].head.contains("\"host\": \"a\""));
}

#[test]
fn a_dribbled_head_is_searched_once() {
    // Quadratic work over a head of 1 MiB would take minutes.
    let limits = Limits {
        start_line: 1 << 20,
        head: 4 << 20,
        ..Limits::default()
    };
    let path = "x".repeat(60_000);
    let value = "x".repeat(1 << 20);
    let input = format!("GET /{path} HTTP/1.1\r\nhost: a\r\nb: {value}\r\n\r\n");
    let outcome = decode_requests(&limits, input.as_bytes().chunks(1), true);
    assert_eq!(outcome.error, None);
    assert!(outcome.messages[0].complete);
}
