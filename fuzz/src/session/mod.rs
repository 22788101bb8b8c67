//! Whole sessions, driven by a script: whatever comes from either side, in whatever order, with any
//! failure and at any time, a session ends when its client is gone, every interception of it ends
//! exactly once, and no key goes where it does not belong. The session is traced: the trace replays
//! to the same outputs, and has no key in it. And however the bytes that come are cut into pieces,
//! the client gets the same, and the same is on record.
//!
//! A script is lines. A line's first byte says what happens, its rest with what; `\n` in it stands
//! for CR LF:
//!
//! | line | what happens |
//! |---|---|
//! | `<text` | the client sends text |
//! | `>text` | the newest connection to upstream brings text |
//! | `o` | … comes up |
//! | `e` | … ends its side |
//! | `f` | … fails |
//! | `E` `F` | the client ends its side, or fails |
//! | `t9` | so many powers of two of milliseconds pass |
//! | `w` | all that was given to be written has been |
//! | `d` | the bridge is shutting down |
//!
//! A script whose first line is `C` is of a bridge which only clients with a token may use, and
//! which has an MCP server with the tool `look`. `$TOKEN` stands for that token, and `$ID` for the
//! id of the last message to the server.
//!
//! Any other line is taken as bytes of the client's, so that a mutated script still says something.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use aibridge_core::{
    Bridge, ConnId, Fault, Instant, Secret, Target,
    api::Vendor,
    config::{Client, Config, Provider},
    mcp,
    record::Record,
    session::{Action, Event},
    trace::{self, Opening, Recorder, Step, Watched},
};
use bytes::{Buf, Bytes};
use http::header::AUTHORIZATION;

use crate::pieces;
use wire::{find, without_chunks};

mod offer;
mod wire;

const KEYS: [&str; 2] = ["sk-first-secret-0123456789", "sk-second-secret-0123456789"];
/// What the MCP server is shown.
const SHOWN: &str = "mcp-secret-0123456789";
/// Bytes that may wait to be written to a connection, besides what has come.
const MOST: usize = 256 << 10;
/// What nobody is to see but whom it is for.
const SECRETS: [&str; 3] = [KEYS[0], KEYS[1], SHOWN];
const TOKEN: &str = "client-token-0123456789";

/// Runs `data` as a script, twice; and once more with all that is received in pieces.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let script = filled(data, b"$TOKEN", TOKEN.as_bytes());
    let first = run(&script, Cut::Not);
    let again = run(&script, Cut::Not);
    assert_eq!(again, first, "the same script gives the same bytes");
    let cut = run(&script, Cut::Pieces);
    if cut.is_comparable {
        assert_eq!(cut.records, first.records, "whatever the pieces");
        assert_eq!(cut.unframed(), first.unframed(), "whatever the pieces");
    }
}

/// Whether what is received is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Not,
    Pieces,
}

/// All that was written, by connection.
type Written = BTreeMap<ConnId, Vec<u8>>;

/// What came of a script.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    written: Written,
    /// In their debug form.
    records: Vec<String>,
    /// All pieces came to where the whole had come.
    is_comparable: bool,
}

impl Played {
    /// What was written, but for its chunks.
    fn unframed(&self) -> BTreeMap<ConnId, String> {
        let written = self.written.iter();
        let text = |bytes: &[u8]| without_chunks(bytes).escape_ascii().to_string();
        written.map(|(conn, bytes)| (*conn, text(bytes))).collect()
    }
}

struct World {
    now: Instant,
    bridge: Bridge,
    session: Watched,
    recorder: Recorder,
    /// What the recorder is still to be told.
    steps: mpsc::Receiver<Step>,
    /// Connections to upstream, the newest last.
    upstreams: Vec<ConnId>,
    /// Those to the MCP server.
    to_tools: BTreeSet<ConnId>,
    cut: Cut,
    is_comparable: bool,
    records: Vec<String>,
    written: Written,
    /// Bytes that came, whether they were wanted or not.
    received: usize,
    /// Bytes given and not yet said to be sent.
    unsent: BTreeMap<ConnId, usize>,
    /// Interceptions that have begun and not ended.
    running: BTreeSet<String>,
    ended: BTreeSet<String>,
    done: bool,
}

fn run(data: &[u8], cut: Cut) -> Played {
    let mut world = World::new(data.starts_with(b"C\n"), cut);
    for line in data
        .strip_prefix(b"C\n")
        .unwrap_or(data)
        .split(|byte| *byte == b'\n')
    {
        world.play(line);
        if world.done {
            break;
        }
    }
    world.tell(Event::Failed(ConnId::CLIENT, Fault::Reset));
    // What a session still has to do without a client takes seconds, not an hour.
    for _ in 0..1000 {
        let Some(at) = world.session.poll_timeout().filter(|_| !world.done) else {
            break;
        };
        world.wait_until(at);
    }
    assert!(world.done, "a session ends with its client");
    assert!(
        world.running.is_empty(),
        "every interception ends: {:?}",
        world.running
    );
    world.check_secrets();
    let World {
        mut recorder,
        steps,
        written,
        records,
        is_comparable,
        ..
    } = world;
    for step in steps.try_iter() {
        recorder.record(step);
    }
    let trace = recorder.finish();
    assert!(
        SECRETS.iter().all(|key| !contains(&trace, key)),
        "a trace shows a key"
    );
    if let Err(trouble) = trace::replay(&trace)
        && !has_odd_keys(data)
    {
        panic!("{trouble}\n{}", String::from_utf8_lossy(&trace));
    }
    Played {
        written,
        records,
        is_comparable,
    }
}

/// Whether something that is shown as a credential stands elsewhere too: as it might be a word that
/// requests are made of, to take it out of the trace may change what they mean.
fn has_odd_keys(script: &[u8]) -> bool {
    let script = String::from_utf8_lossy(&unescaped(script)).to_lowercase();
    let is_credential = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        let mut names = [
            "x-api-key",
            "authorization",
            "cookie",
            "token",
            "mcp-session-id",
        ]
        .iter();
        names.any(|known| name.contains(known))
    };
    let shown: Vec<&str> = script
        .lines()
        .filter(is_credential)
        .flat_map(|line| line.split([' ', '\t', ':', ';', ',']))
        .filter(|word| word.len() >= 8)
        .collect();
    let other: Vec<&str> = script.lines().filter(|line| !is_credential(line)).collect();
    let other = other.join("\n");
    shown.iter().any(|word| other.contains(word)) || script.contains('?')
}

fn contains(bytes: &[u8], text: &str) -> bool {
    find(bytes, text.as_bytes()).is_some()
}

impl World {
    fn new(has_clients_and_tools: bool, cut: Cut) -> Self {
        let config = config(has_clients_and_tools);
        let Ok(mut bridge) = Bridge::new(Arc::new(config), 1) else {
            panic!("a sound configuration");
        };
        let now = Instant::from_secs(1_700_000_000);
        offer::tools(&mut bridge, now);
        let session = bridge.connected(now);
        let (tell, steps) = mpsc::channel();
        let recorder = Recorder::new(Opening::of(now, &session), "aibridge-fuzz");
        let tell = move |step: Step| {
            let _ = tell.send(step);
        };
        Self {
            now,
            session: Watched::new(session, Some(Box::new(tell))),
            recorder,
            steps,
            bridge,
            upstreams: Vec::new(),
            to_tools: BTreeSet::new(),
            cut,
            is_comparable: true,
            records: Vec::new(),
            written: Written::new(),
            received: 0,
            unsent: BTreeMap::new(),
            running: BTreeSet::new(),
            ended: BTreeSet::new(),
            done: false,
        }
    }

    fn play(&mut self, line: &[u8]) {
        let newest = self.upstreams.last().copied();
        let (what, rest) = line.split_first().unwrap_or((&b'<', b"\\n"));
        match (what, newest) {
            (b'>', Some(conn)) => {
                let id = self.last_id(conn);
                self.receive(conn, &filled(&unescaped(rest), b"$ID", &id));
            }
            (b'o', Some(conn)) => self.tell(Event::Opened(conn)),
            (b'e', Some(conn)) => self.tell(Event::Ended(conn)),
            (b'f', Some(conn)) => {
                self.forget(conn); // it is gone
                self.tell(Event::Failed(conn, Fault::Reset));
            }
            (b'>' | b'o' | b'e' | b'f', None) => {}
            (b'E', _) => self.tell(Event::Ended(ConnId::CLIENT)),
            (b'F', _) => self.tell(Event::Failed(ConnId::CLIENT, Fault::Closed)),
            (b'd', _) => self.tell(Event::Drain),
            (b'w', _) => {
                for (conn, len) in std::mem::take(&mut self.unsent) {
                    self.tell(Event::Sent(conn, len));
                }
            }
            (b't', _) => {
                let power = rest
                    .first()
                    .map_or(0, |digit| digit.wrapping_sub(b'0') % 24);
                self.wait_until(self.now + Duration::from_millis(1 << power));
            }
            (b'<', _) => self.receive(ConnId::CLIENT, &unescaped(rest)),
            _ => self.receive(ConnId::CLIENT, line),
        }
    }

    /// Bytes come, in pieces perhaps.
    fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        let pieces: Vec<&[u8]> = match self.cut {
            Cut::Not => vec![bytes],
            Cut::Pieces => pieces(bytes).collect(),
        };
        for piece in pieces {
            if !conn.is_client() && !self.upstreams.contains(&conn) {
                // Who has all of a reply can keep a connection that must be closed, or must not be
                // kept, where more is to come.
                self.is_comparable = false;
                return;
            }
            self.received += piece.len();
            self.tell(Event::Received(conn, Bytes::copy_from_slice(piece)));
        }
    }

    /// The id of the last JSON-RPC message on a connection.
    fn last_id(&self, conn: ConnId) -> Vec<u8> {
        let written = self.written.get(&conn).map_or(&b""[..], |bytes| bytes);
        let mark = b"\"id\":";
        let at = written.windows(mark.len()).rposition(|part| part == mark);
        let digits = at.map_or(&b""[..], |at| &written[at + mark.len()..]);
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        digits.copied().collect()
    }

    fn wait_until(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.session.handle_timeout(self.now);
        self.settle();
        let next = self.session.poll_timeout();
        assert!(
            self.done || next.is_none_or(|next| next > self.now),
            "a deadline that has passed is dealt with"
        );
        self.bridge.handle_timeout(self.now);
        while self.bridge.poll_close().is_some() {}
    }

    fn tell(&mut self, event: Event) {
        if !self.done {
            self.session.handle(self.now, event);
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            while let Some(action) = self.session.poll_action() {
                self.act(action);
            }
            let Some(query) = self.session.poll_query() else {
                return;
            };
            let answer = self.bridge.answer(self.now, query);
            self.session.handle_answer(self.now, answer);
        }
    }

    fn act(&mut self, action: Action) {
        assert!(!self.done, "nothing follows the end: {action:?}");
        match action {
            Action::Open(conn, target) => {
                assert!(!conn.is_client());
                if target == origin("tools.test") {
                    self.to_tools.insert(conn);
                }
                self.upstreams.push(conn);
            }
            Action::Unpark(conn) => self.upstreams.push(conn),
            Action::Send(conn, mut frame) => {
                assert!(
                    conn.is_client() || self.upstreams.contains(&conn),
                    "{conn:?} is not open"
                );
                let bytes = frame.copy_to_bytes(frame.remaining());
                let unsent = self.unsent.entry(conn).or_default();
                *unsent += bytes.len();
                assert!(
                    *unsent <= MOST + self.received,
                    "{unsent} bytes for {conn} wait"
                );
                self.written
                    .entry(conn)
                    .or_default()
                    .extend_from_slice(&bytes);
            }
            Action::Close(conn) | Action::Reset(conn) => self.forget(conn),
            Action::Park(conn, target) => {
                self.forget(conn);
                self.bridge.park(self.now, conn, target);
            }
            Action::Emit(record) => self.keep(&record),
            Action::Finish(_) => {}
            Action::Done => {
                assert!(self.upstreams.is_empty(), "left open: {:?}", self.upstreams);
                self.done = true;
            }
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.upstreams.retain(|open| *open != conn);
        self.unsent.remove(&conn);
    }

    fn keep(&mut self, record: &Record) {
        let shown = format!("{record:?}");
        assert!(
            SECRETS.iter().all(|key| !shown.contains(key)),
            "a record shows a key"
        );
        match record {
            Record::Started(id, _) => {
                let id = id.to_string();
                assert!(!self.ended.contains(&id), "{id} begins again");
                assert!(self.running.insert(id), "an interception begins once");
            }
            Record::Ended(id, _) => {
                let id = id.to_string();
                assert!(self.running.remove(&id), "{id} ends, and is not running");
                self.ended.insert(id);
            }
            _ => {}
        }
        self.records.push(shown);
    }

    /// Keys go upstream, where they belong, and what the MCP server is shown to that; to the client
    /// only what upstream itself may say goes.
    fn check_secrets(&self) {
        for (conn, bytes) in &self.written {
            for secret in SECRETS {
                let is_its_place = match secret {
                    SHOWN => self.to_tools.contains(conn),
                    _ => !conn.is_client() && !self.to_tools.contains(conn),
                };
                assert!(
                    is_its_place || !contains(bytes, secret),
                    "{conn} was shown {secret}"
                );
            }
        }
    }
}

fn origin(host: &str) -> Target {
    Target {
        host: host.into(),
        port: 9,
        tls: false,
    }
}

fn config(has_clients_and_tools: bool) -> Config {
    let target = origin("upstream.test");
    let anthropic =
        Provider::new("anthropic", Vendor::Anthropic, target.clone(), "").with_keys(KEYS);
    let openai = Provider::new("openai", Vendor::OpenAi, target, "/v1").with_keys(KEYS);
    let mut config = Config {
        providers: vec![Arc::new(anthropic), Arc::new(openai)],
        ..Config::default()
    };
    // Small, so that a short script meets them.
    config.limits.head = 2 << 10;
    config.limits.body = 4 << 10;
    if has_clients_and_tools {
        let digest = Secret::new(TOKEN).digest();
        config.clients.push(Client::new("alice", digest));
        let server = mcp::Server::new("desk", origin("tools.test"), "/mcp");
        let server = server.with_header(AUTHORIZATION, &Secret::new(SHOWN));
        config.mcp.extend(server.ok().map(Arc::new));
    }
    config
}

/// `text` with something else in place of a name.
fn filled<'a>(text: &'a [u8], name: &[u8], value: &[u8]) -> Cow<'a, [u8]> {
    let mut filled = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, name) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(value);
        rest = &rest[at + name.len()..];
    }
    if filled.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    filled.extend_from_slice(rest);
    Cow::Owned(filled)
}

/// Text in which `\n` stands for CR LF.
fn unescaped(text: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(b"\\n") {
            bytes.extend_from_slice(b"\r\n");
            rest = behind;
        } else {
            bytes.push(*first);
            rest = behind;
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a script of the corpus, of one kind.
    fn records(script: &[u8], kind: &str) -> Vec<String> {
        let script = filled(script, b"$TOKEN", TOKEN.as_bytes());
        let played = [Cut::Not, Cut::Pieces].map(|cut| run(&script, cut));
        assert!(played[1].is_comparable);
        let [mut played, _] = played;
        played.records.retain(|record| record.starts_with(kind));
        played.records
    }

    #[test]
    fn the_corpus_has_tools_that_are_run_and_tools_that_fail() {
        let used = records(include_bytes!("../../corpus/session/tool"), "ToolUsage");
        assert_eq!(used.len(), 1, "{used:?}");
        assert!(used[0].contains("error: None"), "{used:?}");
        let script = include_bytes!("../../corpus/session/tool_fails");
        let used = records(script, "ToolUsage");
        assert_eq!(used.len(), 1, "{used:?}");
        assert!(used[0].contains("error: Some"), "{used:?}");
    }
}
