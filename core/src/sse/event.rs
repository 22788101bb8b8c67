//! One block of a stream, read as an event.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;
use memchr::memchr;

use super::lines::Lines;

/// One event, with its bytes as they came.
///
/// Fields are found once and kept as ranges, so that reading them copies nothing; only data of
/// several lines is joined, when asked for. Bytes are given as they are: a browser would read them
/// as UTF-8 with replacement.
#[derive(Clone)]
pub struct Event {
    raw: Bytes,
    name: Span,
    data: Data,
    id: Option<Span>,
    retry: Option<u64>,
}

/// A range of the raw bytes. Events are shorter than 4 GiB by the decoder's limit.
#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// Where the data stands.
#[derive(Clone, Copy)]
enum Data {
    /// In one field.
    One(Span),
    /// In several, to be joined; this many bytes.
    Many(usize),
}

impl Event {
    /// Reads a block; gives it back where a browser would dispatch no event for it, that is where
    /// it has no `data` field.
    pub(super) fn read(block: Bytes) -> Result<Self, Bytes> {
        let mut name = Span::default();
        let mut data = None;
        let mut id = None;
        let mut retry = None;
        for line in Lines::new(&block) {
            let (field, value) = split(&block[line.clone()]);
            let span = Span::new(line.end - value.len()..line.end);
            match field {
                b"data" => {
                    data = Some(match data {
                        None => Data::One(span),
                        Some(Data::One(first)) => Data::Many(first.len() + 1 + span.len()),
                        Some(Data::Many(len)) => Data::Many(len + 1 + span.len()),
                    });
                }
                b"event" => name = span,
                b"id" if memchr(0, value).is_none() => id = Some(span),
                b"retry" => retry = milliseconds(value).or(retry),
                _ => {} // a comment, or a field that nobody knows
            }
        }
        match data {
            Some(data) => Ok(Self {
                raw: block,
                name,
                data,
                id,
                retry,
            }),
            None => Err(block),
        }
    }

    /// All bytes of the event, its blank line included, and comments within it. Where the blank
    /// line is a CRLF that was split between two pushes, its LF is not among them.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The `event` field; empty where there is none.
    pub fn name(&self) -> &[u8] {
        self.name.in_(&self.raw)
    }

    /// The `data` fields, joined by newlines; borrowed where there is one.
    pub fn data(&self) -> Cow<'_, [u8]> {
        match self.data {
            Data::One(span) => Cow::Borrowed(span.in_(&self.raw)),
            Data::Many(len) => Cow::Owned(self.joined(len)),
        }
    }

    /// Where in [`raw`](Self::raw) the data stands, if it is in one field.
    pub fn data_range(&self) -> Option<Range<usize>> {
        match self.data {
            Data::One(span) => Some(span.start as usize..span.end as usize),
            Data::Many(_) => None,
        }
    }

    /// The `id` field of this event, where it has one without NUL.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.map(|span| span.in_(&self.raw))
    }

    /// The `retry` field in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    fn joined(&self, len: usize) -> Vec<u8> {
        let mut joined = Vec::with_capacity(len);
        let fields = Lines::new(&self.raw).map(|line| split(&self.raw[line]));
        for (nth, (_, value)) in fields.filter(|(field, _)| *field == b"data").enumerate() {
            if nth > 0 {
                joined.push(b'\n');
            }
            joined.extend_from_slice(value);
        }
        joined
    }
}

impl std::fmt::Debug for Event {
    /// The name and sizes only: data is what users write and models say.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = match self.data {
            Data::One(span) => span.len(),
            Data::Many(len) => len,
        };
        let name = String::from_utf8_lossy(self.name());
        write!(f, "Event({name:?}, {data} B of {} B)", self.raw.len())
    }
}

impl Span {
    fn new(range: Range<usize>) -> Self {
        let narrow = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            start: narrow(range.start),
            end: narrow(range.end),
        }
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn in_(self, whole: &[u8]) -> &[u8] {
        &whole[self.start as usize..self.end as usize]
    }
}

/// A line's field and value, which is always the end of the line. A comment is a field without a
/// name, and like a field that nobody knows, it is not looked into.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    for field in [&b"data"[..], b"event", b"id", b"retry"] {
        let rest = line.strip_prefix(field);
        if let Some([b':', b' ', value @ ..] | [b':', value @ ..] | value @ []) = rest {
            return (field, value);
        }
    }
    (b"", line)
}

/// The time in a `retry` field, which counts only if it is nothing but ASCII digits (§9.2.6). One
/// that no `u64` can hold is ignored like one that is no number.
fn milliseconds(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
