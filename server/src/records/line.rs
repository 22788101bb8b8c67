//! Records as lines: what a journal holds of an interception.
//!
//! In the JSON Lines store a line is an object with one member, whose name says what is recorded:
//! `{"ended":{"id":"…","outcome":"ok",…}}`. Each carries the interception's id. Times are RFC 3339,
//! durations milliseconds.

use std::{borrow::Cow, collections::BTreeMap};

use aibridge_core::{InterceptionId, record::Record};
use serde::{Deserialize, Serialize};

use super::{
    scalar::{Id, Time},
    view::millis,
};

/// One line. Borrows from the record it is made of, or from the text it is read from.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    #[serde(borrow)]
    Attempt(Attempt<'a>),
    #[serde(borrow)]
    Ended(Ended<'a>),
    #[serde(borrow)]
    Prompt(Prompt<'a>),
    #[serde(borrow)]
    Started(Started<'a>),
    #[serde(borrow)]
    Thought(Thought<'a>),
    #[serde(borrow)]
    TokenUsage(TokenUsage<'a>),
    #[serde(borrow)]
    ToolUsage(ToolUsage<'a>),
}

type Text<'a> = Cow<'a, str>;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the columns")]
pub(super) struct Started<'a> {
    pub(super) id: Id,
    #[serde(borrow)]
    pub(super) provider: Text<'a>,
    #[serde(borrow)]
    pub(super) api: Text<'a>,
    #[serde(borrow)]
    pub(super) model: Text<'a>,
    pub(super) streaming: bool,
    #[serde(borrow)]
    pub(super) actor: Text<'a>,
    #[serde(borrow)]
    pub(super) client: Text<'a>,
    pub(super) session_id: Option<Text<'a>>,
    pub(super) user_agent: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) credential_kind: Text<'a>,
    pub(super) correlating_tool_call_id: Option<Text<'a>>,
    pub(super) started_at: Time,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Attempt<'a> {
    pub(super) id: Id,
    pub(super) turn: u32,
    #[serde(borrow)]
    pub(super) key_hint: Text<'a>,
    pub(super) status: Option<u16>,
    pub(super) fault: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) verdict: Text<'a>,
    pub(super) time: Time,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Prompt<'a> {
    pub(super) id: Id,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct TokenUsage<'a> {
    pub(super) id: Id,
    pub(super) turn: u32,
    pub(super) message_id: Option<Text<'a>>,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    pub(super) extras: Cow<'a, BTreeMap<String, u64>>,
    pub(super) time: Time,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct ToolUsage<'a> {
    pub(super) id: Id,
    pub(super) turn: u32,
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    #[serde(borrow)]
    pub(super) call_id: Text<'a>,
    /// `None` where texts are not kept.
    pub(super) arguments: Option<Text<'a>>,
    pub(super) injected: bool,
    pub(super) server: Option<Text<'a>>,
    pub(super) error: Option<Text<'a>>,
    pub(super) time: Time,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Thought<'a> {
    pub(super) id: Id,
    #[serde(borrow)]
    pub(super) source: Text<'a>,
    #[serde(borrow)]
    pub(super) text: Text<'a>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the columns")]
pub(super) struct Ended<'a> {
    pub(super) id: Id,
    pub(super) ended_at: Time,
    pub(super) status: Option<u16>,
    #[serde(borrow)]
    pub(super) outcome: Text<'a>,
    pub(super) error_message: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) credential_hint: Text<'a>,
    pub(super) attempts: u32,
    pub(super) turns: u32,
    pub(super) first_byte_ms: Option<f64>,
    pub(super) total_ms: Option<f64>,
}

/// Whether the texts that people and models wrote are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    Dropped,
    Kept,
}

/// Leaves out of a record what providers and tools say of errors, which may quote what people and
/// models wrote.
pub(super) fn drop_words(record: &mut Record) {
    let (error, class) = match record {
        Record::Ended(_, ended) => (&mut ended.error, &ended.class),
        Record::ToolUsage(_, tool) => (&mut tool.error, &tool.class),
        _ => return,
    };
    *error = class.as_deref().map(str::to_owned);
}

/// The interception that a record belongs to, if it is one to be stored.
pub(super) fn id_of(record: &Record) -> Option<InterceptionId> {
    match record {
        Record::Attempt(id, _)
        | Record::Ended(id, _)
        | Record::Prompt(id, _)
        | Record::Started(id, _)
        | Record::Thought(id, _)
        | Record::TokenUsage(id, _)
        | Record::ToolUsage(id, _) => Some(*id),
        _ => None,
    }
}

/// Calls `with` with a record's line; not at all if the record has none.
pub(super) fn with_line(record: &Record, texts: Texts, with: impl FnOnce(&Line<'_>)) {
    let Some(id) = id_of(record) else {
        return;
    };
    let id = Id(id);
    let line = match record {
        Record::Started(_, started) => Line::Started(Started {
            id,
            provider: Cow::Borrowed(&started.provider),
            api: Cow::Borrowed(started.api.as_str()),
            model: Cow::Borrowed(&started.model),
            streaming: started.streaming,
            actor: Cow::Borrowed(&started.actor),
            client: Cow::Borrowed(started.client),
            session_id: started.session_id.as_deref().map(Cow::Borrowed),
            user_agent: started.user_agent.as_deref().map(Cow::Borrowed),
            credential_kind: Cow::Borrowed(started.credential_kind.as_str()),
            correlating_tool_call_id: started
                .correlating_tool_call_id
                .as_deref()
                .map(Cow::Borrowed),
            started_at: Time(started.at),
        }),
        Record::Attempt(_, attempt) => Line::Attempt(Attempt {
            id,
            turn: attempt.turn,
            key_hint: Cow::Borrowed(&attempt.key_hint),
            status: attempt.result.ok(),
            fault: attempt
                .result
                .err()
                .map(|fault| Cow::Borrowed(fault.as_str())),
            verdict: Cow::Borrowed(attempt.verdict),
            time: Time(attempt.at),
        }),
        Record::Prompt(_, text) if texts == Texts::Kept => Line::Prompt(Prompt {
            id,
            text: Cow::Borrowed(text),
        }),
        Record::Thought(_, thought) if texts == Texts::Kept => Line::Thought(Thought {
            id,
            source: Cow::Borrowed(thought.source),
            text: Cow::Borrowed(&thought.text),
        }),
        Record::TokenUsage(_, usage) => Line::TokenUsage(TokenUsage {
            id,
            turn: usage.turn,
            message_id: usage.reply_id.as_deref().map(Cow::Borrowed),
            input: usage.usage.input,
            output: usage.usage.output,
            cache_read: usage.usage.cache_read,
            cache_write: usage.usage.cache_write,
            extras: Cow::Borrowed(&usage.usage.extras),
            time: Time(usage.at),
        }),
        Record::ToolUsage(_, tool) => Line::ToolUsage(ToolUsage {
            id,
            turn: tool.turn,
            name: Cow::Borrowed(&tool.call.name),
            call_id: Cow::Borrowed(&tool.call.id),
            arguments: (texts == Texts::Kept).then_some(Cow::Borrowed(&*tool.call.arguments)),
            injected: tool.injected,
            server: tool.server.as_deref().map(Cow::Borrowed),
            error: tool.error.as_deref().map(Cow::Borrowed),
            time: Time(tool.at),
        }),
        Record::Ended(_, ended) => Line::Ended(Ended {
            id,
            ended_at: Time(ended.at),
            status: ended.status,
            outcome: Cow::Borrowed(ended.outcome.as_str()),
            error_message: ended.error.as_deref().map(Cow::Borrowed),
            credential_hint: Cow::Borrowed(&ended.credential_hint),
            attempts: ended.attempts,
            turns: ended.turns,
            first_byte_ms: ended.first_byte.map(millis),
            total_ms: Some(millis(ended.total)),
        }),
        _ => return,
    };
    with(&line);
}

impl Line<'_> {
    /// The interception that it belongs to.
    pub(super) fn id(&self) -> Id {
        match self {
            Self::Started(Started { id, .. })
            | Self::Attempt(Attempt { id, .. })
            | Self::Ended(Ended { id, .. })
            | Self::Prompt(Prompt { id, .. })
            | Self::Thought(Thought { id, .. })
            | Self::TokenUsage(TokenUsage { id, .. })
            | Self::ToolUsage(ToolUsage { id, .. }) => *id,
        }
    }

    /// Appends itself as JSON, with a line feed.
    pub(super) fn append_json(&self, text: &mut Vec<u8>) {
        // A writer of ours does not fail, and no map here has a key that is not a text.
        if serde_json::to_writer(&mut *text, self).is_ok() {
            text.push(b'\n');
        }
    }
}
