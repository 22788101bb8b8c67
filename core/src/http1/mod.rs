//! HTTP/1.1 message syntax (RFC 9112) and the fields that frame it (RFC 9110), as pure codecs:
//! bytes in, items out, and back.
//!
//! A decoder is pushed whatever came off the socket, in whatever pieces, and is asked for items
//! until it wants more. Each message walks through three states:
//!
//! ```text
//!  head ──Head──▶ body ──Body…──▶ (End) ended ──next_message──▶ head
//!   │               │
//!   └──── Error ────┴──▶ failed: every further call repeats the error
//! ```
//!
//! **Strict.** A bridge stands between parsers that may disagree, and request smuggling lives in
//! the disagreement (RFC 9112 §11.2). So nothing is repaired: bare line feeds, folded lines, white
//! space around names, two lengths, a length beside a coding, lists of lengths, codings other than
//! `chunked`, white space in chunk sizes: all refused. The one leniency is that of RFC 9112 §2.2,
//! an empty line or two before a request.
//!
//! **Bounded.** [`Limits`] bound all that is held. What is hopeless is refused at the first byte
//! that shows it; a head is searched for its end as it comes, each byte once, and parsed once.
//!
//! **Without copies where it counts.** Body items share the pushed buffers. A head is copied, once,
//! so that its few hundred bytes do not keep a whole read buffer alive; all its values are slices
//! of the copy.
//!
//! How the pieces came never shows: any split of the same bytes gives the same items, body items
//! joined, or the same error.
//!
//! ```
//! use aibridge_core::{codec::Step, http1::{Limits, server::{Decoder, Item}}};
//! use bytes::Bytes;
//!
//! let mut decoder = Decoder::new(Limits::default());
//! decoder.push(Bytes::from_static(b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-le"));
//! assert!(matches!(decoder.next(), Ok(Step::More)));
//! decoder.push(Bytes::from_static(b"ngth: 2\r\n\r\nhi"));
//! let Ok(Step::Item(Item::Head(head))) = decoder.next() else { panic!() };
//! assert_eq!(head.target.path(), "/v1/messages");
//! assert!(matches!(decoder.next(), Ok(Step::Item(Item::Body(body))) if body == "hi"));
//! assert!(matches!(decoder.next(), Ok(Step::Item(Item::End))));
//! assert!(matches!(decoder.next(), Ok(Step::Pause)));
//! ```

use http::{HeaderMap, Method, StatusCode, Uri, Version};

mod body;
mod chunked;
pub mod client;
mod encode;
mod error;
mod fields;
mod framing;
mod head;
mod input;
mod names;
mod parse;
pub mod server;
#[cfg(test)]
mod tests;

pub use error::Error;
pub(crate) use fields::names_credential;
pub use fields::{is_credential, strip_hop_by_hop};

/// How far a peer may go before it is refused. All sizes in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line or status line, without its line end; 414 beyond. RFC 9112 §3 asks for at least
    /// 8000.
    pub start_line: usize,
    /// Whole head, start line and line ends included; 431 beyond.
    pub head: usize,
    /// Number of header fields, and of trailer fields; 431 beyond.
    pub headers: usize,
    /// Request body after decoding; 413 beyond. Response bodies are relayed, not held, and have no
    /// limit.
    pub body: u64,
    /// One chunk-size line with its extensions; 400 beyond.
    pub chunk_line: usize,
    /// The trailer section, line ends included; 431 beyond.
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

/// The head of a request. Values of [credential fields](is_credential) are marked sensitive, so
/// that debug output does not show them.
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
    /// Whether the client waits for `100 Continue` before it sends the body. Not set where there is
    /// no body, or where its declared length is beyond the limit: the refusal follows.
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
    /// How the body is delimited, by what the fields say. Where there is no body whatever they say
    /// (a reply to HEAD, 204, 304), [`End`](client::Item::End) follows at once.
    pub length: BodyLength,
    /// Whether the server means to keep the connection.
    pub keep_alive: bool,
}
