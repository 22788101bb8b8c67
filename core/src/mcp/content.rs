//! The blocks of a tool's result.

use std::{fmt, ops::Range};

use crate::json::{self, Scanner, Str};

/// One block of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it stands in the result's [text](super::ToolResult::json).
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

impl Block {
    pub(super) fn read(scan: &mut Scanner<'_>) -> Result<Self, json::Error> {
        let range = scan.clone().skip()?;
        let mut members = Members::default();
        members.read(scan)?;
        let content = members.content();
        Ok(Self { range, content })
    }

    pub(super) fn part(&self) -> Part {
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
    pub(super) fn len(&self) -> usize {
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

pub(super) fn decoded(text: Str<'_>) -> String {
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
