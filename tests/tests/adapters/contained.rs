//! A panic takes its own connection with it, and nothing else.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aibridge_core::{
    bridge::Load,
    record::{Outcome, Record},
};
use aibridge_io::Sink;
use aibridge_testkit::{
    APIS, Fixture, Records, Script,
    setup::{self, KEYS},
    sockets::{Client, Server},
};

use crate::{
    Bridge, Runtime,
    gateway::{self, Adapter},
};

/// How long a session may take to end before the test fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// Panics once, when a prompt is to be kept.
#[derive(Default)]
struct Faulty {
    has_panicked: AtomicBool,
    kept: Mutex<Records>,
}

impl Sink for Faulty {
    fn keep(&self, record: Record) {
        let is_prompt = matches!(record, Record::Prompt(..));
        assert!(
            !is_prompt || self.has_panicked.swap(true, Ordering::Relaxed),
            "as the test wants it"
        );
        self.kept.lock().unwrap().0.push(record);
    }
}

#[test]
fn others_are_served_on_and_what_was_lost_is_on_record() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(false), fixture.reply(false)]);
        let upstream = Server::start(&script).unwrap();
        let sink = Arc::new(Faulty::default());
        let config = setup::config_at(&upstream.target(), &KEYS[..1]);
        let builder = Bridge::builder(config).sink(Arc::clone(&sink) as _);
        let bridge = Arc::new(builder.build().unwrap());
        let host = Runtime::host();
        let address = gateway::serve(&host, &bridge);

        // It is idle when the other's session panics, and does not notice.
        let mut bystander = Client::connect(address).unwrap();
        bystander.ask(&fixture.ask(false)).unwrap_err();
        let mut next = Client::connect(address).unwrap();
        for _ in 0..2 {
            assert_eq!(next.ask(&fixture.ask(false)).unwrap().status, 200);
        }
        drop(next);

        assert_eq!(bridge.panics(), 1);
        let kept = sink.kept.lock().unwrap().clone();
        let outcomes: Vec<_> = kept.all_ended().iter().map(|ended| ended.outcome).collect();
        assert_eq!(outcomes, [Outcome::Cancelled, Outcome::Ok, Outcome::Ok]);
        let began = Instant::now();
        let load = || bridge.with_bridge(|bridge| bridge.load());
        while load() != Load::default() {
            assert!(began.elapsed() < PATIENCE, "{:?} is held", load());
            std::thread::yield_now();
        }
        script.verify();
    }
}
