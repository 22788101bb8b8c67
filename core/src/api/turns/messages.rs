//! Anthropic's Messages API: blocks of all turns in one message.
//!
//! The first turn's `message_start` is the reply's. Blocks are numbered through; those of injected calls are left
//! out. A turn without such a call is the last, so its `message_delta` and `message_stop` leave at once; otherwise
//! they wait for the verdict, and go with the turn if the loop goes on.

use std::ops::Range;

use bytes::Bytes;

use super::{
    Call, MAX_TURN, Passed, Turn, edited,
    history::{Strings, unescaped},
    joined,
    usual::Usual,
    whole,
};
use crate::{
    api::{
        edits::Edits,
        read::{self, decoded, inside, skip},
        usage::Counts,
    },
    json::{Error, Kind, Scanner, Str},
    sse,
};

/// Follows the turns of a message.
#[derive(Debug, Default)]
pub(super) struct Merge {
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
    failed: bool,
    usual: Usual,
    /// Blocking: text blocks of earlier turns, as they came.
    texts: Vec<u8>,
}

/// A content block.
#[derive(Debug)]
struct Block {
    /// What upstream calls it.
    index: Option<u64>,
    /// What the client does; `None` where it does not get the block.
    to: Option<u64>,
    /// As it began, and what was added.
    start: Vec<u8>,
    strings: Strings,
    /// The citations that were added: elements of an array.
    citations: Vec<u8>,
    /// The injected call that it is.
    call: Option<Call>,
}

// ---- streaming

impl Merge {
    pub(super) fn event(&mut self, event: &sse::Event, turn: &mut Turn) -> Passed {
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
            "message_start" => self.message_start(&read, turn),
            "content_block_start" => self.start(event, &data, &read, turn),
            "content_block_delta" => self.delta(event, &data, &read),
            "content_block_stop" => self.stop(event, &read),
            "message_delta" => self.message_delta(event, &data, read, turn),
            "message_stop" => self.message_stop(event, turn),
            "error" => {
                self.failed = true;
                Passed::Relay
            }
            _ => Passed::Relay,
        }
    }

    /// The stream has ended.
    pub(super) fn end(&mut self, turn: &mut Turn) -> Bytes {
        if turn.end.is_some() {
            return Bytes::new();
        }
        self.failed = true;
        self.decide(turn);
        joined(self.held_events(turn))
    }

    pub(super) fn next_turn(&mut self) {
        *self = Self {
            next: self.next,
            texts: std::mem::take(&mut self.texts),
            ..Self::default()
        };
    }

    fn message_start(&self, read: &Event<'_>, turn: &mut Turn) -> Passed {
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
        if self.blocks.iter().any(|block| block.call.is_some()) {
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
        let is_proper = !self.failed && self.stop.as_deref() == Some("tool_use");
        let is_kept = self.kept <= MAX_TURN;
        turn.decide(is_proper, |_| is_kept.then(|| message(blocks)));
    }

    /// Counts what is to be kept; above the limit, nothing is.
    fn keep(&mut self, len: usize) -> bool {
        self.kept = self.kept.saturating_add(len);
        self.kept <= MAX_TURN
    }
}

/// The assistant's message, from blocks that were streamed.
fn message(blocks: &[Block]) -> Vec<u8> {
    let mut message = b"{\"role\":\"assistant\",\"content\":[".to_vec();
    let mut is_first = true;
    for block in blocks {
        let block = block.whole();
        if is_empty_text(&block) {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            message.push(b',');
        }
        message.extend_from_slice(&block);
    }
    message.extend_from_slice(b"]}");
    message
}

impl Block {
    /// The block as it would have come in one piece.
    fn whole(&self) -> Vec<u8> {
        let mut edits = Edits::default();
        let mut added = b"{".to_vec();
        let known = Members::read(&self.start);
        let value = |name: &str| known.0.iter().find(|(known, _, _)| known.is(name));
        let mut put_value = |name: &str, new: Vec<u8>| match value(name) {
            Some((_, range, _)) => edits.replace(range.clone(), new),
            None => {
                if added.len() > 1 {
                    added.push(b',');
                }
                added.extend_from_slice(format!("\"{name}\":").as_bytes());
                added.extend_from_slice(&new);
            }
        };
        if !self.citations.is_empty() {
            put_value("citations", [b"[", &*self.citations, b"]"].concat());
        }
        for (name, raw) in self.strings.iter() {
            if name == "partial_json" {
                let input = unescaped(raw);
                if !input.trim_ascii().is_empty() {
                    put_value("input", input.into_bytes());
                }
                continue;
            }
            let before = value(name).and_then(|(_, _, string)| *string);
            let before = before.map(|string| string.raw().as_bytes());
            let text = [b"\"", before.unwrap_or_default(), raw, b"\""].concat();
            put_value(name, text);
        }
        let end = self.start.len().saturating_sub(1);
        if added.len() > 1 && self.start.ends_with(b"}") {
            if known.0.is_empty() {
                added.remove(0);
            } else {
                added[0] = b',';
            }
            edits.insert(end, added);
        }
        edits.apply(&self.start).to_vec()
    }
}

/// The members of an object: name, where the value stands, and the value if it is a string.
struct Members<'a>(Vec<(Str<'a>, Range<usize>, Option<Str<'a>>)>);

impl<'a> Members<'a> {
    fn read(object: &'a [u8]) -> Self {
        let members = read::document(object, |scan| {
            let mut members = Vec::new();
            if !scan.object_or_skip()? {
                return Ok(members);
            }
            while let Some(name) = scan.key()? {
                let mut ahead = scan.clone();
                let range = scan.skip()?;
                members.push((name, range, ahead.string_or_skip()?));
            }
            Ok(members)
        });
        Self(members.unwrap_or_default())
    }
}

/// Anthropic sends text blocks that stay empty, and refuses to take them back.
fn is_empty_text(block: &[u8]) -> bool {
    let (mut is_text, mut is_empty) = (false, false);
    read::document(block, |scan| {
        read::object(scan, |scan, name| {
            match name {
                "type" => is_text = scan.string_or_skip()?.is_some_and(|kind| kind.is("text")),
                "text" => is_empty = scan.string_or_skip()?.is_some_and(|it| it.raw().is_empty()),
                _ => skip(scan)?,
            }
            Ok(())
        })
    });
    is_text && is_empty
}

/// A block of the model's calling a tool that is not the provider's to run.
struct ToolUse {
    call: Call,
}

impl ToolUse {
    fn read(block: &[u8]) -> Option<Self> {
        let (mut kind, mut id, mut name, mut input) = (None, None, None, None);
        read::document(block, |scan| {
            read::object(scan, |scan, member| {
                match member {
                    "type" => kind = scan.string_or_skip()?,
                    "id" => id = scan.string_or_skip()?,
                    "name" => name = scan.string_or_skip()?,
                    "input" => input = Some(scan.skip()?),
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        if !kind?.is("tool_use") {
            return None;
        }
        let input = input.and_then(|range| str::from_utf8(block.get(range)?).ok());
        let call = Call {
            id: decoded(id).into_owned(),
            name: decoded(name).into_owned(),
            arguments: input.unwrap_or_default().to_owned(),
        };
        Some(Self { call })
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

/// What changes in a `message_delta`, or in a whole message: usage counts all turns; and where calls were left out
/// and none is left, the turn has merely ended.
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

/// Libraries take from `message_delta` what it has of these and keep `message_start`'s otherwise, which is the first
/// turn's alone.
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
            None => missing += &format!("\"{name}\":{sum},"),
        }
    }
    if known.0.is_empty() {
        missing.pop();
    }
    edits.insert(at + 1, missing);
}

/// All members that any event has of interest.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Str<'a>>,
    index: Option<(u64, Range<usize>)>,
    block: Option<Range<usize>>,
    delta: Delta<'a>,
    usage: Option<Counts>,
    message_usage: Option<Counts>,
}

#[derive(Default)]
struct Delta<'a> {
    /// Strings by name, and where they stand.
    strings: Vec<(Str<'a>, Str<'a>, Range<usize>)>,
    /// There is one, and nothing else but the type.
    is_one_string: bool,
    citation: Option<Range<usize>>,
    stop_reason: Option<Str<'a>>,
}

impl<'a> Event<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => event.kind = scan.string_or_skip()?,
                    "index" => {
                        let index = scan.u64_or_skip()?;
                        let end = scan.position();
                        event.index =
                            index.map(|index| (index, end - index.to_string().len()..end));
                    }
                    "content_block" => event.block = Some(scan.skip()?),
                    "delta" => event.delta = Delta::read(scan)?,
                    "usage" => event.usage = Counts::read(scan)?,
                    "message" => {
                        read::object(scan, |scan, name| match name {
                            "usage" => Counts::read(scan).map(|it| event.message_usage = it),
                            _ => skip(scan),
                        })?;
                    }
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(event)
    }

    /// What makes its index `to`; `None` where it is that already.
    fn renumber(&self, to: Option<u64>) -> Option<(Range<usize>, String)> {
        let (index, range) = self.index.as_ref()?;
        let to = to.filter(|to| to != index)?;
        Some((range.clone(), to.to_string()))
    }
}

impl<'a> Delta<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut delta = Self::default();
        let mut others = 0;
        if !scan.object_or_skip()? {
            return Ok(delta);
        }
        while let Some(name) = scan.key()? {
            if name.is("type") {
                skip(scan)?;
            } else if name.is("citation") {
                delta.citation = Some(scan.skip()?);
            } else if scan.kind()? == Kind::String {
                let text = scan.string()?;
                let range = inside(Some(text), scan).unwrap_or_default();
                if name.is("stop_reason") {
                    delta.stop_reason = Some(text);
                }
                delta.strings.push((name, text, range));
            } else {
                others += 1;
                skip(scan)?;
            }
        }
        delta.is_one_string = delta.strings.len() == 1 && others == 0 && delta.citation.is_none();
        Ok(delta)
    }
}

// ---- blocking

impl Merge {
    pub(super) fn body(&mut self, body: Bytes, turn: &mut Turn) -> Bytes {
        let Some(message) = Message::read(&body) else {
            turn.decide(false, |_| None);
            return body;
        };
        if let Some(usage) = &message.usage {
            turn.used = usage.clone();
        }
        let blocks: Vec<_> = message
            .blocks
            .iter()
            .map(|it| &body[it.value.clone()])
            .collect();
        let mut keep = Vec::with_capacity(blocks.len());
        for block in &blocks {
            let call = ToolUse::read(block);
            let is_call = call.is_some();
            let injected = call.filter(|block| turn.is_injected(&block.call.name));
            turn.calls_own |= is_call && injected.is_none();
            keep.push(injected.is_none());
            turn.calls.extend(injected.map(|block| block.call));
        }
        let is_proper = message.stop.as_deref() == Some("tool_use");
        turn.decide(is_proper, |_| {
            let mut elements = b"{\"role\":\"assistant\",\"content\":[".to_vec();
            let sound: Vec<_> = blocks
                .iter()
                .copied()
                .filter(|it| !is_empty_text(it))
                .collect();
            elements.extend_from_slice(&sound.join(&b","[..]));
            elements.extend_from_slice(b"]}");
            (elements.len() <= MAX_TURN).then_some(elements)
        });
        if turn.goes_on() {
            for block in blocks.iter().filter(|it| is_text(it) && !is_empty_text(it)) {
                self.texts.extend_from_slice(block);
                self.texts.push(b',');
            }
            return Bytes::new();
        }
        let mut edits = end_edits(&body, turn);
        if !self.texts.is_empty() {
            let mut texts = std::mem::take(&mut self.texts);
            if !keep.contains(&true) {
                texts.pop();
            }
            edits.insert(message.content, texts);
        }
        let spans: Vec<_> = message.blocks.iter().map(|it| it.span.clone()).collect();
        edits.cut(&body, &spans, |nth| keep[nth]);
        if edits.is_empty() {
            return body;
        }
        edits.apply(&body)
    }
}

fn is_text(block: &[u8]) -> bool {
    let members = Members::read(block);
    let mut kinds = members.0.iter().filter(|(name, _, _)| name.is("type"));
    kinds.any(|(_, _, kind)| kind.is_some_and(|kind| kind.is("text")))
}

/// A whole message.
struct Message {
    /// Behind the bracket that opens its content.
    content: usize,
    blocks: Vec<Element>,
    stop: Option<String>,
    usage: Option<Counts>,
}

/// An element of an array: with the comma before it, and without.
pub(super) struct Element {
    pub(super) span: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Element {
    /// Reads an array; gives where it opens, and its elements.
    pub(super) fn read_all(scan: &mut Scanner<'_>) -> Result<Option<(usize, Vec<Self>)>, Error> {
        if !scan.array_or_skip()? {
            return Ok(None);
        }
        let open = scan.position();
        let mut elements = Vec::new();
        loop {
            let start = scan.position();
            if !scan.element()? {
                return Ok(Some((open, elements)));
            }
            let value = scan.skip()?;
            let span = start..value.end;
            elements.push(Self { span, value });
        }
    }
}

impl Message {
    fn read(body: &[u8]) -> Option<Self> {
        let (mut content, mut stop, mut usage) = (None, None, None);
        read::document(body, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "content" => content = Element::read_all(scan)?,
                    "stop_reason" => {
                        stop = scan.string_or_skip()?.map(|it| it.decode().into_owned());
                    }
                    "usage" => usage = Counts::read(scan)?,
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        let (content, blocks) = content?;
        Some(Self {
            content,
            blocks,
            stop,
            usage,
        })
    }
}
