//! What a server and we have agreed on.

use http::HeaderValue;

/// A revision of the protocol, ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The first. It did not know this transport, but servers written by hand like to name it; over
    /// HTTP they speak what 2025-03-26 describes.
    V20241105,
    /// Streamable HTTP, and batches.
    V20250326,
    /// The version in a header; no more batches.
    V20250618,
    /// Streams that a server may end and have resumed.
    V20251125,
    /// No handshake and no session: each request says all.
    V20260728,
}

impl Version {
    /// The newest revision with a handshake: what `initialize` offers.
    pub(super) const OFFERED: Self = Self::V20251125;

    const ALL: [Self; 5] = [
        Self::V20241105,
        Self::V20250326,
        Self::V20250618,
        Self::V20251125,
        Self::V20260728,
    ];

    /// The revision of this name, if it is known here.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == name)
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V20241105 => "2024-11-05",
            Self::V20250326 => "2025-03-26",
            Self::V20250618 => "2025-06-18",
            Self::V20251125 => "2025-11-25",
            Self::V20260728 => "2026-07-28",
        }
    }

    /// Whether each request stands for itself: the client does not answer, cancel, resume or renew
    /// anything.
    pub const fn is_stateless(self) -> bool {
        matches!(self, Self::V20260728)
    }
}

/// The terms on which a server is spoken to. A value: whoever calls a tool is handed a copy, and
/// hands out a new one when the server has forgotten the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The revision.
    pub version: Version,
    /// The session's identifier, where the server gave one; marked sensitive, as it may let in
    /// whoever has it.
    pub session: Option<HeaderValue>,
}
