//! What is worth keeping of an interception, as values handed out while it runs.

use std::{borrow::Cow, sync::Arc};

use crate::{
    api::{Api, Thought, ToolCall, Usage},
    fault::Fault,
    id::InterceptionId,
    keypool::{Exhausted, Transition},
    time::{Duration, Instant},
};

/// One record.
///
/// Those of a bridged request carry its id: `Started` comes first, `Ended` last and exactly once. A
/// passthrough has one `Passthrough`, and a request that was refused one `TurnedAway`. `Exhausted`,
/// `KeyChanged` and `ToolServer` tell of what requests share, and have no id.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Record {
    /// A call to upstream was judged.
    Attempt(InterceptionId, Attempt),
    /// The interception is over.
    Ended(InterceptionId, Box<Ended>),
    /// There was no key for a request, a passthrough's too.
    Exhausted {
        /// The provider's name.
        provider: Arc<str>,
        /// What keeps the keys from being used.
        exhausted: Exhausted,
        /// When.
        at: Instant,
    },
    /// A key changed state.
    KeyChanged {
        /// The provider's name.
        provider: Arc<str>,
        /// What changed.
        transition: Transition,
        /// When.
        at: Instant,
    },
    /// A passthrough request is over. It is counted, not stored.
    Passthrough(Passthrough),
    /// The user's prompt.
    Prompt(InterceptionId, String),
    /// An interception began.
    Started(InterceptionId, Box<Started>),
    /// The model showed a thought.
    Thought(InterceptionId, Thought),
    /// One turn's tokens.
    TokenUsage(InterceptionId, TokenUsage),
    /// The model called a tool.
    ToolUsage(InterceptionId, ToolUsage),
    /// An MCP server came up or went down, or lists other tools.
    ToolServer(ToolServer),
    /// A request was turned away before anything was done for it. It is counted and logged, not
    /// stored: its interception has neither begun nor ended, and its id is known from the reply and
    /// from here alone.
    TurnedAway(InterceptionId, Box<TurnedAway>),
    /// Something that an operator should look at.
    Warning(InterceptionId, String),
}

/// What became of an MCP server.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolServer {
    /// Its name.
    pub name: Arc<str>,
    /// How many tools of its are offered.
    pub tools: usize,
    /// Why it cannot be used; `None` if it can.
    pub down: Option<String>,
    /// What it lists since last told of it and what is not offered, each with why.
    pub left_out: Vec<String>,
    /// When.
    pub at: Instant,
}

/// An interception began.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// The provider's name.
    pub provider: Arc<str>,
    /// API.
    pub api: Api,
    /// Model; empty where the body did not tell.
    pub model: Arc<str>,
    /// Whether the client asked for a stream.
    pub streaming: bool,
    /// Who asked.
    pub actor: Arc<str>,
    /// Which program asked: a guess.
    pub client: &'static str,
    /// The program's session.
    pub session_id: Option<String>,
    /// The `user-agent` field.
    pub user_agent: Option<String>,
    /// Whose key is used.
    pub credential_kind: CredentialKind,
    /// The call id of the last tool result in the request.
    pub correlating_tool_call_id: Option<String>,
    /// When.
    pub at: Instant,
}

/// Whose key is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The client's own.
    Byok,
    /// The organisation's.
    Centralized,
}

impl CredentialKind {
    /// `byok` or `centralized`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Byok => "byok",
            Self::Centralized => "centralized",
        }
    }
}

/// A call to upstream was judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Turn of the loop, from 1.
    pub turn: u32,
    /// The key's place in the configuration; `None` for BYOK.
    pub key_index: Option<usize>,
    /// What may be shown of the key.
    pub key_hint: Arc<str>,
    /// Status, or what went wrong before there was one.
    pub result: Result<u16, Fault>,
    /// What the policy said: `relay`, `next_key` or `give_up`.
    pub verdict: &'static str,
    /// When.
    pub at: Instant,
}

/// An interception is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// When.
    pub at: Instant,
    /// The status that the client got; `None` if it left before there was one.
    pub status: Option<u16>,
    /// How it went.
    pub outcome: Outcome,
    /// What went wrong, at most 1 KiB. It may be in upstream's words, which may quote the request,
    /// but has no key in it that was used.
    pub error: Option<String>,
    /// What went wrong, in the bridge's words alone.
    pub class: Option<Cow<'static, str>>,
    /// What may be shown of the last key attempted.
    pub credential_hint: Arc<str>,
    /// Calls to upstream.
    pub attempts: u32,
    /// Turns of the loop.
    pub turns: u32,
    /// From the start to the reply's first body byte.
    pub first_byte: Option<Duration>,
    /// The bridge's own share of it: from when a call could be made to when it was, for each call.
    /// In this time the request was inspected and a key was found.
    pub overhead: Duration,
    /// From the start to the end.
    pub total: Duration,
}

/// How an interception went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The client's request was malformed.
    BadRequest,
    /// The client left, or stopped reading.
    Cancelled,
    /// The bridge itself failed.
    Internal,
    /// A complete reply without an error.
    Ok,
    /// 429, from upstream or for want of a key.
    RateLimited,
    /// Something took too long.
    Timeout,
    /// 401 or 403 from upstream, or all keys retired.
    Unauthorized,
    /// Any other error from upstream, in the status, in the stream, or of the connection.
    UpstreamError,
}

impl Outcome {
    /// As in the store and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
            Self::Ok => "ok",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Unauthorized => "unauthorized",
            Self::UpstreamError => "upstream_error",
        }
    }
}

/// A request was turned away.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnedAway {
    /// The provider's name, where the path names one.
    pub provider: Option<Arc<str>>,
    /// The status that the client got.
    pub status: u16,
    /// Why.
    pub reason: Reason,
    /// What the client was told: our own words, and nothing of the request's.
    pub message: String,
    /// When.
    pub at: Instant,
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The caller is known, but may not do this: 403.
    Forbidden,
    /// There is too much, or too little room, or no time: 429 and 503. The bridge
    /// [counts](crate::Bridge::refusals) these, by limit.
    Limit,
    /// It is no HTTP, or no target, that we understand.
    Malformed,
    /// The route has other methods: 405.
    Method,
    /// There is nothing at its path: 404.
    NotFound,
    /// Its body, or its head, is larger than allowed: 413, 414, 431.
    TooLarge,
    /// It took too long to come: 408.
    TooSlow,
    /// The caller is not known: 401.
    Unauthenticated,
    /// HTTP has it, and we do not: 501, 505.
    Unsupported,
    /// It asks for a WebSocket: 426.
    Upgrade,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Forbidden,
        Self::Limit,
        Self::Malformed,
        Self::Method,
        Self::NotFound,
        Self::TooLarge,
        Self::TooSlow,
        Self::Unauthenticated,
        Self::Unsupported,
        Self::Upgrade,
    ];

    /// As in metrics and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Limit => "limit",
            Self::Malformed => "malformed",
            Self::Method => "method",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unauthenticated => "unauthenticated",
            Self::Unsupported => "unsupported",
            Self::Upgrade => "upgrade",
        }
    }
}

/// A passthrough request is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Passthrough {
    /// The id that its reply carries.
    pub id: InterceptionId,
    /// The provider's name.
    pub provider: Arc<str>,
    /// The status that the client got.
    pub status: Option<u16>,
    /// How it went.
    pub outcome: Outcome,
    /// From the start to the end.
    pub total: Duration,
    /// When it ended.
    pub at: Instant,
}

/// One turn's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenUsage {
    /// Turn, from 1.
    pub turn: u32,
    /// The provider's id of the reply.
    pub reply_id: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// When.
    pub at: Instant,
}

/// The model called a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolUsage {
    /// Turn, from 1.
    pub turn: u32,
    /// The call.
    pub call: ToolCall,
    /// Whether it is one of the bridge's own tools.
    pub injected: bool,
    /// The MCP server that ran it.
    pub server: Option<Arc<str>>,
    /// Why it failed. It may be in the tool's words, but has no key of a provider in it that was
    /// used.
    pub error: Option<String>,
    /// Why it failed, in the bridge's words alone.
    pub class: Option<Cow<'static, str>>,
    /// When.
    pub at: Instant,
}
