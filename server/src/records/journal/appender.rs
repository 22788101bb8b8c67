//! What the journal's thread does: it sleeps, gathers what sessions have left, and writes it.

use std::{
    io,
    sync::{
        MutexGuard, PoisonError,
        atomic::Ordering::{Relaxed, Release},
    },
    task::Waker,
    time::Duration,
};

use tracing::{error, warn};

use super::{COMPANY, Files, HELD, Health, Journal, Sleep, State, lock};

/// How long lines wait for company.
const TICK: Duration = Duration::from_millis(5);
/// How long nothing is tried after writing failed.
const BACKOFF: Duration = Duration::from_millis(500);

/// What the thread has to do.
struct Due {
    /// How many lines there are in all once the batch is written.
    mark: u64,
    begins_another: bool,
    /// There will be no more.
    is_last: bool,
}

impl Journal {
    /// What the thread does, until the journal is closed.
    pub(super) fn write_all(&self, mut files: Files) {
        let mut batch = Vec::new();
        loop {
            let due = self.gather(&mut batch);
            let fault = self.write(&mut files, &mut batch).err();
            if fault.is_none() {
                files.line_is_over(due.begins_another);
            }
            self.wrote(due.mark, batch.len(), fault);
            if due.is_last {
                return self.give_up(due.mark);
            }
            if batch.capacity() > HELD && batch.is_empty() {
                batch = Vec::new();
            }
        }
    }

    /// Nobody tries again to write what of these lines is not written yet.
    fn give_up(&self, mark: u64) {
        let lines = mark - self.written.lines.load(Relaxed);
        if lines > 0 {
            self.lost(lines);
            warn!(
                lines,
                "records could not be written before the end: they are lost"
            );
        }
    }

    /// Waits until there is something to do, and appends what is held to what could not be written
    /// before.
    fn gather(&self, batch: &mut Vec<u8>) -> Due {
        let mut state = lock(&self.state);
        if batch.is_empty() {
            // Lines that follow soon upon the last wake nobody: only a first one does.
            loop {
                state = self.sleep(state, Sleep::Company, Some(TICK), |state| {
                    !state.is_due && !state.begins_another && state.held.len() <= COMPANY
                });
                if !state.held.is_empty() || state.begins_another || state.ends {
                    break;
                }
                state.is_due = false;
                state = self.sleep(state, Sleep::Line, None, |state| {
                    state.held.is_empty() && !state.begins_another
                });
            }
            std::mem::swap(batch, &mut state.held);
        } else {
            state = self.sleep(state, Sleep::Awake, Some(BACKOFF), |_| true);
            batch.append(&mut state.held);
        }
        state.writing = batch.len();
        state.is_due = false;
        Due {
            mark: self.mark(),
            begins_another: std::mem::take(&mut state.begins_another),
            is_last: state.ends,
        }
    }

    /// Waits while `holds` is true and the journal is open, no longer than `limit`.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sleep: Sleep,
        limit: Option<Duration>,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waits = |state: &mut State| {
            let waits = !state.ends && holds(state);
            state.sleep = if waits { sleep } else { Sleep::Awake };
            waits
        };
        state = match limit {
            None => self
                .work
                .wait_while(state, waits)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.work.wait_timeout_while(state, limit, waits);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.sleep = Sleep::Awake;
        state
    }

    /// Writes from the front of the batch; what is left of it was not written.
    fn write(&self, files: &mut Files, batch: &mut Vec<u8>) -> io::Result<()> {
        let mut done = 0;
        let result = loop {
            let rest = &batch[done..];
            if rest.is_empty() {
                break Ok(());
            }
            match files.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        batch.drain(..done);
        self.written.bytes.fetch_add(done as u64, Relaxed);
        result
    }

    /// Notes how a write went, and wakes who waited for it. Without a fault, all lines before
    /// `mark` are written; with one, the last `unwritten` bytes of them are not.
    fn wrote(&self, mark: u64, unwritten: usize, fault: Option<io::Error>) {
        let mut state = lock(&self.state);
        state.writing = unwritten;
        if fault.is_none() {
            self.written.lines.store(mark, Release);
        }
        let health = match fault {
            None => Health::Sound,
            Some(_) => Health::Failing,
        };
        let before = std::mem::replace(&mut state.health, health);
        self.note_fullness(&state);
        let is_awaited = !state.waiting.is_empty();
        drop(state);
        if is_awaited && self.ushered.load(Relaxed) {
            self.news.notify_one();
        } else if is_awaited {
            self.done().into_iter().for_each(Waker::wake);
        }
        self.wake_importer();
        match fault {
            Some(error) if before != Health::Failing => error!(
                %error,
                "records cannot be written; the latest are held in memory, and beyond 1 MiB lost"
            ),
            None if before != Health::Sound => {
                let lost = self.lost.load(Relaxed);
                warn!(lost, "records can be written again");
            }
            _ => {}
        }
    }
}
