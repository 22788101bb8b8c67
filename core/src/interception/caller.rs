//! Who is calling, and whose key is used.
//!
//! 1. A token in `X-Aibridge-Token` names the client; a key beside it is the client's own.
//! 2. A token in place of a key names the client too, and the pool pays.
//! 3. Where clients are configured, nobody else is let in.
//! 4. Where none are, everybody is: a key is the caller's own, and without one, or with the
//!    placeholder, the pool pays.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    api::{ApiError, Vendor},
    config::{Client, Config, Metadata, PLACEHOLDER, Provider},
    record::CredentialKind,
    secret::{Digest, Secret},
};

/// The field that names a client without standing in the way of its own key.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-aibridge-token");
/// Anthropic's field for an API key.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The actor where no clients are configured.
const LOCAL: &str = "local";

/// Who is calling.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) actor: Arc<str>,
    pub(super) metadata: Metadata,
    pub(super) credential: Credential,
}

/// Whose key is used.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    /// The client's own, in the field it came in.
    Byok {
        field: HeaderName,
        value: HeaderValue,
        secret: Secret,
    },
    /// The provider's pool.
    Pool,
}

impl Credential {
    pub(super) fn kind(&self) -> CredentialKind {
        match self {
            Self::Byok { .. } => CredentialKind::Byok,
            Self::Pool => CredentialKind::Centralized,
        }
    }
}

/// A credential as it came.
struct Shown<'a> {
    field: HeaderName,
    value: &'a HeaderValue,
    form: Form<'a>,
}

/// What a credential consists of.
enum Form<'a> {
    /// A key, or a client's token.
    Key(&'a str),
    /// Something else, such as `Basic …`, that only a provider could make sense of. It names no
    /// client of ours.
    Other(&'a str),
}

impl Shown<'_> {
    /// Whose token it is.
    fn client<'c>(&self, config: &'c Config) -> Option<&'c Client> {
        match self.form {
            Form::Key(key) => client_of(config, key.as_bytes()),
            Form::Other(_) => None,
        }
    }

    /// A token of ours is never sent to a provider as if it were a key of the client's, in whatever
    /// form.
    fn is_bridges_own(&self, config: &Config) -> bool {
        let is_ours =
            |word: &str| word == PLACEHOLDER || client_of(config, word.as_bytes()).is_some();
        match self.form {
            Form::Key(key) => is_ours(key),
            Form::Other(text) => text.split_whitespace().any(is_ours),
        }
    }

    /// The secret within it.
    fn secret(&self) -> Secret {
        Secret::new(match self.form {
            Form::Key(key) => key,
            Form::Other(text) => text.split_whitespace().last().unwrap_or_default(),
        })
    }
}

/// Finds out who is calling.
pub(super) fn identify(
    config: &Config,
    provider: &Provider,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    let shown = credentials(provider.vendor, headers);
    let client = client_calling(config, headers, &shown)?;
    // Who shows a token in place of a key has none of its own.
    let may_bring_own = client.is_none() || headers.contains_key(TOKEN);
    let own = shown
        .iter()
        .find(|it| may_bring_own && !it.is_bridges_own(config));
    let credential = match own {
        Some(_) if !provider.byok => {
            let message = format!(
                "provider {} does not accept clients' own keys",
                provider.name
            );
            return Err(ApiError::forbidden(message));
        }
        Some(own) => {
            let mut value = own.value.clone();
            value.set_sensitive(true);
            Credential::Byok {
                field: own.field.clone(),
                value,
                secret: own.secret(),
            }
        }
        None if provider.keys.is_empty() => {
            let message = format!(
                "provider {} has no keys configured and the request brought none",
                provider.name
            );
            return Err(ApiError::unauthorized(message));
        }
        None => Credential::Pool,
    };
    Ok(Caller {
        actor: client.map_or_else(|| LOCAL.into(), |client| Arc::clone(&client.name)),
        metadata: client.map_or_else(Metadata::default, |client| client.metadata.clone()),
        credential,
    })
}

/// Whether the caller is one of the bridge's clients, where there are any.
pub(super) fn authenticate(
    config: &Config,
    vendor: Vendor,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    client_calling(config, headers, &credentials(vendor, headers)).map(drop)
}

/// The client that calls; `None` where none are configured.
fn client_calling<'a>(
    config: &'a Config,
    headers: &HeaderMap,
    shown: &[Shown<'_>],
) -> Result<Option<&'a Client>, ApiError> {
    if config.clients.is_empty() {
        return Ok(None);
    }
    let client = if let Some(token) = headers.get(TOKEN) {
        client_of(config, token.as_bytes()).ok_or_else(unknown_token)?
    } else {
        let client = shown.iter().find_map(|it| it.client(config));
        client.ok_or_else(|| unauthenticated(shown))?
    };
    Ok(Some(client))
}

/// The credential field for a key of the pool.
pub(super) fn pool_credential(
    vendor: Vendor,
    secret: &Secret,
) -> Option<(HeaderName, HeaderValue)> {
    let (field, text) = match vendor {
        Vendor::Anthropic => (API_KEY, secret.expose().to_owned()),
        Vendor::OpenAi => (AUTHORIZATION, format!("Bearer {}", secret.expose())),
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some((field, value))
}

/// The credentials in a request's headers, the vendor's usual field first.
fn credentials(vendor: Vendor, headers: &HeaderMap) -> Vec<Shown<'_>> {
    let mut shown = Vec::with_capacity(2);
    let mut add = |field: HeaderName, form_of: fn(&str) -> Option<Form<'_>>| {
        let Some(value) = headers.get(&field) else {
            return;
        };
        let form = match str::from_utf8(value.as_bytes()) {
            Ok(text) => form_of(text.trim()),
            Err(_) => Some(Form::Other("")),
        };
        shown.extend(form.map(|form| Shown { field, value, form }));
    };
    add(API_KEY, |key| (!key.is_empty()).then_some(Form::Key(key)));
    add(AUTHORIZATION, |text| match bearer(text) {
        Some(key) => Some(Form::Key(key)),
        None if text.is_empty() || text.eq_ignore_ascii_case("bearer") => None,
        None => Some(Form::Other(text)),
    });
    if vendor == Vendor::OpenAi {
        shown.reverse();
    }
    shown
}

/// The key in `Bearer KEY`: exactly two fields, the scheme in any case.
fn bearer(text: &str) -> Option<&str> {
    let mut fields = text.split_whitespace();
    let (scheme, key) = (fields.next()?, fields.next()?);
    (fields.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(key)
}

/// The client that has this token. All are compared: how long it takes tells nothing of which it
/// is.
fn client_of<'a>(config: &'a Config, token: &[u8]) -> Option<&'a Client> {
    let mut clients = config.clients.iter().peekable();
    clients.peek()?;
    let shown = Digest::of(token);
    clients.fold(None, |found, client| {
        if client.token.matches(shown) {
            Some(client)
        } else {
            found
        }
    })
}

fn unknown_token() -> ApiError {
    ApiError::unauthorized("no client of this bridge has this token")
}

/// None of these names a client.
fn unauthenticated(shown: &[Shown<'_>]) -> ApiError {
    match shown {
        [
            Shown {
                form: Form::Other(_),
                ..
            },
        ] => ApiError::unauthorized("authorization must be `Bearer` and one key"),
        _ => unknown_token(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn provider(keys: &[&str], byok: bool) -> Provider {
        let target = Target {
            host: "api.example".into(),
            port: 443,
            tls: true,
        };
        Provider {
            byok,
            ..Provider::new("p", Vendor::Anthropic, target, "").with_keys(keys)
        }
    }

    fn config(clients: &[(&str, &str)]) -> Config {
        let client = |(name, token): &(&str, &str)| Client::new(name, Secret::new(*token).digest());
        Config {
            clients: clients.iter().map(client).collect(),
            ..Config::default()
        }
    }

    /// `actor pool`, `actor FIELD hint`, or the status.
    fn says(config: &Config, provider: &Provider, fields: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        match identify(config, provider, &headers) {
            Ok(Caller {
                actor,
                credential: Credential::Pool,
                ..
            }) => format!("{actor} pool"),
            Ok(Caller {
                actor,
                credential: Credential::Byok { field, secret, .. },
                ..
            }) => {
                format!("{actor} {field} {}", secret.hint())
            }
            Err(error) => error.status.as_u16().to_string(),
        }
    }

    #[test]
    fn with_clients_a_token_is_required_and_names_the_actor() {
        let config = config(&[("alice", "alice-token"), ("bob", "bob-token")]);
        let provider = provider(&["k0-pool-key"], true);
        let own = "sk-ant-api03-abcdefgh";
        for (fields, expected) in [
            (&[][..], "401"),
            (&[("x-api-key", "wrong")], "401"),
            (&[("authorization", "Bearer sk-own")], "401"),
            (&[("authorization", "Basic abc")], "401"),
            (&[("x-api-key", "bob-token")], "bob pool"),
            (&[("authorization", "bearer   alice-token ")], "alice pool"),
            (&[("authorization", "Bearer alice-token extra")], "401"),
            (&[("x-aibridge-token", "alice-token")], "alice pool"),
            (&[("x-aibridge-token", "nobody")], "401"),
            (
                &[
                    ("x-aibridge-token", "alice-token"),
                    ("x-api-key", "aibridge"),
                ],
                "alice pool",
            ),
            (
                &[("x-aibridge-token", "alice-token"), ("x-api-key", own)],
                "alice x-api-key sk-a...efgh",
            ),
            (
                &[
                    ("x-aibridge-token", "alice-token"),
                    ("authorization", "Bearer sk-ant-api03-abcdefgh"),
                ],
                "alice authorization sk-a...efgh",
            ),
            (
                &[
                    ("x-aibridge-token", "alice-token"),
                    ("x-api-key", "bob-token"),
                ],
                "alice pool",
            ),
        ] {
            assert_eq!(says(&config, &provider, fields), expected, "{fields:?}");
        }
    }

    /// With clients: what settles who is calling, beside an `Authorization` that cannot.
    #[test]
    fn an_authorization_that_is_no_bearer_is_in_nobodys_way() {
        let config = config(&[("alice", "alice-token"), ("bob", "bob-token")]);
        let provider = provider(&["k0-pool-key"], true);
        let (basic, token, key) = ("Basic dXNlcjpzZWNyZXQ=", "x-aibridge-token", "x-api-key");
        for (beside, expected) in [
            // Rule 1: whatever else is there is the client's own, the vendor's usual field first.
            (&[(token, "alice-token")][..], "alice authorization dX...Q="),
            (
                &[(token, "alice-token"), (key, "aibridge")],
                "alice authorization dX...Q=",
            ),
            (
                &[(token, "alice-token"), (key, "bob-token")],
                "alice authorization dX...Q=",
            ),
            (
                &[(token, "alice-token"), (key, "my-own-key")],
                "alice x-api-key my...ey",
            ),
            (&[(token, "nobody")], "401"),
            (&[(token, "nobody"), (key, "bob-token")], "401"),
            // Rule 2: a match names the client, and the pool's keys are used.
            (&[(key, "bob-token")], "bob pool"),
            (&[(key, "my-own-key")], "401"),
            (&[(key, "aibridge")], "401"),
            (&[(key, " ")], "401"),
            (&[], "401"),
        ] {
            for odd in [
                basic,
                "basic   dXNlcjpzZWNyZXQ=",
                "Digest a=b, dXNlcjpzZWNyZXQ=",
            ] {
                let fields = [beside, &[("authorization", odd)]].concat();
                assert_eq!(says(&config, &provider, &fields), expected, "{fields:?}");
            }
        }
    }

    #[test]
    fn what_is_no_bearer_goes_to_the_provider_as_it_came_unless_it_is_the_bridges() {
        let (named, open) = (config(&[("alice", "alice-token")]), config(&[]));
        let provider = provider(&["k0-pool-key"], true);
        let value = |config: &Config, text: &'static [u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(TOKEN, HeaderValue::from_static("alice-token"));
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(text).unwrap());
            match identify(config, &provider, &headers).unwrap().credential {
                Credential::Byok { value, .. } => value.as_bytes().to_vec(),
                Credential::Pool => b"pool".to_vec(),
            }
        };
        for text in [
            &b"Basic dXNlcjpzZWNyZXQ="[..],
            b"Bearer two keys",
            b"sk-bare",
            b"Bearer \xc3\xa9",
            b"\xff\xfe",
        ] {
            assert_eq!(value(&named, text), text);
            assert_eq!(value(&open, text), text);
        }
        for text in [
            &b"alice-token"[..],
            b"Bearer alice-token twice",
            b"Token alice-token",
        ] {
            assert_eq!(value(&named, text), b"pool");
        }
        assert_eq!(value(&open, b"aibridge"), b"pool");
    }

    #[test]
    fn without_clients_everybody_is_local() {
        let (config, provider) = (config(&[]), provider(&["k0-pool-key"], true));
        for (fields, expected) in [
            (&[][..], "local pool"),
            (&[("x-api-key", "aibridge")], "local pool"),
            (&[("authorization", "Bearer aibridge")], "local pool"),
            (&[("x-api-key", " ")], "local pool"),
            (&[("authorization", "Bearer")], "local pool"),
            (&[("x-api-key", "my-own-key")], "local x-api-key my...ey"),
            (&[("x-aibridge-token", "whatever")], "local pool"),
            (
                &[("authorization", "Basic dXNlcjpzZWNyZXQ=")],
                "local authorization dX...Q=",
            ),
        ] {
            assert_eq!(says(&config, &provider, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn byok_may_be_forbidden_and_the_pool_may_be_empty() {
        let config = config(&[]);
        assert_eq!(
            says(&config, &provider(&["k0"], false), &[("x-api-key", "own")]),
            "403"
        );
        assert_eq!(says(&config, &provider(&[], true), &[]), "401");
    }
}
