//! Anthropic's Messages API: `POST /v1/messages`.
//!
//! A stream is `message_start`, then for each content block `content_block_start`,
//! `content_block_delta`s and `content_block_stop`, then `message_delta` and `message_stop`; `ping`
//! and `error` may come anywhere. Deltas matter here only while a thinking or tool block is open: a
//! text delta is not even looked into.
//!
//! Usage comes twice: in `message_start`, and in `message_delta` with the final figures of those it
//! has. The second replaces the first, figure by figure; adding them would count output twice.

use std::ops::Range;

use crate::{
    api::{
        Inspected, Pass,
        read::{self, decoded, said, skip},
        reply::Notes,
        request::{self, owned},
        usage::Counts,
    },
    json::{Error, Kind, Scanner, Str},
    sse,
};

// ---- request

/// What a request says.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    prompt: Option<Str<'a>>,
    tool_result: Option<Str<'a>>,
    user_id: Option<Str<'a>>,
}

impl<'a> request::Request<'a> for Request<'a> {
    fn member(&mut self, name: &str, scan: &mut Scanner<'a>) -> Result<(), Error> {
        match name {
            "messages" => {
                (self.prompt, self.tool_result) = (None, None);
                read::array(scan, |scan| self.message(scan)).map(drop)
            }
            "metadata" => {
                self.user_id = None;
                read::object(scan, |scan, name| match name {
                    "user_id" => scan.string_or_skip().map(|id| self.user_id = id),
                    _ => skip(scan),
                })
                .map(drop)
            }
            _ => skip(scan),
        }
    }

    fn finish(self, _first_member: usize, inspected: &mut Inspected) {
        inspected.prompt = owned(self.prompt);
        inspected.tool_result = owned(self.tool_result);
        inspected.session = self.user_id.and_then(|id| session(&id.decode()));
    }
}

impl<'a> Request<'a> {
    /// The role may stand after the content, so both are read before either counts.
    fn message(&mut self, scan: &mut Scanner<'a>) -> Result<(), Error> {
        let mut is_user = false;
        let mut content = Content::default();
        read::object(scan, |scan, name| match name {
            "role" => scan
                .string_or_skip()
                .map(|role| is_user = role.is_some_and(|role| role.is("user"))),
            "content" => Content::read(scan).map(|read| content = read),
            _ => skip(scan),
        })?;
        if is_user {
            // A message of tool results alone carries no prompt, and what came before it is
            // answered.
            self.prompt = content.text;
        }
        self.tool_result = content.tool_result.or(self.tool_result);
        Ok(())
    }
}

/// The last text and the last tool result of a message.
#[derive(Debug, Default)]
struct Content<'a> {
    text: Option<Str<'a>>,
    tool_result: Option<Str<'a>>,
}

impl<'a> Content<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut content = Self::default();
        if scan.kind()? == Kind::String {
            content.text = Some(scan.string()?);
            return Ok(content);
        }
        read::array(scan, |scan| {
            let (mut kind, mut text, mut tool_use_id) = (None, None, None);
            read::object(scan, |scan, name| match name {
                "type" => scan.string_or_skip().map(|it| kind = it),
                "text" => scan.string_or_skip().map(|it| text = it),
                "tool_use_id" => scan.string_or_skip().map(|it| tool_use_id = it),
                _ => skip(scan),
            })?;
            match kind {
                Some(kind) if kind.is("text") => content.text = text.or(content.text),
                Some(kind) if kind.is("tool_result") => {
                    content.tool_result = tool_use_id.or(content.tool_result);
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(content)
    }
}

/// The session in `metadata.user_id`: a JSON object in the string names it, else it is the text
/// after `_session_`. Claude Code has sent both.
fn session(user_id: &str) -> Option<String> {
    let mut session = None;
    let is_object = read::document(user_id.as_bytes(), |scan| {
        read::object(scan, |scan, name| match name {
            "session_id" => scan.string_or_skip().map(|id| session = owned(id)),
            _ => skip(scan),
        })
    });
    if is_object != Some(true) {
        session = user_id.split_once("_session_").map(|(_, id)| id.to_owned());
    }
    session.filter(|id| !id.is_empty())
}

// ---- streamed reply

/// Follows a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    usage: Option<Counts>,
    /// Blocks that are open and worth following; in practice there is at most one.
    open: Vec<OpenBlock>,
}

#[derive(Debug)]
struct OpenBlock {
    index: Option<u64>,
    follows: Follows,
}

#[derive(Debug)]
enum Follows {
    /// The thought's place in the notes.
    Thought(usize),
    /// The call's place in the notes. A block begins with its input, which is `{}` where deltas
    /// bring it and all of it where a server does not stream it; so the first delta replaces it.
    Tool { call: usize, streamed: bool },
}

impl Stream {
    pub(super) fn event(&mut self, event: &sse::Event, notes: &mut Notes) -> Pass {
        let name = event.name();
        let of_a_block = name == b"content_block_delta" || name == b"content_block_stop";
        if name == b"ping" || of_a_block && self.open.is_empty() {
            return Pass::Relay;
        }
        let data = event.data();
        if let Some(event) = Event::read(&data) {
            let name = str::from_utf8(name).unwrap_or_default();
            self.note(&event, name, &data, notes);
        }
        Pass::Relay
    }

    pub(super) fn finish(&mut self, notes: &mut Notes) {
        notes.told.usage = self.usage.take().map(Counts::anthropic);
    }

    fn note(&mut self, event: &Event<'_>, name: &str, data: &[u8], notes: &mut Notes) {
        let kind = event.kind.map(|kind| kind.decode());
        match kind.as_deref().unwrap_or(name) {
            "message_start" => {
                if let Some(id) = event.message.id {
                    notes.id(&id.decode());
                }
                self.count(event.message.usage.as_ref());
            }
            "content_block_start" => self.start(event, data, notes),
            "content_block_delta" => self.delta(event, notes),
            "content_block_stop" => self
                .open
                .retain(|block| event.index.is_some() && block.index != event.index),
            "message_delta" => {
                if let Some(reason) = event.delta.stop_reason {
                    notes.stop(&reason.decode());
                }
                self.count(event.usage.as_ref());
            }
            "message_stop" => notes.told.complete = true,
            "error" => notes.error(&said(event.error)),
            _ => {}
        }
    }

    fn count(&mut self, usage: Option<&Counts>) {
        if let Some(usage) = usage {
            self.usage.get_or_insert_default().replace(usage.clone());
        }
    }

    fn start(&mut self, event: &Event<'_>, data: &[u8], notes: &mut Notes) {
        let block = event.block.as_ref();
        if let Some(follows) = block.and_then(|block| block.follow(data, notes)) {
            let index = event.index;
            self.open.push(OpenBlock { index, follows });
        }
    }

    fn delta(&mut self, event: &Event<'_>, notes: &mut Notes) {
        let mut newest_first = self.open.iter_mut().rev();
        let is_meant = |block: &&mut OpenBlock| event.index.is_none() || block.index == event.index;
        let Some(block) = newest_first.find(is_meant) else {
            return;
        };
        match &mut block.follows {
            Follows::Thought(thought) => {
                if let Some(text) = event.delta.thinking {
                    notes.think(*thought, &text.decode());
                }
            }
            Follows::Tool { call, streamed } => {
                let Some(json) = event.delta.partial_json.filter(|it| !it.raw().is_empty()) else {
                    return;
                };
                if !std::mem::replace(streamed, true) {
                    notes.forget_arguments(*call);
                }
                notes.arguments(*call, &json.decode());
            }
        }
    }
}

/// All members that any event has of interest.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Str<'a>>,
    index: Option<u64>,
    message: Message<'a>,
    block: Option<Block<'a>>,
    delta: Delta<'a>,
    usage: Option<Counts>,
    error: Option<Str<'a>>,
}

#[derive(Default)]
struct Delta<'a> {
    partial_json: Option<Str<'a>>,
    thinking: Option<Str<'a>>,
    stop_reason: Option<Str<'a>>,
}

impl<'a> Event<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => event.kind = scan.string_or_skip()?,
                    "index" => event.index = scan.u64_or_skip()?,
                    "message" => event.message = Message::read(scan)?,
                    "content_block" => event.block = Some(Block::read(scan)?),
                    "delta" => event.delta = Delta::read(scan)?,
                    "usage" => event.usage = Counts::read(scan)?,
                    "error" => event.error = read::error(scan)?,
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(event)
    }
}

impl<'a> Delta<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut delta = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "partial_json" => delta.partial_json = scan.string_or_skip()?,
                "thinking" => delta.thinking = scan.string_or_skip()?,
                "stop_reason" => delta.stop_reason = scan.string_or_skip()?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(delta)
    }
}

// ---- blocking reply, and what it shares with a streamed one

/// Reads a whole reply.
pub(super) fn read_body(body: &[u8]) -> Option<Notes> {
    let message = read::document(body, Message::read)?;
    let mut notes = Notes::default();
    if let Some(id) = message.id {
        notes.id(&id.decode());
    }
    for block in message.content.iter().flatten() {
        block.follow(body, &mut notes);
    }
    if let Some(reason) = message.stop_reason {
        notes.stop(&reason.decode());
    }
    notes.told.usage = message.usage.map(Counts::anthropic);
    if message.has_error {
        notes.error(&said(message.error));
    }
    notes.told.complete = message.content.is_some();
    Some(notes)
}

/// A message, or an error body in its place.
#[derive(Default)]
struct Message<'a> {
    id: Option<Str<'a>>,
    content: Option<Vec<Block<'a>>>,
    stop_reason: Option<Str<'a>>,
    usage: Option<Counts>,
    has_error: bool,
    error: Option<Str<'a>>,
}

impl<'a> Message<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut message = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "id" => message.id = scan.string_or_skip()?,
                "content" => {
                    let mut blocks = Vec::new();
                    let found = read::array(scan, |scan| {
                        blocks.push(Block::read(scan)?);
                        Ok(())
                    })?;
                    message.content = found.then_some(blocks);
                }
                "stop_reason" => message.stop_reason = scan.string_or_skip()?,
                "usage" => message.usage = Counts::read(scan)?,
                "error" => {
                    message.has_error = scan.kind()? != Kind::Null;
                    message.error = read::error(scan)?;
                }
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(message)
    }
}

/// A content block.
#[derive(Default)]
struct Block<'a> {
    kind: Option<Str<'a>>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    input: Option<Range<usize>>,
    thinking: Option<Str<'a>>,
}

impl<'a> Block<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut block = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "type" => block.kind = scan.string_or_skip()?,
                "id" => block.id = scan.string_or_skip()?,
                "name" => block.name = scan.string_or_skip()?,
                "input" => block.input = Some(scan.skip()?),
                "thinking" => block.thinking = scan.string_or_skip()?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(block)
    }

    /// Takes note of the block where it is a thought, or a call of a tool that is not the
    /// provider's to run. `text` is what the block was read from.
    fn follow(&self, text: &[u8], notes: &mut Notes) -> Option<Follows> {
        let kind = self.kind?;
        if kind.is("thinking") {
            let thought = notes.thought("thinking")?;
            notes.think(thought, &decoded(self.thinking));
            return Some(Follows::Thought(thought));
        }
        if !kind.is("tool_use") {
            return None;
        }
        let call = notes.call(&decoded(self.id), &decoded(self.name))?;
        let input = self.input.clone().and_then(|range| text.get(range));
        notes.arguments(
            call,
            input
                .and_then(|it| str::from_utf8(it).ok())
                .unwrap_or_default(),
        );
        Some(Follows::Tool {
            call,
            streamed: false,
        })
    }
}
