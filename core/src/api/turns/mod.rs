//! Many turns, one reply: what the client sees of the agentic loop.
//!
//! With tools injected, a reply may call one of them. The client must not see that call: it is run,
//! its result is appended to the conversation, and the model is called again. [`Turns`] follows the
//! turns of one request and knows what the client gets of each, when a turn calls tools, and what
//! the next request is. It runs nothing and waits for nothing.
//!
//! One turn, streamed, goes like this:
//!
//! | the upstream's reply | the caller |
//! |---|---|
//! | an item of the stream | [`item`](Turns::item): relays it, withholds it, or sends other bytes in its place |
//! | its proper end, or as soon as [`is_turn_over`](Turns::is_turn_over) | [`end`](Turns::end): sends what was held back, and is told whether to run tools |
//! | a blocking reply, whole | [`body`](Turns::body) instead of these two |
//! | any end | [`told`](Turns::told), for the records |
//!
//! After [`TurnEnd::Calls`] the caller runs the calls and sends what
//! [`continuation`](Turns::continuation) gives, which begins the next turn. Every other end is the
//! end of the reply.
//!
//! What is streamed is never held back longer than it must be. Text and thoughts leave at once;
//! calls of injected tools are left out; the end of a turn waits only where such a call came before
//! it. The Responses API is different: its events carry places and numbers that belong to one
//! response, so a turn is held until it is known to call no injected tool, and nothing of a turn
//! that does ever leaves.
//!
//! ```
//! use aibridge_core::{
//!     api::{self, Api, Tool, turns::{CallResult, Content, Passed, TurnEnd, Turns}},
//!     codec::Step,
//!     sse,
//! };
//! use bytes::Bytes;
//!
//! let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"Time?"}]}"#);
//! let inspected = api::inspect(Api::Messages, &body).unwrap();
//! let clock = Tool::new("bmcp_clock_now", None, r#"{"type":"object"}"#).unwrap();
//! let injected = api::inject(Api::Messages, body, &inspected, &[clock]);
//! let mut turns = Turns::new(Api::Messages, &inspected, injected.body, injected.names);
//!
//! let reply = br#"{"id":"msg_1","content":[{"type":"tool_use","id":"t1","name":"bmcp_clock_now","input":{}}],"stop_reason":"tool_use"}"#;
//! let (for_client, end) = turns.body(Bytes::from_static(reply));
//! assert!(for_client.is_empty());
//! let TurnEnd::Calls(calls) = end else { panic!("one call") };
//! assert_eq!(calls[0].name, "bmcp_clock_now");
//!
//! let result = CallResult::new(&calls[0], vec![Content::Text("noon".into())], "{}");
//! let next = turns.continuation(&[result]);
//! assert!(next.ends_with(
//!     br#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"noon"}]}]}]}"#
//! ));
//!
//! let reply = Bytes::from_static(br#"{"id":"msg_2","content":[{"type":"text","text":"Noon."}],"stop_reason":"end_turn"}"#);
//! assert_eq!(turns.body(reply.clone()), (reply, TurnEnd::Final));
//! ```

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::StatusCode;

use crate::{
    api::{
        Api, ApiError, Inspected, Stream, Told, ToolCall, edits::Edits, read, read_body,
        reply::NOTED, request::ToolsSlot,
    },
    id::InterceptionId,
    sse,
};

mod chat_completions;
mod choice;
mod element;
mod history;
mod messages;
mod request;
mod responses;
mod result;
#[cfg(test)]
mod tests;
mod turn;
mod usual;

pub use result::{CallResult, Content};

use request::{Kept, Request};
use turn::Turn;

/// Bytes of a turn that are kept for what may come of it: 32 MiB.
pub const MAX_TURN: usize = 32 << 20;

/// What becomes of an item of a turn's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It is relayed as it came.
    Relay,
    /// These bytes are sent in its place: whole events, some of them held back earlier perhaps.
    Replace(Bytes),
    /// Nothing is sent; not now at least.
    Withhold,
}

impl ToolCall {
    /// Whether its arguments are a JSON object, so that it can be run.
    pub fn is_sound(&self) -> bool {
        history::is_object(self.arguments.as_bytes())
    }

    /// How many bytes it has.
    fn len(&self) -> usize {
        self.id.len() + self.name.len() + self.arguments.len()
    }
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEnd {
    /// These are to be run, then comes another turn. In the model's order; at least one of them is
    /// sound. Those that are not are answered with an error.
    Calls(Vec<ToolCall>),
    /// The reply is over, and the client has all of it.
    Final,
    /// As `Final`, but these calls were left out of what the client got and are not to be run.
    Refused {
        /// The calls, in the model's order.
        calls: Vec<ToolCall>,
        /// Why they are not run.
        why: Refusal,
    },
    /// The turn calls injected tools, but is longer than [`MAX_TURN`], so that it cannot be
    /// continued. The reply is to be ended with an error.
    TooLong,
}

/// Why a turn's calls are not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The arguments of none are a JSON object.
    Malformed,
    /// The turn calls tools of the client's too, which only the client can run.
    Mixed,
    /// The turn ended before its time: at a limit of tokens, by a filter, with an error, or without
    /// an end.
    Truncated,
}

/// Follows the turns of one request, and makes one reply of them.
///
/// The client's reply has started as soon as something was relayed or replaced, or
/// [`end`](Self::end) gave bytes. All that goes to the client is whole events, so that a keep-alive
/// may stand between any two of them; in the Responses API the caller must not start the reply with
/// one.
pub struct Turns {
    api: Api,
    /// As much of it as following a turn takes.
    inspected: Inspected,
    request: Request,
    /// The client brought tools.
    has_own_tools: bool,
    follow: Stream,
    /// What a blocking turn told.
    told: Option<Told>,
    /// The last event was not relayed and ended in a CR: an LF right after it is accounted for.
    swallows_lf: bool,
    turn: Turn,
    dialect: Dialect,
}

#[derive(Debug)]
enum Dialect {
    ChatCompletions(chat_completions::Merge),
    Messages(messages::Merge),
    Responses(responses::Merge),
}

impl fmt::Debug for Turns {
    /// Where it is only: bodies are what users write and models say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("api", &self.api)
            .field("turn", &self.turn.nth)
            .finish_non_exhaustive()
    }
}

impl Turns {
    /// The turns of this request. `body` is what is sent upstream in the first turn and `injected`
    /// the names of the tools in it that are not the client's: both as [`inject`](super::inject)
    /// gave them.
    pub fn new(api: Api, inspected: &Inspected, body: Bytes, injected: Vec<Arc<str>>) -> Self {
        let tools = &inspected.slots.tools;
        let inspected = Inspected {
            edit: inspected.edit.clone(),
            usage_wanted: inspected.usage_wanted,
            ..Inspected::default()
        };
        Self {
            api,
            request: Request::new(api, body),
            has_own_tools: matches!(tools, ToolsSlot::Array(_, true)),
            follow: Stream::new(api, &inspected),
            told: None,
            swallows_lf: false,
            turn: Turn {
                injected,
                ..Turn::default()
            },
            dialect: match api {
                Api::ChatCompletions => {
                    Dialect::ChatCompletions(chat_completions::Merge::new(&inspected))
                }
                Api::Messages => Dialect::Messages(messages::Merge::default()),
                Api::Responses => Dialect::Responses(responses::Merge::default()),
            },
            inspected,
        }
    }

    /// Whether a tool of this name was injected into this request, and is not one of the client's.
    pub fn is_injected(&self, name: &str) -> bool {
        self.turn.is_injected(name)
    }

    /// Takes the next item of a streamed turn, in order, and says what becomes of it.
    pub fn item(&mut self, item: &sse::Item) -> Passed {
        let swallows_lf = std::mem::take(&mut self.swallows_lf);
        let event = match item {
            sse::Item::Event(event) => event,
            sse::Item::Raw(raw) if swallows_lf && raw == "\n" => return Passed::Withhold,
            sse::Item::Raw(raw) => return self.raw(raw),
        };
        self.follow.event(event);
        let passed = match &mut self.dialect {
            Dialect::ChatCompletions(chat) => chat.event(event, &mut self.turn),
            Dialect::Messages(messages) => messages.event(event, &mut self.turn),
            Dialect::Responses(responses) => responses.event(event, &mut self.turn),
        };
        self.swallows_lf = passed != Passed::Relay && event.raw().ends_with(b"\r");
        passed
    }

    /// The turn's stream has ended properly. Gives what is left to be sent, and how the turn ended.
    pub fn end(&mut self) -> (Bytes, TurnEnd) {
        let rest = match &mut self.dialect {
            Dialect::ChatCompletions(chat) => chat.end(&mut self.turn),
            Dialect::Messages(messages) => messages.end(&mut self.turn),
            Dialect::Responses(responses) => responses.end(&mut self.turn),
        };
        (rest, self.turn.ended())
    }

    /// Takes a whole blocking turn (a success: errors are not the loop's business). Gives the body
    /// for the client, which is empty where the loop goes on, and how the turn ended.
    pub fn body(&mut self, body: Bytes) -> (Bytes, TurnEnd) {
        let told = self.told.insert(read_body(self.api, &body));
        // The common case needs no second look. A short body has room in the notes for any call.
        let calls_nothing = told.complete && told.tool_calls.is_empty() && body.len() < NOTED;
        if calls_nothing && self.turn.nth == 0 {
            self.turn.end = Some(TurnEnd::Final);
            return (body, TurnEnd::Final);
        }
        let body = match &mut self.dialect {
            Dialect::ChatCompletions(_) => chat_completions::Merge::body(body, &mut self.turn),
            Dialect::Messages(messages) => messages.body(body, &mut self.turn),
            Dialect::Responses(_) => responses::Merge::body(body, &mut self.turn),
        };
        match self.turn.ended() {
            end @ (TurnEnd::Calls(_) | TurnEnd::TooLong) => (Bytes::new(), end),
            end @ (TurnEnd::Final | TurnEnd::Refused { .. }) => (body, end),
        }
    }

    /// What the turn told, for the records: asked once per turn, when it is over or has broken off.
    pub fn told(&mut self) -> Told {
        match self.told.take() {
            Some(told) => told,
            None => self.follow.told(),
        }
    }

    /// The body of the next request: the one before, and after its conversation the turn's own
    /// messages as received and the results. Where the client insisted on a tool and only injected
    /// ones can be meant, the model is free from here on. Of a `conversation` that the provider
    /// keeps, only the results are new; where it stores nothing, thoughts that came by their id
    /// alone are left out. `results` answer the calls of [`TurnEnd::Calls`], in their order. The
    /// next turn begins.
    pub fn continuation(&mut self, results: &[CallResult]) -> Bytes {
        let turn = &mut self.turn;
        if turn.nth == 0 {
            let is_injected = |name: &str| turn.is_injected(name);
            self.request
                .edit(|body| choice::relax(self.api, body, is_injected, self.has_own_tools));
        }
        let mut added = std::mem::take(&mut turn.history);
        let kept = self.request.kept();
        match kept {
            Kept::All => added.clear(),
            Kept::Items => {}
            Kept::Nothing => added = responses::without_bare_thoughts(added),
        }
        result::append(self.api, results, &mut added);
        let body = match kept {
            Kept::All => self.request.replace(&added),
            Kept::Items | Kept::Nothing => self.request.append(&added),
        };

        let used = std::mem::take(&mut turn.used);
        turn.earlier.add(&used);
        turn.calls.clear();
        turn.nth += 1;
        (turn.calls_own, turn.failed, turn.end) = (false, false, None);
        self.follow = Stream::new(self.api, &self.inspected);
        self.swallows_lf = false;
        match &mut self.dialect {
            Dialect::ChatCompletions(chat) => chat.next_turn(),
            Dialect::Messages(messages) => messages.next_turn(),
            Dialect::Responses(responses) => responses.next_turn(),
        }
        body
    }

    /// How many bytes of this turn, and of what earlier ones have for the client, it keeps besides
    /// the request: at most twice [`MAX_TURN`], for what the conversation needs and what is held
    /// back, and one event.
    pub fn buffered(&self) -> usize {
        self.turn.history.len()
            + match &self.dialect {
                Dialect::ChatCompletions(chat) => chat.buffered(),
                Dialect::Messages(messages) => messages.buffered(),
                Dialect::Responses(responses) => responses.buffered(),
            }
    }

    /// The turn's terminal event has come, so that [`end`](Self::end) need not wait for the end of
    /// the stream.
    pub fn is_turn_over(&self) -> bool {
        self.turn.end.is_some()
    }

    /// The client has been given a terminal event, or the provider's own error: what follows is no
    /// failure, and nothing may be added.
    pub fn is_complete(&self) -> bool {
        let goes_on = matches!(self.turn.end, Some(TurnEnd::Calls(_) | TurnEnd::TooLong));
        self.follow.is_complete() && !goes_on
    }

    /// The stream's own error event, for a failure after the reply has started. It ends the reply.
    pub fn error_event(&self, error: &ApiError, id: InterceptionId) -> Bytes {
        error.event(self.api, id, self.follow.sequence_number())
    }

    /// The stream's own error event where a later turn was answered by an error, after the reply
    /// has started: the body as it came, with its type, code, param and request id, where it is an
    /// error of the API's; else at least what it says.
    pub fn upstream_error_event(
        &self,
        status: StatusCode,
        body: &[u8],
        id: InterceptionId,
    ) -> Bytes {
        let refused = Refused::read(body).unwrap_or_default();
        let name = match self.api {
            Api::ChatCompletions if refused.has_message => Some(""),
            Api::Messages if refused.is_typed && refused.has_message => Some("error"),
            Api::ChatCompletions | Api::Messages | Api::Responses => None,
        };
        if let Some((name, body)) = name.zip(str::from_utf8(body).ok()) {
            return sse::encode(name, body);
        }
        let unspoken = || format!("upstream answered with status {}", status.as_u16());
        let message = refused.says.unwrap_or_else(unspoken);
        self.error_event(&ApiError::http(status, message), id)
    }

    /// Bytes that are no event: comments, which pass; pieces of an event that is too long to be
    /// read, or a stump at the end of the stream, which pass unless the turn may go on after them.
    fn raw(&mut self, raw: &Bytes) -> Passed {
        let is_harmless = raw.starts_with(b":") || raw.trim_ascii().is_empty();
        let may_go_on = match &mut self.dialect {
            Dialect::Responses(responses) => return responses.raw(raw, &self.turn),
            _ if is_harmless => return Passed::Relay,
            Dialect::ChatCompletions(chat) => chat.has_injected() || self.turn.goes_on(),
            Dialect::Messages(messages) => messages.has_injected() || self.turn.goes_on(),
        };
        // A byte order mark may stand at the start of a reply only.
        if may_go_on || self.turn.nth > 0 && raw.starts_with(b"\xEF\xBB\xBF") {
            return Passed::Withhold;
        }
        Passed::Relay
    }
}

/// What the body of an error says.
#[derive(Default)]
struct Refused {
    /// The message, or what stands for it.
    says: Option<String>,
    has_message: bool,
    /// It tells its type, and that it is an error, as Anthropic's do.
    is_typed: bool,
}

impl Refused {
    fn read(body: &[u8]) -> Option<Self> {
        let (mut refused, mut is_error, mut has_type) = (Self::default(), false, false);
        read::document(body, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => is_error = scan.string_or_skip()?.is_some_and(|it| it.is("error")),
                    "error" => {
                        let says = read::error(&mut scan.clone())?;
                        refused.says = says.map(|says| says.decode().into_owned());
                        read::object(scan, |scan, name| {
                            match name {
                                "message" => refused.has_message = scan.string_or_skip()?.is_some(),
                                "type" => has_type = scan.string_or_skip()?.is_some(),
                                _ => read::skip(scan)?,
                            }
                            Ok(())
                        })?;
                    }
                    _ => read::skip(scan)?,
                }
                Ok(())
            })
        })?;
        refused.is_typed = is_error && has_type;
        Some(refused)
    }
}

/// An event with edits made in its data, ending in a whole line end.
fn edited(event: &sse::Event, mut edits: Edits) -> Bytes {
    if edits.is_empty() {
        return whole(event);
    }
    let Some(range) = event.data_range() else {
        let data = edits.apply(&event.data());
        let name = String::from_utf8_lossy(event.name());
        return sse::encode(&name, &String::from_utf8_lossy(&data));
    };
    edits.shift(range.start);
    if event.raw().ends_with(b"\r") {
        edits.insert(event.raw().len(), "\n");
    }
    edits.apply(event.raw())
}

/// An event as it came. Of a CRLF that was split, the LF comes later and is then swallowed, so it
/// is added here.
fn whole(event: &sse::Event) -> Bytes {
    let raw = event.raw();
    if raw.ends_with(b"\r") {
        return [raw, &b"\n"[..]].concat().into();
    }
    raw.clone()
}

/// Several events as one piece, not copied where there is one.
fn joined(events: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(events) {
        Ok([event]) => event,
        Err(events) => events.concat().into(),
    }
}
