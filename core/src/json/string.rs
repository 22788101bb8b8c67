//! Strings, from their escaped form to text.

use std::borrow::Cow;

use memchr::memchr;

/// A string as it stands in the text, not yet unescaped.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    /// Well-formed: only the scanner makes these.
    raw: &'a str,
    escaped: bool,
}

impl<'a> Str<'a> {
    pub(super) const fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// Whether the unescaped string is `text`. Does not allocate.
    pub fn is(&self, text: &str) -> bool {
        if !self.escaped {
            return self.raw == text;
        }
        let mut rest = text;
        for piece in Pieces(self.raw) {
            let stripped = match piece {
                Piece::Char(char) => rest.strip_prefix(char),
                Piece::Text(text) => rest.strip_prefix(text),
            };
            match stripped {
                Some(stripped) => rest = stripped,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// The unescaped string; a lone surrogate becomes U+FFFD. Borrowed where there is no escape.
    pub fn decode(&self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        for piece in Pieces(self.raw) {
            match piece {
                Piece::Char(char) => text.push(char),
                Piece::Text(piece) => text.push_str(piece),
            }
        }
        Cow::Owned(text)
    }

    /// The string as it stands between its quotes.
    pub fn raw(&self) -> &'a str {
        self.raw
    }
}

impl std::fmt::Debug for Str<'_> {
    /// Its size only: strings are what users write and models say.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Str({} B)", self.raw.len())
    }
}

/// A part of a string: unescaped, or as it is.
enum Piece<'a> {
    Char(char),
    Text(&'a str),
}

/// The parts of a string in order.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if let Some(escape) = self.0.strip_prefix('\\') {
            return Some(Piece::Char(self.unescape(escape)));
        }
        let end = memchr(b'\\', self.0.as_bytes()).unwrap_or(self.0.len());
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        (!text.is_empty()).then_some(Piece::Text(text))
    }
}

impl<'a> Pieces<'a> {
    /// The character that `escape`, without its backslash, stands for.
    fn unescape(&mut self, escape: &'a str) -> char {
        let mut chars = escape.chars();
        let kind = chars.next();
        self.0 = chars.as_str();
        match kind {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode(),
            Some(itself) => itself,
            None => char::REPLACEMENT_CHARACTER,
        }
    }

    /// The character of four hexadecimal digits, or of the two halves of a surrogate pair.
    fn unicode(&mut self) -> char {
        let Some((unit, rest)) = split_unit(self.0) else {
            return char::REPLACEMENT_CHARACTER;
        };
        self.0 = rest;
        let low = rest.strip_prefix("\\u").and_then(split_unit);
        match (unit, low) {
            (0xD800..=0xDBFF, Some((low @ 0xDC00..=0xDFFF, rest))) => {
                self.0 = rest;
                let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
        }
    }
}

/// Takes four hexadecimal digits.
fn split_unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let unit = u32::from_str_radix(digits, 16).ok()?;
    Some((unit, rest))
}
