//! `aibridge init`: a configuration to begin with, every key of it explained.

use std::{fs::OpenOptions, io::Write};

use crate::{Failure, cli::InitArgs};

/// What is written.
const TEMPLATE: &str = include_str!("init/aibridge.toml");

/// Writes it, if nothing is there.
pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    let shown = args.file.display();
    let fail = |error| Failure::Runtime(format!("{shown}: {error}; choose another file"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Somebody may put a secret into it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&args.file).map_err(fail)?;
    file.write_all(TEMPLATE.as_bytes()).map_err(fail)?;
    println!(
        "{shown} is written. Set ANTHROPIC_API_KEY or change `keys` in it, and then:\n\n  aibridge check --config {shown}\n  aibridge serve --config {shown}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Settings, Sources};

    fn read(text: &str) -> Result<Settings, String> {
        let sources = Sources {
            env: Box::new(|name| Ok(format!("secret-of-{name}"))),
            folder: "/tmp".into(),
        };
        Settings::from_toml("aibridge.toml", text, &sources, Overrides::default())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_valid_and_means_the_defaults() {
        let written = read(TEMPLATE).unwrap();
        let bare = "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"https://api.anthropic.com\"\nkeys = [\"env:ANTHROPIC_API_KEY\"]\n[records]\nsqlite = \"aibridge.db\"\n";
        assert_eq!(written.to_string(), read(bare).unwrap().to_string());
    }

    /// What stands after `#` is what it says: the defaults change nothing, and every key is known.
    #[test]
    fn all_that_is_commented_out_is_valid_too() {
        let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        let needs_files = |line: &str| line.contains(".pem") || line.contains("file:");
        let lines = TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if is_key(rest) && !needs_files(rest) => rest,
            _ => line,
        });
        let all = lines.collect::<Vec<_>>().join("\n");
        let settings = read(&all).unwrap();
        assert_eq!(settings.clients.len(), 1);
        assert_eq!(settings.providers.len(), 2);
        assert_eq!(settings.tool_servers.len(), 1);
        assert!(settings.providers[0].breaker.is_some());
        assert_eq!(settings.tools, aibridge_core::config::ToolLimits::default());
        assert_eq!(
            settings.capacity,
            aibridge_core::config::Capacity::default()
        );
        assert_eq!(
            settings.timeouts,
            aibridge_core::config::Timeouts::default()
        );
    }
}
