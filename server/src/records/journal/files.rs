//! What a journal writes to.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::super::{
    line::Line,
    spool::{self, Spool},
};

/// What lines are appended to.
#[derive(Debug)]
pub(in super::super) enum Files {
    One(File),
    Series(Spool),
}

/// Puts a line after others.
pub(super) type Append = fn(&Line<'_>, &mut Vec<u8>);

impl Files {
    /// This file, made if it is not there.
    ///
    /// # Errors
    /// It cannot be opened or written to.
    pub(in super::super) fn one(path: &Path) -> io::Result<Self> {
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

    /// How a line becomes bytes of these files.
    pub(super) fn form(&self) -> Append {
        match self {
            Self::One(_) => |line, held| line.append_json(held),
            Self::Series(_) => spool::append,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::One(file) => file.write(bytes),
            Self::Series(spool) => spool.write(bytes),
        }
    }

    /// What was written ends with a whole line.
    pub(super) fn line_is_over(&mut self, begin_another: bool) {
        if let Self::Series(spool) = self {
            spool.line_is_over(begin_another);
        }
    }
}
