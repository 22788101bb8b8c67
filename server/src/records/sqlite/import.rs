//! Lines of the journal become rows.
//!
//! All lines of a batch are one transaction, together with how far the spool has then been taken in: whatever happens, each line is
//! taken in once.

use std::{borrow::Cow, collections::HashMap};

use rusqlite::{Connection, Result, Transaction, TransactionBehavior, params};

use super::{
    super::{
        line::{Attempt, Ended, Line, Prompt, Started, Thought, TokenUsage, ToolUsage},
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
}

/// The rows of the interceptions that have begun and not ended, by id.
type Running = HashMap<String, i64>;

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
            running.insert(row.get(0)?, row.get(1)?);
        }
        drop(rows);
        drop(begun);
        Ok(Self {
            connection,
            running,
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
    pub(super) fn take(&mut self, batch: &Batch) -> Result<Took> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut took = Took::default();
        let mut changes = Changes {
            transaction: &transaction,
            known: &self.running,
            begun: Running::new(),
            ended: Vec::new(),
        };
        for text in batch.text.split(|byte| *byte == b'\n') {
            if text.is_empty() {
                continue;
            }
            took.lines += 1;
            match serde_json::from_slice(text) {
                Ok(line) => took.strange += u64::from(!changes.line(&line)?),
                Err(_) => took.strange += 1,
            }
        }
        let Changes { begun, ended, .. } = changes;
        transaction
            .prepare_cached("UPDATE spool SET file = ?, position = ?")?
            .execute((batch.end.file, batch.end.offset))?;
        transaction.commit()?;
        self.running.extend(begun);
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
            "UPDATE interceptions SET outcome = 'interrupted', ended_at = ? WHERE ended_at IS NULL",
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
        Ok(old.len() == DELETED_AT_ONCE)
    }

    /// Moves what was committed into the database file proper, and has the system write it to the disk.
    pub(super) fn checkpoint(&self) {
        // Where a reader is in the way, the next one does it.
        let _ = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
    }
}

/// A batch on its way in.
struct Changes<'a> {
    transaction: &'a Transaction<'a>,
    known: &'a Running,
    begun: Running,
    ended: Vec<String>,
}

impl Changes<'_> {
    /// Takes a line in. False if it belongs to nothing that is known.
    fn line(&mut self, line: &Line<'_>) -> Result<bool> {
        let id = match line {
            Line::Started(started) => return self.started(started),
            Line::Attempt(Attempt { id, .. })
            | Line::Ended(Ended { id, .. })
            | Line::Prompt(Prompt { id, .. })
            | Line::Thought(Thought { id, .. })
            | Line::TokenUsage(TokenUsage { id, .. })
            | Line::ToolUsage(ToolUsage { id, .. }) => &**id,
        };
        let Some(interception) = self.begun.get(id).or_else(|| self.known.get(id)).copied() else {
            return Ok(false);
        };
        match line {
            Line::Started(_) => {}
            Line::Attempt(attempt) => self.attempt(interception, attempt)?,
            Line::Ended(ended) => self.ended(interception, ended)?,
            Line::Prompt(prompt) => self.prompt(interception, prompt)?,
            Line::Thought(thought) => self.thought(interception, thought)?,
            Line::TokenUsage(usage) => self.token_usage(interception, usage)?,
            Line::ToolUsage(tool) => self.tool_usage(interception, tool)?,
        }
        Ok(true)
    }

    fn started(&mut self, started: &Started<'_>) -> Result<bool> {
        let mut insert = self.transaction.prepare_cached(
            "INSERT OR IGNORE INTO interceptions (id, provider, api, model, streaming, actor, client, session_id, user_agent,
             credential_kind, correlating_tool_call_id, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        ])?;
        if rows == 0 {
            return Ok(false);
        }
        let interception = self.transaction.last_insert_rowid();
        self.begun.insert(started.id.to_string(), interception);
        Ok(true)
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

    fn prompt(&self, interception: i64, prompt: &Prompt<'_>) -> Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO prompts (interception, interception_id, text) VALUES (?, ?, ?)",
            )?
            .execute(params![interception, prompt.id, prompt.text])
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
            ])?;
        // A prompt's answer is the first reply, whichever key it came with.
        if usage.turn == 1
            && let Some(message) = &usage.message_id
        {
            self.transaction
                .prepare_cached("UPDATE prompts SET message_id = ? WHERE interception = ?")?
                .execute(params![message, interception])?;
        }
        Ok(())
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

    fn ended(&mut self, interception: i64, ended: &Ended<'_>) -> Result<()> {
        let hint = Some(&ended.credential_hint).filter(|hint| !hint.is_empty());
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
                hint.map(Cow::as_ref),
                ended.attempts,
                ended.turns,
                ended.first_byte_ms,
                ended.total_ms,
                interception,
            ])?;
        self.begun.remove(&*ended.id);
        self.ended.push(ended.id.to_string());
        Ok(())
    }
}
