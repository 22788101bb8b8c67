use super::*;
use crate::{
    api::Vendor,
    config::Capacity,
    interception::{Answer as Told, Query as Asks},
    keypool::{Exhausted, Fate, Reason, Verdict, Walker},
    target::Target,
};

const NOW: Instant = Instant::from_secs(100);

fn target() -> Target {
    Target {
        host: "api.example".into(),
        port: 443,
        tls: true,
    }
}

fn bridge(keys: &[&str]) -> Bridge {
    let provider = Provider::new("p", Vendor::Anthropic, target(), "").with_keys(keys);
    let config = Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    };
    Bridge::new(Arc::new(config), 1).unwrap()
}

fn connect(bridge: &mut Bridge, now: Instant, fresh: bool) -> (ConnId, bool) {
    match bridge.answer(
        now,
        Query::Connect {
            target: target(),
            fresh,
        },
    ) {
        Answer::Connect { conn, parked } => (conn, parked),
        answer => panic!("{answer:?}"),
    }
}

fn lease(bridge: &mut Bridge, now: Instant, walker: Walker) -> (Result<usize, Exhausted>, Walker) {
    let query = Asks::Lease {
        provider: bridge.config().providers.first().map(Arc::clone).unwrap(),
        walker,
        model: None,
        session: None,
    };
    match bridge.answer_interception(now, query) {
        Told::Lease(lease, walker) => (lease.map(|lease| lease.index), walker),
        other => panic!("no lease: {other:?}"),
    }
}

#[test]
fn a_parked_connection_is_used_again_until_it_expires() {
    let mut bridge = bridge(&["k0"]);
    let (first, parked) = connect(&mut bridge, NOW, false);
    assert!(!parked && first == ConnId::new(1));
    bridge.park(NOW, first, target());
    assert_eq!(connect(&mut bridge, NOW, true), (ConnId::new(2), false));
    assert_eq!(connect(&mut bridge, NOW, false), (first, true));

    bridge.park(NOW, first, target());
    let expires = bridge.poll_timeout().unwrap();
    assert_eq!(expires, NOW + Config::default().timeouts.upstream_idle);
    bridge.handle_timeout(expires);
    assert_eq!(
        (bridge.poll_close(), bridge.poll_close()),
        (Some(first), None)
    );
    assert_eq!(
        connect(&mut bridge, expires, false),
        (ConnId::new(3), false)
    );
}

#[test]
fn a_draining_bridge_admits_and_keeps_nothing() {
    let mut bridge = bridge(&["k0"]);
    let (conn, _) = connect(&mut bridge, NOW, false);
    bridge.park(NOW, conn, target());
    bridge.drain();
    assert!(bridge.is_draining());
    assert_eq!(bridge.poll_close(), Some(conn));
    let refused = bridge.answer(NOW, Query::Admit { bytes: 0 });
    assert!(matches!(refused, Answer::Admit(Err(Refused::Draining(_)))));
    bridge.park(NOW, conn, target());
    assert_eq!(bridge.poll_close(), Some(conn));
}

#[test]
fn a_paused_bridge_admits_nothing_until_it_goes_on() {
    let mut bridge = bridge(&["k0"]);
    let wait = Duration::from_secs(5);
    bridge.pause(Some(wait));
    let refused = bridge.answer(NOW, Query::Admit { bytes: 0 });
    assert!(matches!(refused, Answer::Admit(Err(Refused::Unrecorded(it))) if it == wait));
    assert_eq!(
        lease(&mut bridge, NOW, Walker::new()).0,
        Ok(0),
        "what runs goes on"
    );
    bridge.pause(None);
    assert!(matches!(
        bridge.answer(NOW, Query::Admit { bytes: 0 }),
        Answer::Admit(Ok(_))
    ));
}

#[test]
fn connections_are_counted() {
    let mut bridge = bridge(&["k0"]);
    let (first, _) = connect(&mut bridge, NOW, false);
    bridge.park(NOW, first, target());
    connect(&mut bridge, NOW, false);
    let (second, _) = connect(&mut bridge, NOW, true);
    bridge.park(NOW, second, target());
    let connections = Connections {
        idle: 1,
        opened: 2,
        reused: 1,
    };
    assert_eq!(bridge.connections(), connections);
}

#[test]
fn a_reported_key_is_passed_over_until_it_is_reset() {
    let mut bridge = bridge(&["k0", "k1"]);
    let (first, walker) = lease(&mut bridge, NOW, Walker::new());
    assert_eq!(first, Ok(0));
    let verdict = Verdict::next_key(Fate::Retire(Reason::Unauthorized));
    let key = crate::keypool::KeyId(0);
    let report = Asks::Report {
        provider: "p".into(),
        key,
        verdict,
        model: None,
    };
    let Told::Reported(Some(transition)) = bridge.answer_interception(NOW, report) else {
        panic!("no transition");
    };
    assert_eq!(
        (transition.from.as_str(), transition.to.as_str()),
        ("valid", "permanent")
    );
    assert_eq!(lease(&mut bridge, NOW, walker).0, Ok(1));
    assert_eq!(lease(&mut bridge, NOW, Walker::new()).0, Ok(1));

    assert_eq!(
        bridge.reset_key(NOW, "p", 0).unwrap().state.as_str(),
        "valid"
    );
    assert!(bridge.reset_key(NOW, "p", 2).is_none() && bridge.reset_key(NOW, "q", 0).is_none());
    assert_eq!(lease(&mut bridge, NOW, Walker::new()).0, Ok(0));
}

#[test]
fn a_provider_without_keys_has_none_to_lease() {
    let mut bridge = bridge(&[]);
    assert_eq!(
        lease(&mut bridge, NOW, Walker::new()).0,
        Err(Exhausted::Unauthorized)
    );
    assert!(bridge.keys(NOW)[0].keys.is_empty());
}

#[test]
fn bad_keys_are_named_with_their_provider() {
    let provider = Provider::new("p", Vendor::OpenAi, target(), "/v1").with_keys(["k", "k"]);
    let config = Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    };
    let error = Bridge::new(Arc::new(config), 1).unwrap_err();
    assert_eq!(error, Invalid::Keys("p".into(), PoolError::Duplicate(1)));
}

#[test]
fn what_running_requests_add_is_counted_and_never_refused() {
    let config = Config {
        capacity: Capacity {
            buffered: 100,
            ..Capacity::default()
        },
        ..Config::default()
    };
    let mut bridge = Bridge::new(Arc::new(config), 1).unwrap();
    let admit = |bridge: &mut Bridge, bytes| match bridge.answer(NOW, Query::Admit { bytes }) {
        Answer::Admit(admitted) => admitted.map(|(_, ticket)| ticket),
        answer => panic!("{answer:?}"),
    };
    let ticket = admit(&mut bridge, 60).unwrap();
    let bytes = 150;
    bridge.answer(NOW, Query::Held { ticket, bytes });
    assert_eq!(bridge.load().buffered, 150);

    let busy = Refused::Busy(Duration::from_secs(1));
    assert_eq!(admit(&mut bridge, 1), Err(busy.clone()));
    let other = admit(&mut bridge, 0).expect("it holds nothing");
    let query = Query::Hold {
        ticket: other,
        bytes: 1,
    };
    let Answer::Granted(granted) = bridge.answer(NOW, query) else {
        panic!("no answer");
    };
    assert_eq!(granted, Err(busy));

    bridge.answer(NOW, Query::Release(ticket));
    assert_eq!(bridge.load().buffered, 0);
    assert!(admit(&mut bridge, 100).is_ok());
}

#[test]
fn providers_of_one_name_are_refused() {
    let provider = Arc::new(Provider::new("p", Vendor::OpenAi, target(), "/v1"));
    let config = Arc::new(Config {
        providers: vec![Arc::clone(&provider), provider],
        ..Config::default()
    });
    let error = Bridge::new(Arc::clone(&config), 1).unwrap_err();
    assert_eq!(error, Invalid::Provider("p".into()));
    assert_eq!(bridge(&["k"]).reload(NOW, config), Err(error));
}

#[test]
fn equal_seeds_name_equally() {
    let draw = |bridge: &mut Bridge| (bridge.fork_rng().next_u64(), bridge.fork_rng().next_u64());
    let (mut one, mut other) = (bridge(&["k0"]), bridge(&["k0"]));
    assert_eq!(draw(&mut one), draw(&mut other));
}
