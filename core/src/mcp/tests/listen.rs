//! Changes are heard.

use http::StatusCode;

use super::{
    fake::event,
    keeper::{keep, names, news},
    *,
};
use crate::{
    fault::Fault,
    mcp::{KeeperSettings, News},
};

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

/// The answer repeats the id, and would be held until it is sent.
#[test]
fn a_request_with_an_id_of_any_length_is_not_answered() {
    for (length, answers) in [(254, 1), (255, 0), (1 << 20, 0)] {
        let mut world = World::new(Fake {
            listening: StatusCode::OK,
            ..Fake::new()
        });
        let mut keeper = keep(&mut world);
        let stream = world.open[0];
        let ping = event(&serde_json::json!({"id": "x".repeat(length), "method": "ping"}));
        world.tell(&mut keeper, stream, Input::Body(ping.into()));
        world.settle(&mut keeper);
        let answered = world.fake.seen.iter().filter(|seen| *seen == "answer");
        assert_eq!(answered.count(), answers, "{length}");
        assert_eq!(world.open, [stream]);
    }
}

#[test]
fn a_listening_stream_that_fails_shows_at_once_that_the_server_is_gone() {
    for fake in [Fake::new(), Fake::modern()] {
        let mut world = World::new(Fake {
            listening: StatusCode::OK,
            ..fake
        });
        let mut keeper = keep(&mut world);
        news(&mut keeper);
        world.pass(&mut keeper, Duration::from_secs(5));
        world.fake.down = true;
        let stream = world.open[0];
        world.tell(&mut keeper, stream, Input::Failed(Fault::Reset));
        world.pass(&mut keeper, Duration::from_secs(1));
        let told = news(&mut keeper);
        assert!(matches!(told[0], News::Down { .. }), "{told:?}");
        world.fake.down = false;
        world.pass(&mut keeper, Duration::from_secs(10));
        let told = news(&mut keeper);
        assert!(matches!(told.last(), Some(News::Up(_))), "{told:?}");
    }
}

/// One that ends properly may be a server that takes leave, too: it shows when the stream is opened
/// again.
#[test]
fn a_listening_stream_that_ends_and_cannot_be_opened_again_shows_that_the_server_is_gone() {
    let mut world = World::new(Fake {
        listening: StatusCode::OK,
        ..Fake::new()
    });
    let mut keeper = keep(&mut world);
    news(&mut keeper);
    world.fake.down = true;
    let stream = world.open[0];
    world.tell(&mut keeper, stream, Input::End);
    world.pass(&mut keeper, Duration::from_secs(3));
    assert!(matches!(news(&mut keeper)[0], News::Down { .. }));
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
