//! `aibridge replay`: is the core still doing what it did?

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use aibridge_core::trace::{self, Ending, Summary, Trouble};

use crate::{Failure, cli::ReplayArgs};

/// Replays each file, and says of each how it went.
///
/// # Errors
/// Sessions do something else, or a file is no trace.
pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let (mut troubles, mut is_unreadable) = (Vec::new(), false);
    for file in &args.files {
        match replay(file) {
            Ok(summary) => writeln!(out, "{}: {}", file.display(), shown(&summary))?,
            Err((what, unreadable)) => {
                is_unreadable |= unreadable;
                troubles.push(format!("{}: {what}", file.display()));
            }
        }
    }
    out.flush()?;
    match (troubles.is_empty(), is_unreadable) {
        (true, _) => Ok(()),
        (false, false) => Err(Failure::Differs(troubles.join("\n"))),
        (false, true) => Err(Failure::Unreadable(troubles.join("\n"))),
    }
}

/// What is wrong, and whether that is the file.
fn replay(file: &Path) -> Result<Summary, (String, bool)> {
    let trace = fs::read(file)
        .map_err(|error| (format!("cannot be read ({error}); check the path"), true))?;
    trace::replay(&trace).map_err(|trouble| {
        let is_file = !matches!(trouble, Trouble::Differs(_));
        (trouble.to_string(), is_file)
    })
}

fn shown(summary: &Summary) -> String {
    let Summary {
        inputs,
        outputs,
        ending,
        unsure,
    } = summary;
    let compared = match unsure {
        None => String::new(),
        Some(why) => format!("; not all contents were compared: {why}"),
    };
    let ends = match ending {
        Ending::Complete => String::new(),
        Ending::Cut => "; the trace is cut off where writing it was interrupted".to_owned(),
        Ending::Early(why) => format!("; the trace ends early: {why}"),
    };
    format!("{inputs} inputs, {outputs} outputs, identical{compared}{ends}")
}
