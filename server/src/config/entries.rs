//! The checks of the repeated tables: clients, providers, and what providers consist of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use aibridge_core::{
    Duration,
    api::Vendor,
    config::{Metadata, PLACEHOLDER},
    keypool::{Failover, Rejected},
    secret::Digest,
};
use toml::Spanned;

use super::{
    Client, Credential, Provider, Token, address,
    error::{shown, span_of},
    raw,
    resolve::Check,
    units,
};

impl Check<'_, '_> {
    pub(super) fn clients(
        &mut self,
        written: Vec<Spanned<raw::Client>>,
        admin: Option<&Token>,
    ) -> Vec<Client> {
        let mut clients: Vec<Client> = Vec::with_capacity(written.len());
        for client in written {
            let client = client.into_inner();
            let name = client.name.get_ref().trim().to_owned();
            let mut wrong = |span, what: &str| {
                self.problems.add(
                    span,
                    format_args!("client \"{}\": {what}", name.escape_debug()),
                );
            };
            if name.is_empty() || name.chars().count() > 128 || name.contains(char::is_control) {
                wrong(
                    client.name.span(),
                    "name: must be 1 to 128 printable characters; choose another",
                );
            }
            if clients.iter().any(|other| other.name == name) {
                wrong(client.name.span(), "name: is used twice; choose another");
            }
            let key = format!("client \"{}\": token", name.escape_debug());
            let Some(token) = self.secret(&client.token, &key, "the client") else {
                continue;
            };
            let token = Token::from(token);
            if let Some(what) = unfit(&token, &clients, admin) {
                let what = format_args!("{key}: {what}");
                self.problems.add(client.token.span(), what);
            }
            let of = |limit: &str| format!("client \"{}\": {limit}", name.escape_debug());
            let max_in_flight = self.count(&of("max_in_flight"), client.max_in_flight);
            let per_minute = self.count(&of("requests_per_minute"), client.requests_per_minute);
            let metadata = self.metadata(client.metadata, &of("metadata"));
            clients.push(Client {
                name,
                token,
                max_in_flight,
                requests_per_minute: per_minute,
                metadata,
            });
        }
        clients
    }

    /// Names and values that each make a header field, and all of them together.
    fn metadata(
        &mut self,
        written: BTreeMap<Spanned<String>, Spanned<String>>,
        what: &str,
    ) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::new();
        for (name, value) in written {
            let key = format!("{what}: {}", name.get_ref().escape_debug());
            let fits = |name: &str, value: &str| Metadata::new([(name, value)]).is_some();
            let lower_case = name.get_ref().to_ascii_lowercase();
            if !fits(name.get_ref(), "") {
                let wrong =
                    format!("{key}: ends a header field's name; use letters, digits and hyphens");
                self.problems.add(name.span(), wrong);
            } else if !fits("name", value.get_ref()) {
                let wrong =
                    format!("{key}: is a header field's value; use printable ASCII characters");
                self.problems.add(value.span(), wrong);
            } else if metadata.insert(lower_case, value.into_inner()).is_some() {
                let wrong = format!("{key}: is there in another case as well; remove one");
                self.problems.add(name.span(), wrong);
            }
        }
        metadata
    }

    /// `listen` is where the bridge itself is, if that is known.
    pub(super) fn providers(
        &mut self,
        written: Vec<Spanned<raw::Provider>>,
        listen: Option<SocketAddr>,
    ) -> Vec<Provider> {
        let mut names = BTreeSet::new();
        let mut providers = Vec::with_capacity(written.len());
        for provider in written {
            let provider = provider.into_inner();
            let name = provider.name.get_ref().clone();
            let span = provider.name.span();
            if !names.insert(name.clone()) {
                self.problems.add(
                    span,
                    format_args!(
                        "provider \"{}\": name: is used twice; choose another",
                        name.escape_debug()
                    ),
                );
            } else if !is_prefix(&name) {
                self.problems.add(
                    span,
                    format_args!(
                        "provider \"{}\": name: is the route's prefix; use 1 to 64 lower-case letters, digits and hyphens",
                        name.escape_debug()
                    ),
                );
            }
            providers.extend(self.provider(provider, listen));
        }
        providers
    }

    fn provider(&mut self, written: raw::Provider, listen: Option<SocketAddr>) -> Option<Provider> {
        let name = written.name.get_ref().clone();
        let of = |key: &str| format!("provider \"{}\": {key}", name.escape_debug());
        let vendor = match written.api.get_ref().as_str() {
            "anthropic" => Some(Vendor::Anthropic),
            "openai" => Some(Vendor::OpenAi),
            other => {
                let what = format!(
                    "{}: \"{}\" is not known; use \"anthropic\" or \"openai\"",
                    of("api"),
                    shown(other)
                );
                self.problems.add(written.api.span(), what);
                None
            }
        };
        let base = address::base_url(written.base_url.get_ref(), listen)
            .map_err(|what| {
                self.problems.add(
                    written.base_url.span(),
                    format_args!("{}: {what}", of("base_url")),
                );
            })
            .ok();
        let byok = written.byok.unwrap_or(true);
        if written.keys.is_empty() && !byok {
            let what = format!(
                "{}: none, and byok = false, so nobody could use it; add a key",
                of("keys")
            );
            self.problems.add(written.name.span(), what);
        }
        let keys = self.keys(&written.keys, &of("keys"));
        let failover = self.failover(written.failover, &of("failover"));
        let breaker = written
            .circuit
            .map(|circuit| self.breaker(circuit, &of("circuit")));
        let (target, base_path) = base?;
        Some(Provider {
            vendor: vendor?,
            target,
            base_path,
            keys,
            byok,
            send_actor: written.send_actor.unwrap_or(false),
            failover,
            breaker,
            name,
        })
    }

    fn keys(&mut self, written: &[Spanned<raw::Secret>], what: &str) -> Vec<Credential> {
        let mut keys: Vec<(usize, Credential)> = Vec::with_capacity(written.len());
        for (index, reference) in written.iter().enumerate() {
            let Some(key) = self.secret(reference, &format!("{what}[{index}]"), "the entry") else {
                continue;
            };
            if let Some((first, _)) = keys.iter().find(|(_, other)| other.secret == key.secret) {
                self.problems.add(
                    reference.span(),
                    format_args!(
                        "{what}[{index}]: duplicate key, the same as keys[{first}]; remove one"
                    ),
                );
            }
            keys.push((index, key));
        }
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn failover(&mut self, written: raw::Failover, what: &str) -> Failover {
        let default = Failover::default();
        let max_span = span_of(written.max_cooldown.as_ref());
        let spans = [
            span_of(written.unauthorized.as_ref()),
            span_of(written.forbidden.as_ref()),
            span_of(written.default_cooldown.as_ref()),
        ];
        let failover = Failover {
            unauthorized: self
                .rejected(
                    &format!("{what}: unauthorized"),
                    written.unauthorized,
                    false,
                )
                .unwrap_or(default.unauthorized),
            forbidden: self
                .rejected(&format!("{what}: forbidden"), written.forbidden, true)
                .unwrap_or(default.forbidden),
            default_cooldown: self
                .quantity(
                    &format!("{what}: default_cooldown"),
                    written.default_cooldown,
                    units::duration,
                )
                .unwrap_or(default.default_cooldown),
            max_cooldown: self
                .quantity(
                    &format!("{what}: max_cooldown"),
                    written.max_cooldown,
                    units::duration,
                )
                .unwrap_or(default.max_cooldown),
        };
        let cooldowns = [
            ("unauthorized", cooldown(failover.unauthorized)),
            ("forbidden", cooldown(failover.forbidden)),
            ("default_cooldown", failover.default_cooldown),
        ];
        for ((key, cooldown), span) in cooldowns.into_iter().zip(spans) {
            if cooldown > failover.max_cooldown {
                let [cooldown, max] = [cooldown, failover.max_cooldown].map(units::show_duration);
                let what = format_args!(
                    "{what}: {key} {cooldown} is longer than max_cooldown {max}; change one"
                );
                self.problems.add_together(&[span, max_span.clone()], what);
            }
        }
        failover
    }

    fn rejected(
        &mut self,
        key: &str,
        written: Option<Spanned<String>>,
        relay: bool,
    ) -> Option<Rejected> {
        let written = written?;
        let choices = if relay {
            "\"permanent\", \"relay\""
        } else {
            "\"permanent\""
        };
        match written.get_ref().as_str() {
            "permanent" => return Some(Rejected::Retire),
            "relay" if relay => return Some(Rejected::Relay),
            text => {
                let cool = units::duration(text)
                    .ok()
                    .filter(|duration| !duration.is_zero());
                if cool.is_some() {
                    return cool.map(Rejected::Cool);
                }
            }
        }
        self.problems.add(
            written.span(),
            format_args!(
                "{key}: \"{}\" is not known; use {choices} or a duration, such as \"10m\"",
                shown(written.get_ref())
            ),
        );
        None
    }
}

/// How long a rejected key cools down; zero if it does not.
fn cooldown(rejected: Rejected) -> Duration {
    match rejected {
        Rejected::Cool(wait) => wait,
        Rejected::Relay | Rejected::Retire => Duration::ZERO,
    }
}

/// What keeps a client's token from being one, if anything does.
fn unfit(token: &Token, clients: &[Client], admin: Option<&Token>) -> Option<String> {
    if token.digest == Digest::of(PLACEHOLDER.as_bytes()) {
        let what = "is what clients show that have no token, and known to all; choose another";
        return Some(what.to_owned());
    }
    if admin.is_some_and(|admin| admin.digest == token.digest) {
        return Some("is also admin_token; give the client another".to_owned());
    }
    let mut others = clients.iter();
    let other = others.find(|other| other.token.digest == token.digest)?;
    Some(format!(
        "is also that of \"{}\"; give each its own",
        other.name
    ))
}

/// Whether it can be the first segment of a route.
fn is_prefix(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}
