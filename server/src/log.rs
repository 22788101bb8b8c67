//! The log: on stderr, text for people and JSON lines for machines. It never holds a prompt or a secret.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::cli::{LogArgs, LogFormat, LogLevel};

/// Starts logging, at `default` where the user names no level.
pub(crate) fn init(args: LogArgs, default: LogLevel) {
    let level = match args.log.unwrap_or(default) {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let terminal = io::stderr().is_terminal();
    let json = match args.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false);
    if json {
        log.json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    } else {
        log.with_ansi(terminal).init();
    }
}
