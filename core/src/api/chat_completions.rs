//! OpenAI's Chat Completions API: `POST /chat/completions`, and the many servers that imitate it.
//!
//! A stream is chunks without event names and a last `[DONE]`. Nearly all chunks differ from the
//! one before in one word of text only, so the usual chunk is not parsed but compared: see `shape`.
//!
//! Usage is sent only on request (`stream_options.include_usage`), in a chunk of its own with no
//! choices. Where the client did not ask, the bridge does, and withholds that chunk. Some servers
//! repeat usage on every chunk: the last report counts, never the sum.

use std::ops::Range;

use crate::{
    api::{
        Inspected, Pass,
        read::{self, decoded, said, skip},
        reply::Notes,
        request::{self, owned},
        shape::Shape,
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
    options: StreamOptions,
}

/// How to make `stream_options.include_usage` true.
#[derive(Debug, Default)]
enum StreamOptions {
    /// There are none.
    #[default]
    Absent,
    /// They do not say it: this is to be edited.
    Edit(Range<usize>, &'static str),
    /// They are of a kind that the provider must judge.
    Odd,
    /// The client asked for it.
    Wanted,
}

impl<'a> request::Request<'a> for Request<'a> {
    fn member(&mut self, name: &str, scan: &mut Scanner<'a>) -> Result<(), Error> {
        match name {
            "messages" => {
                (self.prompt, self.tool_result) = (None, None);
                read::array(scan, |scan| self.message(scan)).map(drop)
            }
            "stream_options" => StreamOptions::read(scan).map(|options| self.options = options),
            _ => skip(scan),
        }
    }

    fn finish(self, first_member: usize, inspected: &mut Inspected) {
        inspected.prompt = owned(self.prompt);
        inspected.tool_result = owned(self.tool_result);
        if !inspected.stream {
            return;
        }
        match self.options {
            StreamOptions::Absent => {
                let member = "\"stream_options\":{\"include_usage\":true},";
                inspected.edit = Some((first_member..first_member, member));
            }
            StreamOptions::Edit(range, text) => inspected.edit = Some((range, text)),
            StreamOptions::Odd => {}
            StreamOptions::Wanted => inspected.usage_wanted = true,
        }
    }
}

impl<'a> Request<'a> {
    /// The role may stand after the content, so all is read before any of it counts.
    fn message(&mut self, scan: &mut Scanner<'a>) -> Result<(), Error> {
        let (mut role, mut text, mut tool_call_id) = (None, None, None);
        read::object(scan, |scan, name| {
            match name {
                "role" => role = scan.string_or_skip()?,
                "content" => text = last_text(scan)?,
                "tool_call_id" => tool_call_id = scan.string_or_skip()?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        match role {
            Some(role) if role.is("user") => self.prompt = text,
            Some(role) if role.is("tool") => self.tool_result = tool_call_id.or(self.tool_result),
            _ => {}
        }
        Ok(())
    }
}

/// A message's text: its string, or the last of its text parts.
fn last_text<'a>(scan: &mut Scanner<'a>) -> Result<Option<Str<'a>>, Error> {
    if scan.kind()? == Kind::String {
        return scan.string().map(Some);
    }
    let mut last = None;
    read::array(scan, |scan| {
        let (mut kind, mut text) = (None, None);
        read::object(scan, |scan, name| match name {
            "type" => scan.string_or_skip().map(|it| kind = it),
            "text" => scan.string_or_skip().map(|it| text = it),
            _ => skip(scan),
        })?;
        if kind.is_some_and(|kind| kind.is("text")) {
            last = text.or(last);
        }
        Ok(())
    })?;
    Ok(last)
}

impl StreamOptions {
    fn read(scan: &mut Scanner<'_>) -> Result<Self, Error> {
        match scan.kind()? {
            Kind::Object => {}
            Kind::Null => return Ok(Self::Edit(scan.skip()?, "{\"include_usage\":true}")),
            _ => return skip(scan).map(|()| Self::Odd),
        }
        scan.object()?;
        let first = scan.position();
        let mut is_empty = true;
        let mut asked = None;
        while let Some(name) = scan.key()? {
            is_empty = false;
            if !name.is("include_usage") {
                scan.skip()?;
                continue;
            }
            asked = Some(match scan.kind()? {
                Kind::Bool if scan.bool()? => Self::Wanted,
                Kind::Bool => Self::Edit(scan.position() - "false".len()..scan.position(), "true"),
                Kind::Null => Self::Edit(scan.skip()?, "true"),
                _ => skip(scan).map(|()| Self::Odd)?,
            });
        }
        let member = if is_empty {
            "\"include_usage\":true"
        } else {
            "\"include_usage\":true,"
        };
        Ok(asked.unwrap_or(Self::Edit(first..first, member)))
    }
}

// ---- streamed reply

/// Follows a stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// The usage chunk was not the client's wish.
    withholds: bool,
    shape: Shape,
    /// The last usage object as it stood; empty where there was none. Read when the stream is over,
    /// because a server may send one with each of a thousand chunks.
    usage: Vec<u8>,
    calls: Vec<OpenCall>,
    /// The choice that is thinking, and its thought's place in the notes.
    thinking: Option<(u64, usize)>,
}

/// A tool call whose arguments may still grow.
#[derive(Debug)]
struct OpenCall {
    choice: u64,
    index: Option<u64>,
    /// Place in the notes.
    place: usize,
}

impl Stream {
    pub(super) fn new(inspected: &Inspected) -> Self {
        Self {
            withholds: inspected.edit.is_some(),
            shape: Shape::default(),
            usage: Vec::new(),
            calls: Vec::new(),
            thinking: None,
        }
    }

    pub(super) fn event(&mut self, event: &sse::Event, notes: &mut Notes) -> Pass {
        let data = event.data();
        if self.thinking.is_none() && self.shape.fits(&data) {
            return Pass::Relay;
        }
        if data.trim_ascii() == b"[DONE]" {
            notes.told.complete = true;
            return Pass::Relay;
        }
        match Chunk::read(&data, Form::Delta) {
            Some(chunk) => self.chunk(&chunk, &data, notes),
            None => Pass::Relay,
        }
    }

    pub(super) fn may_withhold(&self) -> bool {
        self.withholds
    }

    pub(super) fn finish(&mut self, notes: &mut Notes) {
        let usage = read::document(&self.usage, Counts::read).flatten();
        notes.told.usage = usage.map(Counts::chat_completions);
        self.usage.clear();
        self.calls.clear();
        self.thinking = None;
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, data: &[u8], notes: &mut Notes) -> Pass {
        if let Some(id) = chunk.id {
            notes.id(&id.decode());
        }
        for (choice, delta) in &chunk.deltas {
            self.delta(*choice, delta, notes);
        }
        if chunk.has_text {
            self.thinking = None;
        }
        if let Some(usage) = chunk.usage.clone().and_then(|range| data.get(range)) {
            self.usage.clear();
            self.usage.extend_from_slice(usage);
        }
        if chunk.has_error {
            notes.error(&said(chunk.error));
        }
        if chunk.tells_nothing() && notes.told.id.is_some() {
            self.shape
                .learn(data, chunk.content.clone(), chunk.padding.clone());
        }
        let is_usage_alone = chunk.choices == Some(0) && chunk.usage.is_some() && !chunk.has_error;
        if self.withholds && is_usage_alone {
            Pass::Withhold
        } else {
            Pass::Relay
        }
    }

    fn delta(&mut self, choice: u64, delta: &Delta<'_>, notes: &mut Notes) {
        match delta {
            Delta::Call(call) => {
                self.thinking = None;
                if let Some(place) = self.place(choice, call, notes) {
                    notes.arguments(place, &decoded(call.arguments));
                }
            }
            Delta::Finish(reason) => notes.stop(&reason.decode()),
            Delta::Thought(text) => {
                let open = self.thinking.filter(|(of, _)| *of == choice);
                let open = open.or_else(|| Some((choice, notes.thought("thinking")?)));
                if let Some((_, thought)) = open {
                    notes.think(thought, &text.decode());
                }
                self.thinking = open;
            }
        }
    }

    /// The call that a delta belongs to, a new one where it begins one.
    ///
    /// By the book a call has an index of its own, and its id and name come once. Some servers
    /// leave the index out, or give all calls the same one; some repeat the id, or make up another
    /// for every delta. So a call begins with an unknown index, or with another id and a name.
    fn place(&mut self, choice: u64, call: &Call<'_>, notes: &mut Notes) -> Option<usize> {
        let (id, name) = (decoded(call.id), decoded(call.name));
        let mut newest_first = self
            .calls
            .iter()
            .rev()
            .filter(|known| known.choice == choice);
        let known = newest_first.find(|known| call.index.is_none() || known.index == call.index);
        if let Some(known) = known {
            let is_another =
                !name.is_empty() && !id.is_empty() && notes.has_other_id(known.place, &id);
            if !is_another {
                notes.name(known.place, &id, &name);
                return Some(known.place);
            }
        }
        let place = notes.call(&id, &name)?;
        self.calls.push(OpenCall {
            choice,
            index: call.index,
            place,
        });
        Some(place)
    }
}

// ---- blocking reply, and what it shares with a streamed one

/// Reads a whole reply.
pub(super) fn read_body(body: &[u8]) -> Option<Notes> {
    let completion = Chunk::read(body, Form::Message)?;
    let mut notes = Notes::default();
    let mut stream = Stream::new(&Inspected::default());
    stream.chunk(&completion, body, &mut notes);
    stream.finish(&mut notes);
    notes.told.complete = completion.choices.is_some();
    Some(notes)
}

/// How a choice holds its contents, which is where a chunk of a stream and a whole completion
/// differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In pieces, under `delta`; tool calls say which one they belong to.
    Delta,
    /// At once, under `message`; each tool call is one of its own.
    Message,
}

/// A chunk of a stream, or a whole completion.
#[derive(Default)]
struct Chunk<'a> {
    id: Option<Str<'a>>,
    /// How many; `None` where there is no array of them.
    choices: Option<usize>,
    /// What they tell, each with its choice's index. Not allocated for chunks of text.
    deltas: Vec<(u64, Delta<'a>)>,
    has_text: bool,
    usage: Option<Range<usize>>,
    has_error: bool,
    error: Option<Str<'a>>,
    /// Where the only choice's only text is, without its quotes.
    content: Option<Range<usize>>,
    /// Where `obfuscation` is, without its quotes.
    padding: Option<Range<usize>>,
}

enum Delta<'a> {
    Call(Call<'a>),
    Finish(Str<'a>),
    Thought(Str<'a>),
}

#[derive(Default)]
struct Call<'a> {
    index: Option<u64>,
    id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    arguments: Option<Str<'a>>,
}

impl<'a> Chunk<'a> {
    fn read(data: &'a [u8], form: Form) -> Option<Self> {
        let mut chunk = Self::default();
        let is_object = read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "id" => chunk.id = scan.string_or_skip()?,
                    "choices" => {
                        let mut choices = 0;
                        let found = read::array(scan, |scan| {
                            choices += 1;
                            chunk.choice(scan, form)
                        })?;
                        chunk.choices = found.then_some(choices);
                    }
                    "usage" if scan.kind()? == Kind::Object => chunk.usage = Some(scan.skip()?),
                    "error" => {
                        chunk.has_error = scan.kind()? != Kind::Null;
                        chunk.error = read::error(scan)?;
                    }
                    "obfuscation" => chunk.padding = read::inside(scan.string_or_skip()?, scan),
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        is_object.then_some(chunk)
    }

    fn tells_nothing(&self) -> bool {
        self.deltas.is_empty() && self.usage.is_none() && !self.has_error && self.choices == Some(1)
    }

    fn choice(&mut self, scan: &mut Scanner<'a>, form: Form) -> Result<(), Error> {
        let first = self.deltas.len();
        let mut index = 0;
        read::object(scan, |scan, name| {
            match name {
                "index" => index = scan.u64_or_skip()?.unwrap_or_default(),
                "finish_reason" => {
                    let reason = scan.string_or_skip()?;
                    self.deltas
                        .extend(reason.map(|reason| (0, Delta::Finish(reason))));
                }
                "delta" if form == Form::Delta => self.contents(scan, form)?,
                "message" if form == Form::Message => self.contents(scan, form)?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        // The index may stand after what it is the index of.
        for (choice, _) in &mut self.deltas[first..] {
            *choice = index;
        }
        Ok(())
    }

    fn contents(&mut self, scan: &mut Scanner<'a>, form: Form) -> Result<(), Error> {
        let first = self.deltas.len();
        let (mut reasoning_content, mut reasoning) = (None, None);
        read::object(scan, |scan, name| {
            match name {
                "content" => {
                    let text = scan.string_or_skip()?;
                    self.content = read::inside(text, scan);
                    self.has_text |= text.is_some_and(|text| !text.raw().is_empty());
                }
                "reasoning_content" => reasoning_content = scan.string_or_skip()?,
                "reasoning" => reasoning = scan.string_or_skip()?,
                "tool_calls" => {
                    let mut position = 0;
                    read::array(scan, |scan| {
                        let mut call = Call::read(scan)?;
                        if form == Form::Message {
                            call.index = Some(position);
                            position += 1;
                        }
                        self.deltas.push((0, Delta::Call(call)));
                        Ok(())
                    })?;
                }
                "function_call" if scan.kind()? == Kind::Object => {
                    let mut call = Call {
                        index: Some(FUNCTION_CALL),
                        ..Call::default()
                    };
                    call.function(scan)?;
                    self.deltas.push((0, Delta::Call(call)));
                }
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        // Some servers send a thought under both names.
        let mut thoughts = [reasoning_content, reasoning].into_iter().flatten();
        if let Some(thought) = thoughts.find(|text| !text.raw().is_empty()) {
            // Thoughts come before the calls they lead to.
            self.deltas.insert(first, (0, Delta::Thought(thought)));
        }
        Ok(())
    }
}

impl<'a> Call<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut call = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "index" => call.index = scan.u64_or_skip()?,
                "id" => call.id = scan.string_or_skip()?,
                "function" | "custom" => call.function(scan)?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(call)
    }

    /// A function has `arguments`, a custom tool has `input`.
    fn function(&mut self, scan: &mut Scanner<'a>) -> Result<(), Error> {
        read::object(scan, |scan, name| {
            match name {
                "name" => self.name = scan.string_or_skip()?,
                "arguments" | "input" => self.arguments = scan.string_or_skip()?,
                _ => skip(scan)?,
            }
            Ok(())
        })
        .map(drop)
    }
}

/// The index under which the one call of the older `function_call` member is kept.
const FUNCTION_CALL: u64 = u64::MAX;
