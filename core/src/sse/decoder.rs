//! From bytes to events.

use std::borrow::Cow;

use bytes::Bytes;

use crate::codec::Step;

/// One event, with its bytes as they came.
#[derive(Clone, Debug)]
pub struct Event {}

impl Event {
    /// All bytes of the event, its blank line included.
    pub fn raw(&self) -> &Bytes {
        todo!()
    }
    /// The `event` field; empty where there is none.
    pub fn name(&self) -> &[u8] {
        todo!()
    }
    /// The `data` fields, joined by newlines; borrowed where there is one.
    pub fn data(&self) -> Cow<'_, [u8]> {
        todo!()
    }
    /// The `id` field of this event, where it has one without NUL.
    pub fn id(&self) -> Option<&[u8]> {
        todo!()
    }
    /// The `retry` field in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        todo!()
    }
}

/// A piece of a stream. The raw bytes of all items together are exactly the bytes pushed.
#[derive(Clone, Debug)]
pub enum Item {
    /// An event that a browser would dispatch: it has a `data` field.
    Event(Event),
    /// Bytes that are no event: comments, blank lines, a byte order mark, blocks without data, pieces
    /// of an event above the size limit, an unterminated last event.
    Raw(Bytes),
}

/// Decodes a stream.
#[derive(Debug)]
pub struct Decoder {}

impl Decoder {
    /// A decoder that gives up on events above `limit` bytes.
    pub fn new(_limit: usize) -> Self {
        todo!()
    }
    /// Takes bytes as they came.
    pub fn push(&mut self, _bytes: Bytes) {
        todo!()
    }
    /// The stream has ended: what is left comes out as [`Item::Raw`].
    pub fn end(&mut self) {
        todo!()
    }
    /// The next piece; never `Pause`.
    #[expect(
        clippy::should_implement_trait,
        reason = "a codec's `next` is not an iterator's"
    )]
    pub fn next(&mut self) -> Step<Item> {
        todo!()
    }
    /// Whether the bytes pushed so far end inside an event, so that nothing may be put in here.
    pub fn mid_event(&self) -> bool {
        todo!()
    }
}
