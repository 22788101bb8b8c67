//! The server's side: requests in, responses out.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use super::{BodyLength, Error, Limits, RequestHead};
use crate::{codec::Step, frame::Frame};

/// A piece of a request.
#[derive(Debug)]
pub enum Item {
    /// The head.
    Head(Box<RequestHead>),
    /// Some of the body; never empty. Shares the pushed buffer.
    Body(Bytes),
    /// The request is complete.
    End,
}

/// Decodes the requests of one connection. After [`Item::End`] it says [`Step::Pause`] until
/// [`next_message`](Self::next_message); pipelined bytes are held. After an error it repeats the error.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(_limits: Limits) -> Self {
        todo!()
    }
    /// Takes bytes as they came.
    pub fn push(&mut self, _bytes: Bytes) {
        todo!()
    }
    /// The client will send no more.
    pub fn end(&mut self) {
        todo!()
    }
    /// The next piece.
    ///
    /// # Errors
    /// What the client did wrong, with the status to answer; the connection must be closed then.
    pub fn next(&mut self) -> Result<Step<Item>, Error> {
        todo!()
    }
    /// Moves on to the next request, after [`Item::End`].
    pub fn next_message(&mut self) {
        todo!()
    }
    /// Bytes pushed and not yet given out: what a peer makes us hold.
    pub fn buffered(&self) -> usize {
        todo!()
    }
}

/// Encodes one response.
#[derive(Debug)]
pub struct Encoder {}

impl Encoder {
    /// An encoder for the response to a request of this version and method.
    pub fn new(_version: Version, _method: &Method) -> Self {
        todo!()
    }
    /// `HTTP/1.1 100 Continue`.
    pub fn proceed() -> Frame {
        todo!()
    }
    /// Status line, `headers` (which must hold no hop-by-hop or framing fields), framing fields by
    /// `length`, and `connection: close` where `close` is set or the framing needs it.
    pub fn head(
        &mut self,
        _status: StatusCode,
        _headers: &HeaderMap,
        _length: BodyLength,
        _close: bool,
    ) -> Frame {
        todo!()
    }
    /// Some of the body. Empty input, and any body where none is allowed (HEAD, 204, 304), gives an
    /// empty frame.
    pub fn body(&mut self, _data: Bytes) -> Frame {
        todo!()
    }
    /// The end of the body; an empty frame where the framing needs none.
    pub fn end(&mut self) -> Frame {
        todo!()
    }
    /// Whether the connection must be closed behind this response.
    pub fn closes(&self) -> bool {
        todo!()
    }
}
