//! The body of a message, by its delimitation (RFC 9112 §6.3).

use bytes::Bytes;

use super::{BodyLength, Error, Limits, chunked::Chunked, input::Input};

#[derive(Debug)]
pub(super) enum Body {
    Chunked(Box<Chunked>),
    /// So many bytes left.
    Known(u64),
    /// Declared longer than allowed.
    TooLarge,
    UntilClose,
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Not empty; shares the pushed buffer.
    Data(Bytes),
    End,
    More,
}

impl Body {
    /// A body of at most `max` bytes.
    pub(super) fn new(length: BodyLength, max: u64) -> Self {
        match length {
            BodyLength::Chunked => Self::Chunked(Box::new(Chunked::new(max))),
            BodyLength::Known(len) if len > max => Self::TooLarge,
            BodyLength::Known(len) => Self::Known(len),
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    pub(super) fn next(&mut self, limits: &Limits, input: &mut Input) -> Result<Piece, Error> {
        let piece = match self {
            Self::Chunked(chunked) => chunked.next(limits, input)?,
            Self::Known(0) => Piece::End,
            Self::Known(_) | Self::UntilClose if input.is_empty() => Piece::More,
            Self::Known(left) => {
                let data = input.take(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                Piece::Data(data)
            }
            Self::TooLarge => return Err(Error::BodyTooLarge),
            Self::UntilClose => Piece::Data(input.take(usize::MAX)),
        };
        match piece {
            Piece::More if !input.ended() => Ok(Piece::More),
            Piece::More if matches!(self, Self::UntilClose) => Ok(Piece::End),
            Piece::More => Err(Error::Incomplete),
            piece => Ok(piece),
        }
    }

    pub(super) fn buffered(&self) -> usize {
        match self {
            Self::Chunked(chunked) => chunked.buffered(),
            Self::Known(_) | Self::TooLarge | Self::UntilClose => 0,
        }
    }
}
