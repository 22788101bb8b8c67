//! Steps in, lines out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{
    Opening, Step, VERSION,
    answer::{Answer, Before},
    config::Config,
    heads,
    line::{End, Header, Input, Line, Text, Wait},
    output::{Output, Redact},
    secrets::Secrets,
    stream::{Decided, Stream},
};
use crate::{
    id::ConnId,
    record::Record,
    session::{Action, Event},
    time::Instant,
};

/// Steps held back after undecided input above which recording is given up, and bytes of theirs.
const MAX_HELD: (usize, usize) = (64 << 10, 8 << 20);
/// Secrets of one trace above which recording is given up: a client that shows ever new ones.
const MAX_SECRETS: usize = 1_000;

/// Makes the lines of a trace of a session's steps.
///
/// ```
/// use std::sync::{Arc, mpsc};
/// use aibridge_core::{Bridge, ConnId, Instant, config::Config, session::Event, trace::{self, Opening, Recorder, Watched}};
///
/// let mut bridge = Bridge::new(Arc::new(Config::default()), 1).unwrap();
/// let now = Instant::from_secs(1);
/// let session = bridge.connected(now);
/// let mut recorder = Recorder::new(Opening::of(now, &session), "example");
/// let (tell, told) = mpsc::channel();
/// let mut session = Watched::new(session, Some(Box::new(move |step| tell.send(step).unwrap())));
///
/// let request = "GET /nowhere HTTP/1.1\r\nhost: h\r\nauthorization: Bearer not-in-the-trace\r\n\r\n";
/// session.handle(now, Event::Received(ConnId::CLIENT, request.into()));
/// loop {
///     while session.poll_action().is_some() {}
///     let Some(query) = session.poll_query() else { break };
///     let answer = bridge.answer(now, query);
///     session.handle_answer(now, answer);
/// }
/// drop(session);
///
/// told.iter().for_each(|step| recorder.record(step));
/// let trace = recorder.finish();
/// assert!(!String::from_utf8_lossy(&trace).contains("not-in-the-trace"));
/// assert!(trace::replay(&trace).unwrap().outputs > 0);
/// ```
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    /// Lines not taken yet.
    lines: Vec<u8>,
    /// What is behind undecided input, and that itself.
    held: VecDeque<Held>,
    held_bytes: usize,
    streams: BTreeMap<ConnId, Stream>,
    secrets: Secrets,
    before: Before,
    /// Connections on which a request is about to begin.
    beginning: Vec<ConnId>,
    /// A client's request had a secret in its body.
    is_content: bool,
    /// Contents are not to be compared any more.
    unsure: Option<Unsure>,
    end: End,
    is_over: bool,
}

/// A step that is not written yet.
#[derive(Debug)]
enum Held {
    /// Bytes came, so many of which are decided.
    Received {
        at: Instant,
        conn: ConnId,
        len: usize,
        decided: Vec<u8>,
    },
    Step(Step),
}

#[derive(Clone, Copy, Debug)]
enum Unsure {
    /// Not written yet: for this reason.
    New(&'static str),
    Known,
}

impl Recorder {
    /// Begins a trace. `by` is who writes it: a program and its version.
    pub fn new(opening: Opening, by: &str) -> Self {
        let Opening {
            at,
            rng,
            crowded,
            config,
        } = opening;
        let mut secrets = Secrets::default();
        let header = Header {
            version: VERSION,
            by: by.to_owned(),
            start: at.as_nanos(),
            seed: rng.state(),
            crowded,
            config: Config::of(&config, &mut secrets),
        };
        let client = Stream::of_client(&config.limits);
        let mut recorder = Self {
            start: at,
            lines: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            streams: BTreeMap::from([(ConnId::CLIENT, client)]),
            before: Before {
                config,
                secrets: secrets.len(),
                toolbox: None,
            },
            secrets,
            beginning: Vec::new(),
            is_content: false,
            unsure: None,
            end: End::default(),
            is_over: false,
        };
        recorder.write(&Line::Trace(Box::new(header)));
        recorder
    }

    /// Takes a step.
    pub fn record(&mut self, step: Step) {
        if self.is_over {
            return;
        }
        match step {
            Step::Event(at, Event::Received(conn, bytes)) => self.received(at, conn, &bytes),
            step => {
                match &step {
                    Step::Action(Action::Open(conn, _) | Action::Unpark(conn)) => {
                        self.ended(*conn);
                        self.streams.insert(*conn, Stream::of_upstream());
                    }
                    Step::Action(
                        Action::Close(conn) | Action::Park(conn, _) | Action::Reset(conn),
                    )
                    | Step::Event(_, Event::Ended(conn) | Event::Failed(conn, _)) => {
                        self.ended(*conn);
                    }
                    _ => {}
                }
                self.held.push_back(Held::Step(step));
            }
        }
        self.flush();
        if self.held.len() > MAX_HELD.0 || self.held_bytes > MAX_HELD.1 {
            self.give_up("too much came before it was clear what is a secret in it");
        } else if self.secrets.len() > MAX_SECRETS {
            self.give_up("there are too many secrets in it");
        }
    }

    /// The lines that are there, each with its end.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }

    /// No step follows: the last lines.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.is_over {
            let conns: Vec<_> = self.streams.keys().copied().collect();
            for conn in conns {
                self.ended(conn);
            }
            self.flush();
            self.write_end();
        }
        self.lines
    }

    fn received(&mut self, at: Instant, conn: ConnId, bytes: &Bytes) {
        self.held_bytes += bytes.len();
        self.held.push_back(Held::Received {
            at,
            conn,
            len: bytes.len(),
            decided: Vec::new(),
        });
        let decided = match self.streams.get_mut(&conn) {
            Some(stream) => stream.push(bytes, &mut self.secrets),
            // It was closed, and nobody looks at what came.
            None => Decided {
                bytes: vec![b'x'; bytes.len()],
                repeated: false,
            },
        };
        self.decide(conn, &decided);
    }

    /// Nothing more comes on this connection.
    fn ended(&mut self, conn: ConnId) {
        if let Some(mut stream) = self.streams.remove(&conn) {
            let decided = stream.end(&mut self.secrets);
            self.decide(conn, &decided);
        }
    }

    /// These are the next bytes of this connection.
    fn decide(&mut self, of: ConnId, Decided { bytes, repeated }: &Decided) {
        if *repeated && of.is_client() {
            self.is_content = true;
        } else if *repeated && self.unsure.is_none() {
            self.unsure = Some(Unsure::New("an upstream repeated a secret"));
        }
        let mut rest = &bytes[..];
        for held in &mut self.held {
            let Held::Received {
                conn, len, decided, ..
            } = held
            else {
                continue;
            };
            if *conn == of {
                let (mine, others) = rest.split_at(rest.len().min(*len - decided.len()));
                decided.extend_from_slice(mine);
                rest = others;
            }
        }
    }

    /// Writes what nothing undecided stands before.
    fn flush(&mut self) {
        if let Some(Unsure::New(why)) = self.unsure {
            self.write_unsure(why);
        }
        while let Some(held) = self.held.pop_front() {
            match held {
                Held::Received {
                    ref decided, len, ..
                } if decided.len() < len => return self.held.push_front(held),
                Held::Received {
                    at,
                    conn,
                    len,
                    decided,
                } => {
                    self.held_bytes -= len;
                    self.write_input(at, Input::Received(conn.number(), Text::of(decided)));
                }
                Held::Step(step) => self.write_step(step),
            }
        }
    }

    fn write_step(&mut self, step: Step) {
        match step {
            Step::Action(action) => {
                if let Action::Open(conn, _) | Action::Unpark(conn) = &action {
                    self.beginning.push(*conn);
                }
                if let Action::Emit(record) = &action
                    && let Some(said) = words_of_others(record)
                    && self.unsure.is_none()
                    && self.secrets.is_masked_in(said)
                {
                    // Not every secret is known again where somebody repeats it: a replay may find
                    // nothing there to mask.
                    self.unsure = Some(Unsure::New("a record leaves a repeated secret out"));
                }
                let output = Output::of_action(action, self);
                self.write_output(&Line::Do(output));
            }
            Step::Query(query) => {
                let output = Output::of_query(&query, self);
                self.write_output(&Line::Ask(output));
            }
            Step::Answer(at, answer) => {
                match Answer::of(answer, &mut self.before, &mut self.secrets) {
                    Some(answer) => self.write_input(at, Input::Answer(Box::new(answer))),
                    None => self.give_up("its session is not one of a client"),
                }
            }
            Step::Event(at, event) => {
                let input = match event {
                    Event::Drain => Input::Drain,
                    Event::Ended(conn) => Input::Ended(conn.number()),
                    Event::Failed(conn, fault) => Input::Failed(conn.number(), fault),
                    Event::Opened(conn) => Input::Opened(conn.number()),
                    Event::Received(..) => return, // is held as such
                    Event::Sent(conn, count) => Input::Sent(conn.number(), count),
                };
                self.write_input(at, input);
            }
            Step::Timeout(at) => self.write_input(at, Input::Timeout),
            Step::Wait { until, reading } => {
                let wait = Wait::of(self.start, until, &reading);
                self.write(&Line::Wait(wait));
            }
        }
    }

    fn write_input(&mut self, at: Instant, input: Input) {
        self.end.inputs += 1;
        self.write(&Line::In(nanos(self.start, at), input));
    }

    fn write_output(&mut self, line: &Line) {
        self.end.outputs += 1;
        if let Some(Unsure::New(why)) = self.unsure {
            self.write_unsure(why);
        }
        self.write(line);
    }

    fn write_unsure(&mut self, why: &str) {
        self.unsure = Some(Unsure::Known);
        self.write(&Line::Unsure(why.to_owned()));
    }

    /// Ends the trace here, for this reason; what is held back is left out, and no further step is
    /// taken.
    pub fn give_up(&mut self, why: &str) {
        if !self.is_over {
            self.held.clear();
            self.end.early = Some(why.to_owned());
            self.write_end();
        }
    }

    fn write_end(&mut self) {
        self.is_over = true;
        let end = std::mem::take(&mut self.end);
        self.write(&Line::End(end));
    }

    fn write(&mut self, line: &Line) {
        // Cannot fail: it is a vector, and no map in a line has keys that are no texts.
        let _ = serde_json::to_writer(&mut self.lines, line);
        self.lines.push(b'\n');
    }
}

impl Redact for Recorder {
    fn redact(&mut self, to: Option<ConnId>, bytes: &mut [u8]) {
        let is_head = match to {
            None => false,
            Some(ConnId::CLIENT) => bytes.starts_with(b"HTTP/1."),
            Some(conn) => {
                let at = self.beginning.iter().position(|known| *known == conn);
                at.map(|at| self.beginning.swap_remove(at)).is_some()
            }
        };
        let head = if is_head {
            heads::end(bytes, 0).unwrap_or(bytes.len())
        } else {
            0
        };
        let (head, rest) = bytes.split_at_mut(head);
        heads::redact(head, &mut self.secrets);
        heads::scrub(head, &self.secrets);
        let found = self.secrets.scrub(rest);
        // It may have been put together of pieces that were not recognised when they came.
        if found && !self.is_content && self.unsure.is_none() {
            self.unsure = Some(Unsure::New("a secret came in pieces"));
        }
    }
}

/// What others have said, as far as a record tells it.
fn words_of_others(record: &Record) -> Option<&str> {
    match record {
        Record::Ended(_, ended) => ended.error.as_deref(),
        Record::ToolUsage(_, tool) => tool.error.as_deref(),
        _ => None,
    }
}

/// So many nanoseconds after the start.
fn nanos(start: Instant, at: Instant) -> u64 {
    at.as_nanos().saturating_sub(start.as_nanos())
}

impl Wait {
    pub(super) fn of(start: Instant, until: Option<Instant>, reading: &[ConnId]) -> Self {
        Self {
            until: until.map(|at| nanos(start, at)),
            read: reading.iter().map(|conn| conn.number()).collect(),
        }
    }
}
