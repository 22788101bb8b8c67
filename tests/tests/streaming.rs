//! Streams: event by event, verbatim, kept warm, and broken off so that the client's library sees
//! it.

use std::fmt::Write as _;

use aibridge_core::{Duration, api::Api, record::Outcome};
use aibridge_testkit::{
    APIS, Answer, Ask, Cut, Fixture, Reply, Script, Sim, grammar,
    setup::{self, KEYS},
};

const SECOND: Duration = Duration::from_secs(1);

fn sim(script: &Script) -> Sim {
    Sim::new(setup::config(&KEYS[..1]), script)
}

fn ask(fixture: &Fixture, reply: Reply) -> (Answer, Sim) {
    let sent = reply.sent();
    let script = Script::in_order([reply]);
    let mut sim = sim(&script);
    let answer = sim.ask(&fixture.ask(true));
    script.verify();
    read(fixture.api, &answer, &sent);
    (answer, sim)
}

/// What the client got is a stream by its API's grammar, whole or ended by an error event.
#[track_caller]
fn read(api: Api, answer: &Answer, sent: &[u8]) -> grammar::Reply {
    assert!(answer.is_complete() && answer.is_stream(), "{answer:?}");
    let read = grammar::relayed(api, &answer.body, sent);
    read.unwrap_or_else(|broken| panic!("{api:?}: {broken}\n{}", answer.text()))
}

/// What the bridge adds where upstream is silent.
fn keep_alive(api: Api) -> &'static str {
    match api {
        Api::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Api::ChatCompletions | Api::Responses => ": keep-alive\n\n",
    }
}

#[test]
fn the_first_event_reaches_the_client_before_upstream_sends_the_second() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let events = fixture.reply(true).confirming().steps().len() / 2 + 1;
        let script = Script::in_order([fixture.reply(true).confirming()]);
        let mut sim = sim(&script);
        let client = sim.connect();
        sim.send(client, fixture.ask(true).bytes());
        for sent in 1..events {
            sim.settle();
            let answer = sim.answer(client).unwrap();
            // Chat's usage chunk, the last but one, was not asked for.
            let withheld = usize::from(api == Api::ChatCompletions && sent + 1 == events);
            assert_eq!(answer.events().len(), sent - withheld, "{api:?}");
            assert!(!answer.is_complete());
            script.confirm();
        }
        let answer = sim.take_answer(client);
        assert_eq!(answer.body, fixture.relayed(true));
        assert_eq!(read(api, &answer, &fixture.body(true)).error, None);
        script.verify();
    }
}

#[test]
fn a_stream_is_marked_as_one_that_nobody_may_hold_back() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let (answer, _) = ask(
            &fixture,
            fixture.reply(true).header("cache-control", "max-age=60"),
        );
        assert!(answer.is_stream());
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    }
}

#[test]
fn a_silent_upstream_is_bridged_by_keep_alives() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let script = Script::in_order([fixture.reply(true).confirming()]);
        let mut sim = sim(&script);
        let client = sim.connect();
        sim.send(client, fixture.ask(true).bytes());
        sim.settle();
        let first = sim.answer(client).unwrap().body;
        sim.advance(14 * SECOND);
        assert_eq!(sim.answer(client).unwrap().body, first, "{api:?}: not yet");
        sim.advance(SECOND);
        let once = [&first, keep_alive(api).as_bytes()].concat();
        assert_eq!(sim.answer(client).unwrap().body, once, "{api:?}");
        sim.advance(15 * SECOND);
        let twice = [&once, keep_alive(api).as_bytes()].concat();
        assert_eq!(sim.answer(client).unwrap().body, twice, "{api:?}");
        // All events of upstream's are there in the end, and the record does not mind.
        for _ in 0..200 {
            script.confirm();
        }
        let answer = sim.take_answer(client);
        // With what the bridge added it is a stream like any other.
        let heard = grammar::stream(api, &answer.body).unwrap();
        assert_eq!(heard, grammar::stream(api, &fixture.relayed(true)).unwrap());
        let text = answer.text().replacen(keep_alive(api), "", 2);
        let mut expected = String::from_utf8(fixture.relayed(true).to_vec()).unwrap();
        if api == Api::Messages {
            // The provider's own pings look the same.
            expected = expected.replace(keep_alive(api), "");
            assert_eq!(answer.text().replace(keep_alive(api), ""), expected);
        } else {
            assert_eq!(text, expected, "{api:?}");
        }
        assert_eq!(sim.records.ended().outcome, Outcome::Ok);
        script.verify();
    }
}

#[test]
fn a_stream_of_a_declared_length_has_room_for_what_the_bridge_adds() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true).with_length();
        let script = Script::in_order([reply.pausing(Duration::from_secs(16))]);
        let answer = sim(&script).ask(&fixture.ask(true));
        assert!(answer.is_complete(), "{api:?}");
        let upstreams = String::from_utf8(fixture.relayed(true).to_vec()).unwrap();
        let count = |text: &str| text.matches(keep_alive(api)).count();
        assert!(count(answer.text()) > count(&upstreams), "{api:?}");
        let without = |text: &str| text.replace(keep_alive(api), "");
        assert_eq!(without(answer.text()), without(&upstreams), "{api:?}");
        assert_eq!(answer.header("content-length"), None);
        script.verify();
    }
}

#[test]
fn a_keep_alive_never_stands_inside_an_event() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let bytes = reply.bytes();
        let head = aibridge_testkit::answer::find(&bytes, b"\r\n\r\n").unwrap() + 4;
        for at in head..bytes.len().min(head + 900) {
            let script = Script::in_order([reply.clone().stall_at(at)]);
            let mut sim = sim(&script).quiet();
            let client = sim.connect();
            sim.send(client, fixture.ask(true).bytes());
            sim.settle();
            let before = sim.answer(client).unwrap().body;
            sim.advance(16 * SECOND);
            let after = sim.answer(client).unwrap().body;
            let added = &after[before.len()..];
            assert!(fixture.relayed(true).starts_with(&before));
            assert!(added.is_empty() || added == keep_alive(api).as_bytes());
            let (sent, _) = Answer::read(&bytes[..at], false).unwrap();
            let between = sent.body.is_empty() || ends_event(&sent.body);
            assert_eq!(!added.is_empty(), between, "{api:?} at {at}");
            script.abandon();
        }
    }
}

fn ends_event(body: &[u8]) -> bool {
    body.ends_with(b"\n\n")
}

#[test]
fn a_blocking_reply_gets_no_keep_alive() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(false);
        let half = reply.bytes().len() - 40;
        let script = Script::in_order([reply.stall_at(half)]);
        let mut sim = sim(&script);
        let client = sim.connect();
        sim.send(client, fixture.ask(false).bytes());
        sim.settle();
        let before = sim.got(client).len();
        sim.advance(100 * SECOND);
        assert_eq!(sim.got(client).len(), before);
        script.abandon();
    }
}

#[test]
fn silence_within_a_stream_ends_in_the_apis_error_event() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        // Behind the second event, so that the error stands by itself.
        let body = fixture.body(true);
        let ends = body
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| *pair == b"\n\n");
        let two = ends.map(|(at, _)| at + 2).nth(1).unwrap();
        let script = Script::in_order([stalling_behind(&fixture, two)]);
        let mut sim = sim(&script);
        let answer = sim.ask(&fixture.ask(true));
        let events = answer.events();
        let last = events.last().unwrap();
        let data: serde_json::Value = serde_json::from_str(&last.data).unwrap();
        match api {
            Api::Messages => {
                assert_eq!(last.name, "error");
                assert_eq!(data["type"], "error");
                assert_eq!(data["error"]["type"], "timeout_error");
                assert_eq!(data["request_id"].as_str(), answer.header("x-aibridge-id"));
            }
            Api::ChatCompletions => {
                assert_eq!(last.name, "");
                assert_eq!(data["error"]["type"], "timeout_error");
                assert!(!answer.text().contains("[DONE]"));
            }
            Api::Responses => {
                assert_eq!(last.name, "error");
                assert_eq!(data["type"], "error");
                assert!(data["code"].is_string() && data["message"].is_string());
                assert!(data["param"].is_null());
                assert_eq!(data["sequence_number"], 2, "one more than the last");
            }
        }
        assert!(answer.is_complete());
        let heard = grammar::stream(api, &answer.body).unwrap();
        assert_eq!(heard.error, Some(data));
        assert_eq!(sim.records.ended().outcome, Outcome::Timeout);
        script.verify();
    }
}

/// The fixture's stream, silent after so many bytes of its body.
fn stalling_behind(fixture: &Fixture, bytes: usize) -> Reply {
    let body = fixture.body(true);
    let reply = Reply::sse(&body[..bytes]);
    let len = reply.bytes().len() - b"0\r\n\r\n".len();
    reply.stall_at(len)
}

/// Cut off at any byte, what the client got begins like upstream's stream, and what is added is one
/// error event.
#[test]
fn a_reset_at_any_byte_gives_a_prefix_and_one_error_event() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let bytes = reply.bytes();
        let relayed = fixture.relayed(true);
        let head = aibridge_testkit::answer::find(&bytes, b"\r\n\r\n").unwrap() + 4;
        for at in 0..bytes.len() {
            let broken = reply.clone().reset_at(at);
            let sent = broken.sent();
            let script = Script::in_order([broken]);
            let mut sim = sim(&script).quiet();
            let answer = sim.ask(&fixture.ask(true));
            script.verify();
            if at < head {
                assert_eq!(
                    (answer.status, answer.is_stream()),
                    (502, false),
                    "{api:?} at {at}"
                );
                continue;
            }
            assert_eq!(answer.status, 200, "{api:?} at {at}");
            read(api, &answer, &sent);
            let common = relayed
                .iter()
                .zip(&answer.body)
                .take_while(|(a, b)| a == b)
                .count();
            let added = std::str::from_utf8(&answer.body[common..]).unwrap();
            if added.trim().is_empty() {
                assert!(
                    relayed[common..].trim_ascii().is_empty(),
                    "{api:?} at {at}: only a stream that lacks no more than its last line has no error"
                );
                continue;
            }
            // The message may share its first bytes with what upstream would have sent next.
            assert_eq!(
                answer.text().matches("upstream connection failed").count(),
                1,
                "{api:?} at {at}: {added}"
            );
            let events = answer.events();
            let (last, before) = events.split_last().unwrap();
            assert!(
                last.data.contains("upstream connection failed"),
                "{api:?} at {at}: {added}"
            );
            let data: serde_json::Value = serde_json::from_str(&last.data)
                .unwrap_or_else(|e| panic!("{api:?} at {at}: {e}: {last:?}"));
            assert!(data.is_object());
            let whole = aibridge_testkit::answer::events(&relayed);
            let shown = before
                .iter()
                .zip(&whole)
                .take_while(|(a, b)| a == b)
                .count();
            assert!(
                before.len() - shown <= 1,
                "{api:?} at {at}: at most one event is cut short: {before:?}"
            );
            assert_eq!(sim.records.ended().outcome, Outcome::UpstreamError);
        }
    }
}

#[test]
fn an_early_end_is_as_bad_as_a_reset() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let (answer, sim) = ask(&fixture, reply.clone().end_at(reply.bytes().len() / 2));
        assert!(
            answer
                .text()
                .contains("upstream connection failed: connection closed"),
            "{answer:?}"
        );
        assert_eq!(sim.records.ended().outcome, Outcome::UpstreamError);
    }
}

#[test]
fn a_blocking_reply_that_breaks_off_has_no_proper_end() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        for reply in [
            fixture.reply(false),
            fixture.reply(false).cut(Cut::Every(100)),
        ] {
            let at = reply.bytes().len() - 30;
            for broken in [reply.clone().reset_at(at), reply.clone().end_at(at)] {
                let script = Script::in_order([broken]);
                let mut sim = sim(&script);
                let client = sim.connect();
                let answer = sim.ask_on(client, &fixture.ask(false));
                assert!(!answer.is_complete() && sim.is_closed(client), "{answer:?}");
                assert!(
                    fixture.body(false).starts_with(&answer.body),
                    "nothing is added"
                );
                assert_eq!(sim.records.ended().outcome, Outcome::UpstreamError);
                script.verify();
            }
        }
    }
}

#[test]
fn the_usage_chunk_is_withheld_unless_it_was_asked_for() {
    let fixture = Fixture::simple(Api::ChatCompletions);
    for (options, wanted) in [
        ("", false),
        (r#""stream_options":{"include_usage":false},"#, false),
        (r#""stream_options":{"include_obfuscation":false},"#, false),
        (r#""stream_options":null,"#, false),
        (r#""stream_options":{"include_usage":true},"#, true),
    ] {
        let body = format!(r#"{{{options}"model":"m","messages":[]}}"#);
        let script = Script::in_order([fixture.reply(true)]);
        let mut sim = sim(&script);
        let answer = sim.ask(&Ask::with_body(Api::ChatCompletions, true, &body));
        let expected = if wanted {
            fixture.body(true)
        } else {
            fixture.relayed(true)
        };
        assert_eq!(answer.body, expected, "{options}");
        grammar::stream(Api::ChatCompletions, &answer.body).unwrap();
        assert_eq!(
            sim.records.usage().len(),
            1,
            "{options}: recorded in any case"
        );

        let upstream = script.only_call();
        let seen: serde_json::Value = serde_json::from_slice(&upstream.body).unwrap();
        assert_eq!(seen["stream_options"]["include_usage"], true, "{options}");
        if options.contains("obfuscation") {
            assert_eq!(seen["stream_options"]["include_obfuscation"], false, "kept");
        }
        script.verify();
    }
}

#[test]
fn a_blocking_chat_request_is_not_touched() {
    let script = Script::in_order([Reply::json(200, "{}")]);
    let mut sim = sim(&script);
    let request = Ask::new(Api::ChatCompletions, false);
    sim.ask(&request);
    assert_eq!(script.only_call().body, request.body);
    script.verify();
}

#[test]
fn a_client_that_does_not_read_slows_its_upstream() {
    let mut stream = String::new();
    for number in 0..4000 {
        let _ = write!(
            stream,
            "data: {{\"n\":{number},\"pad\":\"{}\"}}\n\n",
            "x".repeat(1000)
        );
    }
    let reply = Reply::sse(&stream).cut(Cut::Every(16 << 10));
    let script = Script::in_order([reply]);
    let mut sim = sim(&script).quiet();
    let client = sim.connect();
    sim.set_reading(client, false);
    sim.send(client, Ask::new(Api::Responses, true).bytes());
    sim.settle();
    assert!(
        sim.unsent(client) > 0 && sim.unsent(client) < 256 << 10,
        "{}",
        sim.unsent(client)
    );
    sim.set_reading(client, true);
    assert_eq!(sim.take_answer(client).text(), stream);
    script.verify();
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let fixture = Fixture::simple(Api::Messages);
    let script = Script::in_order([fixture.reply(true).confirming()]);
    let mut sim = sim(&script);
    let client = sim.connect();
    sim.set_reading(client, false);
    sim.send(client, fixture.ask(true).bytes());
    sim.advance(61 * SECOND);
    assert!(sim.is_over(client));
    assert_eq!(sim.records.ended().outcome, Outcome::Cancelled);
    assert_eq!(sim.open_connections(), 0, "upstream's call is aborted");
    script.verify();
}
