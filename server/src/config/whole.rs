//! The checks that look at more than one value, for settings from a file and from the environment
//! alike.

use std::{net::SocketAddr, ops::Range};

use aibridge_core::api::Vendor;

use super::{Provider, Settings, error::Problems, secret::SHORT};

/// An address to listen on, and what it takes to complain about it.
pub(super) struct Listener {
    /// `None` if what is written is no address.
    pub(super) address: Option<SocketAddr>,
    /// What it was given as.
    pub(super) key: &'static str,
    pub(super) span: Range<usize>,
    /// Whether callers must show a token, be it one that was complained about.
    pub(super) is_guarded: bool,
}

impl Listener {
    /// Given as this option.
    pub(super) const fn of_command_line(option: &'static str, address: SocketAddr) -> Self {
        Self {
            address: Some(address),
            key: option,
            span: 0..0,
            is_guarded: false,
        }
    }

    /// The address, if others can reach it and need no token.
    fn open(&self) -> Option<SocketAddr> {
        let address = self.address.filter(|it| !it.ip().is_loopback());
        address.filter(|_| !self.is_guarded)
    }
}

/// Checks the settings as a whole.
pub(super) fn check(
    settings: &mut Settings,
    listen: &Listener,
    admin: &Listener,
    problems: &mut Problems<'_>,
) {
    // A provider that was complained about is not among the settings, but it is not missing either.
    let no_provider = settings.providers.is_empty() && problems.is_empty();
    let (listen_key, admin_key) = (listen.key, admin.key);
    if let Some(address) = listen.open() {
        problems.add(
            listen.span.clone(),
            format_args!(
                "{listen_key}: {address} can be reached by others, who could use the keys; name who may in [[client]], or listen on 127.0.0.1"
            ),
        );
    }
    if let Some(address) = admin.open() {
        problems.add(
            admin.span.clone(),
            format_args!(
                "{admin_key}: {address} can be reached by others; set admin_token, or listen on 127.0.0.1"
            ),
        );
    }
    if let Some(address) = admin.address.filter(|it| it.port() != 0)
        && listen.address == Some(address)
    {
        let other = listen_key.trim_start_matches("server: ");
        problems.add(
            admin.span.clone(),
            format_args!("{admin_key}: {address} is also `{other}`; use another port"),
        );
    }
    if no_provider {
        problems.add(
            0..0,
            "no provider; add a [[provider]] with name, api and base_url",
        );
    }
    let doubts = settings.providers.iter().filter_map(doubtful_path);
    let doubts: Vec<_> = doubts.chain(short_tokens(settings)).collect();
    settings.warnings.extend(doubts);
}

/// Tokens that somebody may find by trying.
fn short_tokens(settings: &Settings) -> impl Iterator<Item = String> {
    let clients = settings.clients.iter();
    let clients =
        clients.map(|client| (format!("client \"{}\": token", client.name), &client.token));
    let admin = settings.admin_token.iter();
    let admin = admin.map(|token| ("server: admin_token".to_owned(), token));
    let short = clients.chain(admin).filter(|(_, token)| token.is_short);
    short.map(|(key, _)| {
        format!("{key} is shorter than {SHORT} characters, and may be guessed; choose a longer one")
    })
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
