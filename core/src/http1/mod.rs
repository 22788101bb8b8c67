//! HTTP/1.1 message syntax (RFC 9112), as pure codecs: bytes in, items out, and back.

use http::{HeaderMap, Method, StatusCode, Uri, Version};

pub mod client;
pub mod server;

/// How far a peer may go before it is refused. All sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line or status line; 414 beyond.
    pub start_line: usize,
    /// Whole head, start line included; 431 beyond.
    pub head: usize,
    /// Number of header fields, and of trailer fields; 431 beyond.
    pub headers: usize,
    /// Message body after decoding; 413 beyond.
    pub body: u64,
    /// One chunk-size line with its extensions; 400 beyond.
    pub chunk_line: usize,
    /// The trailer section; 431 beyond.
    pub trailers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start_line: 8 << 10,
            head: 64 << 10,
            headers: 128,
            body: 32 << 20,
            chunk_line: 4 << 10,
            trailers: 16 << 10,
        }
    }
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// placeholder
    Syntax,
}

impl Error {
    /// What a server answers.
    pub fn status(self) -> StatusCode {
        todo!()
    }
}

/// How a body is delimited (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Chunked transfer coding.
    Chunked,
    /// This many bytes; 0 is "no body".
    Known(u64),
    /// Up to the end of the connection.
    UntilClose,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Request target, in whichever form it came.
    pub target: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields, hop-by-hop ones included.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub length: BodyLength,
    /// Whether the client means to keep the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields, hop-by-hop ones included.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub length: BodyLength,
    /// Whether the server means to keep the connection.
    pub keep_alive: bool,
}
