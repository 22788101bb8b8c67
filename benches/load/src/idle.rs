//! Idle streams: what a proxy keeps in memory for a stream that has begun and fallen silent.

use std::{fmt, io, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{args::Args, proc, reply::Kind, wire::Connection};

/// All streams have begun by then, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Streams opened and closed before the count begins, so that what is kept once per process is
/// there.
const WARMUP: usize = 8;

/// How many streams through whom.
#[derive(Debug)]
pub struct Options {
    /// Address of the proxy.
    pub target: String,
    /// Path of the requests.
    pub path: String,
    /// Streams open at the same time.
    pub connections: usize,
    /// For buffers that are given back once a stream is silent; how long they stay open.
    pub settle: Duration,
    /// Processes whose memory is measured.
    pub pids: Vec<u32>,
}

impl Options {
    /// From the command line.
    pub fn from_args(args: &Args) -> io::Result<Self> {
        Ok(Self {
            target: args.required("target")?,
            path: args
                .last("path")?
                .unwrap_or_else(|| "/anthropic/v1/messages".to_owned()),
            connections: args.last("connections")?.unwrap_or(1000).clamp(1, 10_000),
            settle: Duration::from_secs(args.last("settle")?.unwrap_or(1)),
            pids: args.all("pid")?,
        })
    }
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    kib_per_stream: f64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "kib_per_stream {:.2}", self.kib_per_stream)
    }
}

/// Opens the streams and reads the resident memory before and while they are open.
pub async fn run(options: &Options) -> io::Result<Outcome> {
    drop(open(options, WARMUP).await?);
    sleep(options.settle).await;
    let before = proc::resident_bytes(&options.pids)?;
    let streams = open(options, options.connections).await?;
    sleep(options.settle).await;
    let during = proc::resident_bytes(&options.pids)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory of one process, a few thousand streams"
    )]
    let kib_per_stream = (during as f64 - before as f64) / 1024.0 / streams.len() as f64;
    Ok(Outcome { kib_per_stream })
}

/// As many streams, each with its first events received.
async fn open(options: &Options, count: usize) -> io::Result<Vec<Connection>> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (target, request) = (options.target.clone(), Kind::Idle.request(&options.path));
        tasks.spawn_local(async move { begin(&target, &request).await });
        // One after the other: a listener's queue is not what is measured.
        tokio::task::yield_now().await;
    }
    let collect = async {
        let mut streams = Vec::with_capacity(count);
        while let Some(stream) = tasks.join_next().await {
            streams.push(stream??);
        }
        io::Result::Ok(streams)
    };
    timeout(PATIENCE, collect).await?
}

async fn begin(target: &str, request: &[u8]) -> io::Result<Connection> {
    let mut connection = Connection::open(target).await?;
    connection.write(request).await?;
    let head = connection
        .head()
        .await?
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    let mut left = Kind::Idle.expected().len();
    while left > 0 {
        let size = connection.chunk_size().await?;
        left = left
            .checked_sub(size)
            .filter(|_| size > 0)
            .ok_or_else(|| io::Error::other("an unexpected chunk"))?;
        connection.take(size, &mut |_| Ok(())).await?;
        connection.line().await?;
    }
    Ok(connection)
}
