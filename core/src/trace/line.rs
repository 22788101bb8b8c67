//! The lines of a trace.

use serde::{Deserialize, Serialize};

use super::{answer::Answer, config::Config, output::Output};
use crate::fault::Fault;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Trace(Box<Header>),
    /// So many nanoseconds after the start, it was told this.
    In(u64, Input),
    Do(Output),
    Ask(Output),
    Wait(Wait),
    Unsure(String),
    End(End),
}

/// What a session began with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) version: u32,
    /// Who wrote it.
    pub(super) by: String,
    /// Nanoseconds since the epoch.
    pub(super) start: u64,
    /// What all that it draws derives from.
    pub(super) seed: u64,
    /// There were too many connections.
    pub(super) crowded: bool,
    pub(super) config: Config,
}

/// What a session is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input {
    Answer(Box<Answer>),
    Drain,
    Ended(u64),
    Failed(u64, #[serde(with = "FaultForm")] Fault),
    Opened(u64),
    Received(u64, Text),
    Sent(u64, usize),
    Timeout,
}

/// Bytes: as a text where they are one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Plain(String),
    Other { hex: String },
}

/// What it waits for.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Nanoseconds since the start; none: for ever.
    pub(super) until: Option<u64>,
    /// Connections whose bytes are wanted.
    pub(super) read: Vec<u64>,
}

/// How a trace ends.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) inputs: u64,
    pub(super) outputs: u64,
    /// Why it ends before the session did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) early: Option<String>,
}

impl Text {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(
            |error| Self::Other {
                hex: hex(error.as_bytes()),
            },
            Self::Plain,
        )
    }

    pub(super) fn read(self) -> Result<Vec<u8>, String> {
        let hex = match self {
            Self::Plain(text) => return Ok(text.into_bytes()),
            Self::Other { hex } => hex,
        };
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|it| u8::try_from(it).ok())
        };
        let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes.ok_or_else(|| "hex is an even number of digits 0 to 9 and a to f".to_owned())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fault", rename_all = "snake_case")]
enum FaultForm {
    Closed,
    ConnectTimeout,
    Dns,
    Local,
    Protocol,
    Proxy,
    Refused,
    Reset,
    TimedOut,
    Tls,
    UntrustedCertificate,
    Unreachable,
}
