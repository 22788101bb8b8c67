//! The client's side: requests out, responses in.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    BodyLength, Error, Limits, ResponseHead,
    body::{Body, Piece},
    encode::{self, Decimal},
    fields::{is_credential, is_framing},
    head::{Block, Kind},
    input::Input,
    parse,
};
use crate::{codec::Step, frame::Frame};

/// A piece of a response.
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

impl fmt::Debug for Item {
    /// Of a body its size only: it is somebody's answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interim(status) => f.debug_tuple("Interim").field(status).finish(),
            Self::Head(head) => f.debug_tuple("Head").field(head).finish(),
            Self::Body(data) => write!(f, "Body({})", data.len()),
            Self::End => f.write_str("End"),
        }
    }
}

/// Decodes the response to one request. After [`Item::End`] it says [`Step::Pause`]. After an error
/// it repeats the error.
///
/// ```
/// use aibridge_core::{codec::Step, http1::{Limits, client::{Decoder, Item}}};
/// use bytes::Bytes;
/// use http::Method;
///
/// let mut decoder = Decoder::new(Limits::default(), &Method::POST);
/// decoder.push(Bytes::from_static(b"HTTP/1.1 429 Slow down\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n"));
/// let Ok(Step::Item(Item::Head(head))) = decoder.next() else { panic!() };
/// assert_eq!((head.status.as_u16(), &head.headers["retry-after"]), (429, &"3".parse().unwrap()));
/// assert!(matches!(decoder.next(), Ok(Step::Item(Item::End))));
/// assert!(decoder.reusable());
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    input: Input,
    block: Block,
    state: State,
    method: Method,
    started: bool,
    keeps: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    Ended,
    Failed(Error),
}

impl Decoder {
    /// A decoder for the response to a request of this method.
    pub fn new(limits: Limits, method: &Method) -> Self {
        Self {
            limits,
            input: Input::default(),
            block: Block::default(),
            state: State::Head,
            method: method.clone(),
            started: false,
            keeps: false,
        }
    }

    /// Takes bytes as they came. After an error they are dropped.
    pub fn push(&mut self, bytes: Bytes) {
        self.started |= !bytes.is_empty();
        if !matches!(self.state, State::Failed(_)) {
            self.input.push(bytes);
        }
    }

    /// The server will send no more.
    pub fn end(&mut self) {
        self.input.end();
    }

    /// The next piece.
    ///
    /// # Errors
    /// What the server did wrong; the connection must be closed then. A body that ends before its
    /// declared length, or without its last chunk, is an error too.
    #[expect(
        clippy::should_implement_trait,
        reason = "every codec has a `next` of this form"
    )]
    pub fn next(&mut self) -> Result<Step<Item>, Error> {
        let result = self.step();
        if let Err(error) = result {
            self.state = State::Failed(error);
            self.input.clear();
            self.block = Block::default();
        }
        result
    }

    /// Whether the connection can carry another request: the response is complete, the server keeps
    /// it open, the body was not delimited by the end, and no stray bytes follow.
    pub fn reusable(&self) -> bool {
        matches!(self.state, State::Ended)
            && self.keeps
            && self.input.is_empty()
            && !self.input.ended()
    }

    /// Whether any byte of a response has been pushed.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Bytes pushed and not yet given out: what a peer makes us hold.
    pub fn buffered(&self) -> usize {
        let in_body = match &self.state {
            State::Body(body) => body.buffered(),
            State::Head | State::Ended | State::Failed(_) => 0,
        };
        self.input.len() + self.block.len() + in_body
    }

    fn step(&mut self) -> Result<Step<Item>, Error> {
        match &mut self.state {
            State::Head => self.head(),
            State::Body(body) => match body.next(&self.limits, &mut self.input)? {
                Piece::Data(data) => Ok(Step::Item(Item::Body(data))),
                Piece::End => {
                    self.state = State::Ended;
                    Ok(Step::Item(Item::End))
                }
                Piece::More => Ok(Step::More),
            },
            State::Ended => Ok(Step::Pause),
            State::Failed(error) => Err(*error),
        }
    }

    fn head(&mut self) -> Result<Step<Item>, Error> {
        let (limits, input) = (&self.limits, &mut self.input);
        let Some(head) = self
            .block
            .take(Kind::Response, limits, input, parse::response)?
        else {
            return if self.input.ended() {
                Err(Error::Incomplete)
            } else {
                Ok(Step::More)
            };
        };
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::SwitchedProtocols);
        }
        if head.status.is_informational() {
            return Ok(Step::Item(Item::Interim(head.status)));
        }
        let is_tunnel = self.method == Method::CONNECT && head.status.is_success();
        let is_bare = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let length = if self.method == Method::HEAD || is_bare || is_tunnel {
            BodyLength::Known(0)
        } else {
            head.length
        };
        self.keeps = head.keep_alive && length != BodyLength::UntilClose && !is_tunnel;
        self.state = State::Body(Body::new(length, u64::MAX));
        Ok(Step::Item(Item::Head(Box::new(head))))
    }
}

/// The head of a request with a body of known length: request line, `host`, `headers`, `extra`
/// fields, and `content-length` where the body is not empty or the method expects one (POST, PUT,
/// PATCH; RFC 9110 §8.6).
///
/// `headers` should hold no hop-by-hop fields. Left out of it are `host`, what frames a message
/// (`connection`, `content-length`, `transfer-encoding`), and [credentials](is_credential): a
/// credential is written only when it was put into `extra` on purpose. White space and control
/// bytes in `target` and `host`, which would break the request line, are left out too.
///
/// ```
/// use aibridge_core::http1::client::encode_head;
/// use bytes::Buf;
/// use http::{HeaderMap, HeaderName, HeaderValue, Method};
///
/// let key = (HeaderName::from_static("x-api-key"), HeaderValue::from_static("k0"));
/// let mut head = encode_head(&Method::POST, "/v1/messages", "api.test", &HeaderMap::new(), &[key], 2);
/// assert_eq!(
///     head.copy_to_bytes(head.remaining()),
///     "POST /v1/messages HTTP/1.1\r\nhost: api.test\r\nx-api-key: k0\r\ncontent-length: 2\r\n\r\n",
/// );
/// ```
pub fn encode_head(
    method: &Method,
    target: &str,
    host: &str,
    headers: &HeaderMap,
    extra: &[(HeaderName, HeaderValue)],
    body_len: u64,
) -> Frame {
    let (target, host) = (visible(target), visible(host));
    let start: [&[u8]; 6] = [
        method.as_str().as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\nhost: ",
        host.as_bytes(),
        b"\r\n",
    ];
    let fields = || {
        headers
            .iter()
            .filter(|(name, _)| !is_credential(name))
            .chain(extra.iter().map(|(name, value)| (name, value)))
            .filter(|(name, _)| *name != header::HOST && !is_framing(name))
    };
    let digits = Decimal::new(body_len);
    let wants_length = matches!(*method, Method::PATCH | Method::POST | Method::PUT);
    let end: [&[u8]; 4] = if body_len > 0 || wants_length {
        [b"content-length: ", digits.as_bytes(), b"\r\n", b"\r\n"]
    } else {
        [b"", b"", b"", b"\r\n"]
    };
    Frame::raw(encode::head(&start, fields, &end))
}

/// The text without white space and control bytes.
fn visible(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|&c| c > ' ' && c != '\x7f').collect()
}
