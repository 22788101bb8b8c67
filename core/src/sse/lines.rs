//! Line ends: CR, LF or CRLF, mixed as they please.

use std::ops::Range;

use memchr::{memchr2, memchr2_iter};

/// Where the lines of a text stand, without their ends. A last line without an end counts, if it is
/// not empty.
pub(super) struct Lines<'a> {
    text: &'a [u8],
    next: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, next: 0 }
    }
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.next;
        let rest = &self.text[start..];
        if rest.is_empty() {
            return None;
        }
        let Some(len) = memchr2(b'\n', b'\r', rest) else {
            self.next = self.text.len();
            return Some(start..self.next);
        };
        self.next = start + len + line_end_len(&rest[len..]);
        Some(start..start + len)
    }
}

/// Where a block ends.
#[derive(Clone, Copy)]
pub(super) struct BlockEnd {
    /// Bytes before the line end that ends it. Unlike `len`, this does not depend on whether the LF
    /// of a CRLF is there yet.
    pub(super) content: usize,
    /// All its bytes.
    pub(super) len: usize,
}

/// Finds the end of a block: its first blank line, or of a `comment` its first line end. `last` is
/// the byte before `text`; CR and LF both say that `text` starts a line.
pub(super) fn block_end(text: &[u8], mut last: u8, comment: bool) -> Option<BlockEnd> {
    let mut next = 0;
    for at in memchr2_iter(b'\n', b'\r', text) {
        if at > next {
            last = 0; // some byte of a line
        }
        let byte = text[at];
        // The LF of a CRLF ends no line: its CR did.
        let ends_line = byte == b'\r' || last != b'\r';
        if ends_line && (comment || last == b'\n' || last == b'\r') {
            let len = at + line_end_len(&text[at..]);
            return Some(BlockEnd { content: at, len });
        }
        last = byte;
        next = at + 1;
    }
    None
}

/// Length of the line end that `text` starts with.
fn line_end_len(text: &[u8]) -> usize {
    if text.starts_with(b"\r\n") { 2 } else { 1 }
}
