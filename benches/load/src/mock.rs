//! The mock provider: reads a request, answers with the prepared reply that `x-load` names.

use std::{io, rc::Rc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use crate::{args::Args, reply::Kind, tools, wire::Connection};

/// Between two events of a paced stream.
const PACE: Duration = Duration::from_millis(2);

/// Where to listen, and for how long.
#[derive(Debug)]
pub struct Options {
    /// An address; port 0 for any.
    pub listen: String,
    /// It ends by itself after so many seconds, whoever forgot it.
    pub seconds: u64,
}

impl Options {
    /// From the command line.
    pub fn from_args(args: &Args) -> io::Result<Self> {
        Ok(Self {
            listen: args
                .last("listen")?
                .unwrap_or_else(|| "127.0.0.1:0".to_owned()),
            seconds: args.last("seconds")?.unwrap_or(1800),
        })
    }
}

/// Prints the address and serves until the time is over.
pub async fn run(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind(&options.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    timeout_at(end, serve(listener)).await.unwrap_or(Ok(()))
}

/// Serves for as long as it is polled.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let replies = Rc::new(Replies::prepare());
    loop {
        let (stream, _) = listener.accept().await?;
        let replies = Rc::clone(&replies);
        tokio::task::spawn_local(async move {
            // A peer that goes away in the middle is its own business: the load generator reports
            // what it sees.
            let _ = converse(Connection::new(stream)?, &replies).await;
            io::Result::Ok(())
        });
    }
}

struct Replies {
    blocking: Vec<Vec<u8>>,
    grouped: Vec<Vec<u8>>,
    idle: Vec<Vec<u8>>,
    stream: Vec<Vec<u8>>,
}

impl Replies {
    fn prepare() -> Self {
        Self {
            blocking: Kind::Blocking.writes(),
            grouped: Kind::Grouped.writes(),
            idle: Kind::Idle.writes(),
            stream: Kind::Stream.writes(),
        }
    }
}

async fn converse(mut connection: Connection, replies: &Replies) -> io::Result<()> {
    while let Some(head) = connection.head().await? {
        if head.is_tools {
            let mut body = Vec::new();
            let collect = |piece: &[u8]| {
                body.extend_from_slice(piece);
                Ok(())
            };
            connection.body(head.length, collect).await?;
            connection.write(&tools::answer(&body)).await?;
            continue;
        }
        connection.body(head.length, |_| Ok(())).await?;
        let kind = head.load.as_deref().and_then(|name| name.parse().ok());
        match kind.unwrap_or(Kind::Blocking) {
            Kind::Blocking | Kind::Large => write_all(&mut connection, &replies.blocking).await?,
            Kind::Grouped => write_all(&mut connection, &replies.grouped).await?,
            Kind::Stream => write_all(&mut connection, &replies.stream).await?,
            Kind::Paced => write_paced(&mut connection, &replies.stream).await?,
            Kind::Idle => {
                write_all(&mut connection, &replies.idle).await?;
                return connection.until_closed().await;
            }
        }
    }
    Ok(())
}

async fn write_all(connection: &mut Connection, writes: &[Vec<u8>]) -> io::Result<()> {
    for bytes in writes {
        connection.write(bytes).await?;
    }
    Ok(())
}

async fn write_paced(connection: &mut Connection, writes: &[Vec<u8>]) -> io::Result<()> {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for bytes in writes {
        ticks.tick().await;
        connection.write(bytes).await?;
    }
    Ok(())
}
