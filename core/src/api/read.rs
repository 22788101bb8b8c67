//! Tolerant reading: a value of another kind than expected is skipped, as if it were absent.
//!
//! The text must still be JSON; only its shape is not insisted on. The provider, or the client's
//! library, is the one to complain of it.

use std::{borrow::Cow, ops::Range};

use crate::json::{Error, Kind, Scanner, Str};

/// Reads a whole text; `None` when it is no JSON.
pub(super) fn document<'a, T>(
    text: &'a [u8],
    value: impl FnOnce(&mut Scanner<'a>) -> Result<T, Error>,
) -> Option<T> {
    let mut scan = Scanner::new(text).ok()?;
    let value = value(&mut scan).ok()?;
    scan.end().ok()?;
    Some(value)
}

/// Hands each member's name to `member`, which takes its value. Says whether there was an object.
pub(super) fn object<'a>(
    scan: &mut Scanner<'a>,
    mut member: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), Error>,
) -> Result<bool, Error> {
    if !scan.object_or_skip()? {
        return Ok(false);
    }
    while let Some(name) = scan.key()? {
        member(scan, &name.decode())?;
    }
    Ok(true)
}

/// Calls `element` before each element, which takes it. Says whether there was an array.
pub(super) fn array<'a>(
    scan: &mut Scanner<'a>,
    mut element: impl FnMut(&mut Scanner<'a>) -> Result<(), Error>,
) -> Result<bool, Error> {
    if !scan.array_or_skip()? {
        return Ok(false);
    }
    while scan.element()? {
        element(scan)?;
    }
    Ok(true)
}

/// Anything.
pub(super) fn skip(scan: &mut Scanner<'_>) -> Result<(), Error> {
    scan.skip().map(drop)
}

/// A provider's error, in short: its message, or else its type or code. Some servers send a bare
/// string.
pub(super) fn error<'a>(scan: &mut Scanner<'a>) -> Result<Option<Str<'a>>, Error> {
    if scan.kind()? == Kind::String {
        return scan.string().map(Some);
    }
    let (mut message, mut kind, mut code) = (None, None, None);
    object(scan, |scan, name| {
        match name {
            "message" => message = scan.string_or_skip()?,
            "type" => kind = scan.string_or_skip()?,
            "code" => code = scan.string_or_skip()?,
            _ => skip(scan)?,
        }
        Ok(())
    })?;
    Ok(message.or(kind).or(code))
}

/// A string unescaped; empty where there is none.
pub(super) fn decoded(string: Option<Str<'_>>) -> Cow<'_, str> {
    string.map(|string| string.decode()).unwrap_or_default()
}

/// What an [`error`] says; never empty.
pub(super) fn said(error: Option<Str<'_>>) -> Cow<'_, str> {
    match decoded(error) {
        said if said.is_empty() => "unspecified error".into(),
        said => said,
    }
}

/// Where the string just taken stands, without its quotes.
pub(super) fn inside(string: Option<Str<'_>>, scan: &Scanner<'_>) -> Option<Range<usize>> {
    let end = scan.position().checked_sub(1)?;
    Some(end.checked_sub(string?.raw().len())?..end)
}
