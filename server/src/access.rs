//! Who may ask the admin listener.
//!
//! A token names an administrator. Without one the listener is on loopback, where whoever has a
//! shell on the machine may ask, but not every page that a browser there has open: a name that its
//! owner points at 127.0.0.1 would else make that page one of ours (DNS rebinding), and a form can
//! be sent to any address.

use aibridge_core::secret::Digest;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, uri::Authority};

/// Who may ask.
#[derive(Debug, Default)]
pub(crate) struct Access {
    token: Option<Digest>,
    /// By which names the listener is reached besides addresses and `localhost`, in lower case.
    hosts: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The token is missing or wrong.
    NoToken,
    /// It was sent to a name that is not ours.
    OtherHost,
    /// It comes from a page that is not ours.
    OtherOrigin,
}

impl Refused {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherOrigin => StatusCode::FORBIDDEN,
        }
    }

    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::NoToken => {
                "the admin token is missing or wrong; send it as `Authorization: Bearer`"
            }
            Self::OtherHost => {
                "unknown host: ask by address or as localhost, or name the host in `admin_hosts`"
            }
            Self::OtherOrigin => {
                "requests of web pages change nothing here; set `admin_token` and send it"
            }
        }
    }
}

impl Access {
    pub(crate) const fn new(token: Option<Digest>, hosts: Vec<String>) -> Self {
        Self { token, hosts }
    }

    /// Why this request is not answered, if it is not.
    pub(crate) fn refuses<B>(&self, request: &Request<B>) -> Option<Refused> {
        let headers = request.headers();
        if let Some(token) = self.token {
            // Who knows the token is no page that guesses.
            return (!shows(headers, token)).then_some(Refused::NoToken);
        }
        if !self.is_ours(request) {
            return Some(Refused::OtherHost);
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_of_a_page = headers.contains_key(header::ORIGIN);
        (!reads && is_of_a_page).then_some(Refused::OtherOrigin)
    }

    /// Whether it was sent to us by a name that nobody else can point here. No `Host` at all is no
    /// browser's.
    fn is_ours<B>(&self, request: &Request<B>) -> bool {
        let named = request.headers().get(header::HOST);
        let in_target = request.uri().authority().map(Authority::as_str);
        let Some(host) = in_target.or_else(|| named.and_then(|name| name.to_str().ok())) else {
            return named.is_none();
        };
        let Ok(host) = host.parse::<Authority>() else {
            return false;
        };
        let host = host.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        is_address || host == "localhost" || self.hosts.contains(&host)
    }
}

fn shows(headers: &HeaderMap, token: Digest) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], HeaderValue::as_bytes);
    let mut fields = shown
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let (scheme, credential, rest) = (fields.next(), fields.next(), fields.next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
        && rest.is_none()
        && token.matches(Digest::of(credential.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/keys");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_ours() {
        let access = Access::new(None, vec!["bridge.internal".to_owned()]);
        for (host, ours) in [
            ("127.0.0.1:8788", true),
            ("[::1]:8788", true),
            ("10.0.0.7", true),
            ("localhost:8788", true),
            ("LOCALHOST", true),
            ("Bridge.internal:8788", true),
            ("evil.example:8788", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let refused = access.refuses(&request(Method::GET, &[("host", host)]));
            assert_eq!(refused, (!ours).then_some(Refused::OtherHost), "{host:?}");
        }
        assert_eq!(access.refuses(&request(Method::GET, &[])), None);
    }

    #[test]
    fn pages_change_nothing() {
        let access = Access::default();
        let fields = [
            ("host", "127.0.0.1:8788"),
            ("origin", "https://evil.example"),
        ];
        let refused = access.refuses(&request(Method::POST, &fields));
        assert_eq!(refused, Some(Refused::OtherOrigin));
        assert_eq!(access.refuses(&request(Method::GET, &fields)), None);
        assert_eq!(access.refuses(&request(Method::POST, &fields[..1])), None);
    }

    #[test]
    fn who_shows_the_token_may_ask_from_anywhere() {
        let access = Access::new(Some(Digest::of(b"the-admin-token")), Vec::new());
        let bearer = ("authorization", "Bearer the-admin-token");
        let fields = [
            bearer,
            ("host", "bridge.example"),
            ("origin", "https://x.example"),
        ];
        assert_eq!(access.refuses(&request(Method::POST, &fields)), None);
        for shown in [
            "Bearer wrong",
            "the-admin-token",
            "Bearer the-admin-token x",
            "Basic the-admin-token",
        ] {
            let refused = access.refuses(&request(Method::GET, &[("authorization", shown)]));
            assert_eq!(refused, Some(Refused::NoToken), "{shown}");
        }
        let local = request(Method::GET, &[("host", "127.0.0.1")]);
        assert_eq!(access.refuses(&local), Some(Refused::NoToken));
    }
}
