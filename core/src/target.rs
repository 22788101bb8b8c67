//! Where a connection goes.

use std::{fmt, sync::Arc};

/// The origin of an upstream: what an adapter connects to, and what idle connections are kept by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Host name or address literal; an IPv6 literal without its brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is wrapped in TLS, with `host` as the name to verify.
    pub tls: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl Target {
    /// The value of the `Host` header: the port is left out where it is the scheme's own
    /// (RFC 9110 §7.2), and an IPv6 literal is bracketed.
    pub fn authority(&self) -> String {
        let host: &str = &self.host;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authority_leaves_out_the_schemes_own_port() {
        let target = |host: &str, port, tls| Target {
            host: host.into(),
            port,
            tls,
        };
        assert_eq!(target("a.example", 443, true).authority(), "a.example");
        assert_eq!(target("a.example", 80, false).authority(), "a.example");
        assert_eq!(target("::1", 8080, false).to_string(), "http://[::1]:8080");
    }
}
