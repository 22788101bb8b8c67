//! A client that has its whole reply finds it on record.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use aibridge_core::{api::Api, record::Record};
use aibridge_io::Sink;
use aibridge_testkit::{
    APIS, Fixture, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};

use crate::{Bridge, Runtime, gateway, gateway::Adapter};

/// Keeps nothing for good until a thread of its own has had the time to.
#[derive(Debug, Default)]
struct Deferring {
    ended: AtomicU64,
    committed: Arc<AtomicU64>,
}

impl Sink for Deferring {
    fn keep(&self, record: Record) {
        if matches!(record, Record::Ended(..)) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn mark(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    fn poll_commit(&self, context: &mut Context<'_>, mark: u64) -> Poll<()> {
        if self.committed.load(Ordering::SeqCst) >= mark {
            return Poll::Ready(());
        }
        let (committed, waker) = (Arc::clone(&self.committed), context.waker().clone());
        thread::spawn(move || {
            committed.fetch_max(mark, Ordering::SeqCst);
            waker.wake();
        });
        Poll::Pending
    }
}

/// A bridge before this upstream, whose records go there.
fn before(upstream: &Server, sink: Arc<impl Sink + 'static>) -> Arc<Bridge> {
    let config = setup::config_at(&upstream.target(), &KEYS[..1]);
    Arc::new(Bridge::builder(config).sink(sink as _).build().unwrap())
}

#[test]
fn what_a_client_has_seen_complete_was_committed_before() {
    const REQUESTS: u64 = 20;
    for (api, streaming) in APIS.into_iter().flat_map(|api| [(api, false), (api, true)]) {
        let fixture = Fixture::simple(api);
        let script = Script::in_order((0..REQUESTS).map(|_| fixture.reply(streaming)));
        let upstream = Server::start(&script).unwrap();
        let sink = Arc::new(Deferring::default());
        let bridge = before(&upstream, Arc::clone(&sink));
        let host = Runtime::host();
        let mut client = Client::connect(gateway::serve(&host, &bridge)).unwrap();
        for asked in 1..=REQUESTS {
            let reply = client.ask(&fixture.ask(streaming)).unwrap();
            assert_eq!(reply.status, 200);
            assert_eq!(
                sink.committed.load(Ordering::SeqCst),
                asked,
                "{api:?} {streaming}"
            );
        }
        script.verify();
    }
}

/// Keeps the first reply waiting until it is let go.
#[derive(Debug, Default)]
struct Stalling {
    ended: AtomicU64,
    let_go: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Stalling {
    /// Until somebody waits.
    fn wait_for_one(&self) {
        while self.waiting.lock().unwrap().is_none() {
            thread::yield_now();
        }
    }
}

impl Sink for Stalling {
    fn keep(&self, record: Record) {
        if matches!(record, Record::Ended(..)) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn mark(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    fn poll_commit(&self, context: &mut Context<'_>, mark: u64) -> Poll<()> {
        let mut waiting = self.waiting.lock().unwrap();
        if mark > 1 || self.let_go.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        *waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

#[test]
fn a_sink_that_stalls_holds_up_the_end_of_that_reply_and_nothing_else() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order((0..2).map(|_| fixture.reply(true)));
        let upstream = Server::start(&script).unwrap();
        let sink = Arc::new(Stalling::default());
        let bridge = before(&upstream, Arc::clone(&sink));
        let host = Runtime::host();
        let address = gateway::serve(&host, &bridge);
        let ask = || {
            let mut client = Client::connect(address).unwrap();
            client.ask(&fixture.ask(true)).unwrap()
        };
        thread::scope(|scope| {
            let stalled = scope.spawn(ask);
            sink.wait_for_one();
            let other = ask();
            assert!(!stalled.is_finished(), "{api:?}");
            sink.let_go.store(true, Ordering::SeqCst);
            sink.waiting.lock().unwrap().take().unwrap().wake();
            assert_eq!(stalled.join().unwrap().body, other.body, "{api:?}");
        });
        script.verify();
    }
}

#[test]
fn a_sink_that_never_commits_does_not_outlast_the_drain() {
    let fixture = Fixture::simple(Api::Messages);
    let script = Script::in_order([fixture.reply(true)]);
    let upstream = Server::start(&script).unwrap();
    let sink = Arc::new(Stalling::default());
    let bridge = before(&upstream, Arc::clone(&sink));
    let host = Runtime::host();
    let mut client = Client::connect(gateway::serve(&host, &bridge)).unwrap();
    client.send(&fixture.ask(true).bytes()).unwrap();
    sink.wait_for_one();
    Runtime::block_on(&host, bridge.drain(Duration::ZERO));
    assert_eq!(bridge.connections(), 0);
    assert!(client.answer().is_err(), "the end was not committed");
    script.verify();
}
