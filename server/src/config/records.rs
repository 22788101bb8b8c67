//! `[records]`: where records are kept, how long, and what is left out.

use std::{
    io,
    path::{Path, PathBuf},
};

use aibridge_core::Duration;
use serde::Deserialize;
use toml::Spanned;

use super::{
    error::{Problems, shown},
    raw::Quantity,
    resolve::Check,
    units,
};

/// Where records are kept where nothing is configured: beside the environment variables there is no
/// file to say so.
const DEFAULT_FILE: &str = "aibridge.db";
/// Bytes that may wait to be taken into the database.
const BACKLOG: u64 = 256 << 20;

/// `[records]` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    sqlite: Option<Spanned<String>>,
    postgres: Option<Spanned<String>>,
    jsonl: Option<Spanned<String>>,
    prompts: Option<bool>,
    retention: Option<Spanned<Quantity>>,
    on_full: Option<Spanned<String>>,
    backlog: Option<Spanned<Quantity>>,
}

/// What is recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) place: Place,
    /// Whether the texts of prompts, thoughts and tool arguments are kept, and what providers and
    /// tools say of errors.
    pub(crate) prompts: bool,
    /// How long interceptions are kept; `None` for ever.
    pub(crate) retention: Option<Duration>,
    pub(crate) on_full: OnFull,
    /// Bytes that may wait to be taken into the database.
    pub(crate) backlog: u64,
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Jsonl(PathBuf),
    /// Gone when the bridge ends.
    Memory,
    Sqlite(PathBuf),
}

/// What becomes of new requests while records cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// They are turned away.
    Refuse,
    /// They are served, and their records are lost.
    Serve,
}

impl Records {
    /// In memory only.
    pub(crate) fn in_memory() -> Self {
        Self {
            place: Place::Memory,
            prompts: true,
            retention: None,
            on_full: OnFull::Serve,
            backlog: BACKLOG,
        }
    }

    /// In a database in the working directory.
    pub(super) fn by_default() -> Self {
        Self {
            place: Place::Sqlite(PathBuf::from(DEFAULT_FILE)),
            ..Self::in_memory()
        }
    }

    /// In the form of the file.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let path = |path: &Path| quoted(&path.display().to_string());
        let mut lines = match &self.place {
            Place::Memory if self.prompts => return Vec::new(),
            Place::Memory => return vec![("prompts", "false".to_owned())],
            Place::Jsonl(file) => vec![("jsonl", path(file))],
            Place::Sqlite(file) => vec![("sqlite", path(file))],
        };
        lines.push(("prompts", self.prompts.to_string()));
        if let Some(retention) = self.retention {
            lines.push(("retention", quoted(&units::show_duration(retention))));
        }
        let on_full = match self.on_full {
            OnFull::Refuse => "refuse",
            OnFull::Serve => "serve",
        };
        lines.push(("on_full", quoted(on_full)));
        if matches!(self.place, Place::Sqlite(_)) {
            lines.push(("backlog", quoted(&units::show_size(self.backlog))));
        }
        lines
    }
}

/// Checks what is written. Paths are relative to `folder`.
pub(super) fn resolve(written: Written, folder: &Path, check: &mut Check<'_, '_>) -> Records {
    if let Some(postgres) = &written.postgres {
        let what = "records: postgres: not supported by this version; use `sqlite`, or `jsonl` and load that";
        check.problems.add(postgres.span(), what);
    }
    if let (Some(_), Some(jsonl)) = (&written.sqlite, &written.jsonl) {
        let what = "records: jsonl: `sqlite` is given too; records are kept in one place, so remove either";
        check.problems.add(jsonl.span(), what);
    }
    let place = match (&written.sqlite, &written.jsonl) {
        (Some(file), _) => path(file, "sqlite", folder, check.problems).map(Place::Sqlite),
        (None, Some(file)) => path(file, "jsonl", folder, check.problems).map(Place::Jsonl),
        (None, None) => None,
    };
    let in_database = written.sqlite.is_some();
    let spans = [
        ("retention", written.retention.as_ref().map(Spanned::span)),
        ("backlog", written.backlog.as_ref().map(Spanned::span)),
    ];
    for (key, span) in spans {
        if let Some(span) = span
            && !in_database
        {
            let what =
                format_args!("records: {key}: only `sqlite` has it; remove it, or use `sqlite`");
            check.problems.add(span, what);
        }
    }
    let retention = check.quantity("records: retention", written.retention, units::duration);
    let backlog = check.quantity("records: backlog", written.backlog, units::size);
    if let Some(on_full) = &written.on_full
        && written.sqlite.is_none()
        && written.jsonl.is_none()
    {
        let what =
            "records: on_full: memory does not fill up; remove it, or use `sqlite` or `jsonl`";
        check.problems.add(on_full.span(), what);
    }
    let on_full = written.on_full.map_or(OnFull::Serve, |on_full| {
        match on_full.get_ref().as_str() {
            "refuse" => OnFull::Refuse,
            "serve" => OnFull::Serve,
            other => {
                let what = format_args!(
                    "records: on_full: \"{}\" is neither \"serve\" nor \"refuse\"; use one of them",
                    shown(other)
                );
                check.problems.add(on_full.span(), what);
                OnFull::Serve
            }
        }
    });
    Records {
        place: place.unwrap_or(Place::Memory),
        prompts: written.prompts.unwrap_or(true),
        retention,
        on_full,
        backlog: backlog.unwrap_or(BACKLOG),
    }
}

fn path(
    written: &Spanned<String>,
    key: &str,
    folder: &Path,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    let file = folder.join(written.get_ref());
    let what = if written.get_ref().is_empty() {
        "is empty; name a file".to_owned()
    } else if file.is_dir() {
        format!("{} is a folder; name a file in it", file.display())
    } else if let Some(folder) = file.parent().filter(|folder| is_missing(folder)) {
        let shown = folder.display();
        format!("folder {shown} does not exist; create it or name another")
    } else {
        return Some(file);
    };
    problems.add(written.span(), format_args!("records: {key}: {what}"));
    None
}

/// Whether it is known that there is no such folder. One that we may not look into is another
/// matter.
fn is_missing(folder: &Path) -> bool {
    let there = folder.metadata().map_err(|error| error.kind());
    !folder.as_os_str().is_empty() && there.is_err_and(|kind| kind == io::ErrorKind::NotFound)
}
