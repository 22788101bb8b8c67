//! Looking at a session while it runs.

use std::{fmt, sync::Arc};

use crate::{
    bridge::{Answer, Query},
    config::Config,
    id::ConnId,
    rng::Rng,
    session::{Action, Event, Session},
    time::Instant,
};

/// One thing that a session was told, or did.
#[derive(Clone, Debug)]
pub enum Step {
    /// It wants this done.
    Action(Action),
    /// It was answered.
    Answer(Instant, Answer),
    /// Something happened to one of its connections.
    Event(Instant, Event),
    /// It asks.
    Query(Query),
    /// Time has passed.
    Timeout(Instant),
    /// It has nothing more to do.
    Wait {
        /// Until then at the latest.
        until: Option<Instant>,
        /// Connections whose bytes are wanted.
        reading: Vec<ConnId>,
    },
}

/// Is told what a session does. The session waits meanwhile, so it does not take long.
pub trait Observer: Send {
    /// The next thing.
    fn observe(&mut self, step: Step);
}

impl<F: FnMut(Step) + Send> Observer for F {
    fn observe(&mut self, step: Step) {
        self(step);
    }
}

/// Decides which sessions are observed.
pub trait Tracer: Send + Sync {
    /// Who observes a client's session that begins like this; nobody, if it is not to be.
    fn begin(&self, opening: Opening) -> Option<Box<dyn Observer>>;
}

/// What a session begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    pub(super) at: Instant,
    pub(super) rng: Rng,
    pub(super) crowded: bool,
    pub(super) config: Arc<Config>,
}

impl Opening {
    /// That of a session just made.
    pub fn of(now: Instant, session: &Session) -> Self {
        Self {
            at: now,
            rng: session.rng().clone(),
            crowded: session.is_crowded(),
            config: Arc::clone(session.config()),
        }
    }

    /// When it was.
    pub const fn at(&self) -> Instant {
        self.at
    }
}

/// A session, and who observes it, if anybody does. It is driven as the session is.
pub struct Watched {
    session: Session,
    observer: Option<Box<dyn Observer>>,
    /// Something was told since it last waited.
    is_told: bool,
}

impl Watched {
    /// A session, observed or not.
    pub const fn new(session: Session, observer: Option<Box<dyn Observer>>) -> Self {
        Self {
            session,
            observer,
            is_told: true,
        }
    }

    /// The session.
    pub const fn session(&self) -> &Session {
        &self.session
    }

    /// As [`Session::handle`].
    pub fn handle(&mut self, now: Instant, event: Event) {
        self.tell(|| Step::Event(now, event.clone()));
        self.session.handle(now, event);
    }

    /// As [`Session::handle_answer`].
    pub fn handle_answer(&mut self, now: Instant, answer: Answer) {
        self.tell(|| Step::Answer(now, answer.clone()));
        self.session.handle_answer(now, answer);
    }

    /// As [`Session::handle_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tell(|| Step::Timeout(now));
        self.session.handle_timeout(now);
    }

    /// As [`Session::poll_action`].
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.session.poll_action();
        if let (Some(observer), Some(action)) = (&mut self.observer, &action) {
            observer.observe(Step::Action(action.clone()));
        }
        action
    }

    /// As [`Session::poll_query`].
    #[must_use]
    pub fn poll_query(&mut self) -> Option<Query> {
        let query = self.session.poll_query();
        let Some(observer) = &mut self.observer else {
            return query;
        };
        match &query {
            Some(query) => observer.observe(Step::Query(query.clone())),
            None if self.is_told && self.session.is_drained() => {
                self.is_told = false;
                observer.observe(waits(&self.session));
            }
            None => {}
        }
        query
    }

    /// As [`Session::poll_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// As [`Session::wants_read`].
    pub fn wants_read(&self, conn: ConnId) -> bool {
        self.session.wants_read(conn)
    }

    fn tell(&mut self, step: impl FnOnce() -> Step) {
        if let Some(observer) = &mut self.observer {
            observer.observe(step());
            self.is_told = true;
        }
    }
}

/// What a session waits for that has nothing more to do.
pub(super) fn waits(session: &Session) -> Step {
    Step::Wait {
        until: session.poll_timeout(),
        reading: session.reading().collect(),
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.session.fmt(f)
    }
}
