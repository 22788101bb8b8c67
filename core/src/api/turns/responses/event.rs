//! What stands where in an event, an output item and a whole response.

use std::ops::Range;

use crate::{
    api::{
        edits::Edits,
        read::{self, decoded, skip},
        turns::{ToolCall, Turn, element::Element},
        usage::Counts,
    },
    json::{Kind, Str},
};

/// The members of interest of all events.
#[derive(Default)]
pub(super) struct Event<'a> {
    pub(super) kind: Option<Str<'a>>,
    pub(super) output_index: Option<(u64, Range<usize>)>,
    pub(super) item: Option<Range<usize>>,
    pub(super) response: Option<Range<usize>>,
}

impl<'a> Event<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => event.kind = scan.string_or_skip()?,
                    "output_index" => {
                        let index = scan.u64_or_skip()?;
                        let end = scan.position();
                        event.output_index =
                            index.map(|index| (index, end - index.to_string().len()..end));
                    }
                    "item" => event.item = Some(scan.skip()?),
                    "response" => event.response = Some(scan.skip()?),
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(event)
    }

    pub(super) fn item<'d>(&self, data: &'d [u8]) -> Option<Item<'d>> {
        Item::read(data.get(self.item.clone()?)?)
    }
}

/// An output item.
pub(super) struct Item<'a> {
    pub(super) text: &'a [u8],
    pub(super) kind: Option<Str<'a>>,
    pub(super) call_id: Option<Str<'a>>,
    pub(super) name: Option<Str<'a>>,
    pub(super) arguments: Option<Str<'a>>,
    pub(super) phase: Option<Str<'a>>,
    /// What it says is in it: for the provider alone to read, or openly.
    is_whole: bool,
}

impl<'a> Item<'a> {
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let mut item = Self {
            text,
            kind: None,
            call_id: None,
            name: None,
            arguments: None,
            phase: None,
            is_whole: false,
        };
        read::document(text, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => item.kind = scan.string_or_skip()?,
                    "call_id" => item.call_id = scan.string_or_skip()?,
                    "name" => item.name = scan.string_or_skip()?,
                    "arguments" => item.arguments = scan.string_or_skip()?,
                    "phase" => item.phase = scan.string_or_skip()?,
                    "encrypted_content" => {
                        let sealed = scan.string_or_skip()?;
                        item.is_whole |= sealed.is_some_and(|text| !text.raw().is_empty());
                    }
                    "content" => {
                        read::array(scan, |scan| {
                            item.is_whole = true;
                            skip(scan)
                        })?;
                    }
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(item)
    }

    pub(super) fn is_injected(&self, turn: &Turn) -> bool {
        self.kind.is_some_and(|kind| kind.is("function_call"))
            && turn.is_injected(&decoded(self.name))
    }

    /// Its id, and a summary perhaps, is all that there is of it.
    pub(super) fn is_bare_thought(&self) -> bool {
        !self.is_whole && self.kind.is_some_and(|kind| kind.is("reasoning"))
    }

    pub(super) fn note(&self, turn: &mut Turn) {
        if self.is_injected(turn) {
            turn.calls.push(ToolCall {
                id: decoded(self.call_id).into_owned(),
                name: decoded(self.name).into_owned(),
                arguments: decoded(self.arguments).into_owned(),
            });
        } else {
            turn.calls_own |= CLIENT_CALLS.contains(&&*decoded(self.kind));
        }
    }
}

/// Kinds of items that wait for something of the client's.
const CLIENT_CALLS: [&str; 7] = [
    "apply_patch_call",
    "computer_call",
    "custom_tool_call",
    "function_call",
    "local_shell_call",
    "mcp_approval_request",
    "shell_call",
];

/// A whole response.
#[derive(Default)]
pub(super) struct Response {
    pub(super) output: Vec<Element>,
    pub(super) usage: Option<Range<usize>>,
    pub(super) counts: Option<Counts>,
    pub(super) is_completed: bool,
}

impl Response {
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        read::document(text, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "output" => {
                        let output = Element::read_all(scan)?;
                        response.output = output.map(|(_, items)| items).unwrap_or_default();
                    }
                    "usage" if scan.kind()? == Kind::Object => {
                        response.counts = Counts::read(&mut scan.clone())?;
                        response.usage = Some(scan.skip()?);
                    }
                    "status" => {
                        let status = scan.string_or_skip()?;
                        response.is_completed = status.is_some_and(|it| it.is("completed"));
                    }
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(response)
    }

    /// `text` begins where the response does. Items that are no objects are none.
    pub(super) fn items<'a>(&self, text: &'a [u8]) -> Vec<Item<'a>> {
        let items = self.output.iter().map(|item| &text[item.value.clone()]);
        items.filter_map(Item::read).collect()
    }

    pub(super) fn edits(&self, text: &[u8], shown: &[bool], turn: &Turn) -> Edits {
        let mut edits = Edits::default();
        let spans: Vec<_> = self.output.iter().map(|item| item.span.clone()).collect();
        edits.cut(text, &spans, |nth| shown.get(nth) != Some(&false));
        if let Some(range) = self.usage.clone() {
            turn.raise(&text[range.clone()], range.start, &mut edits);
        }
        edits
    }
}
