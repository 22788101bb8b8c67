//! Edits of a JSON text, collected while it is read and made at once.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;

use crate::json;

/// What is to be replaced in a text.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, Cow<'static, [u8]>)>);

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts `new` in the place of what stands in `range`.
    pub(super) fn replace(&mut self, range: Range<usize>, new: impl Into<Replacement>) {
        self.0.push((range, new.into().0));
    }

    /// Puts `new` at an offset; after what was put there before.
    pub(super) fn insert(&mut self, at: usize, new: impl Into<Replacement>) {
        self.replace(at..at, new);
    }

    /// Cuts elements out of an array, or members out of an object, with the commas that go with
    /// them. The spans begin where the element before ends, or after the opening bracket.
    pub(super) fn cut(
        &mut self,
        text: &[u8],
        spans: &[Range<usize>],
        keep: impl Fn(usize) -> bool,
    ) {
        let first_kept = (0..spans.len()).find(|nth| keep(*nth));
        if let Some(leading) = spans.first() {
            let end = match first_kept {
                Some(0) => leading.start,
                Some(kept) => behind_comma(text, spans[kept].start),
                None => spans[spans.len() - 1].end,
            };
            if end > leading.start {
                self.replace(leading.start..end, "");
            }
        }
        let behind = first_kept.map_or(spans.len(), |kept| kept + 1);
        for (nth, span) in spans.iter().enumerate().skip(behind) {
            if !keep(nth) {
                self.replace(span.clone(), "");
            }
        }
    }

    /// Moves all edits: what they were made for is a part of the text, which starts there.
    pub(super) fn shift(&mut self, by: usize) {
        for (range, _) in &mut self.0 {
            *range = range.start + by..range.end + by;
        }
    }

    /// Takes over the edits of a part of the text that starts at `at`.
    pub(super) fn append(&mut self, mut others: Self, at: usize) {
        others.shift(at);
        self.0.append(&mut others.0);
    }

    /// The text with all edits made.
    pub(super) fn apply(mut self, text: &[u8]) -> Bytes {
        self.0.sort_by_key(|(range, _)| range.start);
        let edits: Vec<_> = self
            .0
            .iter()
            .map(|(range, new)| (range.clone(), &**new))
            .collect();
        json::splice(text, &edits)
    }
}

/// New text, owned or static.
pub(super) struct Replacement(Cow<'static, [u8]>);

impl From<&'static str> for Replacement {
    fn from(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Replacement {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Replacement {
    fn from(text: Vec<u8>) -> Self {
        Self(Cow::Owned(text))
    }
}

/// Behind the comma that is the next byte but white space.
fn behind_comma(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    memchr::memchr(b',', rest).map_or(at, |comma| at + comma + 1)
}

/// `text` as a JSON string with its quotes.
pub(super) fn quoted(text: &str) -> String {
    // Serialising a string into memory cannot fail.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_takes_its_comma_with_it() {
        let text = b"[1 , 2, 3]";
        let spans = [1..2, 2..6, 6..9];
        for (kept, expected) in [
            ([true, true, true], "[1 , 2, 3]"),
            ([false, true, true], "[ 2, 3]"),
            ([true, false, true], "[1, 3]"),
            ([true, true, false], "[1 , 2]"),
            ([false, false, true], "[ 3]"),
            ([false, true, false], "[ 2]"),
            ([true, false, false], "[1]"),
            ([false, false, false], "[]"),
        ] {
            let mut edits = Edits::default();
            edits.cut(text, &spans, |nth| kept[nth]);
            assert_eq!(edits.apply(text), expected);
        }
    }
}
