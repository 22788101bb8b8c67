//! What decoders make of the bytes of a connection, in a form that compares.

use aibridge_core::{
    codec::Step,
    http1::{Error, Limits, client, server},
};
use bytes::Bytes;
use http::Method;

/// Small enough that inputs of some hundred bytes meet every limit.
pub(crate) fn tight() -> Limits {
    Limits {
        start_line: 80,
        head: 400,
        headers: 8,
        body: 100,
        chunk_line: 20,
        trailers: 60,
    }
}

/// A connection's messages, and what ended it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) messages: Vec<Message>,
    pub(crate) error: Option<Error>,
}

/// One message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// All of the head, for comparing.
    pub(crate) head: String,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) complete: bool,
    /// Whether another request may come after this one.
    pub(crate) keep_alive: bool,
}

/// Decodes requests.
pub(crate) fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Decoded {
    let mut decoder = server::Decoder::new(limits.clone());
    let mut decoded = Decoded::default();
    let bound = limits.head.max(limits.trailers) + limits.chunk_line + limits.start_line;
    for piece in pieces.map(Some).chain([None]) {
        let len = piece.map_or(0, <[u8]>::len);
        match piece {
            Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
            None => decoder.end(),
        }
        loop {
            match decoder.next() {
                Ok(Step::Item(server::Item::Head(head))) => decoded.messages.push(Message {
                    head: format!("{head:?}"),
                    keep_alive: head.keep_alive,
                    method: head.method,
                    target: head.target.to_string(),
                    ..Message::default()
                }),
                Ok(Step::Item(server::Item::Body(bytes))) => {
                    decoded.last().body.extend_from_slice(&bytes);
                }
                Ok(Step::Item(server::Item::End)) => decoded.last().complete = true,
                Ok(Step::Pause) => decoder.next_message(),
                Ok(Step::More) => break,
                Err(error) => {
                    decoded.error = Some(error);
                    assert_eq!(decoder.next().err(), Some(error), "an error stays");
                    return decoded;
                }
            }
        }
        assert!(
            decoder.buffered() <= bound + len,
            "{} bytes held",
            decoder.buffered()
        );
    }
    decoded
}

/// Decodes the reply to a request of this method.
pub(crate) fn response<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
    method: &Method,
    ends: bool,
) -> Decoded {
    let mut decoder = client::Decoder::new(limits.clone(), method);
    let mut decoded = Decoded::default();
    let bound = limits.head.max(limits.trailers) + limits.chunk_line + limits.start_line;
    for piece in pieces.map(Some).chain(ends.then_some(None)) {
        let len = piece.map_or(0, <[u8]>::len);
        match piece {
            Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
            None => decoder.end(),
        }
        loop {
            match decoder.next() {
                Ok(Step::Item(client::Item::Head(head))) => decoded.messages.push(Message {
                    head: format!("{head:?}"),
                    status: head.status.as_u16(),
                    ..Message::default()
                }),
                Ok(Step::Item(client::Item::Body(bytes))) => {
                    decoded.last().body.extend_from_slice(&bytes);
                }
                Ok(Step::Item(client::Item::End)) => decoded.last().complete = true,
                Ok(Step::Item(_)) => {}
                Ok(Step::Pause) => return decoded,
                Ok(Step::More) => break,
                Err(error) => {
                    decoded.error = Some(error);
                    return decoded;
                }
            }
        }
        assert!(
            decoder.buffered() <= bound + len,
            "{} bytes held",
            decoder.buffered()
        );
    }
    decoded
}

impl Decoded {
    fn last(&mut self) -> &mut Message {
        match self.messages.last_mut() {
            Some(message) => message,
            None => panic!("a body without a head"),
        }
    }
}
