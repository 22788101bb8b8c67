//! Watching a simulated bridge: what becomes of its keys, and what comes out of it.

use std::{fmt::Write as _, sync::Arc};

use aibridge_core::{
    Instant, Target,
    bridge::{Answer, Query},
    interception,
    session::Action,
};

use crate::history::{Entry, Fact, Leased};

/// Which keys of a provider would be served at this time, for this model.
type Able = Box<dyn Fn(&str, Instant, Option<&str>) -> Vec<usize>>;

/// Watches one bridge.
pub(crate) struct Watch {
    /// What happened.
    pub(crate) entries: Vec<Entry>,
    /// The debug form of all questions and actions.
    pub(crate) log: String,
    /// Whether there is a log.
    pub(crate) logs: bool,
    bridge: usize,
    targets: Vec<Target>,
    /// Whether only questions, calls and answers are of interest.
    is_brief: bool,
    able: Able,
}

/// What is worth knowing of a question before it is answered.
pub(crate) enum Question {
    /// A key for the next attempt, or the first.
    Lease {
        provider: Arc<str>,
        model: Option<Arc<str>>,
        is_first: bool,
    },
    /// Something else.
    Other(Option<Fact>),
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches the bridge of this number, whose providers are at these targets.
    pub(crate) fn new(bridge: usize, targets: Vec<Target>, is_brief: bool, able: Able) -> Self {
        Self {
            entries: Vec::new(),
            log: String::new(),
            logs: !is_brief,
            bridge,
            targets,
            is_brief,
            able,
        }
    }

    pub(crate) fn note(&mut self, at: Instant, session: usize, fact: Fact) {
        let is_detail = matches!(
            fact,
            Fact::Delivered(_) | Fact::Judged { .. } | Fact::Recorded(_) | Fact::Sent(..)
        );
        if self.is_brief && is_detail {
            return;
        }
        self.entries.push(Entry {
            at,
            bridge: self.bridge,
            session,
            fact,
        });
    }

    /// Which provider is there.
    pub(crate) fn server(&self, target: &Target) -> Option<usize> {
        self.targets.iter().position(|known| known == target)
    }

    pub(crate) fn shows(&mut self, action: &Action) {
        if self.logs {
            let _ = writeln!(self.log, "{action:?}");
        }
    }

    pub(crate) fn asked(&mut self, query: &Query) -> Question {
        if self.logs {
            let _ = writeln!(self.log, "{query:?}");
        }
        match query {
            Query::Interception(interception::Query::Lease {
                provider,
                walker,
                model,
                ..
            }) => Question::Lease {
                provider: Arc::clone(&provider.name),
                model: model.clone(),
                is_first: walker.attempts() == 0,
            },
            Query::Interception(interception::Query::Report {
                provider,
                key,
                verdict,
                model,
            }) => Question::Other(Some(Fact::Judged {
                provider: Arc::clone(provider),
                key: *key,
                verdict: *verdict,
                model: model.clone(),
            })),
            _ => Question::Other(None),
        }
    }

    pub(crate) fn answered(
        &mut self,
        now: Instant,
        session: usize,
        question: Question,
        answer: &Answer,
    ) {
        match (question, answer) {
            (Question::Other(Some(fact)), _) => self.note(now, session, fact),
            (
                Question::Lease {
                    provider,
                    model,
                    is_first,
                },
                Answer::Interception(interception::Answer::Lease(lease, _)),
            ) => {
                let able = match lease {
                    Ok(_) => Vec::new(),
                    Err(_) => (self.able)(&provider, now, model.as_deref()),
                };
                let lease = lease
                    .as_ref()
                    .map(|lease| (lease.key, lease.index))
                    .map_err(|exhausted| *exhausted);
                let leased = Leased {
                    provider,
                    model,
                    is_first,
                    lease,
                    able,
                };
                self.note(now, session, Fact::Leased(Box::new(leased)));
            }
            _ => {}
        }
    }
}
