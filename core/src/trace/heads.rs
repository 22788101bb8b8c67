//! Secrets in the heads of messages, by their places.
//!
//! Works line by line and not by a parser, so that what is no proper head, or not all of one, holds
//! no secret either.

use std::{iter, ops::Range};

use http::HeaderName;

use super::secrets::Secrets;
use crate::http1::is_credential;

/// Parameters of a request's query that are secrets.
const PARAMETERS: [&str; 10] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "key",
    "password",
    "secret",
    "sig",
    "token",
];

/// Whether a field of this name, in any case, is a secret wherever it stands.
pub(super) fn is_secret(name: &[u8]) -> bool {
    let credential = HeaderName::from_bytes(name).is_ok_and(|name| is_credential(&name));
    credential
        || [&b"mcp-session-id"[..], b"set-cookie"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
}

/// Where in a field's value the secret is: in that of an authorization, after the scheme.
pub(super) fn secrets_in(name: &[u8], value: &[u8]) -> Vec<Range<usize>> {
    let is_authorization = [&b"authorization"[..], b"proxy-authorization"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known));
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let start = value.iter().take_while(|byte| is_space(byte)).count();
    let blank = value[start..]
        .iter()
        .rev()
        .take_while(|byte| is_space(byte));
    let end = value.len() - blank.count();
    if !is_authorization {
        return iter::once(start..end).collect();
    }
    let mut words = Vec::new();
    let mut at = start;
    for word in value[start..end].split(is_space) {
        if !word.is_empty() {
            words.push(at..at + word.len());
        }
        at += word.len() + 1;
    }
    match words.first() {
        Some(first) if words.len() > 1 || value[first.clone()].eq_ignore_ascii_case(b"bearer") => {
            words.split_off(1)
        }
        _ => words,
    }
}

/// Replaces the secrets of a head, or of the beginning of one.
pub(super) fn redact(head: &mut [u8], secrets: &mut Secrets) {
    let mut is_first = true;
    // The secret field whose value goes on in the next line, if that begins with a space.
    let mut last: Option<Vec<u8>> = None;
    for line in head.split_mut(|byte| *byte == b'\n') {
        let is_blank = line.iter().all(|byte| *byte == b'\r');
        if is_first && !is_blank {
            is_first = false;
            redact_query(line, secrets);
            continue;
        }
        let goes_on = line
            .first()
            .is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        let (name, value) = match (goes_on, line.iter().position(|byte| *byte == b':')) {
            (true, _) => (last.clone(), 0),
            (false, None) => (None, 0),
            (false, Some(colon)) => (Some(line[..colon].trim_ascii().to_vec()), colon + 1),
        };
        last = name.filter(|name| secrets.is_secret(name));
        let Some(name) = &last else { continue };
        let value = &mut line[value..];
        for place in secrets_in(name, value) {
            secrets.replace(&mut value[place]);
        }
    }
}

/// Replaces the secrets among the parameters of a request line.
fn redact_query(line: &mut [u8], secrets: &mut Secrets) {
    if line.starts_with(b"HTTP/") {
        return;
    }
    let Some(query) = line.iter().position(|byte| *byte == b'?') else {
        return;
    };
    let ends = |byte: &u8| matches!(byte, b'&' | b' ' | b'\r' | b'#' | b'?');
    for parameter in line[query + 1..].split_mut(ends) {
        let Some(equals) = parameter.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = parameter.split_at_mut(equals);
        let mut known = PARAMETERS.iter();
        if known.any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
            secrets.replace(&mut value[1..]);
        }
    }
}

/// Fields whose values mean something to HTTP, or to the session.
const MEANT: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "retry-after",
    "transfer-encoding",
    "upgrade",
];

/// Replaces what is known as a secret in all of a head. Where words mean something, only what is
/// none of them.
pub(super) fn scrub(head: &mut [u8], secrets: &Secrets) {
    let mut is_first = true;
    for line in head.split_mut(|byte| *byte == b'\n') {
        let name = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let (name, value) = line.split_at_mut(if is_first { 0 } else { name });
        let is_meant = MEANT
            .iter()
            .any(|meant| name.trim_ascii().eq_ignore_ascii_case(meant.as_bytes()));
        secrets.scrub_strong(name);
        if is_first || is_meant {
            secrets.scrub_strong(value);
        } else {
            secrets.scrub(value);
        }
        is_first &= value.iter().all(|byte| *byte == b'\r');
    }
}

/// Where the first head in these bytes ends, after its empty line. `from` is how much was looked at
/// before.
pub(super) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(3);
    let mut feeds = memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at);
    feeds.find_map(|at| match &bytes[at + 1..] {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(head: &str) -> String {
        let mut bytes = head.as_bytes().to_vec();
        redact(&mut bytes, &mut Secrets::default());
        assert_eq!(bytes.len(), head.len());
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn credentials_are_replaced_and_the_rest_stays() {
        let head = "POST /v1/x?beta=true&KEY=Zq7xLp0 HTTP/1.1\r\nhost: h\r\nAuthorization: Bearer  Zq7xLp0\r\n\
            X-Api-Key: \tZq7xLp0 \r\ncookie: a=Zq7xLp0\r\nx-request-id: 7\r\n\r\n";
        let redacted = redacted(head);
        assert!(!redacted.contains("Zq7xLp0"), "{redacted}");
        for kept in [
            "POST /v1/x?beta=true&KEY=Z",
            " HTTP/1.1\r\nhost: h\r\nAuthorization: Bearer  Z",
            "\r\nx-request-id: 7\r\n\r\n",
        ] {
            assert!(redacted.contains(kept), "{redacted}");
        }
    }

    #[test]
    fn what_is_no_proper_head_holds_no_secret_either() {
        for head in [
            "GET / HTTP/1.1\nauthorization: Zq7xLp0",
            "\r\nGET / HTTP/1.1\r\nx-api-key : Zq7xLp0",
            "GET / HTTP/1.1\r\nauthorization:\r\n Bearer Zq7xLp0\r\n",
            "GET / HTTP/1.1\r\nproxy-authorization: Basic Zq7xLp0 Zq7xLp0",
            "GET /?token=Zq7xLp0",
            "HTTP/1.1 200 OK\r\nset-cookie: Zq7xLp0; path=/\r\nMCP-Session-Id: Zq7xLp0\r\n\r\n",
        ] {
            let redacted = redacted(head);
            assert!(!redacted.contains("Zq7xLp0"), "{redacted}");
        }
    }

    #[test]
    fn a_head_ends_behind_its_empty_line() {
        assert_eq!(end(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nbody", 0), Some(25));
        assert_eq!(end(b"a\n\nb", 0), Some(3));
        assert_eq!(end(b"a\r\nb\r\n\r", 0), None);
        assert_eq!(end(b"a\r\nb\r\n\r\n", 7), Some(8));
    }
}
