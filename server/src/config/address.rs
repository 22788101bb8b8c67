//! Addresses: where the bridge listens, and where a provider is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aibridge_core::Target;
use http::Uri;

/// An address to listen on: `127.0.0.1:8787`, `[::1]:8787`, `localhost:8787`.
///
/// # Errors
/// What is wrong, and how it would be right.
pub(crate) fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || {
        format!(
            "\"{text}\" is not an address; write an IP address and a port, such as \"127.0.0.1:8787\""
        )
    };
    let port = text.strip_prefix("localhost:").ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// A provider's base URL, as origin and path. The path is kept, without a slash at its end.
///
/// A malformed one may carry a password or a token, so complaints do not repeat it. `listen` is
/// where the bridge itself is, if that is known.
///
/// # Errors
/// What is wrong, and how it would be right.
pub(super) fn base_url(text: &str, listen: Option<SocketAddr>) -> Result<(Target, String), String> {
    let (target, path) = url(text, "keys")?;
    if listen.is_some_and(|listen| points_at(&target, listen)) {
        return Err(format!(
            "{target} is the bridge itself; name the provider's own URL"
        ));
    }
    Ok((target, path))
}

/// Whether a connection to `target` ends up at our own listener.
fn points_at(target: &Target, listen: SocketAddr) -> bool {
    let local = match target.host.parse::<IpAddr>() {
        Ok(ip) => ip == listen.ip() || ip.is_loopback() && listen.ip().is_unspecified(),
        Err(_) => {
            &*target.host == "localhost"
                && (listen.ip().is_loopback() || listen.ip().is_unspecified())
        }
    };
    local && target.port == listen.port() && listen.port() != 0
}

/// Any URL, whose credential belongs into this key and not into it.
///
/// # Errors
/// As above.
pub(super) fn url(text: &str, credential: &str) -> Result<(Target, String), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let tls = match scheme {
        "https" => true,
        "http" => false,
        "" => return Err("has no scheme; begin it with https:// or http://".to_owned()),
        other => {
            return Err(format!(
                "scheme \"{other}\" is not known; use https:// or http://"
            ));
        }
    };
    if rest.contains(['?', '#']) {
        return Err("has a query or fragment; leave everything from ? or # on out".to_owned());
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(format!(
            "has a user name; put the credential into {credential}"
        ));
    }
    let wrong = || "is not a URL; write it as \"https://api.example.com/v1\"".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let host = uri
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(wrong)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    // A port that does not fit is no port to the parser.
    let port = match (uri.port_u16(), authority.rsplit_once(':')) {
        (Some(0), _) => return Err("has port 0; name the provider's port".to_owned()),
        (Some(port), _) => port,
        (None, Some((_, port))) if !port.ends_with(']') => {
            return Err(
                "has a port that is not a number up to 65535; mend or remove it".to_owned(),
            );
        }
        (None, _) => {
            if tls {
                443
            } else {
                80
            }
        }
    };
    let path = uri.path().trim_end_matches('/');
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err("has . or .. in its path; write the path out".to_owned());
    }
    Ok((
        Target {
            host: host.to_ascii_lowercase().into(),
            port,
            tls,
        },
        path.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_split_into_origin_and_path() {
        for (text, origin, path) in [
            ("https://api.anthropic.com", "https://api.anthropic.com", ""),
            (
                "https://api.openai.com/v1/",
                "https://api.openai.com",
                "/v1",
            ),
            ("http://LocalHost:11434/v1", "http://localhost:11434", "/v1"),
            ("http://[::1]:9/a/b", "http://[::1]:9", "/a/b"),
            ("https://[::1]", "https://[::1]", ""),
        ] {
            let (target, rest) = base_url(text, None).unwrap();
            assert_eq!((target.to_string().as_str(), rest.as_str()), (origin, path));
        }
    }

    #[test]
    fn malformed_base_urls_say_how_they_would_be_right() {
        for (text, fix) in [
            ("api.openai.com/v1", "begin it with https:// or http://"),
            ("ftp://host", "use https:// or http://"),
            (
                "https://host/v1?beta=true",
                "leave everything from ? or # on out",
            ),
            ("https://host/#v1", "leave everything from ? or # on out"),
            ("https://user:pass@host/", "put the credential into keys"),
            ("https://", "https://api.example.com/v1"),
            ("https:///v1", "https://api.example.com/v1"),
            ("https://ho st/", "https://api.example.com/v1"),
            ("https://host:99999", "up to 65535"),
            ("https://host:0", "name the provider's port"),
            ("https://host/a/../b", "write the path out"),
        ] {
            let error = base_url(text, None).unwrap_err();
            assert!(error.contains(fix), "{text}: {error}");
            assert!(!error.contains("pass"), "{error}");
        }
    }

    #[test]
    fn localhost_is_an_address_to_listen_on() {
        assert_eq!(socket_addr("localhost:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(
            socket_addr("localhost")
                .unwrap_err()
                .contains("127.0.0.1:8787")
        );
        assert!(socket_addr("8787").is_err());
    }
}
