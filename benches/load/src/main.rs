//! Measures what a proxy costs: a mock provider on one side of it, a load generator on the other.
//!
//! ```text
//! aibridge-load mock      [--listen ADDR] [--seconds N]
//! aibridge-load load      --target ADDR --kind KIND [--path P] [--connections N] [--warmup S] [--seconds S] [--pid N]…
//! aibridge-load idle      --target ADDR [--path P] [--connections N] [--settle S] --pid N…
//! aibridge-load slow      --target ADDR [--connections N] [--seconds S]
//! aibridge-load free-port
//! aibridge-load report    < RESULTS
//! ```
//!
//! `benches/load/run` puts them together. Mock and load share a core while the proxy has one to
//! itself, so both are as cheap as they can be made: one thread, prepared bytes, and just enough
//! HTTP/1.1 for the two to understand each other through any proxy.

#![expect(
    unreachable_pub,
    reason = "a binary has no outside; `pub` says who uses an item within it"
)]

mod args;
mod idle;
mod load;
mod mock;
mod proc;
mod reply;
mod report;
mod slow;
mod tools;
mod wire;

use std::{io, net::TcpListener, process::ExitCode};

use args::Args;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aibridge-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let args = Args::parse(words)?;
    match command.as_str() {
        "mock" => block_on(mock::run(mock::Options::from_args(&args)?)),
        "load" => block_on(async {
            let outcome = load::run(load::Options::from_args(&args)?).await?;
            print!("{outcome}");
            Ok(())
        }),
        "idle" => block_on(async {
            let outcome = idle::run(&idle::Options::from_args(&args)?).await?;
            print!("{outcome}");
            Ok(())
        }),
        "slow" => block_on(async {
            let outcome = slow::run(&slow::Options::from_args(&args)?).await?;
            print!("{outcome}");
            Ok(())
        }),
        "free-port" => {
            println!("{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
            Ok(())
        }
        "report" => {
            print!("{}", report::render(&io::read_to_string(io::stdin())?)?);
            Ok(())
        }
        _ => Err(args::usage(
            "one of mock, load, idle, slow, free-port, report",
        )),
    }
}

/// One thread: mock and load must not take more than their share of a core.
fn block_on<F: Future<Output = io::Result<()>>>(future: F) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
