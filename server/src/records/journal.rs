//! Where records go first: a file that lines are appended to, by whoever has one.
//!
//! Appending is one system call, made by the task that serves the client, before the end of the client's reply is written, for all
//! interceptions that ended since. What the system has taken survives the process, whatever kills it; so whoever has seen a reply complete
//! is in the journal. Other lines may wait some milliseconds for company.
//!
//! ```text
//!            append fails                    all that is held is written
//!   Sound ─────────────────▶ Failing ─────────────────────────────────▶ Sound
//!                  lines are held in memory, up to a limit;
//!                  beyond it they are lost, and counted
//! ```
//!
//! The file is one (JSON Lines), or one of a series ([`spool`]) which a database takes in at its leisure; then
//! an interception that begins while too much waits to be taken in is not recorded either.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::Thread,
};

use aibridge_core::{InterceptionId, record::Record};
use tokio::sync::watch;
use tracing::{error, warn};

use super::{
    line::{self, Line, Texts},
    spool::{self, Spool},
};

/// Bytes held while they cannot be written, above which no interception's beginning is held. What is known of those that have begun may
/// take as much again.
const HELD: usize = 1 << 20;
/// Bytes held for company, above which they are written at once.
const COMPANY: usize = 64 << 10;

/// What lines are appended to.
#[derive(Debug)]
pub(super) enum Files {
    One(File),
    Series(Spool),
}

impl Files {
    /// This file, made if it is not there.
    ///
    /// # Errors
    /// It cannot be opened or written to.
    pub(super) fn one(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        // A line that a crash cut short is not to spoil the next.
        if let Ok(len @ 1..) = file.metadata().map(|about| about.len()) {
            let mut last = [0];
            file.seek(SeekFrom::Start(len - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self::One(file))
    }

    /// Puts a line behind what is to be written, in the form that it has in these files.
    fn append(&self, line: &Line<'_>, held: &mut Vec<u8>) {
        match self {
            Self::One(_) => line.append_json(held),
            Self::Series(_) => spool::append(line, held),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::One(file) => file.write(bytes),
            Self::Series(spool) => spool.write(bytes),
        }
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<State>,
    texts: Texts,
    /// Bytes that may wait to be taken in.
    backlog: u64,
    /// Lines, and bytes, of which is known that the file has them.
    written: Tally,
    /// Of these, what has been taken in.
    taken: Tally,
    lost: AtomicU64,
    /// Whether new interceptions are not recorded.
    full: watch::Sender<bool>,
    /// Who is to be woken when there is something to do.
    writer: OnceLock<Thread>,
    writer_sleeps: AtomicBool,
}

#[derive(Debug, Default)]
struct Tally {
    lines: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug)]
struct State {
    files: Files,
    /// Lines not yet written, and how many these are.
    held: Vec<u8>,
    held_lines: u64,
    failing: bool,
    /// Interceptions whose beginning was lost: what comes of them would make no sense.
    unrecorded: HashSet<InterceptionId>,
}

impl Journal {
    /// A journal of these files. `backlog` is how many bytes may wait to be taken in, `None` where nobody takes them.
    pub(super) fn new(files: Files, texts: Texts, backlog: Option<u64>) -> Self {
        Self {
            state: Mutex::new(State {
                files,
                held: Vec::new(),
                held_lines: 0,
                failing: false,
                unrecorded: HashSet::new(),
            }),
            texts,
            backlog: backlog.unwrap_or(u64::MAX),
            written: Tally::default(),
            taken: Tally::default(),
            lost: AtomicU64::new(0),
            full: watch::Sender::new(false),
            writer: OnceLock::new(),
            writer_sleeps: AtomicBool::new(false),
        }
    }

    /// Takes a record, which waits for company.
    pub(super) fn keep(&self, record: &Record) {
        let Some(id) = line::id_of(record) else {
            return;
        };
        let begins = matches!(record, Record::Started(..));
        let ends = matches!(record, Record::Ended(..));
        let mut state = self.state();
        if !state.unrecorded.is_empty() && state.unrecorded.contains(&id) {
            if ends {
                state.unrecorded.remove(&id);
            }
            return self.lose();
        }
        let no_room = state.failing && state.held.len() > if begins { HELD } else { 2 * HELD };
        // Some slack, for those that were admitted when the limit was reached.
        if no_room || begins && self.waiting() > self.backlog.saturating_add(HELD as u64) {
            if begins {
                state.unrecorded.insert(id);
            }
            self.lose();
            return self.note_fullness(&state);
        }
        let State {
            files,
            held,
            held_lines,
            ..
        } = &mut *state;
        line::with_line(record, self.texts, |line| {
            files.append(line, held);
            *held_lines += 1;
        });
        if held.len() > COMPANY {
            self.write(&mut state);
            self.note_fullness(&state);
        }
        drop(state);
        self.wake();
    }

    /// Writes what is held, unless writing fails.
    pub(super) fn commit(&self) {
        let mut state = self.state();
        if !state.held.is_empty() {
            self.write(&mut state);
            self.note_fullness(&state);
        }
    }

    /// Writes what is held. False if that failed.
    pub(super) fn flush(&self) -> bool {
        let mut state = self.state();
        self.write(&mut state);
        !state.failing
    }

    /// So many lines and bytes have been taken in.
    pub(super) fn took(&self, lines: u64, bytes: u64) {
        self.taken.lines.fetch_add(lines, Relaxed);
        self.taken.bytes.fetch_add(bytes, Relaxed);
        if *self.full.borrow() {
            self.note_fullness(&self.state());
        }
    }

    /// So many lines were written and could not be made sense of.
    pub(super) fn lost(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
    }

    /// Bytes that wait to be taken in.
    pub(super) fn waiting(&self) -> u64 {
        let taken = self.taken.bytes.load(Relaxed);
        self.written.bytes.load(Relaxed).saturating_sub(taken)
    }

    /// Lines not yet where they are kept for good; and how many were lost.
    pub(super) fn counts(&self, taken_in: bool) -> (u64, u64) {
        let held = self.state().held_lines;
        let done = if taken_in { &self.taken } else { &self.written };
        let waiting = self.written.lines.load(Relaxed);
        let waiting = waiting.saturating_sub(done.lines.load(Relaxed));
        (held + waiting, self.lost.load(Relaxed))
    }

    /// Whether anything is held.
    pub(super) fn holds(&self) -> bool {
        !self.state().held.is_empty()
    }

    /// Tells whether new interceptions are not recorded.
    pub(super) fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    /// From now on, this thread is woken when there is something to do.
    pub(super) fn set_writer(&self, thread: Thread) {
        let _ = self.writer.set(thread);
    }

    /// The writer says that it is about to sleep, or no longer is.
    pub(super) fn writer_sleeps(&self, sleeps: bool) {
        self.writer_sleeps
            .store(sleeps, std::sync::atomic::Ordering::SeqCst);
    }

    /// Wakes the writer if it sleeps.
    pub(super) fn wake(&self) {
        if self
            .writer_sleeps
            .swap(false, std::sync::atomic::Ordering::SeqCst)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn write(&self, state: &mut State) {
        let mut done = 0;
        let fault = loop {
            let rest = &state.held[done..];
            if rest.is_empty() {
                break None;
            }
            match state.files.write(rest) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        state.held.drain(..done);
        self.written.bytes.fetch_add(done as u64, Relaxed);
        let Some(fault) = fault else {
            self.written.lines.fetch_add(state.held_lines, Relaxed);
            state.held_lines = 0;
            if std::mem::take(&mut state.failing) {
                let lost = self.lost.load(Relaxed);
                warn!(lost, "records can be written again");
                self.note_fullness(state);
            }
            if let Files::Series(spool) = &mut state.files {
                spool.line_is_over();
            }
            if state.held.capacity() > HELD {
                state.held = Vec::new();
            }
            return;
        };
        if !std::mem::replace(&mut state.failing, true) {
            error!(error = %fault, "records cannot be written; the latest are held in memory, and beyond 1 MiB lost");
            self.note_fullness(state);
        }
    }

    fn note_fullness(&self, state: &State) {
        let behind = self.waiting() > self.backlog;
        let changed = self.full.send_if_modified(|full| {
            let now = state.failing || behind;
            std::mem::replace(full, now) != now
        });
        if changed && behind {
            error!(
                limit = self.backlog,
                "too many records wait for the database; new requests are not recorded"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
