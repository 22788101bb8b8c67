//! What a session does and asks, as a trace has it.

use std::fmt::Write as _;

use bytes::Buf;
use hmac_sha256::Hash;
use serde::{Deserialize, Serialize};

use super::line::hex;
use crate::{
    bridge::Query, id::ConnId, interception, keypool::Walker, record::Record, session::Action,
};

/// How much of an output is shown, in bytes.
const SHOWN: usize = 200;

/// One thing that a session did or asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    /// In words.
    pub(super) what: String,
    /// How many bytes, where it is bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) len: Option<usize>,
    /// Of all of it, where the words do not say it all: the first 8 bytes of its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<String>,
    /// How it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
}

/// Puts placeholders into bytes, which are sent on this connection, or recorded.
pub(super) trait Redact {
    fn redact(&mut self, to: Option<ConnId>, bytes: &mut [u8]);
}

/// There are placeholders in it already.
pub(super) struct Redacted;

impl Redact for Redacted {
    fn redact(&mut self, _: Option<ConnId>, _: &mut [u8]) {}
}

impl Output {
    fn of(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            len: None,
            hash: None,
            text: None,
        }
    }

    fn with(self, bytes: &[u8], shown: &[u8]) -> Self {
        let shown = &shown[..shown.len().min(SHOWN)];
        Self {
            hash: Some(hex(&Hash::hash(bytes)[..8])),
            text: Some(String::from_utf8_lossy(shown).into_owned()),
            ..self
        }
    }

    /// What an action is.
    pub(super) fn of_action(action: Action, redact: &mut impl Redact) -> Self {
        match action {
            Action::Close(conn) => Self::of(format!("close {conn}")),
            Action::Done => Self::of("done"),
            Action::Emit(record) => {
                let mut bytes = format!("{record:?}").into_bytes();
                redact.redact(None, &mut bytes);
                Self::of(format!("record {}", kind(&record))).with(&bytes, &bytes)
            }
            Action::Finish(conn) => Self::of(format!("finish {conn}")),
            Action::Open(conn, target) => Self::of(format!("open {conn} to {target}")),
            Action::Park(conn, target) => Self::of(format!("park {conn} to {target}")),
            Action::Reset(conn) => Self::of(format!("reset {conn}")),
            Action::Send(conn, mut frame) => {
                let mut bytes = vec![0; frame.remaining()];
                frame.copy_to_slice(&mut bytes);
                redact.redact(Some(conn), &mut bytes);
                let mut lines = bytes.split(|byte| *byte == b'\n');
                let is_size = |line: &[u8]| line.trim_ascii().iter().all(u8::is_ascii_hexdigit);
                let shown = lines.find(|line| !is_size(line)).unwrap_or_default();
                let len = Some(bytes.len());
                let sent = Self::of(format!("send {conn}")).with(&bytes, shown.trim_ascii_end());
                Self { len, ..sent }
            }
            Action::Unpark(conn) => Self::of(format!("unpark {conn}")),
        }
    }

    /// What a question is.
    pub(super) fn of_query(query: &Query, redact: &mut impl Redact) -> Self {
        let (what, detail) = asked(query);
        let mut bytes = detail.into_bytes();
        redact.redact(None, &mut bytes);
        if bytes.is_empty() {
            return Self::of(what);
        }
        Self::of(what).with(&bytes, &bytes)
    }

    /// Whether the other is the same. How it begins is for people alone.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.is_like(other) && self.hash == other.hash
    }

    /// Whether the other is the same as far as can be told without contents.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (&self.what, self.len) == (&other.what, other.len)
    }

    /// On one line, for people.
    pub(super) fn shown(&self) -> String {
        let mut shown = self.what.clone();
        if let Some(len) = self.len {
            let _ = write!(shown, ", {len} bytes");
        }
        if let Some(hash) = &self.hash {
            let _ = write!(shown, ", hash {hash}");
        }
        if let Some(text) = &self.text {
            let _ = write!(shown, ": {}", text.escape_debug());
        }
        shown
    }
}

fn kind(record: &Record) -> String {
    let (kind, id) = match record {
        Record::Attempt(id, _) => ("attempt", Some(id)),
        Record::Ended(id, _) => ("ended", Some(id)),
        Record::Exhausted { .. } => ("exhausted", None),
        Record::KeyChanged { .. } => ("key changed", None),
        Record::Passthrough(passthrough) => ("passthrough", Some(&passthrough.id)),
        Record::Prompt(id, _) => ("prompt", Some(id)),
        Record::Started(id, _) => ("started", Some(id)),
        Record::Thought(id, _) => ("thought", Some(id)),
        Record::TokenUsage(id, _) => ("token usage", Some(id)),
        Record::ToolUsage(id, _) => ("tool usage", Some(id)),
        Record::ToolServer(_) => ("tool server", None),
        Record::TurnedAway(id, _) => ("turned away", Some(id)),
        Record::Warning(id, _) => ("warning", Some(id)),
    };
    id.map_or_else(|| kind.to_owned(), |id| format!("{kind} of {id}"))
}

/// In words, and all that the words do not say.
fn asked(query: &Query) -> (String, String) {
    let said = |what: String| (what, String::new());
    match query {
        Query::Admit { bytes } => said(format!("admit {bytes} bytes")),
        Query::Connect { target, fresh } => {
            let fresh = if *fresh { ", fresh" } else { "" };
            said(format!("connect to {target}{fresh}"))
        }
        Query::Enter {
            ticket,
            client,
            circuit,
        } => {
            let circuit = circuit
                .as_ref()
                .map(|(provider, endpoint)| (&provider.name, endpoint));
            let detail = format!("{client:?} {circuit:?}");
            (format!("enter {}", ticket.0), detail)
        }
        Query::Held { ticket, bytes } => said(format!("{} holds {bytes} bytes", ticket.0)),
        Query::Hold { ticket, bytes } => said(format!("hold {bytes} bytes for {}", ticket.0)),
        Query::Interception(interception::Query::Lease {
            provider,
            walker,
            model,
            session,
        }) => {
            let tried: Vec<_> = Walker::keys(walker).map(|key| key.0).collect();
            let last = walker.last();
            let detail =
                format!("model {model:?}, session {session:?}, tried {tried:?}, last {last:?}");
            (format!("lease of {}", provider.name), detail)
        }
        Query::Interception(interception::Query::Report {
            provider,
            key,
            verdict,
            model,
        }) => {
            let detail = format!("model {model:?}, {verdict:?}");
            (format!("report on {} of {provider}", key.0), detail)
        }
        Query::Interception(interception::Query::Tools) => said("tools".to_owned()),
        Query::Judged { ticket, status } => said(format!("judged {}: {status}", ticket.0)),
        Query::Keep(server) => said(format!("keep {}", server.name)),
        Query::News(server, news) => (format!("news of {}", server.name), format!("{news:?}")),
        Query::Release(ticket) => said(format!("release {}", ticket.0)),
        Query::Tell(server, word) => (format!("tell {}", server.name), format!("{word:?}")),
        Query::Terms(server) => said(format!("terms of {}", server.name)),
    }
}
