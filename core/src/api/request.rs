//! What all three requests have in common.

use std::{fmt, ops::Range};

use bytes::Bytes;

use crate::{
    api::ApiError,
    json::{self, Kind, Scanner, Str},
};

/// What the bridge knows of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// `model`
    pub model: String,
    /// `stream`; false where absent or null.
    pub stream: bool,
    /// The last user prompt, by the rules of the API.
    pub prompt: Option<String>,
    /// The session id in the body (messages: `metadata.user_id`).
    pub session: Option<String>,
    /// The call id of the last tool result.
    pub tool_result: Option<String>,
    /// Chat, streaming: the client asked for the usage chunk itself.
    pub usage_wanted: bool,
    /// Responses: `background: true`.
    pub background: bool,
    /// What [`prepare`](super::prepare) replaces, and by what.
    pub(crate) edit: Option<(Range<usize>, &'static str)>,
    /// Where [`inject`](super::inject) puts tools.
    pub(crate) slots: Slots,
}

/// Where the members stand in a body that injecting tools has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Behind the opening brace.
    pub(crate) first_member: usize,
    pub(crate) tools: ToolsSlot,
    pub(crate) tool_choice: Option<Range<usize>>,
    pub(crate) parallel_tool_calls: Option<Range<usize>>,
    /// Chat: more than one choice is asked for (`n`).
    pub(crate) many_choices: bool,
}

/// The member `tools`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolsSlot {
    /// There is none.
    #[default]
    Absent,
    /// An array: the range between its brackets, and whether something stands there.
    Array(Range<usize>, bool),
    /// `null`
    Null(Range<usize>),
    /// Of a kind that the provider must judge.
    Odd,
}

impl Inspected {
    /// `body` with the edit made: the same bytes, not copied, where there is none.
    pub(super) fn apply(&self, body: Bytes) -> Bytes {
        match &self.edit {
            Some((range, text)) if range.end <= body.len() => {
                json::splice(&body, &[(range.clone(), text.as_bytes())])
            }
            _ => body,
        }
    }
}

/// Why a request body is refused: 400 `invalid_request_error`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// No JSON, or nested too deeply; with what and where.
    Json(json::Error),
    /// The body is JSON but no object.
    NotAnObject,
    /// `model` is absent or no string or empty.
    Model,
    /// `stream` is there and no boolean.
    Stream,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "request body is not valid JSON: {error}"),
            Self::NotAnObject => f.write_str("request body must be a JSON object"),
            Self::Model => f.write_str("`model` must be a non-empty string"),
            Self::Stream => f.write_str("`stream` must be a boolean"),
        }
    }
}

impl std::error::Error for Invalid {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::NotAnObject | Self::Model | Self::Stream => None,
        }
    }
}

impl From<json::Error> for Invalid {
    fn from(error: json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::invalid_request(invalid.to_string())
    }
}

/// What one API's request has beside `model` and `stream`.
///
/// Strings stay where they are until the whole body has been read: only the last prompt is ever
/// unescaped.
pub(super) trait Request<'a>: Default {
    /// Takes the value of the member `name`. Of a member that comes twice, the last one counts.
    fn member(&mut self, name: &str, scan: &mut Scanner<'a>) -> Result<(), json::Error>;

    /// Says what it found. `first_member` is the offset after the body's opening brace.
    fn finish(self, first_member: usize, inspected: &mut Inspected);
}

/// Reads a request body in one pass.
pub(super) fn inspect<'a, R: Request<'a>>(body: &'a [u8]) -> Result<Inspected, Invalid> {
    let mut scan = Scanner::new(body)?;
    if scan.kind()? != Kind::Object {
        scan.skip()?;
        scan.end()?;
        return Err(Invalid::NotAnObject);
    }
    let mut request = R::default();
    let mut model = None;
    let mut stream = Some(false);
    scan.object()?;
    let mut slots = Slots {
        first_member: scan.position(),
        ..Slots::default()
    };
    while let Some(name) = scan.key()? {
        match &*name.decode() {
            "model" => model = scan.string_or_skip()?,
            "stream" if scan.kind()? == Kind::Null => {
                scan.skip()?;
                stream = Some(false);
            }
            "stream" => stream = scan.bool_or_skip()?,
            "tools" => slots.tools = ToolsSlot::read(&mut scan)?,
            "tool_choice" => slots.tool_choice = Some(scan.skip()?),
            "parallel_tool_calls" => slots.parallel_tool_calls = Some(scan.skip()?),
            "n" => slots.many_choices = scan.u64_or_skip()?.is_some_and(|n| n > 1),
            name => request.member(name, &mut scan)?,
        }
    }
    scan.end()?;

    let mut inspected = Inspected {
        model: owned(model)
            .filter(|model| !model.is_empty())
            .ok_or(Invalid::Model)?,
        stream: stream.ok_or(Invalid::Stream)?,
        ..Inspected::default()
    };
    request.finish(slots.first_member, &mut inspected);
    inspected.slots = slots;
    Ok(inspected)
}

impl ToolsSlot {
    fn read(scan: &mut Scanner<'_>) -> Result<Self, json::Error> {
        match scan.kind()? {
            Kind::Array => {}
            Kind::Null => return scan.skip().map(Self::Null),
            _ => return scan.skip().map(|_| Self::Odd),
        }
        scan.array()?;
        let start = scan.position();
        let mut end = start;
        let mut has_any = false;
        while scan.element()? {
            has_any = true;
            end = scan.skip()?.end;
        }
        Ok(Self::Array(start..end, has_any))
    }
}

/// The string itself, where there is one.
pub(super) fn owned(string: Option<Str<'_>>) -> Option<String> {
    string.map(|string| string.decode().into_owned())
}
