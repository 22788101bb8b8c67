//! `tool_choice` after a turn that called injected tools.
//!
//! A client may insist that a tool be called. Where an injected one was all that could be called,
//! it has been called now, and a model that is made to call it again in every turn never comes to
//! answer. So what is forced is then left to the model. Where the client's own tools are among the
//! choice, it stands: the client waits for a call of one of them.

use std::ops::Range;

use crate::{
    api::{
        Api,
        edits::Edits,
        read::{self, decoded, skip},
    },
    json::{Error, Kind, Scanner, Str},
};

/// Of a request body, makes a forced choice free if only tools that `is_injected` knows can be
/// meant. `has_own`: the client brought tools of its own.
pub(super) fn relax(
    api: Api,
    body: &[u8],
    is_injected: impl Fn(&str) -> bool,
    has_own: bool,
) -> Edits {
    let mut edits = Edits::default();
    let mut found = None;
    read::document(body, |scan| {
        read::object(scan, |scan, name| match name {
            "tool_choice" => Choice::read(scan).map(|choice| found = Some(choice)),
            _ => skip(scan),
        })
    });
    let Some(choice) = found else {
        return edits;
    };
    let mut names = choice.names.iter().map(|name| decoded(Some(*name)));
    let names_injected = !choice.has_unnamed && names.all(|name| is_injected(&name));
    let only_injected = names_injected && !(choice.names.is_empty() && has_own);
    if !only_injected {
        return edits;
    }
    match (&*decoded(choice.kind), choice.mode) {
        ("tool" | "any", _) if api == Api::Messages => {
            let free = "{\"type\":\"auto\",\"disable_parallel_tool_use\":true}";
            edits.replace(choice.range, free);
        }
        ("required" | "function", _) => edits.replace(choice.range, "\"auto\""),
        ("allowed_tools", Some((mode, range))) if mode.is("required") => {
            edits.replace(range, "auto");
        }
        _ => {}
    }
    edits
}

/// What a choice says, in any API.
#[derive(Default)]
struct Choice<'a> {
    range: Range<usize>,
    /// The choice itself where it is a string, else its type.
    kind: Option<Str<'a>>,
    /// Of `allowed_tools`, and where it stands without its quotes.
    mode: Option<(Str<'a>, Range<usize>)>,
    /// The tools that it names.
    names: Vec<Str<'a>>,
    /// It speaks of tools that have no name.
    has_unnamed: bool,
}

impl<'a> Choice<'a> {
    fn read(scan: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut choice = Self::default();
        let mut ahead = scan.clone();
        choice.range = scan.skip()?;
        if ahead.kind()? == Kind::String {
            choice.kind = Some(ahead.string()?);
            return Ok(choice);
        }
        read::object(&mut ahead, |scan, name| match name {
            "type" => scan.string_or_skip().map(|kind| choice.kind = kind),
            _ => choice.member(scan, name),
        })?;
        Ok(choice)
    }

    /// Chat has in an object of its own what Responses has beside the type.
    fn member(&mut self, scan: &mut Scanner<'a>, name: &str) -> Result<(), Error> {
        match name {
            "name" => self.names.extend(scan.string_or_skip()?),
            "mode" => {
                let mode = scan.string_or_skip()?;
                self.mode = mode.zip(read::inside(mode, scan));
            }
            "allowed_tools" | "function" => {
                read::object(scan, |scan, name| self.member(scan, name))?;
            }
            "tools" => {
                read::array(scan, |scan| {
                    let before = self.names.len();
                    read::object(scan, |scan, name| self.member(scan, name))?;
                    self.has_unnamed |= self.names.len() == before;
                    Ok(())
                })?;
            }
            _ => skip(scan)?,
        }
        Ok(())
    }
}
