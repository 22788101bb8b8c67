//! What a scripted upstream does when it is called: bytes, pauses and faults, in order.
//!
//! A [`Reply`] is described by its message and by what goes wrong with it, and rendered into
//! [`Step`]s. The simulator plays them in virtual time, [`sockets`](crate::sockets) on a real
//! connection.

use std::fmt::Write as _;

use aibridge_core::{Duration, Fault};
use bytes::{Bytes, BytesMut};
use http::StatusCode;

use crate::{Answer, Connect};

/// One thing that a scripted upstream does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends these bytes, as one piece.
    Bytes(Bytes),
    /// Waits until the test says [`Script::confirm`](crate::Script::confirm).
    Confirm,
    /// Ends its side of the connection.
    End,
    /// Resets the connection.
    Reset,
    /// Goes silent for ever.
    Stall,
    /// Waits.
    Wait(Duration),
}

/// Where a reply's bytes are cut into pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// At these offsets, ascending, counted over the whole reply.
    At(Vec<usize>),
    /// Into pieces of this many bytes.
    Every(usize),
    /// As the reply was described: in one piece, or one for each event where there are pauses.
    #[default]
    None,
}

impl Cut {
    /// The same for a message that is many times as long: the number of pieces stays in proportion,
    /// and no piece is larger than what is read from a socket at a time.
    pub(crate) fn coarser(&self) -> Self {
        match self {
            Self::Every(size) => Self::Every(size.saturating_mul(64).min(16 << 10)),
            Self::At(_) | Self::None => Self::Every(16 << 10),
        }
    }
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Chunked,
    Length,
    UntilClose,
}

/// A scripted reply.
#[derive(Clone, Debug)]
pub struct Reply {
    message: Message,
    delay: Duration,
    pause: Option<Step>,
    cut: Cut,
    fault: Option<(usize, Step)>,
}

#[derive(Clone, Debug)]
enum Message {
    /// The connection does not come up.
    NoConnection(Option<Fault>),
    Http {
        status: StatusCode,
        headers: Vec<(String, String)>,
        framing: Framing,
        /// The body, event by event where it is a stream.
        body: Vec<Bytes>,
    },
    Raw(Bytes),
}

impl Reply {
    /// A reply with these bytes, whatever they are.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(Message::Raw(bytes.into()))
    }

    /// A JSON reply.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::http(
            status,
            "application/json",
            Framing::Length,
            vec![body.into()],
        )
    }

    /// A reply with this status and a JSON body that says no more than that.
    pub fn status(status: u16) -> Self {
        Self::json(
            status,
            format!(r#"{{"error":{{"message":"scripted {status}"}}}}"#),
        )
    }

    /// A stream of server-sent events, as these bytes, chunked event by event.
    pub fn sse(text: impl AsRef<[u8]>) -> Self {
        let events = split_events(text.as_ref());
        Self::http(
            200,
            "text/event-stream; charset=utf-8",
            Framing::Chunked,
            events,
        )
    }

    /// The connection is refused.
    pub fn refuse() -> Self {
        Self::new(Message::NoConnection(Some(Fault::Refused)))
    }

    /// The connection fails like this before it is up.
    pub fn unreachable(fault: Fault) -> Self {
        Self::new(Message::NoConnection(Some(fault)))
    }

    /// The connection attempt gets no answer.
    pub fn no_answer() -> Self {
        Self::new(Message::NoConnection(None))
    }

    /// The connection is closed when the request has come, without a byte of a reply.
    pub fn hang_up() -> Self {
        Self::raw(Bytes::new()).end_at(0)
    }

    /// The connection is reset when the request has come, without a byte of a reply.
    pub fn reset() -> Self {
        Self::raw(Bytes::new()).reset_at(0)
    }

    /// Silence.
    pub fn stall() -> Self {
        Self::raw(Bytes::new()).stall_at(0)
    }

    /// Bytes that are no HTTP.
    pub fn garbage() -> Self {
        Self::raw(&b"\x16\x03\x01 this is no HTTP\r\n\r\n"[..])
    }

    fn http(status: u16, kind: &str, framing: Framing, body: Vec<Bytes>) -> Self {
        Self::new(Message::Http {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
            headers: vec![("content-type".to_owned(), kind.to_owned())],
            framing,
            body,
        })
    }

    fn new(message: Message) -> Self {
        Self {
            message,
            delay: Duration::ZERO,
            pause: None,
            cut: Cut::None,
            fault: None,
        }
    }

    /// The same with a header field more; a field of that name is replaced.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Message::Http { headers, .. } = &mut self.message {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, code: u16) -> Self {
        if let Message::Http { status, .. } = &mut self.message {
            *status = StatusCode::from_u16(code).unwrap_or(*status);
        }
        self
    }

    /// The same with `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header("retry-after", &seconds.to_string())
    }

    /// The same, its body delimited by the end of the connection.
    #[must_use]
    pub fn until_close(self) -> Self {
        self.framed(Framing::UntilClose)
    }

    /// The same, its body with a `Content-Length`.
    #[must_use]
    pub fn with_length(self) -> Self {
        self.framed(Framing::Length)
    }

    /// The same in chunks, one for each piece of the body.
    #[must_use]
    pub fn in_chunks(self) -> Self {
        self.framed(Framing::Chunked)
    }

    fn framed(mut self, new: Framing) -> Self {
        if let Message::Http { framing, .. } = &mut self.message {
            *framing = new;
        }
        self
    }

    /// The same, with silence before the first byte.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, with silence before each event but the first.
    #[must_use]
    pub fn pausing(mut self, pause: Duration) -> Self {
        self.pause = Some(Step::Wait(pause));
        self
    }

    /// The same, each event but the first held back until the test confirms.
    #[must_use]
    pub fn confirming(mut self) -> Self {
        self.pause = Some(Step::Confirm);
        self
    }

    /// The same, its bytes in other pieces.
    #[must_use]
    pub fn cut(mut self, cut: Cut) -> Self {
        self.cut = cut;
        self
    }

    /// The same, but the connection is reset after so many bytes.
    #[must_use]
    pub fn reset_at(mut self, bytes: usize) -> Self {
        self.fault = Some((bytes, Step::Reset));
        self
    }

    /// The same, but the connection ends after so many bytes.
    #[must_use]
    pub fn end_at(mut self, bytes: usize) -> Self {
        self.fault = Some((bytes, Step::End));
        self
    }

    /// The same, but silent for ever after so many bytes.
    #[must_use]
    pub fn stall_at(mut self, bytes: usize) -> Self {
        self.fault = Some((bytes, Step::Stall));
        self
    }

    /// Whether it is no error.
    pub(crate) fn is_success(&self) -> bool {
        matches!(&self.message, Message::Http { status, .. } if status.is_success())
    }

    /// How the connection does not come up, if it does not.
    pub(crate) fn failed_connect(&self) -> Option<Connect> {
        match self.message {
            Message::NoConnection(Some(fault)) => Some(Connect::Fail(fault)),
            Message::NoConnection(None) => Some(Connect::NoAnswer),
            Message::Http { .. } | Message::Raw(_) => None,
        }
    }

    /// The whole message as it goes over the wire if nothing goes wrong.
    pub fn bytes(&self) -> Bytes {
        let mut all = BytesMut::new();
        for step in self.describe() {
            if let Step::Bytes(bytes) = step {
                all.extend_from_slice(&bytes);
            }
        }
        all.freeze()
    }

    /// The body alone, without framing.
    pub fn body(&self) -> Bytes {
        match &self.message {
            Message::Http { body, .. } => body.concat().into(),
            Message::NoConnection(_) | Message::Raw(_) => Bytes::new(),
        }
    }

    /// What of the body gets out before the reply breaks off, if it does.
    pub fn sent(&self) -> Bytes {
        let mut all = BytesMut::new();
        for step in self.steps() {
            if let Step::Bytes(bytes) = step {
                all.extend_from_slice(&bytes);
            }
        }
        Answer::read(&all, false).map_or_else(Bytes::new, |(answer, _)| answer.body)
    }

    /// What the upstream does, in order.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.describe();
        if let Some((at, fault)) = &self.fault {
            steps = truncate(steps, *at);
            steps.push(fault.clone());
        }
        let mut steps = cut(steps, &self.cut);
        if !self.delay.is_zero() {
            steps.insert(0, Step::Wait(self.delay));
        }
        steps
    }

    fn describe(&self) -> Vec<Step> {
        let (status, headers, framing, body) = match &self.message {
            Message::NoConnection(_) => return Vec::new(),
            Message::Raw(bytes) => return vec![Step::Bytes(bytes.clone())],
            Message::Http {
                status,
                headers,
                framing,
                body,
            } => (status, headers, *framing, body),
        };
        let reason = status.canonical_reason().unwrap_or("Scripted");
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        match framing {
            Framing::Chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Framing::Length => {
                let length: usize = body.iter().map(Bytes::len).sum();
                let _ = write!(head, "content-length: {length}\r\n");
            }
            Framing::UntilClose => head.push_str("connection: close\r\n"),
        }
        head.push_str("\r\n");

        let mut steps = Vec::new();
        let mut run = BytesMut::from(head.as_bytes());
        for (index, event) in body.iter().enumerate() {
            if let Some(pause) = self.pause.as_ref().filter(|_| index > 0) {
                steps.extend([Step::Bytes(run.split().freeze()), pause.clone()]);
            }
            if framing == Framing::Chunked {
                run.extend_from_slice(format!("{:x}\r\n", event.len()).as_bytes());
                run.extend_from_slice(event);
                run.extend_from_slice(b"\r\n");
            } else {
                run.extend_from_slice(event);
            }
        }
        if framing == Framing::Chunked {
            run.extend_from_slice(b"0\r\n\r\n");
        }
        steps.push(Step::Bytes(run.freeze()));
        if framing == Framing::UntilClose {
            steps.push(Step::End);
        }
        steps
    }
}

/// The steps up to so many bytes.
fn truncate(steps: Vec<Step>, mut left: usize) -> Vec<Step> {
    let mut kept = Vec::new();
    for step in steps {
        if left == 0 {
            break;
        }
        match step {
            Step::Bytes(bytes) => {
                let piece = bytes.slice(..left.min(bytes.len()));
                left -= piece.len();
                kept.push(Step::Bytes(piece));
            }
            other => kept.push(other),
        }
    }
    kept
}

/// The steps with their bytes in other pieces.
fn cut(steps: Vec<Step>, how: &Cut) -> Vec<Step> {
    let mut done = Vec::new();
    let mut offset = 0;
    for step in steps {
        match step {
            Step::Bytes(bytes) => {
                let end = offset + bytes.len();
                done.extend(pieces_from(offset, bytes, how).map(Step::Bytes));
                offset = end;
            }
            other => done.push(other),
        }
    }
    done
}

/// Bytes in pieces.
pub(crate) fn pieces(bytes: Bytes, how: &Cut) -> impl Iterator<Item = Bytes> {
    pieces_from(0, bytes, how)
}

fn pieces_from(mut offset: usize, mut bytes: Bytes, how: &Cut) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let next = match how {
            Cut::At(points) => points.iter().find(|at| **at > offset).map(|at| at - offset),
            Cut::Every(size) => Some((*size).max(1)),
            Cut::None => None,
        };
        let piece = bytes.split_to(next.unwrap_or(usize::MAX).min(bytes.len()));
        offset += piece.len();
        (!piece.is_empty()).then_some(piece)
    })
}

/// A stream's events with their blank lines; what stands after the last one is a piece of its own.
pub(crate) fn split_events(text: &[u8]) -> Vec<Bytes> {
    let mut events = Vec::new();
    let (mut begin, mut line) = (0, 0);
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let blank = text[line..at].iter().all(|byte| *byte == b'\r');
        line = at + 1;
        if blank {
            events.push(Bytes::copy_from_slice(&text[begin..line]));
            begin = line;
        }
    }
    if begin < text.len() {
        events.push(Bytes::copy_from_slice(&text[begin..]));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(steps: &[Step]) -> Vec<String> {
        let show = |step: &Step| match step {
            Step::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        };
        steps.iter().map(show).collect()
    }

    #[test]
    fn a_stream_is_chunked_event_by_event() {
        let reply = Reply::sse("data: a\n\ndata: b\r\n\r\n").pausing(Duration::from_secs(1));
        let steps = text(&reply.steps());
        assert!(
            steps[0].ends_with("\r\n\r\n9\r\ndata: a\n\n\r\n"),
            "{steps:?}"
        );
        assert_eq!(steps[1], "Wait(1s)");
        assert_eq!(steps[2], "b\r\ndata: b\r\n\r\n\r\n0\r\n\r\n");
    }

    #[test]
    fn cuts_and_faults_count_bytes_over_the_whole_reply() {
        let reply = Reply::raw("abcdefgh").cut(Cut::At(vec![3, 5]));
        assert_eq!(text(&reply.steps()), ["abc", "de", "fgh"]);
        assert_eq!(
            text(&reply.clone().reset_at(4).steps()),
            ["abc", "d", "Reset"]
        );
        assert_eq!(text(&reply.clone().end_at(0).steps()), ["End"]);
        assert_eq!(
            text(&reply.stall_at(9).cut(Cut::Every(5)).steps()),
            ["abcde", "fgh", "Stall"]
        );
        assert_eq!(text(&Reply::stall().steps()), ["Stall"]);
    }

    #[test]
    fn a_body_until_close_ends_the_connection() {
        let steps = Reply::json(200, "{}").until_close().steps();
        assert_eq!(steps.last(), Some(&Step::End));
    }
}
