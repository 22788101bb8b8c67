//! Reading a history: what every session is about at each entry, and in which state each bridge's
//! keys must be.
//!
//! The states of keys are kept a second time here, from what the policy said alone, so that the
//! pool does not vouch for itself.

use std::collections::BTreeMap;

use aibridge_core::{
    ConnId, Duration, Instant,
    keypool::{Fate, KeyId, Scope, Verdict},
    record::Record,
};
use bytes::Bytes;

use crate::{
    Answer,
    history::{Asked, Called, Entry, Fact, History, Leased},
    plan::ProviderPlan,
};

/// What is known after the entries read so far.
#[derive(Debug)]
pub(super) struct Context<'a> {
    history: &'a History,
    sessions: BTreeMap<(usize, usize), Session<'a>>,
    keys: BTreeMap<(usize, usize, usize), Key>,
    /// Whether it is known how long keys are excused, for which replies have to be read.
    has_excuses: bool,
}

/// What a session is about.
#[derive(Debug, Default)]
pub(super) struct Session<'a> {
    pub(super) asked: Option<&'a Asked>,
    /// When its current walk over the pool began.
    pub(super) walk_began: Instant,
    /// The next key that it asks for begins a walk: nothing was tried for this request, or what was
    /// is settled, so that this is another turn of the loop of tools. What the session's own walker
    /// says of that is not believed.
    pub(super) begins_walk: bool,
    /// Places of the keys that it was given on this walk.
    pub(super) tried: Vec<usize>,
    /// What the pool said last.
    pub(super) leased: Option<&'a Leased>,
    /// Its last call to a provider, and what of the reply was sent so far.
    pub(super) call: Option<(&'a Called, Vec<Bytes>)>,
    /// When the last of that was sent.
    sent_at: Instant,
    /// The provider ended or reset the connection of that call.
    pub(super) is_broken: bool,
}

/// A key as the policy has left it at one bridge.
#[derive(Clone, Debug, Default)]
pub(super) struct Key {
    pub(super) is_retired: bool,
    until: Instant,
    models: BTreeMap<String, Instant>,
    /// When an administrator last made it valid.
    pub(super) reset_at: Instant,
    /// Until when what the provider said is reason enough to let it rest.
    pub(super) excused_until: Instant,
}

impl Key {
    /// Until when it cools for requests for this model; a time in the past if it does not.
    pub(super) fn cools_until(&self, model: Option<&str>) -> Instant {
        let of_model = model.and_then(|model| self.models.get(model));
        of_model.map_or(self.until, |until| self.until.max(*until))
    }

    /// Whether it has been fit for use for requests for this model since then, so that a walk that
    /// began then could have had it.
    pub(super) fn is_valid_since(&self, began: Instant, model: Option<&str>) -> bool {
        !self.is_retired && self.cools_until(model) <= began && self.reset_at <= began
    }
}

impl<'a> Context<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        Self {
            history,
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            has_excuses: false,
        }
    }

    /// The same, and it is known how long keys are [excused](Key::excused_until).
    pub(super) fn with_excuses(history: &'a History) -> Self {
        Self {
            has_excuses: true,
            ..Self::new(history)
        }
    }

    /// The session of an entry.
    pub(super) fn session(&mut self, entry: &Entry) -> &mut Session<'a> {
        self.sessions
            .entry((entry.bridge, entry.session))
            .or_default()
    }

    /// A key at the bridge of an entry.
    pub(super) fn key(&mut self, entry: &Entry, provider: usize, key: usize) -> &mut Key {
        self.keys.entry((entry.bridge, provider, key)).or_default()
    }

    /// Takes the next entry in.
    pub(super) fn read(&mut self, entry: &'a Entry) {
        match &entry.fact {
            Fact::Asked(asked) => {
                *self.session(entry) = Session {
                    asked: Some(asked),
                    begins_walk: true,
                    ..Session::default()
                };
            }
            Fact::Broke(conn, _) => {
                let session = self.session(entry);
                session.is_broken |= session.is_on(*conn);
            }
            Fact::Called(called) if called.provider.is_some() => {
                let session = self.session(entry);
                session.call = Some((called, Vec::new()));
                session.is_broken = false;
            }
            Fact::Judged {
                provider,
                key,
                verdict,
                model,
            } => self.judged(entry, index(provider), *key, verdict, model.as_deref()),
            Fact::Leased(leased) => {
                let session = self.session(entry);
                if std::mem::take(&mut session.begins_walk) {
                    session.tried.clear();
                    session.walk_began = entry.at;
                }
                session.tried.extend(leased.lease.ok().map(|(_, key)| key));
                session.leased = Some(leased);
            }
            Fact::Recorded(record) => {
                if let Record::Attempt(_, attempt) = &**record {
                    self.session(entry).begins_walk = attempt.verdict == "relay";
                }
            }
            Fact::Reset { provider, key } => {
                let key = self.key(entry, index(provider), *key);
                *key = Key {
                    reset_at: entry.at,
                    ..Key::default()
                };
            }
            Fact::Sent(conn, bytes) => {
                let session = self.session(entry);
                let is_on = session.is_on(*conn);
                if let Some((_, sent)) = session.call.as_mut().filter(|_| is_on) {
                    sent.push(bytes.clone());
                    session.sent_at = entry.at;
                }
            }
            _ => {}
        }
    }

    fn judged(
        &mut self,
        entry: &Entry,
        provider: usize,
        key: KeyId,
        verdict: &Verdict,
        model: Option<&str>,
    ) {
        let plan = &self.history.plan.providers[provider];
        let excused_until = if self.has_excuses {
            let session = self.session(entry);
            let heard = session.heard();
            // What is judged when a head comes is judged at that moment.
            let is_over = session.is_broken || session.sent_at < entry.at;
            excuse(entry.at, verdict, heard.as_ref(), is_over)
        } else {
            Instant::EPOCH
        };
        let key = self.key(entry, provider, key.0 as usize);
        if key.is_retired {
            return;
        }
        let rests_until = match verdict.fate {
            Fate::Keep => return,
            Fate::Retire(_) => {
                key.is_retired = true;
                Instant::FAR_FUTURE
            }
            Fate::Cool(wait, _) => {
                let until = entry.at + effective(wait, plan);
                match model.filter(|_| verdict.scope == Scope::Model) {
                    Some(model) => {
                        let known = key.models.entry(model.to_owned()).or_insert(until);
                        *known = (*known).max(until);
                    }
                    None => key.until = key.until.max(until),
                }
                until
            }
        };
        // A reason to let it rest is one for this rest, and for none that another judgement gives.
        key.excused_until = key.excused_until.max(excused_until.min(rests_until));
    }
}

impl Session<'_> {
    fn is_on(&self, conn: ConnId) -> bool {
        self.call
            .as_ref()
            .is_some_and(|(called, _)| called.conn == conn)
    }

    /// The reply to its last call, as far as it was sent.
    pub(super) fn heard(&self) -> Option<Answer> {
        let (_, sent) = self.call.as_ref()?;
        let bytes = match sent.as_slice() {
            [] => return None,
            [only] => only.clone(),
            many => many.concat().into(),
        };
        if !bytes.starts_with(b"HTTP/1.1 ") {
            return None;
        }
        Answer::read(&bytes, self.is_broken).map(|(answer, _)| answer)
    }
}

/// The place of a provider by its name.
pub(super) fn index(provider: &str) -> usize {
    let index = provider.strip_prefix('p').map(str::parse);
    index.and_then(Result::ok).unwrap_or(usize::MAX)
}

/// The cooldown that a verdict comes to.
fn effective(wait: Option<Duration>, plan: &ProviderPlan) -> Duration {
    let wait = wait.filter(|wait| !wait.is_zero());
    wait.unwrap_or(plan.default_cooldown).min(plan.max_cooldown)
}

/// The wait that a reply names, whichever way it does.
pub(super) fn named_wait(at: Instant, answer: &Answer) -> Option<Duration> {
    let number = |name| answer.header(name)?.parse().ok();
    if let Some(millis) = number("retry-after-ms") {
        return Some(Duration::from_millis(millis));
    }
    if let Some(secs) = number("retry-after") {
        return Some(Duration::from_secs(secs));
    }
    let date = httpdate::parse_http_date(answer.header("retry-after")?).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((Instant::EPOCH + date).since(at))
}

/// Until when a key may rest for what the provider said, and for how it left off if nothing more of
/// that came.
fn excuse(at: Instant, verdict: &Verdict, heard: Option<&Answer>, is_over: bool) -> Instant {
    const NEVER: Instant = Instant::EPOCH;
    const FOR_EVER: Instant = Instant::FAR_FUTURE;
    let status = heard.map(|answer| answer.status);
    match (verdict.fate, status) {
        (Fate::Retire(_), Some(401..=403)) => FOR_EVER,
        (Fate::Keep | Fate::Retire(_), _) => NEVER,
        (_, Some(status)) if is_clients_mistake(status) => NEVER,
        (Fate::Cool(..), Some(429)) => {
            let wait = heard.and_then(|answer| named_wait(at, answer));
            // Twice as long is caution; longer is waste.
            let wait = wait.filter(|wait| !wait.is_zero());
            wait.map_or(FOR_EVER, |wait| at + wait * 2 + Duration::from_secs(1))
        }
        (Fate::Cool(..), Some(..400)) => match heard {
            Some(answer) if is_used_up(answer) => FOR_EVER,
            // It broke off, or fell silent.
            Some(answer) if is_over && !answer.is_complete() => FOR_EVER,
            _ => NEVER,
        },
        (Fate::Cool(..), _) => FOR_EVER,
    }
}

/// Whether a reply blames what was asked, and not who asks.
fn is_clients_mistake(status: u16) -> bool {
    matches!(status, 400 | 404..=407 | 409..=428)
}

/// Whether a reply says that it was the last one for now.
fn is_used_up(answer: &Answer) -> bool {
    let fields = [
        "anthropic-ratelimit-requests-remaining",
        "x-ratelimit-remaining-requests",
    ];
    fields
        .into_iter()
        .any(|name| answer.header(name) == Some("0"))
}
