//! What the three provider APIs look like: what a request says, what a reply reports, how an error is spelt.
//!
//! One file per API, each with the same four things in the same order: `inspect` (what the bridge must know of
//! a request), `prepare` (what it changes in one), `Stream` (follows a streamed reply event by event) and
//! `Body` or a `read_body` (reads a blocking one).

use bytes::Bytes;

use crate::{json, sse};

mod chat_completions;
mod error;
mod messages;
mod responses;
mod usage;

pub use error::ApiError;
pub use usage::Usage;

/// Who defines the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vendor {
    /// Anthropic, and servers compatible with it.
    Anthropic,
    /// OpenAI, and servers compatible with it.
    OpenAi,
}

/// A bridged API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// OpenAI `POST /chat/completions`.
    ChatCompletions,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// OpenAI `POST /responses`.
    Responses,
}

impl Api {
    /// Whose API it is.
    pub const fn vendor(self) -> Vendor {
        match self {
            Self::Messages => Vendor::Anthropic,
            Self::ChatCompletions | Self::Responses => Vendor::OpenAi,
        }
    }

    /// `messages`, `chat_completions` or `responses`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Messages => "messages",
            Self::Responses => "responses",
        }
    }
}

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

/// Reads a request body in one pass.
///
/// # Errors
/// The body is none the bridge could relay.
pub fn inspect(_api: Api, _body: &[u8]) -> Result<Inspected, Invalid> {
    todo!()
}

/// The body to send upstream: the client's own bytes, but for what recording needs (chat, streaming:
/// `stream_options.include_usage`).
pub fn prepare(_api: Api, _body: Bytes, _inspected: &Inspected) -> Bytes {
    todo!()
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is relayed as it came.
    Relay,
    /// The client did not ask for it.
    Withhold,
}

/// A tool call that the model made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments as the model wrote them: JSON text, or free text for custom tools.
    pub arguments: String,
}

/// A thought that the model showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// `thinking`, `reasoning_summary` or `commentary`.
    pub source: &'static str,
    /// Its text.
    pub text: String,
}

/// What a reply told, once it has ended or broken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The reply's id.
    pub id: Option<String>,
    /// The last usage reported; `None` if there was none.
    pub usage: Option<Usage>,
    /// Tool calls in order.
    pub tool_calls: Vec<ToolCall>,
    /// Thoughts in order.
    pub thoughts: Vec<Thought>,
    /// The stop or finish reason or the response's status.
    pub stop: Option<String>,
    /// The provider's own error in the stream or body: its message, or else its type.
    pub error: Option<String>,
    /// A stream: its terminal event came (`message_stop`; `[DONE]`; `response.completed`, `.incomplete`,
    /// `.failed`; `error`). A body: it parsed.
    pub complete: bool,
    /// Responses: the last `sequence_number`, or `None`.
    pub sequence_number: Option<u64>,
}

/// Follows one streamed reply.
#[derive(Debug)]
pub struct Stream {}

impl Stream {
    /// An observer of a reply to this request.
    pub fn new(_api: Api, _inspected: &Inspected) -> Self {
        todo!()
    }
    /// Whether `event` may answer `Withhold` in this stream. If not, the caller may relay bytes as they come.
    pub fn may_withhold(&self) -> bool {
        todo!()
    }
    /// Takes note of an event. Malformed ones are no error here: they are relayed and not understood.
    pub fn event(&mut self, _event: &sse::Event) -> Pass {
        todo!()
    }
    /// The stream's terminal event has been seen: what follows is no failure.
    pub fn is_complete(&self) -> bool {
        todo!()
    }
    /// What it told, for the records. Leaves the stream empty.
    pub fn told(&mut self) -> Told {
        todo!()
    }
}

/// Reads a whole blocking reply. A body that does not parse tells nothing.
pub fn read_body(_api: Api, _body: &[u8]) -> Told {
    todo!()
}
