//! The checks that look at more than one value, for settings from a file and from the environment
//! alike.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use aibridge_core::{Target, api::Vendor};

use super::{Provider, Settings, error::Problems, secret::SHORT};

/// Checks the settings as a whole. `None` only if there is a complaint.
pub(super) fn check(
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
    let doubts = settings.providers.iter().filter_map(doubtful_path);
    let doubts: Vec<_> = doubts.chain(short_tokens(&settings)).collect();
    settings.warnings.extend(doubts);
    fine.then_some(settings)
}

/// Whether a connection to `target` ends up at our own listener.
fn points_at(target: &Target, listen: SocketAddr) -> bool {
    let local = match target.host.parse::<IpAddr>() {
        Ok(ip) => ip == listen.ip() || ip.is_loopback() && listen.ip().is_unspecified(),
        Err(_) => {
            &*target.host == "localhost"
                && (listen.ip().is_loopback() || listen.ip().is_unspecified())
        }
    };
    local && target.port == listen.port() && listen.port() != 0
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
