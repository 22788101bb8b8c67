//! What an interception leaves behind: its records, each handed out when its facts are known.

use std::{borrow::Cow, sync::Arc};

use http::{StatusCode, header::USER_AGENT};

use super::{Outbox, intake::Intake, program, route::Route};
use crate::{
    api::{Api, Inspected, Told, ToolCall},
    fault::Fault,
    id::InterceptionId,
    keypool::{Exhausted, NextStep, Transition},
    record::{Attempt, Ended, Outcome, Passthrough, Record, Started, TokenUsage, ToolUsage},
    secret::{self, Secret},
    time::{Duration, Instant},
};

/// Longest error message kept, in bytes.
const MAX_ERROR: usize = 1 << 10;

/// Keeps count, and emits records.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) id: InterceptionId,
    kind: Kind,
    provider: Arc<str>,
    started: Instant,
    first_byte: Option<Instant>,
    /// Since when a key is looked for.
    idle_since: Option<Instant>,
    overhead: Duration,
    status: Option<u16>,
    attempts: u32,
    /// The turn, from 1 once upstream is called.
    turn: u32,
    hint: Arc<str>,
    /// All that upstream was shown, and may repeat.
    secrets: Vec<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bridged,
    Passthrough,
    /// Turned away at the door, which is all there is to record.
    Refused,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) outcome: Outcome,
    pub(super) trouble: Option<Trouble>,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// In whoever's words.
    said: Cow<'static, str>,
    /// In ours.
    class: Cow<'static, str>,
}

impl Trouble {
    /// What we have to say ourselves.
    pub(super) fn ours(said: impl Into<Cow<'static, str>>) -> Self {
        let said = said.into();
        let class = said.clone();
        Self { said, class }
    }

    /// What others said, and what we call it.
    pub(super) fn theirs(said: String, class: impl Into<Cow<'static, str>>) -> Self {
        let (said, class) = (said.into(), class.into());
        Self { said, class }
    }
}

impl Ending {
    /// Without trouble.
    pub(super) const fn quiet(outcome: Outcome) -> Self {
        let trouble = None;
        Self { outcome, trouble }
    }

    pub(super) const fn new(outcome: Outcome, trouble: Trouble) -> Self {
        let trouble = Some(trouble);
        Self { outcome, trouble }
    }
}

impl Journal {
    /// The journal of a request that was turned away.
    pub(super) fn refused(id: InterceptionId) -> Self {
        Self {
            id,
            kind: Kind::Refused,
            provider: Arc::default(),
            started: Instant::EPOCH,
            first_byte: None,
            idle_since: None,
            overhead: Duration::ZERO,
            status: None,
            attempts: 0,
            turn: 1,
            hint: Arc::default(),
            secrets: Vec::new(),
        }
    }

    /// The journal of an admitted request, and the client's session. `inspected` is what the body
    /// told, if anything.
    pub(super) fn begin(
        now: Instant,
        id: InterceptionId,
        intake: &Intake,
        inspected: Option<&mut Inspected>,
        out: &mut Outbox,
    ) -> (Self, Option<Arc<str>>) {
        let provider = Arc::clone(&intake.provider.name);
        let mut journal = Self {
            kind: Kind::Passthrough,
            provider,
            started: now,
            ..Self::refused(id)
        };
        let Route::Bridged(api) = intake.route else {
            return (journal, None);
        };
        journal.kind = Kind::Bridged;
        let session = journal.announce(api, intake, inspected, out);
        (journal, session)
    }

    fn announce(
        &self,
        api: Api,
        intake: &Intake,
        inspected: Option<&mut Inspected>,
        out: &mut Outbox,
    ) -> Option<Arc<str>> {
        let mut nothing = Inspected::default();
        let inspected = inspected.unwrap_or(&mut nothing);
        let program = program::guess(&intake.headers, inspected.session.take());
        let agent = intake.headers.get(USER_AGENT);
        let session = program.session.as_deref().map(Arc::from);
        let started = Started {
            provider: Arc::clone(&self.provider),
            api,
            model: inspected.model.as_str().into(),
            streaming: inspected.stream,
            actor: Arc::clone(&intake.caller.actor),
            client: program.name,
            session_id: program.session,
            user_agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
            credential_kind: intake.caller.credential.kind(),
            correlating_tool_call_id: inspected.tool_result.take(),
            at: self.started,
        };
        out.emit(Record::Started(self.id, Box::new(started)));
        if let Some(prompt) = inspected.prompt.take() {
            out.emit(Record::Prompt(self.id, prompt));
        }
        session
    }

    /// A call could be made.
    pub(super) fn prepares(&mut self, now: Instant) {
        self.idle_since.get_or_insert(now);
    }

    /// A call is made, with this key.
    pub(super) fn calls(&mut self, now: Instant, key: Secret) {
        if let Some(since) = self.idle_since.take() {
            self.overhead += now.since(since);
        }
        self.attempts += 1;
        if self.secrets.last() != Some(&key) {
            self.hint = key.hint().into();
            self.secrets.push(key);
        }
    }

    /// How many attempts there have been.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An attempt was judged.
    pub(super) fn attempt(
        &self,
        now: Instant,
        key_index: Option<usize>,
        result: Result<u16, Fault>,
        step: NextStep,
        out: &mut Outbox,
    ) {
        if self.kind != Kind::Bridged {
            return;
        }
        let verdict = match step {
            NextStep::GiveUp => "give_up",
            NextStep::NextKey => "next_key",
            NextStep::Relay => "relay",
        };
        let key_hint = Arc::clone(&self.hint);
        let attempt = Attempt {
            turn: self.turn,
            key_index,
            key_hint,
            result,
            verdict,
            at: now,
        };
        out.emit(Record::Attempt(self.id, attempt));
    }

    /// A verdict of this request's changed a key.
    pub(super) fn key_changed(&self, now: Instant, transition: Transition, out: &mut Outbox) {
        out.emit(Record::KeyChanged {
            provider: Arc::clone(&self.provider),
            transition,
            at: now,
        });
    }

    /// There is no key.
    pub(super) fn exhausted(&self, now: Instant, exhausted: Exhausted, out: &mut Outbox) {
        out.emit(Record::Exhausted {
            provider: Arc::clone(&self.provider),
            exhausted,
            at: now,
        });
    }

    /// The client has been given a status.
    pub(super) fn replied(&mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// Another turn begins.
    pub(super) fn next_turn(&mut self) {
        self.turn += 1;
    }

    /// Which turn it is, from 1.
    pub(super) fn turn(&self) -> u32 {
        self.turn
    }

    /// The client has been given the first byte of a body.
    pub(super) fn first_byte(&mut self, at: Instant) {
        self.first_byte.get_or_insert(at);
    }

    /// A turn's reply is over: what it told. Calls of injected tools are not among that, and have
    /// records of their own.
    pub(super) fn told(&self, now: Instant, told: Told, out: &mut Outbox) {
        if self.kind != Kind::Bridged {
            return;
        }
        if let Some(usage) = told.usage {
            let usage = TokenUsage {
                turn: self.turn,
                reply_id: told.id,
                usage,
                at: now,
            };
            out.emit(Record::TokenUsage(self.id, usage));
        }
        for call in told.tool_calls {
            let usage = ToolUsage {
                turn: self.turn,
                call,
                injected: false,
                server: None,
                error: None,
                class: None,
                at: now,
            };
            out.emit(Record::ToolUsage(self.id, usage));
        }
        for thought in told.thoughts {
            out.emit(Record::Thought(self.id, thought));
        }
    }

    /// Something that an operator should look at.
    pub(super) fn warn(&self, what: String, out: &mut Outbox) {
        out.emit(Record::Warning(self.id, what));
    }

    /// A call of an injected tool is over, or was not made.
    pub(super) fn tool(
        &self,
        now: Instant,
        call: ToolCall,
        server: Option<Arc<str>>,
        trouble: Option<Trouble>,
        out: &mut Outbox,
    ) {
        let (error, class) = self.told_of(trouble);
        let usage = ToolUsage {
            turn: self.turn,
            call,
            injected: true,
            server,
            error,
            class,
            at: now,
        };
        out.emit(Record::ToolUsage(self.id, usage));
    }

    /// The request is over.
    pub(super) fn end(&mut self, now: Instant, ending: Ending, out: &mut Outbox) {
        let record = match self.kind {
            Kind::Refused => return,
            Kind::Passthrough => Record::Passthrough(Passthrough {
                id: self.id,
                provider: Arc::clone(&self.provider),
                status: self.status,
                outcome: ending.outcome,
                total: now.since(self.started),
                at: now,
            }),
            Kind::Bridged => {
                let (error, class) = self.told_of(ending.trouble);
                let ended = Ended {
                    at: now,
                    status: self.status,
                    outcome: ending.outcome,
                    error,
                    class,
                    credential_hint: Arc::clone(&self.hint),
                    attempts: self.attempts,
                    turns: if self.attempts == 0 { 0 } else { self.turn },
                    first_byte: self.first_byte.map(|at| at.since(self.started)),
                    overhead: self.overhead,
                    total: now.since(self.started),
                };
                Record::Ended(self.id, Box::new(ended))
            }
        };
        out.emit(record);
    }

    /// What a record says of trouble. Whoever was shown a secret may have repeated it.
    fn told_of(&self, trouble: Option<Trouble>) -> (Option<String>, Option<Cow<'static, str>>) {
        let Some(Trouble { said, class }) = trouble else {
            return (None, None);
        };
        let said = secret::mask(said.into_owned(), self.secrets.iter().collect());
        (Some(clip(said)), Some(class))
    }
}

/// At most `MAX_ERROR` bytes, cut between characters.
fn clip(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_ERROR));
    message
}
