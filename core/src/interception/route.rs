//! From a request's target to a provider and a route: what is bridged, what is passed through, and
//! what is refused.
//!
//! Paths are matched after normalising (RFC 3986 §6.2.2): percent-encoded unreserved characters are
//! decoded. What could mean one path to us and another to upstream is refused: dot segments, and
//! encoded slashes in the part that is matched.

use std::sync::Arc;

use http::{Method, Uri};

use super::intake::Refusal;
use crate::{
    api::{Api, ApiError, Vendor},
    config::{Config, Provider},
};

/// What the bridge does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// One of the three APIs: inspected, recorded, failed over.
    Bridged(Api),
    /// Failed over and counted, not looked into.
    Passthrough,
}

/// A route that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) provider: Arc<Provider>,
    pub(super) route: Route,
    /// Path and query for upstream, base path included.
    pub(super) path: Arc<str>,
}

/// Finds the route of a request. `host` is its `Host` field, `upgrade` whether it asks for a
/// WebSocket. A refusal is in the shape of the provider's vendor where the prefix names one.
pub(super) fn find(
    config: &Config,
    method: &Method,
    target: &Uri,
    host: Option<&str>,
    upgrade: bool,
) -> Result<Found, Refusal> {
    if target
        .authority()
        .is_some_and(|authority| !is_same_host(target.scheme_str(), authority.as_str(), host))
    {
        let message = "the request target names another host";
        return Err(Refusal::new(None, ApiError::invalid_request(message)));
    }
    let path = normalise(target.path())
        .map_err(|message| Refusal::new(None, ApiError::invalid_request(message)))?;
    let not_found = || Refusal::new(None, ApiError::not_found());
    let (name, rest) = split_prefix(&path).ok_or_else(not_found)?;
    let provider = config
        .providers
        .iter()
        .find(|p| &*p.name == name)
        .ok_or_else(not_found)?;
    let vendor = provider.vendor;

    // OpenAI's version is part of the base URL, so it is not repeated after it.
    let rest = match vendor {
        Vendor::Anthropic => Some(rest),
        Vendor::OpenAi => rest
            .strip_prefix("/v1")
            .filter(|rest| rest.starts_with('/')),
    };
    let Some((rest, route)) = rest.and_then(|rest| Some((rest, route(vendor, rest)?))) else {
        return Err(Refusal::new(Some(vendor), ApiError::not_found()));
    };
    if matches!(route, Route::Bridged(_)) {
        if upgrade {
            return Err(Refusal::new(Some(vendor), ApiError::upgrade_required()));
        }
        if method != Method::POST {
            return Err(Refusal::wrong_method(vendor, "POST"));
        }
    }
    // Upstream would echo the key (RFC 9110 §9.3.8: no client sends credentials with TRACE).
    if method == Method::TRACE || method == Method::CONNECT {
        return Err(Refusal::wrong_method(vendor, PASSED_METHODS));
    }
    let query = target.query();
    let base = &*provider.base_path;
    let path = match query {
        Some(query) => format!("{base}{rest}?{query}").into(),
        None => format!("{base}{rest}").into(),
    };
    Ok(Found {
        provider: Arc::clone(provider),
        route,
        path,
    })
}

/// Whether a target's authority is what the `Host` field names (RFC 9110 §4.2.3): in any case, and
/// with the scheme's own port or without.
fn is_same_host(scheme: Option<&str>, authority: &str, host: Option<&str>) -> bool {
    let own_port = match scheme {
        Some("http") => ":80",
        Some("https") => ":443",
        _ => ":",
    };
    let bare = |name: &'_ str| -> String {
        let bare = [own_port, ":"]
            .iter()
            .find_map(|port| name.strip_suffix(port));
        bare.unwrap_or(name).to_ascii_lowercase()
    };
    host.is_some_and(|host| bare(host) == bare(authority))
}

/// The provider that a target names, whether there is a route or not: what is wrong with the rest
/// of the path is told in its shape.
pub(super) fn named<'a>(config: &'a Config, target: &Uri) -> Option<&'a Provider> {
    let path = normalise(target.path());
    let path = path.as_deref().unwrap_or_else(|_| target.path());
    let name = path.strip_prefix('/')?.split('/').next()?;
    let mut providers = config.providers.iter();
    providers.find(|it| &*it.name == name).map(|it| &**it)
}

/// `/name/rest` as `(name, /rest)`.
fn split_prefix(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find('/')?;
    Some(path.split_at(end))
}

fn route(vendor: Vendor, path: &str) -> Option<Route> {
    let bridged = match (vendor, path) {
        (Vendor::Anthropic, "/v1/messages") => Some(Api::Messages),
        (Vendor::OpenAi, "/chat/completions") => Some(Api::ChatCompletions),
        (Vendor::OpenAi, "/responses") => Some(Api::Responses),
        // Some providers take it for the one above, which would not be recorded then.
        (Vendor::OpenAi, path) if path.trim_end_matches('/') == "/responses" => return None,
        _ => None,
    };
    if let Some(api) = bridged {
        return Some(Route::Bridged(api));
    }
    let (exact, trees): (&[&str], &[&str]) = match vendor {
        Vendor::Anthropic => (
            &["/v1/messages/count_tokens"],
            &[
                "/v1/models",
                "/v1/messages/batches",
                "/v1/files",
                "/api/event_logging",
            ],
        ),
        Vendor::OpenAi => (
            &["/embeddings", "/moderations", "/completions"],
            &[
                "/models",
                "/conversations",
                "/responses",
                "/files",
                "/images",
                "/audio",
                "/batches",
            ],
        ),
    };
    let in_tree = |tree: &&str| {
        path.strip_prefix(tree)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    (exact.contains(&path) || trees.iter().any(in_tree)).then_some(Route::Passthrough)
}

/// What is passed through, as `Allow` names it; others too.
const PASSED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Decodes percent-encoded unreserved characters (RFC 3986 §2.3), and refuses what is ambiguous.
fn normalise(path: &str) -> Result<String, &'static str> {
    // Some servers read it as a slash.
    if path.contains('\\') {
        return Err("the path has a backslash");
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    let (mut slashes, mut encoded_slash) = (0, false);
    while let Some(at) = rest.find('%') {
        slashes += rest[..at].bytes().filter(|byte| *byte == b'/').count();
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte = code.ok_or("the path has a malformed percent-encoding")?;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // A slash that is none: harmless in an identifier, not where the route is told.
            b'/' | b'\\' if slashes < 4 => {
                return Err("the path has an encoded slash");
            }
            _ => {
                encoded_slash |= matches!(byte, b'/' | b'\\');
                out.push_str(&rest[at..at + 3]);
            }
        }
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    let is_dots = |segment: &str| segment == "." || segment == "..";
    let hides_dots = || {
        let decoded = out
            .to_ascii_lowercase()
            .replace("%2f", "/")
            .replace("%5c", "/");
        decoded.split('/').any(is_dots)
    };
    if out.split('/').any(is_dots) || encoded_slash && hides_dots() {
        return Err("the path has a dot segment");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::target::Target;

    fn config() -> Config {
        let target = Target {
            host: "api.example".into(),
            port: 443,
            tls: true,
        };
        Config {
            providers: vec![
                Arc::new(Provider::new(
                    "anthropic",
                    Vendor::Anthropic,
                    target.clone(),
                    "",
                )),
                Arc::new(Provider::new("openai", Vendor::OpenAi, target, "/v1/")),
            ],
            ..Config::default()
        }
    }

    fn found(method: &Method, target: &str) -> Result<(Route, String), (u16, Option<Vendor>)> {
        find(
            &config(),
            method,
            &target.parse().unwrap(),
            Some("bridge.example"),
            false,
        )
        .map(|found| (found.route, found.path.to_string()))
        .map_err(|refused| (refused.error.status.as_u16(), refused.vendor))
    }

    #[test]
    fn routes_lead_to_upstream_paths() {
        let bridged = Route::Bridged;
        for (target, route, path) in [
            (
                "/anthropic/v1/messages?beta=true",
                bridged(Api::Messages),
                "/v1/messages?beta=true",
            ),
            (
                "/anthropic/v1/%6dessages",
                bridged(Api::Messages),
                "/v1/messages",
            ),
            (
                "/openai/v1/chat/completions",
                bridged(Api::ChatCompletions),
                "/v1/chat/completions",
            ),
            (
                "/openai/v1/responses",
                bridged(Api::Responses),
                "/v1/responses",
            ),
            (
                "http://bridge.example/openai/v1/responses",
                bridged(Api::Responses),
                "/v1/responses",
            ),
            (
                "/openai/v1/responses/r_1",
                Route::Passthrough,
                "/v1/responses/r_1",
            ),
            (
                "/openai/v1/models/org%2Fmodel",
                Route::Passthrough,
                "/v1/models/org%2Fmodel",
            ),
            (
                "/anthropic/v1/messages/count_tokens",
                Route::Passthrough,
                "/v1/messages/count_tokens",
            ),
            (
                "/anthropic/v1/messages/batches/b/results",
                Route::Passthrough,
                "/v1/messages/batches/b/results",
            ),
            (
                "/anthropic/api/event_logging/batch",
                Route::Passthrough,
                "/api/event_logging/batch",
            ),
        ] {
            assert_eq!(
                found(&Method::POST, target),
                Ok((route, path.to_owned())),
                "{target}"
            );
        }
    }

    #[test]
    fn what_is_no_route_is_refused() {
        let (anthropic, openai) = (Some(Vendor::Anthropic), Some(Vendor::OpenAi));
        for (target, status, vendor) in [
            ("/", 404, None),
            ("/nobody/v1/messages", 404, None),
            ("/anthropic/v1/messages/", 404, anthropic),
            ("/anthropic/v1/modelsx", 404, anthropic),
            ("/openai/v1", 404, openai),
            ("/openai/v1x/responses", 404, openai),
            ("/openai/v1/responses/", 404, openai),
            ("/openai/v1/responses//", 404, openai),
            ("/anthropic/v1/../v1/messages", 400, None),
            ("/anthropic/v1/models/%2e%2E/x", 400, None),
            ("/anthropic/v1/models/x/..%2F..%5Cadmin", 400, None),
            ("/anthropic%2fv1/messages", 400, None),
            ("/anthropic/v1/models/%zz", 400, None),
            ("http://elsewhere.example/anthropic/v1/messages", 400, None),
        ] {
            assert_eq!(
                found(&Method::POST, target),
                Err((status, vendor)),
                "{target}"
            );
        }
        assert_eq!(
            found(&Method::GET, "/openai/v1/responses"),
            Err((405, openai))
        );
    }

    #[test]
    fn a_websocket_upgrade_is_sent_back_to_http() {
        let target = "/openai/v1/responses".parse().unwrap();
        let refused = find(&config(), &Method::GET, &target, None, true).unwrap_err();
        assert_eq!(refused.error.status, StatusCode::UPGRADE_REQUIRED);
    }

    #[test]
    fn an_absolute_target_names_the_same_host_in_any_spelling() {
        for (target, host, same) in [
            (
                "http://bridge.example/openai/v1/responses",
                "bridge.example",
                true,
            ),
            (
                "http://Bridge.Example/openai/v1/responses",
                "bridge.example",
                true,
            ),
            (
                "http://bridge.example/openai/v1/responses",
                "BRIDGE.example:80",
                true,
            ),
            (
                "http://bridge.example:80/openai/v1/responses",
                "bridge.example",
                true,
            ),
            (
                "HTTPS://bridge.example:443/openai/v1/responses",
                "bridge.example",
                true,
            ),
            (
                "http://bridge.example:8787/openai/v1/responses",
                "bridge.example:8787",
                true,
            ),
            ("http://[::1]:80/openai/v1/responses", "[::1]", true),
            (
                "http://bridge.example:443/openai/v1/responses",
                "bridge.example",
                false,
            ),
            (
                "https://bridge.example:80/openai/v1/responses",
                "bridge.example",
                false,
            ),
            (
                "http://bridge.example:8787/openai/v1/responses",
                "bridge.example",
                false,
            ),
            (
                "http://user@bridge.example/openai/v1/responses",
                "bridge.example",
                false,
            ),
            (
                "http://bridge.example.org/openai/v1/responses",
                "bridge.example",
                false,
            ),
        ] {
            let uri = target.parse().unwrap();
            let found = find(&config(), &Method::POST, &uri, Some(host), false);
            assert_eq!(found.is_ok(), same, "{target} at {host}");
        }
        let uri = "http://bridge.example/openai/v1/responses".parse().unwrap();
        assert!(find(&config(), &Method::POST, &uri, None, false).is_err());
    }

    #[test]
    fn what_would_echo_the_key_is_passed_to_nobody() {
        for method in [Method::TRACE, Method::CONNECT] {
            for path in ["/openai/v1/models", "/anthropic/v1/files"] {
                let (status, _) = found(&method, path).unwrap_err();
                assert_eq!(status, 405, "{method} {path}");
            }
        }
        assert!(found(&Method::OPTIONS, "/openai/v1/models").is_ok());
    }

    #[test]
    fn a_backslash_is_no_part_of_a_path() {
        for path in [
            r"/anthropic/v1/models/\..\x",
            r"/anthropic/v1/models/a\b",
            r"/anthropic\v1/models",
        ] {
            // `Uri` takes them, so they come this far.
            assert!(normalise(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_long_path_is_normalised_in_one_pass() {
        let path = format!("/openai/v1/models/a{}", "%2F".repeat(1 << 19));
        assert_eq!(normalise(&path), Ok(path.clone()));
    }
}
