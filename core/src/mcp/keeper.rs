//! One server, kept connected.
//!
//! ```text
//!              agreed                        list changed, doubt, refresh
//!  Connecting ────────▶ Up: listing ──all pages──▶ Up: listening ─┐
//!   ▲  ▲   │                  │    ◀──────────────────────────────┘
//!   │  │   └──failed──┐       └──failed──┐
//!   │  └──retry── Down ◀─────────────────┘
//!   └── session lost
//!
//!  any ──shutdown──▶ Leaving (the session is deleted) ──▶ over
//! ```
//!
//! A server that is down is tried again after a second, then after twice that, up to a minute, each
//! time a little off so that many bridges do not knock together. While it is down its last list is
//! still known to whoever was told: to take tools out of a conversation costs its prompt cache, and
//! a call that fails says why. Its session is still called in, too: a server may serve calls though
//! it fails to list. So a session is let go of only once another has been announced in its place.

use std::{collections::VecDeque, sync::Arc};

use super::{
    failure::Failure,
    handshake::{Agreed, Handshake},
    list::{Listed, Lister},
    listen::{Heard, Listener},
    news::{KeeperEvent, KeeperSettings, News},
    outbox::{Action, ExchangeId, Input, Outbox},
    peer::Peer,
    rpc::METHOD_NOT_FOUND,
    server::Server,
    terms::Terms,
};
use crate::{
    rng::Rng,
    time::{Duration, Instant, earliest},
};

/// Least time from one list to the next, whatever the server says.
const LIST_GAP: Duration = Duration::from_secs(1);

/// Most sessions that wait to be deleted; what is beyond it, the server forgets by itself.
const MAX_RETIRED: usize = 64;

/// Keeps one server connected, and its list of tools current. See the [module](super) for where it
/// stands.
///
/// After `new`, `handle` and `handle_timeout`: take every [`poll_action`](Self::poll_action) and
/// [`poll_news`](Self::poll_news), then wait for an input or for
/// [`poll_timeout`](Self::poll_timeout).
///
/// ```
/// use std::sync::Arc;
/// use aibridge_core::{
///     Fault, Instant, Rng, Target,
///     mcp::{Action, Failure, Input, Keeper, KeeperEvent, KeeperSettings, News, Server},
/// };
///
/// let target = Target { host: "127.0.0.1".into(), port: 3001, tls: false };
/// let server = Arc::new(Server::new("coder", target, "/mcp"));
/// let now = Instant::from_secs(1);
/// let mut keeper = Keeper::new(now, server, KeeperSettings::default(), Rng::new(1));
///
/// // It asks for the server at once; nobody is there.
/// let Some(Action::Request(on, _)) = keeper.poll_action() else { panic!() };
/// keeper.handle(now, KeeperEvent::Exchange(on, Input::Failed(Fault::Refused)));
/// let Some(News::Down { why, retry_at }) = keeper.poll_news() else { panic!() };
/// assert_eq!(why, Failure::Fault(Fault::Refused));
///
/// // It asks again when the time has come.
/// assert_eq!(keeper.poll_timeout(), Some(retry_at));
/// keeper.handle_timeout(retry_at);
/// assert!(matches!(keeper.poll_action(), Some(Action::Request(..))));
/// ```
#[derive(Debug)]
pub struct Keeper {
    server: Arc<Server>,
    settings: KeeperSettings,
    rng: Rng,
    state: State,
    /// Times in a row that the server was found down.
    failures: u32,
    tools: Option<Listed>,
    /// What was told of, since the server was last found down.
    announced: Option<Terms>,
    /// On which terms calls begin, down or not.
    current: Option<Terms>,
    retired: VecDeque<(Instant, Terms)>,
    news: VecDeque<News>,
    out: Outbox,
}

#[derive(Debug)]
enum State {
    Connecting(Box<Handshake>),
    Down(Instant),
    Over,
    Up(Box<Link>),
}

/// A server that has agreed.
#[derive(Debug)]
struct Link {
    agreed: Agreed,
    lister: Option<Lister>,
    /// When the last list was begun.
    listed_at: Instant,
    /// When the next is to be.
    relist_at: Option<Instant>,
    /// Whether one was completed.
    is_listed: bool,
    listener: Option<Listener>,
}

impl Keeper {
    /// Begins to connect.
    pub fn new(now: Instant, server: Arc<Server>, settings: KeeperSettings, mut rng: Rng) -> Self {
        let mut out = Outbox::new(&mut rng);
        let handshake = Handshake::probe(now, &server, settings.timeout, &mut out);
        Self {
            server,
            settings,
            rng,
            state: State::Connecting(Box::new(handshake)),
            failures: 0,
            tools: None,
            announced: None,
            current: None,
            retired: VecDeque::new(),
            news: VecDeque::new(),
            out,
        }
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Something happened.
    pub fn handle(&mut self, now: Instant, event: KeeperEvent) {
        match event {
            KeeperEvent::Exchange(on, input) => self.exchange(now, on, input),
            KeeperEvent::Recheck => self.recheck(now),
            KeeperEvent::Renewed { stale, fresh } => self.renewed(now, &stale, fresh),
            KeeperEvent::Shutdown => self.shut_down(now),
        }
    }

    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.out.handle_timeout(now);
        while self.retired.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, terms)) = self.retired.pop_front() {
                self.delete(now, terms);
            }
        }
        match &mut self.state {
            State::Connecting(handshake) => {
                let agreed = handshake.handle_timeout(now, &mut self.out);
                self.connected(now, agreed);
            }
            State::Down(until) if *until <= now => self.connect(now),
            State::Down(_) | State::Over => {}
            State::Up(link) => {
                if let Some(listener) = &mut link.listener {
                    listener.handle_timeout(now, &mut self.out);
                }
                let lister = link.lister.as_mut();
                let listed = lister.and_then(|l| l.handle_timeout(now, &mut self.out));
                self.listed(now, listed);
                self.list_if_due(now);
            }
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.poll()
    }

    /// The next thing to know.
    #[must_use]
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Connecting(handshake) => handshake.deadline(),
            State::Down(until) => Some(*until),
            State::Over => None,
            State::Up(link) => link.deadline(),
        };
        let retired = self.retired.front().map(|(at, _)| *at);
        earliest(earliest(own, retired), self.out.deadline())
    }

    /// Whether it has taken leave, and everything has been taken.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Over) && self.news.is_empty() && self.out.is_idle()
    }

    fn exchange(&mut self, now: Instant, on: ExchangeId, input: Input) {
        self.out.handle(on, &input);
        match &mut self.state {
            State::Down(_) | State::Over => {}
            State::Connecting(handshake) => {
                let agreed = handshake.handle(now, on, input, &mut self.out);
                self.connected(now, agreed);
            }
            State::Up(link) => {
                if let Some(listener) = link.listener.as_mut().filter(|l| l.is_on(on)) {
                    let heard = listener.handle(now, on, input, &mut self.out);
                    return self.heard(now, heard);
                }
                let Some(lister) = &mut link.lister else {
                    return;
                };
                let listed = lister.handle(now, on, input, &mut self.out);
                let is_stale = lister.list_changed();
                self.listed(now, listed);
                if is_stale {
                    self.recheck(now);
                }
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        let timeout = self.settings.timeout;
        let handshake = Handshake::probe(now, &self.server, timeout, &mut self.out);
        self.state = State::Connecting(Box::new(handshake));
    }

    fn connected(&mut self, now: Instant, agreed: Option<Result<Agreed, Failure>>) {
        match agreed {
            None => {}
            Some(Ok(agreed)) => self.link(now, agreed),
            Some(Err(failure)) => self.down(now, failure),
        }
    }

    /// Lists the tools on new terms.
    fn link(&mut self, now: Instant, agreed: Agreed) {
        self.state = State::Up(Box::new(Link {
            agreed,
            lister: None,
            listed_at: now,
            relist_at: Some(now),
            is_listed: false,
            listener: None,
        }));
        self.list_if_due(now);
    }

    fn list_if_due(&mut self, now: Instant) {
        if let State::Up(link) = &mut self.state
            && link.lister.is_none()
            && link.relist_at.is_some_and(|at| at <= now)
        {
            let peer = Peer::new(&self.server, Some(link.agreed.terms.clone()));
            let peer = peer.in_new_session(!link.is_listed);
            let lister = Lister::new(now, peer, self.settings.timeout, &mut self.out);
            link.lister = Some(lister);
            link.listed_at = now;
            link.relist_at = None;
        }
    }

    fn listed(&mut self, now: Instant, listed: Option<Result<Listed, Failure>>) {
        let State::Up(link) = &mut self.state else {
            return;
        };
        let listed = match listed {
            None => return,
            Some(Ok(listed)) => listed,
            // Who has no tools need not know the method.
            Some(Err(Failure::Error(METHOD_NOT_FOUND, _))) if !link.agreed.has_tools => {
                Listed::default()
            }
            Some(Err(Failure::SessionLost)) if link.is_listed => return self.reconnect(now),
            Some(Err(failure)) => return self.down(now, failure),
        };
        link.lister = None;
        if !self.settings.refresh.is_zero() {
            let next = now + self.settings.refresh;
            link.relist_at = Some(link.relist_at.map_or(next, |at| at.min(next)));
        }
        if !link.is_listed && link.agreed.tells_changes {
            let peer = Peer::new(&self.server, Some(link.agreed.terms.clone()));
            link.listener = Some(Listener::new(peer, &mut self.out));
        }
        link.is_listed = true;
        let terms = link.agreed.terms.clone();
        self.failures = 0;
        if self.tools.as_ref() != Some(&listed) {
            self.news.push_back(News::Tools {
                tools: listed.tools.clone().into(),
                refused: listed.refused.clone(),
            });
            self.tools = Some(listed);
        }
        if self.announced.as_ref() != Some(&terms) {
            self.news.push_back(News::Up(terms.clone()));
            self.announced = Some(terms.clone());
        }
        self.succeed(now, terms);
    }

    fn heard(&mut self, now: Instant, heard: Option<Heard>) {
        match heard {
            None => {}
            Some(Heard::Broken | Heard::Changed) => self.recheck(now),
            Some(Heard::SessionLost) => self.reconnect(now),
        }
    }

    /// Lists the tools again, which also finds out whether the server is there; as often as
    /// [`LIST_GAP`] allows, however often it is asked for.
    fn recheck(&mut self, now: Instant) {
        if let State::Up(link) = &mut self.state {
            let at = now.max(link.listed_at + LIST_GAP);
            link.relist_at = Some(link.relist_at.map_or(at, |before| before.min(at)));
        }
        self.list_if_due(now);
    }

    fn reconnect(&mut self, now: Instant) {
        self.abort(now);
        self.connect(now);
    }

    fn renewed(&mut self, now: Instant, stale: &Terms, fresh: Terms) {
        if matches!(self.state, State::Over) {
            return self.delete(now, fresh);
        }
        let is_current = self.current.as_ref() == Some(stale);
        if is_current {
            // The next call begins in it, whatever comes of what is under way here.
            self.succeed(now, fresh.clone());
        } else {
            self.retire(now, fresh.clone());
        }
        match &self.state {
            // It is there again. The session of a call tells too little of the server to go on
            // with.
            State::Down(_) => self.connect(now),
            State::Up(link) if is_current && link.agreed.terms == *stale => {
                let terms = fresh;
                let agreed = link.agreed.clone();
                self.abort(now);
                self.link(now, Agreed { terms, ..agreed });
            }
            State::Connecting(_) | State::Over | State::Up(_) => {}
        }
    }

    fn down(&mut self, now: Instant, why: Failure) {
        self.abort(now);
        self.unlink(now);
        let doublings = self.failures.min(16);
        let wait = self.settings.backoff.saturating_mul(1 << doublings);
        let wait = wait.min(self.settings.max_backoff);
        self.failures += 1;
        // Up to a quarter less, so that `max_backoff` holds.
        let less = wait / 4 * u32::from(self.rng.next_u64().to_be_bytes()[0]) / 256;
        let retry_at = now + wait.saturating_sub(less);
        self.state = State::Down(retry_at);
        self.announced = None;
        self.news.push_back(News::Down { why, retry_at });
    }

    fn shut_down(&mut self, now: Instant) {
        if matches!(self.state, State::Over) {
            return; // its farewell is under way
        }
        self.out.drop_errands();
        self.abort(now);
        self.unlink(now);
        self.state = State::Over;
        let retired = std::mem::take(&mut self.retired);
        let retired = retired.into_iter().map(|(_, terms)| terms);
        for terms in retired.chain(self.current.take()) {
            self.delete(now, terms);
        }
    }

    /// Gives up what is under way.
    fn abort(&mut self, now: Instant) {
        match &mut self.state {
            State::Connecting(handshake) => handshake.leave(now, &mut self.out),
            State::Down(_) | State::Over => {}
            State::Up(link) => {
                if let Some(lister) = &mut link.lister {
                    lister.abort(&mut self.out);
                }
                if let Some(listener) = &mut link.listener {
                    listener.abort(&mut self.out);
                }
            }
        }
    }

    /// Deletes the session that is being tried, of which nobody has been told.
    fn unlink(&mut self, now: Instant) {
        if let State::Up(link) = &self.state
            && self.current.as_ref() != Some(&link.agreed.terms)
        {
            let terms = link.agreed.terms.clone();
            self.delete(now, terms);
        }
    }

    fn delete(&mut self, now: Instant, terms: Terms) {
        Peer::new(&self.server, Some(terms)).delete(now, &mut self.out);
    }

    /// From now on calls begin on these terms.
    fn succeed(&mut self, now: Instant, terms: Terms) {
        if let Some(before) = self.current.replace(terms) {
            self.retire(now, before);
        }
    }

    /// Nobody begins anything on these terms any more, but calls may still run on them; unless they
    /// are the current ones.
    fn retire(&mut self, now: Instant, terms: Terms) {
        let is_in_use = self.current.as_ref() == Some(&terms);
        if terms.session.is_some() && !is_in_use && self.retired.len() < MAX_RETIRED {
            let at = now + self.settings.retire;
            self.retired.push_back((at, terms));
        }
    }
}

impl Link {
    fn deadline(&self) -> Option<Instant> {
        let lister = self.lister.as_ref().and_then(Lister::deadline);
        let listener = self.listener.as_ref().and_then(Listener::deadline);
        // A list that is due waits for the one under way.
        let relist_at = self.relist_at.filter(|_| self.lister.is_none());
        earliest(earliest(lister, listener), relist_at)
    }
}
