//! OpenAI's Responses API: `POST /responses`.
//!
//! A stream is events whose `type` is also their name and which count up in `sequence_number`. It
//! begins with `response.created`, brings each output item in pieces and then whole
//! (`response.output_item.done`), and ends with `response.completed`, `.incomplete` or `.failed`,
//! which carry the response again with all its output and its usage, or with `error`. So the pieces
//! are not looked into.

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
    /// The parts of the last user item.
    prompt: Vec<Str<'a>>,
    tool_result: Option<Str<'a>>,
    background: bool,
}

impl<'a> request::Request<'a> for Request<'a> {
    fn member(&mut self, name: &str, scan: &mut Scanner<'a>) -> Result<(), Error> {
        match name {
            "input" => {
                self.prompt.clear();
                self.tool_result = None;
                if scan.kind()? == Kind::String {
                    self.prompt.push(scan.string()?);
                    return Ok(());
                }
                let mut parts = Vec::new();
                read::array(scan, |scan| self.item(scan, &mut parts)).map(drop)
            }
            "background" => {
                self.background = scan.bool_or_skip()?.unwrap_or_default();
                Ok(())
            }
            _ => skip(scan),
        }
    }

    fn finish(self, _first_member: usize, inspected: &mut Inspected) {
        inspected.tool_result = owned(self.tool_result);
        inspected.background = self.background;
        let mut parts = self.prompt.into_iter();
        let Some(first) = parts.next() else { return };
        let mut prompt = first.decode().into_owned();
        for part in parts {
            prompt.push('\n');
            prompt.push_str(&part.decode());
        }
        inspected.prompt = Some(prompt);
    }
}

impl<'a> Request<'a> {
    /// The role may stand after the content, so all is read before any of it counts. `parts` is
    /// scratch space.
    fn item(&mut self, scan: &mut Scanner<'a>, parts: &mut Vec<Str<'a>>) -> Result<(), Error> {
        parts.clear();
        let (mut kind, mut role, mut call_id) = (None, None, None);
        read::object(scan, |scan, name| {
            match name {
                "type" => kind = scan.string_or_skip()?,
                "role" => role = scan.string_or_skip()?,
                "call_id" => call_id = scan.string_or_skip()?,
                "content" => input_text(scan, parts)?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        let kind = decoded(kind);
        // A message's type may be left out.
        if role.is_some_and(|role| role.is("user")) && matches!(&*kind, "" | "message") {
            std::mem::swap(&mut self.prompt, parts);
        }
        // `function_call_output`, `custom_tool_call_output`, `computer_call_output`, …
        if kind.ends_with("_call_output") {
            self.tool_result = call_id.or(self.tool_result);
        }
        Ok(())
    }
}

/// A message's text: its string, or all its `input_text` parts.
fn input_text<'a>(scan: &mut Scanner<'a>, parts: &mut Vec<Str<'a>>) -> Result<(), Error> {
    parts.clear();
    if scan.kind()? == Kind::String {
        parts.push(scan.string()?);
        return Ok(());
    }
    read::array(scan, |scan| {
        let part = Part::read(scan)?;
        if part.is("input_text") {
            parts.extend(part.text);
        }
        Ok(())
    })
    .map(drop)
}

// ---- streamed reply

/// Follows a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    usage: Option<Counts>,
    /// Items came one by one, so those of the last event are the same again.
    has_items: bool,
}

impl Stream {
    pub(super) fn event(&mut self, event: &sse::Event, notes: &mut Notes) -> Pass {
        let data = event.data();
        // Pieces of an item tell nothing but their place, which stands at the end as a rule.
        if event.name().ends_with(b".delta")
            && let Some(number) = number_at_end(&data)
        {
            notes.told.sequence_number = Some(number);
            return Pass::Relay;
        }
        if let Some(read) = Event::read(&data) {
            let name = str::from_utf8(event.name()).unwrap_or_default();
            self.note(&read, name, &data, notes);
        }
        Pass::Relay
    }

    pub(super) fn finish(&mut self, notes: &mut Notes) {
        notes.told.usage = self.usage.take().map(Counts::responses);
        self.has_items = false;
    }

    fn note(&mut self, event: &Event<'_>, name: &str, data: &[u8], notes: &mut Notes) {
        let number = &mut notes.told.sequence_number;
        *number = event.sequence_number.or(*number);

        let part = |range: &Option<Range<usize>>| data.get(range.clone()?);
        let kind = event.kind.map(|kind| kind.decode());
        match kind.as_deref().unwrap_or(name) {
            "response.created" | "response.in_progress" | "response.queued"
                if notes.told.id.is_none() =>
            {
                let id = part(&event.response).and_then(id_of_response);
                notes.id(&decoded(id));
            }
            "response.output_item.done" => {
                let item = part(&event.item).and_then(|item| read::document(item, Item::read));
                if let Some(item) = item {
                    self.has_items = true;
                    item.note(notes);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = part(&event.response);
                if let Some(response) = response.and_then(|it| read::document(it, Response::read)) {
                    self.response(response, notes);
                }
                notes.told.complete = true;
            }
            "error" => notes.error(&said(event.error.or(event.message).or(event.code))),
            _ => {}
        }
    }

    fn response(&mut self, response: Response<'_>, notes: &mut Notes) {
        notes.id(&decoded(response.id));
        if !self.has_items {
            for item in response.output.iter().flatten() {
                item.note(notes);
            }
        }
        if let Some(status) = response.status {
            notes.stop(&status.decode());
        }
        if response.has_error {
            notes.error(&said(response.error));
        }
        if response.usage.is_some() {
            self.usage = response.usage;
        }
    }
}

/// The members of interest of all events. The larger ones are read only where they are wanted.
#[derive(Default)]
struct Event<'a> {
    kind: Option<Str<'a>>,
    sequence_number: Option<u64>,
    item: Option<Range<usize>>,
    response: Option<Range<usize>>,
    error: Option<Str<'a>>,
    message: Option<Str<'a>>,
    code: Option<Str<'a>>,
}

impl<'a> Event<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => event.kind = scan.string_or_skip()?,
                    "sequence_number" => event.sequence_number = scan.u64_or_skip()?,
                    "item" => event.item = Some(scan.skip()?),
                    "response" => event.response = Some(scan.skip()?),
                    "error" => event.error = read::error(scan)?,
                    "message" => event.message = scan.string_or_skip()?,
                    "code" => event.code = scan.string_or_skip()?,
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(event)
    }
}

/// The sequence number of an event whose last member it is.
///
/// The last brace of a text closes the outermost object, and the colon before the digits stands
/// outside of strings, so the quote before it ends a member's name. That the name begins with the
/// quote found is seen from the comma or brace before it: within a string the quote would have a
/// backslash there. So of a well-formed text this is exact.
fn number_at_end(data: &[u8]) -> Option<u64> {
    let rest = data.trim_ascii_end().strip_suffix(b"}")?.trim_ascii_end();
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit());
    let (rest, digits) = rest.split_at(rest.len() - digits.count());
    let rest = rest.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let rest = rest.strip_suffix(b"\"sequence_number\"")?;
    if !matches!(rest.trim_ascii_end().last(), Some(b',' | b'{')) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The id of a response, read no further than that: the first events repeat all of the request's
/// instructions and tools after it.
fn id_of_response(response: &[u8]) -> Option<Str<'_>> {
    let mut scan = Scanner::new(response).ok()?;
    scan.object().ok()?;
    while let Some(name) = scan.key().ok()? {
        if name.is("id") {
            return scan.string_or_skip().ok()?;
        }
        scan.skip().ok()?;
    }
    None
}

// ---- blocking reply, and what it shares with a streamed one

/// Reads a whole reply.
pub(super) fn read_body(body: &[u8]) -> Option<Notes> {
    let response = read::document(body, Response::read)?;
    let is_reply = response.output.is_some();
    let mut notes = Notes::default();
    let mut stream = Stream::default();
    stream.response(response, &mut notes);
    stream.finish(&mut notes);
    notes.told.complete = is_reply;
    Some(notes)
}

/// A response, or an error body in its place.
#[derive(Default)]
struct Response<'a> {
    id: Option<Str<'a>>,
    status: Option<Str<'a>>,
    output: Option<Vec<Item<'a>>>,
    usage: Option<Counts>,
    has_error: bool,
    error: Option<Str<'a>>,
}

impl<'a> Response<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut response = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "id" => response.id = scan.string_or_skip()?,
                "status" => response.status = scan.string_or_skip()?,
                "output" => {
                    let mut items = Vec::new();
                    let found = read::array(scan, |scan| {
                        items.push(Item::read(scan)?);
                        Ok(())
                    })?;
                    response.output = found.then_some(items);
                }
                "usage" => response.usage = Counts::read(scan)?,
                "error" => {
                    response.has_error = scan.kind()? != Kind::Null;
                    response.error = read::error(scan)?;
                }
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(response)
    }
}

/// An output item: a message, a thought or a tool call.
#[derive(Default)]
struct Item<'a> {
    kind: Option<Str<'a>>,
    call_id: Option<Str<'a>>,
    name: Option<Str<'a>>,
    /// A function's arguments, or a custom tool's input.
    arguments: Option<Str<'a>>,
    /// A message's phase: `commentary` is said on the way to the answer.
    phase: Option<Str<'a>>,
    content: Vec<Part<'a>>,
    summary: Vec<Part<'a>>,
}

impl<'a> Item<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut item = Self::default();
        read::object(scan, |scan, name| {
            match name {
                "type" => item.kind = scan.string_or_skip()?,
                "call_id" => item.call_id = scan.string_or_skip()?,
                "name" => item.name = scan.string_or_skip()?,
                "arguments" | "input" => item.arguments = scan.string_or_skip()?,
                "phase" => item.phase = scan.string_or_skip()?,
                "content" => item.content = Part::read_all(scan)?,
                "summary" => item.summary = Part::read_all(scan)?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        Ok(item)
    }

    /// Takes note of a thought, or of a call of a tool that is not the provider's to run.
    fn note(&self, notes: &mut Notes) {
        match &*decoded(self.kind) {
            "function_call" | "custom_tool_call" => {
                let call = notes.call(&decoded(self.call_id), &decoded(self.name));
                if let Some(call) = call {
                    notes.arguments(call, &decoded(self.arguments));
                }
            }
            "reasoning" => {
                self.summary
                    .iter()
                    .for_each(|part| part.note("reasoning_summary", notes));
                // Open models show their thoughts themselves.
                let open = self.content.iter().filter(|part| part.is("reasoning_text"));
                open.for_each(|part| part.note("thinking", notes));
            }
            "message" if self.phase.is_some_and(|phase| phase.is("commentary")) => {
                let text = self.content.iter().filter(|part| part.is("output_text"));
                text.for_each(|part| part.note("commentary", notes));
            }
            _ => {}
        }
    }
}

/// A part of a message or of a thought.
#[derive(Default)]
struct Part<'a> {
    kind: Option<Str<'a>>,
    text: Option<Str<'a>>,
}

impl<'a> Part<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut part = Self::default();
        read::object(scan, |scan, name| match name {
            "type" => scan.string_or_skip().map(|it| part.kind = it),
            "text" => scan.string_or_skip().map(|it| part.text = it),
            _ => skip(scan),
        })?;
        Ok(part)
    }

    fn read_all(scan: &mut Scanner<'a>) -> Result<Vec<Self>, Error> {
        let mut parts = Vec::new();
        read::array(scan, |scan| {
            parts.push(Self::read(scan)?);
            Ok(())
        })?;
        Ok(parts)
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.is_some_and(|it| it.is(kind))
    }

    fn note(&self, source: &'static str, notes: &mut Notes) {
        notes.whole_thought(source, &decoded(self.text));
    }
}
