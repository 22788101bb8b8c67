//! An adapter around a configuration, for suites that look at real sockets.
#![allow(dead_code, unreachable_pub, reason = "each suite uses a part of it")]

mod adapter;

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use aibridge_core::{config::Config, record::Record};
use aibridge_io::{Builder, Server, Sink};
use aibridge_testkit::{Records, key_states};

pub use adapter::Adapter;

/// How long a record may be late before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running bridge. Ends when it is dropped.
#[derive(Debug)]
pub struct Gateway<A: Adapter> {
    addr: SocketAddr,
    server: Arc<Server<A>>,
    kept: Arc<Kept>,
    host: A::Host,
}

#[derive(Debug, Default)]
struct Kept {
    records: Mutex<Records>,
    came: Condvar,
}

impl Sink for Kept {
    fn keep(&self, record: Record) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.0.push(record);
        self.came.notify_all();
    }
}

impl<A: Adapter> Gateway<A> {
    /// A bridge of this configuration, on a free port of 127.0.0.1.
    pub fn start(config: Config) -> Self {
        Self::build(Server::builder(config))
    }

    /// A bridge built like this, on a free port of 127.0.0.1.
    pub fn build(builder: Builder<A>) -> Self {
        let kept = Arc::new(Kept::default());
        let server = builder.seed(7).sink(Arc::clone(&kept) as _).build();
        let server = Arc::new(server.expect("the configuration makes a server"));
        let host = A::host();
        let addr = serve(&host, &server);
        Self {
            addr,
            server,
            kept,
            host,
        }
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The states of a provider's keys, by name.
    pub fn key_states(&self, provider: &str) -> Vec<&'static str> {
        let now = self.server.now();
        self.server
            .with_bridge(|bridge| key_states(bridge, now, provider))
    }

    /// What was recorded, once so many interceptions have ended: a record may be kept a moment
    /// after its reply has been read.
    pub fn records(&self, ended: usize) -> Records {
        let pending = |records: &mut Records| records.all_ended().len() < ended;
        let records = self.kept.records.lock();
        let records = records.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .kept
            .came
            .wait_timeout_while(records, PATIENCE, pending);
        let (records, result) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "no {ended} have ended: {records:#?}");
        records.clone()
    }

    /// Waits until so many tools are on offer.
    pub fn wait_for_tools(&self, count: usize) {
        let began = std::time::Instant::now();
        let offered = || {
            let servers = self.server.with_bridge(|bridge| bridge.tool_servers());
            servers
                .iter()
                .map(|server| server.offered.len())
                .sum::<usize>()
        };
        while offered() < count {
            assert!(began.elapsed() < PATIENCE, "no {count} tools are offered");
            std::thread::yield_now();
        }
    }

    /// Stops in order; true once nothing runs any more.
    pub fn drain(&self, limit: Duration) {
        A::block_on(&self.host, self.server.drain(limit));
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

/// Has a bridge serve a free port of 127.0.0.1, and tells which.
pub fn serve<A: Adapter>(host: &A::Host, server: &Arc<Server<A>>) -> SocketAddr {
    let (listener, addr) = A::listen(host);
    let serving = Arc::clone(server);
    A::run(host, async move { serving.serve(listener).await });
    addr
}
