//! Tokens.
//!
//! Providers report a tree of numbers; [`Counts`] holds it flat, under dotted names, and becomes a
//! [`Usage`] when the reply is over. The two vendors differ in one thing that matters: Anthropic
//! counts cached input apart, OpenAI counts it as part of the input.

use std::collections::BTreeMap;

use crate::{
    api::{edits::Edits, read},
    json::{Error, Kind, Scanner},
};

/// What one turn used, normalised over the APIs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens, reads from the cache left out.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to it.
    pub cache_write: u64,
    /// Every other whole number the provider reported, by its own dotted name
    /// (`completion_tokens_details.reasoning_tokens`); at most 64 of them.
    pub extras: BTreeMap<String, u64>,
}

impl Usage {
    /// Adds another turn's.
    pub fn add(&mut self, other: &Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        for (name, count) in &other.extras {
            let sum = self.extras.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

/// The numbers of a usage object, by dotted name.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Reads a usage object; `None` where there is none.
    pub(super) fn read(scan: &mut Scanner<'_>) -> Result<Option<Self>, Error> {
        let mut counts = Self::default();
        let found = counts.members(scan, &mut String::new())?;
        Ok(found.then_some(counts))
    }

    fn members(&mut self, scan: &mut Scanner<'_>, path: &mut String) -> Result<bool, Error> {
        let parent = path.len();
        read::object(scan, |scan, name| {
            if parent > 0 {
                path.push('.');
            }
            path.push_str(name);
            match scan.kind()? {
                Kind::Number => self.set(path, scan.u64()?),
                // Names are cut off with the numbers; depth is the scanner's to limit.
                Kind::Object => self.members(scan, path).map(drop)?,
                _ => read::skip(scan)?,
            }
            path.truncate(parent);
            Ok(())
        })
    }

    fn set(&mut self, path: &str, count: Option<u64>) {
        let Some(count) = count else { return };
        if let Some(known) = self.0.get_mut(path) {
            *known = count;
        } else if self.0.len() < MAX_COUNTS && path.len() <= MAX_NAME {
            self.0.insert(path.to_owned(), count);
        }
    }

    /// A later report: each of its figures replaces the one of its name, the others stay.
    pub(super) fn replace(&mut self, later: Self) {
        for (name, count) in later.0 {
            self.set(&name, Some(count));
        }
    }

    /// Adds another turn's.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            let sum = count.saturating_add(self.get(name).unwrap_or_default());
            self.set(name, Some(sum));
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Notes what must change in a usage object, the next value of `scan`, so that each of its
    /// numbers has grown by the one of its name here.
    pub(super) fn raise(&self, scan: &mut Scanner<'_>, edits: &mut Edits) -> Result<(), Error> {
        self.raise_members(scan, &mut String::new(), edits)
    }

    fn raise_members(
        &self,
        scan: &mut Scanner<'_>,
        path: &mut String,
        edits: &mut Edits,
    ) -> Result<(), Error> {
        let parent = path.len();
        read::object(scan, |scan, name| {
            if parent > 0 {
                path.push('.');
            }
            path.push_str(name);
            match scan.kind()? {
                Kind::Number => {
                    let more = self.get(path).filter(|more| *more > 0);
                    let count = scan.u64()?;
                    if let (Some(count), Some(more)) = (count, more) {
                        // A number is one byte at least, and ends here.
                        let end = scan.position();
                        let start = end - decimal_len(count);
                        edits.replace(start..end, count.saturating_add(more).to_string());
                    }
                }
                Kind::Object => self.raise_members(scan, path, edits)?,
                _ => read::skip(scan)?,
            }
            path.truncate(parent);
            Ok(())
        })
        .map(drop)
    }

    /// As Anthropic means them.
    pub(super) fn anthropic(mut self) -> Usage {
        Usage {
            input: self.remove("input_tokens"),
            output: self.remove("output_tokens"),
            cache_read: self.remove("cache_read_input_tokens"),
            cache_write: self.remove("cache_creation_input_tokens"),
            extras: self.0,
        }
    }

    /// As OpenAI's Chat Completions API means them.
    pub(super) fn chat_completions(mut self) -> Usage {
        let cache_read = self.remove("prompt_tokens_details.cached_tokens");
        Usage {
            input: self.remove("prompt_tokens").saturating_sub(cache_read),
            output: self.remove("completion_tokens"),
            cache_read,
            cache_write: 0,
            extras: self.0,
        }
    }

    /// As OpenAI's Responses API means them.
    pub(super) fn responses(mut self) -> Usage {
        let cache_read = self.remove("input_tokens_details.cached_tokens");
        Usage {
            input: self.remove("input_tokens").saturating_sub(cache_read),
            output: self.remove("output_tokens"),
            cache_read,
            cache_write: 0,
            extras: self.0,
        }
    }

    fn remove(&mut self, name: &str) -> u64 {
        self.0.remove(name).unwrap_or_default()
    }
}

/// How long a whole number is in JSON, which has no leading zeros.
const fn decimal_len(count: u64) -> usize {
    match count.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Providers report about ten numbers.
const MAX_COUNTS: usize = 64;
/// Bytes of a dotted name.
const MAX_NAME: usize = 128;
