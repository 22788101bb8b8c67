//! What the tests of both sides share: running a decoder over pieces of input.

use bytes::{Buf, Bytes, BytesMut};
use http::Method;

use super::{Error, Limits, client, server};
use crate::{codec::Step, frame::Frame};

mod encoders;
mod held;
mod refusals;
mod requests;
mod responses;
mod splits;

/// A message as it came out of a decoder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    head: String,
    body: BytesMut,
    complete: bool,
}

/// All that came out of a decoder, up to its error.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    messages: Vec<Message>,
    interim: Vec<u16>,
    error: Option<Error>,
}

impl Outcome {
    fn last(&mut self) -> &mut Message {
        self.messages.last_mut().expect("a head comes first")
    }
}

/// Everything that the pieces hold, pipelined requests included; then the end, if `ends`.
fn decode_requests<'a>(
    limits: &Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    ends: bool,
) -> Outcome {
    let mut decoder = server::Decoder::new(limits.clone());
    let mut outcome = Outcome::default();
    let held = limits.head.max(limits.trailers);
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        drain_requests(&mut decoder, &mut outcome);
        assert!(decoder.buffered() <= held, "holds {}", decoder.buffered());
    }
    if ends {
        decoder.end();
        drain_requests(&mut decoder, &mut outcome);
    }
    outcome
}

fn drain_requests(decoder: &mut server::Decoder, outcome: &mut Outcome) {
    loop {
        match decoder.next() {
            Ok(Step::Item(server::Item::Head(head))) => outcome.messages.push(Message {
                head: format!("{head:?}"),
                ..Message::default()
            }),
            Ok(Step::Item(server::Item::Body(data))) => {
                assert!(!data.is_empty());
                outcome.last().body.extend_from_slice(&data);
            }
            Ok(Step::Item(server::Item::End)) => outcome.last().complete = true,
            Ok(Step::More) => return,
            Ok(Step::Pause) => decoder.next_message(),
            Err(error) => {
                assert_eq!(decoder.buffered(), 0);
                outcome.error = Some(error);
                return;
            }
        }
    }
}

/// The response that the pieces hold; then the end, if `ends`. Says also whether the connection can
/// be used again.
fn decode_response<'a>(
    limits: &Limits,
    method: &Method,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    ends: bool,
) -> (Outcome, bool) {
    let mut decoder = client::Decoder::new(limits.clone(), method);
    let mut outcome = Outcome::default();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        drain_response(&mut decoder, &mut outcome);
    }
    if ends {
        decoder.end();
        drain_response(&mut decoder, &mut outcome);
    }
    (outcome, decoder.reusable())
}

fn drain_response(decoder: &mut client::Decoder, outcome: &mut Outcome) {
    loop {
        match decoder.next() {
            Ok(Step::Item(client::Item::Interim(status))) => outcome.interim.push(status.as_u16()),
            Ok(Step::Item(client::Item::Head(head))) => outcome.messages.push(Message {
                head: format!("{head:?}"),
                ..Message::default()
            }),
            Ok(Step::Item(client::Item::Body(data))) => {
                assert!(!data.is_empty());
                outcome.last().body.extend_from_slice(&data);
            }
            Ok(Step::Item(client::Item::End)) => outcome.last().complete = true,
            Ok(Step::More | Step::Pause) => return,
            Err(error) => {
                outcome.error = Some(error);
                return;
            }
        }
    }
}

/// The head of the one request in `text`.
fn request_head(text: &str) -> super::RequestHead {
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(Bytes::copy_from_slice(text.as_bytes()));
    match decoder.next() {
        Ok(Step::Item(server::Item::Head(head))) => *head,
        other => panic!("{text:?} gives {other:?}"),
    }
}

/// The head of the response in `text`, to a GET.
fn response_head(text: &str) -> super::ResponseHead {
    let mut decoder = client::Decoder::new(Limits::default(), &Method::GET);
    decoder.push(Bytes::copy_from_slice(text.as_bytes()));
    match decoder.next() {
        Ok(Step::Item(client::Item::Head(head))) => *head,
        other => panic!("{text:?} gives {other:?}"),
    }
}

fn text(mut frame: Frame) -> String {
    let bytes = frame.copy_to_bytes(frame.remaining());
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Small limits, so that the cases stay readable.
fn tight() -> Limits {
    Limits {
        start_line: 40,
        head: 200,
        headers: 4,
        body: 10,
        chunk_line: 12,
        trailers: 30,
    }
}

/// A request with these fields and `Host`.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

/// A chunked request with this body.
fn chunked(body: &str) -> String {
    with("transfer-encoding: chunked\r\n") + body
}
