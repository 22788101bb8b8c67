//! The scanner.

use std::ops::Range;

use super::{
    error::{Error, ErrorKind},
    string::Str,
    token::{number_end, string_end},
};

/// Deepest nesting of arrays and objects: one bit each in a `u128`.
const MAX_DEPTH: u32 = u128::BITS;

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

/// A strict (RFC 8259) pull scanner. Depth is limited to 128.
///
/// Which call belongs where is told in the [module](super)'s documentation. Members that occur
/// twice are both given: what to make of them is for the caller to say.
#[derive(Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    /// Offset of the next unread byte.
    at: usize,
    place: Place,
    /// How many arrays and objects are open.
    depth: u32,
    /// A bit for each of them, the innermost lowest: set for an object.
    objects: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a value: a comma or a closing bracket follows, or the end of the text.
    After,
    /// A value follows.
    Before,
    /// Behind an opening bracket.
    Opened,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of a text.
    ///
    /// # Errors
    /// The text is not UTF-8.
    pub fn new(text: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(text)
            .map_err(|error| Error::new(ErrorKind::Utf8, error.valid_up_to()))?;
        Ok(Self {
            text,
            at: 0,
            place: Place::Before,
            depth: 0,
            objects: 0,
        })
    }

    /// What comes next, without taking it.
    ///
    /// # Errors
    /// No value starts here.
    pub fn kind(&mut self) -> Result<Kind, Error> {
        if self.place != Place::Before {
            return Err(self.error(ErrorKind::OutOfPlace));
        }
        let (byte, at) = self.peek();
        match byte {
            b'"' => Ok(Kind::String),
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b't' | b'f' => Ok(Kind::Bool),
            b'n' => Ok(Kind::Null),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            _ => Err(Error::new(ErrorKind::Value, at)),
        }
    }

    /// Enters an object: then `key`, value, `key`, value, … until `key` says `None`.
    ///
    /// # Errors
    /// No object here, or too deep.
    pub fn object(&mut self) -> Result<(), Error> {
        self.expect(Kind::Object)?;
        self.open(true)
    }

    /// The next member's name, its colon taken too; `None` closes the object.
    ///
    /// # Errors
    /// Malformed text.
    pub fn key(&mut self) -> Result<Option<Str<'a>>, Error> {
        if !self.next_in(true)? {
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// Enters an array: then `element`, value, … until `element` says `false`.
    ///
    /// # Errors
    /// No array here, or too deep.
    pub fn array(&mut self) -> Result<(), Error> {
        self.expect(Kind::Array)?;
        self.open(false)
    }

    /// Whether another element follows; `false` closes the array.
    ///
    /// # Errors
    /// Malformed text.
    pub fn element(&mut self) -> Result<bool, Error> {
        self.next_in(false)
    }

    /// Takes a string.
    ///
    /// # Errors
    /// No string here.
    pub fn string(&mut self) -> Result<Str<'a>, Error> {
        self.expect(Kind::String)?;
        self.quoted()
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// No boolean here.
    pub fn bool(&mut self) -> Result<bool, Error> {
        self.expect(Kind::Bool)?;
        let value = self.bytes()[self.at] == b't';
        self.literal(if value { "true" } else { "false" })?;
        Ok(value)
    }

    /// Takes a `null`.
    ///
    /// # Errors
    /// No `null` here.
    pub fn null(&mut self) -> Result<(), Error> {
        self.expect(Kind::Null)?;
        self.literal("null")
    }

    /// Takes a number, as it stands in the text.
    ///
    /// # Errors
    /// No number here.
    pub fn number(&mut self) -> Result<&'a str, Error> {
        self.expect(Kind::Number)?;
        let start = self.at;
        self.digits()?;
        Ok(&self.text[start..self.at])
    }

    /// Takes an unsigned integer; `None` for a number that is none (fraction, sign, too large).
    ///
    /// # Errors
    /// No number here.
    pub fn u64(&mut self) -> Result<Option<u64>, Error> {
        self.number().map(|number| number.parse().ok())
    }

    /// Takes any value, checked in full, and says where it stood.
    ///
    /// # Errors
    /// Malformed text.
    pub fn skip(&mut self) -> Result<Range<usize>, Error> {
        if self.place != Place::Before {
            return Err(self.error(ErrorKind::OutOfPlace));
        }
        self.white();
        let start = self.at;
        let outside = self.depth;
        loop {
            match self.white() {
                b'"' => {
                    self.quoted()?;
                }
                b'{' => self.open(true)?,
                b'[' => self.open(false)?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'-' | b'0'..=b'9' => self.digits()?,
                _ => return Err(self.error(ErrorKind::Value)),
            }
            // Close what ends here, and go on to the next value.
            loop {
                if self.depth == outside {
                    return Ok(start..self.at);
                }
                let object = self.in_object();
                if self.next_in(object)? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
            }
        }
    }

    /// Takes any value; gives it if it is a string.
    ///
    /// # Errors
    /// Malformed text.
    pub fn string_or_skip(&mut self) -> Result<Option<Str<'a>>, Error> {
        self.if_kind(Kind::String, Self::string)
    }

    /// Takes any value; gives it if it is a boolean.
    ///
    /// # Errors
    /// Malformed text.
    pub fn bool_or_skip(&mut self) -> Result<Option<bool>, Error> {
        self.if_kind(Kind::Bool, Self::bool)
    }

    /// Takes any value; gives it if it is an unsigned integer.
    ///
    /// # Errors
    /// Malformed text.
    pub fn u64_or_skip(&mut self) -> Result<Option<u64>, Error> {
        self.if_kind(Kind::Number, Self::u64).map(Option::flatten)
    }

    /// Enters an object and says `true`, or takes any other value.
    ///
    /// # Errors
    /// Malformed text.
    pub fn object_or_skip(&mut self) -> Result<bool, Error> {
        let entered = self.if_kind(Kind::Object, Self::object)?;
        Ok(entered.is_some())
    }

    /// Enters an array and says `true`, or takes any other value.
    ///
    /// # Errors
    /// Malformed text.
    pub fn array_or_skip(&mut self) -> Result<bool, Error> {
        let entered = self.if_kind(Kind::Array, Self::array)?;
        Ok(entered.is_some())
    }

    /// Offset of the next unread byte, white space before a value not skipped.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Nothing but white space follows.
    ///
    /// # Errors
    /// Something does.
    pub fn end(&mut self) -> Result<(), Error> {
        if self.depth > 0 || self.place != Place::After {
            return Err(self.error(ErrorKind::OutOfPlace));
        }
        match self.peek() {
            (_, at) if at == self.text.len() => Ok(()),
            (_, at) => Err(Error::new(ErrorKind::End, at)),
        }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, self.at)
    }

    /// The next byte that is no white space, and where it is; NUL, which no JSON has outside of
    /// strings, at the end.
    #[inline]
    fn peek(&self) -> (u8, usize) {
        let mut at = self.at;
        loop {
            match self.bytes().get(at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => at += 1,
                Some(byte) => return (*byte, at),
                None => return (0, at),
            }
        }
    }

    /// Takes white space, and shows the byte after it.
    #[inline]
    fn white(&mut self) -> u8 {
        let (byte, at) = self.peek();
        self.at = at;
        byte
    }

    /// Moves to a value's first byte, if it is of this kind.
    fn expect(&mut self, kind: Kind) -> Result<(), Error> {
        if self.kind()? != kind {
            return Err(Error::new(ErrorKind::Type(kind), self.peek().1));
        }
        self.white();
        Ok(())
    }

    fn if_kind<T>(
        &mut self,
        kind: Kind,
        take: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        if self.kind()? == kind {
            return take(self).map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Takes an opening bracket.
    #[inline]
    fn open(&mut self, object: bool) -> Result<(), Error> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(ErrorKind::Depth));
        }
        self.at += 1;
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.place = Place::Opened;
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Takes the comma before the next member or element; or the closing bracket, and says `false`.
    #[inline]
    fn next_in(&mut self, object: bool) -> Result<bool, Error> {
        if self.depth == 0 || self.in_object() != object || self.place == Place::Before {
            return Err(self.error(ErrorKind::OutOfPlace));
        }
        let (byte, at) = self.peek();
        if byte == if object { b'}' } else { b']' } {
            self.at = at + 1;
            self.depth -= 1;
            self.objects >>= 1;
            self.place = Place::After;
            return Ok(false);
        }
        if self.place == Place::After {
            if byte != b',' {
                return Err(Error::new(ErrorKind::Comma, at));
            }
            self.at = at + 1;
        }
        self.place = Place::Before;
        Ok(true)
    }

    /// Takes a member's name and its colon.
    #[inline]
    fn name(&mut self) -> Result<Str<'a>, Error> {
        if self.white() != b'"' {
            return Err(self.error(ErrorKind::Key));
        }
        let name = self.quoted()?;
        if self.white() != b':' {
            return Err(self.error(ErrorKind::Colon));
        }
        self.at += 1;
        self.place = Place::Before;
        Ok(name)
    }

    /// Takes a string that starts here.
    #[inline]
    fn quoted(&mut self) -> Result<Str<'a>, Error> {
        let start = self.at + 1;
        let end = string_end(self.bytes(), start)?;
        self.at = end.quote + 1;
        self.place = Place::After;
        Ok(Str::new(&self.text[start..end.quote], end.escaped))
    }

    /// Takes a number that starts here.
    fn digits(&mut self) -> Result<(), Error> {
        self.at = number_end(self.bytes(), self.at)?;
        self.place = Place::After;
        Ok(())
    }

    /// Takes a literal name.
    fn literal(&mut self, name: &str) -> Result<(), Error> {
        if !self.bytes()[self.at..].starts_with(name.as_bytes()) {
            return Err(self.error(ErrorKind::Value));
        }
        self.at += name.len();
        self.place = Place::After;
        Ok(())
    }
}

impl std::fmt::Debug for Scanner<'_> {
    /// Where it is, without the text: that is what users write.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, len) = (self.at, self.text.len());
        write!(f, "Scanner({at} of {len} B, depth {})", self.depth)
    }
}
