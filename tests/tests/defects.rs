//! Defects that systems of this kind have had, each with the number it has in the specification of
//! behaviour. None may come back. All are looked at where they can be seen: in the bytes on the
//! wire and in the records.

use aibridge_core::{
    Duration, Fault,
    api::Api,
    keypool::{Failover, Rejected},
    record::Outcome,
};
use aibridge_testkit::{
    APIS, Answer, Ask, Cut, Fixture, Reply, Script, Sim, grammar,
    setup::{self, KEYS},
};
use std::sync::Arc;

fn config(keys: usize) -> aibridge_core::config::Config {
    setup::config(&KEYS[..keys])
}

/// One request against these replies in the order of the calls.
fn ask(ask: &Ask, keys: usize, replies: impl IntoIterator<Item = Reply>) -> (Answer, Sim) {
    let replies: Vec<_> = replies.into_iter().collect();
    let last = replies.last().expect("a reply").clone();
    let script = Script::in_order(replies);
    let mut sim = Sim::new(config(keys), &script);
    let answer = sim.ask(ask);
    script.verify();
    read(&answer, &last);
    (answer, sim)
}

/// A stream that ends properly is one by its API's grammar, whole or ended by an error event, where
/// upstream's was.
#[track_caller]
fn read(answer: &Answer, upstream: &Reply) {
    let mut apis = APIS.into_iter();
    let spoken = apis.find(|api| grammar::stream(*api, &upstream.body()).is_ok());
    let Some(api) = spoken.filter(|_| answer.is_stream() && answer.is_complete()) else {
        return;
    };
    if let Err(broken) = grammar::relayed(api, &answer.body, &upstream.sent()) {
        panic!("{api:?}: {broken}\n{}", answer.text());
    }
}

/// A body is JSON, or it is a stream; never one after the other.
#[track_caller]
fn assert_json_alone(answer: &Answer, what: &str) {
    assert!(!answer.is_stream(), "{what}: {answer:?}");
    assert!(answer.json()["error"].is_object(), "{what}: {answer:?}");
    for mark in ["data:", "event:", "[DONE]"] {
        assert!(!answer.text().contains(mark), "{what}: {answer:?}");
    }
}

fn failures_before_the_stream() -> Vec<(&'static str, Reply)> {
    vec![
        ("refused", Reply::refuse()),
        ("reset", Reply::reset()),
        ("hung up", Reply::hang_up()),
        ("garbage", Reply::garbage()),
        ("half a head", Reply::json(200, "{}").end_at(20)),
        ("reset in the head", Reply::sse("data: x\n\n").reset_at(30)),
        ("limited", Reply::status(429)),
        ("revoked", Reply::status(401)),
        ("no answer", Reply::no_answer()),
        ("silence", Reply::stall()),
    ]
}

#[test]
fn defect_01_an_error_before_the_stream_is_json_alone() {
    for api in APIS {
        for (what, failure) in failures_before_the_stream() {
            let (answer, _) = ask(&Ask::new(api, true), 1, [failure]);
            assert!(answer.status >= 429, "{what}: {answer:?}");
            assert!(answer.is_complete(), "{what}");
            assert_json_alone(&answer, what);
        }
    }
}

#[test]
fn defect_01_an_error_within_the_stream_is_an_event_alone() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let (answer, sim) = ask(
            &fixture.ask(true),
            1,
            [reply.clone().reset_at(reply.bytes().len() - 60)],
        );
        assert_eq!((answer.status, answer.is_stream()), (200, true));
        assert!(
            answer.is_complete(),
            "the stream ends properly behind the error event"
        );
        let events = answer.events();
        let last: serde_json::Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
        let message = last["error"]["message"]
            .as_str()
            .or_else(|| last["message"].as_str());
        assert_eq!(
            message,
            Some("upstream connection failed: connection reset"),
            "{answer:?}"
        );
        let errors = events
            .iter()
            .filter(|event| event.data.contains("upstream connection failed"));
        assert_eq!(errors.count(), 1);
        assert_eq!(sim.records.ended().outcome, Outcome::UpstreamError);
    }
}

#[test]
fn defect_02_no_done_behind_an_error() {
    let fixture = Fixture::simple(Api::ChatCompletions);
    let reply = fixture.reply(true);
    let (answer, _) = ask(
        &fixture.ask(true),
        1,
        [reply.clone().end_at(reply.bytes().len() / 2)],
    );
    assert!(answer.text().contains("upstream connection failed"));
    assert!(!answer.text().contains("[DONE]"), "{answer:?}");

    let (answer, _) = ask(&fixture.ask(true), 1, [Reply::status(429).retry_after(5)]);
    assert_json_alone(&answer, "429");

    let own_error = Fixture::named("chat/mid_stream_error");
    let (answer, _) = ask(&own_error.ask(true), 1, [own_error.reply(true)]);
    assert!(!answer.text().contains("[DONE]"), "{answer:?}");
}

#[test]
fn defect_03_upstream_reset_before_first_byte_is_a_502() {
    for api in APIS {
        for streaming in [false, true] {
            let (answer, sim) = ask(&Ask::new(api, streaming), 2, [Reply::reset()]);
            assert_eq!(
                (answer.status, answer.error_type().as_str()),
                (502, "api_error")
            );
            assert_eq!(
                answer.error_message(),
                "upstream connection failed: connection reset"
            );
            let ended = sim.records.ended();
            assert_eq!(
                (ended.outcome, ended.status),
                (Outcome::UpstreamError, Some(502))
            );
            assert_eq!(sim.records.attempts()[0].result, Err(Fault::Reset));
            let provider = if api == Api::Messages {
                "anthropic"
            } else {
                "openai"
            };
            assert_eq!(
                sim.key_states(provider),
                ["valid", "valid"],
                "not the key's fault"
            );
        }
    }
}

#[test]
fn defect_05_events_are_relayed_without_extra_keys() {
    for name in [
        "simple",
        "thinking",
        "client_tool_call",
        "long_output",
        "malformed_body",
    ] {
        let fixture = Fixture::named(&format!("messages/{name}"));
        let (answer, _) = ask(&fixture.ask(true), 1, [fixture.reply(true)]);
        assert_eq!(answer.body, fixture.body(true), "{name}");
    }
}

#[test]
fn defect_07_each_key_is_tried_once_however_short_its_cooldown() {
    for api in APIS {
        let limited = || {
            let reply = Reply::status(429).header("retry-after-ms", "10");
            reply.after(Duration::from_secs(2))
        };
        let (answer, sim) = ask(&Ask::new(api, true), 3, [limited(), limited(), limited()]);
        assert_eq!(answer.status, 429);
        assert_eq!(
            answer.header("retry-after"),
            Some("1"),
            "two keys are valid again by now"
        );
        assert_eq!(sim.records.ended().attempts, 3);
    }
}

#[test]
fn defect_08_failover_does_not_need_a_json_body() {
    let html = "<html><body>Too many requests</body></html>";
    for status in [401, 403, 429] {
        for bad in [
            Reply::json(status, html).header("content-type", "text/html"),
            Reply::json(status, ""),
            Reply::json(status, "{\"error\":").until_close(),
            Reply::sse("data: {\"error\":\"no\"}\n\n").with_status(status),
            Reply::json(status, "{}").cut(Cut::Every(1)),
        ] {
            let good = Fixture::simple(Api::Messages);
            let (answer, sim) = ask(&good.ask(true), 2, [bad, good.reply(true)]);
            assert_eq!(
                (answer.status, answer.body),
                (200, good.body(true)),
                "{status}"
            );
            assert_ne!(sim.key_states("anthropic")[0], "valid", "{status}");
        }
    }
}

#[test]
fn defect_09_upstreams_own_error_survives_within_the_stream() {
    for (name, parts) in [
        ("messages", ["overloaded_error", "req_011MidStream"]),
        ("chat", ["server_error", "processing_error"]),
        ("responses", ["server_error", "\"param\":null"]),
    ] {
        let fixture = Fixture::named(&format!("{name}/mid_stream_error"));
        let (answer, sim) = ask(&fixture.ask(true), 1, [fixture.reply(true)]);
        assert_eq!(answer.body, fixture.body(true), "{name}");
        for part in parts {
            assert!(
                answer.events().last().unwrap().data.contains(part),
                "{name}: {part}"
            );
        }
        assert_eq!(
            sim.records.ended().outcome,
            Outcome::UpstreamError,
            "{name}"
        );
    }
}

#[test]
fn defect_09_upstreams_own_error_is_final_though_it_resets_behind_it() {
    for name in ["messages", "chat", "responses"] {
        let fixture = Fixture::named(&format!("{name}/mid_stream_error"));
        let reply = fixture.reply(true);
        let behind_the_last_event = reply.bytes().len() - b"0\r\n\r\n".len();
        let (answer, _) = ask(
            &fixture.ask(true),
            1,
            [reply.reset_at(behind_the_last_event)],
        );
        assert_eq!(
            answer.body,
            fixture.body(true),
            "{name}: one error, not two"
        );
    }
}

#[test]
fn defect_12_a_responses_stream_is_not_buffered() {
    let fixture = Fixture::simple(Api::Responses);
    let script = Script::in_order([fixture.reply(true).confirming()]);
    let mut sim = Sim::new(config(1), &script);
    let client = sim.connect();
    sim.send(client, fixture.ask(true).bytes());
    let total = fixture.reply(true).body().len();
    for sent in 1..4 {
        sim.settle();
        let answer = sim.answer(client).unwrap();
        assert_eq!(answer.events().len(), sent, "as many as upstream has sent");
        assert!(answer.body.len() < total);
        script.confirm();
    }
    script.abandon();
}

#[test]
fn defect_13_comments_are_no_broken_json() {
    let stream = ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n";
    for api in APIS {
        let fixture = Fixture::simple(api);
        let all = [stream.as_bytes(), &fixture.body(true)].concat();
        let (answer, sim) = ask(&fixture.ask(true), 1, [Reply::sse(&all)]);
        assert!(answer.text().starts_with(stream));
        assert!(
            answer
                .text()
                .ends_with(std::str::from_utf8(&fixture.relayed(true)).unwrap())
        );
        assert_eq!(sim.records.ended().outcome, Outcome::Ok);

        let (answer, _) = ask(&fixture.ask(true), 1, [Reply::sse(stream)]);
        assert_eq!(
            (answer.status, answer.text()),
            (200, stream),
            "nothing but comments"
        );
    }
}

#[test]
fn defect_14_whatever_tools_the_provider_accepts_pass() {
    let tools = r#"[{"type":"namespace","name":"shell","tools":[{"type":"custom","name":"run"}]},{"type":"web_search_20260209","name":"w","max_uses":3},{"type":"mcp","server_label":"x"},{"nonsense":[1,2.50,1e3]}]"#;
    for api in APIS {
        let body = format!(
            r#"{{ "model" : "m-1", "tools":{tools}, "input":"hi", "messages":[], "max_tokens":1.0 }}"#
        );
        let script = Script::in_order([Reply::json(200, "{}")]);
        let mut sim = Sim::new(config(1), &script);
        let answer = sim.ask(&Ask::with_body(api, false, &body));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(script.only_call().body, body, "byte for byte");
        script.verify();
    }
}

#[test]
fn defect_15_retry_after_may_be_a_date() {
    // The simulator begins at Tue, 14 Nov 2023 22:13:20 GMT.
    for date in [
        "Tue, 14 Nov 2023 22:13:50 GMT",
        "Tuesday, 14-Nov-23 22:13:50 GMT",
        "Tue Nov 14 22:13:50 2023",
    ] {
        let limited = Reply::status(429).header("retry-after", date);
        let (answer, mut sim) = ask(&Ask::new(Api::Messages, false), 1, [limited]);
        assert_eq!(answer.header("retry-after"), Some("30"), "{date}");
        sim.advance(Duration::from_millis(29_999));
        assert_eq!(sim.key_states("anthropic"), ["temporary"], "{date}");
        sim.advance(Duration::from_millis(1));
        assert_eq!(sim.key_states("anthropic"), ["valid"], "{date}");
    }
}

#[test]
fn defect_15_a_cooldown_has_a_cap_and_a_default() {
    for (retry_after, cooldown) in [
        ("86400", 3600),
        ("99999999999999999999", 60),
        ("Sat, 14 Nov 2099 22:13:50 GMT", 3600),
        ("Mon, 13 Nov 2023 22:13:50 GMT", 60),
        ("0", 60),
        ("-5", 60),
        ("soon", 60),
    ] {
        let limited = Reply::status(429).header("retry-after", retry_after);
        let (answer, _) = ask(&Ask::new(Api::Responses, true), 1, [limited]);
        assert_eq!(
            answer.header("retry-after"),
            Some(&*cooldown.to_string()),
            "{retry_after}"
        );
    }
}

#[test]
fn defect_17_malformed_json_is_the_clients_fault() {
    let deep = format!(
        r#"{{"model":"m","x":{}1{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for api in APIS {
        for body in [
            "{",
            "[]",
            "null",
            "{\"model\":1}",
            "{}",
            "{\"model\":\"\"}",
            "{\"model\":\"m\",}",
            "{\"model\":\"m\",\"stream\":\"yes\"}",
            "{\"model\":\"m\"} x",
            "\u{feff}{\"model\":\"m\"}",
            "",
            &deep,
        ] {
            let script = Script::in_order([]);
            let mut sim = Sim::new(config(2), &script);
            let answer = sim.ask(&Ask::with_body(api, false, body));
            assert_eq!(answer.status, 400, "{body}: {answer:?}");
            assert_eq!(answer.error_type(), "invalid_request_error", "{body}");
            let json = answer.json();
            match api {
                Api::Messages => assert_eq!(json["type"], "error"),
                _ => assert!(json["error"].get("param").is_some()),
            }
            assert_eq!(sim.records.ended().outcome, Outcome::BadRequest, "{body}");
            assert_eq!(sim.key_states("openai"), ["valid", "valid"]);
            script.verify();
        }
    }
}

#[test]
fn defect_22_upstream_learns_nothing_of_the_clients_network() {
    for api in APIS {
        let private = [
            ("x-forwarded-for", "10.1.2.3"),
            ("x-forwarded-host", "bridge.internal"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "8787"),
            ("forwarded", "for=10.1.2.3"),
            ("cookie", "session=abc"),
            ("proxy-authorization", "Basic xyz"),
            ("x-ai-bridge-actor-id", "somebody-else"),
            ("x-ai-bridge-actor-metadata-team", "theirs"),
        ];
        let mut request = Ask::new(api, false).header("x-stainless-lang", "python");
        for (name, value) in private {
            request = request.header(name, value);
        }
        let script = Script::in_order([Reply::json(200, "{}")]);
        let mut sim = Sim::new(config(1), &script);
        sim.ask(&request);
        let seen = script.only_call();
        for (name, _) in private {
            assert_eq!(seen.headers.get(name), None, "{name}");
        }
        assert_eq!(seen.header("host"), "upstream.test");
        assert_eq!(seen.header("x-stainless-lang"), "python");
        script.verify();
    }
}

#[test]
fn defect_23_a_connection_that_does_not_come_up_is_given_up() {
    let (answer, sim) = ask(&Ask::new(Api::Messages, true), 1, [Reply::no_answer()]);
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.error_message(),
        "upstream connection failed: connect timed out"
    );
    assert_eq!(sim.records.ended().total, Duration::from_secs(10));
    assert_eq!(sim.open_connections(), 0);
}

#[test]
fn defect_23_a_head_that_does_not_come_is_given_up() {
    for (streaming, timeout) in [(true, 60), (false, 600)] {
        for api in APIS {
            for reply in [Reply::stall(), Reply::json(200, "{}").stall_at(25)] {
                let (answer, sim) = ask(&Ask::new(api, streaming), 1, [reply]);
                assert_eq!(
                    (answer.status, &*answer.error_type()),
                    (504, "timeout_error")
                );
                let ended = sim.records.ended();
                assert_eq!(ended.outcome, Outcome::Timeout);
                assert_eq!(
                    ended.total,
                    Duration::from_secs(timeout),
                    "streaming={streaming}"
                );
                assert_eq!(sim.open_connections(), 0);
            }
        }
    }
}

#[test]
fn defect_23_a_stream_that_falls_silent_is_given_up() {
    for api in APIS {
        let fixture = Fixture::simple(api);
        let reply = fixture.reply(true);
        let half = reply.bytes().len() / 2;
        let (answer, sim) = ask(&fixture.ask(true), 1, [reply.stall_at(half)]);
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .events()
                .last()
                .unwrap()
                .data
                .contains("timeout_error")
                || api == Api::Responses
        );
        let ended = sim.records.ended();
        assert_eq!(ended.outcome, Outcome::Timeout);
        assert_eq!(ended.total, Duration::from_secs(300));
        assert_eq!(sim.open_connections(), 0);
    }
}

#[test]
fn defect_24_a_policy_may_cool_a_rejected_key_instead_of_retiring_it() {
    let failover = Failover {
        unauthorized: Rejected::Cool(Duration::from_secs(30)),
        forbidden: Rejected::Relay,
        ..Failover::default()
    };
    let config = setup::with_providers(config(2), |provider| provider.policy = Arc::new(failover));
    let script = Script::in_order([
        Reply::status(401),
        Reply::json(200, "{}"),
        Reply::status(403),
        Reply::json(200, "{}"),
    ]);
    let mut sim = Sim::new(config, &script);
    let request = Ask::new(Api::ChatCompletions, false);
    assert_eq!(sim.ask(&request).status, 200);
    assert_eq!(sim.key_states("openai"), ["temporary", "valid"]);
    assert_eq!(sim.ask(&request).status, 403, "relayed");
    assert_eq!(sim.key_states("openai"), ["temporary", "valid"]);
    sim.advance(Duration::from_secs(30));
    assert_eq!(sim.ask(&request).status, 200);
    assert_eq!(script.keys(), [KEYS[0], KEYS[1], KEYS[1], KEYS[0]]);
    script.verify();
}

#[test]
fn defect_24_an_administrator_resets_a_key_after_a_spell_of_401s() {
    let script = Script::in_order([
        Reply::status(401),
        Reply::status(401),
        Reply::json(200, "{}"),
    ]);
    let mut sim = Sim::new(config(2), &script);
    let request = Ask::new(Api::Messages, false);
    assert_eq!(sim.ask(&request).status, 502);
    assert!(sim.bridge.reset_key(sim.now, "anthropic", 1).is_some());
    assert_eq!(sim.ask(&request).status, 200);
    assert_eq!(script.keys(), [KEYS[0], KEYS[1], KEYS[1]]);
    script.verify();
}
