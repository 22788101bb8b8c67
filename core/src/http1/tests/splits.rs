//! Properties: how the bytes are split never shows, what was encoded is decoded, and no input at
//! all makes a decoder panic or hold more than its limits.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::http1::{BodyLength, server::Encoder};

/// Small enough that random input meets every limit.
fn tight() -> Limits {
    Limits {
        start_line: 60,
        head: 250,
        headers: 6,
        body: 64,
        chunk_line: 16,
        trailers: 40,
    }
}

/// The pieces messages are made of, sound and unsound: a random row of them comes far.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = select(vec![
        "GET / HTTP/1.1\r\nhost: a\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: a\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.0 404 \r\n",
        "HEAD /x HTTP/1.0\r\n",
        "PRI * HTTP/2.0\r\n",
        "transfer-encoding: chunked\r\n\r\n",
        "Content-Length: 5\r\n\r\n",
        "content-length: 5\r\n",
        "content-length: 500\r\n\r\n",
        "connection: close\r\n",
        "x-filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        "a: b\r\n",
        " folded\r\n",
        "\r\n",
        "\r",
        "\n",
        "\0",
        "5\r\nhello\r\n",
        "5;a=b\r\nhello\r\n",
        "1f\r\n",
        "0\r\n\r\n",
        "0\r\nx-trailer: 1\r\n\r\n",
        "hello",
        " ",
        "\u{16}",
        "\u{e9}",
    ]);
    vec(fragment, 0..12).prop_map(|fragments| fragments.concat().into_bytes())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => fragments(), 1 => vec(any::<u8>(), 0..400)]
}

/// `data` cut into pieces of the given lengths, over and over.
fn split<'a>(data: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = data;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let length = (*lengths.next()?).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

fn field() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    ("x-[a-z]{1,8}", "[!-~]([ -~]{0,20}[!-~])?").prop_map(|(name, value)| {
        (
            name.parse().unwrap(),
            HeaderValue::from_str(&value).unwrap(),
        )
    })
}

proptest! {
    #[test]
    fn any_split_of_requests_decodes_the_same(
        data in bytes(),
        lengths in vec(1..40_usize, 1..6),
        ends: bool,
    ) {
        let whole = decode_requests(&tight(), [&data[..]], ends);
        let pieces = decode_requests(&tight(), split(&data, &lengths), ends);
        prop_assert_eq!(&whole, &pieces);
        let single = decode_requests(&tight(), data.chunks(1), ends);
        prop_assert_eq!(&whole, &single);
    }

    #[test]
    fn any_split_of_a_response_decodes_the_same(
        data in bytes(),
        lengths in vec(1..40_usize, 1..6),
        ends: bool,
        method in select(vec![Method::GET, Method::HEAD, Method::CONNECT]),
    ) {
        let data = [b"HTTP/1.1 200 OK\r\n", &data[..]].concat();
        let whole = decode_response(&tight(), &method, [&data[..]], ends);
        let pieces = decode_response(&tight(), &method, split(&data, &lengths), ends);
        prop_assert_eq!(&whole, &pieces);
        let single = decode_response(&tight(), &method, data.chunks(1), ends);
        prop_assert_eq!(&whole, &single);
    }

    #[test]
    fn what_the_client_encodes_the_server_decodes(
        fields in vec(field(), 0..8),
        target in "/[a-z0-9/]{0,20}(\\?[a-z=&]{0,9})?",
        body in vec(any::<u8>(), 0..100),
        lengths in vec(1..200_usize, 1..6),
    ) {
        let headers: HeaderMap = fields.into_iter().collect();
        let method = Method::POST;
        let len = body.len() as u64;
        let mut frame = client::encode_head(&method, &target, "a.test", &headers, &[], len);
        let mut wire = BytesMut::from(&frame.copy_to_bytes(frame.remaining())[..]);
        wire.extend_from_slice(&body);

        let mut decoder = server::Decoder::new(Limits::default());
        let mut seen = BytesMut::new();
        let mut complete = false;
        for piece in split(&wire, &lengths) {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Step::Item(item) = decoder.next().unwrap() {
                match item {
                    server::Item::Head(mut head) => {
                        prop_assert_eq!(&head.method, &method);
                        prop_assert_eq!(head.target.to_string(), &target[..]);
                        prop_assert_eq!(head.length, BodyLength::Known(len));
                        head.headers.remove("host");
                        head.headers.remove("content-length");
                        prop_assert_eq!(&head.headers, &headers);
                    }
                    server::Item::Body(data) => seen.extend_from_slice(&data),
                    server::Item::End => complete = true,
                }
            }
        }
        prop_assert!(complete);
        prop_assert_eq!(&seen[..], &body[..]);
    }

    #[test]
    fn what_the_server_encodes_the_client_decodes(
        fields in vec(field(), 0..8),
        body in vec(vec(any::<u8>(), 0..40), 0..6),
        way in 0..3,
        version in select(vec![Version::HTTP_10, Version::HTTP_11]),
        close: bool,
        lengths in vec(1..200_usize, 1..6),
    ) {
        let headers: HeaderMap = fields.into_iter().collect();
        let whole = body.concat();
        let length = match way {
            0 => BodyLength::Chunked,
            1 => BodyLength::Known(whole.len() as u64),
            _ => BodyLength::UntilClose,
        };
        let mut encoder = Encoder::new(version, &Method::GET);
        let mut frames = vec![encoder.head(StatusCode::OK, &headers, length, close)];
        frames.extend(body.into_iter().map(|piece| encoder.body(piece.into())));
        frames.push(encoder.end());
        let mut wire = BytesMut::new();
        for mut frame in frames {
            wire.extend_from_slice(&frame.copy_to_bytes(frame.remaining()));
        }

        let pieces = split(&wire, &lengths);
        let (mut outcome, _) = decode_response(&Limits::default(), &Method::GET, pieces, encoder.closes());
        prop_assert_eq!(outcome.error, None);
        prop_assert!(outcome.last().complete);
        prop_assert_eq!(&outcome.last().body[..], &whole[..]);
        for value in headers.values() {
            let shown = format!("{value:?}");
            prop_assert!(outcome.last().head.contains(&shown));
        }
    }
}

#[test]
fn every_split_of_a_conversation_in_two_decodes_the_same() {
    let data = b"\r\nPOST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        5;x=y\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nx-trailer: 1\r\n\r\n\
        \r\nPUT /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nworldGET /c HTTP/1.0\r\n\r\n";
    let whole = decode_requests(&Limits::default(), [&data[..]], true);
    assert_eq!(whole.error, None);
    let bodies: Vec<_> = whole
        .messages
        .iter()
        .map(|message| &message.body[..])
        .collect();
    assert_eq!(bodies, [&b"hello0123456789abcdef"[..], b"world", b""]);
    for at in 0..=data.len() {
        let (front, back) = data.split_at(at);
        assert_eq!(
            decode_requests(&Limits::default(), [front, back], true),
            whole,
            "at {at}"
        );
    }
}
