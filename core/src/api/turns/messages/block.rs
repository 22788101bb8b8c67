//! Content blocks, put together again from what was streamed.

use std::{borrow::Cow, ops::Range};

use crate::{
    api::{
        edits::{Edits, quoted},
        read::{self, decoded, skip},
        turns::{
            ToolCall,
            history::{Strings, is_object, unescaped},
        },
    },
    json::Str,
};

/// A content block.
#[derive(Debug)]
pub(super) struct Block {
    /// What upstream calls it.
    pub(super) index: Option<u64>,
    /// What the client does; `None` where it does not get the block.
    pub(super) to: Option<u64>,
    /// As it began, and what was added.
    pub(super) start: Vec<u8>,
    pub(super) strings: Strings,
    /// The citations that were added: elements of an array.
    pub(super) citations: Vec<u8>,
    /// The injected call that it is.
    pub(super) call: Option<ToolCall>,
}

/// The assistant's message, from blocks that were streamed.
pub(super) fn message(blocks: &[Block]) -> Vec<u8> {
    let mut message = b"{\"role\":\"assistant\",\"content\":[".to_vec();
    let mut is_first = true;
    for block in blocks {
        let block = block.whole();
        if is_blank(&block) {
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
    /// How many bytes it keeps.
    pub(super) fn len(&self) -> usize {
        let call = self.call.as_ref().map_or(0, ToolCall::len);
        self.start.len() + self.strings.len() + self.citations.len() + call
    }

    /// The block as it would have come in one piece.
    fn whole(&self) -> Vec<u8> {
        let mut edits = Edits::default();
        let mut added = b"{".to_vec();
        let known = Members::read(&self.start);
        let value = |name: &str| known.0.iter().find(|(known, _, _)| known.is(name));
        let mut put_value = |name: &str, new: Vec<u8>| {
            if let Some((_, range, _)) = value(name) {
                edits.replace(range.clone(), new);
                return;
            }
            if added.len() > 1 {
                added.push(b',');
            }
            added.extend_from_slice(quoted(name).as_bytes());
            added.push(b':');
            added.extend_from_slice(&new);
        };
        if !self.citations.is_empty() {
            put_value("citations", [b"[", &*self.citations, b"]"].concat());
        }
        for (name, raw) in self.strings.iter() {
            if name == "partial_json" {
                let input = unescaped(raw);
                if !input.trim_ascii().is_empty() {
                    put_value("input", as_input(input.as_bytes()).to_vec());
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

/// A call's input as it may stand in a conversation: Anthropic takes nothing there but an object,
/// and what else a model wrote would fail the whole request. The result of the call says what was
/// wrong with it.
fn as_input(input: &[u8]) -> &[u8] {
    if is_object(input) { input } else { b"{}" }
}

/// A block of a blocking reply as it may stand in a conversation.
pub(super) fn sound(block: &[u8]) -> Cow<'_, [u8]> {
    if ToolUse::read(block).is_none() {
        return block.into();
    }
    let members = Members::read(block);
    let mut inputs = members.0.iter().filter(|(name, _, _)| name.is("input"));
    let input = inputs.find(|(_, range, _)| !is_object(&block[range.clone()]));
    let Some((_, range, _)) = input else {
        return block.into();
    };
    let mut edits = Edits::default();
    edits.replace(range.clone(), "{}");
    edits.apply(block).to_vec().into()
}

/// The members of an object: name, where the value stands, and the value if it is a string.
pub(super) struct Members<'a>(pub(super) Vec<(Str<'a>, Range<usize>, Option<Str<'a>>)>);

impl<'a> Members<'a> {
    pub(super) fn read(object: &'a [u8]) -> Self {
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

/// The text of a block of text.
pub(super) fn text(block: &[u8]) -> Option<Cow<'_, str>> {
    let (mut is_text, mut text) = (false, None);
    read::document(block, |scan| {
        read::object(scan, |scan, name| {
            match name {
                "type" => is_text = scan.string_or_skip()?.is_some_and(|kind| kind.is("text")),
                "text" => text = scan.string_or_skip()?,
                _ => skip(scan)?,
            }
            Ok(())
        })
    });
    text.filter(|_| is_text).map(|text| text.decode())
}

/// Anthropic sends blocks of text that stay empty, or have nothing but white space, and refuses to
/// take them back.
pub(super) fn is_blank(block: &[u8]) -> bool {
    text(block).is_some_and(|text| text.trim().is_empty())
}

/// A block of the model's calling a tool that is not the provider's to run.
pub(super) struct ToolUse {
    pub(super) call: ToolCall,
}

impl ToolUse {
    pub(super) fn read(block: &[u8]) -> Option<Self> {
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
        let call = ToolCall {
            id: decoded(id).into_owned(),
            name: decoded(name).into_owned(),
            arguments: input.unwrap_or_default().to_owned(),
        };
        Some(Self { call })
    }
}
