//! What goes wrong with a connection, in classes coarse enough to show to a client.

use std::fmt;

/// Why a connection failed. Carries no address and no peer's words: it is shown to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The peer ended the connection where a message was not complete.
    Closed,
    /// The connection did not come up in time.
    ConnectTimeout,
    /// The name did not resolve.
    Dns,
    /// An adapter met an error of its own machine, such as no free descriptors.
    Local,
    /// The peer's bytes are not the protocol spoken.
    Protocol,
    /// The outbound proxy refused or failed.
    Proxy,
    /// Nobody listens there.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer was silent for longer than its timeout.
    TimedOut,
    /// The TLS handshake failed.
    Tls,
    /// The peer's certificate is not trusted: unknown issuer, wrong name or expired.
    UntrustedCertificate,
    /// No route to the host.
    Unreachable,
}

impl Fault {
    /// The class in words, as clients and records see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "connection closed",
            Self::ConnectTimeout => "connect timed out",
            Self::Dns => "name not resolved",
            Self::Local => "local error",
            Self::Protocol => "protocol error",
            Self::Proxy => "proxy failed",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::TimedOut => "timed out",
            Self::Tls => "TLS handshake failed",
            Self::UntrustedCertificate => "certificate not trusted",
            Self::Unreachable => "host unreachable",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
