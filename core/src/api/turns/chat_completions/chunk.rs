//! What stands where in a chunk, and in a whole completion, which has `message` where a chunk has
//! `delta`.

use std::ops::Range;

use crate::{
    api::{
        edits::Edits,
        read::{self, inside, skip},
        turns::Turn,
    },
    json::{Error, Kind, Scanner, Str},
};

#[derive(Default)]
pub(super) struct Chunk<'a> {
    pub(super) id: Option<(Str<'a>, Range<usize>)>,
    /// How many; `None` where there is no array of them.
    pub(super) choices: Option<usize>,
    /// Where the array of them stands.
    pub(super) choices_range: Range<usize>,
    /// The choice of index 0.
    pub(super) first: Option<Choice<'a>>,
    pub(super) usage: Option<Range<usize>>,
    pub(super) has_error: bool,
    pub(super) padding: Option<Range<usize>>,
}

#[derive(Default)]
pub(super) struct Choice<'a> {
    pub(super) delta: Delta<'a>,
    /// The reason, and where it stands with its quotes.
    pub(super) finish: Option<(Str<'a>, Range<usize>)>,
}

#[derive(Default)]
pub(super) struct Delta<'a> {
    pub(super) range: Option<Range<usize>>,
    /// Its members, each with the comma before it.
    pub(super) spans: Vec<Range<usize>>,
    /// Which of them they are.
    pub(super) role: Option<usize>,
    pub(super) calls_member: Option<usize>,
    /// The strings but the role, and where they stand.
    pub(super) strings: Vec<(Str<'a>, Str<'a>, Range<usize>)>,
    pub(super) calls: Vec<CallDelta<'a>>,
    pub(super) call_spans: Vec<Range<usize>>,
    /// What stands between the brackets of `reasoning_details`.
    pub(super) details: Option<Range<usize>>,
    /// There are members that are no strings and not empty.
    pub(super) has_others: bool,
}

#[derive(Default)]
pub(super) struct CallDelta<'a> {
    pub(super) index: Option<(u64, Range<usize>)>,
    pub(super) id: Option<Str<'a>>,
    pub(super) name: Option<Str<'a>>,
    pub(super) arguments: Option<Str<'a>>,
    /// Members of a server's own, and where their values stand: what it says of the call it wants
    /// to see again.
    pub(super) others: Vec<(Str<'a>, Range<usize>)>,
}

impl<'a> Chunk<'a> {
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        let mut chunk = Self::default();
        let is_object = read::document(data, |scan| {
            read::object(scan, |scan, name| {
                match name {
                    "id" => {
                        let id = scan.string_or_skip()?;
                        chunk.id = id.zip(inside(id, scan));
                    }
                    "choices" => {
                        scan.kind()?;
                        let start = scan.position();
                        let mut choices = 0;
                        let found = read::array(scan, |scan| {
                            choices += 1;
                            chunk.choice(scan)
                        })?;
                        chunk.choices = found.then_some(choices);
                        chunk.choices_range = start..scan.position();
                    }
                    "usage" if scan.kind()? == Kind::Object => chunk.usage = Some(scan.skip()?),
                    "error" => {
                        chunk.has_error = scan.kind()? != Kind::Null;
                        skip(scan)?;
                    }
                    "obfuscation" => chunk.padding = inside(scan.string_or_skip()?, scan),
                    _ => skip(scan)?,
                }
                Ok(())
            })
        })?;
        is_object.then_some(chunk)
    }

    /// What changes in all chunks: the id, and usage counts all turns.
    pub(super) fn edits(
        &self,
        data: &[u8],
        id: Option<&(Range<usize>, String)>,
        turn: &Turn,
    ) -> Edits {
        let mut edits = Edits::default();
        if let Some((range, id)) = id {
            edits.replace(range.clone(), id.clone());
        }
        if let Some(range) = self.usage.clone() {
            turn.raise(&data[range.clone()], range.start, &mut edits);
        }
        edits
    }

    fn choice(&mut self, scan: &mut Scanner<'a>) -> Result<(), Error> {
        let mut choice = Choice::default();
        let mut index = 0;
        read::object(scan, |scan, name| {
            match name {
                "index" => index = scan.u64_or_skip()?.unwrap_or_default(),
                "finish_reason" => {
                    let reason = scan.string_or_skip()?;
                    choice.finish = reason
                        .zip(inside(reason, scan))
                        .map(|(reason, range)| (reason, range.start - 1..range.end + 1));
                }
                "delta" | "message" => choice.delta = Delta::read(scan)?,
                _ => skip(scan)?,
            }
            Ok(())
        })?;
        if index == 0 {
            self.first = Some(choice);
        }
        Ok(())
    }
}

impl<'a> Delta<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut delta = Self::default();
        if !scan.object_or_skip()? {
            return Ok(delta);
        }
        let open = scan.position() - 1;
        loop {
            let start = scan.position();
            let Some(name) = scan.key()? else { break };
            let kind = scan.kind()?;
            if name.is("role") {
                delta.role = (kind == Kind::String).then_some(delta.spans.len());
                skip(scan)?;
            } else if name.is("tool_calls") && kind == Kind::Array {
                delta.calls_member = Some(delta.spans.len());
                delta.read_calls(scan)?;
            } else if kind == Kind::String {
                let text = scan.string()?;
                let range = inside(Some(text), scan).unwrap_or_default();
                delta.strings.push((name, text, range));
            } else {
                let value = scan.skip()?;
                if name.is("reasoning_details") && kind == Kind::Array {
                    delta.details = Some(value.start + 1..value.end - 1);
                }
                delta.has_others |= kind != Kind::Null && value.len() > 2;
            }
            delta.spans.push(start..scan.position());
        }
        delta.range = Some(open..scan.position());
        Ok(delta)
    }

    fn read_calls(&mut self, scan: &mut Scanner<'a>) -> Result<(), Error> {
        scan.array()?;
        loop {
            let start = scan.position();
            if !scan.element()? {
                return Ok(());
            }
            self.calls.push(CallDelta::read(scan)?);
            self.call_spans.push(start..scan.position());
        }
    }

    /// Nothing but strings.
    pub(super) fn is_text(&self) -> bool {
        self.role.is_none() && self.calls.is_empty() && !self.has_others
    }
}

impl<'a> CallDelta<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut call = Self::default();
        if !scan.object_or_skip()? {
            return Ok(call);
        }
        while let Some(name) = scan.key()? {
            match &*name.decode() {
                "index" => {
                    let index = scan.u64_or_skip()?;
                    let end = scan.position();
                    call.index = index.map(|index| (index, end - index.to_string().len()..end));
                }
                "id" => call.id = scan.string_or_skip()?,
                "type" => skip(scan)?,
                "function" | "custom" => {
                    read::object(scan, |scan, name| {
                        match name {
                            "name" => call.name = scan.string_or_skip()?,
                            "arguments" | "input" => call.arguments = scan.string_or_skip()?,
                            _ => skip(scan)?,
                        }
                        Ok(())
                    })?;
                }
                _ => call.others.push((name, scan.skip()?)),
            }
        }
        Ok(call)
    }
}
