//! One configured server.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header::InvalidHeaderValue};
use regex_lite::Regex;

use crate::{
    secret::{self, Secret},
    target::Target,
};

/// What is shorter, in bytes, is not looked for in what a server says: it would be found
/// everywhere.
const TELLING: usize = 8;

/// A server whose tools are offered to the models.
///
/// ```
/// use aibridge_core::{Target, mcp::{Pattern, Server}};
///
/// let target = Target { host: "127.0.0.1".into(), port: 3001, tls: false };
/// let mut server = Server::new("coder", target, "/mcp");
/// server.allow = Some(Pattern::new("^coder_")?);
/// server.deny = Some(Pattern::new("delete")?);
/// assert!(server.offers("coder_list") && !server.offers("coder_delete") && !server.offers("list"));
/// # Ok::<(), aibridge_core::mcp::BadPattern>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name in the configuration, which the names of its tools contain; unique.
    pub name: Arc<str>,
    /// Where it is.
    pub target: Target,
    /// Path and query of its endpoint, in origin form.
    pub path: Arc<str>,
    /// Fields to send with every request; values are marked sensitive.
    pub headers: HeaderMap,
    /// Only tools whose own name this finds are offered.
    pub allow: Option<Pattern>,
    /// Tools whose own name this finds are not offered, whatever `allow` says.
    pub deny: Option<Pattern>,
}

impl Server {
    /// A server that needs no fields and whose tools are all offered.
    pub fn new(name: &str, target: Target, path: &str) -> Self {
        Self {
            name: name.into(),
            target,
            path: path.into(),
            headers: HeaderMap::new(),
            allow: None,
            deny: None,
        }
    }

    /// The same with a field to send. Fields that the protocol itself sets are not overridden by
    /// it.
    ///
    /// # Errors
    /// The value does not fit a header.
    pub fn with_header(
        mut self,
        name: HeaderName,
        value: &Secret,
    ) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::from_str(value.expose())?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// A text of the server's, which may have repeated what it was shown: with the hint of each
    /// sensitive field's value in its place, and of what stands after a scheme in it (RFC 9110
    /// §11.4).
    pub(crate) fn masked_in(&self, text: String) -> String {
        let values = self.headers.values().filter(|value| value.is_sensitive());
        let shown: Vec<_> = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| [Some(value), value.split_once(' ').map(|(_, token)| token)])
            .flatten()
            .filter(|shown| shown.len() >= TELLING)
            .map(Secret::new)
            .collect();
        secret::mask(text, shown.iter().collect())
    }

    /// Whether a tool of this name, as the server calls it, is offered.
    pub fn offers(&self, tool: &str) -> bool {
        let found = |pattern: &Option<Pattern>| pattern.as_ref().map(|p| p.finds(tool));
        found(&self.allow).unwrap_or(true) && !found(&self.deny).unwrap_or(false)
    }
}

/// A regular expression over tool names. It need not match the whole name.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression in the syntax of the `regex-lite` crate.
    ///
    /// # Errors
    /// It is not one.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Regex::new(text)
            .map(Self)
            .map_err(|error| BadPattern(error.to_string()))
    }

    /// Whether it matches anywhere in `name`.
    pub fn finds(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// Equal as they are written.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Why a text is not a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern(String);

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPattern {}
