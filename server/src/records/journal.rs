//! Where records go first: files that lines are appended to, by a thread of the journal's own.
//!
//! What the system has taken survives the process, whatever kills it. A session that has emitted an
//! interception's last record waits for that ([`poll_commit`](Journal::poll_commit)) before it
//! sends the end of the reply, so every reply that a client has seen to its end is in the journal.
//! The thread writes with one call what all sessions have left since its last one. Where the file
//! system stalls, the ends of replies wait, and no relay in flight does. Other lines may wait some
//! milliseconds for company.
//!
//! Between sessions and thread is a task of the runtime, the [usher](Journal::usher): each is woken
//! once for all of the others, and only when the sessions that are ready have left what they have.
//! Each such call is a system call, or two, and at full speed that is what recording costs. The
//! usher also sees to it that nobody waits longer than some seconds for a write that hangs.
//!
//! ```text
//!             append fails                  all that is held is written
//!   Sound ────────────────────▶ Failing ─────────────────────────────────▶ Sound
//!             append hangs                  it returns
//!   Sound ────────────────────▶ Hanging ─────────────────────────────────▶ Sound, or Failing
//!                  lines are held in memory, up to a limit;
//!                  beyond it they are lost, and counted
//! ```
//!
//! The file is one (JSON Lines), or one of a series ([spool](super::spool)) which a database takes
//! in at its leisure; then an interception that begins while too much waits to be taken in is not
//! recorded either.

mod appender;
mod files;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
            fence,
        },
    },
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use aibridge_core::{InterceptionId, record::Record};
use tokio::{
    sync::{Notify, watch},
    task::yield_now,
    time::timeout,
};
use tracing::error;

use self::files::Append;
pub(super) use self::files::Files;
use super::line::{self, Texts};

/// Bytes held while they cannot be written, above which no interception's beginning is held. What
/// is known of those that have begun may take as much again.
const HELD: usize = 1 << 20;
/// The same, while a write has not returned: it may well succeed.
const STALLED: usize = 16 << 20;
/// Bytes held for company, above which they are written at once.
const COMPANY: usize = 64 << 10;
/// How long the end of a reply waits for a write that does not return.
const PATIENCE: Duration = Duration::from_secs(10);
/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    state: Mutex<State>,
    /// What the thread waits for.
    work: Condvar,
    /// What the usher waits for, if there is one.
    news: Notify,
    ushered: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    append: Append,
    texts: Texts,
    /// How long somebody waits for a write.
    patience: Duration,
    /// Bytes that may wait to be taken in.
    backlog: u64,
    /// Lines taken, ever.
    kept: AtomicU64,
    /// Lines and bytes that are in the files for sure.
    written: Tally,
    /// Of these, what has been taken in.
    taken: Tally,
    lost: AtomicU64,
    /// Whether new interceptions are not recorded.
    full: watch::Sender<bool>,
    /// The thread that takes in what is written, if one does.
    importer: OnceLock<Thread>,
    importer_sleeps: AtomicBool,
}

#[derive(Debug, Default)]
struct Tally {
    lines: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Lines that the thread has not taken yet.
    held: Vec<u8>,
    /// Bytes that it has taken and not written.
    writing: usize,
    sleep: Sleep,
    /// What is held is to be written at once.
    is_due: bool,
    /// Another file of the series is to be begun.
    begins_another: bool,
    /// Who waits, in the order in which they came.
    waiting: Vec<Waiting>,
    health: Health,
    /// No line is taken any more, and nobody is to wait.
    ends: bool,
    /// Interceptions whose beginning was lost: what comes of them would make no sense.
    unrecorded: HashSet<InterceptionId>,
}

/// A session that waits for so many lines to be written.
#[derive(Debug)]
struct Waiting {
    mark: u64,
    since: Instant,
    waker: Waker,
}

/// How the last write went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    /// It failed.
    Failing,
    /// It has not returned for longer than anybody is to wait.
    Hanging,
    #[default]
    Sound,
}

/// What the thread sleeps for. Who wakes it says so here: to wake it twice costs two system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sleep {
    #[default]
    Awake,
    /// More lines, or somebody who waits.
    Company,
    /// A first line.
    Line,
}

impl State {
    /// Whether the thread must be woken, if it sleeps like this.
    fn rouse(&mut self, from: &[Sleep]) -> bool {
        let sleeps = from.contains(&self.sleep);
        if sleeps {
            self.sleep = Sleep::Awake;
        }
        sleeps
    }

    /// Whether there is no room for another line, which may begin an interception.
    fn has_no_room(&self, begins: bool) -> bool {
        let limit = match self.health {
            Health::Failing => HELD,
            Health::Hanging | Health::Sound => STALLED,
        };
        self.unwritten() > if begins { limit } else { 2 * limit }
    }

    /// Whether what is held cannot be written now, or nobody will.
    fn is_hopeless(&self) -> bool {
        self.health != Health::Sound || self.ends
    }

    fn unwritten(&self) -> usize {
        self.held.len() + self.writing
    }
}

impl Journal {
    /// Begins to write to these files. `backlog` is how many bytes may wait to be taken in, `None`
    /// where nobody takes them.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(files: Files, texts: Texts, backlog: Option<u64>) -> io::Result<Arc<Self>> {
        Self::start_with(files, texts, backlog, PATIENCE)
    }

    fn start_with(
        files: Files,
        texts: Texts,
        backlog: Option<u64>,
        patience: Duration,
    ) -> io::Result<Arc<Self>> {
        let journal = Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            news: Notify::new(),
            ushered: AtomicBool::new(false),
            thread: Mutex::default(),
            append: files.form(),
            texts,
            patience,
            backlog: backlog.unwrap_or(u64::MAX),
            kept: AtomicU64::new(0),
            written: Tally::default(),
            taken: Tally::default(),
            lost: AtomicU64::new(0),
            full: watch::Sender::new(false),
            importer: OnceLock::new(),
            importer_sleeps: AtomicBool::new(false),
        });
        let own = Arc::clone(&journal);
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || own.write_all(files))?;
        *lock(&journal.thread) = Some(thread);
        Ok(journal)
    }

    /// Takes a record, which waits for company.
    pub(super) fn keep(&self, record: &Record) {
        let Some(id) = line::id_of(record) else {
            return;
        };
        let begins = matches!(record, Record::Started(..));
        let ends = matches!(record, Record::Ended(..));
        let mut state = lock(&self.state);
        if state.ends {
            return self.lose();
        }
        if !state.unrecorded.is_empty() && state.unrecorded.contains(&id) {
            if ends {
                state.unrecorded.remove(&id);
            }
            return self.lose();
        }
        // Some slack, for those that were admitted when the limit was reached.
        let is_behind = begins && self.waiting() > self.backlog.saturating_add(HELD as u64);
        if is_behind || state.has_no_room(begins) {
            if begins {
                state.unrecorded.insert(id);
            }
            self.lose();
            return self.note_fullness(&state);
        }
        line::with_line(record, self.texts, |line| {
            (self.append)(line, &mut state.held);
            self.kept.fetch_add(1, Release);
        });
        let wakes = if state.held.len() > COMPANY {
            state.rouse(&[Sleep::Company, Sleep::Line])
        } else {
            state.rouse(&[Sleep::Line])
        };
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// How many lines were taken until now.
    pub(super) fn mark(&self) -> u64 {
        self.kept.load(Acquire)
    }

    /// Ready once so many lines are written, or it is known that they cannot be. The
    /// [usher](Self::usher) ends the wait for a write that hangs.
    pub(super) fn poll_commit(&self, context: &mut Context<'_>, mark: u64) -> Poll<()> {
        if self.has_written(mark) {
            return Poll::Ready(());
        }
        let mut state = lock(&self.state);
        if self.has_written(mark) || state.is_hopeless() {
            return Poll::Ready(());
        }
        state.waiting.push(Waiting {
            mark,
            since: Instant::now(),
            waker: context.waker().clone(),
        });
        drop(state);
        if self.ushered.load(Relaxed) {
            self.news.notify_one();
        } else {
            self.flush();
        }
        Poll::Pending
    }

    /// Runs for ever: has the thread write as soon as somebody waits, and wakes those whose lines
    /// are written or cannot be. One task of the sessions' runtime does this for all of them;
    /// without it, each session wakes the thread, and is woken by it.
    pub(super) async fn usher(self: Arc<Self>) {
        self.ushered.store(true, Relaxed);
        loop {
            for waker in self.done() {
                waker.wake();
            }
            self.flush();
            let news = self.news.notified();
            let oldest = lock(&self.state).waiting.first().map(|it| it.since);
            match oldest {
                None => news.await,
                Some(since) => {
                    let left = self.patience.saturating_sub(since.elapsed());
                    let _ = timeout(left, news).await;
                }
            }
            // Sessions that are ready come first.
            yield_now().await;
        }
    }

    /// Has the thread write at once if somebody waits.
    fn flush(&self) {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() {
            return;
        }
        state.is_due = true;
        let wakes = state.rouse(&[Sleep::Company, Sleep::Line]);
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Those who need not wait any more: their lines are written, or cannot be, or the write hangs.
    fn done(&self) -> Vec<Waker> {
        let mut state = lock(&self.state);
        let mut waiting = state.waiting.iter();
        let oldest = waiting.find(|it| !self.has_written(it.mark));
        let is_overdue = oldest.is_some_and(|oldest| oldest.since.elapsed() >= self.patience);
        if is_overdue && !state.is_hopeless() {
            state.health = Health::Hanging;
            self.note_fullness(&state);
            error!("records are not written, and no error is told; replies wait for them no more");
        }
        let all = state.is_hopeless();
        let done = state
            .waiting
            .extract_if(.., |waiting| all || self.has_written(waiting.mark));
        done.map(|waiting| waiting.waker).collect()
    }

    fn has_written(&self, mark: u64) -> bool {
        self.written.lines.load(Acquire) >= mark
    }

    /// Begins another file of a series, so that the present one can be deleted once it is read.
    pub(super) fn begin_another(&self) {
        let mut state = lock(&self.state);
        state.begins_another = true;
        let wakes = state.rouse(&[Sleep::Company, Sleep::Line]);
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Writes what is held, and takes nothing more. Returns when that is done, or has failed.
    pub(super) fn close(&self) {
        lock(&self.state).ends = true;
        self.work.notify_one();
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            error!("the thread that writes records has panicked");
        }
    }

    /// So many lines and bytes have been taken in.
    pub(super) fn took(&self, lines: u64, bytes: u64) {
        self.taken.lines.fetch_add(lines, Relaxed);
        self.taken.bytes.fetch_add(bytes, Relaxed);
        if *self.full.borrow() {
            self.note_fullness(&lock(&self.state));
        }
    }

    /// So many written lines made no sense.
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
        let done = if taken_in { &self.taken } else { &self.written };
        let pending = self.mark().saturating_sub(done.lines.load(Relaxed));
        (pending, self.lost.load(Relaxed))
    }

    /// Tells whether new interceptions are not recorded.
    pub(super) fn full(&self) -> watch::Receiver<bool> {
        self.full.subscribe()
    }

    /// From now on, this thread is woken when something was written.
    pub(super) fn set_importer(&self, thread: Thread) {
        let _ = self.importer.set(thread);
    }

    /// The importer says that it is about to sleep, or no longer is. It looks once more at what
    /// [waits](Self::waiting) before it sleeps.
    pub(super) fn importer_sleeps(&self, sleeps: bool) {
        self.importer_sleeps.store(sleeps, Relaxed);
        // One says that it sleeps and then looks at what is written; the other writes and then
        // looks whether that one sleeps. With a fence between in both, one of the two sees the
        // other.
        fence(SeqCst);
    }

    fn wake_importer(&self) {
        fence(SeqCst);
        if self.importer_sleeps.swap(false, Relaxed)
            && let Some(importer) = self.importer.get()
        {
            importer.unpark();
        }
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn note_fullness(&self, state: &State) {
        let is_behind = self.waiting() > self.backlog;
        let is_sound = state.health == Health::Sound;
        let is_stalled = is_sound && state.unwritten() > STALLED;
        let changed = self.full.send_if_modified(|full| {
            let now = !is_sound || is_behind || is_stalled;
            std::mem::replace(full, now) != now
        });
        if changed && is_behind {
            error!(
                limit = self.backlog,
                "too many records wait for the database; new requests are not recorded"
            );
        }
        if changed && is_stalled {
            error!(
                limit = STALLED,
                "records are not written as fast as they come; new requests are not recorded"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
