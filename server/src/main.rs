//! The `aibridge` binary: configuration, listeners, records and a demo around the bridge of
//! `aibridge-core`, driven over sockets by `aibridge-tokio`.

mod access;
mod admin;
mod bridge;
mod check;
mod cli;
mod clients;
mod config;
mod demo;
mod init;
mod log;
mod metrics;
mod records;
mod reload;
mod replay;
mod serve;
mod system;
mod trace;

use std::{fmt, io, process::ExitCode};

use clap::Parser;

use cli::{Cli, Command, LogLevel};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = match cli.command {
        Command::Serve(_) | Command::Check(_) | Command::Init(_) | Command::Replay(_) => {
            LogLevel::Info
        }
        // The timeline tells it all; only what it does not expect may stand beside it.
        Command::Demo(_) => LogLevel::Error,
    };
    log::init(cli.log, default);
    let result = match &cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Replay(args) => replay::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit_code()
        }
    }
}

/// Why a command failed, by what the caller can do about it.
#[derive(Debug)]
enum Failure {
    /// The configuration is wrong: exit code 2, as for wrong usage.
    Config(config::Error),
    /// What was replayed went otherwise: exit code 1.
    Differs(String),
    /// Something did not work: exit code 1.
    Runtime(String),
    /// What was to be replayed is no trace: exit code 2.
    Unreadable(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Unreadable(_) => ExitCode::from(2),
            Self::Differs(_) | Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Differs(what) | Self::Unreadable(what) => f.write_str(what),
            Self::Runtime(what) => write!(f, "aibridge: {what}"),
        }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Runtime(error.to_string())
    }
}
