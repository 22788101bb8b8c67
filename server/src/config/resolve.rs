//! From what is written to what is meant: checks every value and follows the references to secrets.

use std::{fs, net::SocketAddr, path::PathBuf};

use aibridge_core::proxy::Proxies;
use toml::Spanned;

use super::{
    Authority, Credential, Overrides, Settings, Sources, Token, address,
    error::Problems,
    raw::{self, Quantity},
    records, whole,
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
    let mut check = Check { sources, problems };
    let mut raw = file.server;
    let listen_span = raw.listen.as_ref().map_or(0..0, Spanned::span);
    let admin_span = raw.admin.as_ref().map_or(0..0, Spanned::span);

    let listen = check.address(
        "server: listen",
        raw.listen.take(),
        overrides.listen,
        LISTEN,
    );
    let admin = check.address("server: admin", raw.admin.take(), overrides.admin, ADMIN);
    let admin_token = raw
        .admin_token
        .take()
        .and_then(|token| check.secret(&token, "server: admin_token", "the entry"))
        .map(Token::from);
    let tls = check.tls("tls", raw.tls.take());
    let admin_tls = check.tls("admin_tls", raw.admin_tls.take());
    let admin_hosts = check.hosts(std::mem::take(&mut raw.admin_hosts));
    let max_body = check.max_body(&mut raw);
    let capacity = check.capacity(&mut raw, max_body);
    let timeouts = check.timeouts(&mut raw);
    let drain_timeout = check.drain_timeout(&mut raw);
    let upstream_ca = raw
        .upstream_ca
        .take()
        .and_then(|path| check.authority(&path));
    let clients = check.clients(file.client, admin_token.as_ref());
    let providers = check.providers(file.provider);
    let tool_servers = check.tool_servers(file.mcp);
    let tools = check.tool_limits(file.tools);
    let records = records::resolve(file.records, &sources.folder, &mut check);
    let trace = file
        .trace
        .dir
        .and_then(|dir| check.folder("trace: dir", &dir));

    let settings = Settings {
        origin: origin.to_owned(),
        listen,
        admin,
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
    whole::check(settings, listen_span, admin_span, problems)
}

/// The checks of single values.
pub(super) struct Check<'a, 'p> {
    pub(super) sources: &'a Sources,
    pub(super) problems: &'a mut Problems<'p>,
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
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}
