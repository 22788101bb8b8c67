//! A client that has its whole reply finds it on record.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use aibridge_core::record::Record;
use aibridge_io::Sink;
use aibridge_testkit::{
    APIS, Fixture, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};

use crate::{Bridge, Runtime, gateway, gateway::Adapter};

/// Keeps nothing for good until it is told to.
#[derive(Debug, Default)]
struct Deferring {
    ended: AtomicUsize,
    committed: AtomicUsize,
}

impl Sink for Deferring {
    fn keep(&self, record: Record) {
        if matches!(record, Record::Ended(..)) {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn commit(&self) {
        let ended = self.ended.load(Ordering::SeqCst);
        self.committed.store(ended, Ordering::SeqCst);
    }
}

#[test]
fn what_a_client_has_seen_complete_was_committed_before() {
    const REQUESTS: usize = 20;
    for (api, streaming) in APIS.into_iter().flat_map(|api| [(api, false), (api, true)]) {
        let fixture = Fixture::simple(api);
        let script = Script::in_order((0..REQUESTS).map(|_| fixture.reply(streaming)));
        let upstream = Server::start(&script).unwrap();
        let sink = Arc::new(Deferring::default());
        let config = setup::config_at(&upstream.target(), &KEYS[..1]);
        let builder = Bridge::builder(config).sink(Arc::clone(&sink) as _);
        let bridge = Arc::new(builder.build().unwrap());
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
