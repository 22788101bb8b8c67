//! Records in a database, by `SQLite`.
//!
//! Sessions append to the [journal](super::journal), whose files are a [spool](super::spool) beside
//! the database; one thread takes them in, many at a time. So a session never waits for the
//! database, which may be slow, full or locked, and what a killed process has journaled is taken in
//! when the next one starts.
//!
//! The database is in write-ahead mode: others read it, and it is read for the admin endpoint,
//! while it is written to.

mod import;
mod schema;
mod search;
#[cfg(test)]
mod tests;

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{self, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rusqlite::Connection;
use tracing::{info, warn};

use self::import::Importer;
use super::{
    Counts, NotFound, Store,
    journal::{Files, Journal},
    line::Texts,
    spool::Reader,
    view::{self, Interception, Search},
    writer::WriterThread,
};

/// How long nothing is tried after something failed.
const BACKOFF: Duration = Duration::from_millis(500);
/// After taking a batch in, the thread rests for so many times as long as that took: sessions come
/// first.
const REST: u32 = 64;
/// But no longer than this,
const LONGEST_REST: Duration = Duration::from_secs(5);
/// and not at all while so many bytes wait.
const URGENT: u64 = 64 << 20;
/// How often old interceptions are deleted, and files of the spool that have been taken in.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// How long another user of the database is waited for.
const BUSY: Duration = Duration::from_secs(1);
/// How long taking in the rest may take when the bridge ends. What is left then is taken in at the
/// next start.
const LAST: Duration = Duration::from_secs(10);

/// How a database is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) texts: Texts,
    pub(super) retention: Option<Duration>,
    /// How often that is looked after.
    pub(super) sweep: Duration,
    /// Bytes that may wait to be taken in.
    pub(super) backlog: u64,
}

/// Records in a database.
#[derive(Debug)]
pub(super) struct Sqlite {
    file: PathBuf,
    journal: Arc<Journal>,
    writer: WriterThread,
}

impl Sqlite {
    /// Opens a database, made if it is not there, and takes in what an earlier process has left.
    ///
    /// # Errors
    /// It cannot be used: why, for people.
    pub(super) fn open(file: &Path, terms: Terms) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        // To SQLite, `:memory:` is no file, and what begins with `file:` is a URI. No absolute path
        // is either.
        let file = &path::absolute(file).map_err(|error| failed(&error))?;
        let folder = spool_of(file);
        let mut reader =
            Reader::open(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut connection = connect(file).map_err(|error| failed(&error))?;
        schema::migrate(&mut connection).map_err(|error| failed(&error))?;
        let mut importer = Importer::new(connection).map_err(|error| failed(&error))?;

        let position = importer.position().map_err(|error| failed(&error))?;
        reader.seek(position).map_err(|error| failed(&error))?;
        let mut left = 0;
        while let Some(batch) = reader.next().map_err(|error| failed(&error))? {
            let end = batch.end;
            let took = importer.take(&batch).map_err(|error| failed(&error))?;
            reader.advance(end);
            left += took.lines - took.strange;
        }
        let now = view::rfc3339(now());
        let interrupted = importer.interrupt(&now).map_err(|error| failed(&error))?;
        if left > 0 || interrupted > 0 {
            warn!(
                records = left,
                interrupted, "the last process did not end in order; its records are complete"
            );
        }
        let spool = reader
            .begin()
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let files = Files::Series(spool);
        let journal = Journal::start(files, terms.texts, Some(terms.backlog))
            .map_err(|error| failed(&error))?;
        let writer = WriterThread::start(&journal, move |journal, ends| {
            let writer = Writer {
                journal,
                ends,
                reader,
                importer,
                retention: terms.retention,
                sweep: terms.sweep,
                swept: None,
                rests_until: Instant::now(),
                failing: false,
            };
            writer.run();
        });
        Ok(Self {
            file: file.to_owned(),
            writer: writer.map_err(|error| failed(&error))?,
            journal,
        })
    }
}

impl Store for Sqlite {
    fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    fn find(&self, search: &Search) -> Result<Vec<Interception>, NotFound> {
        search::find(&self.file, search)
    }

    fn counts(&self) -> Counts {
        let (pending, lost) = self.journal.counts(true);
        Counts { pending, lost }
    }

    fn close(&self) {
        self.journal.close();
        self.writer.end();
    }
}

/// What the one thread has that writes to the database.
struct Writer {
    journal: Arc<Journal>,
    ends: Arc<AtomicBool>,
    reader: Reader,
    importer: Importer,
    retention: Option<Duration>,
    sweep: Duration,
    swept: Option<Instant>,
    rests_until: Instant,
    /// The database could not be written to.
    failing: bool,
}

impl Writer {
    fn run(mut self) {
        let (mut give_up, mut tidies) = (None, false);
        loop {
            let now = Instant::now();
            if self.ends.load(Relaxed) {
                let give_up = *give_up.get_or_insert(now + LAST);
                if now > give_up || self.failing || !self.step() {
                    return self.part();
                }
                continue;
            }
            let urgent = self.journal.waiting() > URGENT && !self.failing;
            if now >= self.rests_until || urgent {
                self.step();
                tidies = self.tidy();
            } else if self.journal.waiting() > 0 || self.failing || tidies {
                thread::park_timeout(self.rests_until - now);
            } else {
                self.sleep();
            }
        }
    }

    /// Until something is written.
    fn sleep(&self) {
        self.journal.importer_sleeps(true);
        if self.journal.waiting() == 0 && !self.ends.load(Relaxed) {
            thread::park_timeout(self.sweep);
        }
        self.journal.importer_sleeps(false);
    }

    /// Takes a batch in. True if there was one.
    fn step(&mut self) -> bool {
        let begun = Instant::now();
        match self.take() {
            Ok(took) => {
                if std::mem::take(&mut self.failing) {
                    info!("the database of records can be written to again");
                }
                self.rests_until = begun + (begun.elapsed() * REST).min(LONGEST_REST);
                took
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(
                        error,
                        "the database of records cannot be written to; they wait beside it"
                    );
                }
                self.rests_until = Instant::now() + BACKOFF;
                false
            }
        }
    }

    fn take(&mut self) -> Result<bool, String> {
        let batch = self.reader.next().map_err(|error| error.to_string())?;
        let Some(batch) = batch else {
            self.delete_done()?;
            return Ok(false);
        };
        let (bytes, end) = (batch.bytes.len() as u64, batch.end);
        let took = self
            .importer
            .take(&batch)
            .map_err(|error| error.to_string())?;
        self.reader.advance(end);
        if took.strange > 0 {
            warn!(
                lines = took.strange,
                "records that make no sense are left out"
            );
            self.journal.lost(took.strange);
        }
        self.journal.took(took.lines, bytes);
        self.delete_done()?;
        Ok(true)
    }

    /// Deletes the files of the spool that have been taken in.
    fn delete_done(&self) -> Result<(), String> {
        if !self.reader.has_done() {
            return Ok(());
        }
        self.importer.checkpoint();
        let deleted = self.reader.delete_done();
        deleted.map_err(|error| error.to_string())
    }

    /// Does what is due now and then: deletes some of what is too old, and has the spool begin
    /// another file. True if there is more to do.
    fn tidy(&mut self) -> bool {
        let due = self.swept.is_none_or(|swept| swept.elapsed() >= self.sweep);
        if !due || self.failing {
            return false;
        }
        if !self.sweep() {
            self.importer.forget_deleted();
            self.journal.begin_another();
            self.swept = Some(Instant::now());
        }
        true
    }

    /// Deletes some of what is too old. True if there is more.
    fn sweep(&mut self) -> bool {
        let Some(oldest) = self.retention.and_then(view::oldest_of) else {
            return false;
        };
        self.importer
            .delete_before(&oldest)
            .unwrap_or_else(|error| {
                warn!(%error, "old records cannot be deleted now");
                false
            })
    }

    /// The bridge ends.
    fn part(mut self) {
        let waiting = self.journal.waiting();
        if waiting > 0 {
            warn!(
                bytes = waiting,
                "records wait beside the database until the next start"
            );
        }
        self.importer.forget_deleted();
        self.importer.checkpoint();
        if waiting == 0
            && !self.failing
            && let Err(error) = self.reader.delete_all()
        {
            warn!(%error, "what the database has is left in the spool too");
        }
    }
}

fn connect(file: &Path) -> Result<Connection, String> {
    // SQLite gives its other files the permissions of this one.
    let made: io::Result<_> = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file);
    made.map_err(|error| error.to_string())?;
    let open = || {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // What a process has committed survives it. The disk is waited for when the log is moved
        // into the database.
        connection.pragma_update(None, "synchronous", "normal")?;
        // What is deleted is to be gone.
        connection.pragma_update(None, "secure_delete", "on")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| error.to_string())
}

fn spool_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-spool");
    name.into()
}

fn now() -> aibridge_core::Instant {
    instant(SystemTime::now())
}

fn instant(time: SystemTime) -> aibridge_core::Instant {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    aibridge_core::Instant::EPOCH + since
}
