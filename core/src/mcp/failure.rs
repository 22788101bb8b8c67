//! Why a server could not be used, or a tool not be called.

use std::fmt;

use http::StatusCode;

use super::server::Server;
use crate::fault::Fault;

/// Header fields do not match the message (2026-07-28, "Server Validation").
const HEADER_MISMATCH: i64 = -32020;

/// Longest text of a server's that is kept in a failure, in bytes.
const MAX_WORDS: usize = 1 << 10;

/// Why something asked of a server did not succeed.
///
/// What it displays is for the model and for operators; it carries the server's words where there
/// are any, cut to a kibibyte, and never a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The call's arguments are not a JSON object.
    Arguments,
    /// The server is not connected at present.
    Down,
    /// A JSON-RPC error: its code and message.
    Error(i64, String),
    /// The connection failed.
    Fault(Fault),
    /// The server wants the user asked something first, which nobody here can do.
    InputRequired,
    /// The reply is not what the protocol says; in which way.
    Malformed(&'static str),
    /// The server does not know the session any more.
    SessionLost,
    /// An HTTP status that is no success, with the error's message where the body has one.
    Status(StatusCode, String),
    /// It took too long.
    TimedOut,
    /// The reply is longer than is accepted.
    TooLarge,
    /// No tool has this name.
    UnknownTool,
    /// The server insists on a revision of the protocol that is not known here.
    Version(String),
}

impl Failure {
    /// What the model is told in place of the tool's result.
    pub fn told(&self) -> String {
        format!("Error: calling tool: {self}")
    }

    /// Whether it makes one doubt what is known of the server: that it is there, or that its tools
    /// are those it listed.
    pub(super) fn casts_doubt(&self) -> bool {
        match self {
            // A mismatch: the schema that says which arguments are mirrored is not the one we know.
            Self::Error(HEADER_MISMATCH, _) | Self::Fault(_) | Self::TimedOut => true,
            Self::Status(status, _) => status.is_server_error(),
            Self::Error(_, words) => names_unknown_tool(words),
            Self::Arguments
            | Self::Down
            | Self::InputRequired
            | Self::Malformed(_)
            | Self::SessionLost
            | Self::TooLarge
            | Self::UnknownTool
            | Self::Version(_) => false,
        }
    }

    /// The same without words of the server's.
    pub fn class(&self) -> String {
        match self {
            Self::Error(code, _) => format!("error (code {code})"),
            Self::Status(status, _) => format!("status {}", status.as_u16()),
            Self::Version(_) => "unknown protocol version".to_owned(),
            own => own.to_string(),
        }
    }

    /// The same without what its server was shown, should the server have repeated it.
    pub(super) fn masked(self, server: &Server) -> Self {
        match self {
            Self::Error(code, words) => Self::Error(code, server.masked_in(words)),
            Self::Status(status, words) => Self::Status(status, server.masked_in(words)),
            Self::Version(name) => Self::Version(server.masked_in(name)),
            own => own,
        }
    }

    pub(super) fn error(code: i64, message: &str) -> Self {
        Self::Error(code, cut(message, MAX_WORDS).to_owned())
    }

    pub(super) fn status(status: StatusCode, message: &str) -> Self {
        Self::Status(status, cut(message, MAX_WORDS).to_owned())
    }

    pub(super) fn version(name: &str) -> Self {
        Self::Version(cut(name, 64).to_owned())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments => f.write_str("the arguments are not a JSON object"),
            Self::Down => f.write_str("the tool's server is not available"),
            Self::Error(code, message) => write!(f, "{message} (code {code})"),
            Self::Fault(fault) => fault.fmt(f),
            Self::InputRequired => f.write_str("the tool asks for input, which is not supported"),
            Self::Malformed(how) => write!(f, "malformed reply: {how}"),
            Self::SessionLost => f.write_str("session lost"),
            Self::Status(status, message) if message.is_empty() => {
                write!(f, "status {}", status.as_u16())
            }
            Self::Status(status, message) => write!(f, "status {}: {message}", status.as_u16()),
            Self::TimedOut => f.write_str("timed out"),
            Self::TooLarge => f.write_str("reply too large"),
            Self::UnknownTool => f.write_str("unknown tool"),
            Self::Version(name) => write!(f, "unknown protocol version {name:?}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Whether a server says that it has no such tool, in the words of the specification ("Unknown
/// tool: x"), which the Python servers use, or in those of the TypeScript ones ("Tool x not
/// found"). There is no code of its own for it.
pub(super) fn names_unknown_tool(words: &str) -> bool {
    let words = cut(words, MAX_WORDS).to_ascii_lowercase();
    words.contains("unknown tool") || words.contains("tool") && words.contains("not found")
}

/// The longest start of `text` of at most `max` bytes that ends between characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
