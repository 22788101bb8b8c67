//! From bytes to events.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    event::Event,
    lines::{BlockEnd, block_end},
};
use crate::codec::Step;

/// Default limit of one event in bytes: 16 MiB. The largest seen are whole replies of a few hundred
/// KiB, in the closing event of the responses API; images in base64 are larger.
pub const MAX_EVENT: usize = 16 << 20;

/// What may stand at the very start of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A piece of a stream. The raw bytes of all items together are exactly the bytes pushed.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event that a browser would dispatch: it has a `data` field.
    Event(Event),
    /// Bytes that are no event: comments, blank lines, a byte order mark, blocks without data,
    /// pieces of an event above the size limit, an unterminated last event.
    Raw(Bytes),
}

impl Item {
    /// The bytes of the item, as they came.
    pub fn raw(&self) -> &Bytes {
        match self {
            Self::Event(event) => event.raw(),
            Self::Raw(raw) => raw,
        }
    }
}

/// Decodes a stream.
///
/// An event is given out as soon as its blank line is there. A CR that ends a push ends its line:
/// if an LF follows in the next push, it belongs to that CR, and comes out as [`Item::Raw`] where
/// the CR ended an event. A comment in front of an event's fields comes out at once; one between
/// them is part of the event's raw bytes.
///
/// Bytes held: the pushes not yet read, and of an unfinished event at most `limit`.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The push being read, from the first byte not yet given out or held.
    input: Bytes,
    /// Pushes after it, for a caller that pushes without reading.
    waiting: VecDeque<Bytes>,
    /// The unfinished block so far, when the push it started in has been read.
    held: Vec<u8>,
    /// The byte before `input`; at the start of a stream, as if a line had ended.
    last: u8,
    reading: Reading,
    /// Whether the block is above the limit, and what was held of it has been given out.
    oversize: bool,
    ended: bool,
}

/// What the next bytes are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Lines up to a blank one.
    Block,
    /// A comment in front of a block: it ends with its line.
    Comment,
    /// A byte order mark, if there is one.
    Mark,
}

impl Decoder {
    /// A decoder that gives up on events above `limit` bytes, not counting their blank line. The
    /// limit itself is limited to 2 GiB.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(1 << 31),
            input: Bytes::new(),
            waiting: VecDeque::new(),
            held: Vec::new(),
            last: b'\n',
            oversize: false,
            reading: Reading::Mark,
            ended: false,
        }
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() && self.waiting.is_empty() {
            self.input = bytes;
        } else {
            self.waiting.push_back(bytes);
        }
    }

    /// The stream has ended: what is left comes out as [`Item::Raw`].
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The next piece; never `Pause`.
    #[expect(
        clippy::should_implement_trait,
        reason = "a codec's `next` is not an iterator's"
    )]
    pub fn next(&mut self) -> Step<Item> {
        loop {
            if self.input.is_empty() {
                match self.waiting.pop_front() {
                    Some(bytes) => self.input = bytes,
                    None => return self.rest(),
                }
            } else if let Some(item) = self.advance() {
                return Step::Item(item);
            }
        }
    }

    /// Whether the bytes pushed so far end inside an event, so that nothing may be put in here.
    ///
    /// Asked between items rather than after the last, it says whether bytes are still to come out.
    pub fn mid_event(&self) -> bool {
        self.within_block() || !self.input.is_empty() || !self.waiting.is_empty()
    }

    /// How many bytes it holds: pushed, and not yet given out. Once it wants more, those are of an
    /// unfinished event only: at most its limit, and a line's end.
    pub fn buffered(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(Bytes::len).sum();
        self.held.len() + self.input.len() + waiting
    }

    fn within_block(&self) -> bool {
        self.oversize || !self.held.is_empty()
    }

    /// What there is to say when all input has been read.
    fn rest(&mut self) -> Step<Item> {
        if !self.ended {
            return Step::More;
        }
        self.oversize = false;
        if self.held.is_empty() {
            return Step::More;
        }
        Step::Item(Item::Raw(self.take_held()))
    }

    /// Reads on in `input`, which is not empty: gives out its start, or holds all of it.
    fn advance(&mut self) -> Option<Item> {
        if self.reading == Reading::Mark {
            return self.start();
        }
        if !self.within_block() {
            if self.last == b'\r' && self.input[0] == b'\n' {
                return Some(Item::Raw(self.take(1)));
            }
            self.reading = match self.input[0] {
                b':' => Reading::Comment,
                _ => Reading::Block,
            };
        }
        let end = block_end(&self.input, self.last, self.reading == Reading::Comment);
        let content = end.map_or(self.input.len(), |end| end.content);
        if self.oversize || self.held.len() + content > self.limit {
            return Some(Item::Raw(self.oversize_piece(end)));
        }
        let Some(end) = end else {
            self.hold();
            return None;
        };
        let block = self.take(end.len);
        let block = if self.held.is_empty() {
            block
        } else {
            self.held.extend_from_slice(&block);
            self.take_held()
        };
        if self.reading == Reading::Comment {
            return Some(Item::Raw(block));
        }
        Some(Event::read(block).map_or_else(Item::Raw, Item::Event))
    }

    /// Reads a byte order mark, which may come in pieces.
    fn start(&mut self) -> Option<Item> {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&self.input);
            self.input = self.take_held();
        }
        if self.input.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.input) {
            self.hold();
            return None;
        }
        self.reading = Reading::Block;
        self.last = b'\n';
        if !self.input.starts_with(BYTE_ORDER_MARK) {
            return None;
        }
        Some(Item::Raw(self.input.split_to(BYTE_ORDER_MARK.len())))
    }

    /// A piece of a block above the limit: first what was held, then the input as it comes.
    fn oversize_piece(&mut self, end: Option<BlockEnd>) -> Bytes {
        if !self.held.is_empty() {
            self.oversize = true;
            return self.take_held();
        }
        self.oversize = end.is_none();
        self.take(end.map_or(self.input.len(), |end| end.len))
    }

    fn take(&mut self, len: usize) -> Bytes {
        let bytes = self.input.split_to(len);
        self.last = bytes.last().copied().unwrap_or(self.last);
        bytes
    }

    fn hold(&mut self) {
        let bytes = self.take(self.input.len());
        self.held.extend_from_slice(&bytes);
    }

    fn take_held(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.held))
    }
}
