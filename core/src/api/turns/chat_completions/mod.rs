//! OpenAI's Chat Completions API: the chunks of all turns as one completion's.
//!
//! Every chunk has the first turn's id. The role is given once. Of a chunk that has part of an
//! injected call, that part is cut out, and the chunk is left out where nothing else is in it. A
//! turn that has no such call when it finishes is the last; otherwise what finishes it waits for
//! `[DONE]`, and goes with the turn if the loop goes on.
//!
//! Only the first choice can be continued; others pass as they come.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;

use chunk::{CallDelta, Chunk, Delta};
use message::OpenCall;

use super::{
    MAX_TURN, Passed, ToolCall, Turn, edited, history::Strings, joined, usual::Usual, whole,
};
use crate::{
    api::{
        Inspected,
        edits::Edits,
        read::{self, decoded},
        usage::Counts,
    },
    sse,
};

mod body;
mod chunk;
mod message;

/// Follows the turns of a completion.
#[derive(Debug)]
pub(in crate::api::turns) struct Merge {
    /// The usage chunk was not the client's wish.
    withholds_usage: bool,
    /// The first turn's id, with its quotes.
    id: Option<String>,
    role_given: bool,
    /// What this turn's message says.
    message: Strings,
    /// Its `reasoning_details`: elements of an array.
    details: Vec<u8>,
    /// Bytes kept of it.
    kept: usize,
    calls: Vec<OpenCall>,
    finish: Option<String>,
    /// The turn has finished without an injected call.
    is_last: bool,
    /// What waits for the end of the turn.
    held: Vec<Held>,
    /// The last count that the client wants and has not been given, as a chunk of its own: what it
    /// gets where the last turn has none.
    untold: Option<(sse::Event, Edits)>,
    usual: Usual,
}

/// A chunk that waits, and what changes in it.
#[derive(Debug)]
struct Held {
    event: sse::Event,
    edits: Edits,
    has_usage: bool,
    /// Where the reason stands to have finished.
    finish: Option<Range<usize>>,
}

impl Merge {
    pub(in crate::api::turns) fn new(inspected: &Inspected) -> Self {
        Self {
            withholds_usage: inspected.edit.is_some(),
            id: None,
            role_given: false,
            message: Strings::default(),
            details: Vec::new(),
            kept: 0,
            calls: Vec::new(),
            finish: None,
            is_last: false,
            held: Vec::new(),
            untold: None,
            usual: Usual::default(),
        }
    }

    pub(in crate::api::turns) fn event(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
        if turn.end.is_some() {
            return if turn.goes_on() {
                Passed::Withhold
            } else {
                Passed::Relay
            };
        }
        let data = event.data();
        if let Some(text) = self.usual.text(&data) {
            if self.keep(text.len()) {
                self.message.push_at(self.usual.place.0, &data[text]);
            }
            return self.usual.pass(event);
        }
        if data.trim_ascii() == b"[DONE]" {
            return self.done(event, turn);
        }
        match Chunk::read(&data) {
            Some(chunk) => self.chunk(event, &data, &chunk, turn),
            None => Passed::Relay,
        }
    }

    /// The stream has ended. `[DONE]` is no part of what a turn says, and some servers leave it
    /// out.
    pub(in crate::api::turns) fn end(&mut self, turn: &mut Turn) -> Bytes {
        if turn.end.is_some() {
            return Bytes::new();
        }
        self.decide(turn);
        if turn.goes_on() {
            return Bytes::new();
        }
        let has_finished = self.finish.is_some();
        joined(self.last_events(turn, has_finished))
    }

    /// How many bytes it keeps.
    pub(in crate::api::turns) fn buffered(&self) -> usize {
        let calls = self.calls.iter();
        let calls: usize = calls.map(|open| open.call.len() + open.others.len()).sum();
        let held: usize = self.held.iter().map(|held| held.event.raw().len()).sum();
        self.message.len() + self.details.len() + calls + held
    }

    pub(in crate::api::turns) fn next_turn(&mut self) {
        *self = Self {
            withholds_usage: self.withholds_usage,
            id: self.id.take(),
            role_given: self.role_given,
            untold: self.untold.take(),
            ..Self::new(&Inspected::default())
        };
    }

    /// The turn calls an injected tool.
    pub(in crate::api::turns) fn has_injected(&self) -> bool {
        self.calls.iter().any(|call| call.is_injected)
    }

    fn done(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
        self.decide(turn);
        if turn.goes_on() {
            return Passed::Withhold;
        }
        let mut events = self.last_events(turn, true);
        if events.is_empty() {
            return Passed::Relay;
        }
        events.push(whole(event));
        Passed::Replace(joined(events))
    }

    /// What the client is still to get when the last turn is over, in place of its own count that
    /// of the turns before if it gave none.
    fn last_events(&mut self, turn: &Turn, with_usage: bool) -> Vec<Bytes> {
        let mut events = self.held_events(turn);
        if let Some((event, edits)) = self.untold.take().filter(|_| with_usage) {
            events.push(edited(&event, edits));
        }
        events
    }

    fn held_events(&mut self, turn: &Turn) -> Vec<Bytes> {
        let mut held = std::mem::take(&mut self.held);
        if held.iter().any(|held| held.has_usage) {
            self.untold = None;
        }
        // Usage is the last word, also of a server that says it first.
        held.sort_by_key(|held| held.finish.is_none());
        let held = held.into_iter();
        held.map(
            |Held {
                 event,
                 mut edits,
                 finish,
                 ..
             }| {
                if let Some(finish) = finish.filter(|_| self.leaves_no_calls(turn)) {
                    edits.replace(finish, "\"stop\"");
                }
                edited(&event, edits)
            },
        )
        .collect()
    }

    /// The turn says that tools are to be used, and the client sees none.
    fn leaves_no_calls(&self, turn: &Turn) -> bool {
        turn.leaves_no_calls() && self.finish.as_deref() == Some("tool_calls")
    }

    fn decide(&mut self, turn: &mut Turn) {
        let calls = self.calls.iter().filter(|call| call.is_injected);
        turn.calls = calls.map(|call| call.call.clone()).collect();
        turn.calls_own = self.calls.iter().any(|call| !call.is_injected);
        let is_proper = is_tool_use(self.finish.as_deref());
        turn.decide(is_proper, |calls| {
            (self.kept <= MAX_TURN).then(|| self.message(calls))
        });
    }

    /// Counts what is to be kept; above the limit, nothing is.
    fn keep(&mut self, len: usize) -> bool {
        self.kept = self.kept.saturating_add(len);
        self.kept <= MAX_TURN
    }

    fn chunk(
        &mut self,
        event: &sse::Event,
        data: &[u8],
        chunk: &Chunk<'_>,
        turn: &mut Turn,
    ) -> Passed {
        if chunk.has_error {
            turn.failed = true;
            // It is the last word.
            self.held.clear();
            self.untold = None;
            return Passed::Relay;
        }
        if let Some(range) = &chunk.usage {
            let usage = read::document(&data[range.clone()], Counts::read);
            turn.used = usage.flatten().unwrap_or_default();
        }
        let id_edit = self.name(chunk);
        if chunk.usage.is_some() && !self.withholds_usage {
            let mut edits = chunk.edits(data, id_edit.as_ref(), turn);
            edits.replace(chunk.choices_range.clone(), "[]");
            self.untold = Some((event.clone(), edits));
        }
        let passed = self.take(event, data, chunk, id_edit, turn);
        if chunk.usage.is_some() && passed != Passed::Withhold {
            self.untold = None;
        }
        passed
    }

    /// What becomes of a chunk that is no error.
    fn take(
        &mut self,
        event: &sse::Event,
        data: &[u8],
        chunk: &Chunk<'_>,
        id_edit: Option<(Range<usize>, String)>,
        turn: &mut Turn,
    ) -> Passed {
        let mut edits = chunk.edits(data, id_edit.as_ref(), turn);
        if chunk.choices == Some(0) && chunk.usage.is_some() {
            return self.usage_chunk(event, edits);
        }
        let Some(choice) = &chunk.first else {
            return passed(event, edits);
        };
        let is_kept = self.keep(data.len());
        let mut place = 0;
        for (name, text, _) in &choice.delta.strings {
            if is_kept {
                place = self.message.push(&name.decode(), text.raw().as_bytes());
            }
        }
        let details = choice.delta.details.clone();
        let details = details.and_then(|range| data.get(range));
        let details = details.unwrap_or_default().trim_ascii();
        if is_kept && !details.is_empty() {
            if !self.details.is_empty() {
                self.details.push(b',');
            }
            self.details.extend_from_slice(details);
        }
        let visible = self.cut(data, &choice.delta, turn, is_kept, &mut edits);
        if let Some((reason, range)) = &choice.finish {
            self.finish = Some(reason.decode().into_owned());
            self.is_last = !self.has_injected();
            if !self.is_last {
                if visible != Visible::Something && chunk.choices == Some(1) {
                    return self.hold(event, edits, chunk.usage.is_some(), range);
                }
                // What else it says goes on its way.
                edits.replace(range.clone(), "null");
                let mut later = chunk.edits(data, id_edit.as_ref(), turn);
                if let Some(delta) = choice.delta.range.clone() {
                    later.replace(delta, "{}");
                }
                self.hold(event, later, chunk.usage.is_some(), range);
                return Passed::Replace(edited(event, edits));
            }
            if !self.held.is_empty() {
                let mut events = self.held_events(turn);
                events.insert(0, edited(event, edits));
                return Passed::Replace(joined(events));
            }
            return passed(event, edits);
        }
        if visible == Visible::Nothing && chunk.choices == Some(1) {
            return Passed::Withhold;
        }
        if let [(_, _, text)] = &*choice.delta.strings
            && is_kept
            && chunk.choices == Some(1)
            && chunk.usage.is_none()
            && choice.delta.is_text()
        {
            self.usual.learn(
                data,
                text.clone(),
                chunk.padding.clone(),
                id_edit,
                (place, 0),
            );
        }
        passed(event, edits)
    }

    /// Sees to the id; gives what makes it the first turn's.
    fn name(&mut self, chunk: &Chunk<'_>) -> Option<(Range<usize>, String)> {
        let (id, range) = chunk.id.as_ref()?;
        let id = format!("\"{}\"", id.raw());
        let range = range.start - 1..range.end + 1;
        let first = self.id.get_or_insert_with(|| id.clone());
        (*first != id).then(|| (range, first.clone()))
    }

    fn usage_chunk(&mut self, event: &sse::Event, edits: Edits) -> Passed {
        if self.withholds_usage {
            return Passed::Withhold;
        }
        if self.is_last {
            return passed(event, edits);
        }
        // A server may repeat its count; the last one counts.
        self.held.retain(|held| held.finish.is_some());
        let event = event.clone();
        self.held.push(Held {
            event,
            edits,
            has_usage: true,
            finish: None,
        });
        Passed::Withhold
    }

    /// Cuts out of a choice what the client is not to see.
    fn cut(
        &mut self,
        data: &[u8],
        delta: &Delta<'_>,
        turn: &Turn,
        is_kept: bool,
        edits: &mut Edits,
    ) -> Visible {
        let mut own = Vec::with_capacity(delta.calls.len());
        for call in &delta.calls {
            let place = self.place(call, turn, is_kept);
            if is_kept {
                self.calls[place].add(call, data);
            }
            own.push(!self.calls[place].is_injected);
            self.renumber(place, call, edits);
        }
        let all_calls_cut = !own.is_empty() && !own.contains(&true);
        let role_cut = delta.role.is_some() && std::mem::replace(&mut self.role_given, true);
        if !all_calls_cut {
            edits.cut(data, &delta.call_spans, |nth| own.get(nth) != Some(&false));
        }
        edits.cut(data, &delta.spans, |nth| {
            !(all_calls_cut && delta.calls_member == Some(nth)
                || role_cut && delta.role == Some(nth))
        });
        let says_something = delta
            .strings
            .iter()
            .any(|(_, text, _)| !text.raw().is_empty())
            || own.contains(&true)
            || delta.role.is_some() && !role_cut
            || delta.has_others;
        match says_something {
            true => Visible::Something,
            false if all_calls_cut || role_cut => Visible::Nothing,
            false => Visible::Empty,
        }
    }

    /// The client's calls count from zero where one before them was left out. Otherwise they count
    /// as they came.
    fn renumber(&self, place: usize, call: &CallDelta<'_>, edits: &mut Edits) {
        let Some((index, range)) = &call.index else {
            return;
        };
        let before = self.calls[..place].iter();
        let own = before.filter(|call| !call.is_injected).count();
        let is_injected = self.calls[place].is_injected;
        if own < place && !is_injected && *index != own as u64 {
            edits.replace(range.clone(), own.to_string());
        }
    }

    /// Holds what finishes a turn; of more than may be kept, the last.
    fn hold(
        &mut self,
        event: &sse::Event,
        edits: Edits,
        has_usage: bool,
        finish: &Range<usize>,
    ) -> Passed {
        if self.kept > MAX_TURN {
            self.held.retain(|held| held.finish.is_none());
        }
        self.held.push(Held {
            event: event.clone(),
            edits,
            has_usage,
            finish: Some(finish.clone()),
        });
        Passed::Withhold
    }

    /// The call that a delta belongs to, a new one where it begins one.
    ///
    /// By the book a call has an index of its own, and its id and name come once. Some servers
    /// leave the index out, or give all calls the same one, or repeat the id. So a call begins with
    /// an unknown index, or with another id and a name. Above the limit no call is run: of those
    /// that begin there nothing is kept but that they are there.
    fn place(&mut self, delta: &CallDelta<'_>, turn: &Turn, is_kept: bool) -> usize {
        let (id, name) = (decoded(delta.id), decoded(delta.name));
        let index = delta.index.as_ref().map(|(index, _)| *index);
        let known = self
            .calls
            .iter()
            .rposition(|call| index.is_none() || call.index == index);
        if let Some(place) = known {
            let known = &self.calls[place].call.id;
            let is_another =
                !name.is_empty() && !id.is_empty() && !known.is_empty() && **known != *id;
            if !is_another {
                return place;
            }
        }
        let is_injected = turn.is_injected(&name);
        let hidden = self.calls.iter().rposition(|call| call.is_injected);
        if let Some(place) = hidden.filter(|_| is_injected && !is_kept) {
            return place;
        }
        let kept = |text: Cow<'_, str>| {
            if is_kept {
                text.into_owned()
            } else {
                String::new()
            }
        };
        self.calls.push(OpenCall {
            index,
            is_injected,
            others: String::new(),
            call: ToolCall {
                id: kept(id),
                name: kept(name),
                arguments: String::new(),
            },
        });
        self.calls.len() - 1
    }
}

/// What is left of a chunk for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visible {
    /// Nothing, as it came.
    Empty,
    /// Nothing, since what it had was cut out.
    Nothing,
    Something,
}

fn passed(event: &sse::Event, edits: Edits) -> Passed {
    if edits.is_empty() {
        Passed::Relay
    } else {
        Passed::Replace(edited(event, edits))
    }
}

/// Some servers finish with `stop` although they call tools.
fn is_tool_use(finish: Option<&str>) -> bool {
    matches!(finish, Some("tool_calls" | "stop"))
}
