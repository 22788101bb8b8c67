//! OpenAI's Responses API: the last turn, as upstream sent it.
//!
//! An event's `output_index`, `sequence_number` and response id mean something within one response
//! only. So turns are not merged: each is held until it is known to call no injected tool, and is
//! then let go. That is known when the turn ends, or when a message begins that says of itself that
//! it is the final answer. Only the usage is changed, to count all turns.
//!
//! A turn that calls both injected tools and the client's is let go without the former: their
//! events and output items are left out, and the items after them move up.

use bytes::Bytes;

use event::{Event, Item, Response};

use super::{MAX_TURN, Passed, Turn, edited, element::Element, whole};
use crate::{
    api::{edits::Edits, read},
    codec::Step,
    sse,
};

mod body;
mod event;

/// Follows the turns of a response.
#[derive(Debug, Default)]
pub(in crate::api::turns) struct Merge {
    /// The turn's bytes so far, where they are held.
    held: Vec<u8>,
    /// The turn has been let go: events pass.
    passes: bool,
    /// More was to be held than may be.
    overflows: bool,
    /// The output items as they came, comma-separated.
    items: Vec<u8>,
    /// The places of injected calls.
    hidden: Vec<u64>,
    has_injected: bool,
}

impl Merge {
    pub(in crate::api::turns) fn event(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
        if turn.end.is_some() {
            return if turn.goes_on() {
                Passed::Withhold
            } else {
                Passed::Relay
            };
        }
        let name = event.name();
        // Of pieces, only the place may have to change.
        if name.ends_with(b".delta") && (self.hidden.is_empty() || !self.passes) {
            return self.pass(event);
        }
        let data = event.data();
        let Some(read) = Event::read(&data) else {
            return self.pass(event);
        };
        let name = str::from_utf8(name).unwrap_or_default();
        let kind = read.kind.map(|kind| kind.decode());
        match kind.as_deref().unwrap_or(name) {
            "response.output_item.added" => {
                if let Some(item) = read.item(&data) {
                    return self.added(event, &read, &item, turn);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = read.item(&data) {
                    self.done(&item, turn);
                    self.hide(&read, &item, turn);
                }
            }
            "error" => {
                turn.failed = true;
                let mut bytes = self.take_held().to_vec();
                bytes.extend_from_slice(&whole(event));
                return Passed::Replace(bytes.into());
            }
            kind @ ("response.completed" | "response.failed" | "response.incomplete") => {
                let is_proper = kind == "response.completed";
                return self.terminal(event, &data, &read, is_proper, turn);
            }
            _ => {}
        }
        self.pass(event)
    }

    /// Bytes that are no event are held in their place.
    pub(in crate::api::turns) fn raw(&mut self, raw: &Bytes, turn: &Turn) -> Passed {
        if turn.goes_on() {
            return Passed::Withhold;
        }
        if self.passes || turn.end.is_some() {
            return Passed::Relay;
        }
        if self.hold(raw) || self.has_injected {
            return Passed::Withhold;
        }
        self.let_go(raw)
    }

    /// The stream has ended: without its terminal event, or that has been seen to.
    pub(in crate::api::turns) fn end(&mut self, turn: &mut Turn) -> Bytes {
        if turn.end.is_some() {
            return Bytes::new();
        }
        turn.failed = true;
        self.decide(false, turn);
        if turn.goes_on() {
            return Bytes::new();
        }
        self.take_held()
    }

    /// How many bytes it keeps.
    pub(in crate::api::turns) fn buffered(&self) -> usize {
        self.held.len() + self.items.len()
    }

    pub(in crate::api::turns) fn next_turn(&mut self) {
        *self = Self::default();
    }

    fn pass(&mut self, event: &sse::Event) -> Passed {
        if self.passes {
            return self.shown(event);
        }
        let event = whole(event);
        if self.hold(&event) || self.has_injected {
            return Passed::Withhold;
        }
        // Too long to be held, and nothing speaks against letting it go.
        self.let_go(&event)
    }

    /// Whether there was room for it.
    fn hold(&mut self, bytes: &[u8]) -> bool {
        self.overflows |= self.held.len() + bytes.len() > MAX_TURN;
        if !self.overflows {
            self.held.extend_from_slice(bytes);
        }
        !self.overflows
    }

    /// From here on, events pass; these bytes first.
    fn let_go(&mut self, bytes: &[u8]) -> Passed {
        self.passes = true;
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        Passed::Replace(held.into())
    }

    fn added(
        &mut self,
        event: &sse::Event,
        read: &Event<'_>,
        item: &Item<'_>,
        turn: &Turn,
    ) -> Passed {
        self.hide(read, item, turn);
        let is_answer = item.phase.is_some_and(|phase| phase.is("final_answer"));
        if is_answer && !self.has_injected && !self.passes {
            return self.let_go(&whole(event));
        }
        self.pass(event)
    }

    /// Takes note of an item that is an injected call.
    fn hide(&mut self, read: &Event<'_>, item: &Item<'_>, turn: &Turn) {
        if !item.is_injected(turn) {
            return;
        }
        self.has_injected = true;
        let place = read.output_index.as_ref().map(|(index, _)| *index);
        if let Some(place) = place.filter(|place| !self.hidden.contains(place)) {
            self.hidden.push(place);
        }
    }

    /// Takes an output item that is complete.
    fn done(&mut self, item: &Item<'_>, turn: &mut Turn) {
        if self.items.len() + item.text.len() <= MAX_TURN {
            if !self.items.is_empty() {
                self.items.push(b',');
            }
            self.items.extend_from_slice(item.text);
        } else {
            self.overflows = true;
        }
        item.note(turn);
    }

    fn terminal(
        &mut self,
        event: &sse::Event,
        data: &[u8],
        read: &Event<'_>,
        is_proper: bool,
        turn: &mut Turn,
    ) -> Passed {
        let response = read.response.clone().and_then(|range| data.get(range));
        let response = response.and_then(Response::read).unwrap_or_default();
        let at = read.response.as_ref().map_or(0, |range| range.start);
        turn.used = response.counts.clone().unwrap_or_default();
        let outputs = response.items(&data[at..]);
        if self.items.is_empty() {
            for item in &outputs {
                self.done(item, turn);
            }
        }
        let shown: Vec<_> = outputs.iter().map(|item| !item.is_injected(turn)).collect();
        self.decide(is_proper, turn);
        if turn.goes_on() {
            self.held = Vec::new();
            return Passed::Withhold;
        }
        let mut edits = response.edits(&data[at..], &shown, turn);
        edits.shift(at);
        let is_changed = !edits.is_empty();
        let last = edited(event, edits);
        if !self.passes {
            let mut bytes = self.take_held().to_vec();
            bytes.extend_from_slice(&last);
            return Passed::Replace(bytes.into());
        }
        if is_changed {
            Passed::Replace(last)
        } else {
            Passed::Relay
        }
    }

    fn decide(&mut self, is_proper: bool, turn: &mut Turn) {
        // What has been let go cannot be taken back: the client may have answered to it.
        turn.calls_own |= self.passes;
        let items = std::mem::take(&mut self.items);
        let is_kept = !self.overflows;
        turn.decide(is_proper, |_| is_kept.then_some(items));
        if self.overflows && self.has_injected && !self.passes {
            turn.end = Some(super::TurnEnd::TooLong);
        }
    }

    /// What was held, without injected calls.
    fn take_held(&mut self) -> Bytes {
        let held = Bytes::from(std::mem::take(&mut self.held));
        self.passes = true;
        if self.hidden.is_empty() {
            return held;
        }
        let mut shown = Vec::with_capacity(held.len());
        let mut decoder = sse::Decoder::new(MAX_TURN);
        decoder.push(held);
        decoder.end();
        while let Step::Item(item) = decoder.next() {
            let passed = match &item {
                sse::Item::Event(event) => self.shown(event),
                sse::Item::Raw(_) => Passed::Relay,
            };
            match passed {
                Passed::Relay => shown.extend_from_slice(item.raw()),
                Passed::Replace(bytes) => shown.extend_from_slice(&bytes),
                Passed::Withhold => {}
            }
        }
        shown.into()
    }

    /// An event on its way to the client: not one of a hidden item, and in its new place.
    fn shown(&self, event: &sse::Event) -> Passed {
        if self.hidden.is_empty() {
            return Passed::Relay;
        }
        let data = event.data();
        let place = Event::read(&data).and_then(|read| read.output_index);
        let Some((index, range)) = place else {
            return Passed::Relay;
        };
        if self.hidden.contains(&index) {
            return Passed::Withhold;
        }
        let before = self.hidden.iter().filter(|hidden| **hidden < index).count();
        if before == 0 {
            return Passed::Relay;
        }
        let mut edits = Edits::default();
        edits.replace(range, (index - before as u64).to_string());
        Passed::Replace(edited(event, edits))
    }
}

/// The items of a turn as they may stand in a request to a provider that stores nothing: it would
/// look in vain for a thought that comes by its id alone, and refuse the request.
pub(in crate::api::turns) fn without_bare_thoughts(items: Vec<u8>) -> Vec<u8> {
    let array = [b"[", &*items, b"]"].concat();
    let read = read::document(&array, Element::read_all).flatten();
    let Some((_, elements)) = read else {
        return items;
    };
    let texts = elements.iter().map(|it| &array[it.value.clone()]);
    let is_bare = |text: &&[u8]| Item::read(text).is_some_and(|item| item.is_bare_thought());
    let kept: Vec<_> = texts.filter(|text| !is_bare(text)).collect();
    kept.join(&b","[..])
}
