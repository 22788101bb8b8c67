//! Servers are kept connected.

use http::StatusCode;

use super::*;
use crate::mcp::{KeeperSettings, News, tests::fake::event};

fn keep(world: &mut World) -> Keeper {
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    world.settle(&mut keeper);
    keeper
}

fn news(keeper: &mut Keeper) -> Vec<News> {
    std::iter::from_fn(|| keeper.poll_news()).collect()
}

fn up(version: Version, session: Option<&str>) -> News {
    let session = session.map(|session| session.parse().unwrap());
    News::Up(Terms { version, session })
}

fn names(news: &News) -> Vec<&str> {
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

#[test]
fn a_list_without_end_is_refused() {
    let mut world = World::new(Fake::modern());
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    let mut asked = 0;
    while let Some(Action::Request(on, request)) = keeper.poll_action() {
        asked += 1;
        for input in world.fake.reply(&request) {
            let input = match input {
                Input::Body(bytes) => {
                    let text = String::from_utf8(bytes.into()).unwrap();
                    Input::Body(
                        text.replace(r#""tools":["#, r#""nextCursor":"0","tools":["#)
                            .into(),
                    )
                }
                other => other,
            };
            Machine::handle(&mut keeper, world.now, on, input);
        }
        assert!(asked < 10);
    }
    let news = news(&mut keeper);
    let [News::Down { why, .. }] = &news[..] else {
        panic!("{news:?}")
    };
    assert_eq!(*why, Failure::Malformed("the list of tools has no end"));
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
fn changes_are_heard_and_the_list_is_read_again() {
    for fake in [Fake::new(), Fake::modern()] {
        let mut world = World::new(Fake {
            listening: StatusCode::OK,
            ..fake
        });
        let mut keeper = keep(&mut world);
        news(&mut keeper);
        let [stream] = world.open[..] else {
            panic!("{:?}", world.open)
        };

        world.fake.pages = vec![vec!["echo", "new"]];
        let changed = event(&serde_json::json!({"method": "notifications/tools/list_changed"}));
        // Said thrice at once, it is asked once.
        world.tell(&mut keeper, stream, Input::Body(changed.repeat(3).into()));
        world.pass(&mut keeper, Duration::from_secs(2));
        let news = news(&mut keeper);
        assert_eq!(names(&news[0]), ["echo", "new"]);
        assert_eq!(news.len(), 1);
        assert_eq!(
            world
                .fake
                .seen
                .iter()
                .filter(|m| *m == "tools/list")
                .count(),
            2
        );
        assert_eq!(world.open, [stream]);
    }
}

#[test]
fn a_listening_stream_that_breaks_is_opened_again_and_pings_on_it_are_answered() {
    let mut world = World::new(Fake {
        listening: StatusCode::OK,
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    let stream = world.open[0];
    let ping = event(&serde_json::json!({"id": 1, "method": "ping"}));
    world.tell(&mut keeper, stream, Input::Body(ping.into()));
    world.settle(&mut keeper);
    assert_eq!(
        world.fake.bodies.last().unwrap()["result"],
        serde_json::json!({})
    );
    world.tell(&mut keeper, stream, Input::End);
    world.pass(&mut keeper, Duration::from_secs(3));
    assert_eq!(world.fake.seen[4..], ["GET", "answer", "GET", "tools/list"]);
    assert_eq!(world.open.len(), 1);
}

#[test]
fn a_server_that_does_not_offer_to_listen_is_left_in_peace() {
    let mut world = World::new(Fake {
        listening: StatusCode::OK,
        ..Fake::new()
    });
    let mut keeper = Keeper::new(world.now, server(), KeeperSettings::default(), Rng::new(1));
    // It says that it tells changes, and then has no stream for it.
    while let Some(action) = keeper.poll_action() {
        let Action::Request(on, request) = action else {
            panic!()
        };
        if request.method == http::Method::GET {
            world.fake.listening = StatusCode::METHOD_NOT_ALLOWED;
        }
        for input in world.fake.reply(&request) {
            Machine::handle(&mut keeper, world.now, on, input);
        }
        if world.fake.seen.last().unwrap() == "GET" {
            break;
        }
    }
    assert!(matches!(keeper.poll_action(), Some(Action::Abort(_))));
    world.pass(&mut keeper, Duration::from_secs(200));
    assert_eq!(world.fake.seen.iter().filter(|m| *m == "GET").count(), 1);
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
    }
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

    // Another call renewed it at the same time: its session is of use to nobody once its calls are over.
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
    assert_eq!(world.fake.seen.last().unwrap(), "DELETE");
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
