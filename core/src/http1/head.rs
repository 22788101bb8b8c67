//! Finding the end of a head, or of a trailer section: a block of lines closed by an empty one.
//!
//! Each byte is looked at once, however the block is split, and what needs no parser to be refused
//! is refused here, at the byte that shows it: bare line feeds, a first line that is too long or is
//! no HTTP, too many lines, too many bytes. A block that came in one piece is read where it lies;
//! only one that has to wait for more is copied together.

use std::fmt;

use bytes::BytesMut;
use memchr::memchr;

use super::{Error, Limits, fields::is_token_byte, input::Input};

/// Empty lines a client may send before its request line (RFC 9112 §2.2 asks for at least one).
const MAX_LEADING_EMPTY_LINES: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Trailers,
}

/// Collects one block at a time.
#[derive(Default)]
pub(super) struct Block {
    held: BytesMut,
    scan: Scan,
}

impl Block {
    /// Reads the next block, once it is complete, with `read(block, number of fields)`.
    pub(super) fn take<T>(
        &mut self,
        kind: Kind,
        limits: &Limits,
        input: &mut Input,
        read: impl FnOnce(&[u8], usize) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        while !input.is_empty() {
            let before = self.held.len();
            let (end, block) = if before == 0 {
                (self.scan.run(kind, limits, input.front())?, input.front())
            } else {
                let room = kind.max_len(limits) - before;
                let piece = input.front();
                self.held.extend_from_slice(&piece[..piece.len().min(room)]);
                (self.scan.run(kind, limits, &self.held)?, &self.held[..])
            };
            let Some(end) = end else {
                if before == 0 {
                    self.held.extend_from_slice(input.front());
                }
                input.advance(self.held.len() - before);
                continue;
            };
            let fields = self.scan.lines - usize::from(kind != Kind::Trailers);
            let value = read(&block[..end], fields)?;
            *self = Self::default();
            input.advance(end - before);
            return Ok(Some(value));
        }
        Ok(None)
    }

    /// Whether no line has begun. Empty lines before a request are none.
    pub(super) fn is_blank(&self) -> bool {
        self.scan.lines == 0 && matches!(self.held[self.scan.line..], [] | [b'\r'])
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

impl fmt::Debug for Block {
    /// The size only: a head may carry a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({})", self.held.len())
    }
}

impl Kind {
    fn max_len(self, limits: &Limits) -> usize {
        match self {
            Self::Request | Self::Response => limits.head,
            Self::Trailers => limits.trailers,
        }
    }

    fn too_large(self) -> Error {
        match self {
            Self::Request | Self::Response => Error::HeadTooLarge,
            Self::Trailers => Error::TrailersTooLarge,
        }
    }

    fn max_lines(self, limits: &Limits) -> usize {
        match self {
            Self::Request | Self::Response => limits.headers.saturating_add(1),
            Self::Trailers => limits.headers,
        }
    }

    /// Whether a first line can begin like this.
    fn starts_line(self, line: &[u8]) -> bool {
        match self {
            Self::Request => line
                .first()
                .is_none_or(|&byte| byte == b'\r' || is_token_byte(byte)),
            Self::Response => line.iter().zip(b"HTTP/").all(|(a, b)| a == b),
            Self::Trailers => true,
        }
    }
}

/// How far the search has come.
#[derive(Default)]
struct Scan {
    /// All before has been searched.
    checked: usize,
    /// Where the current line starts.
    line: usize,
    /// Lines that were not empty.
    lines: usize,
    /// Empty lines before the first that was not.
    leading: usize,
}

impl Scan {
    /// Goes on through `data`, which starts with what was searched before: the end of the block, if
    /// it is there.
    ///
    /// Every error must depend on the shortest prefix that shows it, not on how much of `data` is
    /// there: hence the order of the checks.
    fn run(&mut self, kind: Kind, limits: &Limits, data: &[u8]) -> Result<Option<usize>, Error> {
        let max_len = kind.max_len(limits);
        let data = &data[..data.len().min(max_len)];
        while let Some(found) = memchr(b'\n', &data[self.checked..]) {
            let feed = self.checked + found;
            self.check_first_line(kind, limits, &data[..feed])?;
            if !data[self.line..feed].ends_with(b"\r") {
                return Err(Error::LineEnd);
            }
            let is_empty = feed - self.line == 1;
            self.checked = feed + 1;
            self.line = feed + 1;
            if !is_empty {
                self.lines += 1;
                if self.lines > kind.max_lines(limits) {
                    return Err(Error::TooManyFields);
                }
                continue;
            }
            if self.lines > 0 || kind == Kind::Trailers {
                return Ok(Some(feed + 1));
            }
            self.leading += 1;
            if kind == Kind::Response || self.leading > MAX_LEADING_EMPTY_LINES {
                return Err(Error::StartLine);
            }
        }
        self.check_first_line(kind, limits, data)?;
        self.checked = data.len();
        if data.len() == max_len {
            return Err(kind.too_large());
        }
        Ok(None)
    }

    /// Checks what is new of the first line, up to the end of `data`.
    fn check_first_line(&self, kind: Kind, limits: &Limits, data: &[u8]) -> Result<(), Error> {
        if self.lines > 0 || kind == Kind::Trailers {
            return Ok(());
        }
        let line = &data[self.line..];
        // One more for the CR.
        let max_len = limits.start_line.saturating_add(1);
        let within = &line[..line.len().min(max_len)];
        let fresh = &within[within.len().min(self.checked - self.line)..];
        let is_control = |&byte: &u8| byte < b' ' && byte != b'\r' || byte == 0x7f;
        if !kind.starts_line(line) || fresh.iter().any(is_control) {
            return Err(Error::StartLine);
        }
        if line.len() > max_len {
            return Err(Error::StartLineTooLong);
        }
        Ok(())
    }
}
