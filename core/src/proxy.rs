//! Outbound proxies: which upstreams are reached through one, and the `CONNECT` that opens the way
//! (RFC 9110 §9.3.6).
//!
//! Only connections that are wrapped in TLS go through a proxy, which then sees no more of them
//! than where they lead.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;

use crate::{
    codec::Step,
    fault::Fault,
    http1::{
        Limits,
        client::{Decoder, Item},
    },
    secret::Secret,
    target::Target,
};

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is; reached without TLS.
    pub target: Target,
    /// The value of `Proxy-Authorization`, where it wants one.
    pub authorization: Option<Secret>,
}

/// Which upstreams are reached through a proxy. By default none.
///
/// ```
/// use aibridge_core::{Target, proxy::{Exceptions, Proxies, Proxy}};
///
/// let target = |host: &str, tls| Target { host: host.into(), port: 443, tls };
/// let proxy = Proxy { target: target("proxy.internal", false), authorization: None };
/// let proxies = Proxies::new(proxy, Exceptions::new("localhost, .internal, 10.0.0.0/8"));
///
/// assert!(proxies.between(&target("api.example.com", true)).is_some());
/// assert!(proxies.between(&target("llm.internal", true)).is_none());
/// assert!(proxies.between(&target("10.1.2.3", true)).is_none());
/// assert!(proxies.between(&target("api.example.com", false)).is_none(), "not TLS");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    proxy: Option<Proxy>,
    except: Exceptions,
}

impl Proxies {
    /// All through this one but the exceptions.
    pub const fn new(proxy: Proxy, except: Exceptions) -> Self {
        Self {
            proxy: Some(proxy),
            except,
        }
    }

    /// The proxy between here and this upstream.
    pub fn between(&self, target: &Target) -> Option<&Proxy> {
        self.proxy
            .as_ref()
            .filter(|_| target.tls && !self.except.cover(target))
    }
}

/// Upstreams that are reached directly, by the conventions of `NO_PROXY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A domain and all below it, maybe on one port only.
    Domain(Box<str>, Option<u16>),
    /// Addresses whose first so many bits are these.
    Network(IpAddr, u32),
}

impl Exceptions {
    /// Reads a list separated by commas or spaces: `*` for all; a host name, which covers the names
    /// below it too (a leading `.` or `*.` says the same); either with `:port`; an address; a
    /// network such as `10.0.0.0/8`.
    pub fn new(list: &str) -> Self {
        let entries = list
            .split([',', ' ', '\t'])
            .filter(|entry| !entry.is_empty());
        Self(entries.map(Exception::read).collect())
    }

    fn cover(&self, target: &Target) -> bool {
        self.0.iter().any(|exception| exception.covers(target))
    }
}

impl Exception {
    fn read(entry: &str) -> Self {
        if entry == "*" {
            return Self::All;
        }
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, bits.parse().ok()),
            None => (entry, Some(128)),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if let (Ok(address), Some(bits)) = (address.parse(), bits) {
            return Self::Network(address, bits);
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (entry, None),
        };
        let host = host.trim_start_matches('*').trim_matches('.');
        Self::Domain(host.to_ascii_lowercase().into(), port)
    }

    fn covers(&self, target: &Target) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain, port) => {
                let host = target.host.trim_end_matches('.').to_ascii_lowercase();
                let below = host
                    .strip_suffix(&**domain)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && port.is_none_or(|port| port == target.port)
            }
            Self::Network(network, bits) => target
                .host
                .parse()
                .is_ok_and(|address| is_within(address, *network, *bits)),
        }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let other = address.to_bits() ^ network.to_bits();
            other.leading_zeros() >= bits.min(32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let other = address.to_bits() ^ network.to_bits();
            other.leading_zeros() >= bits.min(128)
        }
        _ => false,
    }
}

/// What a proxy's answer to `CONNECT` may be long at most, in bytes; each read is bounded, and so
/// is the sum.
const MAX_ANSWER: usize = 16 << 10;

/// The opening of a way through a proxy: send [`request`](Tunnel::request), then read until it says
/// how it went.
///
/// ```
/// use aibridge_core::{Fault, Target, codec::Step, proxy::{Proxy, Tunnel}};
///
/// let target = |host: &str, port, tls| Target { host: host.into(), port, tls };
/// let proxy = Proxy { target: target("proxy", 3128, false), authorization: None };
/// let request = Tunnel::request(&proxy, &target("api.example.com", 443, true));
/// assert!(request.starts_with(b"CONNECT api.example.com:443 HTTP/1.1\r\n"));
///
/// let mut tunnel = Tunnel::new();
/// assert_eq!(tunnel.push("HTTP/1.1 200 Connection".into()), Ok(Step::More));
/// assert_eq!(tunnel.push(" established\r\n\r\n".into()), Ok(Step::Item(())));
/// assert_eq!(Tunnel::new().push("HTTP/1.1 407 No\r\n\r\n".into()), Err(Fault::Proxy));
/// ```
#[derive(Debug)]
pub struct Tunnel {
    decoder: Decoder,
    read: usize,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self::new()
    }
}

impl Tunnel {
    /// At the start.
    pub fn new() -> Self {
        Self {
            decoder: Decoder::new(Limits::default(), &Method::CONNECT),
            read: 0,
        }
    }

    /// What to send to the proxy. Holds its credentials.
    pub fn request(proxy: &Proxy, target: &Target) -> Bytes {
        let host: &str = &target.host;
        let authority = if host.contains(':') {
            format!("[{host}]:{}", target.port)
        } else {
            format!("{host}:{}", target.port)
        };
        let mut request = BytesMut::with_capacity(256);
        request
            .put_slice(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").as_bytes());
        if let Some(authorization) = &proxy.authorization {
            request.put_slice(b"proxy-authorization: ");
            request.put_slice(authorization.expose().as_bytes());
            request.put_slice(b"\r\n");
        }
        request.put_slice(b"\r\n");
        request.freeze()
    }

    /// Takes the proxy's bytes. `Item` once the way is open.
    ///
    /// # Errors
    /// The proxy refuses, or says what is no answer.
    pub fn push(&mut self, bytes: Bytes) -> Result<Step<()>, Fault> {
        self.read += bytes.len();
        if self.read > MAX_ANSWER {
            return Err(Fault::Proxy);
        }
        self.decoder.push(bytes);
        loop {
            match self.decoder.next() {
                Ok(Step::Item(Item::Interim(_))) => {}
                // Upstream waits for our TLS to begin: bytes before that come from somebody else.
                Ok(Step::Item(Item::Head(head)))
                    if head.status.is_success() && self.decoder.buffered() == 0 =>
                {
                    return Ok(Step::Item(()));
                }
                Ok(Step::More) => return Ok(Step::More),
                _ => return Err(Fault::Proxy),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16) -> Target {
        Target {
            host: host.into(),
            port,
            tls: true,
        }
    }

    #[test]
    fn exceptions_cover_what_they_name() {
        for (list, host, port, covered) in [
            ("*", "a.example", 443, true),
            ("", "a.example", 443, false),
            ("a.example", "a.example", 443, true),
            ("a.example", "A.Example.", 443, true),
            ("a.example", "b.a.example", 443, true),
            ("a.example", "ba.example", 443, false),
            (".a.example", "a.example", 443, true),
            ("*.a.example", "b.a.example", 443, true),
            ("x, a.example:8443", "a.example", 8443, true),
            ("x a.example:8443", "a.example", 443, false),
            ("10.0.0.0/8", "10.200.0.1", 443, true),
            ("10.0.0.0/8", "11.0.0.1", 443, false),
            ("10.0.0.0/8", "10.example", 443, false),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3", "10.1.2.4", 443, false),
            ("fd00::/8", "fd12::1", 443, true),
            ("[::1]", "::1", 443, true),
            ("::1", "127.0.0.1", 443, false),
        ] {
            let exceptions = Exceptions::new(list);
            let is = exceptions.cover(&target(host, port));
            assert_eq!(is, covered, "{list:?} {host}:{port}");
        }
    }

    #[test]
    fn a_proxys_credentials_go_to_it_and_are_not_shown() {
        let proxy = Proxy {
            target: target("proxy", 3128),
            authorization: Some(Secret::new("Basic dXNlcjpzZWNyZXQ=")),
        };
        let request = Tunnel::request(&proxy, &target("::1", 443));
        assert_eq!(
            request,
            "CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\nproxy-authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
        );
        assert!(!format!("{proxy:?}").contains("dXNlcjpzZWNyZXQ="));
    }

    #[test]
    fn only_a_2xx_and_nothing_behind_it_opens_the_way() {
        for (answer, opened) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(Step::Item(()))),
            ("HTTP/1.0 200 OK\r\nvia: p\r\n\r\n", Ok(Step::Item(()))),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 OK\r\n\r\n",
                Ok(Step::Item(())),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nearly", Err(Fault::Proxy)),
            (
                "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno",
                Err(Fault::Proxy),
            ),
            ("SSH-2.0-OpenSSH\r\n", Err(Fault::Proxy)),
        ] {
            assert_eq!(Tunnel::new().push(answer.into()), opened, "{answer}");
            let mut bytewise = Tunnel::new();
            let told = answer
                .bytes()
                .map(|byte| bytewise.push(Bytes::copy_from_slice(&[byte])))
                .find(|told| *told != Ok(Step::More));
            let early = answer.ends_with("early");
            assert_eq!(
                told,
                Some(if early { Ok(Step::Item(())) } else { opened }),
                "{answer}"
            );
        }
        let endless = vec![b'a'; MAX_ANSWER + 1];
        assert_eq!(Tunnel::new().push(endless.into()), Err(Fault::Proxy));
    }
}
