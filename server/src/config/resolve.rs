//! From what is written to what is meant: checks every value and follows the references to secrets.

use std::{net::SocketAddr, path::PathBuf};

use aibridge_core::proxy::Proxies;
use toml::Spanned;

use super::{
    Credential, Overrides, Settings, Sources, Token, address,
    error::{Problems, span_of},
    raw::{self, Quantity},
    records,
    whole::{self, Listener},
};

/// Where the bridge listens by default.
pub(super) const LISTEN: SocketAddr = local(8787);
/// Where the admin endpoints listen by default.
pub(super) const ADMIN: SocketAddr = local(8788);

/// Checks and resolves a whole file. Where there is a complaint, the settings are not to be used.
pub(super) fn file(
    origin: &str,
    file: raw::File,
    sources: &Sources,
    overrides: Overrides,
    problems: &mut Problems<'_>,
) -> Settings {
    let mut check = Check { sources, problems };
    let mut raw = file.server;
    let mut listen = match overrides.listen {
        Some(address) => Listener::of_command_line("--listen", address),
        None => check.listener("server: listen", raw.listen.take(), LISTEN),
    };
    listen.is_guarded = !file.client.is_empty();
    let mut admin = match overrides.admin {
        Some(address) => Listener::of_command_line("--admin", address),
        None => check.listener("server: admin", raw.admin.take(), ADMIN),
    };
    admin.is_guarded = raw.admin_token.is_some();
    let admin_token = raw
        .admin_token
        .take()
        .and_then(|token| check.secret(&token, "server: admin_token", "the entry"))
        .map(Token::from);
    let tls = check.tls("tls", raw.tls.take());
    let admin_tls = check.tls("admin_tls", raw.admin_tls.take());
    let admin_hosts = check.hosts(std::mem::take(&mut raw.admin_hosts));
    let (max_body, capacity) = check.capacity(&mut raw);
    let timeouts = check.timeouts(&mut raw);
    let drain_timeout = check.drain_timeout(&mut raw);
    let upstream_ca = raw
        .upstream_ca
        .take()
        .and_then(|path| check.authority(&path));
    let clients = check.clients(file.client, admin_token.as_ref());
    let providers = check.providers(file.provider, listen.address);
    let tool_servers = check.tool_servers(file.mcp);
    let tools = check.tool_limits(file.tools);
    let records = records::resolve(file.records, &sources.folder, &mut check);
    let trace = file
        .trace
        .dir
        .and_then(|dir| check.folder("trace: dir", &dir));

    let mut settings = Settings {
        origin: origin.to_owned(),
        listen: listen.address.unwrap_or(LISTEN),
        admin: admin.address.unwrap_or(ADMIN),
        admin_token,
        tls,
        admin_tls,
        admin_hosts,
        max_body,
        capacity,
        timeouts,
        drain_timeout,
        upstream_ca,
        proxies: Proxies::default(),
        clients,
        providers,
        tool_servers,
        tools,
        records,
        trace,
        warnings: Vec::new(),
    };
    whole::check(&mut settings, &listen, &admin, problems);
    settings
}

/// The checks of single values.
pub(super) struct Check<'a, 'p> {
    pub(super) sources: &'a Sources,
    pub(super) problems: &'a mut Problems<'p>,
}

impl Check<'_, '_> {
    fn listener(
        &mut self,
        key: &'static str,
        written: Option<Spanned<String>>,
        default: SocketAddr,
    ) -> Listener {
        let span = span_of(written.as_ref());
        let address = written.map_or(Ok(default), |it| address::socket_addr(it.get_ref()));
        if let Err(what) = &address {
            self.problems
                .add(span.clone(), format_args!("{key}: {what}"));
        }
        Listener {
            address: address.ok(),
            key,
            span,
            is_guarded: false,
        }
    }

    pub(super) fn secret(
        &mut self,
        written: &Spanned<raw::Secret>,
        key: &str,
        removable: &str,
    ) -> Option<Credential> {
        self.sources
            .secret(written.get_ref(), removable)
            .map_err(|what| {
                self.problems
                    .add(written.span(), format_args!("{key}: {what}"));
            })
            .ok()
    }

    /// The value of a header field: a secret that may have spaces in it.
    pub(super) fn field_value(
        &mut self,
        written: &Spanned<raw::Secret>,
        key: &str,
    ) -> Option<Credential> {
        self.sources
            .field_value(written.get_ref(), "the entry")
            .map_err(|what| {
                self.problems
                    .add(written.span(), format_args!("{key}: {what}"));
            })
            .ok()
    }

    /// A quantity more than zero, but for the two timeouts where zero means none.
    pub(super) fn quantity<T: Default + PartialEq>(
        &mut self,
        key: &str,
        written: Option<Spanned<Quantity>>,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let written = written?;
        let zero_is_none = ["server: header_timeout", "server: idle_timeout"].contains(&key);
        read(&written.get_ref().0)
            .and_then(|value| {
                if value == T::default() && !zero_is_none {
                    return Err("must be more than 0; remove it for the default".to_owned());
                }
                Ok(value)
            })
            .map_err(|what| {
                self.problems
                    .add(written.span(), format_args!("{key}: {what}"));
            })
            .ok()
    }

    /// Names by which the admin listener is reached, without ports.
    fn hosts(&mut self, written: Vec<Spanned<String>>) -> Vec<String> {
        for host in &written {
            if host.get_ref().is_empty() || host.get_ref().contains([':', '/', ' ']) {
                self.problems.add(
                    host.span(),
                    "server: admin_hosts: must be names such as \"bridge.internal\"; leave out scheme and port",
                );
            }
        }
        let names = written.into_iter().map(Spanned::into_inner);
        names.map(|name| name.to_ascii_lowercase()).collect()
    }

    /// A folder that is there, or can be made.
    fn folder(&mut self, key: &str, written: &Spanned<String>) -> Option<PathBuf> {
        let path = self.sources.folder.join(written.get_ref());
        let what = if written.get_ref().is_empty() {
            "is empty; name a folder".to_owned()
        } else if path.exists() && !path.is_dir() {
            format!("{} is no folder; name another", path.display())
        } else {
            return Some(path);
        };
        self.problems
            .add(written.span(), format_args!("{key}: {what}"));
        None
    }
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}
