//! What was pushed and not yet read.

use std::{collections::VecDeque, fmt, mem};

use bytes::{Buf, Bytes, BytesMut};

/// Below this, what has to wait is copied, so that it does not pin the buffer it was read into.
/// Adapters read some 64 KiB at a time, so what is held pins no more than a few times its size, in
/// however small pieces it came.
const SMALL: usize = 16 << 10;

/// Pushed pieces in order, and whether more can come. The front piece is empty only when all is.
///
/// What is read at once is not copied: that is the front piece. A piece that comes while another
/// waits will wait too.
#[derive(Default)]
pub(super) struct Input {
    front: Bytes,
    behind: VecDeque<Bytes>,
    /// Small pieces after those, joined.
    tail: BytesMut,
    len: usize,
    ended: bool,
}

impl Input {
    pub(super) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        if self.front.is_empty() {
            self.front = bytes;
        } else if bytes.len() < SMALL {
            self.tail.extend_from_slice(&bytes);
        } else {
            let tail = self.take_tail();
            self.behind.extend(tail.into_iter().chain([bytes]));
        }
    }

    /// As `push`, of what is not read at once.
    pub(super) fn hold(&mut self, bytes: Bytes) {
        let is_first = self.is_empty();
        self.push(bytes);
        if is_first {
            self.settle();
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first piece.
    pub(super) fn front(&self) -> &[u8] {
        &self.front
    }

    /// Drops `count` bytes of the first piece.
    pub(super) fn advance(&mut self, count: usize) {
        self.len -= count;
        self.front.advance(count);
        self.refill();
    }

    /// At most `count` bytes of the first piece, shared.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        let taken = if count < self.front.len() {
            self.front.split_to(count)
        } else {
            mem::take(&mut self.front)
        };
        self.len -= taken.len();
        self.refill();
        taken
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self {
            ended: self.ended,
            ..Self::default()
        };
    }

    /// To be called when the rest is to be held for a while.
    pub(super) fn settle(&mut self) {
        if !self.front.is_empty() && self.front.len() < SMALL {
            self.front = Bytes::copy_from_slice(&self.front);
        }
    }

    fn refill(&mut self) {
        // An empty `Bytes` may still hold on to its buffer, so it is replaced in any case.
        if self.front.is_empty() {
            let next = self.behind.pop_front().or_else(|| self.take_tail());
            self.front = next.unwrap_or_default();
        }
    }

    fn take_tail(&mut self) -> Option<Bytes> {
        (!self.tail.is_empty()).then(|| mem::take(&mut self.tail).freeze())
    }
}

impl fmt::Debug for Input {
    /// Sizes only: the bytes may carry a credential or a prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("len", &self.len)
            .field("ended", &self.ended)
            .finish()
    }
}
