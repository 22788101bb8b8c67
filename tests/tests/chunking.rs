//! How bytes are cut into pieces changes nothing: not what the client gets, not what is recorded.

use aibridge_testkit::{Answer, Ask, Cut, Fixture, Records, Reply, Script, Sim, setup};
use bytes::Bytes;
use proptest::{prelude::*, sample::Index, test_runner::Config as Cases};

/// Serves one request in the simulator: the client's bytes in these pieces, upstream's in that.
fn run(pieces: &[Bytes], reply: Reply) -> (Answer, Records) {
    let script = Script::in_order([reply]);
    let mut sim = Sim::new(setup::config(&setup::KEYS[..1]), &script).quiet();
    let client = sim.connect();
    for piece in pieces {
        sim.send(client, piece.clone());
    }
    let answer = sim.take_answer(client);
    script.verify();
    (answer, std::mem::take(&mut sim.records))
}

fn whole(ask: &Ask, reply: Reply) -> (Answer, Records) {
    run(&[ask.bytes()], reply)
}

#[track_caller]
fn same(name: &str, expected: &(Answer, Records), (answer, records): &(Answer, Records)) {
    assert_eq!(answer.status, expected.0.status, "{name}");
    assert_eq!(answer.headers, expected.0.headers, "{name}");
    assert_eq!(answer.body, expected.0.body, "{name}");
    assert_eq!(answer.progress, expected.0.progress, "{name}");
    assert_eq!(*records, expected.1, "{name}");
}

/// Every split of the upstream's bytes into two, for the fixtures of one API in one form.
fn every_split_in_two(folder: &str, streaming: bool) {
    for fixture in Fixture::all() {
        if !fixture.name.starts_with(folder) || !fixture.forms().contains(&streaming) {
            continue;
        }
        let (ask, reply) = (fixture.ask(streaming), fixture.reply(streaming));
        let expected = whole(&ask, reply.clone());
        for at in 1..reply.bytes().len() {
            let got = whole(&ask, reply.clone().cut(Cut::At(vec![at])));
            same(&format!("{} cut at {at}", fixture.name), &expected, &got);
        }
    }
}

#[test]
fn upstream_split_in_two_anywhere_messages_blocking() {
    every_split_in_two("messages/", false);
}

#[test]
fn upstream_split_in_two_anywhere_messages_streaming() {
    every_split_in_two("messages/", true);
}

#[test]
fn upstream_split_in_two_anywhere_chat_blocking() {
    every_split_in_two("chat/", false);
}

#[test]
fn upstream_split_in_two_anywhere_chat_streaming() {
    every_split_in_two("chat/", true);
}

#[test]
fn upstream_split_in_two_anywhere_responses_blocking() {
    every_split_in_two("responses/", false);
}

#[test]
fn upstream_split_in_two_anywhere_responses_streaming() {
    every_split_in_two("responses/", true);
}

#[test]
fn the_client_gets_the_fixtures_bytes() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let (answer, _) = whole(&fixture.ask(streaming), fixture.reply(streaming));
            let body = fixture.relayed(streaming);
            assert_eq!(answer.body, body, "{} streaming={streaming}", fixture.name);
        }
    }
}

#[test]
fn upstream_byte_by_byte() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let (ask, reply) = (fixture.ask(streaming), fixture.reply(streaming));
            let expected = whole(&ask, reply.clone());
            let got = whole(&ask, reply.cut(Cut::Every(1)));
            same(&fixture.name, &expected, &got);
        }
    }
}

#[test]
fn framing_changes_nothing() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let (ask, reply) = (fixture.ask(streaming), fixture.reply(streaming));
            let expected = whole(&ask, reply.clone());
            for framed in [reply.clone().until_close(), reply.clone().with_length()] {
                let got = whole(&ask, framed.cut(Cut::Every(7)));
                assert_eq!(got.0.body, expected.0.body, "{}", fixture.name);
                assert_eq!(got.0.progress, expected.0.progress, "{}", fixture.name);
                assert_eq!(got.1, expected.1, "{}", fixture.name);
            }
        }
    }
}

#[test]
fn client_split_in_two_anywhere() {
    for fixture in Fixture::all() {
        let streaming = fixture.forms()[0];
        let (ask, reply) = (fixture.ask(streaming), fixture.reply(streaming));
        let expected = whole(&ask, reply.clone());
        let bytes = ask.bytes();
        for at in 1..bytes.len() {
            let got = run(&[bytes.slice(..at), bytes.slice(at..)], reply.clone());
            same(
                &format!("{} client cut at {at}", fixture.name),
                &expected,
                &got,
            );
        }
    }
}

proptest! {
    #![proptest_config(Cases { cases: 192, failure_persistence: None, ..Cases::default() })]

    #[test]
    fn any_split_into_many(
        which in any::<Index>(),
        form in any::<Index>(),
        upstream in proptest::collection::vec(any::<Index>(), 1..40),
        client in proptest::collection::vec(any::<Index>(), 1..20),
    ) {
        let all = Fixture::all();
        let fixture = which.get(&all);
        let streaming = *form.get(&fixture.forms());
        let (ask, reply) = (fixture.ask(streaming), fixture.reply(streaming));
        let expected = whole(&ask, reply.clone());

        let points = |indexes: &[Index], len: usize| {
            let mut points: Vec<_> = indexes.iter().map(|index| index.index(len)).collect();
            points.sort_unstable();
            points
        };
        let upstream = points(&upstream, reply.bytes().len());
        let bytes = ask.bytes();
        let mut from = 0;
        let mut pieces = Vec::new();
        for at in points(&client, bytes.len()).into_iter().chain([bytes.len()]) {
            if at > from {
                pieces.push(bytes.slice(from..at));
                from = at;
            }
        }
        let got = run(&pieces, reply.cut(Cut::At(upstream)));
        same(&fixture.name, &expected, &got);
    }
}
