//! `aibridge check`: is this configuration what I mean?

use std::io::{self, Write};

use crate::{
    Failure,
    cli::CheckArgs,
    config::{Overrides, Settings},
};

/// Prints the configuration as it was understood. It is in the file's own form, but for the masked
/// secrets.
pub(crate) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let settings = Settings::load(args.config.as_deref(), Overrides::default())?;
    let mut out = io::stdout().lock();
    writeln!(out, "# {}: valid", settings.origin)?;
    for warning in &settings.warnings {
        writeln!(out, "# warning: {warning}")?;
    }
    write!(out, "\n{settings}")?;
    Ok(())
}
