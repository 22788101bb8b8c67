//! Clients that send a head a byte at a time, to hold connections for as long as they may.

use std::{fmt, io, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::args::Args;

/// Between two bytes.
const PACE: Duration = Duration::from_millis(500);
/// What they never finish.
const HEAD: &[u8] = b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\nx-slow: ";

/// How many, at whom, for how long.
#[derive(Debug)]
pub struct Options {
    target: String,
    connections: usize,
    seconds: u64,
}

impl Options {
    /// From the command line.
    pub fn from_args(args: &Args) -> io::Result<Self> {
        Ok(Self {
            target: args.required("target")?,
            connections: args.last("connections")?.unwrap_or(200).clamp(1, 10_000),
            seconds: args.last("seconds")?.unwrap_or(10),
        })
    }
}

/// What became of them.
#[derive(Debug)]
pub struct Outcome {
    cut: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "cut {}", self.cut)
    }
}

/// Keeps so many at it until the time is over: one that is cut off comes again.
pub async fn run(options: &Options) -> io::Result<Outcome> {
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        let target = options.target.clone();
        tasks.spawn_local(async move {
            let mut cut = 0;
            while Instant::now() < end {
                let mut stream = TcpStream::connect(&target).await?;
                cut += usize::from(dribble(&mut stream, end).await.is_err());
            }
            io::Result::Ok(cut)
        });
    }
    let mut cut = 0;
    while let Some(one) = tasks.join_next().await {
        cut += one??;
    }
    Ok(Outcome { cut })
}

async fn dribble(stream: &mut TcpStream, end: Instant) -> io::Result<()> {
    for at in 0.. {
        if Instant::now() >= end {
            break;
        }
        let byte = HEAD.get(at).copied().unwrap_or(b'x');
        stream.write_all(&[byte]).await?;
        sleep(PACE).await;
    }
    Ok(())
}
