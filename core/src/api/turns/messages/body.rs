//! Blocking turns: the last message, with the texts of those before it in front, and without what
//! the client must not see.

use bytes::Bytes;

use super::{
    Merge,
    block::{ToolUse, is_blank, sound, text},
    end_edits,
};
use crate::api::{
    read::{self, skip},
    turns::{MAX_TURN, Turn, element::Element},
    usage::Counts,
};

impl Merge {
    pub(in crate::api::turns) fn body(&mut self, body: Bytes, turn: &mut Turn) -> Bytes {
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
            let kept: Vec<_> = blocks
                .iter()
                .copied()
                .filter(|it| !is_blank(it))
                .map(sound)
                .collect();
            elements.extend_from_slice(&kept.join(&b","[..]));
            elements.extend_from_slice(b"]}");
            (elements.len() <= MAX_TURN).then_some(elements)
        });
        if turn.goes_on() {
            let has_text = |block: &[u8]| text(block).is_some_and(|text| !text.is_empty());
            for block in blocks.iter().filter(|it| has_text(it)) {
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

/// A whole message.
struct Message {
    /// Behind the bracket that opens its content.
    content: usize,
    blocks: Vec<Element>,
    stop: Option<String>,
    usage: Option<Counts>,
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
