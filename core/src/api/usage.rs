//! Tokens.

use std::collections::BTreeMap;

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
    /// Every other number the provider reported, by its own dotted name (`completion_tokens_details.reasoning_tokens`).
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
