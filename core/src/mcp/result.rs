//! What a tool returned.

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::{
    content::{Block, Content, Part, decoded},
    failure::{Failure, cut, names_unknown_tool},
};
use crate::json::{self, Scanner};

/// A tool's result, read, and cut to a limit.
///
/// ```
/// use aibridge_core::mcp::{Part, ToolResult};
///
/// let json = r#"{"content":[{"type":"text","text":"42"}],"isError":false}"#;
/// let result = ToolResult::read(json.into(), 1 << 20)?;
/// assert_eq!(result.text(), "42");
/// assert_eq!(result.parts(), [Part::Text("42".into())]);
/// assert!(!result.is_error());
/// # Ok::<(), aibridge_core::mcp::Failure>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ToolResult {
    json: Bytes,
    blocks: Vec<Block>,
    structured: Option<Range<usize>>,
    is_error: bool,
    max: usize,
    is_cut: bool,
}

impl ToolResult {
    /// Reads the result of a `tools/call`. Of its content, `max` bytes are kept.
    ///
    /// # Errors
    /// It is not one, or it asks for input.
    pub fn read(json: Bytes, max: usize) -> Result<Self, Failure> {
        let mut result = Self {
            json,
            blocks: Vec::new(),
            structured: None,
            is_error: false,
            max,
            is_cut: false,
        };
        let json = result.json.clone();
        let kind = result
            .scan(&json)
            .map_err(|_| Failure::Malformed("no tool result"))?;
        match kind.as_deref() {
            None | Some("complete") => {}
            Some("input_required") => return Err(Failure::InputRequired),
            Some(_) => return Err(Failure::Malformed("unknown kind of tool result")),
        }
        result.limit();
        Ok(result)
    }

    /// The result's text as it came, not cut.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The text of `structuredContent`, where there is such a member.
    pub fn structured(&self) -> Option<Bytes> {
        self.structured.clone().map(|range| self.json.slice(range))
    }

    /// Whether something was left out, so that a note stands at the end.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether the model is to be told of a failure: the tool says so, or nothing of what it
    /// returned can be shown.
    pub fn is_error(&self) -> bool {
        let is_other = |block: &Block| matches!(block.content, Content::Other(_));
        self.is_error
            || self.blocks.iter().any(is_other)
            || (self.blocks.is_empty() && self.structured.is_none())
    }

    /// Whether it says that there is no such tool, which many servers put into a result.
    pub(super) fn names_unknown_tool(&self) -> bool {
        let says = |block: &Block| matches!(&block.content, Content::Text(text) if names_unknown_tool(text));
        self.is_error && self.blocks.first().is_some_and(says)
    }

    /// The result for a model that takes text only: its texts, one after another on lines of their
    /// own; where there are none, the whole as JSON.
    pub fn text(&self) -> String {
        let texts = self.blocks.iter().filter_map(|block| match &block.content {
            Content::Text(text) => Some(text.as_str()),
            Content::BlobResource { .. }
            | Content::Image { .. }
            | Content::Other(_)
            | Content::TextResource { .. } => None,
        });
        let texts: Vec<&str> = texts.collect();
        if !texts.is_empty() {
            return texts.join("\n");
        }
        self.short(&self.json)
    }

    /// The result for a model that takes images; never empty.
    pub fn parts(&self) -> Vec<Part> {
        let parts: Vec<Part> = self.blocks.iter().map(Block::part).collect();
        if !parts.is_empty() {
            return parts;
        }
        vec![Part::Text(match self.structured() {
            Some(structured) => self.short(&structured),
            None => "Error: no valid tool result content".to_owned(),
        })]
    }

    /// A JSON text, cut to the limit.
    fn short(&self, json: &[u8]) -> String {
        let text = String::from_utf8_lossy(json);
        if text.len() <= self.max {
            return text.into_owned();
        }
        let note = note(text.len(), self.max);
        format!("{}\n{note}", cut(&text, self.max))
    }

    /// Cuts the content to the limit: whole blocks as long as they fit, then as much of a text as
    /// does.
    fn limit(&mut self) {
        let total: usize = self.blocks.iter().map(|block| block.content.len()).sum();
        if total <= self.max {
            return;
        }
        let mut left = self.max;
        let mut kept = Vec::new();
        for mut block in std::mem::take(&mut self.blocks) {
            let len = block.content.len();
            if len <= left {
                left -= len;
                kept.push(block);
                continue;
            }
            if let Content::Text(text) | Content::TextResource { text, .. } = &mut block.content {
                text.truncate(cut(text, left).len());
                kept.push(block);
            }
            break;
        }
        kept.push(Block {
            range: 0..0,
            content: Content::Text(note(total, self.max)),
        });
        self.blocks = kept;
        self.is_cut = true;
    }

    /// Reads the members; gives the result's kind, where it tells one.
    fn scan(&mut self, json: &[u8]) -> Result<Option<String>, json::Error> {
        let mut kind = None;
        let mut scan = Scanner::new(json)?;
        scan.object()?;
        while let Some(key) = scan.key()? {
            match &*key.decode() {
                "content" if scan.array_or_skip()? => {
                    while scan.element()? {
                        self.blocks.push(Block::read(&mut scan)?);
                    }
                }
                "content" => {}
                "isError" => self.is_error = scan.bool_or_skip()?.unwrap_or(false),
                "resultType" => kind = scan.string_or_skip()?.map(decoded),
                "structuredContent" => self.structured = Some(scan.skip()?),
                _ => {
                    scan.skip()?;
                }
            }
        }
        scan.end()?;
        Ok(kind)
    }
}

impl fmt::Debug for ToolResult {
    /// Sizes only: it is what users' systems say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blocks, len) = (self.blocks.len(), self.json.len());
        write!(
            f,
            "ToolResult({blocks} blocks, {len} B, error: {})",
            self.is_error
        )
    }
}

fn note(total: usize, max: usize) -> String {
    format!("[tool result truncated: it has {total} bytes, the limit is {max}]")
}
