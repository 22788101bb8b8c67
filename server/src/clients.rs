//! How to point each client at the bridge: lines to copy into a shell.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use aibridge_core::{api::Vendor, config::PLACEHOLDER};

use crate::config::{Provider, Settings};

/// What to do where the clients' listener speaks TLS: an address is hardly what its certificate was
/// made for.
const TLS_HINT: &str = "           put the name in the certificate in place of the address; clients that do not trust it
           yet need its authority in NODE_EXTRA_CA_CERTS (Claude Code, Node) or SSL_CERT_FILE";

/// Prints both addresses and what to tell each client. Bound addresses, as port 0 may have been
/// asked for.
pub(crate) fn print(
    out: &mut impl Write,
    settings: &Settings,
    listen: SocketAddr,
    admin: SocketAddr,
) -> io::Result<()> {
    writeln!(out, "aibridge {}", env!("CARGO_PKG_VERSION"))?;
    let scheme = |is_tls| if is_tls { "https" } else { "http" };
    let of_clients = scheme(settings.tls.is_some());
    writeln!(out, "  clients  {of_clients}://{listen}")?;
    if settings.tls.is_some() {
        writeln!(out, "{TLS_HINT}")?;
    }
    let of_admin = scheme(settings.admin_tls.is_some());
    writeln!(out, "  admin    {of_admin}://{admin}")?;
    let base = format!("{of_clients}://{}", reachable(listen));
    let first = |vendor| {
        settings
            .providers
            .iter()
            .find(|provider| provider.vendor == vendor)
    };
    if let Some(provider) = first(Vendor::Anthropic) {
        let url = format!("{base}/{}", provider.name);
        let key = credential(settings, provider);
        writeln!(out, "\nClaude Code")?;
        writeln!(
            out,
            "  export ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key}"
        )?;
        writeln!(out, "\nAnthropic SDKs (Python, Node)")?;
        writeln!(
            out,
            "  export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={key}"
        )?;
    }
    if let Some(provider) = first(Vendor::OpenAi) {
        let url = format!("{base}/{}/v1", provider.name);
        let key = credential(settings, provider);
        writeln!(out, "\nCodex")?;
        writeln!(
            out,
            "  OPENAI_API_KEY={key} codex -c model_provider=aibridge -c 'model_providers.aibridge={{name=\"aibridge\",base_url=\"{url}\",env_key=\"OPENAI_API_KEY\",wire_api=\"responses\"}}'"
        )?;
        writeln!(out, "\nOpenAI SDKs (Python, Node)")?;
        writeln!(out, "  export OPENAI_BASE_URL={url} OPENAI_API_KEY={key}")?;
    }
    if settings.providers.len() > 1 {
        writeln!(out, "\nBase URLs")?;
    }
    for Provider { name, vendor, .. } in settings
        .providers
        .iter()
        .filter(|_| settings.providers.len() > 1)
    {
        let version = if *vendor == Vendor::OpenAi { "/v1" } else { "" };
        writeln!(out, "  {base}/{name}{version}")?;
    }
    writeln!(out)?;
    out.flush()
}

/// What the client shows as its key.
fn credential(settings: &Settings, provider: &Provider) -> &'static str {
    if !settings.clients.is_empty() {
        "YOUR_CLIENT_TOKEN"
    } else if provider.keys.is_empty() {
        "YOUR_OWN_KEY"
    } else {
        PLACEHOLDER
    }
}

/// An address that can be connected to: "any" cannot, this machine can.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Overrides, Sources};

    fn printed(text: &str, listen: &str) -> String {
        let sources = Sources::of_process(PathBuf::new());
        let settings = Settings::from_toml("f", text, &sources, Overrides::default()).unwrap();
        let mut out = Vec::new();
        print(
            &mut out,
            &settings,
            listen.parse().unwrap(),
            ([127, 0, 0, 1], 2).into(),
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    const PROVIDERS: &str = r#"
        [[provider]]
        name = "claude"
        api = "anthropic"
        base_url = "https://api.anthropic.com"
        keys = ["k"]
        [[provider]]
        name = "openai"
        api = "openai"
        base_url = "https://api.openai.com/v1"
    "#;

    #[test]
    fn each_client_gets_the_line_that_points_it_at_the_bridge() {
        let text = printed(PROVIDERS, "127.0.0.1:8787");
        for line in [
            "  clients  http://127.0.0.1:8787\n  admin    http://127.0.0.1:2\n",
            "export ANTHROPIC_BASE_URL=http://127.0.0.1:8787/claude ANTHROPIC_AUTH_TOKEN=aibridge\n",
            "export ANTHROPIC_BASE_URL=http://127.0.0.1:8787/claude ANTHROPIC_API_KEY=aibridge\n",
            "base_url=\"http://127.0.0.1:8787/openai/v1\"",
            "export OPENAI_BASE_URL=http://127.0.0.1:8787/openai/v1 OPENAI_API_KEY=YOUR_OWN_KEY\n",
            "\nBase URLs\n  http://127.0.0.1:8787/claude\n  http://127.0.0.1:8787/openai/v1\n",
        ] {
            assert!(text.contains(line), "{line}\n--- not in\n{text}");
        }
    }

    #[test]
    fn where_clients_are_named_each_shows_its_token() {
        let text = format!(
            "[server]\nlisten = \"0.0.0.0:80\"\n[[client]]\nname = \"a\"\ntoken = \"secret\"\n{PROVIDERS}"
        );
        let text = printed(&text, "0.0.0.0:80");
        assert!(
            text.contains("http://127.0.0.1:80/claude ANTHROPIC_AUTH_TOKEN=YOUR_CLIENT_TOKEN"),
            "{text}"
        );
        assert!(!text.contains("secret"));
    }
}
