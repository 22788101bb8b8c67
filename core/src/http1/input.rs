//! What was pushed and not yet read.

use std::{collections::VecDeque, fmt, mem};

use bytes::{Buf, Bytes};

/// Below this, a rest that is kept is copied, so that it does not pin the read buffer it came in.
const SMALL: usize = 1 << 10;

/// Pushed pieces in order, and whether more can come. The front piece is empty only when all is.
#[derive(Default)]
pub(super) struct Input {
    front: Bytes,
    behind: VecDeque<Bytes>,
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
        } else {
            self.behind.push_back(bytes);
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
        self.front = Bytes::new();
        self.behind = VecDeque::new();
        self.len = 0;
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
            self.front = self.behind.pop_front().unwrap_or_default();
        }
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
