//! What a client got: a reader for HTTP/1.1 replies and server-sent events.
//!
//! It is written apart from the core's decoders and knows only what the bridge may send, so that
//! one does not vouch for the other.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// How far a reply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Properly ended.
    Complete,
    /// Not ended: more may come, or it was broken off.
    Partial,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body without framing.
    pub body: Bytes,
    /// Whether it is all there.
    pub progress: Progress,
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// `event`; empty without.
    pub name: String,
    /// `data`, lines joined.
    pub data: String,
}

impl Answer {
    /// Reads the first reply in `bytes`, interim ones skipped, and says how many bytes it takes.
    /// `closed`: no more will come. `None` while the head is not there.
    ///
    /// # Panics
    /// The bytes are no reply that a server may send.
    pub fn read(bytes: &[u8], closed: bool) -> Option<(Self, usize)> {
        let head_end = find(bytes, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_end]).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status: u16 = status
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        if status < 200 {
            let (answer, used) = Self::read(&bytes[head_end..], closed)?;
            return Some((answer, head_end + used));
        }
        let field = |line: &str| {
            let (name, value) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("no field: {line:?}"));
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let mut answer = Self {
            status,
            headers: lines.map(field).collect(),
            body: Bytes::new(),
            progress: Progress::Partial,
        };
        let used = answer.read_body(&bytes[head_end..], closed);
        Some((answer, head_end + used))
    }

    fn read_body(&mut self, rest: &[u8], closed: bool) -> usize {
        if self.header("transfer-encoding") == Some("chunked") {
            assert_eq!(self.header("content-length"), None, "both framings");
            return self.read_chunks(rest);
        }
        let Some(length) = self.header("content-length") else {
            if matches!(self.status, 204 | 304) || closed {
                self.progress = Progress::Complete;
            }
            self.body = Bytes::copy_from_slice(rest);
            return rest.len();
        };
        let length: usize = length.parse().expect("a length is a number");
        let here = length.min(rest.len());
        self.body = Bytes::copy_from_slice(&rest[..here]);
        if here == length {
            self.progress = Progress::Complete;
        }
        here
    }

    fn read_chunks(&mut self, rest: &[u8]) -> usize {
        let mut body = BytesMut::new();
        let mut at = 0;
        while let Some(line) = find(&rest[at..], b"\r\n") {
            let size = std::str::from_utf8(&rest[at..at + line]).unwrap_or_default();
            let size = usize::from_str_radix(size, 16)
                .unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
            let data = at + line + 2;
            if rest.len() < data + size + 2 {
                body.extend_from_slice(&rest[data..rest.len().min(data + size)]);
                at = rest.len();
                break;
            }
            assert_eq!(
                &rest[data + size..data + size + 2],
                b"\r\n",
                "the end of a chunk"
            );
            body.extend_from_slice(&rest[data..data + size]);
            at = data + size + 2;
            if size == 0 {
                self.progress = Progress::Complete;
                break;
            }
        }
        self.body = body.freeze();
        at
    }

    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.as_str())
    }

    /// Whether it is all there.
    pub fn is_complete(&self) -> bool {
        self.progress == Progress::Complete
    }

    /// Whether it is a stream of events.
    pub fn is_stream(&self) -> bool {
        let kind = self.header("content-type").unwrap_or_default();
        kind.starts_with("text/event-stream")
    }

    /// The body as text.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {:?}", self.body))
    }

    /// The `type` of an error reply in either vendor's shape.
    #[track_caller]
    pub fn error_type(&self) -> String {
        let json = self.json();
        json["error"]["type"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The `message` of an error reply in either vendor's shape.
    #[track_caller]
    pub fn error_message(&self) -> String {
        let json = self.json();
        json["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The body as events.
    pub fn events(&self) -> Vec<SseEvent> {
        events(&self.body)
    }
}

/// The events of a stream: those with data, as a browser would dispatch them.
pub fn events(stream: &[u8]) -> Vec<SseEvent> {
    let text = String::from_utf8_lossy(stream)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let mut found = Vec::new();
    let (mut name, mut data) = (String::new(), None::<String>);
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            if let Some(data) = data.take() {
                found.push(SseEvent { name, data });
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
    found
}

/// Where `needle` first stands in `hay`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_replies_one_after_the_other() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        let (first, used) = Answer::read(bytes, false).unwrap();
        assert_eq!((first.status, &first.body[..]), (200, &b"abc"[..]));
        assert!(first.is_complete());
        let (second, rest) = Answer::read(&bytes[used..], false).unwrap();
        assert_eq!((second.status, used + rest), (404, bytes.len()));
    }

    #[test]
    fn a_reply_without_its_end_is_partial() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\nde";
        let (answer, used) = Answer::read(bytes, true).unwrap();
        assert_eq!((&answer.body[..], used), (&b"abcde"[..], bytes.len()));
        assert!(!answer.is_complete());
    }

    #[test]
    fn events_are_dispatched_at_blank_lines() {
        let found = events(
            b": hi\r\nevent: a\r\ndata: 1\r\ndata:2\r\n\r\ndata: 3\n\nevent: b\n\ndata: lost",
        );
        let pairs: Vec<_> = found
            .iter()
            .map(|e| (e.name.as_str(), e.data.as_str()))
            .collect();
        assert_eq!(pairs, [("a", "1\n2"), ("", "3")]);
    }
}
