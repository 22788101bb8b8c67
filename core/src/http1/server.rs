//! The server's side: requests in, responses out.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::{
    BodyLength, Error, Limits, RequestHead,
    body::{Body, Piece},
    encode::{self, Decimal},
    fields::is_framing,
    head::{Block, Kind},
    input::Input,
    parse,
};
use crate::{codec::Step, frame::Frame};

/// A piece of a request.
pub enum Item {
    /// The head.
    Head(Box<RequestHead>),
    /// Some of the body; never empty. Shares the pushed buffer.
    Body(Bytes),
    /// The request is complete.
    End,
}

impl fmt::Debug for Item {
    /// Of a body its size only: it is somebody's prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(head) => f.debug_tuple("Head").field(head).finish(),
            Self::Body(data) => write!(f, "Body({})", data.len()),
            Self::End => f.write_str("End"),
        }
    }
}

/// Decodes the requests of one connection. After [`Item::End`] it says [`Step::Pause`] until
/// [`next_message`](Self::next_message); pipelined bytes are held. After an error it repeats the
/// error.
///
/// A declared length beyond [`Limits::body`] is refused directly after the head, which is given, so
/// that the refusal can be put in the words of the API that was asked.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    input: Input,
    block: Block,
    state: State,
}

#[derive(Debug)]
enum State {
    Head,
    Body(Body),
    Ended,
    Failed(Error),
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            block: Block::default(),
            state: State::Head,
        }
    }

    /// Takes bytes as they came. After an error they are dropped. What comes while they cannot be
    /// given out is copied where it is small, so that it does not keep alive the buffer it was read
    /// into.
    pub fn push(&mut self, bytes: Bytes) {
        match self.state {
            State::Head | State::Body(_) => self.input.push(bytes),
            State::Ended => self.input.hold(bytes),
            State::Failed(_) => {}
        }
    }

    /// The client will send no more. Between two requests that is no error, and `next` goes on
    /// saying [`Step::More`]; within one, it is [`Error::Incomplete`] once all before has been
    /// given out.
    pub fn end(&mut self) {
        self.input.end();
    }

    /// The next piece.
    ///
    /// # Errors
    /// What the client did wrong, with the status to answer; the connection must be closed then.
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

    /// Moves on to the next request, after [`Item::End`]; anywhere else it does nothing.
    pub fn next_message(&mut self) {
        if matches!(self.state, State::Ended) {
            self.state = State::Head;
        }
    }

    /// Whether a request has begun and is not complete, one that is malformed included.
    pub fn is_within_message(&self) -> bool {
        match &self.state {
            State::Body(_) | State::Failed(_) => true,
            State::Head | State::Ended => self.buffered() > 0,
        }
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
                    self.input.settle();
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
        let Some(mut head) = self
            .block
            .take(Kind::Request, limits, input, parse::request)?
        else {
            if self.input.ended() && !self.block.is_blank() {
                return Err(Error::Incomplete);
            }
            return Ok(Step::More);
        };
        let body = Body::new(head.length, self.limits.body);
        head.expect_continue &= !matches!(body, Body::TooLarge);
        self.state = State::Body(body);
        Ok(Step::Item(Item::Head(Box::new(head))))
    }
}

/// Encodes one response: [`head`](Self::head), then [`body`](Self::body) as often as needed, then
/// [`end`](Self::end).
///
/// ```
/// use aibridge_core::http1::{BodyLength, server::Encoder};
/// use bytes::{Buf, Bytes};
/// use http::{HeaderMap, Method, StatusCode, Version};
///
/// let mut encoder = Encoder::new(Version::HTTP_11, &Method::GET);
/// let mut head = encoder.head(StatusCode::OK, &HeaderMap::new(), BodyLength::Chunked, false);
/// assert_eq!(head.copy_to_bytes(head.remaining()), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
/// assert_eq!(encoder.body(Bytes::from_static(b"hi")).copy_to_bytes(7), "2\r\nhi\r\n");
/// assert_eq!(encoder.end().copy_to_bytes(5), "0\r\n\r\n");
/// assert!(!encoder.closes());
/// ```
#[derive(Debug)]
pub struct Encoder {
    is_http10: bool,
    is_head: bool,
    framing: Framing,
    closes: bool,
}

/// What is written of a body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Chunks,
    /// So many bytes are still to come.
    Known(u64),
    /// Nothing: there is no body, or it is over.
    None,
    UntilClose,
}

impl Encoder {
    /// An encoder for the response to a request of this version and method. (For a request that
    /// could not be parsed: HTTP/1.1 and GET.)
    pub fn new(version: Version, method: &Method) -> Self {
        Self {
            is_http10: version == Version::HTTP_10,
            is_head: method == Method::HEAD,
            framing: Framing::None,
            closes: false,
        }
    }

    /// `HTTP/1.1 100 Continue`.
    pub fn proceed() -> Frame {
        Frame::fixed(b"HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// Status line, `headers`, and the fields of the connection: framing by `length`,
    /// `connection: close` where the connection closes, `connection: keep-alive` where an HTTP/1.0
    /// one does not.
    ///
    /// `close` must be set when the request's [`keep_alive`](RequestHead::keep_alive) is not.
    /// `headers` should hold no hop-by-hop fields; `connection`, `content-length` and
    /// `transfer-encoding` in it are left out, so that a message is never framed twice. Chunks,
    /// which HTTP/1.0 does not know, become a body that the end of the connection delimits. A reply
    /// to HEAD keeps its length, but gets no body; 204 and 304 get neither.
    pub fn head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        length: BodyLength,
        close: bool,
    ) -> Frame {
        let length = match length {
            BodyLength::Chunked if self.is_http10 => BodyLength::UntilClose,
            length => length,
        };
        let is_bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || status.is_informational();
        let has_body = !is_bare && !self.is_head;
        self.framing = match length {
            _ if !has_body => Framing::None,
            BodyLength::Chunked => Framing::Chunks,
            BodyLength::Known(len) => Framing::Known(len),
            BodyLength::UntilClose => Framing::UntilClose,
        };
        self.closes = close || matches!(self.framing, Framing::UntilClose);

        let digits;
        let framing: [&[u8]; 3] = match length {
            _ if is_bare => [b"", b"", b""],
            BodyLength::Chunked => [b"transfer-encoding: chunked", b"", b"\r\n"],
            BodyLength::Known(len) => {
                digits = Decimal::new(len);
                [b"content-length: ", digits.as_bytes(), b"\r\n"]
            }
            BodyLength::UntilClose => [b"", b"", b""],
        };
        // Who sends `Upgrade` must say so in `Connection` (RFC 9110 §7.8): 426 does.
        let connection: &[u8] = match (headers.contains_key(header::UPGRADE), self.closes) {
            (true, true) => b"connection: upgrade, close\r\n",
            (true, false) => b"connection: upgrade\r\n",
            (false, true) => b"connection: close\r\n",
            (false, false) if self.is_http10 => b"connection: keep-alive\r\n",
            (false, false) => b"",
        };
        let reason = status.canonical_reason().unwrap_or("");
        let start: [&[u8]; 5] = [
            b"HTTP/1.1 ",
            status.as_str().as_bytes(),
            b" ",
            reason.as_bytes(),
            b"\r\n",
        ];
        let fields = || headers.iter().filter(|(name, _)| !is_framing(name));
        let end = [framing[0], framing[1], framing[2], connection, b"\r\n"];
        Frame::raw(encode::head(&start, fields, &end))
    }

    /// Some of the body. Empty input, and any body where none is allowed (HEAD, 204, 304), gives an
    /// empty frame. What exceeds a known length is dropped: it would be read as the next response.
    pub fn body(&mut self, mut data: Bytes) -> Frame {
        match &mut self.framing {
            Framing::Chunks if !data.is_empty() => Frame::chunked(data),
            Framing::Known(left) => {
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                Frame::raw(data)
            }
            Framing::UntilClose => Frame::raw(data),
            Framing::Chunks | Framing::None => Frame::raw(Bytes::new()),
        }
    }

    /// The end of the body; an empty frame where the framing needs none. Where less was given than
    /// the known length, the connection must close: only so can the client tell.
    pub fn end(&mut self) -> Frame {
        let framing = std::mem::replace(&mut self.framing, Framing::None);
        match framing {
            Framing::Chunks => return Frame::fixed(b"0\r\n\r\n"),
            Framing::Known(left) => self.closes |= left > 0,
            Framing::None | Framing::UntilClose => {}
        }
        Frame::raw(Bytes::new())
    }

    /// Whether only the connection's end will tell where the body ends. Where the body is not
    /// complete, that end must not look orderly (RFC 9112 §8).
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.framing, Framing::UntilClose)
    }

    /// Whether the connection must be closed after this response.
    pub fn closes(&self) -> bool {
        self.closes
    }
}
