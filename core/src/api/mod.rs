//! What the three provider APIs look like: what a request says, what a reply reports, how an error
//! is spelt.
//!
//! One file per API, each with the same three sections in the same order: `Request` (what the
//! bridge must know of a request, and the one edit it may make in it), `Stream` (follows a streamed
//! reply event by event) and `read_body` (reads a blocking one). What they share stands beside
//! them: `request` reads the members that all requests have, `reply` collects within limits, `read`
//! skips what is of an unexpected kind, `usage` normalises tokens, `error` writes the bridge's own
//! errors. Offering the model tools that the client knows nothing of is told in two parts: `tools`
//! puts them into a request, and [`turns`] makes one reply of the turns that come of it.
//!
//! Nothing here is strict about replies. A provider may send what this code has never heard of:
//! unknown events, members and tool types are relayed and not understood. Requests are checked to
//! be JSON, because the bridge edits some of them, and for the two members it acts on; all else is
//! the provider's to judge.
//!
//! The formats are those of the providers' documentation: Anthropic's "Messages" and "Streaming
//! messages", OpenAI's "Chat Completions", "Responses" and "Streaming events".
//!
//! ```
//! use aibridge_core::api::{self, Api};
//! use bytes::Bytes;
//!
//! let body = Bytes::from_static(br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#);
//! let inspected = api::inspect(Api::ChatCompletions, &body).unwrap();
//! assert_eq!(inspected.prompt.as_deref(), Some("hi"));
//!
//! // Recording needs the usage chunk, so it is asked for.
//! let upstream = api::prepare(body, &inspected);
//! assert!(upstream.starts_with(br#"{"stream_options":{"include_usage":true},"model""#));
//! ```

use bytes::Bytes;

use crate::sse;

mod chat_completions;
mod edits;
mod error;
mod messages;
mod read;
mod reply;
mod request;
mod responses;
mod shape;
#[cfg(test)]
mod tests;
mod tools;
pub mod turns;
mod usage;

pub use error::{ApiError, ErrorKind};
pub use reply::{Pass, Thought, Told, ToolCall};
pub use request::{Inspected, Invalid};
pub use tools::{Injected, Tool, inject};
pub use usage::Usage;

use reply::Notes;

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

/// Reads a request body in one pass.
///
/// All of the body is checked: UTF-8, strict JSON (RFC 8259), nesting of at most 128, nothing after
/// it. Of a member that comes twice, the last one counts.
///
/// # Errors
/// The body is none the bridge could relay.
pub fn inspect(api: Api, body: &[u8]) -> Result<Inspected, Invalid> {
    match api {
        Api::ChatCompletions => request::inspect::<chat_completions::Request<'_>>(body),
        Api::Messages => request::inspect::<messages::Request<'_>>(body),
        Api::Responses => request::inspect::<responses::Request<'_>>(body),
    }
}

/// The body to send upstream: the client's own bytes, but for what recording needs (chat,
/// streaming: `stream_options.include_usage`). `inspected` is what [`inspect`] said of this body.
pub fn prepare(body: Bytes, inspected: &Inspected) -> Bytes {
    inspected.apply(body)
}

/// Follows one streamed reply.
///
/// ```
/// use aibridge_core::{
///     api::{self, Api, Pass},
///     sse,
///     codec::Step,
/// };
///
/// let inspected = api::inspect(Api::Messages, br#"{"model":"m","stream":true}"#).unwrap();
/// let mut stream = api::Stream::new(Api::Messages, &inspected);
/// let mut events = sse::Decoder::new(1 << 20);
/// events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".into());
/// while let Step::Item(item) = events.next() {
///     if let sse::Item::Event(event) = item {
///         assert_eq!(stream.event(&event), Pass::Relay);
///     }
/// }
/// assert!(stream.is_complete());
/// ```
#[derive(Debug)]
pub struct Stream {
    notes: Notes,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    ChatCompletions(chat_completions::Stream),
    Messages(messages::Stream),
    Responses(responses::Stream),
}

impl Stream {
    /// An observer of a reply to this request.
    pub fn new(api: Api, inspected: &Inspected) -> Self {
        Self {
            notes: Notes::default(),
            dialect: match api {
                Api::ChatCompletions => {
                    Dialect::ChatCompletions(chat_completions::Stream::new(inspected))
                }
                Api::Messages => Dialect::Messages(messages::Stream::default()),
                Api::Responses => Dialect::Responses(responses::Stream::default()),
            },
        }
    }

    /// Takes note of an event. Malformed ones are no error here: they are relayed and not
    /// understood.
    pub fn event(&mut self, event: &sse::Event) -> Pass {
        match &mut self.dialect {
            Dialect::ChatCompletions(chat) => chat.event(event, &mut self.notes),
            Dialect::Messages(messages) => messages.event(event, &mut self.notes),
            Dialect::Responses(responses) => responses.event(event, &mut self.notes),
        }
    }

    /// What it told, for the records. Leaves the stream empty; whether it is complete stays known.
    pub fn told(&mut self) -> Told {
        match &mut self.dialect {
            Dialect::ChatCompletions(chat) => chat.finish(&mut self.notes),
            Dialect::Messages(messages) => messages.finish(&mut self.notes),
            Dialect::Responses(responses) => responses.finish(&mut self.notes),
        }
        self.notes.take()
    }

    /// Whether `event` may answer [`Pass::Withhold`] in this stream. If not, the caller may relay
    /// bytes as they come.
    pub fn may_withhold(&self) -> bool {
        match &self.dialect {
            Dialect::ChatCompletions(chat) => chat.may_withhold(),
            Dialect::Messages(_) | Dialect::Responses(_) => false,
        }
    }

    /// The number of the last event, in an API that counts them: an error event of ours goes on
    /// from it.
    pub fn sequence_number(&self) -> Option<u64> {
        self.notes.told.sequence_number
    }

    /// The stream's terminal event has been seen, or an error of the provider's own: what follows
    /// is no failure.
    pub fn is_complete(&self) -> bool {
        self.notes.told.complete
    }
}

/// Reads a whole blocking reply. A body that does not parse tells nothing.
///
/// ```
/// use aibridge_core::api::{self, Api};
///
/// let told = api::read_body(Api::Messages, br#"{"type":"error","error":{"type":"api_error","message":"no"}}"#);
/// assert_eq!(told.error.as_deref(), Some("no"));
/// ```
pub fn read_body(api: Api, body: &[u8]) -> Told {
    let read = match api {
        Api::ChatCompletions => chat_completions::read_body(body),
        Api::Messages => messages::read_body(body),
        Api::Responses => responses::read_body(body),
    };
    read.map(|mut notes| notes.take()).unwrap_or_default()
}
