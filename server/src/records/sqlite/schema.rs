//! The tables, and how older ones become them.
//!
//! The version is `PRAGMA user_version`. Each migration takes it up by one; all run in one
//! transaction. A database of a later version than this program knows is left alone.

use rusqlite::{Connection, TransactionBehavior};

/// From version n to n + 1 by the n-th.
const MIGRATIONS: &[&str] = &[V1];

/// `interception` is the place of the interception's row in its table: joins by it are fast.
/// `interception_id` is the id that the client was told.
const V1: &str = "
CREATE TABLE interceptions (
    interception INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    interception_id TEXT GENERATED ALWAYS AS (id) VIRTUAL,
    provider TEXT NOT NULL,
    api TEXT NOT NULL,
    model TEXT NOT NULL,
    streaming INTEGER NOT NULL,
    actor TEXT NOT NULL,
    client TEXT NOT NULL,
    session_id TEXT,
    user_agent TEXT,
    credential_kind TEXT NOT NULL,
    correlating_tool_call_id TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    status INTEGER,
    outcome TEXT,
    error_message TEXT,
    credential_hint TEXT,
    attempts INTEGER,
    turns INTEGER,
    first_byte_ms REAL,
    total_ms REAL
);
CREATE INDEX interceptions_by_start ON interceptions (started_at);
CREATE INDEX interceptions_running ON interceptions (interception) WHERE ended_at IS NULL;

CREATE TABLE attempts (
    interception INTEGER NOT NULL,
    interception_id TEXT NOT NULL,
    turn INTEGER NOT NULL,
    key_hint TEXT NOT NULL,
    status INTEGER,
    fault TEXT,
    verdict TEXT NOT NULL,
    time TEXT NOT NULL
);
CREATE INDEX attempts_of ON attempts (interception);

CREATE TABLE prompts (
    interception INTEGER NOT NULL,
    interception_id TEXT NOT NULL,
    message_id TEXT,
    text TEXT NOT NULL
);
CREATE INDEX prompts_of ON prompts (interception);

CREATE TABLE token_usage (
    interception INTEGER NOT NULL,
    interception_id TEXT NOT NULL,
    turn INTEGER NOT NULL,
    message_id TEXT,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    extras TEXT,
    time TEXT NOT NULL
);
CREATE INDEX token_usage_of ON token_usage (interception);

CREATE TABLE tool_usage (
    interception INTEGER NOT NULL,
    interception_id TEXT NOT NULL,
    turn INTEGER NOT NULL,
    name TEXT NOT NULL,
    call_id TEXT NOT NULL,
    arguments TEXT,
    injected INTEGER NOT NULL,
    server TEXT,
    error TEXT,
    time TEXT NOT NULL
);
CREATE INDEX tool_usage_of ON tool_usage (interception);

CREATE TABLE model_thoughts (
    interception INTEGER NOT NULL,
    interception_id TEXT NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX model_thoughts_of ON model_thoughts (interception);

-- How far the spool has been taken in. In the database, so that it changes with what it tells of.
CREATE TABLE spool (
    file INTEGER NOT NULL,
    position INTEGER NOT NULL
);
INSERT INTO spool VALUES (0, 0);
";

/// The tables whose rows belong to interceptions.
pub(super) const PARTS: [&str; 5] = [
    "attempts",
    "prompts",
    "token_usage",
    "tool_usage",
    "model_thoughts",
];

/// Brings a database up to date.
///
/// # Errors
/// It cannot be, or it is of a later version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), String> {
    let failed = |error: rusqlite::Error| error.to_string();
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let version: usize = transaction
        .query_row("PRAGMA user_version", (), |row| row.get(0))
        .map_err(failed)?;
    let Some(missing) = MIGRATIONS.get(version..) else {
        return Err(format!(
            "it is of version {version}, and this program knows {}; use the program that made it, or another file",
            MIGRATIONS.len()
        ));
    };
    for migration in missing {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction
        .pragma_update(None, "user_version", MIGRATIONS.len())
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}
