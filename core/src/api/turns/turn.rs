//! The verdict on a turn, which is the same in all APIs.

use std::sync::Arc;

use super::{Refusal, ToolCall, TurnEnd};
use crate::api::{edits::Edits, read, usage::Counts};

/// What all dialects know of the turn they follow.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// How many turns came before.
    pub(super) nth: usize,
    pub(super) injected: Vec<Arc<str>>,
    /// What earlier turns used, and what this one did.
    pub(super) earlier: Counts,
    pub(super) used: Counts,
    /// Its calls of injected tools.
    pub(super) calls: Vec<ToolCall>,
    /// It calls tools of the client's.
    pub(super) calls_own: bool,
    /// An error came, or the stream broke off.
    pub(super) failed: bool,
    pub(super) end: Option<TurnEnd>,
    /// What the turn adds to the conversation: elements of a JSON array. Only where it has calls to
    /// run.
    pub(super) history: Vec<u8>,
}

impl Turn {
    pub(super) fn is_injected(&self, name: &str) -> bool {
        self.injected.iter().any(|injected| **injected == *name)
    }

    /// Decides how the turn ends. `is_proper`: it ended by itself, and its stop says that tools are
    /// to be used. Then `history` is asked for what is to be appended to the conversation; `None`
    /// if that is too long.
    pub(super) fn decide(
        &mut self,
        is_proper: bool,
        history: impl FnOnce(&[ToolCall]) -> Option<Vec<u8>>,
    ) -> &TurnEnd {
        let end = self.judge(is_proper, history);
        self.end.insert(end)
    }

    fn judge(
        &mut self,
        is_proper: bool,
        history: impl FnOnce(&[ToolCall]) -> Option<Vec<u8>>,
    ) -> TurnEnd {
        let mut calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            return TurnEnd::Final;
        }
        if self.calls_own || self.failed || !is_proper {
            let why = if self.calls_own && !self.failed {
                Refusal::Mixed
            } else {
                Refusal::Truncated
            };
            return TurnEnd::Refused { calls, why };
        }
        for call in &mut calls {
            // A tool without parameters is often called without arguments.
            if call.arguments.trim_ascii().is_empty() {
                "{}".clone_into(&mut call.arguments);
            }
        }
        let Some(history) = history(&calls) else {
            return TurnEnd::TooLong;
        };
        // One malformed call does not keep the others from being run: the model is told of it, and
        // may mend it.
        if !calls.iter().any(ToolCall::is_sound) || !are_elements(&history) {
            let why = Refusal::Malformed;
            return TurnEnd::Refused { calls, why };
        }
        self.history = history;
        TurnEnd::Calls(calls)
    }

    /// The turn ends with calls that the client does not see, and none that it does.
    pub(super) fn leaves_no_calls(&self) -> bool {
        !self.calls_own && matches!(self.end, Some(TurnEnd::Refused { .. }))
    }

    pub(super) fn goes_on(&self) -> bool {
        matches!(self.end, Some(TurnEnd::Calls(_) | TurnEnd::TooLong))
    }

    pub(super) fn ended(&self) -> TurnEnd {
        // The dialects have decided by now.
        self.end.clone().unwrap_or(TurnEnd::Final)
    }

    /// Edits a usage object, which stands at `at` in its text, so that it counts earlier turns too.
    pub(super) fn raise(&self, usage: &[u8], at: usize, edits: &mut Edits) {
        if self.nth == 0 {
            return;
        }
        let mut raised = Edits::default();
        if read::document(usage, |scan| self.earlier.raise(scan, &mut raised)).is_some() {
            edits.append(raised, at);
        }
    }
}

/// Whether a text is well-formed elements of an array.
fn are_elements(text: &[u8]) -> bool {
    let array = [b"[", text, b"]"].concat();
    read::document(&array, read::skip).is_some()
}
