//! Identifiers. All are minted in the core, so that equal runs have equal names in traces.

use std::{fmt, str::FromStr};

use crate::rng::Rng;

/// One connection of a session, in the session's and the adapter's shared language.
///
/// [`ConnId::CLIENT`] is the client's own connection. Connections to upstreams have numbers that
/// are unique within a [`Bridge`](crate::Bridge), because an idle one moves between sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// The client's connection, the same in every session.
    pub const CLIENT: Self = Self(0);

    /// The connection of this number; 0 is the client's.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Whether this is the client's connection.
    pub const fn is_client(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One call to an upstream within an interception, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u32);

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

/// An interception's identifier: a version 4 UUID (RFC 9562) drawn from the seeded generator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterceptionId([u8; 16]);

impl InterceptionId {
    /// Draws the next identifier.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40; // version 4
        bytes[8] = bytes[8] & 0x3f | 0x80; // variant of RFC 9562
        Self(bytes)
    }

    /// The identifier of these bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The hyphenated lower-case form, as ASCII.
    pub fn ascii(self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.into_iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            out[at] = HEX[usize::from(byte >> 4)];
            out[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        out
    }
}

impl FromStr for InterceptionId {
    type Err = ParseIdError;

    /// Reads the form that [`ascii`](Self::ascii) writes, and no other.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut bytes {
            let mut digit = || {
                let digit = char::from(digits.next()?).to_digit(16)?;
                u8::try_from(digit).ok()
            };
            let (high, low) = digit().zip(digit()).ok_or(ParseIdError)?;
            *byte = high << 4 | low;
        }
        let id = Self(bytes);
        if id.ascii() == text.as_bytes() {
            Ok(id)
        } else {
            Err(ParseIdError)
        }
    }
}

/// A text is not the identifier of an interception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an interception's identifier, which is a UUID in lower case with hyphens")
    }
}

impl std::error::Error for ParseIdError {}

impl fmt::Display for InterceptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.ascii()).unwrap_or_default())
    }
}

impl fmt::Debug for InterceptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interception_id_is_a_version_4_uuid() {
        let id = InterceptionId::draw(&mut Rng::new(42)).to_string();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_eq!(id.matches('-').count(), 4);
    }
    #[test]
    fn an_interception_id_is_read_as_it_is_written() {
        let id = InterceptionId::draw(&mut Rng::new(42));
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(InterceptionId::from_bytes(id.to_bytes()), id);
        for wrong in [
            String::new(),
            text[1..].to_owned(),
            format!("{text}0"),
            format!("{text}-"),
            text.to_uppercase(),
            text.replace('-', ""),
            text.replace('4', "x"),
        ] {
            let read: Result<InterceptionId, _> = wrong.parse();
            assert_eq!(read, Err(ParseIdError), "{wrong}");
        }
    }
}
