//! A series of numbered files, as a queue: lines are appended to the last, read from the first, and
//! what was read is deleted.
//!
//! A line is its length, as a little-endian number of four bytes, and the line in postcard's form:
//! nobody reads these files but the program that writes them, most often a second later. The form
//! is that of one version of [`Line`], which the files' names tell.
//!
//! It is a folder beside the database, and belongs to one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::line::Line;

/// What the files' names end in. A change of [`Line`] is a change of this.
const SUFFIX: &str = ".lines2";
/// The file that is locked by who uses the folder.
const LOCK: &str = "lock";
/// Bytes of a line's length.
const LENGTH: usize = size_of::<u32>();
/// Bytes above which the next file is begun.
const FILE: u64 = 16 << 20;
/// Bytes read at a time; more where a line is longer.
const READ: usize = 1 << 20;

/// The end that is written to.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    number: u64,
    len: u64,
    file: File,
}

/// The end that is read from.
#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    at: Position,
    file: Option<File>,
    /// What was read last. It is used again and again: a batch a second, of a megabyte each, is
    /// much to allocate and to fill with zeros.
    buffer: Vec<u8>,
    /// Keeps others out.
    _lock: File,
}

/// A place in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) file: u64,
    pub(super) offset: u64,
}

/// Lines read, and the place after them.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) end: Position,
}

/// Puts a line after others.
pub(super) fn append(line: &Line<'_>, lines: &mut Vec<u8>) {
    let at = lines.len();
    lines.extend_from_slice(&[0; LENGTH]);
    // A writer of ours does not fail, and no line is as long as its length could say.
    let written = postcard::to_io(line, &mut *lines).is_ok();
    match u32::try_from(lines.len() - at - LENGTH) {
        Ok(length) if written => lines[at..at + LENGTH].copy_from_slice(&length.to_le_bytes()),
        _ => lines.truncate(at),
    }
}

/// The whole lines at the beginning of these bytes.
fn whole(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (line, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(line)
    })
}

impl<'a> Batch<'a> {
    /// Its lines; `None` where one makes no sense.
    pub(super) fn lines(&self) -> impl Iterator<Item = Option<Line<'a>>> + use<'a> {
        // Where a machine has crashed, a file may end in zeros.
        let there = whole(self.bytes).filter(|line| !line.is_empty());
        there.map(|line| postcard::from_bytes(line).ok())
    }
}

impl Reader {
    /// Opens this folder, made if it is not there, to read on at `from`.
    ///
    /// # Errors
    /// The folder cannot be used, another process does, or another version has left something
    /// there.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        // What people asked is nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other(
                "another process records there; give each bridge a database of its own",
            ),
        })?;
        let reader = Self {
            folder: folder.to_owned(),
            at: Position::default(),
            file: None,
            buffer: Vec::new(),
            _lock: lock,
        };
        match reader.foreign()? {
            None => Ok(reader),
            Some(name) => Err(io::Error::other(format!(
                "{name} is of another version of aibridge: start that once, which takes the records in, or move the file away"
            ))),
        }
    }

    /// The name of a file that is none of ours, if there is one.
    fn foreign(&self) -> io::Result<Option<String>> {
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK && !name.ends_with(SUFFIX) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Reads on from here, or from the first file there is after that.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn seek(&mut self, to: Position) -> io::Result<()> {
        let first = self.files()?.into_iter().find(|number| *number >= to.file);
        self.file = None;
        self.at = match first {
            Some(first) if first > to.file => Position {
                file: first,
                offset: 0,
            },
            _ => to,
        };
        Ok(())
    }

    /// The numbers of the files, in order.
    fn files(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Begins a file after all others, to be written to.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn begin(&self) -> io::Result<Spool> {
        let last = self.files()?.last().copied().unwrap_or(0);
        Spool::begin(&self.folder, last.max(self.at.file) + 1)
    }

    /// The next whole lines; `None` if there are none at the moment. They are read again until
    /// [`advance`](Self::advance).
    ///
    /// # Errors
    /// A file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch<'_>>> {
        let mut len = self.read()?;
        while len == 0 {
            let Some(next) = self.files()?.into_iter().find(|next| *next > self.at.file) else {
                self.buffer.truncate(READ);
                self.buffer.shrink_to(READ);
                return Ok(None);
            };
            // The file is complete now that another one is there; was there more in it, after all?
            len = self.read()?;
            if len == 0 {
                self.at = Position {
                    file: next,
                    offset: 0,
                };
                self.file = None;
                len = self.read()?;
            }
        }
        let offset = self.at.offset + len as u64;
        Ok(Some(Batch {
            bytes: &self.buffer[..len],
            end: Position { offset, ..self.at },
        }))
    }

    /// What was read up to here has been taken in.
    pub(super) fn advance(&mut self, to: Position) {
        self.at = to;
    }

    /// Whether there are files that have been read to their end.
    pub(super) fn has_done(&self) -> bool {
        self.files()
            .is_ok_and(|files| files.first().is_some_and(|first| *first < self.at.file))
    }

    /// Deletes the files that have been read to their end.
    ///
    /// # Errors
    /// One cannot be deleted.
    pub(super) fn delete_done(&self) -> io::Result<()> {
        for number in self.files()? {
            if number < self.at.file {
                fs::remove_file(path(&self.folder, number))?;
            }
        }
        Ok(())
    }

    /// Deletes all files, where all that was ever written has been read.
    ///
    /// # Errors
    /// One cannot be deleted.
    pub(super) fn delete_all(&self) -> io::Result<()> {
        for number in self.files()? {
            fs::remove_file(path(&self.folder, number))?;
        }
        Ok(())
    }

    /// Reads the next whole lines of the file into the buffer: how many bytes they are.
    fn read(&mut self) -> io::Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            None => match File::open(path(&self.folder, self.at.file)) {
                Ok(file) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            },
        };
        let there = file.metadata()?.len().saturating_sub(self.at.offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        let mut most = READ;
        loop {
            let len = most.min(there);
            if self.buffer.len() < len {
                self.buffer.resize(len, 0);
            }
            let bytes = &mut self.buffer[..len];
            file.read_exact_at(bytes, self.at.offset)?;
            let lines = whole(bytes).map(|line| LENGTH + line.len()).sum();
            if lines > 0 || len == there {
                return Ok(lines);
            }
            most *= 2;
        }
    }
}

impl Spool {
    fn begin(folder: &Path, number: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path(folder, number))?;
        Ok(Self {
            folder: folder.to_owned(),
            number,
            len: 0,
            file,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.len += count as u64;
        Ok(count)
    }

    /// The last line is complete: the place to begin another file, if there is so much in this one,
    /// or it is asked for. Where that fails, this one grows.
    pub(super) fn line_is_over(&mut self, begin_another: bool) {
        if (self.len >= FILE || begin_another && self.len > 0)
            && let Ok(next) = Self::begin(&self.folder, self.number + 1)
        {
            *self = next;
        }
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:09}{SUFFIX}"))
}
