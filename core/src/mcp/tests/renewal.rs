//! Sessions are lost, and renewed.

use http::StatusCode;

use super::{
    calls::{begin, call, calls, outcome, session},
    *,
};
use crate::fault::Fault;

#[test]
fn a_lost_session_is_renewed_and_the_call_repeated() {
    for lost in [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST] {
        let mut fake = Fake {
            lost,
            ..Fake::new()
        };
        let stale = session(&mut fake);
        fake.restart();
        let mut world = World::new(fake);
        let events = call(&mut world, &stale, "echo");
        assert_eq!(outcome(&events).unwrap().text(), r#"{"n":1}"#);
        let expected = [
            "tools/call",
            "initialize",
            "notifications/initialized",
            "tools/call",
        ];
        assert_eq!(world.fake.seen, expected);
        let fresh = Terms {
            session: Some("session-2".parse().unwrap()),
            ..stale.clone()
        };
        let server = server();
        assert!(
            events.contains(&CallEvent::Renewed {
                server,
                stale,
                fresh
            }),
            "{events:?}"
        );
        let ids: Vec<_> = world
            .fake
            .bodies
            .iter()
            .filter_map(|b| b["id"].as_u64())
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
}

#[test]
fn calls_that_lost_one_session_share_its_renewal() {
    let mut fake = Fake::new();
    let stale = session(&mut fake);
    fake.restart();
    let mut world = World::new(fake);
    let mut calls = calls();
    for _ in 0..3 {
        begin(&world, &mut calls, &stale, "echo");
    }
    world.settle(&mut calls);
    // One that begins before its owner has heard of it goes on in the same.
    begin(&world, &mut calls, &stale, "echo");
    world.settle(&mut calls);
    assert_eq!(world.fake.begun, 2);
    let events: Vec<_> = std::iter::from_fn(|| calls.poll_event()).collect();
    assert_eq!(events.len(), 5, "{events:?}");
    assert!(
        events
            .iter()
            .all(|e| !matches!(e, CallEvent::Done(_, Err(_))))
    );
}

#[test]
fn a_session_lost_again_at_once_is_a_failure() {
    let mut fake = Fake::new();
    let stale = session(&mut fake);
    fake.restart();
    let mut world = World::new(fake);
    let mut calls = calls();
    begin(&world, &mut calls, &stale, "echo");
    while let Some(action) = calls.poll_action() {
        let Action::Request(on, request) = action else {
            panic!()
        };
        for input in world.fake.reply(&request) {
            calls.handle(world.now, on, input);
        }
        if world.fake.seen.last().unwrap() == "notifications/initialized" {
            world.fake.restart();
        }
    }
    assert!(matches!(
        calls.poll_event(),
        Some(CallEvent::Renewed { .. })
    ));
    let Some(CallEvent::Done(_, Err(failure))) = calls.poll_event() else {
        panic!()
    };
    assert_eq!(failure, Failure::SessionLost);
}

/// A server does not forget a session that it has just given: what it refuses then, it refuses for
/// what it says.
#[test]
fn a_bad_request_in_a_new_session_is_told_in_the_servers_words() {
    let mut fake = Fake {
        refused: vec![("tools/call", StatusCode::BAD_REQUEST)],
        ..Fake::new()
    };
    let stale = session(&mut fake);
    fake.restart();
    let mut world = World::new(fake);
    let events = call(&mut world, &stale, "echo");
    let refusal = Failure::Error(-32000, "not today".into());
    assert_eq!(outcome(&events), Err(&refusal));
    assert_eq!(world.fake.begun, 2);
}

#[test]
fn a_session_begun_for_a_client_that_leaves_meanwhile_is_deleted() {
    let mut fake = Fake::new();
    let stale = session(&mut fake);
    fake.restart();
    let mut world = World::new(fake);
    let mut calls = calls();
    begin(&world, &mut calls, &stale, "echo");
    while let Some(Action::Request(on, request)) = calls.poll_action() {
        world.open.push(on);
        let reply = world.fake.reply(&request);
        if world.fake.seen.last().unwrap() == "notifications/initialized" {
            break;
        }
        for input in reply {
            world.tell(&mut calls, on, input);
        }
    }
    calls.cancel_all(world.now);
    world.settle(&mut calls);
    assert_eq!(world.fake.deleted, ["session-2"]);
    assert!(calls.is_idle());
}

#[test]
fn a_renewal_that_fails_fails_the_calls_that_wait() {
    let mut fake = Fake::new();
    let stale = session(&mut fake);
    fake.restart();
    fake.handshake = None;
    let mut world = World::new(fake);
    let events = call(&mut world, &stale, "echo");
    assert_eq!(outcome(&events), Err(&Failure::Error(-32022, "no".into())));
}

#[test]
fn a_server_that_dies_mid_call_is_used_again_but_the_call_is_not_repeated() {
    let mut fake = Fake::new();
    let terms = session(&mut fake);
    let mut world = World::new(fake);
    let events = call(&mut world, &terms, "die");
    assert_eq!(outcome(&events), Err(&Failure::Fault(Fault::Reset)));
    let events = call(&mut world, &terms, "echo");
    assert!(outcome(&events).is_ok());
    let of_die = world
        .fake
        .bodies
        .iter()
        .filter(|b| b["params"]["name"] == "die");
    assert_eq!((of_die.count(), world.fake.begun), (1, 2));
}

#[test]
fn a_server_thought_down_is_tried_at_once_when_a_call_renewed_its_session() {
    let mut world = World::new(Fake {
        down: true,
        ..Fake::new()
    });
    let mut keeper = keeper::keep(&mut world);
    world.fake.down = false;
    let terms = |session: &str| Terms {
        version: Version::V20251125,
        session: Some(session.parse().unwrap()),
    };
    let (stale, fresh) = (terms("old"), terms("new"));
    keeper.handle(world.now, KeeperEvent::Renewed { stale, fresh });
    world.settle(&mut keeper);
    let news = keeper::news(&mut keeper);
    assert!(
        matches!(news.last(), Some(crate::mcp::News::Up(_))),
        "{news:?}"
    );
}
