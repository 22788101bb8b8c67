//! Whole sessions, driven by a script: whatever comes from either side, in whatever order, with any failure and at any
//! time, a session ends when its client is gone, every interception of it ends exactly once, and no key goes where it
//! does not belong. The session is traced: the trace replays to the same outputs, and has no key in it.
//!
//! A script is lines. A line's first byte says what happens, its rest with what; `\n` in it stands for CR LF:
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
//! Any other line is taken as bytes of the client's, so that a mutated script still says something.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::Duration,
};

use aibridge_core::{
    Bridge, ConnId, Fault, Instant,
    api::Vendor,
    config::{Config, Provider},
    record::Record,
    session::{Action, Event},
    trace::{self, Opening, Recorder, Step, Watched},
};
use bytes::{Buf, Bytes};

const KEYS: [&str; 2] = ["sk-first-secret-0123456789", "sk-second-secret-0123456789"];

/// Runs `data` as a script, twice.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let first = run(data);
    assert_eq!(run(data), first, "the same script gives the same bytes");
}

/// All that was written, by connection.
type Written = BTreeMap<ConnId, Vec<u8>>;

struct World {
    now: Instant,
    bridge: Bridge,
    session: Watched,
    recorder: Recorder,
    /// What the recorder is still to be told.
    steps: mpsc::Receiver<Step>,
    /// Connections to upstream, the newest last.
    upstreams: Vec<ConnId>,
    written: Written,
    /// Bytes given and not yet said to be sent.
    unsent: BTreeMap<ConnId, usize>,
    /// Interceptions that have begun and not ended.
    running: BTreeSet<String>,
    ended: BTreeSet<String>,
    done: bool,
}

fn run(data: &[u8]) -> Written {
    let mut world = World::new();
    for line in data.split(|byte| *byte == b'\n') {
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
        ..
    } = world;
    for step in steps.try_iter() {
        recorder.record(step);
    }
    let trace = recorder.finish();
    assert!(
        KEYS.iter().all(|key| !contains(&trace, key)),
        "a trace shows a key"
    );
    if let Err(trouble) = trace::replay(&trace)
        && !has_odd_keys(data)
    {
        panic!("{trouble}\n{}", String::from_utf8_lossy(&trace));
    }
    written
}

/// Whether something that is shown as a credential stands elsewhere too: as it might be a word that requests are made of, to take it out of
/// the trace may change what they mean.
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
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

impl World {
    fn new() -> Self {
        let target = aibridge_core::Target {
            host: "upstream.test".into(),
            port: 9,
            tls: false,
        };
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
        let config = Arc::new(config);
        let Ok(mut bridge) = Bridge::new(config, 1) else {
            panic!("a sound configuration");
        };
        let now = Instant::from_secs(1_700_000_000);
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
            written: Written::new(),
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
            (b'>', Some(conn)) => self.tell(Event::Received(conn, unescaped(rest))),
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
            (b'<', _) => self.tell(Event::Received(ConnId::CLIENT, unescaped(rest))),
            _ => self.tell(Event::Received(
                ConnId::CLIENT,
                Bytes::copy_from_slice(line),
            )),
        }
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
            Action::Open(conn, _) | Action::Unpark(conn) => {
                assert!(!conn.is_client());
                self.upstreams.push(conn);
            }
            Action::Send(conn, mut frame) => {
                assert!(
                    conn.is_client() || self.upstreams.contains(&conn),
                    "{conn:?} is not open"
                );
                let bytes = frame.copy_to_bytes(frame.remaining());
                *self.unsent.entry(conn).or_default() += bytes.len();
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
            KEYS.iter().all(|key| !shown.contains(key)),
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
    }

    /// Keys go upstream, where they belong; to the client only what upstream itself may say goes.
    fn check_secrets(&self) {
        let client = self
            .written
            .get(&ConnId::CLIENT)
            .map_or(&b""[..], |bytes| bytes);
        for key in KEYS {
            assert!(!contains(client, key), "the client was shown a key");
        }
    }
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
