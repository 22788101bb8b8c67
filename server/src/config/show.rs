//! The configuration as it was understood, in the form of the file, secrets masked.

use std::fmt::{self, Display, Formatter};

use aibridge_core::{api::Vendor, keypool::Rejected};

use super::{Credential, Provider, Settings, Tls, Token, ToolServer, units};

impl Display for Settings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = |f: &mut Formatter<'_>, key: &str, value: &str| {
            writeln!(f, "{key} = {}", quoted(value))
        };
        writeln!(f, "[server]")?;
        text(f, "listen", &self.listen.to_string())?;
        text(f, "admin", &self.admin.to_string())?;
        if let Some(token) = &self.admin_token {
            writeln!(f, "admin_token = {}", Masked::of(token))?;
        }
        for (key, tls) in [("tls", &self.tls), ("admin_tls", &self.admin_tls)] {
            if let Some(Tls { cert, key: of, .. }) = tls {
                let [cert, of] = [cert, of].map(|path| quoted(&path.display().to_string()));
                writeln!(f, "{key} = {{ cert = {cert}, key = {of} }}")?;
            }
        }
        if !self.admin_hosts.is_empty() {
            let hosts: Vec<_> = self.admin_hosts.iter().map(|host| quoted(host)).collect();
            writeln!(f, "admin_hosts = [{}]", hosts.join(", "))?;
        }
        text(f, "max_body", &units::show_size(self.max_body))?;
        writeln!(f, "max_connections = {}", self.capacity.connections)?;
        text(f, "max_buffered", &units::show_size(self.capacity.buffered))?;
        let timeouts = &self.timeouts;
        for (key, timeout) in [
            ("header_timeout", timeouts.header),
            ("idle_timeout", timeouts.idle),
            ("drain_timeout", self.drain_timeout),
            ("client_header_timeout", timeouts.client_header),
            ("client_body_timeout", timeouts.client_body),
            ("client_idle_timeout", timeouts.client_idle),
        ] {
            text(f, key, &units::show_duration(timeout))?;
        }
        if let Some(ca) = &self.upstream_ca {
            text(f, "upstream_ca", &ca.path.display().to_string())?;
        }
        for client in &self.clients {
            writeln!(f, "\n[[client]]")?;
            text(f, "name", &client.name)?;
            writeln!(f, "token = {}", Masked::of(&client.token))?;
            for (key, limit) in [
                ("max_in_flight", client.max_in_flight),
                ("requests_per_minute", client.requests_per_minute),
            ] {
                if let Some(limit) = limit {
                    writeln!(f, "{key} = {limit}")?;
                }
            }
            for (name, value) in &client.metadata {
                writeln!(f, "metadata.{} = {}", quoted(name), quoted(value))?;
            }
        }
        self.providers
            .iter()
            .try_for_each(|provider| write!(f, "\n{provider}"))?;
        self.tool_servers
            .iter()
            .try_for_each(|server| write!(f, "\n{server}"))?;
        writeln!(f, "\n[tools]")?;
        let tools = &self.tools;
        writeln!(f, "max_turns = {}", tools.turns)?;
        text(f, "call_timeout", &units::show_duration(tools.call))?;
        text(f, "loop_timeout", &units::show_duration(tools.whole))?;
        text(f, "max_result", &units::show_size(tools.result as u64))?;
        writeln!(f, "\n[records]")?;
        let records = self.records.lines();
        if records.is_empty() {
            writeln!(f, "# in memory only")?;
        }
        records
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))?;
        if let Some(dir) = &self.trace {
            writeln!(f, "\n[trace]")?;
            text(f, "dir", &dir.display().to_string())?;
        }
        Ok(())
    }
}

impl Display for Provider {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let api = match self.vendor {
            Vendor::Anthropic => "anthropic",
            Vendor::OpenAi => "openai",
        };
        writeln!(f, "[[provider]]")?;
        writeln!(f, "name = {}", quoted(&self.name))?;
        writeln!(f, "api = {}", quoted(api))?;
        writeln!(
            f,
            "base_url = {}",
            quoted(&format!("{}{}", self.target, self.base_path))
        )?;
        if self.keys.is_empty() {
            writeln!(f, "keys = []")?;
        } else {
            writeln!(f, "keys = [")?;
            for key in &self.keys {
                writeln!(f, "  {}", Masked::new(key, ","))?;
            }
            writeln!(f, "]")?;
        }
        writeln!(f, "byok = {}", self.byok)?;
        writeln!(f, "send_actor = {}", self.send_actor)?;
        writeln!(f, "[provider.failover]")?;
        let failover = &self.failover;
        for (key, value) in [
            ("unauthorized", show_rejected(failover.unauthorized)),
            ("forbidden", show_rejected(failover.forbidden)),
            (
                "default_cooldown",
                units::show_duration(failover.default_cooldown),
            ),
            ("max_cooldown", units::show_duration(failover.max_cooldown)),
        ] {
            writeln!(f, "{key} = {}", quoted(&value))?;
        }
        if let Some(breaker) = &self.breaker {
            writeln!(f, "[provider.circuit]")?;
            writeln!(f, "failures = {}", breaker.failures)?;
            let open = units::show_duration(breaker.open);
            writeln!(f, "open = {}", quoted(&open))?;
            writeln!(f, "half_open = {}", breaker.half_open)?;
        }
        Ok(())
    }
}

impl Display for ToolServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[mcp]]")?;
        writeln!(f, "name = {}", quoted(&self.name))?;
        let url = format!("{}{}", self.target, self.path);
        writeln!(f, "url = {}", quoted(&url))?;
        for (field, value) in &self.headers {
            writeln!(
                f,
                "headers.{} = {}",
                quoted(field.as_str()),
                Masked::new(value, "")
            )?;
        }
        for (key, matching) in [("allow", &self.allow), ("deny", &self.deny)] {
            if let Some(matching) = matching {
                writeln!(f, "{key} = {}", quoted(&matching.text))?;
            }
        }
        Ok(())
    }
}

/// A secret's hint, and where it came from as a comment after the separator.
struct Masked<'a> {
    hint: String,
    origin: &'a str,
    separator: &'static str,
}

impl<'a> Masked<'a> {
    fn new(credential: &'a Credential, separator: &'static str) -> Self {
        let Credential { secret, origin } = credential;
        let hint = secret.hint();
        Self {
            hint,
            origin,
            separator,
        }
    }

    fn of(token: &'a Token) -> Self {
        Self {
            hint: token.hint.clone(),
            origin: &token.origin,
            separator: "",
        }
    }
}

impl Display for Masked<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            hint,
            origin,
            separator,
        } = self;
        let origin = origin.escape_debug();
        write!(f, "{}{separator} # {origin}", quoted(hint))
    }
}

fn show_rejected(rejected: Rejected) -> String {
    match rejected {
        Rejected::Cool(duration) => units::show_duration(duration),
        Rejected::Relay => "relay".to_owned(),
        Rejected::Retire => "permanent".to_owned(),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
