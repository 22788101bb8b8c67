//! Elements of an array, as they stand in a text.

use std::ops::Range;

use crate::json::{Error, Scanner};

/// An element of an array: with the comma before it, and without.
pub(super) struct Element {
    pub(super) span: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Element {
    /// Reads an array; gives where it opens, and its elements.
    pub(super) fn read_all(scan: &mut Scanner<'_>) -> Result<Option<(usize, Vec<Self>)>, Error> {
        if !scan.array_or_skip()? {
            return Ok(None);
        }
        let open = scan.position();
        let mut elements = Vec::new();
        loop {
            let start = scan.position();
            if !scan.element()? {
                return Ok(Some((open, elements)));
            }
            let value = scan.skip()?;
            let span = start..value.end;
            elements.push(Self { span, value });
        }
    }
}
