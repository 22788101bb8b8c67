//! What can be wrong with a text, or with how it is read.

use super::Kind;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    at: usize,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A colon was expected, after a member's name.
    Colon,
    /// A comma or a closing bracket was expected, after a value.
    Comma,
    /// A control character within a string, which must be escaped (RFC 8259 §7).
    Control,
    /// Arrays and objects are nested more than 128 deep.
    Depth,
    /// The end of the text was expected.
    End,
    /// An escape that does not exist.
    Escape,
    /// A member's name was expected.
    Key,
    /// A digit was expected, within a number.
    Number,
    /// The scanner was asked for something that cannot come here: the caller's fault, not the
    /// text's.
    OutOfPlace,
    /// Another kind of value was asked for than there is. Nothing was taken.
    Type(Kind),
    /// The text ends within a string.
    Unterminated,
    /// The text is not UTF-8 (RFC 8259 §8.1).
    Utf8,
    /// A value was expected.
    Value,
}

impl Error {
    pub(super) const fn new(kind: ErrorKind, at: usize) -> Self {
        Self { kind, at }
    }

    /// What is wrong.
    pub fn kind(self) -> ErrorKind {
        self.kind
    }

    /// Offset in bytes.
    pub fn at(self) -> usize {
        self.at
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            ErrorKind::Colon => "expected a colon",
            ErrorKind::Comma => "expected a comma or a closing bracket",
            ErrorKind::Control => "unescaped control character",
            ErrorKind::Depth => "nested too deep",
            ErrorKind::End => "expected the end of the text",
            ErrorKind::Escape => "invalid escape",
            ErrorKind::Key => "expected a member's name",
            ErrorKind::Number => "expected a digit",
            ErrorKind::OutOfPlace => "read out of place",
            ErrorKind::Type(Kind::Array) => "expected an array",
            ErrorKind::Type(Kind::Bool) => "expected true or false",
            ErrorKind::Type(Kind::Null) => "expected null",
            ErrorKind::Type(Kind::Number) => "expected a number",
            ErrorKind::Type(Kind::Object) => "expected an object",
            ErrorKind::Type(Kind::String) => "expected a string",
            ErrorKind::Unterminated => "unterminated string",
            ErrorKind::Utf8 => "invalid UTF-8",
            ErrorKind::Value => "expected a value",
        };
        write!(f, "{what} at byte {}", self.at)
    }
}

impl std::error::Error for Error {}
