//! Fields that mean something to the connection rather than to the other end, and lists in values.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Whether a field ends at the next hop (RFC 9110 §7.6.1), whatever `Connection` says.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Removes the fields that end at the next hop (RFC 9110 §7.6.1): the well-known ones, and those
/// that `Connection` names, but for `content-length` and `host`; and whatever is `unwanted`
/// besides.
///
/// ```
/// use http::HeaderMap;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("connection", "close, x-secret-hop".parse().unwrap());
/// headers.insert("x-secret-hop", "1".parse().unwrap());
/// headers.insert("cookie", "a=b".parse().unwrap());
/// headers.insert("accept", "*/*".parse().unwrap());
/// aibridge_core::http1::strip_hop_by_hop(&mut headers, |name| name == "cookie");
/// assert_eq!(headers.keys().collect::<Vec<_>>(), ["accept"]);
/// ```
pub fn strip_hop_by_hop(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let named = list(headers, &header::CONNECTION)
        .filter(|option| !option.eq_ignore_ascii_case(b"close"))
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST);
    // Of the many fields there could be, few are there: look at those.
    let present = headers
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || unwanted(name.as_str()))
        .cloned();
    let gone: Vec<HeaderName> = named.chain(present).collect();
    for name in &gone {
        headers.remove(name);
    }
}

/// Whether a request field carries a credential: `authorization`, `cookie`, `proxy-authorization`,
/// `x-aibridge-token` and the API key fields of providers (`x-api-key`, `api-key`,
/// `x-goog-api-key`).
///
/// The request decoder marks their values sensitive, so that debug output does not show them, and
/// [`client::encode_head`](super::client::encode_head) writes them from one place only.
pub fn is_credential(name: &HeaderName) -> bool {
    names_credential(name.as_str())
}

/// The same of a name in lower case.
pub(crate) fn names_credential(name: &str) -> bool {
    matches!(
        name,
        "api-key"
            | "authorization"
            | "cookie"
            | "proxy-authorization"
            | "x-aibridge-token"
            | "x-api-key"
            | "x-goog-api-key"
    )
}

/// Whether an encoder writes this field itself.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    name == header::CONNECTION
        || name == header::CONTENT_LENGTH
        || name == header::TRANSFER_ENCODING
}

/// The members of a comma-separated list (RFC 9110 §5.6.1) over all fields of a name, without the
/// white space around them. Empty members are given too.
pub(super) fn list<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value: &HeaderValue| value.as_bytes().split(|&byte| byte == b','))
        .map(trim)
}

/// Whether a list names this token, in any case.
pub(super) fn list_has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// Without optional white space (RFC 9110 §5.6.3), which is spaces and tabs and nothing else.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Whether a byte can be part of a token (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
