//! Interceptions, read back for the admin endpoint.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Error, OpenFlags, Result, Row, ToSql, params};

use super::super::{
    NotFound,
    view::{Attempt, Cursor, Interception, Search, Tool, Usage},
};

/// How long a question may take: what it looks for may not be there, and the table is long.
const LONGEST: Duration = Duration::from_secs(5);

/// The newest that are asked for, running ones included.
///
/// # Errors
/// The database cannot be read, or not in time; or the place to begin at is not there.
pub(super) fn find(file: &Path, search: &Search) -> Result<Vec<Interception>, NotFound> {
    rows(file, search).map_err(|error| match error {
        Error::QueryReturnedNoRows => NotFound::NoSuchPlace,
        error => NotFound::Unreadable(error.to_string()),
    })
}

fn rows(file: &Path, search: &Search) -> Result<Vec<Interception>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let until = std::time::Instant::now() + LONGEST;
    connection.progress_handler(100_000, Some(move || std::time::Instant::now() > until))?;

    let (mut conditions, mut values) = (Vec::new(), Vec::<&dyn ToSql>::new());
    let equal = [
        ("actor = ?", &search.actor),
        ("provider = ?", &search.provider),
    ];
    for (condition, wanted) in equal {
        if let Some(wanted) = wanted {
            conditions.push(condition);
            values.push(wanted);
        }
    }
    match search.outcome.as_deref() {
        None => {}
        Some("running") => conditions.push("outcome IS NULL"),
        Some(_) => {
            conditions.push("outcome = ?");
            values.push(&search.outcome);
        }
    }
    let behind = match &search.before {
        None => None,
        Some(Cursor {
            id,
            started_at: None,
        }) => {
            let select = "SELECT started_at FROM interceptions WHERE id = ?";
            let time: String = connection.query_row(select, [id], |row| row.get(0))?;
            Some((time, id))
        }
        Some(Cursor {
            id,
            started_at: Some(time),
        }) => Some((time.clone(), id)),
    };
    if let Some((time, id)) = &behind {
        conditions.push("(started_at, id) < (?, ?)");
        values.push(time);
        values.push(id);
    }
    let limit = i64::try_from(search.limit).unwrap_or(i64::MAX);
    values.push(&limit);
    let filter = if conditions.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", conditions.join(" AND "))
    };
    let mut select = connection.prepare(&format!(
        "SELECT * FROM interceptions {filter} ORDER BY started_at DESC, id DESC LIMIT ?"
    ))?;
    let mut found = Vec::new();
    let mut rows = select.query(&*values)?;
    while let Some(row) = rows.next()? {
        found.push(interception(&connection, row)?);
    }
    Ok(found)
}

fn interception(connection: &Connection, row: &Row<'_>) -> Result<Interception> {
    let place: i64 = row.get("interception")?;
    let text = |name: &str| row.get::<_, Option<String>>(name);
    let needed = |name: &str| row.get::<_, String>(name);
    let attempts = connection
        .prepare_cached(
            "SELECT turn, key_hint, status, verdict, fault FROM attempts WHERE interception = ? ORDER BY rowid",
        )?
        .query_map([place], |row| {
            Ok(Attempt {
                turn: row.get(0)?,
                key: row.get::<_, String>(1)?.into(),
                status: row.get(2)?,
                verdict: row.get::<_, String>(3)?.into(),
                fault: row.get::<_, Option<String>>(4)?.map(Into::into),
            })
        })?
        .collect::<Result<Vec<_>>>()?;
    let tools = connection
        .prepare_cached(
            "SELECT turn, name, call_id, injected, server, error FROM tool_usage WHERE interception = ? ORDER BY rowid",
        )?
        .query_map([place], |row| {
            Ok(Tool {
                turn: row.get(0)?,
                name: row.get(1)?,
                call_id: row.get(2)?,
                injected: row.get(3)?,
                server: row.get::<_, Option<String>>(4)?.map(Into::into),
                error: row.get(5)?,
            })
        })?
        .collect::<Result<Vec<_>>>()?;
    // Sums as floating point do not overflow.
    let usage = connection
        .prepare_cached(
            "SELECT total(input), total(output), total(cache_read), total(cache_write) FROM token_usage
             WHERE interception = ?",
        )?
        .query_row(params![place], |row| {
            Ok(Usage {
                input_tokens: count(row.get(0)?),
                output_tokens: count(row.get(1)?),
                cache_read_tokens: count(row.get(2)?),
                cache_write_tokens: count(row.get(3)?),
            })
        })?;
    let last = attempts.last();
    Ok(Interception {
        id: needed("id")?,
        provider: needed("provider")?.into(),
        api: needed("api")?.into(),
        model: needed("model")?.into(),
        streaming: row.get("streaming")?,
        actor: needed("actor")?.into(),
        client: needed("client")?.into(),
        session_id: text("session_id")?,
        credential_kind: needed("credential_kind")?.into(),
        credential_hint: text("credential_hint")?
            .or_else(|| last.map(|attempt| attempt.key.to_string())),
        started_at: needed("started_at")?,
        ended_at: text("ended_at")?,
        status: row.get("status")?,
        outcome: text("outcome")?.map(Into::into),
        error: text("error_message")?,
        turns: row
            .get::<_, Option<u32>>("turns")?
            .or_else(|| last.map(|attempt| attempt.turn))
            .unwrap_or(0),
        attempts,
        usage,
        tools,
        first_byte_ms: row.get("first_byte_ms")?,
        total_ms: row.get("total_ms")?,
    })
}

/// Exact up to 2⁵³.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sum of counts is a count; a cast saturates"
)]
fn count(sum: f64) -> u64 {
    sum as u64
}
