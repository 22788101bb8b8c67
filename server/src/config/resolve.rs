//! From what is written to what is meant: checks every value and follows the references to secrets.

use std::{collections::BTreeMap, fs, net::SocketAddr, ops::Range};

use aibridge_core::{
    Duration, Target,
    api::Vendor,
    config::Timeouts,
    http1::Limits,
    keypool::{Failover, Rejected},
};
use toml::Spanned;

use super::{
    Authority, Client, Credential, Overrides, Provider, Settings, Sources, address,
    error::Problems,
    raw::{self, Quantity},
    units,
};

/// Where the bridge listens by default.
pub(super) const LISTEN: SocketAddr = local(8787);
/// Where the admin endpoints listen by default.
pub(super) const ADMIN: SocketAddr = local(8788);

/// Checks and resolves a whole file. `None` only if there is a complaint.
pub(super) fn file(
    origin: &str,
    file: raw::File,
    sources: &Sources,
    overrides: Overrides,
    problems: &mut Problems<'_>,
) -> Option<Settings> {
    unsupported(&file, problems);
    let mut check = Check { sources, problems };
    let raw = file.server;
    let timeouts = Timeouts::default();
    let listen_span = raw.listen.as_ref().map_or(0..0, Spanned::span);
    let admin_span = raw.admin.as_ref().map_or(0..0, Spanned::span);

    let listen = check.address("server: listen", raw.listen, overrides.listen, LISTEN);
    let admin = check.address("server: admin", raw.admin, overrides.admin, ADMIN);
    let admin_token = raw
        .admin_token
        .and_then(|token| check.secret(&token, "server: admin_token", "the entry"));
    let max_body = check
        .quantity("server: max_body", raw.max_body, units::size)
        .unwrap_or(Limits::default().body);
    let header_timeout = check
        .quantity(
            "server: header_timeout",
            raw.header_timeout,
            units::duration,
        )
        .unwrap_or(timeouts.header);
    let idle_timeout = check
        .quantity("server: idle_timeout", raw.idle_timeout, units::duration)
        .unwrap_or(timeouts.idle);
    let drain_timeout = check
        .quantity("server: drain_timeout", raw.drain_timeout, units::duration)
        .unwrap_or(timeouts.drain);
    let upstream_ca = raw.upstream_ca.and_then(|path| check.authority(&path));
    let clients = check.clients(file.client);
    let providers = check.providers(file.provider);

    let settings = Settings {
        origin: origin.to_owned(),
        listen,
        admin,
        admin_token,
        max_body,
        header_timeout,
        idle_timeout,
        drain_timeout,
        upstream_ca,
        clients,
        providers,
        warnings: Vec::new(),
    };
    check_whole(settings, listen_span, admin_span, problems)
}

/// The checks that look at more than one value. Also for settings from the environment.
pub(super) fn check_whole(
    mut settings: Settings,
    listen_span: Range<usize>,
    admin_span: Range<usize>,
    problems: &mut Problems<'_>,
) -> Option<Settings> {
    let Settings { listen, admin, .. } = settings;
    // A provider that was complained about is not among the settings, but it is not missing either.
    let no_provider = settings.providers.is_empty() && problems.is_empty();
    let mut fine = true;
    let mut complain = |span: Range<usize>, what: String| {
        problems.add(span, what);
        fine = false;
    };
    if !listen.ip().is_loopback() && settings.clients.is_empty() {
        complain(
            listen_span,
            format!(
                "server: listen: {listen} can be reached by others, who could use the keys; name who may in [[client]], or listen on 127.0.0.1"
            ),
        );
    }
    if !admin.ip().is_loopback() && settings.admin_token.is_none() {
        complain(
            admin_span.clone(),
            format!(
                "server: admin: {admin} can be reached by others; set admin_token, or listen on 127.0.0.1"
            ),
        );
    }
    if listen == admin && listen.port() != 0 {
        complain(
            admin_span,
            format!("server: admin: {admin} is also `listen`; use another port"),
        );
    }
    if no_provider {
        complain(
            0..0,
            "no provider; add a [[provider]] with name, api and base_url".to_owned(),
        );
    }
    for provider in &settings.providers {
        if points_at(&provider.target, listen) {
            complain(
                0..0,
                format!(
                    "provider \"{}\": base_url: {} is the bridge itself; name the provider's own URL",
                    provider.name, provider.target
                ),
            );
        }
    }
    settings
        .warnings
        .extend(settings.providers.iter().filter_map(doubtful_path));
    fine.then_some(settings)
}

/// Whether a connection to `target` ends up at our own listener.
fn points_at(target: &Target, listen: SocketAddr) -> bool {
    let local = match target.host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip == listen.ip() || ip.is_loopback() && listen.ip().is_unspecified(),
        Err(_) => {
            &*target.host == "localhost"
                && (listen.ip().is_loopback() || listen.ip().is_unspecified())
        }
    };
    local && target.port == listen.port() && listen.port() != 0
}

/// The two vendors disagree on whether a base URL has the version in it; mixing them up gives 404s.
fn doubtful_path(provider: &Provider) -> Option<String> {
    let name = &provider.name;
    match provider.vendor {
        Vendor::Anthropic if provider.base_path.ends_with("/v1") => Some(format!(
            "provider \"{name}\": base_url ends in /v1, and clients' paths begin with it; without it, it is \"{}\"",
            provider.target
        )),
        Vendor::OpenAi
            if provider.base_path.is_empty() && &*provider.target.host == "api.openai.com" =>
        {
            Some(format!(
                "provider \"{name}\": base_url lacks the version; with it, it is \"{}/v1\"",
                provider.target
            ))
        }
        _ => None,
    }
}

/// Refuses what this version cannot honour: to ignore it would be to lie.
fn unsupported(file: &raw::File, problems: &mut Problems<'_>) {
    let mut refuse = |span: Range<usize>, what: &str, fix: &str| {
        problems.add(
            span,
            format_args!("{what}: not supported by this version; {fix}"),
        );
    };
    if let Some(tls) = &file.server.tls {
        refuse(
            tls.span(),
            "server: tls",
            "remove it, and put a TLS proxy in front",
        );
    }
    for mcp in &file.mcp {
        let what = format!("mcp \"{}\"", mcp.get_ref().name);
        refuse(mcp.span(), &what, "remove the [[mcp]] entry");
    }
    let records = &file.records;
    for (key, value) in [
        ("sqlite", &records.sqlite),
        ("postgres", &records.postgres),
        ("jsonl", &records.jsonl),
    ] {
        if let Some(value) = value {
            let what = format!("records: {key}");
            refuse(value.span(), &what, "remove it: records are kept in memory");
        }
    }
    if let Some(dir) = &file.trace.dir {
        refuse(dir.span(), "trace: dir", "remove it");
    }
}

/// The checks of single values.
struct Check<'a, 'p> {
    sources: &'a Sources,
    problems: &'a mut Problems<'p>,
}

impl Check<'_, '_> {
    fn address(
        &mut self,
        key: &str,
        written: Option<Spanned<String>>,
        command_line: Option<SocketAddr>,
        default: SocketAddr,
    ) -> SocketAddr {
        if let Some(address) = command_line {
            return address;
        }
        let Some(written) = written else {
            return default;
        };
        address::socket_addr(written.get_ref()).unwrap_or_else(|what| {
            self.problems
                .add(written.span(), format_args!("{key}: {what}"));
            default
        })
    }

    fn secret(
        &mut self,
        written: &Spanned<String>,
        key: &str,
        removable: &str,
    ) -> Option<Credential> {
        self.sources
            .secret(written.get_ref(), removable)
            .map_err(|what| {
                self.problems
                    .add(written.span(), format_args!("{key}: {what}"))
            })
            .ok()
    }

    /// A quantity more than zero, but for the two timeouts where zero means none.
    fn quantity<T: Default + PartialEq>(
        &mut self,
        key: &str,
        written: Option<Spanned<Quantity>>,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let written = written?;
        let zero_is_none = ["header_timeout", "idle_timeout"]
            .iter()
            .any(|name| key.ends_with(name));
        read(&written.get_ref().0)
            .and_then(|value| {
                if value == T::default() && !zero_is_none {
                    return Err("must be more than 0; remove it for the default".to_owned());
                }
                Ok(value)
            })
            .map_err(|what| {
                self.problems
                    .add(written.span(), format_args!("{key}: {what}"))
            })
            .ok()
    }

    fn authority(&mut self, written: &Spanned<String>) -> Option<Authority> {
        let path = self.sources.folder.join(written.get_ref());
        let shown = path.display();
        let fault = match fs::read(&path) {
            Ok(pem) if find(&pem, b"-----BEGIN CERTIFICATE-----") => {
                return Some(Authority { path, pem });
            }
            Ok(_) => format!("{shown} has no certificate in it; give a PEM file"),
            Err(error) => format!("{shown} cannot be read ({error}); check the path"),
        };
        self.problems
            .add(written.span(), format_args!("server: upstream_ca: {fault}"));
        None
    }

    fn clients(&mut self, written: Vec<Spanned<raw::Client>>) -> Vec<Client> {
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
            if let Some(other) = clients
                .iter()
                .find(|other| other.token.secret == token.secret)
            {
                let what = format!(
                    "{key}: is also that of \"{}\"; give each its own",
                    other.name
                );
                self.problems.add(client.token.span(), what);
            }
            clients.push(Client { name, token });
        }
        clients
    }

    fn providers(&mut self, written: Vec<Spanned<raw::Provider>>) -> Vec<Provider> {
        let mut names = BTreeMap::new();
        let mut providers = Vec::with_capacity(written.len());
        for provider in written {
            let provider = provider.into_inner();
            let name = provider.name.get_ref().clone();
            let span = provider.name.span();
            if names.insert(name.clone(), ()).is_some() {
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
            providers.extend(self.provider(provider));
        }
        providers
    }

    fn provider(&mut self, written: raw::Provider) -> Option<Provider> {
        let name = written.name.get_ref().clone();
        let of = |key: &str| format!("provider \"{}\": {key}", name.escape_debug());
        let vendor = match written.api.get_ref().as_str() {
            "anthropic" => Some(Vendor::Anthropic),
            "openai" => Some(Vendor::OpenAi),
            other => {
                let what = format!(
                    "{}: \"{}\" is not known; use \"anthropic\" or \"openai\"",
                    of("api"),
                    other.escape_debug()
                );
                self.problems.add(written.api.span(), what);
                None
            }
        };
        let base = address::base_url(written.base_url.get_ref())
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
        let (target, base_path) = base?;
        Some(Provider {
            vendor: vendor?,
            target,
            base_path,
            keys,
            byok,
            send_actor: written.send_actor.unwrap_or(false),
            failover,
            name,
        })
    }

    fn keys(&mut self, written: &[Spanned<String>], what: &str) -> Vec<Credential> {
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
        let max_span = written.max_cooldown.as_ref().map(Spanned::span);
        let default_span = written.default_cooldown.as_ref().map(Spanned::span);
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
        if failover.default_cooldown > failover.max_cooldown {
            self.problems.add(
                max_span.or(default_span).unwrap_or(0..0),
                format_args!(
                    "{what}: default_cooldown {} is longer than max_cooldown {}; change one",
                    units::show_duration(failover.default_cooldown),
                    units::show_duration(failover.max_cooldown),
                ),
            );
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
            text => match units::duration(text) {
                Ok(Duration::ZERO) => {}
                Ok(duration) => return Some(Rejected::Cool(duration)),
                Err(_) => {}
            },
        }
        self.problems.add(
            written.span(),
            format_args!(
                "{key}: \"{}\" is not known; use {choices} or a duration, such as \"10m\"",
                written.get_ref().escape_debug()
            ),
        );
        None
    }
}

/// Whether it can be the first segment of a route.
fn is_prefix(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}
