//! The load generator: so many connections, each asking again as soon as it is answered, for a
//! while.
//!
//! Every reply is compared with the expected bytes; one that differs ends the run, because a fast
//! wrong answer is no measurement.

use std::{
    cell::Cell,
    fmt, io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    args::Args,
    proc,
    reply::{EVENTS, Kind},
    wire::Connection,
};

/// No exchange takes longer, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to ask, how, and whom to watch meanwhile.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the proxy, or of the mock itself.
    pub target: String,
    /// Path of the requests.
    pub path: String,
    /// What to ask for.
    pub kind: Kind,
    /// Connections at the same time.
    pub connections: usize,
    /// Before the measuring begins.
    pub warmup: Duration,
    /// While measuring.
    pub time: Duration,
    /// Processes whose CPU time is measured.
    pub pids: Vec<u32>,
}

impl Options {
    /// From the command line.
    pub fn from_args(args: &Args) -> io::Result<Self> {
        let seconds = |name, default| -> io::Result<Duration> {
            let given: Option<f64> = args.last(name)?;
            Ok(Duration::from_secs_f64(
                given.unwrap_or(default).clamp(0.0, 600.0),
            ))
        };
        Ok(Self {
            target: args.required("target")?,
            path: args
                .last("path")?
                .unwrap_or_else(|| "/anthropic/v1/messages".to_owned()),
            kind: args.required("kind")?,
            connections: args.last("connections")?.unwrap_or(1).clamp(1, 4096),
            warmup: seconds("warmup", 0.5)?,
            time: seconds("seconds", 3.0)?,
            pids: args.all("pid")?,
        })
    }
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    kind: Kind,
    /// Whole replies' worth of body bytes: replies under way when the measuring began or ended
    /// count in part.
    replies: f64,
    seconds: f64,
    cpu_nanos: u64,
    reads: u64,
    /// Of whole exchanges.
    latencies: Vec<Duration>,
    /// Of the first bytes of their bodies.
    firsts: Vec<Duration>,
}

impl Outcome {
    /// The latency that `share` of the exchanges did not exceed, in microseconds.
    fn quantile(&self, share: f64) -> f64 {
        quantile(&self.latencies, share)
    }
}

/// The one of `sorted` that `share` of them do not exceed, in microseconds.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index in a list in memory"
    )]
    let at = (sorted.len() as f64 * share) as usize;
    let found = sorted.get(at.min(sorted.len().saturating_sub(1)));
    found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
}
/// One `metric value` pair a line, as `report` reads them.
impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "seconds, not years")]
        let (cpu, reads) = (self.cpu_nanos as f64 / 1e9, self.reads as f64);
        writeln!(out, "per_second {:.1}", self.replies / self.seconds)?;
        writeln!(out, "cpu_per_1000 {:.6}", cpu / self.replies * 1000.0)?;
        writeln!(out, "busy {:.4}", cpu / self.seconds)?;
        writeln!(out, "p50_us {:.2}", self.quantile(0.5))?;
        writeln!(out, "p99_us {:.2}", self.quantile(0.99))?;
        if self.kind.streams() {
            #[expect(clippy::cast_precision_loss, reason = "a hundred")]
            let events = EVENTS as f64;
            writeln!(
                out,
                "events_per_second {:.0}",
                self.replies * events / self.seconds
            )?;
            writeln!(out, "reads_per_reply {:.2}", reads / self.replies)?;
            writeln!(out, "first_p50_us {:.2}", quantile(&self.firsts, 0.5))?;
        }
        Ok(())
    }
}

/// What all connections count together.
#[derive(Debug, Default)]
struct Shared {
    measuring: Cell<bool>,
    over: Cell<bool>,
    body_bytes: Cell<u64>,
    reads: Cell<u64>,
}

/// Warms up, measures, and lets the last exchanges end.
pub async fn run(options: Options) -> io::Result<Outcome> {
    let shared = Rc::new(Shared::default());
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        tasks.spawn_local(ask_until_over(options.clone(), Rc::clone(&shared)));
    }
    let watched = async {
        sleep(options.warmup).await;
        shared.measuring.set(true);
        let (body, reads) = (shared.body_bytes.get(), shared.reads.get());
        let (begin, cpu) = (Instant::now(), proc::cpu_nanos(&options.pids)?);
        sleep(options.time).await;
        let (time, cpu) = (
            begin.elapsed(),
            proc::cpu_nanos(&options.pids)?.saturating_sub(cpu),
        );
        shared.measuring.set(false);
        shared.over.set(true);
        io::Result::Ok((
            time,
            cpu,
            shared.body_bytes.get() - body,
            shared.reads.get() - reads,
        ))
    };
    let (mut latencies, mut firsts) = (Vec::new(), Vec::new());
    let ended = async {
        while let Some(task) = tasks.join_next().await {
            for exchange in task?? {
                latencies.push(exchange.whole);
                firsts.push(exchange.first);
            }
        }
        io::Result::Ok(())
    };
    let ((time, cpu_nanos, body, reads), ()) = tokio::try_join!(watched, ended)?;
    latencies.sort_unstable();
    firsts.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "bytes of a few seconds")]
    let replies = body as f64 / options.kind.expected().len() as f64;
    if replies < 1.0 {
        return Err(io::Error::other("no reply within the measured time"));
    }
    Ok(Outcome {
        kind: options.kind,
        replies,
        seconds: time.as_secs_f64(),
        cpu_nanos,
        reads,
        latencies,
        firsts,
    })
}

async fn ask_until_over(options: Options, shared: Rc<Shared>) -> io::Result<Vec<Exchange>> {
    let mut connection = Connection::open(&options.target).await?;
    let request = options.kind.request(&options.path);
    let expected = options.kind.expected();
    let mut exchanges = Vec::new();
    while !shared.over.get() {
        let begin = Instant::now();
        let exchange = exchange(&mut connection, &request, &expected, &shared);
        // The timer costs a little; streams and single requests pay the same for every proxy.
        let first = timeout(PATIENCE, exchange).await??;
        if shared.measuring.get() {
            exchanges.push(Exchange {
                whole: begin.elapsed(),
                first: first.saturating_duration_since(begin),
            });
        }
    }
    Ok(exchanges)
}

/// How long an exchange took.
#[derive(Debug)]
struct Exchange {
    whole: Duration,
    first: Duration,
}

/// Asks once, and tells when the first bytes of the reply's body came.
async fn exchange(
    connection: &mut Connection,
    request: &[u8],
    expected: &[u8],
    shared: &Shared,
) -> io::Result<Instant> {
    let reads = connection.reads;
    connection.write(request).await?;
    let head = connection
        .head()
        .await?
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    let mut left = expected;
    let mut first = None;
    let compare = |bytes: &[u8]| {
        first.get_or_insert_with(Instant::now);
        left = left
            .strip_prefix(bytes)
            .ok_or_else(|| io::Error::other("the reply's body differs"))?;
        shared
            .body_bytes
            .set(shared.body_bytes.get() + bytes.len() as u64);
        Ok(())
    };
    connection.body(head.length, compare).await?;
    if !left.is_empty() {
        return Err(io::Error::other("the reply's body is cut short"));
    }
    shared
        .reads
        .set(shared.reads.get() + connection.reads - reads);
    Ok(first.unwrap_or_else(Instant::now))
}

#[cfg(test)]
mod tests {
    use tokio::{net::TcpListener, task::LocalSet};

    use super::*;
    use crate::{idle, mock};

    fn with_mock<F: Future>(test: impl FnOnce(String) -> F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap().to_string();
            tokio::task::spawn_local(mock::serve(listener));
            test(target).await
        })
    }

    fn options(target: String, kind: Kind) -> Options {
        Options {
            target,
            path: "/v1/messages".to_owned(),
            kind,
            connections: 2,
            warmup: Duration::ZERO,
            time: Duration::from_millis(300),
            pids: vec![std::process::id()],
        }
    }

    #[test]
    fn every_kind_of_exchange_completes_against_the_mock() {
        let kinds = [
            Kind::Blocking,
            Kind::Grouped,
            Kind::Large,
            Kind::Paced,
            Kind::Stream,
        ];
        for kind in kinds {
            let outcome = with_mock(|target| run(options(target, kind))).unwrap();
            assert!(outcome.replies >= 1.0, "{kind:?}");
            assert!(outcome.quantile(0.99) >= outcome.quantile(0.5), "{kind:?}");
            assert!(outcome.to_string().starts_with("per_second "), "{kind:?}");
        }
    }

    #[test]
    fn a_reply_that_differs_ends_the_run() {
        let error = with_mock(|target| async move {
            let mut connection = Connection::open(&target).await.unwrap();
            let request = Kind::Blocking.request("/v1/messages");
            exchange(&mut connection, &request, &[b'x'; 300], &Shared::default())
                .await
                .unwrap_err()
        });
        assert_eq!(error.to_string(), "the reply's body differs");
    }

    #[test]
    fn idle_streams_open_and_stay_open() {
        let outcome = with_mock(|target| async move {
            let pids = vec![std::process::id()];
            idle::run(&idle::Options {
                target,
                path: "/".to_owned(),
                connections: 8,
                settle: Duration::ZERO,
                pids,
            })
            .await
            .unwrap()
        });
        assert!(outcome.to_string().starts_with("kib_per_stream "));
    }
}
