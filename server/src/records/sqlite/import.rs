//! Lines of the journal become rows.
//!
//! All lines of a batch are one transaction, together with how far the spool has then been taken
//! in: whatever happens, each line is taken in once.

use std::collections::HashMap;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior, params};

use super::{
    super::{
        line::{Attempt, Ended, Line, Prompt, Started, Thought, TokenUsage, ToolUsage},
        scalar::Id,
        spool::{Batch, Position},
    },
    schema::PARTS,
};

/// Rows of interceptions deleted in one transaction.
const DELETED_AT_ONCE: usize = 200;

/// Takes batches in.
#[derive(Debug)]
pub(super) struct Importer {
    connection: Connection,
    running: Running,
    /// Something was deleted that the log may still have.
    has_deleted: bool,
}

/// The rows of the interceptions that have begun and not ended, by id.
type Running = HashMap<Id, i64>;

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Took {
    pub(super) lines: u64,
    /// Of these, how many made no sense.
    pub(super) strange: u64,
}

impl Importer {
    /// For a database that is up to date.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn new(connection: Connection) -> Result<Self> {
        connection.set_prepared_statement_cache_capacity(32);
        let mut running = Running::new();
        let mut begun = connection
            .prepare("SELECT id, interception FROM interceptions WHERE ended_at IS NULL")?;
        let mut rows = begun.query(())?;
        while let Some(row) = rows.next()? {
            // A row with another id is none of ours, and no line is about it.
            if let Ok(id) = row.get_ref(0)?.as_str()?.parse() {
                running.insert(Id(id), row.get(1)?);
            }
        }
        drop(rows);
        drop(begun);
        Ok(Self {
            connection,
            running,
            has_deleted: false,
        })
    }

    /// How far the spool has been taken in.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(super) fn position(&self) -> Result<Position> {
        let select = "SELECT file, position FROM spool";
        self.connection.query_row(select, (), |row| {
            Ok(Position {
                file: row.get(0)?,
                offset: row.get(1)?,
            })
        })
    }

    /// Takes a batch in, or nothing of it.
    ///
    /// # Errors
    /// The database cannot be written to; it may be later.
    pub(super) fn take(&mut self, batch: &Batch<'_>) -> Result<Took> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut changes = Changes::new(&transaction, &self.running);
        for line in batch.lines() {
            changes.took.lines += 1;
            match line {
                Some(line) => changes.line(line)?,
                None => changes.took.strange += 1,
            }
        }
        let (took, running, ended) = changes.finish()?;
        transaction
            .prepare_cached("UPDATE spool SET file = ?, position = ?")?
            .execute((batch.end.file, batch.end.offset))?;
        transaction.commit()?;
        self.running.extend(running);
        for id in &ended {
            self.running.remove(id);
        }
        Ok(took)
    }

    /// Those that are still running, ran when the bridge was killed: says how many.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub(super) fn interrupt(&mut self, now: &str) -> Result<usize> {
        self.running.clear();
        self.connection.execute(
            "UPDATE interceptions SET outcome = 'interrupted', ended_at = ?,
             attempts = (SELECT count(*) FROM attempts a WHERE a.interception = interceptions.interception),
             turns = (SELECT coalesce(max(turn), 0) FROM attempts a WHERE a.interception = interceptions.interception),
             credential_hint = (SELECT key_hint FROM attempts a WHERE a.interception = interceptions.interception
                                ORDER BY rowid DESC LIMIT 1)
             WHERE ended_at IS NULL",
            [now],
        )
    }

    /// Deletes some of the interceptions that began before this time. True if there may be more.
    ///
    /// # Errors
    /// The database cannot be written to.
    pub(super) fn delete_before(&mut self, time: &str) -> Result<bool> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let old: Vec<i64> = transaction
            .prepare_cached(
                "SELECT interception FROM interceptions WHERE started_at < ? AND ended_at IS NOT NULL
                 ORDER BY started_at LIMIT ?",
            )?
            .query_map((time, DELETED_AT_ONCE), |row| row.get(0))?
            .collect::<Result<_>>()?;
        for table in PARTS.into_iter().chain(["interceptions"]) {
            let delete = format!("DELETE FROM {table} WHERE interception = ?");
            let mut delete = transaction.prepare_cached(&delete)?;
            for interception in &old {
                delete.execute([interception])?;
            }
        }
        transaction.commit()?;
        self.has_deleted |= !old.is_empty();
        Ok(old.len() == DELETED_AT_ONCE)
    }

    /// Moves what was committed into the database file proper, and has the system write it to the
    /// disk.
    pub(super) fn checkpoint(&self) {
        // Where a reader is in the way, the next one does it.
        let _ = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    }

    /// Empties the log, if it may have something that was deleted. Waits a little for readers.
    pub(super) fn forget_deleted(&mut self) {
        if self.has_deleted {
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            let blocked = self
                .connection
                .query_row(truncate, (), |row| row.get::<_, bool>(0));
            // Where a reader is in the way, the next one does it.
            self.has_deleted = blocked.unwrap_or(true);
        }
    }
}

/// A batch on its way in.
struct Changes<'a, 't> {
    transaction: &'a Transaction<'a>,
    known: &'a Running,
    took: Took,
    /// The interceptions that begin in this batch, in the order in which they do. Most end in it
    /// too: they are written as they end, which takes half of what it takes to write them as they
    /// begin and to change them then.
    begun: Vec<Option<Begun<'t>>>,
    places: HashMap<Id, usize>,
    /// Those that began in an earlier batch and end in this one.
    ended: Vec<Id>,
}

/// What this batch tells of an interception that begins in it.
struct Begun<'t> {
    started: Started<'t>,
    parts: Vec<Line<'t>>,
}

impl Begun<'_> {
    /// How many lines it is.
    fn lines(&self) -> u64 {
        1 + self.parts.len() as u64
    }

    /// The id of the first reply, whichever key it came with: the answer to the prompt.
    fn message(&self) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Line::TokenUsage(usage) if usage.turn == 1 => usage.message_id.as_deref(),
            _ => None,
        })
    }
}

impl<'a, 't> Changes<'a, 't> {
    fn new(transaction: &'a Transaction<'a>, known: &'a Running) -> Self {
        Self {
            transaction,
            known,
            took: Took::default(),
            begun: Vec::new(),
            places: HashMap::new(),
            ended: Vec::new(),
        }
    }

    /// Takes a line in, which is strange if it belongs to nothing that is known.
    fn line(&mut self, line: Line<'t>) -> Result<()> {
        let place = self.places.get(&line.id()).copied();
        let begun = place.and_then(|place| self.begun.get_mut(place));
        match (line, begun) {
            (Line::Started(_), Some(_)) => self.took.strange += 1,
            (Line::Started(started), None) => {
                self.places.insert(started.id, self.begun.len());
                let parts = Vec::new();
                self.begun.push(Some(Begun { started, parts }));
            }
            (Line::Ended(ended), Some(begun)) => match begun.take() {
                Some(begun) => drop(self.write(&begun, Some(&ended))?),
                None => self.took.strange += 1,
            },
            (part, Some(Some(begun))) => begun.parts.push(part),
            (_, Some(None)) => self.took.strange += 1,
            (part, None) => self.later(&part)?,
        }
        Ok(())
    }

    /// More of an interception that began in an earlier batch.
    fn later(&mut self, line: &Line<'_>) -> Result<()> {
        let Some(interception) = self.known.get(&line.id()).copied() else {
            self.took.strange += 1;
            return Ok(());
        };
        if let Line::Ended(ended) = line {
            self.ended.push(ended.id);
            return self.ended(interception, ended);
        }
        self.part(interception, line, None)?;
        match line {
            Line::TokenUsage(TokenUsage {
                turn: 1,
                message_id: Some(message),
                ..
            }) => self.answered(interception, message),
            _ => Ok(()),
        }
    }

    /// Writes what is left: the interceptions that go on. Tells what became of the batch, and which
    /// have begun and which have ended.
    fn finish(mut self) -> Result<(Took, Running, Vec<Id>)> {
        let mut running = Running::new();
        for begun in std::mem::take(&mut self.begun).iter().flatten() {
            if let Some(interception) = self.write(begun, None)? {
                running.insert(begun.started.id, interception);
            }
        }
        Ok((self.took, running, self.ended))
    }

    /// Writes all that a batch tells of an interception. Its row; `None` if there is another one of
    /// its id.
    fn write(&mut self, begun: &Begun<'_>, ended: Option<&Ended<'_>>) -> Result<Option<i64>> {
        let Some(interception) = self.insert(&begun.started, ended)? else {
            self.took.strange += begun.lines() + u64::from(ended.is_some());
            return Ok(None);
        };
        for part in &begun.parts {
            self.part(interception, part, begun.message())?;
        }
        Ok(Some(interception))
    }

    fn insert(&self, started: &Started<'_>, ended: Option<&Ended<'_>>) -> Result<Option<i64>> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT OR IGNORE INTO interceptions (id, provider, api, model, streaming, actor, client, session_id, user_agent,
             credential_kind, correlating_tool_call_id, started_at, ended_at, status, outcome, error_message, credential_hint,
             attempts, turns, first_byte_ms, total_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let rows = insert.execute(params![
            started.id,
            started.provider,
            started.api,
            started.model,
            started.streaming,
            started.actor,
            started.client,
            started.session_id,
            started.user_agent,
            started.credential_kind,
            started.correlating_tool_call_id,
            started.started_at,
            ended.map(|it| &it.ended_at),
            ended.and_then(|it| it.status),
            ended.map(|it| &it.outcome),
            ended.and_then(|it| it.error_message.as_ref()),
            ended.and_then(hint),
            ended.map(|it| it.attempts),
            ended.map(|it| it.turns),
            ended.and_then(|it| it.first_byte_ms),
            ended.and_then(|it| it.total_ms),
        ])?;
        Ok((rows > 0).then(|| self.transaction.last_insert_rowid()))
    }

    /// Writes a part. `message` is the answer to the prompt, where that is known.
    fn part(&self, interception: i64, line: &Line<'_>, message: Option<&str>) -> Result<()> {
        match line {
            Line::Started(_) | Line::Ended(_) => Ok(()),
            Line::Attempt(attempt) => self.attempt(interception, attempt),
            Line::Prompt(prompt) => self.prompt(interception, prompt, message),
            Line::Thought(thought) => self.thought(interception, thought),
            Line::TokenUsage(usage) => self.token_usage(interception, usage),
            Line::ToolUsage(tool) => self.tool_usage(interception, tool),
        }
    }

    fn attempt(&self, interception: i64, attempt: &Attempt<'_>) -> Result<()> {
        self.transaction
            .prepare_cached("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                interception,
                attempt.id,
                attempt.turn,
                attempt.key_hint,
                attempt.status,
                attempt.fault,
                attempt.verdict,
                attempt.time,
            ])
            .map(drop)
    }

    fn prompt(&self, interception: i64, prompt: &Prompt<'_>, message: Option<&str>) -> Result<()> {
        self.transaction
            .prepare_cached("INSERT INTO prompts VALUES (?, ?, ?, ?)")?
            .execute(params![interception, prompt.id, message, prompt.text])
            .map(drop)
    }

    /// The answer to a prompt that is written already.
    fn answered(&self, interception: i64, message: &str) -> Result<()> {
        self.transaction
            .prepare_cached("UPDATE prompts SET message_id = ? WHERE interception = ?")?
            .execute(params![message, interception])
            .map(drop)
    }

    fn token_usage(&self, interception: i64, usage: &TokenUsage<'_>) -> Result<()> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let extras =
            (!usage.extras.is_empty()).then(|| serde_json::json!(usage.extras).to_string());
        self.transaction
            .prepare_cached("INSERT INTO token_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                interception,
                usage.id,
                usage.turn,
                usage.message_id,
                count(usage.input),
                count(usage.output),
                count(usage.cache_read),
                count(usage.cache_write),
                extras,
                usage.time,
            ])
            .map(drop)
    }

    fn tool_usage(&self, interception: i64, tool: &ToolUsage<'_>) -> Result<()> {
        self.transaction
            .prepare_cached("INSERT INTO tool_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?
            .execute(params![
                interception,
                tool.id,
                tool.turn,
                tool.name,
                tool.call_id,
                tool.arguments,
                tool.injected,
                tool.server,
                tool.error,
                tool.time,
            ])
            .map(drop)
    }

    fn thought(&self, interception: i64, thought: &Thought<'_>) -> Result<()> {
        self.transaction
            .prepare_cached("INSERT INTO model_thoughts VALUES (?, ?, ?, ?)")?
            .execute(params![
                interception,
                thought.id,
                thought.source,
                thought.text
            ])
            .map(drop)
    }

    fn ended(&self, interception: i64, ended: &Ended<'_>) -> Result<()> {
        self.transaction
            .prepare_cached(
                "UPDATE interceptions SET ended_at = ?, status = ?, outcome = ?, error_message = ?, credential_hint = ?,
                 attempts = ?, turns = ?, first_byte_ms = ?, total_ms = ? WHERE interception = ?",
            )?
            .execute(params![
                ended.ended_at,
                ended.status,
                ended.outcome,
                ended.error_message,
                hint(ended),
                ended.attempts,
                ended.turns,
                ended.first_byte_ms,
                ended.total_ms,
                interception,
            ])
            .map(drop)
    }
}

fn hint<'a>(ended: &'a Ended<'_>) -> Option<&'a str> {
    Some(&*ended.credential_hint).filter(|hint| !hint.is_empty())
}
