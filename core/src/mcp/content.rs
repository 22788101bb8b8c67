//! What a tool returned.

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::failure::{Failure, cut};
use crate::json::{self, Scanner, Str};

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

/// One block of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it stands in the result's [text](ToolResult::json).
    pub range: Range<usize>,
    /// What it says.
    pub content: Content,
}

/// What a block says. Binary data is in base 64, as it came.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A resource within the result, binary.
    BlobResource {
        /// Its identifier.
        uri: String,
        /// Its media type; may be empty.
        mime: String,
        /// The data.
        blob: String,
    },
    /// An image.
    Image {
        /// Its media type.
        mime: String,
        /// The data.
        data: String,
    },
    /// Anything else: the name of its kind.
    Other(String),
    /// Text.
    Text(String),
    /// A resource within the result, as text.
    TextResource {
        /// Its identifier.
        uri: String,
        /// The text.
        text: String,
    },
}

/// What of a result a model that takes images can be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// An image in base 64.
    Image {
        /// Its media type.
        mime: String,
        /// The data.
        data: String,
    },
    /// Text.
    Text(String),
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

    /// Whether the model is to be told of a failure: the tool says so, or nothing of what it returned can be shown.
    pub fn is_error(&self) -> bool {
        let is_other = |block: &Block| matches!(block.content, Content::Other(_));
        self.is_error
            || self.blocks.iter().any(is_other)
            || (self.blocks.is_empty() && self.structured.is_none())
    }

    /// The result for a model that takes text only: its texts, one after another on lines of their own; where there
    /// are none, the whole as JSON.
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

    /// Cuts the content to the limit: whole blocks as long as they fit, then as much of a text as does.
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
                        self.blocks.push(block(&mut scan)?);
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

impl Block {
    fn part(&self) -> Part {
        match &self.content {
            Content::BlobResource { uri, mime, blob } => Part::Text(format!(
                "Binary resource (MIME: {mime}, URI: {uri}): {blob}"
            )),
            Content::Image { mime, data } => Part::Image {
                mime: mime.clone(),
                data: data.clone(),
            },
            Content::Other(kind) => {
                Part::Text(format!("Error: unsupported tool result content: {kind}"))
            }
            Content::Text(text) | Content::TextResource { text, .. } => Part::Text(text.clone()),
        }
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::BlobResource { uri, mime, blob } => uri.len() + mime.len() + blob.len(),
            Self::Image { mime, data } => mime.len() + data.len(),
            Self::Other(kind) => kind.len(),
            Self::Text(text) | Self::TextResource { text, .. } => text.len(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::BlobResource { .. } => "BlobResource",
            Self::Image { .. } => "Image",
            Self::Other(_) => "Other",
            Self::Text(_) => "Text",
            Self::TextResource { .. } => "TextResource",
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} B)", self.kind(), self.len())
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { mime, data } => write!(f, "Image({mime}, {} B)", data.len()),
            Self::Text(text) => write!(f, "Text({} B)", text.len()),
        }
    }
}

fn note(total: usize, max: usize) -> String {
    format!("[tool result truncated: it has {total} bytes, the limit is {max}]")
}

fn decoded(text: Str<'_>) -> String {
    text.decode().into_owned()
}

/// The members of any block, and of the resource in it.
#[derive(Default)]
struct Members<'a> {
    kind: Option<Str<'a>>,
    text: Option<Str<'a>>,
    data: Option<Str<'a>>,
    blob: Option<Str<'a>>,
    mime: Option<Str<'a>>,
    uri: Option<Str<'a>>,
}

fn block(scan: &mut Scanner<'_>) -> Result<Block, json::Error> {
    let range = scan.clone().skip()?;
    let mut members = Members::default();
    members.read(scan)?;
    let content = members.content();
    Ok(Block { range, content })
}

impl<'a> Members<'a> {
    fn read(&mut self, scan: &mut Scanner<'a>) -> Result<(), json::Error> {
        if !scan.object_or_skip()? {
            return Ok(());
        }
        while let Some(key) = scan.key()? {
            match &*key.decode() {
                "type" => self.kind = scan.string_or_skip()?,
                "text" => self.text = scan.string_or_skip()?,
                "data" => self.data = scan.string_or_skip()?,
                "blob" => self.blob = scan.string_or_skip()?,
                "mimeType" => self.mime = scan.string_or_skip()?,
                "uri" => self.uri = scan.string_or_skip()?,
                "resource" => {
                    let mut resource = Members::default();
                    resource.read(scan)?;
                    let kind = self.kind;
                    *self = Members { kind, ..resource };
                }
                _ => {
                    scan.skip()?;
                }
            }
        }
        Ok(())
    }

    fn content(self) -> Content {
        let kind = self.kind.map(decoded).unwrap_or_default();
        let or_empty = |text: Option<Str<'_>>| text.map(decoded).unwrap_or_default();
        match (kind.as_str(), self.text, self.data, self.blob) {
            ("text", Some(text), ..) => Content::Text(decoded(text)),
            ("image", _, Some(data), _) => Content::Image {
                mime: or_empty(self.mime),
                data: decoded(data),
            },
            ("resource", Some(text), ..) => Content::TextResource {
                uri: or_empty(self.uri),
                text: decoded(text),
            },
            ("resource", None, _, Some(blob)) => Content::BlobResource {
                uri: or_empty(self.uri),
                mime: or_empty(self.mime),
                blob: decoded(blob),
            },
            _ => Content::Other(kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, max: usize) -> ToolResult {
        let json = format!(r#"{{"content":[{content}]}}"#);
        ToolResult::read(json.into(), max).unwrap()
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn each_kind_of_content_is_shown() {
        for (content, part, is_error) in [
            (r#"{"type":"text","text":"a\nb"}"#, text("a\nb"), false),
            (
                r#"{"type":"image","data":"AAAA","mimeType":"image/png"}"#,
                Part::Image {
                    mime: "image/png".into(),
                    data: "AAAA".into(),
                },
                false,
            ),
            (
                r#"{"type":"resource","resource":{"uri":"f:a","mimeType":"t","text":"hi"}}"#,
                text("hi"),
                false,
            ),
            (
                r#"{"resource":{"uri":"f:a","mimeType":"m/t","blob":"QQ=="},"type":"resource"}"#,
                text("Binary resource (MIME: m/t, URI: f:a): QQ=="),
                false,
            ),
            (
                r#"{"type":"audio","data":"AAAA","mimeType":"audio/wav"}"#,
                text("Error: unsupported tool result content: audio"),
                true,
            ),
        ] {
            let result = read(content, 1000);
            assert_eq!(result.parts(), [part], "{content}");
            assert_eq!(result.is_error(), is_error, "{content}");
            assert_eq!(
                &result.json()[result.blocks()[0].range.clone()],
                content.as_bytes()
            );
        }
    }

    #[test]
    fn nothing_is_an_error_unless_there_is_structure() {
        let result = read("", 1000);
        assert_eq!(
            result.parts(),
            [text("Error: no valid tool result content")]
        );
        assert!(result.is_error());
        assert_eq!(result.text(), r#"{"content":[]}"#);

        let result = ToolResult::read(r#"{"structuredContent": {"n":1}}"#.into(), 100).unwrap();
        assert_eq!(result.parts(), [text(r#"{"n":1}"#)]);
        assert!(!result.is_error());
    }

    #[test]
    fn texts_are_joined_and_else_the_json_is_told() {
        let (a, b) = (
            r#"{"type":"text","text":"a"}"#,
            r#"{"type":"text","text":"b"}"#,
        );
        let image = r#"{"type":"image","data":"AAAA","mimeType":"image/png"}"#;
        assert_eq!(read(&format!("{a},{image},{b}"), 100).text(), "a\nb");
        assert_eq!(
            read(image, 100).text(),
            format!(r#"{{"content":[{image}]}}"#)
        );
        let short = read(image, 30).text();
        assert!(short.contains("truncated"), "{short}");
    }

    #[test]
    fn five_mebibytes_are_cut_with_a_note() {
        let long = "é".repeat(5 << 19);
        let result = read(
            &format!(r#"{{"type":"text","text":"{long}"}},{{"type":"text","text":"z"}}"#),
            1 << 20,
        );
        assert!(result.is_cut());
        let parts = result.parts();
        let [Part::Text(cut), Part::Text(note)] = &parts[..] else {
            panic!("{parts:?}")
        };
        assert_eq!(cut.len(), 1 << 20);
        assert_eq!(
            note,
            "[tool result truncated: it has 5242881 bytes, the limit is 1048576]"
        );
        assert!(result.text().len() < (1 << 20) + 100);
    }

    #[test]
    fn an_image_above_the_limit_is_left_out_whole() {
        let image = r#"{"type":"image","data":"AAAAAAAA","mimeType":"image/png"}"#;
        let parts = read(&format!(r#"{{"type":"text","text":"a"}},{image}"#), 10).parts();
        assert!(
            matches!(&parts[..], [Part::Text(a), Part::Text(note)] if a == "a" && note.contains("truncated"))
        );
    }

    #[test]
    fn other_results_are_no_tool_results() {
        let read = |json: &'static str| ToolResult::read(json.into(), 100).unwrap_err();
        assert_eq!(
            read(r#"{"resultType":"input_required"}"#),
            Failure::InputRequired
        );
        for json in ["[]", "null", r#"{"content":[}"#, r#"{"resultType":"task"}"#] {
            assert!(matches!(read(json), Failure::Malformed(_)), "{json}");
        }
    }
}
