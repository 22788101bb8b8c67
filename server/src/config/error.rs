//! What is wrong with a configuration: where, and how to put it right.

use std::{fmt, ops::Range};

use aibridge_core::Secret;
use toml::Spanned;

use super::secret::SHORT;

/// All that is wrong with one configuration. One line each: `FILE:LINE: KEY: what; fix`.
#[derive(Debug)]
pub(crate) struct Error {
    lines: Vec<String>,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl Error {
    /// One complaint about the configuration as a whole.
    pub(crate) fn new(origin: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self {
            lines: vec![format!("{origin}: {what}")],
        }
    }
}

/// Collects complaints, so that a user can mend them all in one go.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    /// The file's name, or what stands in for it.
    origin: &'a str,
    /// The file's text, to count lines in.
    text: &'a str,
    /// Lines and what is said of them.
    found: Vec<(usize, String)>,
    /// The places of values that were complained about, each for itself.
    rejected: Vec<Range<usize>>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(origin: &'a str, text: &'a str) -> Self {
        Self {
            origin,
            text,
            found: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// A complaint about what stands at `span`; an empty span at 0 stands for the file as a whole.
    pub(super) fn add(&mut self, span: Range<usize>, what: impl fmt::Display) {
        self.push(&span, what);
        self.rejected.push(span);
    }

    /// A complaint about values that do not go together, at the first of them that is written. None
    /// if one of them was rejected: they were compared with its default then.
    pub(super) fn add_together(&mut self, spans: &[Range<usize>], what: impl fmt::Display) {
        let mut written = spans.iter().filter(|span| !span.is_empty());
        if written.clone().any(|span| self.rejected.contains(span)) {
            return;
        }
        self.push(written.next().unwrap_or(&(0..0)), what);
    }

    fn push(&mut self, span: &Range<usize>, what: impl fmt::Display) {
        let line = if span.is_empty() {
            0
        } else {
            line_of(self.text, span.start)
        };
        self.found.push((line, what.to_string()));
    }

    /// A complaint by the TOML reader: what is not TOML, or not one of our keys and types.
    pub(super) fn add_syntax(&mut self, error: &toml::de::Error) {
        let at = error.span().map_or(0, |span| span.start);
        let key = key_at(self.text, at).map_or_else(String::new, |key| format!("{key}: "));
        // The reader's message may have lines of its own; one complaint is one line here.
        let what = match missing(error.message()) {
            Some(field) => {
                let table = table_at(self.text, at);
                let at_table = table.map_or_else(String::new, |table| format!("{table}: "));
                let what = format!("{at_table}{field} is missing; add it");
                return self.found.push((line_of(self.text, at), what));
            }
            None if error.message() == "duplicate key" => {
                "is there twice in this table; remove one".to_owned()
            }
            None => without_value(error.message()),
        };
        let what = what.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        self.found
            .push((line_of(self.text, at), format!("{key}{what}")));
    }

    /// Whether there is no complaint so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Fails if there was any complaint.
    pub(super) fn into_result(mut self) -> Result<(), Error> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(line, _)| *line);
        let lines = self.found.into_iter().map(|(line, what)| match line {
            0 => format!("{}: {what}", self.origin),
            line => format!("{}:{line}: {what}", self.origin),
        });
        Err(Error {
            lines: lines.collect(),
        })
    }
}

/// `invalid type: string "sk-1", expected a sequence` without the value: it may be a secret in the
/// wrong place.
fn without_value(message: &str) -> String {
    let Some(rest) = message.strip_prefix("invalid type: ") else {
        return message.to_owned();
    };
    let kind = rest.split([' ', ',']).next().unwrap_or_default();
    let expected = rest
        .rsplit_once(", expected ")
        .map_or("something else", |(_, expected)| expected);
    let expected = match expected {
        "a sequence" => "a list",
        "i64" => "a whole number",
        "a map" => "a table",
        other => other,
    };
    format!("is of type {kind}; write {expected}")
}

/// The field that a complaint says is missing.
fn missing(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// The head of the table that this byte is in: `[[client]]`.
fn table_at(text: &str, at: usize) -> Option<&str> {
    let lines = text.lines().take(line_of(text, at));
    let heads = lines.map(str::trim).filter(|line| line.starts_with('['));
    let head = heads.last()?;
    head.rfind(']').map(|end| &head[..=end])
}

/// Where a value stands; an empty span if it is not written.
pub(super) fn span_of<T>(value: Option<&Spanned<T>>) -> Range<usize> {
    value.map_or(0..0, Spanned::span)
}

/// A value as a complaint may repeat it: of what could be a secret in the wrong place, the hint.
pub(super) fn shown(value: &str) -> String {
    let is_long = value.chars().count() >= SHORT;
    let is_word = value.chars().all(|c| c.is_alphabetic() || c == ' ');
    let is_number = value.chars().all(|c| c.is_ascii_digit());
    if is_long && !is_word && !is_number {
        return Secret::new(value).hint().escape_debug().to_string();
    }
    value.escape_debug().to_string()
}

/// The number of the line that holds this byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.split(|byte| *byte == b'\n').count()
}

/// What stands before `=` on that line, for complaints that do not name the key themselves.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let line = text.lines().nth(line_of(text, at) - 1)?;
    let key = line.split_once('=')?.0.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(bare)).then_some(key)
}
