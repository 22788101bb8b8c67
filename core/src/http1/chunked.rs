//! Chunked transfer coding (RFC 9112 §7.1), without the leniencies.
//!
//! ```text
//! Size ─CR─▶ SizeEnd ─LF─▶ Data ─▶ DataEnd ─CR─▶ ─LF─▶ Size
//!  └─";"─▶ Extension ─CR─▶ │ └─ size 0 ─▶ Trailers ─▶ (end)
//! ```

use super::{Error, Limits, body::Piece, head::Block, head::Kind, input::Input, parse};

/// Digits of a size that is read at one go: it cannot overflow.
const MAX_PLAIN_DIGITS: usize = 8;

/// Decodes one chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Size of the chunk whose line is being read.
    size: u64,
    /// Length of the line so far.
    line: usize,
    /// Sizes so far added up.
    total: u64,
    max: u64,
    trailers: Block,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// Behind a digit.
    Size,
    Extension,
    /// Behind the CR of a size line.
    SizeEnd,
    /// So many bytes left, not 0.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

impl Chunked {
    /// A body of at most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        Self {
            state: State::SizeStart,
            size: 0,
            line: 0,
            total: 0,
            max,
            trailers: Block::default(),
        }
    }

    pub(super) fn next(&mut self, limits: &Limits, input: &mut Input) -> Result<Piece, Error> {
        loop {
            match self.state {
                _ if input.is_empty() => return Ok(Piece::More),
                State::Data(left) => {
                    let data = input.take(usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = match left - data.len() as u64 {
                        0 => State::DataCr,
                        left => State::Data(left),
                    };
                    return Ok(Piece::Data(data));
                }
                State::Trailers => {
                    let read =
                        self.trailers
                            .take(Kind::Trailers, limits, input, parse::trailers)?;
                    return Ok(if read.is_some() {
                        Piece::End
                    } else {
                        Piece::More
                    });
                }
                _ => {
                    let read = self.lines(limits.chunk_line, input.front())?;
                    input.advance(read);
                }
            }
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.trailers.len()
    }

    /// Reads up to the next data or trailers; says how many bytes that took.
    fn lines(&mut self, max_line: usize, bytes: &[u8]) -> Result<usize, Error> {
        if let Some((size, len)) = self.plain(bytes)
            && len <= max_line
        {
            self.size = size;
            self.state = self.chunk()?;
            return Ok(len);
        }
        for (at, &byte) in bytes.iter().enumerate() {
            self.state = self.line_byte(max_line, byte)?;
            if matches!(self.state, State::Data(_) | State::Trailers) {
                return Ok(at + 1);
            }
        }
        Ok(bytes.len())
    }

    /// What nearly always comes, without a step per byte: after the data of a chunk, CRLF and a
    /// size line without extension, all of it there. The size, and the length of it all.
    fn plain(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        let (State::DataCr, [b'\r', b'\n', line @ ..]) = (self.state, bytes) else {
            return None;
        };
        let mut size = 0;
        for (at, &byte) in line.iter().enumerate().take(MAX_PLAIN_DIGITS + 1) {
            match byte {
                b'\r' if at > 0 && line.get(at + 1) == Some(&b'\n') => {
                    return Some((size, 2 + at + 2));
                }
                _ => size = size << 4 | u64::from(hex(byte)?),
            }
        }
        None
    }

    fn line_byte(&mut self, max_line: usize, byte: u8) -> Result<State, Error> {
        self.line += 1;
        match (self.state, byte) {
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.line = 0;
                self.size = 0;
                Ok(State::SizeStart)
            }
            (State::DataCr | State::DataLf, _) => Err(Error::ChunkEnd),
            (State::SizeEnd, b'\n') => self.chunk(),
            _ if self.line > max_line => Err(Error::ChunkLineTooLong),
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(hex(byte).unwrap_or(0))
            }
            (State::Size | State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Size, b';') | (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                Ok(State::Extension)
            }
            (State::Extension, _) => Err(Error::ChunkExtension),
            _ => Err(Error::ChunkSize),
        }
    }

    fn digit(&mut self, value: u8) -> Result<State, Error> {
        if self.size >> 60 != 0 {
            return Err(Error::ChunkSize);
        }
        self.size = self.size << 4 | u64::from(value);
        Ok(State::Size)
    }

    /// Behind a size line.
    fn chunk(&mut self) -> Result<State, Error> {
        if self.size == 0 {
            return Ok(State::Trailers);
        }
        self.total = self.total.saturating_add(self.size);
        if self.total > self.max {
            return Err(Error::BodyTooLarge);
        }
        Ok(State::Data(self.size))
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
