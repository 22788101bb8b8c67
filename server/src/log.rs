//! The log: on stderr, text for people and JSON lines for machines. It never holds a prompt or a
//! secret.

use std::{
    io::{self, IsTerminal},
    panic, thread,
};

use tracing::{error, level_filters::LevelFilter};

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
    panic::set_hook(Box::new(panicked));
}

/// Logs a panic like everything else: where it was, and not what it said, which may quote a prompt
/// or a secret.
fn panicked(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let thread = thread::current();
    error!(
        place,
        thread = thread.name().unwrap_or("unnamed"),
        "panic: please report it as a bug"
    );
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// Not a test: what the one below looks at, in a process of its own.
    #[test]
    #[ignore = "it panics"]
    fn a_process_that_panics() {
        let log = match env::var("AIBRIDGE_TEST_LOG").as_deref() {
            Ok("off") => LogLevel::Off,
            _ => LogLevel::Error,
        };
        let log_format = LogFormat::Json;
        let log = Some(log);
        init(LogArgs { log, log_format }, LogLevel::Info);
        let quoted = env::args().count();
        panic!("the key is sk-secret, one of {quoted}");
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_with_its_place_alone() {
        for (level, lines) in [("error", 1), ("off", 0)] {
            let run = Command::new(env::current_exe().unwrap())
                .args(["--exact", "log::tests::a_process_that_panics"])
                .args(["--ignored", "--nocapture", "--test-threads=1"])
                .env("AIBRIDGE_TEST_LOG", level)
                .output()
                .unwrap();
            let log = String::from_utf8(run.stderr).unwrap();
            assert_eq!(log.lines().count(), lines, "{level}: {log}");
            assert!(!log.contains("sk-secret"), "{log}");
            if let Some(line) = log.lines().next() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["level"], "ERROR");
                assert!(line["place"].as_str().unwrap().contains("log.rs:"));
            }
        }
    }
}
