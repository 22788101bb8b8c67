//! What an interception left behind, by kind.

use aibridge_core::record::{Attempt, Ended, Passthrough, Record, Started, TokenUsage, ToolUsage};

/// Records in the order they were emitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records(pub Vec<Record>);

impl Records {
    fn pick<'a, T: 'a>(&'a self, pick: impl Fn(&'a Record) -> Option<T> + 'a) -> Vec<T> {
        self.0.iter().filter_map(pick).collect()
    }

    /// How the only interception ended.
    ///
    /// # Panics
    /// There were none, or several.
    #[track_caller]
    pub fn ended(&self) -> &Ended {
        let ended = self.all_ended();
        assert_eq!(ended.len(), 1, "interceptions ended: {:#?}", self.0);
        ended[0]
    }

    /// How each interception ended.
    pub fn all_ended(&self) -> Vec<&Ended> {
        self.pick(|record| match record {
            Record::Ended(_, ended) => Some(&**ended),
            _ => None,
        })
    }

    /// What began.
    pub fn started(&self) -> Vec<&Started> {
        self.pick(|record| match record {
            Record::Started(_, started) => Some(&**started),
            _ => None,
        })
    }

    /// Calls to upstream.
    pub fn attempts(&self) -> Vec<&Attempt> {
        self.pick(|record| match record {
            Record::Attempt(_, attempt) => Some(attempt),
            _ => None,
        })
    }

    /// Prompts.
    pub fn prompts(&self) -> Vec<&str> {
        self.pick(|record| match record {
            Record::Prompt(_, prompt) => Some(prompt.as_str()),
            _ => None,
        })
    }

    /// Tokens.
    pub fn usage(&self) -> Vec<&TokenUsage> {
        self.pick(|record| match record {
            Record::TokenUsage(_, usage) => Some(usage),
            _ => None,
        })
    }

    /// Tools called.
    pub fn tools(&self) -> Vec<&ToolUsage> {
        self.pick(|record| match record {
            Record::ToolUsage(_, usage) => Some(usage),
            _ => None,
        })
    }

    /// Where each thought came from.
    pub fn thoughts(&self) -> Vec<&'static str> {
        self.pick(|record| match record {
            Record::Thought(_, thought) => Some(thought.source),
            _ => None,
        })
    }

    /// Passthrough requests.
    pub fn passthrough(&self) -> Vec<&Passthrough> {
        self.pick(|record| match record {
            Record::Passthrough(passthrough) => Some(passthrough),
            _ => None,
        })
    }
}
