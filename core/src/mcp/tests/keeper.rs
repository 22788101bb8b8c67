//! Servers are kept connected.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::{
    mcp::{KeeperSettings, News},
    rng::Rng,
};

pub(super) fn keep(world: &mut World) -> Keeper {
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    world.settle(&mut keeper);
    keeper
}

pub(super) fn news(keeper: &mut Keeper) -> Vec<News> {
    std::iter::from_fn(|| keeper.poll_news()).collect()
}

pub(super) fn up(version: Version, session: Option<&str>) -> News {
    let session = session.map(|session| session.parse().unwrap());
    News::Up(Terms { version, session })
}

pub(super) fn names(news: &News) -> Vec<&str> {
    let News::Tools { tools, .. } = news else {
        panic!("{news:?}")
    };
    tools.iter().map(|tool| &*tool.name).collect()
}

const CONNECTED: [&str; 4] = [
    "server/discover",
    "initialize",
    "notifications/initialized",
    "tools/list",
];

#[test]
fn a_server_of_any_revision_is_found_out() {
    for streams in [false, true] {
        for version in [
            Version::V20241105,
            Version::V20250326,
            Version::V20250618,
            Version::V20251125,
        ] {
            for unknown in [
                (StatusCode::BAD_REQUEST, Some(-32000)),
                (StatusCode::BAD_REQUEST, None),
                (StatusCode::NOT_FOUND, None),
                (StatusCode::OK, Some(-32601)),
                (StatusCode::OK, Some(-32602)),
                (StatusCode::OK, None),
                (StatusCode::INTERNAL_SERVER_ERROR, None),
            ] {
                let handshake = Some(version);
                let mut world = World::new(Fake {
                    handshake,
                    streams,
                    unknown,
                    ..Fake::new()
                });
                let mut keeper = keep(&mut world);
                let news = news(&mut keeper);
                assert_eq!(names(&news[0]), ["echo"]);
                assert_eq!(news[1..], [up(version, Some("session-1"))]);
                assert_eq!(world.fake.seen, CONNECTED);
            }
        }
        for handshake in [None, Some(Version::V20251125)] {
            let mut world = World::new(Fake {
                handshake,
                streams,
                ..Fake::modern()
            });
            let mut keeper = keep(&mut world);
            assert_eq!(news(&mut keeper)[1..], [up(Version::V20260728, None)]);
            assert_eq!(world.fake.seen, ["server/discover", "tools/list"]);
        }
    }
}

#[test]
fn a_server_that_ignores_the_probe_is_initialized() {
    let mut world = World::new(Fake::new());
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    let Some(Action::Request(probe, _)) = keeper.poll_action() else {
        panic!()
    };
    world.open.push(probe);
    world.pass(&mut keeper, Duration::from_secs(10));
    assert!(world.aborted.contains(&probe));
    assert_eq!(
        news(&mut keeper)[1..],
        [up(Version::V20251125, Some("session-1"))]
    );
}

#[test]
fn a_version_that_nobody_knows_is_told() {
    let mut world = World::new(Fake::new());
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    while let Some(action) = keeper.poll_action() {
        let Action::Request(on, request) = action else {
            panic!()
        };
        for input in world.fake.reply(&request) {
            let input = match input {
                Input::Body(bytes) => {
                    let text = String::from_utf8(bytes.into()).unwrap();
                    Input::Body(text.replace("2025-11-25", "2030-01-01").into())
                }
                other => other,
            };
            Machine::handle(&mut keeper, world.now, on, input);
        }
    }
    let news = news(&mut keeper);
    let [News::Down { why, .. }] = &news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(why.to_string(), r#"unknown protocol version "2030-01-01""#);
}

#[test]
fn defect_21_all_pages_of_a_list_are_read() {
    for fake in [Fake::new(), Fake::modern()] {
        let pages = vec![vec!["a", "b"], vec![], vec!["c"]];
        let mut world = World::new(Fake { pages, ..fake });
        let mut keeper = keep(&mut world);
        assert_eq!(names(&news(&mut keeper)[0]), ["a", "b", "c"]);
    }
}

/// Why a list is refused whose pages, counted from 1, have this in place of the start of their
/// tools, and how many of them were asked for.
fn refused_list(start: impl Fn(usize) -> String) -> (Failure, usize) {
    let mut world = World::new(Fake::modern());
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    let mut pages = 0;
    while let Some(Action::Request(on, request)) = keeper.poll_action() {
        let reply = world.fake.reply(&request);
        pages += usize::from(world.fake.seen.last().unwrap() == "tools/list");
        assert!(pages < 1000);
        for input in reply {
            let input = match input {
                Input::Body(bytes) => {
                    let text = String::from_utf8(bytes.into()).unwrap();
                    Input::Body(text.replace(r#""tools":["#, &start(pages)).into())
                }
                other => other,
            };
            Machine::handle(&mut keeper, world.now, on, input);
        }
    }
    let mut news = news(&mut keeper);
    match news.pop() {
        Some(News::Down { why, .. }) if news.is_empty() => (why, pages),
        last => panic!("{news:?} {last:?}"),
    }
}

#[test]
fn a_list_without_end_is_refused() {
    let no_end = Failure::Malformed("the list of tools has no end");
    let repeated = |_| r#""nextCursor":"0","tools":["#.to_owned();
    assert_eq!(refused_list(repeated), (no_end.clone(), 2));
    // Each of these cursors is another one, and the fake server's first page.
    let ever_new = |page| format!(r#""nextCursor":"{}","tools":["#, "0".repeat(page));
    assert_eq!(refused_list(ever_new), (no_end, 256));
}

#[test]
fn a_list_that_is_too_large_is_refused() {
    let many = |_| format!(r#""tools":[{}"#, "1,".repeat(4096));
    let too_many = Failure::Malformed("too many tools");
    assert_eq!(refused_list(many), (too_many, 1));
    let long = |_| format!(r#""nextCursor":"{}","tools":["#, "0".repeat(5000));
    let too_long = Failure::Malformed("a cursor that is too long");
    assert_eq!(refused_list(long), (too_long, 1));
    let padding = "x".repeat(12 << 20);
    let large = |page| {
        let cursor = "0".repeat(page);
        format!(r#""nextCursor":"{cursor}","x":"{padding}","tools":["#)
    };
    assert_eq!(refused_list(large), (Failure::TooLarge, 3));
}

#[test]
fn a_server_that_is_down_is_tried_again_ever_more_slowly() {
    let mut world = World::new(Fake {
        down: true,
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let [News::Down { retry_at, .. }] = news(&mut keeper)[..] else {
            panic!()
        };
        let wait = retry_at - world.now;
        world.pass(&mut keeper, wait);
        waits.push(wait.as_millis());
    }
    for (wait, most) in waits
        .iter()
        .zip([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000])
    {
        assert!((most * 3 / 4..=most).contains(wait), "{waits:?}");
    }
    news(&mut keeper);
    world.fake.down = false;
    world.pass(&mut keeper, Duration::from_secs(60));
    assert_eq!(
        news(&mut keeper)[1..],
        [up(Version::V20251125, Some("session-1"))]
    );
}

#[test]
fn equal_seeds_wait_equally() {
    let first_wait = |seed| {
        let mut world = World::new(Fake {
            down: true,
            ..Fake::new()
        });
        let mut keeper = Keeper::new(
            world.now,
            server(),
            KeeperSettings::default(),
            Rng::new(seed),
        );
        world.settle(&mut keeper);
        keeper.poll_timeout()
    };
    assert_eq!(first_wait(1), first_wait(1));
    assert_ne!(first_wait(1), first_wait(2));
}

#[test]
fn the_list_is_read_again_now_and_then_and_only_changes_are_news() {
    let mut world = World::new(Fake::new());
    let mut keeper = keep(&mut world);
    news(&mut keeper);
    world.pass(&mut keeper, Duration::from_secs(900));
    assert_eq!(
        world
            .fake
            .seen
            .iter()
            .filter(|m| *m == "tools/list")
            .count(),
        4
    );
    assert_eq!(news(&mut keeper), []);
    world.fake.down = true;
    world.pass(&mut keeper, Duration::from_secs(300));
    assert!(matches!(news(&mut keeper)[0], News::Down { .. }));
    world.fake.down = false;
    world.pass(&mut keeper, Duration::from_secs(60));
    assert_eq!(
        news(&mut keeper).last(),
        Some(&up(Version::V20251125, Some("session-2")))
    );
}

#[test]
fn a_session_that_the_server_forgot_is_begun_anew() {
    for lost in [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST] {
        let mut world = World::new(Fake {
            lost,
            ..Fake::new()
        });
        let mut keeper = keep(&mut world);
        news(&mut keeper);
        world.fake.restart();
        world.pass(&mut keeper, Duration::from_secs(2));
        keeper.handle(world.now, KeeperEvent::Recheck);
        world.settle(&mut keeper);
        assert_eq!(
            news(&mut keeper),
            [up(Version::V20251125, Some("session-2"))]
        );
        // It may have been refused for another reason, with calls still running in it.
        world.pass(&mut keeper, Duration::from_secs(119));
        assert!(world.fake.deleted.is_empty());
        world.pass(&mut keeper, Duration::from_secs(2));
        assert_eq!(world.fake.deleted, ["session-1"]);
    }
}

#[test]
fn a_bad_request_for_the_first_list_is_told_in_the_servers_words() {
    let mut world = World::new(Fake {
        refused: vec![("tools/list", StatusCode::BAD_REQUEST)],
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    let news = news(&mut keeper);
    let [News::Down { why, .. }] = &news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(*why, Failure::Error(-32000, "not today".into()));
}

#[test]
fn a_handshake_that_fails_in_the_end_leaves_no_session_behind() {
    let mut world = World::new(Fake {
        refused: vec![("notifications/initialized", StatusCode::NOT_FOUND)],
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    assert!(matches!(news(&mut keeper)[..], [News::Down { .. }]));
    assert_eq!(world.fake.deleted, ["session-1"]);

    // A notification that a server merely has no use for is not what a handshake fails for.
    world.fake.refused[0].1 = StatusCode::BAD_REQUEST;
    world.pass(&mut keeper, Duration::from_secs(1));
    assert_eq!(
        news(&mut keeper)[1..],
        [up(Version::V20251125, Some("session-2"))]
    );
}

/// A server that cannot list its tools may still run them.
#[test]
fn a_session_is_called_in_until_there_is_another() {
    let mut world = World::new(Fake::new());
    let mut keeper = keep(&mut world);
    world.fake.refused = vec![("tools/list", StatusCode::INTERNAL_SERVER_ERROR)];
    world.pass(&mut keeper, Duration::from_secs(900));
    assert!(matches!(news(&mut keeper)[2], News::Down { .. }));
    let deleted = &world.fake.deleted;
    assert!(!deleted.is_empty() && !deleted.contains(&"session-1".to_owned()));

    world.fake.refused.clear();
    world.pass(&mut keeper, Duration::from_secs(60));
    let told = news(&mut keeper);
    assert!(matches!(told.last(), Some(News::Up(_))), "{told:?}");
    world.pass(&mut keeper, Duration::from_secs(120));
    assert!(world.fake.deleted.contains(&"session-1".to_owned()));
    keeper.handle(world.now, KeeperEvent::Shutdown);
    world.settle(&mut keeper);
    assert_eq!(world.fake.deleted.len(), world.fake.begun as usize);
}

#[test]
fn a_session_that_calls_go_on_in_while_the_server_is_down_is_kept_and_deleted_at_shutdown() {
    let mut world = World::new(Fake::new());
    let mut keeper = keep(&mut world);
    world.fake.refused = vec![("tools/list", StatusCode::INTERNAL_SERVER_ERROR)];
    keeper.handle(world.now, KeeperEvent::Recheck);
    world.pass(&mut keeper, Duration::from_secs(1));
    let terms = |session: &str| Terms {
        version: Version::V20251125,
        session: Some(session.parse().unwrap()),
    };
    let (stale, fresh) = (terms("session-1"), terms("session-of-a-call"));
    keeper.handle(world.now, KeeperEvent::Renewed { stale, fresh });
    world.pass(&mut keeper, Duration::from_secs(900));
    let deleted = |world: &World, session: &str| {
        let deleted = world.fake.deleted.iter().filter(|it| *it == session);
        deleted.count()
    };
    assert_eq!(deleted(&world, "session-1"), 1);
    assert_eq!(deleted(&world, "session-of-a-call"), 0);
    keeper.handle(world.now, KeeperEvent::Shutdown);
    world.settle(&mut keeper);
    assert_eq!(deleted(&world, "session-of-a-call"), 1);
}

#[test]
fn a_session_that_a_call_renewed_is_taken_over() {
    let mut world = World::new(Fake::new());
    let mut keeper = keep(&mut world);
    let terms = |session: &str| Terms {
        version: Version::V20251125,
        session: Some(session.parse().unwrap()),
    };
    news(&mut keeper);
    let (stale, fresh) = (terms("session-1"), terms("session-9"));
    world.fake.session = Some("session-9".into());
    let event = KeeperEvent::Renewed {
        stale: stale.clone(),
        fresh: fresh.clone(),
    };
    keeper.handle(world.now, event);
    world.settle(&mut keeper);
    assert_eq!(news(&mut keeper), [News::Up(fresh)]);

    // Another call renewed it at the same time: its session is of use to nobody once its calls are
    // over.
    keeper.handle(
        world.now,
        KeeperEvent::Renewed {
            stale,
            fresh: terms("session-10"),
        },
    );
    world.pass(&mut keeper, Duration::from_secs(119));
    assert!(!world.fake.seen.contains(&"DELETE".to_owned()));
    world.pass(&mut keeper, Duration::from_secs(2));
    assert_eq!(world.fake.deleted, ["session-1", "session-10"]);
    assert_eq!(news(&mut keeper), []);
}

#[test]
fn at_shutdown_the_session_is_deleted() {
    let mut world = World::new(Fake {
        listening: StatusCode::OK,
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    news(&mut keeper);
    keeper.handle(world.now, KeeperEvent::Shutdown);
    world.settle(&mut keeper);
    assert_eq!(world.fake.seen.last().unwrap(), "DELETE");
    assert!(keeper.is_done() && world.open.is_empty());
    assert_eq!(keeper.poll_timeout(), None);
}

#[test]
fn at_shutdown_a_server_without_session_hears_nothing() {
    for fake in [
        Fake::modern(),
        Fake {
            down: true,
            ..Fake::new()
        },
    ] {
        let mut world = World::new(fake);
        let mut keeper = keep(&mut world);
        let seen = world.fake.seen.len();
        news(&mut keeper);
        keeper.handle(world.now, KeeperEvent::Shutdown);
        world.settle(&mut keeper);
        assert!(keeper.is_done());
        assert_eq!(world.fake.seen.len(), seen);
    }
}

#[test]
fn a_server_that_lets_nobody_in_says_so() {
    let mut world = World::new(Fake {
        unknown: (StatusCode::UNAUTHORIZED, None),
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    let news = news(&mut keeper);
    let [News::Down { why, .. }] = &news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(why.to_string(), "status 401");
    assert_eq!(world.fake.seen, ["server/discover"]);
}

#[test]
fn a_server_that_refuses_a_revision_and_names_it_is_asked_once_more() {
    let mut world = World::new(Fake::modern());
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    let Some(Action::Request(on, _)) = keeper.poll_action() else {
        panic!()
    };
    let refusal = br#"{"id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}"#;
    let head = Input::Head(StatusCode::BAD_REQUEST, http::HeaderMap::new());
    for input in [head, Input::Body(Bytes::from_static(refusal)), Input::End] {
        Machine::handle(&mut keeper, world.now, on, input);
    }
    world.settle(&mut keeper);
    assert_eq!(news(&mut keeper)[1..], [up(Version::V20260728, None)]);
    assert_eq!(world.fake.seen, ["server/discover", "tools/list"]);
}

#[test]
fn a_server_that_speaks_only_what_nobody_knows_says_what() {
    let now = Instant::from_secs(1);
    let mut keeper = Keeper::new(now, server(), KeeperSettings::default(), Rng::new(1));
    let Some(Action::Request(on, _)) = keeper.poll_action() else {
        panic!()
    };
    let refusal =
        br#"{"id":1,"error":{"code":-32022,"message":"no","data":{"supported":["2031-01-01"]}}}"#;
    let head = Input::Head(StatusCode::BAD_REQUEST, http::HeaderMap::new());
    for input in [head, Input::Body(Bytes::from_static(refusal)), Input::End] {
        Machine::handle(&mut keeper, now, on, input);
    }
    let news = news(&mut keeper);
    let [News::Down { why, .. }] = &news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(*why, Failure::Version("2031-01-01".into()));
}

#[test]
fn a_configured_field_does_not_override_the_protocols_own() {
    let target = server().target.clone();
    let server = [("accept", "text/html"), ("x-team", "blue")]
        .into_iter()
        .fold(
            Server::new("fake", target, "/mcp"),
            |server, (name, value)| {
                let name = http::HeaderName::from_static(name);
                server
                    .with_header(name, &crate::Secret::new(value))
                    .unwrap()
            },
        );
    let now = Instant::from_secs(1);
    let settings = KeeperSettings::default();
    let mut keeper = Keeper::new(now, Arc::new(server), settings, Rng::new(1));
    let Some(Action::Request(_, request)) = keeper.poll_action() else {
        panic!()
    };
    assert_eq!(
        request.headers["accept"],
        "application/json, text/event-stream"
    );
    assert_eq!(request.headers["x-team"], "blue");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_replies_gives_the_same_news(
        piece in 1..120_usize,
        streams in any::<bool>(),
        modern in any::<bool>(),
    ) {
        let run = |piece| {
            let fake = if modern { Fake::modern() } else { Fake::new() };
            let pages = vec![vec!["a", "b"], vec!["c"]];
            let mut world = World { piece, ..World::new(Fake { streams, pages, ..fake }) };
            let mut keeper = keep(&mut world);
            world.pass(&mut keeper, Duration::from_secs(400));
            (news(&mut keeper), world.fake.bodies)
        };
        prop_assert_eq!(run(usize::MAX), run(piece));
    }

    #[test]
    fn no_input_stops_a_keeper(inputs in proptest::collection::vec(calls::any_input(), 0..60)) {
        let mut now = Instant::from_secs(1);
        let mut keeper = Keeper::new(now, server(), KeeperSettings::default(), Rng::new(1));
        let mut open = Vec::new();
        for input in inputs {
            while let Some(action) = keeper.poll_action() {
                match action {
                    Action::Abort(on) => open.retain(|o| *o != on),
                    Action::Request(on, _) => open.push(on),
                }
            }
            if let Some(on) = open.last() {
                Machine::handle(&mut keeper, now, *on, input);
            } else {
                now = keeper.poll_timeout().expect("it never gives up");
                keeper.handle_timeout(now);
            }
        }
        prop_assert!(keeper.poll_timeout().is_some());
        keeper.handle(now, KeeperEvent::Shutdown);
        keeper.handle_timeout(Instant::FAR_FUTURE);
        while keeper.poll_action().is_some() || keeper.poll_news().is_some() {}
        prop_assert!(keeper.is_done());
    }
}
