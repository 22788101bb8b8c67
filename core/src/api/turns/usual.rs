//! The usual event: more of a text that is already known.
//!
//! It is told apart by its shape alone, without parsing: see `shape`. What it needs is then the
//! same each time: its text is appended to the same string, and the same edit is made in front of
//! that text.

use std::ops::Range;

use bytes::Bytes;

use super::{Passed, edited};
use crate::{
    api::{edits::Edits, shape::Shape},
    sse,
};

/// What the last event of text was like.
#[derive(Debug, Default)]
pub(super) struct Usual {
    shape: Shape,
    edit: Option<(Range<usize>, String)>,
    /// Where its text goes; the meaning is the dialect's.
    pub(super) place: (usize, usize),
}

impl Usual {
    /// Learns from an event of this data, which is text at `text` and nothing else, but for
    /// `padding`. An edit after the text moves with its length, so such an event is not learned
    /// from.
    pub(super) fn learn(
        &mut self,
        data: &[u8],
        text: Range<usize>,
        padding: Option<Range<usize>>,
        edit: Option<(Range<usize>, String)>,
        place: (usize, usize),
    ) {
        let first = padding
            .as_ref()
            .map_or(text.start, |it| it.start.min(text.start));
        if edit.as_ref().is_some_and(|(range, _)| range.end > first) {
            self.forget();
            return;
        }
        self.shape.learn(data, Some(text), padding);
        (self.edit, self.place) = (edit, place);
    }

    pub(super) fn forget(&mut self) {
        self.shape.learn(b"", None, None);
    }

    /// Where the text stands in an event that is like the last one.
    pub(super) fn text(&self, data: &[u8]) -> Option<Range<usize>> {
        self.shape.text(data)
    }

    /// What becomes of an event that is like the last one.
    pub(super) fn pass(&self, event: &sse::Event) -> Passed {
        let Some((range, new)) = &self.edit else {
            return Passed::Relay;
        };
        let mut edits = Edits::default();
        edits.replace(range.clone(), new.clone());
        let event: Bytes = edited(event, edits);
        Passed::Replace(event)
    }
}
