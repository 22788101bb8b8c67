//! Records as JSON Lines in one file, for other programs to collect.
//!
//! The file is the journal itself: it is only appended to, so it may be truncated by who rotates it
//! (logrotate's `copytruncate`). Older interceptions are not read back from it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use aibridge_core::Instant;
use tracing::warn;

use super::{
    Counts, NotFound, Store,
    journal::{Files, Journal},
    line::{Ended, Line, Texts},
    scalar::{Id, Time},
    view::{Interception, Search},
};

/// How much of the file's end is looked through for interceptions that a crash interrupted, in
/// bytes.
const LOOKED_THROUGH: u64 = 64 << 20;

/// Records in a file.
#[derive(Debug)]
pub(super) struct JsonLines {
    journal: Arc<Journal>,
}

impl JsonLines {
    /// Opens a file, made if it is not there, and ends what an earlier process has left running.
    ///
    /// # Errors
    /// It cannot be used: why, for people.
    pub(super) fn open(path: &Path, texts: Texts) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut files = Files::one(path).map_err(failed)?;
        if let Files::One(file) = &mut files {
            file.try_lock().map_err(|_| {
                format!(
                    "{}: another process records there; give each bridge a file of its own",
                    path.display()
                )
            })?;
            end_interrupted(file).map_err(failed)?;
        }
        let journal = Journal::start(files, texts, None).map_err(failed)?;
        Ok(Self { journal })
    }
}

impl Store for JsonLines {
    fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    fn find(&self, _: &Search) -> Result<Vec<Interception>, NotFound> {
        Ok(Vec::new())
    }

    fn note(&self) -> Option<&'static str> {
        Some("the latest since the bridge started: the file of records is not read back")
    }

    fn counts(&self) -> Counts {
        let (pending, lost) = self.journal.counts(false);
        Counts { pending, lost }
    }

    fn close(&self) {
        self.journal.close();
    }
}

/// What is known of an interception that has not ended.
#[derive(Default)]
struct Run {
    attempts: u32,
    turns: u32,
    hint: String,
}

/// Ends the interceptions in a file's last part that have begun and not ended.
fn end_interrupted(file: &mut File) -> std::io::Result<()> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOOKED_THROUGH)))?;
    let mut running = BTreeMap::new();
    let mut reader = BufReader::new((&mut *file).take(len.min(LOOKED_THROUGH)));
    let mut text = Vec::new();
    while reader.read_until(b'\n', &mut text)? > 0 {
        match serde_json::from_slice(&text) {
            Ok(Line::Started(started)) => {
                running.insert(started.id.0, Run::default());
            }
            Ok(Line::Attempt(attempt)) => {
                if let Some(run) = running.get_mut(&attempt.id.0) {
                    run.attempts += 1;
                    run.turns = attempt.turn;
                    run.hint = attempt.key_hint.into_owned();
                }
            }
            Ok(Line::Ended(ended)) => {
                running.remove(&ended.id.0);
            }
            _ => {}
        }
        text.clear();
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = Time(Instant::EPOCH + now);
    for (id, run) in &running {
        let ended = Line::Ended(Ended {
            id: Id(*id),
            ended_at: now,
            status: None,
            outcome: "interrupted".into(),
            error_message: None,
            credential_hint: run.hint.as_str().into(),
            attempts: run.attempts,
            turns: run.turns,
            first_byte_ms: None,
            total_ms: None,
        });
        ended.append_json(&mut text);
    }
    file.write_all(&text)?;
    if !running.is_empty() {
        warn!(
            interrupted = running.len(),
            "the last process did not end in order"
        );
    }
    Ok(())
}
