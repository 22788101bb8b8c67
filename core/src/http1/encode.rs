//! Writing heads, each in one allocation of exactly its size.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// The pieces of the start line, the fields, and the pieces of what follows them.
/// `fields` gives the same fields twice: once to size the head, once to write it.
pub(super) fn head<'a, I>(start: &[&[u8]], fields: impl Fn() -> I, end: &[&[u8]]) -> Bytes
where
    I: Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
{
    let line_len =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let sum = |pieces: &[&[u8]]| pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let len = sum(start) + fields().map(line_len).sum::<usize>() + sum(end);
    let mut out = Vec::with_capacity(len);
    for piece in start {
        out.extend_from_slice(piece);
    }
    for (name, value) in fields() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    for piece in end {
        out.extend_from_slice(piece);
    }
    debug_assert_eq!(out.len(), len, "sized exactly");
    out.into()
}

/// A number in decimal digits, on the stack.
#[derive(Default)]
pub(super) struct Decimal {
    digits: [u8; 20],
    at: usize,
}

impl Decimal {
    pub(super) fn new(mut number: u64) -> Self {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b"0123456789"[(number % 10) as usize];
            number /= 10;
            if number == 0 {
                return Self { digits, at };
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.at..]
    }
}
