//! Why a message was refused.

use std::fmt;

use http::StatusCode;

/// Why a message was refused. Nothing after the error can be trusted, so the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The body is longer than [`Limits::body`](super::Limits::body). 413.
    BodyTooLarge,
    /// A chunk's data is not followed by CRLF (RFC 9112 §7.1). 400.
    ChunkEnd,
    /// A chunk extension holds a control byte, or its line ends without CRLF (RFC 9112 §7.1.1).
    /// 400.
    ChunkExtension,
    /// A chunk-size line is longer than [`Limits::chunk_line`](super::Limits::chunk_line). 400.
    ChunkLineTooLong,
    /// A chunk size is missing, overflows, or has anything but hexadecimal digits in it; or its
    /// line ends without CRLF (RFC 9112 §7.1). 400.
    ChunkSize,
    /// `chunked` is applied twice, or is not the last coding (RFC 9112 §6.1). 400.
    ChunkedNotLast,
    /// `Transfer-Encoding` in an HTTP/1.0 message (RFC 9112 §6.1). 400.
    CodingInHttp10,
    /// `Content-Length` is not one field with one decimal number that fits (RFC 9112 §6.3). Lists
    /// are refused even where all members agree. 400.
    ContentLength,
    /// A field name is empty, has a byte that is no token character, or white space before or after
    /// it: that is also what an obsolete line fold looks like (RFC 9112 §5). 400.
    FieldName,
    /// A field value has a control byte, bare CR included (RFC 9110 §5.5). 400.
    FieldValue,
    /// The head is longer than [`Limits::head`](super::Limits::head). 431.
    HeadTooLarge,
    /// `Host` is missing in HTTP/1.1, given twice, or not a host (RFC 9112 §3.2). 400.
    Host,
    /// The peer ended the connection inside a message. 400.
    Incomplete,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1). 400.
    LengthAndCoding,
    /// A line ends with a bare LF, or a bare CR stands where a line end belongs (RFC 9112 §2.2).
    /// 400.
    LineEnd,
    /// The request or status line does not follow its grammar (RFC 9112 §3, §4). 400.
    StartLine,
    /// The start line is longer than [`Limits::start_line`](super::Limits::start_line). 414.
    StartLineTooLong,
    /// The server switched protocols though it was not asked to: a 101 response. 502.
    SwitchedProtocols,
    /// The request target is no URI, or in a form its method does not take (RFC 9112 §3.2). 400.
    Target,
    /// More fields than [`Limits::headers`](super::Limits::headers). 431.
    TooManyFields,
    /// The trailer section is longer than [`Limits::trailers`](super::Limits::trailers). 431.
    TrailersTooLarge,
    /// A transfer coding other than `chunked` (RFC 9112 §6.1). 400.
    UnknownCoding,
    /// A version other than HTTP/1.0 and HTTP/1.1. 505.
    Version,
}

impl Error {
    /// What a server answers to a request with this error. For a response it has no meaning: a
    /// gateway answers 502 whatever its upstream did wrong.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::StartLineTooLong => StatusCode::URI_TOO_LONG,
            Self::SwitchedProtocols => StatusCode::BAD_GATEWAY,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::ChunkEnd
            | Self::ChunkExtension
            | Self::ChunkLineTooLong
            | Self::ChunkSize
            | Self::ChunkedNotLast
            | Self::CodingInHttp10
            | Self::ContentLength
            | Self::FieldName
            | Self::FieldValue
            | Self::Host
            | Self::Incomplete
            | Self::LengthAndCoding
            | Self::LineEnd
            | Self::StartLine
            | Self::Target
            | Self::UnknownCoding => StatusCode::BAD_REQUEST,
        }
    }

    /// The error in words, none of them the peer's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyTooLarge => "body too large",
            Self::ChunkEnd => "chunk data not followed by a line end",
            Self::ChunkExtension => "malformed chunk extension",
            Self::ChunkLineTooLong => "chunk size line too long",
            Self::ChunkSize => "malformed chunk size",
            Self::ChunkedNotLast => "chunked is not the last transfer coding",
            Self::CodingInHttp10 => "transfer coding in an HTTP/1.0 message",
            Self::ContentLength => "malformed content length",
            Self::FieldName => "malformed field name",
            Self::FieldValue => "malformed field value",
            Self::HeadTooLarge => "header section too large",
            Self::Host => "missing, repeated or malformed host",
            Self::Incomplete => "connection ended inside a message",
            Self::LengthAndCoding => "both content length and transfer coding",
            Self::LineEnd => "malformed line end",
            Self::StartLine => "malformed start line",
            Self::StartLineTooLong => "start line too long",
            Self::SwitchedProtocols => "protocol switched without being asked",
            Self::Target => "malformed request target",
            Self::TooManyFields => "too many fields",
            Self::TrailersTooLarge => "trailer section too large",
            Self::UnknownCoding => "unknown transfer coding",
            Self::Version => "HTTP version not supported",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Error {}
