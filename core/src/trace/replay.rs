//! Lines in, a session, and whether it does what they say.

use std::{collections::VecDeque, fmt, sync::Arc};

use serde_json::Value;

use super::{
    Step, VERSION,
    answer::Before,
    line::{Header, Input, Line, Wait},
    output::{Output, Redacted},
    watched::waits,
};
use crate::{
    bridge::Query,
    id::ConnId,
    rng::Rng,
    session::{Event, Session},
    time::{Duration, Instant},
};

/// What a trace that was replayed is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many things the session was told.
    pub inputs: u64,
    /// How many things it did or asked, all of them as recorded.
    pub outputs: u64,
    /// How it ends.
    pub ending: Ending,
    /// Why contents were not compared to the end, if they were not.
    pub unsure: Option<String>,
}

/// How a trace ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Where its session did.
    Complete,
    /// Before that: who wrote it was interrupted.
    Cut,
    /// Before that, for this reason.
    Early(String),
}

/// Why a trace was not replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It cannot be read.
    Broken {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The session does something else.
    Differs(Difference),
    /// It is of another version of the format.
    Version(u64),
}

/// Where a replay first differs from its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line, from 1.
    pub line: usize,
    /// When, from the start.
    pub at: Duration,
    /// What the trace says.
    pub expected: String,
    /// What the session did.
    pub got: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { line, what } => write!(f, "line {line}: {what}"),
            Self::Differs(difference) => difference.fmt(f),
            Self::Version(version) => write!(
                f,
                "is a trace of version {version}; this program reads version {VERSION}"
            ),
        }
    }
}

impl std::error::Error for Trouble {}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            at,
            expected,
            got,
        } = self;
        writeln!(f, "line {line}, {:.6} s: differs", at.as_secs_f64())?;
        writeln!(f, "  expected: {expected}")?;
        write!(f, "  got:      {got}")
    }
}

/// Gives a fresh session what a trace says it was told, and compares what it does. A last line that
/// is not complete is not looked at.
///
/// # Errors
/// It is no trace, or the session does something else.
pub fn replay(trace: &[u8]) -> Result<Summary, Trouble> {
    let mut lines = (1..).zip(trace.split(|byte| *byte == b'\n')).peekable();
    let (_, first) = lines.next().unwrap_or((1, b""));
    let mut replay = Replay::begin(first)?;
    let mut is_cut = false;
    while let Some((number, line)) = lines.next() {
        // Behind the last line's end there is nothing, or a line that was not written to its end.
        let is_last = lines.peek().is_none();
        match read(number, line) {
            Ok(line) => {
                replay.line = number;
                replay.play(line)?;
            }
            Err(_) if is_last => is_cut = !line.is_empty(),
            Err(broken) => return Err(broken),
        }
    }
    let is_cut = is_cut || replay.ending.is_none();
    Ok(Summary {
        inputs: replay.inputs,
        outputs: replay.outputs,
        ending: replay.ending.filter(|_| !is_cut).unwrap_or(Ending::Cut),
        unsure: replay.unsure,
    })
}

/// A session that is being replayed.
struct Replay {
    session: Session,
    start: Instant,
    now: Instant,
    before: Before,
    /// Questions not answered yet.
    asked: VecDeque<Query>,
    line: usize,
    inputs: u64,
    outputs: u64,
    unsure: Option<String>,
    ending: Option<Ending>,
}

fn read(number: usize, line: &[u8]) -> Result<Line, Trouble> {
    serde_json::from_slice(line).map_err(|error| Trouble::Broken {
        line: number,
        what: format!("is no line of a trace: {error}"),
    })
}

impl Replay {
    fn begin(first: &[u8]) -> Result<Self, Trouble> {
        let broken = |what: String| Trouble::Broken { line: 1, what };
        let version = serde_json::from_slice::<Value>(first)
            .ok()
            .and_then(|line| line["trace"]["version"].as_u64());
        match version {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(Trouble::Version(version)),
            None => return Err(broken("is not the beginning of a trace".to_owned())),
        }
        let Line::Trace(header) = read(1, first)? else {
            return Err(broken("is not the beginning of a trace".to_owned()));
        };
        let Header {
            start,
            seed,
            crowded,
            config,
            ..
        } = *header;
        let config = Arc::new(config.read().map_err(broken)?);
        let start = Instant::from_nanos(start);
        let session = Session::new(start, Arc::clone(&config), Rng::new(seed)).counted();
        let before = Before {
            config,
            ..Before::default()
        };
        Ok(Self {
            session: if crowded {
                session.crowded(start)
            } else {
                session
            },
            start,
            now: start,
            before,
            asked: VecDeque::new(),
            line: 1,
            inputs: 0,
            outputs: 0,
            unsure: None,
            ending: None,
        })
    }

    fn play(&mut self, line: Line) -> Result<(), Trouble> {
        if self.ending.is_some() {
            return Err(self.broken("stands behind the end"));
        }
        match line {
            Line::Trace(_) => return Err(self.broken("a second beginning")),
            Line::In(at, input) => {
                let now = self.start + Duration::from_nanos(at);
                if now < self.now {
                    return Err(self.broken("is earlier than the line before it"));
                }
                self.now = now;
                self.inputs += 1;
                self.input(input)?;
            }
            Line::Do(expected) => {
                let got = self.session.poll_action();
                let got = got.map(|action| Output::of_action(action, &mut Redacted));
                self.compare(&expected, got)?;
            }
            Line::Ask(expected) => {
                let got = self.session.poll_query();
                let output = got
                    .as_ref()
                    .map(|query| Output::of_query(query, &mut Redacted));
                self.asked.extend(got);
                self.compare(&expected, output)?;
            }
            Line::Wait(expected) => self.wait(&expected)?,
            Line::Unsure(why) => self.unsure = Some(why),
            Line::End(end) => {
                if (end.inputs, end.outputs) != (self.inputs, self.outputs) {
                    return Err(self.broken("lines are missing before it"));
                }
                self.ending = Some(end.early.map_or(Ending::Complete, Ending::Early));
            }
        }
        Ok(())
    }

    fn input(&mut self, input: Input) -> Result<(), Trouble> {
        let event = match input {
            Input::Answer(answer) => {
                let Some(query) = self.asked.pop_front() else {
                    return Err(self.broken("an answer to nothing"));
                };
                if !answer.fits(&query) {
                    return Err(self.broken("not an answer to what was asked"));
                }
                let answer = answer.read(&mut self.before);
                let answer = answer.map_err(|what| self.broken(what))?;
                self.session.handle_answer(self.now, answer);
                return Ok(());
            }
            Input::Timeout => {
                self.session.handle_timeout(self.now);
                return Ok(());
            }
            Input::Drain => Event::Drain,
            Input::Ended(conn) => Event::Ended(ConnId::new(conn)),
            Input::Failed(conn, fault) => Event::Failed(ConnId::new(conn), fault),
            Input::Opened(conn) => Event::Opened(ConnId::new(conn)),
            Input::Received(conn, text) => {
                let bytes = text.read().map_err(|what| self.broken(what))?;
                Event::Received(ConnId::new(conn), bytes.into())
            }
            Input::Sent(conn, count) => Event::Sent(ConnId::new(conn), count),
        };
        self.session.handle(self.now, event);
        Ok(())
    }

    fn compare(&mut self, expected: &Output, got: Option<Output>) -> Result<(), Trouble> {
        self.outputs += 1;
        let is_same = got.as_ref().is_some_and(|got| match self.unsure {
            None => got.is(expected),
            Some(_) => got.is_like(expected),
        });
        if is_same {
            return Ok(());
        }
        let got = got.or_else(|| self.next_output());
        let got = got.map_or_else(|| "nothing".to_owned(), |got| got.shown());
        Err(self.differs(expected.shown(), got))
    }

    fn wait(&mut self, expected: &Wait) -> Result<(), Trouble> {
        if let Some(more) = self.next_output() {
            return Err(self.differs(expected.shown(), more.shown()));
        }
        let Step::Wait { until, reading } = waits(&self.session) else {
            return Ok(());
        };
        let got = Wait::of(self.start, until, &reading);
        if got == *expected {
            return Ok(());
        }
        Err(self.differs(expected.shown(), got.shown()))
    }

    /// What it has to do or to ask, of either kind.
    fn next_output(&mut self) -> Option<Output> {
        if let Some(action) = self.session.poll_action() {
            return Some(Output::of_action(action, &mut Redacted));
        }
        let query = self.session.poll_query()?;
        Some(Output::of_query(&query, &mut Redacted))
    }

    fn differs(&self, expected: String, got: String) -> Trouble {
        Trouble::Differs(Difference {
            line: self.line,
            at: self.now.since(self.start),
            expected,
            got,
        })
    }

    fn broken(&self, what: impl Into<String>) -> Trouble {
        Trouble::Broken {
            line: self.line,
            what: what.into(),
        }
    }
}

impl Wait {
    fn shown(&self) -> String {
        let until = self.until.map_or_else(
            || "for ever".to_owned(),
            |at| format!("until {:.6} s", Duration::from_nanos(at).as_secs_f64()),
        );
        let read: Vec<_> = self.read.iter().map(|conn| format!("c{conn}")).collect();
        format!("wait {until}, reading {}", read.join(" "))
    }
}
