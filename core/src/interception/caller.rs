//! Who is calling, and whose key is used: the four rules of CONTRACT.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{
    api::{ApiError, Vendor},
    config::{Client, Config, Provider},
    record::CredentialKind,
    secret::{Digest, Secret},
};

/// The field that names a client without standing in the way of its own key.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-aibridge-token");
/// Anthropic's field for an API key.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// What a client puts where its SDK insists on a key.
const PLACEHOLDER: &str = "aibridge";
/// The actor where no clients are configured.
const LOCAL: &str = "local";

/// Who is calling.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) actor: Arc<str>,
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

/// A credential as it came: its field, and the secret within the field's value.
struct Shown<'a> {
    field: HeaderName,
    value: &'a HeaderValue,
    secret: &'a str,
    /// Whose token it is.
    client: Option<&'a Client>,
}

impl Shown<'_> {
    /// A token of ours is never sent to a provider as if it were a key of the client's.
    fn is_bridges_own(&self) -> bool {
        self.secret == PLACEHOLDER || self.client.is_some()
    }
}

/// Finds out who is calling.
pub(super) fn identify(
    config: &Config,
    provider: &Provider,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    let shown = credentials(config, provider.vendor, headers)?;
    let token = headers.get(TOKEN).filter(|_| !config.clients.is_empty());
    let own = shown.iter().find(|c| !c.is_bridges_own());

    let (actor, own) = match token {
        Some(token) => {
            let client = client_of(config, token.as_bytes()).ok_or_else(unknown_token)?;
            (Arc::clone(&client.name), own)
        }
        None if config.clients.is_empty() => (Arc::from(LOCAL), own),
        None => {
            let client = shown.iter().find_map(|c| c.client);
            (Arc::clone(&client.ok_or_else(unknown_token)?.name), None)
        }
    };
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
                secret: Secret::new(own.secret),
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
    Ok(Caller { actor, credential })
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
fn credentials<'a>(
    config: &'a Config,
    vendor: Vendor,
    headers: &'a HeaderMap,
) -> Result<Vec<Shown<'a>>, ApiError> {
    let mut shown = Vec::with_capacity(2);
    if let Some(value) = headers.get(API_KEY) {
        let secret = visible(value)?.trim();
        if !secret.is_empty() {
            shown.push(Shown {
                field: API_KEY,
                value,
                secret,
                client: client_of(config, secret.as_bytes()),
            });
        }
    }
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = visible(value)?;
        if let Some(secret) = bearer(text) {
            shown.push(Shown {
                field: AUTHORIZATION,
                value,
                secret,
                client: client_of(config, secret.as_bytes()),
            });
        } else if !text.trim().is_empty() && !text.trim().eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized(
                "authorization must be `Bearer` and one key",
            ));
        }
    }
    if vendor == Vendor::OpenAi {
        shown.reverse();
    }
    Ok(shown)
}

fn visible(value: &HeaderValue) -> Result<&str, ApiError> {
    value
        .to_str()
        .map_err(|_| ApiError::unauthorized("the credential is not plain ASCII"))
}

/// The key in `Bearer KEY`: exactly two fields, the scheme in any case.
fn bearer(text: &str) -> Option<&str> {
    let mut fields = text.split_whitespace();
    let (scheme, key) = (fields.next()?, fields.next()?);
    (fields.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(key)
}

/// The client that has this token. All are compared: how long it takes tells nothing of which it is.
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
            }) => format!("{actor} pool"),
            Ok(Caller {
                actor,
                credential: Credential::Byok { field, secret, .. },
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
