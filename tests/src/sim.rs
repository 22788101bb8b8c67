//! A deterministic world around a [`Bridge`]: clients, sessions, connections, a scripted upstream and a clock.
//!
//! Nothing here is concurrent and nothing waits. [`Sim::settle`] does all there is to do at the present moment, one thing
//! at a time and in a fixed order; [`Sim::advance`] and [`Sim::run_until`] move the clock on from one deadline to the
//! next. The network has no latency and loses nothing: what is late or lost, a script says. Two runs of one test are the
//! same to the byte, and a test that fails prints the timeline of its run.
//!
//! ```
//! use aibridge_core::api::Api;
//! use aibridge_testkit::{Ask, Reply, Script, Sim, setup};
//!
//! let script = Script::by_key([
//!     ("k0-pool-key", [Reply::status(429).retry_after(5)]),
//!     ("k1-pool-key", [Reply::json(200, r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#)]),
//! ]);
//! let mut sim = Sim::new(setup::config(&["k0-pool-key", "k1-pool-key"]), &script);
//!
//! let answer = sim.ask(&Ask::new(Api::Messages, false));
//! assert_eq!(answer.status, 200);
//! assert_eq!(sim.key_states("anthropic"), ["temporary", "valid"]);
//! script.verify();
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

use aibridge_core::{
    Bridge, ConnId, Duration, Fault, Frame, Instant, Session, Target,
    config::Config,
    session::{Action, Event},
};
use bytes::{Buf, Bytes, BytesMut};

use crate::{Answer, Ask, Connect, Records, Script, Upstream, peer::Peer, reply::Step};

/// Steps at one moment above which the world is said to run in circles.
const MAX_STEPS: usize = 1_000_000;

/// A client of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(usize);

/// The world. See the [module](self).
#[derive(Debug)]
pub struct Sim {
    /// The clock.
    pub now: Instant,
    /// What the sessions share.
    pub bridge: Bridge,
    /// Everything recorded, in order.
    pub records: Records,
    began: Instant,
    upstream: Upstream,
    clients: Vec<Client>,
    conns: BTreeMap<ConnId, Conn>,
    timeline: String,
    quiet: bool,
}

/// A client and the session that serves it.
#[derive(Debug)]
struct Client {
    /// `None` once it is over.
    session: Option<Session>,
    /// On its way to the session.
    inbox: VecDeque<Wire>,
    /// `Sent` to be told.
    credit: usize,
    /// Written by the session and not taken by the client.
    unsent: BytesMut,
    reads: bool,
    got: BytesMut,
    /// The bridge has ended its side, or dropped the connection.
    closed: bool,
    /// The client ends its side once the bridge has ended its own.
    polite: bool,
    /// The client has ended its side or reset the connection.
    left: bool,
}

/// A connection to the upstream.
#[derive(Debug)]
struct Conn {
    /// The client whose session has it; `None` while it is on the shelf.
    owner: Option<usize>,
    /// The upstream's end, once the connection is up.
    peer: Option<Peer>,
    /// On its way to the session.
    inbox: VecDeque<Wire>,
    /// Sent before the connection was up.
    early: BytesMut,
    /// `Sent` to be told.
    credit: usize,
    /// The upstream does nothing until then.
    wakes: Option<Instant>,
    /// How many confirmations the upstream waits for.
    confirms: u64,
    /// Neither side sends any more.
    dead: bool,
}

/// What travels towards a session.
#[derive(Debug)]
enum Wire {
    Bytes(Bytes),
    End,
    Failed(Fault),
    Opened,
}

impl Sim {
    /// A bridge of this configuration in front of this upstream.
    ///
    /// # Panics
    /// The keys do not make pools.
    pub fn new(config: Config, script: &Script) -> Self {
        let began = Instant::from_secs(1_700_000_000);
        Self {
            now: began,
            bridge: Bridge::new(Arc::new(config), 7).expect("the keys make pools"),
            records: Records::default(),
            began,
            upstream: script.upstream(),
            clients: Vec::new(),
            conns: BTreeMap::new(),
            timeline: String::new(),
            quiet: false,
        }
    }

    /// The same, but keeps no timeline: for tests that run a world many times.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    // --- clients --------------------------------------------------------------------------------------------

    /// A client connects.
    pub fn connect(&mut self) -> ClientId {
        let rng = self.bridge.fork_rng();
        let config = Arc::clone(self.bridge.config());
        self.clients.push(Client {
            session: Some(Session::new(self.now, config, rng)),
            inbox: VecDeque::new(),
            credit: 0,
            unsent: BytesMut::new(),
            reads: true,
            got: BytesMut::new(),
            closed: false,
            polite: true,
            left: false,
        });
        let client = ClientId(self.clients.len() - 1);
        self.log(|| format!("s{} connected", client.0));
        client
    }

    /// A client sends one piece of bytes.
    pub fn send(&mut self, client: ClientId, bytes: impl Into<Bytes>) {
        self.client(client).inbox.push_back(Wire::Bytes(bytes.into()));
    }

    /// A client ends its side of the connection.
    pub fn end(&mut self, client: ClientId) {
        let client = self.client(client);
        client.left = true;
        client.inbox.push_back(Wire::End);
    }

    /// A client resets its connection.
    pub fn reset(&mut self, client: ClientId) {
        let client = self.client(client);
        client.left = true;
        client.inbox.push_back(Wire::Failed(Fault::Reset));
    }

    /// Whether a client reads what it is sent. It does at first.
    pub fn set_reading(&mut self, client: ClientId, reads: bool) {
        self.client(client).reads = reads;
        self.flush(client.0);
    }

    /// A client that does not end its side when the bridge has ended its own.
    pub fn never_hangs_up(&mut self, client: ClientId) {
        self.client(client).polite = false;
    }

    /// The bridge is told to shut down, and all sessions with it.
    pub fn drain(&mut self) {
        self.bridge.drain();
        for index in 0..self.clients.len() {
            self.tell(index, Event::Drain);
        }
    }

    /// What a client got so far, as bytes.
    pub fn got(&self, client: ClientId) -> &[u8] {
        &self.clients[client.0].got
    }

    /// How many bytes the bridge has written that a client has not taken.
    pub fn unsent(&self, client: ClientId) -> usize {
        self.clients[client.0].unsent.len()
    }

    /// The reply that a client is getting, as far as it is there.
    pub fn answer(&self, client: ClientId) -> Option<Answer> {
        let client = &self.clients[client.0];
        Answer::read(&client.got, client.closed).map(|(answer, _)| answer)
    }

    /// All replies that a client got, in order; the last may be partial.
    pub fn answers(&self, client: ClientId) -> Vec<Answer> {
        let client = &self.clients[client.0];
        let mut rest = &client.got[..];
        let mut answers = Vec::new();
        while let Some((answer, used)) = Answer::read(rest, client.closed) {
            answers.push(answer);
            rest = &rest[used..];
        }
        answers
    }

    /// Whether the bridge has ended its side of a client's connection.
    pub fn is_closed(&self, client: ClientId) -> bool {
        self.clients[client.0].closed
    }

    /// Whether a client's session is over.
    pub fn is_over(&self, client: ClientId) -> bool {
        self.clients[client.0].session.is_none()
    }

    /// Sends a request and takes its reply off, on a connection that is used again.
    ///
    /// # Panics
    /// No reply comes within a day.
    #[track_caller]
    pub fn ask_on(&mut self, client: ClientId, ask: &Ask) -> Answer {
        self.send(client, ask.bytes());
        self.take_answer(client)
    }

    /// Waits for a whole reply and takes it off.
    ///
    /// # Panics
    /// None comes within a day.
    #[track_caller]
    pub fn take_answer(&mut self, client: ClientId) -> Answer {
        let settled = self.run_until(Duration::from_secs(86_400), |sim| {
            let is_complete = sim.answer(client).is_some_and(|answer| answer.is_complete());
            is_complete || sim.is_closed(client)
        });
        assert!(settled, "no reply:\n{}", self.timeline);
        let (got, closed) = (self.clients[client.0].got.clone(), self.is_closed(client));
        let (answer, used) = Answer::read(&got, closed).unwrap_or_else(|| panic!("closed without a reply"));
        self.clients[client.0].got.advance(used);
        answer
    }

    /// A client connects, asks, reads the whole reply and leaves.
    ///
    /// # Panics
    /// No reply comes within a day.
    #[track_caller]
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        let client = self.connect();
        let answer = self.ask_on(client, ask);
        if !self.clients[client.0].left {
            self.end(client);
        }
        self.settle();
        answer
    }

    // --- what tests look at ---------------------------------------------------------------------------------

    /// The states of a provider's keys, by name.
    pub fn key_states(&self, provider: &str) -> Vec<&'static str> {
        key_states(&self.bridge, self.now, provider)
    }

    /// How many connections to the upstream are up or coming up.
    pub fn open_connections(&self) -> usize {
        self.conns.values().filter(|conn| !conn.dead).count()
    }

    /// What happened, a line each.
    pub fn timeline(&self) -> &str {
        &self.timeline
    }

    /// All that a session or the bridge would show of itself in a debug message.
    pub fn debug(&self) -> String {
        let sessions: Vec<_> = self.clients.iter().map(|client| &client.session).collect();
        format!("{:?} {sessions:?}", self.bridge)
    }

    // --- time -----------------------------------------------------------------------------------------------

    /// Does all there is to do now.
    ///
    /// # Panics
    /// There is no end to it.
    pub fn settle(&mut self) {
        for _ in 0..MAX_STEPS {
            if !self.step() {
                return;
            }
        }
        panic!("the world runs in circles:\n{}", tail(&self.timeline));
    }

    /// Lets so much time pass.
    pub fn advance(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until something holds, but at most so much. Says whether it holds.
    pub fn run_until(&mut self, time: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        let mut moments = 0;
        loop {
            self.settle();
            if holds(self) {
                return true;
            }
            let Some(next) = self.next_moment().filter(|next| *next <= end) else {
                self.now = end;
                return false;
            };
            assert!(next > self.now, "a deadline is never met:\n{}", tail(&self.timeline));
            self.now = next;
            moments += 1;
            assert!(moments < MAX_STEPS, "time goes in circles:\n{}", tail(&self.timeline));
        }
    }

    fn next_moment(&self) -> Option<Instant> {
        let sessions = self.clients.iter().filter_map(|client| client.session.as_ref()?.poll_timeout());
        let upstreams = self.conns.values().filter(|conn| !conn.dead).filter_map(|conn| conn.wakes);
        sessions.chain(upstreams).chain(self.bridge.poll_timeout()).min()
    }

    /// Does one thing, if there is one to do.
    fn step(&mut self) -> bool {
        (0..self.clients.len()).any(|index| self.step_client(index))
            || self.conns.keys().copied().collect::<Vec<_>>().into_iter().any(|conn| self.step_conn(conn))
            || (0..self.clients.len()).any(|index| self.time_client(index))
            || self.time_bridge()
    }

    fn step_client(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        let Some(session) = &client.session else {
            return false;
        };
        if client.credit > 0 {
            let credit = std::mem::take(&mut client.credit);
            self.tell(index, Event::Sent(ConnId::CLIENT, credit));
            return true;
        }
        let wants = session.wants_read(ConnId::CLIENT);
        let Some(event) = next_event(ConnId::CLIENT, &mut client.inbox, wants) else {
            return false;
        };
        self.log(|| format!("s{index} {}", describe(&event)));
        self.tell(index, event);
        true
    }

    fn step_conn(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else {
            return false;
        };
        if let Some(owner) = conn.owner {
            let Some(session) = &self.clients[owner].session else {
                return false;
            };
            if conn.credit > 0 {
                let credit = std::mem::take(&mut conn.credit);
                self.tell(owner, Event::Sent(id, credit));
                return true;
            }
            let wants = session.wants_read(id);
            if let Some(event) = next_event(id, &mut conn.inbox, wants) {
                self.log(|| format!("s{owner} {}", describe(&event)));
                if matches!(event, Event::Failed(..)) {
                    self.conns.remove(&id); // it is gone: nobody closes it
                }
                self.tell(owner, event);
                return true;
            }
        }
        self.step_peer(id)
    }

    /// The upstream does one thing.
    fn step_peer(&mut self, id: ConnId) -> bool {
        let (now, confirmations) = (self.now, self.upstream.confirmations());
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.dead) else {
            return false;
        };
        if conn.wakes.is_some_and(|at| at > now) || conn.confirms > confirmations {
            return false;
        }
        conn.wakes = None;
        let Some(peer) = &mut conn.peer else {
            return false;
        };
        // Silence for ever is a step that is never taken.
        if peer.peek() == Some(&Step::Stall) {
            return false;
        }
        match peer.next_step() {
            None | Some(Step::Stall) => return false,
            Some(Step::Bytes(bytes)) => conn.inbox.push_back(Wire::Bytes(bytes)),
            Some(Step::Confirm) => conn.confirms += 1,
            Some(Step::End) => {
                conn.dead = true;
                conn.inbox.push_back(Wire::End);
            }
            Some(Step::Reset) => {
                conn.dead = true;
                conn.inbox.push_back(Wire::Failed(Fault::Reset));
            }
            Some(Step::Wait(wait)) => conn.wakes = Some(now + wait),
        }
        true
    }

    fn time_client(&mut self, index: usize) -> bool {
        let now = self.now;
        let Some(session) = &mut self.clients[index].session else {
            return false;
        };
        if session.poll_timeout().is_none_or(|at| at > now) {
            return false;
        }
        session.handle_timeout(now);
        self.log(|| format!("s{index} timeout"));
        self.pump(index);
        true
    }

    fn time_bridge(&mut self) -> bool {
        if self.bridge.poll_timeout().is_none_or(|at| at > self.now) {
            return false;
        }
        self.bridge.handle_timeout(self.now);
        self.unshelve();
        true
    }

    // --- the adapter's part ---------------------------------------------------------------------------------

    fn tell(&mut self, index: usize, event: Event) {
        if let Some(session) = &mut self.clients[index].session {
            session.handle(self.now, event);
            self.pump(index);
        }
    }

    /// Queries, actions, until there are none: the contract of [`Session`].
    fn pump(&mut self, index: usize) {
        loop {
            let Some(session) = &mut self.clients[index].session else {
                return;
            };
            if let Some(query) = session.poll_query() {
                let shown = if self.quiet { String::new() } else { format!("{query:?}") };
                let answer = self.bridge.answer(self.now, query);
                session.handle_answer(self.now, answer);
                self.log(|| format!("s{index} ? {}", first_word(&shown)));
                self.unshelve();
                continue;
            }
            let Some(action) = session.poll_action() else {
                return;
            };
            self.act(index, action);
        }
    }

    fn act(&mut self, index: usize, action: Action) {
        match &action {
            Action::Send(conn, frame) => {
                let len = frame.remaining();
                self.log(|| format!("s{index} {conn} > {len} B"));
            }
            other => {
                let show = || format!("s{index} {}", format!("{other:?}").chars().take(160).collect::<String>());
                self.log(show);
            }
        }
        match action {
            Action::Emit(record) => self.records.0.push(*record),
            Action::Done => self.done(index),
            Action::Send(ConnId::CLIENT, mut frame) => {
                assert!(!self.clients[index].closed, "bytes behind the end of a client's connection");
                let bytes = frame.copy_to_bytes(frame.remaining());
                self.clients[index].unsent.extend_from_slice(&bytes);
                self.flush(index);
            }
            Action::Finish(ConnId::CLIENT) => self.close_client(index),
            Action::Close(ConnId::CLIENT) => {
                self.clients[index].unsent.clear();
                self.close_client(index);
            }
            Action::Open(conn, target) => self.open(index, conn, &target),
            Action::Send(conn, frame) => self.send_upstream(conn, frame),
            Action::Close(conn) => {
                self.conns.remove(&conn);
            }
            Action::Finish(conn) => panic!("only a client's connection is finished, not {conn}"),
            Action::Park(conn) => {
                let conn = self.conns.get_mut(&conn).expect("a parked connection is there");
                conn.owner = None;
            }
            Action::Unpark(id) => {
                let conn = self.conns.entry(id).or_insert_with(Conn::gone);
                conn.owner = Some(index);
                if conn.dead || !conn.inbox.is_empty() {
                    conn.inbox = [Wire::Failed(Fault::Closed)].into();
                }
            }
        }
    }

    fn done(&mut self, index: usize) {
        let left: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.owner == Some(index))
            .map(|(id, _)| *id)
            .collect();
        assert!(left.is_empty(), "a session is done and has not closed {left:?}:\n{}", tail(&self.timeline));
        self.clients[index].session = None;
        self.clients[index].closed = true;
    }

    fn close_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.closed = true;
        if client.polite && !client.left {
            client.left = true;
            client.inbox.push_back(Wire::End);
        }
    }

    fn open(&mut self, index: usize, id: ConnId, target: &Target) {
        assert_eq!(*target, crate::setup::upstream(), "the only origin there is");
        let mut conn = Conn::new(index);
        match self.upstream.connect() {
            Connect::Accept(number) => {
                conn.peer = Some(Peer::new(self.upstream.clone(), number));
                conn.inbox.push_back(Wire::Opened);
            }
            Connect::Fail(fault) => conn.inbox.push_back(Wire::Failed(fault)),
            Connect::NoAnswer => {}
        }
        let known = self.conns.insert(id, conn);
        assert!(known.is_none(), "{id} is opened twice");
    }

    fn send_upstream(&mut self, id: ConnId, mut frame: Frame) {
        let bytes = frame.copy_to_bytes(frame.remaining());
        let Some(conn) = self.conns.get_mut(&id) else {
            panic!("bytes for {id}, which is not there");
        };
        conn.credit += bytes.len();
        let Some(peer) = &mut conn.peer else {
            return conn.early.extend_from_slice(&bytes);
        };
        let calls = if conn.dead { Vec::new() } else { peer.push(bytes) };
        for call in calls {
            let hint = aibridge_core::Secret::new(call.key.as_str()).hint();
            self.log(|| format!("   {id} upstream sees {} {} with {hint}", call.method, call.path));
        }
    }

    /// Hands a client what it is ready to take.
    fn flush(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.reads && !client.unsent.is_empty() {
            client.credit += client.unsent.len();
            let bytes = client.unsent.split();
            client.got.extend_from_slice(&bytes);
        }
    }

    /// Closes what the bridge wants off the shelf.
    fn unshelve(&mut self) {
        while let Some(conn) = self.bridge.poll_close() {
            self.conns.remove(&conn);
        }
    }

    fn client(&mut self, id: ClientId) -> &mut Client {
        &mut self.clients[id.0]
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.quiet {
            return;
        }
        let at = self.now.since(self.began).as_millis();
        let _ = writeln!(self.timeline, "+{at}ms {}", line());
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.timeline.is_empty() {
            eprintln!("--- timeline\n{}", tail(&self.timeline));
        }
    }
}

impl Conn {
    fn new(owner: usize) -> Self {
        Self {
            owner: Some(owner),
            peer: None,
            inbox: VecDeque::new(),
            early: BytesMut::new(),
            credit: 0,
            wakes: None,
            confirms: 0,
            dead: false,
        }
    }

    /// A connection that is asked for and was closed long ago.
    fn gone() -> Self {
        Self {
            dead: true,
            ..Self::new(0)
        }
    }
}

/// The states of a provider's keys, by name.
pub fn key_states(bridge: &Bridge, now: Instant, provider: &str) -> Vec<&'static str> {
    let providers = bridge.keys(now);
    let keys = providers.iter().find(|known| &*known.name == provider);
    keys.map_or_else(Vec::new, |found| found.keys.iter().map(|key| key.state.as_str()).collect())
}

/// Takes the first thing off an inbox, if the session would notice it: bytes and an end only where it reads.
fn next_event(conn: ConnId, inbox: &mut VecDeque<Wire>, wants_read: bool) -> Option<Event> {
    if matches!(inbox.front()?, Wire::Bytes(_) | Wire::End) && !wants_read {
        return None;
    }
    Some(match inbox.pop_front()? {
        Wire::Bytes(bytes) => Event::Received(conn, bytes),
        Wire::End => Event::Ended(conn),
        Wire::Failed(fault) => Event::Failed(conn, fault),
        Wire::Opened => Event::Opened(conn),
    })
}

fn describe(event: &Event) -> String {
    match event {
        Event::Received(conn, bytes) => format!("{conn} < {} B", bytes.len()),
        other => format!("{other:?}"),
    }
}

fn first_word(text: &str) -> &str {
    text.split([' ', '{', '(']).next().unwrap_or_default()
}

/// The last of a long text.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(8 << 10);
    &text[text.ceil_char_boundary(from)..]
}
