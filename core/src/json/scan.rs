//! The scanner.

use std::{borrow::Cow, ops::Range};

/// Why a text is no JSON, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {}

impl Error {
    /// Offset in bytes.
    pub fn at(self) -> usize {
        todo!()
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

impl std::error::Error for Error {}

/// The kind of a value, known from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[`
    Array,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// a digit or `-`
    Number,
    /// `{`
    Object,
    /// `"`
    String,
}

/// A string as it stands in the text, not yet unescaped.
#[derive(Clone, Copy, Debug)]
pub struct Str<'a> {
    #[expect(dead_code, reason = "skeleton")]
    raw: &'a str,
}

impl<'a> Str<'a> {
    /// Whether the unescaped string is `text`. Does not allocate where there is no escape.
    pub fn is(&self, _text: &str) -> bool {
        todo!()
    }
    /// The unescaped string; a lone surrogate becomes U+FFFD.
    pub fn decode(&self) -> Cow<'a, str> {
        todo!()
    }
    /// The string as it stands between its quotes.
    pub fn raw(&self) -> &'a str {
        todo!()
    }
}

/// A strict (RFC 8259) pull scanner. Depth is limited to 128.
#[derive(Debug)]
pub struct Scanner<'a> {
    #[expect(dead_code, reason = "skeleton")]
    text: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of a text.
    ///
    /// # Errors
    /// The text is not UTF-8.
    pub fn new(_text: &'a [u8]) -> Result<Self, Error> {
        todo!()
    }
    /// What comes next, without taking it.
    ///
    /// # Errors
    /// No value starts here.
    pub fn kind(&mut self) -> Result<Kind, Error> {
        todo!()
    }
    /// Enters an object: then `key`, value, `key`, value, … until `key` says `None`.
    ///
    /// # Errors
    /// No object here, or too deep.
    pub fn object(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// The next member's name, its colon taken too; `None` closes the object.
    ///
    /// # Errors
    /// Malformed text.
    pub fn key(&mut self) -> Result<Option<Str<'a>>, Error> {
        todo!()
    }
    /// Enters an array: then `element`, value, … until `element` says `false`.
    ///
    /// # Errors
    /// No array here, or too deep.
    pub fn array(&mut self) -> Result<(), Error> {
        todo!()
    }
    /// Whether another element follows; `false` closes the array.
    ///
    /// # Errors
    /// Malformed text.
    pub fn element(&mut self) -> Result<bool, Error> {
        todo!()
    }
    /// Takes a string.
    ///
    /// # Errors
    /// No string here.
    pub fn string(&mut self) -> Result<Str<'a>, Error> {
        todo!()
    }
    /// Takes a boolean.
    ///
    /// # Errors
    /// No boolean here.
    pub fn bool(&mut self) -> Result<bool, Error> {
        todo!()
    }
    /// Takes an unsigned integer; `None` for a number that is none (fraction, sign, too large).
    ///
    /// # Errors
    /// No number here.
    pub fn u64(&mut self) -> Result<Option<u64>, Error> {
        todo!()
    }
    /// Takes any value, checked in full, and says where it stood.
    ///
    /// # Errors
    /// Malformed text.
    pub fn skip(&mut self) -> Result<Range<usize>, Error> {
        todo!()
    }
    /// Offset of the next unread byte, white space before a value not skipped.
    pub fn position(&self) -> usize {
        todo!()
    }
    /// Nothing but white space follows.
    ///
    /// # Errors
    /// Something does.
    pub fn end(&mut self) -> Result<(), Error> {
        todo!()
    }
}
