//! The client's side: requests out, responses in.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::{Error, Limits, ResponseHead};
use crate::{codec::Step, frame::Frame};

/// A piece of a response.
#[derive(Debug)]
pub enum Item {
    /// An interim (1xx) response; any number may come before the head.
    Interim(StatusCode),
    /// The head.
    Head(Box<ResponseHead>),
    /// Some of the body; never empty. Shares the pushed buffer.
    Body(Bytes),
    /// The response is complete.
    End,
}

/// Decodes the response to one request. After [`Item::End`] it says [`Step::Pause`].
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder for the response to a request of this method.
    pub fn new(_limits: Limits, _method: &Method) -> Self {
        todo!()
    }
    /// Takes bytes as they came.
    pub fn push(&mut self, _bytes: Bytes) {
        todo!()
    }
    /// The server will send no more.
    pub fn end(&mut self) {
        todo!()
    }
    /// The next piece.
    ///
    /// # Errors
    /// What the server did wrong; the connection must be closed then. A body that ends before its
    /// declared length, or without its last chunk, is an error too.
    pub fn next(&mut self) -> Result<Step<Item>, Error> {
        todo!()
    }
    /// Whether the connection can carry another request: the response is complete, the server keeps
    /// it open, the body was not delimited by the end, and no stray bytes follow.
    pub fn reusable(&self) -> bool {
        todo!()
    }
    /// Whether any byte of a response has been pushed.
    pub fn started(&self) -> bool {
        todo!()
    }
}

/// The head of a request with a body of known length: request line, `host`, `headers` (which must
/// hold no hop-by-hop or framing fields, nor `host`), `extra` fields, `content-length` where the method
/// or the length calls for one.
pub fn encode_head(
    _method: &Method,
    _target: &str,
    _host: &str,
    _headers: &HeaderMap,
    _extra: &[(HeaderName, HeaderValue)],
    _body_len: u64,
) -> Frame {
    todo!()
}
