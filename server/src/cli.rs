//! The command line.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config;

/// A bridge between AI clients and AI providers.
///
/// It holds an organisation's API keys, picks one for each call, fails over to the next when a key
/// is rate-limited or rejected, records who used what, and relays everything else untouched.
#[derive(Debug, Parser)]
#[command(name = "aibridge", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the bridge
    #[command(long_about = SERVE)]
    Serve(ServeArgs),
    /// Validate the configuration and print it resolved, secrets masked.
    ///
    /// Exits with 2 if it is not valid, naming file, line, key and fix of everything that is wrong.
    Check(CheckArgs),
    /// Write a configuration to begin with, every key explained
    Init(InitArgs),
    /// Feed recorded traces through the core again, and compare what it does bit for bit.
    ///
    /// `[trace] dir` of the configuration has `serve` write them. Exits with 0 if all is identical,
    /// with 1 if not, and says where it first differs; with 2 if a file is no trace of this
    /// version's.
    Replay(ReplayArgs),
    /// See it work: a scripted provider, the bridge in front of it, a failover on each API. No
    /// keys, no network.
    ///
    /// Exits with 0 only if everything went as it should.
    Demo(DemoArgs),
}

const SERVE: &str = "Run the bridge.\n\n\
    Without --config the providers come from ANTHROPIC_API_KEY and OPENAI_API_KEY (comma-separated lists of keys), \
    ANTHROPIC_BASE_URL and OPENAI_BASE_URL. SIGTERM and SIGINT let running requests finish; a second one exits at once. SIGHUP reads the configuration again.";

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where clients connect, in place of the configured address [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR", value_parser = config::socket_addr)]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the admin endpoints are, in place of the configured address [default: 127.0.0.1:8788]
    #[arg(long, value_name = "ADDR", value_parser = config::socket_addr)]
    pub(crate) admin: Option<SocketAddr>,
    /// Worker threads [default: one per available core]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file (TOML); without it, the environment is checked
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where to; nothing that is there is overwritten
    #[arg(value_name = "FILE", default_value = "aibridge.toml")]
    pub(crate) file: PathBuf,
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The traces
    #[arg(value_name = "TRACE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the bridge up afterwards, to be tried by hand
    #[arg(long)]
    pub(crate) hold: bool,
}

/// Options of the log.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogArgs {
    /// How much is logged to stderr [default: info; demo: error]
    #[arg(
        long,
        value_name = "LEVEL",
        env = "AIBRIDGE_LOG",
        global = true,
        hide_env_values = true
    )]
    pub(crate) log: Option<LogLevel>,
    /// How it is written: text for people, JSON lines for machines, auto for text on a terminal and
    /// JSON otherwise
    #[arg(long, value_name = "FORMAT", global = true, default_value = "auto")]
    pub(crate) log_format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing
    Off,
    /// What keeps the bridge from working
    Error,
    /// And what deserves a look, such as keys out of use
    Warn,
    /// And a line per interception
    Info,
    /// And what is passed through
    Debug,
    /// And everything else
    Trace,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON lines otherwise
    Auto,
    /// JSON lines
    Json,
    /// Text
    Text,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_help() {
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
        }
    }
}
