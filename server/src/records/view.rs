//! An interception as the admin endpoint shows it.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use aibridge_core::{Duration, Instant};
use serde::Serialize;

use super::ring::Entry;

/// A word of a fixed set, or as it was read from a store.
pub(crate) type Name = Cow<'static, str>;

/// Which interceptions are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    pub(crate) limit: usize,
    /// Only those that began before.
    pub(crate) before: Option<Cursor>,
    pub(crate) actor: Option<String>,
    pub(crate) provider: Option<String>,
    /// `running` for those that have none yet.
    pub(crate) outcome: Option<String>,
}

/// A place in the order of interceptions: by when they began and, of the same millisecond, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// `None` where that is still to be found out.
    pub(crate) started_at: Option<String>,
    /// Empty for a time alone.
    pub(crate) id: String,
}

impl Search {
    /// The newest, whatever they are.
    pub(crate) fn newest(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Whether an interception is one of those asked for.
    pub(super) fn wants(&self, it: &Entry) -> bool {
        let is = |wanted: &Option<String>, has: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == has)
        };
        let ended = it.ended.as_ref();
        let outcome = ended.map_or("running", |ended| ended.outcome.as_str());
        is(&self.actor, &it.started.actor)
            && is(&self.provider, &it.started.provider)
            && is(&self.outcome, outcome)
            && (self.before.as_ref()).is_none_or(|before| before.is_after(it))
    }
}

impl Cursor {
    /// Whether an interception began before this place.
    fn is_after(&self, it: &Entry) -> bool {
        let (started_at, id) = (rfc3339(it.started.at), it.id.to_string());
        let place = (self.started_at.as_deref().unwrap_or_default(), &*self.id);
        (&*started_at, &*id) < place
    }
}

/// An object of `GET /interceptions`. Names and shapes are a contract with other tools.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Interception {
    pub(crate) id: String,
    pub(crate) provider: Arc<str>,
    pub(crate) api: Name,
    pub(crate) model: Arc<str>,
    pub(crate) streaming: bool,
    pub(crate) actor: Arc<str>,
    pub(crate) client: Name,
    pub(crate) session_id: Option<String>,
    pub(crate) credential_kind: Name,
    /// Of the key attempted last; `None` before the first attempt.
    pub(crate) credential_hint: Option<String>,
    pub(crate) started_at: String,
    /// `None` while it runs.
    pub(crate) ended_at: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: Option<Name>,
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
    pub(crate) verdict: Name,
    /// Why there was no reply.
    pub(crate) fault: Option<Name>,
}

/// Tokens, summed over the turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "names that tools rely on")]
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
    /// Its place in the order of interceptions.
    pub(super) fn place(&self) -> (&str, &str) {
        (&self.started_at, &self.id)
    }

    pub(super) fn new(entry: &Entry) -> Self {
        let Entry {
            id,
            started,
            attempts,
            usage,
            tools,
            ended,
            ..
        } = entry;
        let ended = ended.as_ref();
        let hint = ended
            .map(|ended| &ended.credential_hint)
            .or_else(|| attempts.last().map(|attempt| &attempt.key_hint));
        let turns = attempts.last().map_or(0, |attempt| attempt.turn);
        Self {
            id: id.to_string(),
            provider: Arc::clone(&started.provider),
            api: started.api.as_str().into(),
            model: Arc::clone(&started.model),
            streaming: started.streaming,
            actor: Arc::clone(&started.actor),
            client: started.client.into(),
            session_id: started.session_id.clone(),
            credential_kind: started.credential_kind.as_str().into(),
            credential_hint: hint
                .filter(|hint| !hint.is_empty())
                .map(ToString::to_string),
            started_at: rfc3339(started.at),
            ended_at: ended.map(|ended| rfc3339(ended.at)),
            status: ended.and_then(|ended| ended.status),
            outcome: ended.map(|ended| ended.outcome.as_str().into()),
            error: ended.and_then(|ended| ended.error.clone()),
            attempts: attempts
                .iter()
                .map(|attempt| Attempt {
                    turn: attempt.turn,
                    key: Arc::clone(&attempt.key_hint),
                    status: attempt.result.ok(),
                    verdict: attempt.verdict.into(),
                    fault: attempt.result.err().map(|fault| fault.as_str().into()),
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
///
/// Every record has one or two of these, so it is done by hand: `jiff` takes ten times as long. The
/// date is counted from the first of March of the year 0, so that a leap day is the last of its
/// year.
pub(super) fn rfc3339(at: Instant) -> String {
    const DAYS_TO_1970: u64 = 719_468;
    let millis = at.as_millis();
    let (days, time) = (millis / 86_400_000 + DAYS_TO_1970, millis % 86_400_000);
    let (era, day) = (days / 146_097, days % 146_097); // of 400 years
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // from March
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next_year;

    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |from: usize, digits: usize, mut number: u64| {
        for digit in text[from..from + digits].iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
            number /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, time / 3_600_000);
    put(14, 2, time / 60_000 % 60);
    put(17, 2, time / 1_000 % 60);
    put(20, 3, time % 1_000);
    str::from_utf8(&text).unwrap_or_default().to_owned()
}

/// When the oldest interceptions began that are kept for so long, as [`rfc3339`].
pub(super) fn oldest_of(retention: Duration) -> Option<String> {
    let oldest = SystemTime::now().checked_sub(retention)?;
    let since = oldest.duration_since(SystemTime::UNIX_EPOCH);
    Some(rfc3339(Instant::EPOCH + since.unwrap_or_default()))
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
