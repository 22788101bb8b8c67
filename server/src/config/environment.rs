//! Configuration without a file: the variables that the providers' own SDKs read.

use std::env::VarError;

use aibridge_core::{
    api::Vendor,
    config::{Capacity, Timeouts, ToolLimits},
    http1::Limits,
    keypool::Failover,
    proxy::Proxies,
};

use zeroize::Zeroizing;

use super::{
    DRAIN_TIMEOUT, Error, Overrides, Provider, Settings, Sources, address,
    error::Problems,
    records::Records,
    resolve::{ADMIN, LISTEN},
    secret::{self, Credential},
    whole::{self, Listener},
};

/// What stands where a file's name would.
const ORIGIN: &str = "environment";

/// Both providers, with the keys that are set. Without any key they serve clients that bring their
/// own.
pub(super) fn read(sources: &Sources, overrides: Overrides) -> Result<Settings, Error> {
    let mut problems = Problems::new(ORIGIN, "");
    // Where there is no file, the command line is the place to change them.
    let (listen, admin) = (
        overrides.listen.unwrap_or(LISTEN),
        overrides.admin.unwrap_or(ADMIN),
    );
    let vendors = [
        (
            "anthropic",
            Vendor::Anthropic,
            "ANTHROPIC",
            "https://api.anthropic.com",
        ),
        (
            "openai",
            Vendor::OpenAi,
            "OPENAI",
            "https://api.openai.com/v1",
        ),
    ];
    let providers = vendors
        .into_iter()
        .filter_map(|(name, vendor, prefix, default_url)| {
            let keys = keys(sources, &format!("{prefix}_API_KEY"), &mut problems);
            let variable = format!("{prefix}_BASE_URL");
            let url = value(sources, &variable, &mut problems);
            let url = url.as_ref().map_or(default_url, |url| url.as_str());
            let (target, base_path) = address::base_url(url, Some(listen))
                .map_err(|what| problems.add(0..0, format_args!("{variable}: {what}")))
                .ok()?;
            Some(Provider {
                name: name.to_owned(),
                vendor,
                target,
                base_path,
                keys,
                byok: true,
                send_actor: false,
                failover: Failover::default(),
                breaker: None,
            })
        })
        .collect::<Vec<_>>();

    let mut warnings = Vec::new();
    if providers.iter().all(|provider| provider.keys.is_empty()) {
        warnings.push(
            "neither ANTHROPIC_API_KEY nor OPENAI_API_KEY is set: only clients with keys of their own are served"
                .to_owned(),
        );
    }
    let mut settings = Settings {
        origin: ORIGIN.to_owned(),
        listen,
        admin,
        admin_token: None,
        tls: None,
        admin_tls: None,
        admin_hosts: Vec::new(),
        max_body: Limits::default().body,
        capacity: Capacity::default(),
        timeouts: Timeouts::default(),
        drain_timeout: DRAIN_TIMEOUT,
        upstream_ca: None,
        proxies: Proxies::default(),
        clients: Vec::new(),
        providers,
        tool_servers: Vec::new(),
        tools: ToolLimits::default(),
        records: Records::by_default(),
        trace: None,
        warnings,
    };
    let listen = Listener::of_command_line("--listen", listen);
    let admin = Listener::of_command_line("--admin", admin);
    whole::check(&mut settings, &listen, &admin, &mut problems);
    problems.into_result()?;
    Ok(settings)
}

/// The keys of a comma-separated list; a comma too many does no harm.
fn keys(sources: &Sources, variable: &str, problems: &mut Problems<'_>) -> Vec<Credential> {
    let Some(list) = value(sources, variable, problems) else {
        return Vec::new();
    };
    let mut keys: Vec<Credential> = Vec::new();
    let entries = list
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    for (index, entry) in entries.enumerate() {
        let key = match secret::credential(entry, &format!("env:{variable}, entry {}", index + 1)) {
            Ok(key) => key,
            Err(what) => {
                problems.add(
                    0..0,
                    format_args!("{variable}: entry {}: {what}", index + 1),
                );
                continue;
            }
        };
        if let Some(first) = keys.iter().position(|other| other.secret == key.secret) {
            problems.add(
                0..0,
                format_args!(
                    "{variable}: entry {}: duplicate key, the same as entry {}; remove one",
                    index + 1,
                    first + 1
                ),
            );
        }
        keys.push(key);
    }
    keys
}

/// A variable's value; blank counts as not set.
fn value(
    sources: &Sources,
    variable: &str,
    problems: &mut Problems<'_>,
) -> Option<Zeroizing<String>> {
    match (sources.env)(variable).map(Zeroizing::new) {
        Ok(value) => Some(Zeroizing::new(value.trim().to_owned())).filter(|it| !it.is_empty()),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => {
            problems.add(
                0..0,
                format_args!("{variable}: is not UTF-8 text; set it again"),
            );
            None
        }
    }
}
