//! An interception as the admin endpoint shows it.

use std::sync::Arc;

use aibridge_core::{Duration, Instant};
use jiff::Timestamp;
use serde::Serialize;

use super::ring::Entry;

/// An object of `GET /interceptions`. Names and shapes are a contract with other tools.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Interception {
    pub(crate) id: String,
    pub(crate) provider: Arc<str>,
    pub(crate) api: &'static str,
    pub(crate) model: Arc<str>,
    pub(crate) streaming: bool,
    pub(crate) actor: Arc<str>,
    pub(crate) client: &'static str,
    pub(crate) session_id: Option<String>,
    pub(crate) credential_kind: &'static str,
    /// Of the key attempted last; `None` before the first attempt.
    pub(crate) credential_hint: Option<String>,
    pub(crate) started_at: String,
    /// `None` while it runs.
    pub(crate) ended_at: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: Option<&'static str>,
    pub(crate) error: Option<String>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) turns: u32,
    pub(crate) usage: Usage,
    pub(crate) tools: Vec<Tool>,
    pub(crate) first_byte_ms: Option<f64>,
    pub(crate) total_ms: Option<f64>,
}

/// A call to upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Attempt {
    pub(crate) turn: u32,
    /// The key's hint.
    pub(crate) key: Arc<str>,
    /// `None` where there was no reply.
    pub(crate) status: Option<u16>,
    pub(crate) verdict: &'static str,
    /// Why there was no reply.
    pub(crate) fault: Option<&'static str>,
}

/// Tokens, summed over the turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the contract's names")]
pub(crate) struct Usage {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cache_read_tokens: u64,
    pub(crate) cache_write_tokens: u64,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Tool {
    pub(crate) turn: u32,
    pub(crate) name: String,
    pub(crate) call_id: String,
    pub(crate) injected: bool,
    pub(crate) server: Option<Arc<str>>,
    pub(crate) error: Option<String>,
}

impl Interception {
    pub(super) fn new(entry: &Entry) -> Self {
        let Entry {
            id,
            started,
            attempts,
            usage,
            tools,
            ended,
        } = entry;
        let ended = ended.as_ref();
        let hint = ended
            .map(|ended| &ended.credential_hint)
            .or_else(|| attempts.last().map(|attempt| &attempt.key_hint));
        let turns = attempts.last().map_or(0, |attempt| attempt.turn);
        Self {
            id: id.to_string(),
            provider: Arc::clone(&started.provider),
            api: started.api.as_str(),
            model: Arc::clone(&started.model),
            streaming: started.streaming,
            actor: Arc::clone(&started.actor),
            client: started.client,
            session_id: started.session_id.clone(),
            credential_kind: started.credential_kind.as_str(),
            credential_hint: hint
                .filter(|hint| !hint.is_empty())
                .map(ToString::to_string),
            started_at: rfc3339(started.at),
            ended_at: ended.map(|ended| rfc3339(ended.at)),
            status: ended.and_then(|ended| ended.status),
            outcome: ended.map(|ended| ended.outcome.as_str()),
            error: ended.and_then(|ended| ended.error.clone()),
            attempts: attempts
                .iter()
                .map(|attempt| Attempt {
                    turn: attempt.turn,
                    key: Arc::clone(&attempt.key_hint),
                    status: attempt.result.ok(),
                    verdict: attempt.verdict,
                    fault: attempt.result.err().map(aibridge_core::Fault::as_str),
                })
                .collect(),
            turns: ended.map_or(turns, |ended| ended.turns),
            usage: Usage {
                input_tokens: usage.input,
                output_tokens: usage.output,
                cache_read_tokens: usage.cache_read,
                cache_write_tokens: usage.cache_write,
            },
            tools: tools
                .iter()
                .map(|tool| Tool {
                    turn: tool.turn,
                    name: tool.call.name.clone(),
                    call_id: tool.call.id.clone(),
                    injected: tool.injected,
                    server: tool.server.clone(),
                    error: tool.error.clone(),
                })
                .collect(),
            first_byte_ms: ended.and_then(|ended| ended.first_byte).map(millis),
            total_ms: ended.map(|ended| millis(ended.total)),
        }
    }
}

/// UTC with milliseconds, such as `2026-01-31T12:00:00.000Z`.
pub(super) fn rfc3339(at: Instant) -> String {
    let timestamp = Timestamp::from_nanosecond(at.as_nanos().into()).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
