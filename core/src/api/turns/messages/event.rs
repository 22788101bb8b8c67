//! What stands where in an event.

use std::ops::Range;

use crate::{
    api::{
        read::{self, inside, skip},
        usage::Counts,
    },
    json::{Error, Kind, Scanner, Str},
};

/// All members that any event has of interest.
#[derive(Default)]
pub(super) struct Event<'a> {
    pub(super) kind: Option<Str<'a>>,
    pub(super) index: Option<(u64, Range<usize>)>,
    pub(super) block: Option<Range<usize>>,
    pub(super) delta: Delta<'a>,
    pub(super) usage: Option<Counts>,
    pub(super) message_usage: Option<Counts>,
}

#[derive(Default)]
pub(super) struct Delta<'a> {
    /// Strings by name, and where they stand.
    pub(super) strings: Vec<(Str<'a>, Str<'a>, Range<usize>)>,
    /// There is one, and nothing else but the type.
    pub(super) is_one_string: bool,
    pub(super) citation: Option<Range<usize>>,
    pub(super) stop_reason: Option<Str<'a>>,
}

impl<'a> Event<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "type" => event.kind = scan.string_or_skip()?,
                    "index" => {
                        let index = scan.u64_or_skip()?;
                        let end = scan.position();
                        event.index =
                            index.map(|index| (index, end - index.to_string().len()..end));
                    }
                    "content_block" => event.block = Some(scan.skip()?),
                    "delta" => event.delta = Delta::read(scan)?,
                    "usage" => event.usage = Counts::read(scan)?,
                    "message" => {
                        read::object(scan, |scan, name| match name {
                            "usage" => Counts::read(scan).map(|it| event.message_usage = it),
                            _ => skip(scan),
                        })?;
                    }
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        Some(event)
    }

    /// What makes its index `to`; `None` where it is that already.
    pub(super) fn renumber(&self, to: Option<u64>) -> Option<(Range<usize>, String)> {
        let (index, range) = self.index.as_ref()?;
        let to = to.filter(|to| to != index)?;
        Some((range.clone(), to.to_string()))
    }
}

impl<'a> Delta<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut delta = Self::default();
        let mut others = 0;
        if !scan.object_or_skip()? {
            return Ok(delta);
        }
        while let Some(name) = scan.key()? {
            if name.is("type") {
                skip(scan)?;
            } else if name.is("citation") {
                delta.citation = Some(scan.skip()?);
            } else if scan.kind()? == Kind::String {
                let text = scan.string()?;
                let range = inside(Some(text), scan).unwrap_or_default();
                if name.is("stop_reason") {
                    delta.stop_reason = Some(text);
                }
                delta.strings.push((name, text, range));
            } else {
                others += 1;
                skip(scan)?;
            }
        }
        delta.is_one_string = delta.strings.len() == 1 && others == 0 && delta.citation.is_none();
        Ok(delta)
    }
}
