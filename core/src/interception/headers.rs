//! Which header fields cross the bridge, in each direction.

use std::fmt::Write;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::caller::Caller;
use crate::{
    api::Vendor,
    config::Provider,
    http1::{names_credential, strip_hop_by_hop},
    id::InterceptionId,
};

const ACTOR_ID: HeaderName = HeaderName::from_static("x-ai-bridge-actor-id");
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BRIDGE_ID: HeaderName = HeaderName::from_static("x-aibridge-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// The version of Anthropic's API that its documentation asks every client to send.
const ANTHROPIC_VERSION_DEFAULT: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Whether a client's field is ours alone: the connection's, a credential, or news of the client's
/// network.
fn stays_here(name: &str) -> bool {
    names_credential(name)
        || matches!(
            name,
            "content-length" | "expect" | "forwarded" | "host" | "x-real-ip"
        )
        || ["proxy-", "x-ai-bridge-actor", "x-forwarded-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// A client's header fields as upstream gets them, but for `host`, framing and the credential.
pub(super) fn to_upstream(
    mut headers: HeaderMap,
    provider: &Provider,
    caller: &Caller,
    has_body: bool,
) -> HeaderMap {
    strip_hop_by_hop(&mut headers, stays_here);
    // Events can only be read as they come if nothing compresses them.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if provider.vendor == Vendor::Anthropic && !headers.contains_key(ANTHROPIC_VERSION) {
        headers.insert(ANTHROPIC_VERSION, ANTHROPIC_VERSION_DEFAULT);
    }
    if has_body && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if provider.send_actor {
        headers.extend(encoded(&caller.actor).map(|actor| (ACTOR_ID, actor)));
        headers.extend(caller.metadata.fields().iter().cloned());
    }
    headers
}

/// A name as a field's value: what is not printable ASCII, and `%`, is percent-encoded as UTF-8
/// (RFC 3986 §2.1).
fn encoded(name: &str) -> Option<HeaderValue> {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(text).ok()
}

/// Upstream's header fields as the client gets them, and the length of the body where it is known.
///
/// That of an event stream is not: the bridge may add to it, and withhold some of it.
pub(super) fn to_client(
    headers: &mut HeaderMap,
    id: InterceptionId,
    is_stream: bool,
) -> Option<u64> {
    let declared = headers.get(CONTENT_LENGTH).filter(|_| !is_stream);
    let length = declared.and_then(|length| length.to_str().ok()?.parse().ok());
    // `alt-svc` says where else upstream's origin is served, which does not hold for ours.
    strip_hop_by_hop(headers, |name| {
        matches!(name, "alt-svc" | "content-length" | "set-cookie")
    });
    if is_stream {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    tag(headers, id);
    length
}

/// Adds the interception's id.
pub(super) fn tag(headers: &mut HeaderMap, id: InterceptionId) {
    if let Ok(id) = HeaderValue::from_bytes(&id.ascii()) {
        headers.insert(BRIDGE_ID, id);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::caller::Credential, *};
    use crate::{config::Metadata, rng::Rng, target::Target};

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        fields.iter().map(field).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn caller(actor: &str, metadata: &[(&str, &str)]) -> Caller {
        Caller {
            actor: actor.into(),
            metadata: Metadata::new(metadata.iter().copied()).unwrap(),
            credential: Credential::Pool,
        }
    }

    #[test]
    fn private_and_hop_by_hop_fields_stay_here() {
        let target = Target {
            host: "api.example".into(),
            port: 443,
            tls: true,
        };
        let provider = Provider::new("p", Vendor::Anthropic, target, "");
        let sent = map(&[
            ("host", "bridge"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("accept-encoding", "gzip"),
            ("content-length", "3"),
            ("cookie", "c"),
            ("authorization", "Bearer k"),
            ("x-api-key", "k"),
            ("api-key", "k"),
            ("x-goog-api-key", "k"),
            ("x-aibridge-token", "t"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "inside"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("proxy-authorization", "x"),
            ("x-ai-bridge-actor-id", "root"),
            ("x-ai-bridge-actor-metadata-team", "x"),
            ("expect", "100-continue"),
            ("anthropic-beta", "b"),
            ("user-agent", "ua"),
        ]);
        let got = to_upstream(sent, &provider, &caller("alice", &[]), true);
        assert_eq!(
            names(&got),
            [
                "accept-encoding",
                "anthropic-beta",
                "anthropic-version",
                "content-type",
                "user-agent"
            ]
        );
        assert_eq!(got[ACCEPT_ENCODING], "identity");
    }

    #[test]
    fn the_actor_is_told_only_where_configured() {
        let target = Target {
            host: "api.example".into(),
            port: 443,
            tls: true,
        };
        let provider = Provider {
            send_actor: true,
            ..Provider::new("p", Vendor::OpenAi, target, "/v1")
        };
        let got = to_upstream(
            map(&[
                ("x-ai-bridge-actor-id", "root"),
                ("x-ai-bridge-actor-metadata-team", "root"),
                ("x-ai-bridge-actor-metadata-rank", "root"),
            ]),
            &provider,
            &caller("alice", &[("Team", "search & rank")]),
            false,
        );
        assert_eq!(got[ACTOR_ID], "alice");
        assert_eq!(got["x-ai-bridge-actor-metadata-team"], "search & rank");
        assert_eq!(
            names(&got),
            [
                "accept-encoding",
                "x-ai-bridge-actor-id",
                "x-ai-bridge-actor-metadata-team"
            ]
        );
    }

    #[test]
    fn an_actor_of_any_name_is_told() {
        for (name, told) in [
            ("alice", "alice"),
            ("Alice & Bob", "Alice & Bob"),
            ("Zoë", "Zo%C3%AB"),
            ("100%", "100%25"),
            ("橋", "%E6%A9%8B"),
            ("a\nb\u{7f}", "a%0Ab%7F"),
        ] {
            assert_eq!(encoded(name).unwrap(), told);
        }
    }

    #[test]
    fn the_client_sees_upstreams_fields() {
        let mut headers = map(&[
            ("request-id", "r"),
            ("anthropic-ratelimit-requests-remaining", "9"),
            ("content-length", "12"),
            ("connection", "close"),
            ("set-cookie", "c"),
            ("content-type", "text/event-stream"),
        ]);
        let id = InterceptionId::draw(&mut Rng::new(1));
        assert_eq!(to_client(&mut headers.clone(), id, false), Some(12));
        assert_eq!(to_client(&mut headers, id, true), None);
        assert_eq!(
            names(&headers),
            [
                "anthropic-ratelimit-requests-remaining",
                "cache-control",
                "content-type",
                "request-id",
                "x-accel-buffering",
                "x-aibridge-id",
            ]
        );
    }
}
