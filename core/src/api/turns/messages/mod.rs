//! Anthropic's Messages API: blocks of all turns in one message.
//!
//! The first turn's `message_start` is the reply's. Blocks are numbered through; those of injected
//! calls are left out. A turn without such a call is the last, so its `message_delta` and
//! `message_stop` leave at once; otherwise they wait for the verdict, and go with the turn if the
//! loop goes on.

use bytes::Bytes;

use block::{Block, Members, ToolUse, message};
use event::Event;

use super::{MAX_TURN, Passed, Turn, edited, history::Strings, joined, usual::Usual, whole};
use crate::{
    api::{
        edits::Edits,
        read::{self, inside, skip},
    },
    json::{Error, Kind, Scanner},
    sse,
};

mod block;
mod body;
mod event;

/// Follows the turns of a message.
#[derive(Debug, Default)]
pub(in crate::api::turns) struct Merge {
    /// The index of the client's next block.
    next: u64,
    /// This turn's blocks.
    blocks: Vec<Block>,
    /// Bytes of them.
    kept: usize,
    /// What `message_delta` said.
    stop: Option<String>,
    /// The `message_delta`s that wait for the end of the turn.
    held: Vec<sse::Event>,
    usual: Usual,
    /// Blocking: text blocks of earlier turns, as they came.
    texts: Vec<u8>,
}

impl Merge {
    pub(in crate::api::turns) fn event(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
        if event.name() == b"ping" {
            return Passed::Relay;
        }
        if turn.end.is_some() {
            return if turn.goes_on() {
                Passed::Withhold
            } else {
                Passed::Relay
            };
        }
        let data = event.data();
        if let Some(text) = self.usual.text(&data) {
            let (block, string) = self.usual.place;
            if self.keep(text.len())
                && let Some(block) = self.blocks.get_mut(block)
            {
                block.strings.push_at(string, &data[text]);
            }
            return self.usual.pass(event);
        }
        let Some(read) = Event::read(&data) else {
            return Passed::Relay;
        };
        let name = str::from_utf8(event.name()).unwrap_or_default();
        let kind = read.kind.map(|kind| kind.decode());
        match kind.as_deref().unwrap_or(name) {
            "message_start" => Self::message_start(&read, turn),
            "content_block_start" => self.start(event, &data, &read, turn),
            "content_block_delta" => self.delta(event, &data, &read),
            "content_block_stop" => self.stop(event, &read),
            "message_delta" => self.message_delta(event, &data, read, turn),
            "message_stop" => self.message_stop(event, turn),
            "error" => {
                turn.failed = true;
                // It is the last word.
                self.held.clear();
                Passed::Relay
            }
            _ => Passed::Relay,
        }
    }

    /// The stream has ended.
    pub(in crate::api::turns) fn end(&mut self, turn: &mut Turn) -> Bytes {
        if turn.end.is_some() {
            return Bytes::new();
        }
        turn.failed = true;
        self.decide(turn);
        joined(self.held_events(turn))
    }

    /// How many bytes it keeps.
    pub(in crate::api::turns) fn buffered(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::len).sum();
        let held: usize = self.held.iter().map(|event| event.raw().len()).sum();
        blocks + held + self.texts.len()
    }

    pub(in crate::api::turns) fn next_turn(&mut self) {
        *self = Self {
            next: self.next,
            texts: std::mem::take(&mut self.texts),
            ..Self::default()
        };
    }

    /// The turn calls an injected tool.
    pub(in crate::api::turns) fn has_injected(&self) -> bool {
        self.blocks.iter().any(|block| block.call.is_some())
    }

    fn message_start(read: &Event<'_>, turn: &mut Turn) -> Passed {
        if let Some(usage) = &read.message_usage {
            turn.used.replace(usage.clone());
        }
        if turn.nth == 0 {
            Passed::Relay
        } else {
            Passed::Withhold
        }
    }

    fn start(
        &mut self,
        event: &sse::Event,
        data: &[u8],
        read: &Event<'_>,
        turn: &mut Turn,
    ) -> Passed {
        let range = read.block.clone().unwrap_or_default();
        let start = data.get(range).unwrap_or_default();
        let block = ToolUse::read(start);
        let call = block.filter(|block| turn.is_injected(&block.call.name));
        turn.calls_own |= call.is_none() && ToolUse::read(start).is_some();
        let to = call.is_none().then_some(self.next);
        self.next += u64::from(to.is_some());
        let start = if self.keep(start.len()) { start } else { b"" };
        self.blocks.push(Block {
            index: read.index.as_ref().map(|(index, _)| *index),
            to,
            start: start.to_vec(),
            strings: Strings::default(),
            citations: Vec::new(),
            call: call.map(|block| block.call),
        });
        self.usual.forget();
        renumbered(event, read, to)
    }

    fn delta(&mut self, event: &sse::Event, data: &[u8], read: &Event<'_>) -> Passed {
        let Some(place) = self.place(read) else {
            return Passed::Relay;
        };
        let is_kept = self.keep(data.len());
        let block = &mut self.blocks[place];
        let to = block.to;
        if !is_kept {
            return renumbered(event, read, to);
        }
        for (name, value, range) in &read.delta.strings {
            let string = block.strings.push(&name.decode(), value.raw().as_bytes());
            if to.is_some() && read.delta.is_one_string {
                let edit = read.renumber(to);
                self.usual
                    .learn(data, range.clone(), None, edit, (place, string));
            }
        }
        if let Some(citation) = read.delta.citation.clone().and_then(|it| data.get(it)) {
            if !block.citations.is_empty() {
                block.citations.push(b',');
            }
            block.citations.extend_from_slice(citation);
        }
        renumbered(event, read, to)
    }

    fn stop(&mut self, event: &sse::Event, read: &Event<'_>) -> Passed {
        match self.place(read) {
            Some(place) => renumbered(event, read, self.blocks[place].to),
            None => Passed::Relay,
        }
    }

    /// The block that an event is about: the latest of its index.
    fn place(&self, read: &Event<'_>) -> Option<usize> {
        let (index, _) = read.index.as_ref()?;
        self.blocks
            .iter()
            .rposition(|block| block.index == Some(*index))
    }

    fn message_delta(
        &mut self,
        event: &sse::Event,
        data: &[u8],
        read: Event<'_>,
        turn: &mut Turn,
    ) -> Passed {
        if let Some(reason) = &read.delta.stop_reason {
            self.stop = Some(reason.decode().into_owned());
        }
        if let Some(usage) = read.usage {
            turn.used.replace(usage);
        }
        if self.has_injected() {
            // Where there are more than may be kept, the last word counts.
            if !self.keep(event.raw().len()) {
                self.held.clear();
            }
            self.held.push(event.clone());
            return Passed::Withhold;
        }
        let edits = end_edits(data, turn);
        if edits.is_empty() {
            return Passed::Relay;
        }
        Passed::Replace(edited(event, edits))
    }

    fn message_stop(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
        self.decide(turn);
        if turn.goes_on() {
            return Passed::Withhold;
        }
        let mut events = self.held_events(turn);
        if events.is_empty() {
            return Passed::Relay;
        }
        events.push(whole(event));
        Passed::Replace(joined(events))
    }

    fn held_events(&mut self, turn: &Turn) -> Vec<Bytes> {
        let held = std::mem::take(&mut self.held);
        let events = held.iter();
        events
            .map(|event| edited(event, end_edits(&event.data(), turn)))
            .collect()
    }

    fn decide(&mut self, turn: &mut Turn) {
        let blocks = &mut self.blocks;
        for block in blocks.iter_mut() {
            let Some(mut call) = block.call.take() else {
                continue;
            };
            let streamed = block.strings.text("partial_json");
            if !streamed.trim_ascii().is_empty() {
                call.arguments = streamed;
            }
            turn.calls.push(call);
        }
        let is_proper = self.stop.as_deref() == Some("tool_use");
        let is_kept = self.kept <= MAX_TURN;
        turn.decide(is_proper, |_| is_kept.then(|| message(blocks)));
    }

    /// Counts what is to be kept; above the limit, nothing is.
    fn keep(&mut self, len: usize) -> bool {
        self.kept = self.kept.saturating_add(len);
        self.kept <= MAX_TURN
    }
}

fn renumbered(event: &sse::Event, read: &Event<'_>, to: Option<u64>) -> Passed {
    if to.is_none() {
        return Passed::Withhold;
    }
    let Some((range, index)) = read.renumber(to) else {
        return Passed::Relay;
    };
    let mut edits = Edits::default();
    edits.replace(range, index);
    Passed::Replace(edited(event, edits))
}

/// What changes in a `message_delta`, or in a whole message: usage counts all turns; and where
/// calls were left out and none is left, the turn has merely ended.
fn end_edits(text: &[u8], turn: &Turn) -> Edits {
    let mut edits = Edits::default();
    let mut usage = None;
    let mut reason = None;
    let mut stop_reason = |scan: &mut Scanner<'_>| -> Result<(), Error> {
        let text = scan.string_or_skip()?;
        let is_tool_use = text.is_some_and(|text| text.is("tool_use"));
        reason = is_tool_use.then(|| inside(text, scan)).flatten();
        Ok(())
    };
    read::document(text, |scan| {
        read::object(scan, |scan, name| match name {
            "delta" => read::object(scan, |scan, name| match name {
                "stop_reason" => stop_reason(scan),
                _ => skip(scan),
            })
            .map(drop),
            "stop_reason" => stop_reason(scan),
            "usage" if scan.kind()? == Kind::Object => scan.skip().map(|it| usage = Some(it)),
            _ => skip(scan),
        })
    });
    if let Some(reason) = reason.filter(|_| turn.leaves_no_calls()) {
        edits.replace(reason, "end_turn");
    }
    if let Some(range) = usage.filter(|_| turn.nth > 0) {
        raise_usage(&text[range.clone()], range.start, turn, &mut edits);
    }
    edits
}

/// Libraries take from `message_delta` what it has of these and keep `message_start`'s otherwise,
/// which is the first turn's alone.
fn raise_usage(usage: &[u8], at: usize, turn: &Turn, edits: &mut Edits) {
    turn.raise(usage, at, edits);
    let known = Members::read(usage);
    let mut missing = String::new();
    for name in [
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    ] {
        let (earlier, now) = (turn.earlier.get(name), turn.used.get(name));
        if earlier.is_none() && now.is_none() {
            continue;
        }
        let sum = earlier
            .unwrap_or_default()
            .saturating_add(now.unwrap_or_default());
        match known.0.iter().find(|(member, _, _)| member.is(name)) {
            // A number has grown already; anything else says nothing.
            Some((_, range, _)) if usage[range.clone()] == *b"null" => {
                edits.replace(at + range.start..at + range.end, sum.to_string());
            }
            Some(_) => {}
            None => missing.extend(["\"", name, "\":", &*sum.to_string(), ","]),
        }
    }
    if known.0.is_empty() {
        missing.pop();
    }
    edits.insert(at + 1, missing);
}
