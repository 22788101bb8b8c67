//! A deterministic world around a [`Bridge`]: clients, sessions, connections, a scripted upstream
//! and a clock.
//!
//! Nothing here is concurrent and nothing waits. [`Sim::settle`] does all there is to do at the
//! present moment, one thing at a time and in a fixed order; [`Sim::advance`] and
//! [`Sim::run_until`] move the clock on from one deadline to the next. The network has no latency
//! and loses nothing: what is late or lost, a script says. Two runs of one test are the same to the
//! byte, and a test that fails prints the timeline of its run.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use aibridge_core::{
    Bridge, ConnId, Duration, Fault, Instant, Rng, Target,
    bridge::Invalid,
    config::Config,
    session::Event,
    trace::{Opening, Watched},
};
use bytes::{Buf, Bytes};

use crate::{Answer, Ask, Records, Script, Upstream, history::Fact};

mod parts;
mod traces;
mod upstreams;
mod watch;
mod world;

use parts::{Client, Conn, Wire};
use traces::Traces;

pub(crate) use watch::Watch;

/// Steps at one moment above which the world is said to run in circles.
const MAX_STEPS: usize = 1_000_000;
/// The same for one that is watched: it is run many times to be made smaller, and writes all of it
/// down.
const MAX_WATCHED_STEPS: usize = 50_000;

/// A client of a [`Sim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(pub(crate) usize);

/// A deterministic world around a [`Bridge`]: clients, sessions, connections, a scripted upstream
/// and a clock.
///
/// ```
/// use aibridge_core::api::Api;
/// use aibridge_testkit::{Ask, Reply, Script, Sim, setup};
///
/// let script = Script::by_key([
///     ("k0-pool-key", [Reply::status(429).retry_after(5)]),
///     ("k1-pool-key", [Reply::json(200, r#"{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}"#)]),
/// ]);
/// let mut sim = Sim::new(setup::config(&["k0-pool-key", "k1-pool-key"]), &script);
///
/// let answer = sim.ask(&Ask::new(Api::Messages, false));
/// assert_eq!(answer.status, 200);
/// assert_eq!(sim.key_states("anthropic"), ["temporary", "valid"]);
/// script.verify();
/// ```
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
    /// What is at other origins.
    servers: BTreeMap<Target, Upstream>,
    clients: Vec<Client>,
    /// Which of the sessions are not over.
    live: Vec<usize>,
    /// Which of the sessions have no client.
    keepers: Vec<usize>,
    conns: BTreeMap<ConnId, Conn>,
    timeline: String,
    quiet: bool,
    /// Which of two things that are ready is done first, where that is left to chance.
    shuffle: Option<Rng>,
    watch: Option<Box<Watch>>,
    traces: Option<Traces>,
}

impl Sim {
    /// A bridge of this configuration in front of this upstream.
    ///
    /// # Panics
    /// The keys do not make pools.
    pub fn new(config: Config, script: &Script) -> Self {
        Self::seeded(config, script, 7)
    }

    /// The same, with another seed for the bridge's ids.
    ///
    /// # Panics
    /// The keys do not make pools.
    pub fn seeded(config: Config, script: &Script, seed: u64) -> Self {
        let began = Instant::from_secs(1_700_000_000);
        Self {
            now: began,
            bridge: Bridge::new(Arc::new(config), seed).expect("the keys make pools"),
            records: Records::default(),
            began,
            upstream: script.upstream(),
            servers: BTreeMap::new(),
            clients: Vec::new(),
            live: Vec::new(),
            keepers: Vec::new(),
            conns: BTreeMap::new(),
            timeline: String::new(),
            quiet: false,
            shuffle: None,
            watch: None,
            traces: None,
        }
    }

    /// The same, but of all that is ready, what this seed picks is done first.
    #[must_use]
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.shuffle = Some(Rng::new(seed));
        self
    }

    /// The same, watched.
    #[must_use]
    pub(crate) fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(Box::new(watch));
        self
    }

    /// The same, but what watches it keeps no log.
    #[must_use]
    pub(crate) fn unlogged(mut self) -> Self {
        if let Some(watch) = &mut self.watch {
            watch.logs = false;
        }
        self
    }

    /// The same, and the session of every client is [recorded](aibridge_core::trace). Take the
    /// traces with [`take_traces`](Self::take_traces).
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.traces = Some(Traces::default());
        self
    }

    /// The traces of all sessions of clients so far, in the order in which they connected, if it is
    /// [`traced`](Self::traced). What happens from then on is in none.
    pub fn take_traces(&mut self) -> Vec<Vec<u8>> {
        let traces = self.traces.take();
        traces.map_or_else(Vec::new, Traces::finish)
    }

    /// The same, but keeps no timeline: for tests that run a world many times.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The same, with the configured MCP servers kept, of which the one at this origin is played by
    /// this script.
    #[must_use]
    pub fn with_server(self, target: &Target, script: &Script) -> Self {
        self.with_servers([(target, script)])
    }

    /// The same, with the configured MCP servers kept, which these scripts play at these origins.
    #[must_use]
    pub fn with_servers<'a>(
        mut self,
        servers: impl IntoIterator<Item = (&'a Target, &'a Script)>,
    ) -> Self {
        let servers = servers.into_iter();
        self.servers
            .extend(servers.map(|(target, script)| (target.clone(), script.upstream())));
        self.begin_keepers();
        self
    }

    /// Another configuration is put in force.
    ///
    /// # Errors
    /// It makes no bridge.
    pub fn reload(&mut self, config: Config) -> Result<(), Invalid> {
        self.bridge.reload(self.now, Arc::new(config))?;
        self.begin_keepers();
        Ok(())
    }

    /// Puts another script at this origin, or the first.
    pub fn serve_at(&mut self, target: &Target, script: &Script) {
        self.servers.insert(target.clone(), script.upstream());
    }

    fn begin_keepers(&mut self) {
        for session in self.bridge.keepers(self.now) {
            let index = self.begin(Watched::new(session, None));
            self.keepers.push(index);
            self.pump(index);
        }
        self.settle();
    }

    // --- clients --------------------------------------------------------------------------------------------

    /// A client connects.
    pub fn connect(&mut self) -> ClientId {
        let session = self.bridge.connected(self.now);
        let opening = Opening::of(self.now, &session);
        let traces = self.traces.as_mut();
        let observer = traces.map(|traces| traces.begin(opening));
        let client = ClientId(self.begin(Watched::new(session, observer)));
        self.log(|| format!("s{} connected", client.0));
        client
    }

    fn begin(&mut self, session: Watched) -> usize {
        let index = self.clients.len();
        self.clients.push(Client::of(session));
        self.live.push(index);
        index
    }

    /// A client sends one piece of bytes.
    pub fn send(&mut self, client: ClientId, bytes: impl Into<Bytes>) {
        self.client(client)
            .inbox
            .push_back(Wire::Bytes(bytes.into()));
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

    /// Whether the bridge has reset a client's connection.
    pub fn was_reset(&self, client: ClientId) -> bool {
        self.clients[client.0].reset
    }

    /// Whether a client reads what it is sent. It does at first.
    pub fn set_reading(&mut self, client: ClientId, reads: bool) {
        self.client(client).reads = reads;
        self.flush(client.0);
    }

    /// A client that does not read takes so many bytes at most all the same.
    pub fn take_some(&mut self, client: ClientId, bytes: usize) {
        self.hand(client.0, bytes);
    }

    /// A client that does not end its side when the bridge has ended its own.
    pub fn never_hangs_up(&mut self, client: ClientId) {
        self.client(client).polite = false;
    }

    /// The bridge is told to shut down, and all its clients' sessions with it.
    pub fn drain(&mut self) {
        self.bridge.drain();
        for index in 0..self.clients.len() {
            if !self.keepers.contains(&index) {
                self.tell(index, Event::Drain);
            }
        }
    }

    /// No client is left: MCP servers are told that the bridge leaves.
    pub fn take_leave(&mut self) {
        for index in self.keepers.clone() {
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
            let is_complete = sim
                .answer(client)
                .is_some_and(|answer| answer.is_complete());
            is_complete || sim.is_closed(client)
        });
        assert!(settled, "no reply:\n{}", self.timeline);
        let (got, closed) = (self.clients[client.0].got.clone(), self.is_closed(client));
        let (answer, used) =
            Answer::read(&got, closed).unwrap_or_else(|| panic!("closed without a reply"));
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
        let most = if self.watch.is_some() {
            MAX_WATCHED_STEPS
        } else {
            MAX_STEPS
        };
        for _ in 0..most {
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
    ///
    /// # Panics
    /// The world or the clock runs in circles.
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
            assert!(
                next > self.now,
                "a deadline is never met:\n{}",
                tail(&self.timeline)
            );
            self.now = next;
            moments += 1;
            assert!(
                moments < MAX_STEPS,
                "time goes in circles:\n{}",
                tail(&self.timeline)
            );
        }
    }

    fn client(&mut self, id: ClientId) -> &mut Client {
        &mut self.clients[id.0]
    }

    /// Writes down what happened in a session, where somebody watches.
    pub(crate) fn note(&mut self, session: usize, fact: impl FnOnce() -> Fact) {
        if let Some(watch) = &mut self.watch {
            watch.note(self.now, session, fact());
        }
    }

    /// Whether a session of a client is not over.
    pub(crate) fn has_sessions(&self) -> bool {
        !self.live.is_empty()
    }

    /// The sessions that are not over.
    pub(crate) fn sessions(&self) -> Vec<usize> {
        self.live.clone()
    }

    /// What was watched.
    pub(crate) fn take_watch(&mut self) -> Option<Box<Watch>> {
        self.watch.take()
    }

    /// A client's complete reply, taken off.
    pub(crate) fn take_complete(&mut self, client: ClientId) -> Option<Answer> {
        let client = &mut self.clients[client.0];
        let (answer, used) = Answer::read(&client.got, client.closed)?;
        answer.is_complete().then(|| {
            client.got.advance(used);
            answer
        })
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

/// The states of a provider's keys, by name.
pub fn key_states(bridge: &Bridge, now: Instant, provider: &str) -> Vec<&'static str> {
    let providers = bridge.keys(now);
    let keys = providers.iter().find(|known| &*known.name == provider);
    keys.map_or_else(Vec::new, |found| {
        found.keys.iter().map(|key| key.state.as_str()).collect()
    })
}

/// The last of a long text.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(8 << 10);
    &text[text.ceil_char_boundary(from)..]
}
