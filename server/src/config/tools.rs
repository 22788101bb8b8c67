//! The checks of `[[mcp]]`: servers whose tools are offered to the models.

use std::{collections::HashSet, sync::Arc};

use aibridge_core::mcp::{self, Pattern, check_names};
use http::{HeaderName, header};
use toml::Spanned;

use super::{Credential, ToolServer, address, raw, resolve::Check};

/// Fields that the protocol or the connection sets.
const OURS: &[HeaderName] = &[
    header::ACCEPT,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TRANSFER_ENCODING,
];

impl Check<'_, '_> {
    pub(super) fn tool_servers(&mut self, written: Vec<Spanned<raw::Mcp>>) -> Vec<ToolServer> {
        let mut servers: Vec<ToolServer> = Vec::with_capacity(written.len());
        for server in written {
            let server = server.into_inner();
            let name: Arc<str> = server.name.get_ref().as_str().into();
            let mut names: Vec<&Arc<str>> = servers.iter().map(|known| &known.name).collect();
            names.push(&name);
            if let Err(error) = check_names(names) {
                let what = format!("{error}; choose another name");
                self.problems.add(server.name.span(), what);
                continue;
            }
            servers.extend(self.tool_server(name, server));
        }
        servers
    }

    fn tool_server(&mut self, name: Arc<str>, written: raw::Mcp) -> Option<ToolServer> {
        let of = |key: &str| format!("mcp \"{}\": {key}", name.escape_debug());
        let base = address::url(written.url.get_ref(), "headers")
            .map_err(|what| {
                self.problems
                    .add(written.url.span(), format_args!("{}: {what}", of("url")));
            })
            .ok();
        let mut names = HashSet::new();
        let mut headers = Vec::with_capacity(written.headers.len());
        for (field, value) in written.headers {
            let key = of(&format!("headers: {}", field.get_ref().escape_debug()));
            let what = match HeaderName::try_from(field.get_ref().as_str()) {
                Err(_) => "is no header field's name; mend it",
                Ok(name) if OURS.contains(&name) || name.as_str().starts_with("mcp-") => {
                    "is set by the bridge; remove it"
                }
                Ok(name) if !names.insert(name.clone()) => {
                    "is there in another case as well; remove one"
                }
                Ok(name) => {
                    let value = self.field_value(&value, &key);
                    headers.extend(value.map(|value| (name, value)));
                    continue;
                }
            };
            self.problems
                .add(field.span(), format_args!("{key}: {what}"));
        }
        let allow = self.pattern(written.allow, &of("allow"));
        let deny = self.pattern(written.deny, &of("deny"));
        let (target, path) = base?;
        Some(ToolServer {
            path: if path.is_empty() {
                "/".to_owned()
            } else {
                path
            },
            target,
            headers,
            allow,
            deny,
            name,
        })
    }

    fn pattern(&mut self, written: Option<Spanned<String>>, key: &str) -> Option<Matching> {
        let written = written?;
        let text = written.get_ref().clone();
        match Pattern::new(&text) {
            Ok(pattern) => Some(Matching { text, pattern }),
            Err(error) => {
                let what = format!("{key}: is not a regular expression ({error}); mend it");
                self.problems.add(written.span(), what);
                None
            }
        }
    }
}

/// A pattern, and how it was written.
#[derive(Debug)]
pub(crate) struct Matching {
    pub(crate) text: String,
    pub(crate) pattern: Pattern,
}

impl ToolServer {
    pub(super) fn core(&self) -> mcp::Server {
        let mut server = mcp::Server::new(&self.name, self.target.clone(), &self.path);
        for (field, Credential { secret, .. }) in &self.headers {
            // It was checked that the value fits.
            if let Ok(with) = server.clone().with_header(field.clone(), secret) {
                server = with;
            }
        }
        let pattern = |matching: &Option<Matching>| matching.as_ref().map(|m| m.pattern.clone());
        server.allow = pattern(&self.allow);
        server.deny = pattern(&self.deny);
        server
    }
}
