//! Results of tool calls, as each API takes them.

use crate::api::{Api, edits::quoted, turns::ToolCall};

/// A part of a tool's result, by MCP's kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An embedded resource of bytes, in base64.
    Blob {
        /// Its MIME type.
        mime: String,
        /// Its URI.
        uri: String,
        /// Its bytes, in base64.
        data: String,
    },
    /// An image, in base64.
    Image {
        /// Its MIME type.
        mime: String,
        /// Its bytes, in base64.
        data: String,
    },
    /// Of another kind, which is told to the model by name: `audio`, `resource_link`, ….
    Other(String),
    /// Text; an embedded resource of text too.
    Text(String),
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// The call's id.
    pub id: String,
    /// What the tool gave, in order.
    pub content: Vec<Content>,
    /// The tool said that it failed, or it could not be run.
    pub is_error: bool,
    /// MCP's result as JSON text: what the OpenAI APIs get where there is no text among the
    /// content.
    pub raw: String,
}

impl CallResult {
    /// A result of this call. `raw` is MCP's result as JSON text.
    pub fn new(call: &ToolCall, content: Vec<Content>, raw: impl Into<String>) -> Self {
        Self {
            id: call.id.clone(),
            content,
            is_error: false,
            raw: raw.into(),
        }
    }

    /// The call could not be made, and why: transport, unknown tool, timeout, limit.
    pub fn failed(call: &ToolCall, why: &str) -> Self {
        let text = format!("Error: calling tool: {why}");
        let is_error = true;
        let content = vec![Content::Text(text)];
        Self {
            is_error,
            ..Self::new(call, content, "")
        }
    }

    /// Cuts the result down to `max` bytes of content, and says so in it. Text is cut at a
    /// character, all else is left out whole. Whether there was something to cut.
    ///
    /// ```
    /// use aibridge_core::api::{ToolCall, turns::{CallResult, Content}};
    ///
    /// let call = ToolCall { id: "c".into(), name: "t".into(), arguments: "{}".into() };
    /// let mut result = CallResult::new(&call, vec![Content::Text("long".into())], "{}");
    /// assert!(result.limit(2));
    /// assert_eq!(result.content[0], Content::Text("lo".into()));
    /// assert_eq!(result.content[1], Content::Text("[truncated: the result is longer than 2 bytes]".into()));
    /// ```
    pub fn limit(&mut self, max: usize) -> bool {
        let mut room = max;
        let mut is_cut = false;
        self.content.retain_mut(|content| {
            let len = content.len();
            if len <= room {
                room -= len;
                return true;
            }
            is_cut = true;
            match content {
                Content::Text(text) => {
                    text.truncate(text.floor_char_boundary(room));
                    room = 0;
                    !text.is_empty()
                }
                Content::Blob { .. } | Content::Image { .. } | Content::Other(_) => false,
            }
        });
        let note = format!("[truncated: the result is longer than {max} bytes]");
        let has_text = self.content.iter().any(|it| matches!(it, Content::Text(_)));
        if is_cut || !has_text && self.raw.len() > max {
            self.content.push(Content::Text(note));
            is_cut = true;
        }
        is_cut
    }

    /// The texts; where there are none, what MCP said.
    fn as_text(&self) -> String {
        let texts = self.content.iter().filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            Content::Blob { .. } | Content::Image { .. } | Content::Other(_) => None,
        });
        let texts: Vec<_> = texts.collect();
        if texts.is_empty() {
            return self.raw.clone();
        }
        texts.join("\n")
    }

    /// As Anthropic's `tool_result`.
    fn as_block(&self) -> String {
        let mut blocks = Vec::new();
        let mut is_error = self.is_error || self.content.is_empty();
        for content in &self.content {
            blocks.extend(content.block(&mut is_error));
        }
        // An error without words is refused there. Anything else may have nothing to say: a tool
        // that printed nothing.
        if blocks.is_empty() && is_error {
            blocks.push(text_block("Error: no valid tool result content"));
        }
        let content = if blocks.is_empty() {
            String::new()
        } else {
            format!(",\"content\":[{}]", blocks.join(","))
        };
        let error = if is_error { ",\"is_error\":true" } else { "" };
        format!(
            "{{\"type\":\"tool_result\",\"tool_use_id\":{}{content}{error}}}",
            quoted(&self.id)
        )
    }
}

impl Content {
    /// Bytes of it that the model gets.
    fn len(&self) -> usize {
        match self {
            Self::Blob { data, .. } | Self::Image { data, .. } => data.len(),
            Self::Other(kind) => kind.len(),
            Self::Text(text) => text.len(),
        }
    }

    /// As a content block of Anthropic's; none for a text of white space alone, which is refused
    /// there.
    fn block(&self, is_error: &mut bool) -> Option<String> {
        match self {
            Self::Text(text) if text.trim().is_empty() => None,
            Self::Text(text) => Some(text_block(text)),
            Self::Image { mime, data } if IMAGES.contains(&mime.as_str()) => Some(format!(
                "{{\"type\":\"image\",\"source\":{{\"type\":\"base64\",\"media_type\":{},\"data\":{}}}}}",
                quoted(mime),
                quoted(data)
            )),
            Self::Blob { mime, uri, data } => Some(text_block(&format!(
                "Binary resource (MIME: {mime}, URI: {uri}): {data}"
            ))),
            Self::Image { mime: kind, .. } | Self::Other(kind) => {
                *is_error = true;
                Some(text_block(&format!(
                    "Error: unsupported tool result content type: {kind}"
                )))
            }
        }
    }
}

/// Appends the results to the elements of a conversation.
pub(super) fn append(api: Api, results: &[CallResult], to: &mut Vec<u8>) {
    let mut elements = Vec::with_capacity(results.len());
    match api {
        Api::Messages => {
            let blocks: Vec<_> = results.iter().map(CallResult::as_block).collect();
            let blocks = blocks.join(",");
            elements.push(format!("{{\"role\":\"user\",\"content\":[{blocks}]}}"));
        }
        Api::ChatCompletions => elements.extend(results.iter().map(|result| {
            format!(
                "{{\"role\":\"tool\",\"tool_call_id\":{},\"content\":{}}}",
                quoted(&result.id),
                quoted(&result.as_text())
            )
        })),
        Api::Responses => elements.extend(results.iter().map(|result| {
            format!(
                "{{\"type\":\"function_call_output\",\"call_id\":{},\"output\":{}}}",
                quoted(&result.id),
                quoted(&result.as_text())
            )
        })),
    }
    for element in elements {
        if !to.is_empty() {
            to.push(b',');
        }
        to.extend_from_slice(element.as_bytes());
    }
}

fn text_block(text: &str) -> String {
    format!("{{\"type\":\"text\",\"text\":{}}}", quoted(text))
}

/// The images that Anthropic takes; any other would fail the whole request.
const IMAGES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/webp"];
