//! Events that differ from the one before in a string or two, told apart without parsing.
//!
//! Nearly all chunks of a chat stream repeat a few hundred bytes around one word of text. What a
//! shape holds is the literal bytes around the strings that differ: the text (`content`) and
//! OpenAI's padding (`obfuscation`).
//!
//! A chunk that was read and told nothing lends its shape. Data of the same shape differs from it
//! inside those strings only, so it tells nothing either; and where it is no JSON, because of a bad
//! escape in the text, it tells nothing all the more. So the comparison is exact, and a chunk that
//! does not fit is merely read.

use std::ops::Range;

use memchr::memchr2;

/// The shape of the usual chunk; none at first, which nothing fits.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The literals, one after the other.
    literals: Vec<u8>,
    /// Where in `literals` a string was left out, and how many were.
    cuts: [usize; 2],
    strings: usize,
    /// Which of them is the text.
    text: usize,
}

impl Shape {
    /// Takes the shape of `data`, which told nothing: literal but for its text and, where it has
    /// some, its padding, both given without their quotes. Buffers are kept, so that this does not
    /// allocate once they are large enough.
    pub(super) fn learn(
        &mut self,
        data: &[u8],
        text: Option<Range<usize>>,
        padding: Option<Range<usize>>,
    ) {
        self.literals.clear();
        self.strings = 0;
        if data.len() > MAX_SHAPE || text.is_none() {
            return;
        }
        self.text = usize::from(
            matches!((&text, &padding), (Some(text), Some(padding)) if padding.start < text.start),
        );
        let mut strings = [text, padding];
        strings.sort_by_key(|range| range.as_ref().map(|range| range.start));
        let mut from = 0;
        for string in strings.into_iter().flatten() {
            self.literals.extend_from_slice(&data[from..string.start]);
            self.cuts[self.strings] = self.literals.len();
            self.strings += 1;
            from = string.end;
        }
        self.literals.extend_from_slice(&data[from..]);
    }

    pub(super) fn fits(&self, data: &[u8]) -> bool {
        self.text(data).is_some()
    }

    /// Where the text stands in data that fits, without its quotes.
    pub(super) fn text(&self, data: &[u8]) -> Option<Range<usize>> {
        if self.strings == 0 {
            return None;
        }
        let mut text = 0..0;
        let mut rest = data;
        let mut from = 0;
        for (nth, cut) in self.cuts[..self.strings].iter().enumerate() {
            let string = rest.strip_prefix(&self.literals[from..*cut])?;
            let end = closing_quote(string)?;
            if nth == self.text {
                let start = data.len() - string.len();
                text = start..start + end;
            }
            rest = &string[end..];
            from = *cut;
        }
        (rest == &self.literals[from..]).then_some(text)
    }
}

/// Where a string ends that `text` is inside of.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Bytes of a chunk above which its shape is not worth keeping.
const MAX_SHAPE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_differs_in_its_strings_only_fits() {
        let mut shape = Shape::default();
        assert!(!shape.fits(b""));
        shape.learn(b"{'p':\"xx\",'t':\"ab\",'n':1}", Some(15..17), Some(6..8));
        for (data, fits) in [
            (&b"{'p':\"xx\",'t':\"ab\",'n':1}"[..], true),
            (b"{'p':\"\",'t':\"longer \\\"quoted\\\\\",'n':1}", true),
            (b"{'p':\"xx\",'t':\"ab\",'n':2}", false),
            (b"{'p':\"xx\",'t':\"ab\",'n':1}}", false),
            (b"{'p':\"xx\",'t':\"ab\\\",'n':1}", false),
            (b"{'p':\"xx\",'u':\"ab\",'n':1}", false),
            (b"{'p':\"xx\",'t':\"ab\\", false),
            (b"{'p':\"xx", false),
            (b"", false),
        ] {
            assert_eq!(shape.fits(data), fits, "{}", String::from_utf8_lossy(data));
        }
        shape.learn(b"{}", None, None);
        assert!(!shape.fits(b"{}"));
    }
}
