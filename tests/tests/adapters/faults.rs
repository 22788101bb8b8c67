//! What goes wrong on real sockets, and what exactly the client is told of it: every row for each
//! API, blocking and streamed.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use aibridge_core::{
    api::{Api, Vendor},
    config::Config,
    record::Outcome,
};
use aibridge_testkit::{
    APIS, Answer, Ask, Fixture, Reply, Script,
    answer::{SseEvent, events, find},
    setup::{self, KEYS},
    sockets::{Client, Server},
};
use serde_json::{Value, json};

use crate::Gateway;

/// A timeout that is to pass.
const SHORT: Duration = Duration::from_millis(50);

/// What an upstream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Ends,
    /// What follows is no HTTP.
    Garbles,
    Resets,
    Stalls,
}

/// Where in its reply.
#[derive(Clone, Copy, Debug)]
enum Place {
    Beginning,
    WithinHead,
    AfterHead,
    /// After two events of a stream, or half of another body.
    WithinBody,
    /// Some bytes later, within an event.
    WithinEvent,
    /// One byte before the end of the message.
    LastByte,
}

use How::{Ends, Garbles, Resets, Stalls};
use Place::{AfterHead, Beginning, LastByte, WithinBody, WithinEvent, WithinHead};

const CLOSED: &str = "upstream connection failed: connection closed";
const NO_HTTP: &str = "upstream connection failed: protocol error";
const RESET: &str = "upstream connection failed: connection reset";
const SILENT: &str = "upstream did not answer in time";

/// What happens, the status that the client gets, and the message of its error: in a reply of the
/// bridge's own, or after what was relayed.
const ROWS: [(How, Place, u16, &str); 19] = [
    (Ends, Beginning, 502, CLOSED),
    (Ends, WithinHead, 502, CLOSED),
    (Ends, AfterHead, 200, CLOSED),
    (Ends, WithinBody, 200, CLOSED),
    (Ends, WithinEvent, 200, CLOSED),
    (Ends, LastByte, 200, CLOSED),
    (Garbles, Beginning, 502, NO_HTTP),
    (Garbles, WithinHead, 502, NO_HTTP),
    (Garbles, WithinBody, 200, NO_HTTP),
    (Resets, Beginning, 502, RESET),
    (Resets, WithinHead, 502, RESET),
    (Resets, AfterHead, 200, RESET),
    (Resets, WithinBody, 200, RESET),
    (Resets, WithinEvent, 200, RESET),
    (Resets, LastByte, 200, RESET),
    (Stalls, Beginning, 504, SILENT),
    (Stalls, WithinHead, 504, SILENT),
    (Stalls, WithinBody, 200, SILENT),
    (Stalls, WithinEvent, 200, SILENT),
];

#[test]
fn what_an_upstream_does_wrong_is_told_to_the_letter() {
    for (how, place, status, message) in ROWS {
        for api in APIS {
            for streaming in [false, true] {
                if (how, status, streaming) == (Garbles, 200, false) {
                    continue; // as long as it says, whatever it holds
                }
                let case = format!("{how:?} {place:?} {api:?} streaming={streaming}");
                upstream_row(how, place, status, message, api, streaming, &case);
            }
        }
    }
}

fn upstream_row(
    how: How,
    place: Place,
    status: u16,
    message: &str,
    api: Api,
    streaming: bool,
    case: &str,
) {
    let fixture = Fixture::simple(api);
    let wire = fixture.reply(streaming).bytes();
    let at = offset(&fixture, &wire, place, streaming);
    let reply = fixture.reply(streaming);
    let script = Script::in_order([match how {
        Ends => reply.end_at(at),
        Garbles => Reply::raw([&wire[..at], &b"\x16\x03\x01 this is no HTTP\r\n\r\n"[..]].concat()),
        Resets => reply.reset_at(at),
        Stalls => reply.stall_at(at),
    }]);
    let server = Server::start(&script).unwrap();
    let mut config = setup::config_at(&server.target(), &KEYS[..2]);
    match (how, status) {
        (Stalls, 200) => config.timeouts.idle = SHORT,
        (Stalls, _) => (config.timeouts.header, config.timeouts.header_blocking) = (SHORT, SHORT),
        _ => {}
    }
    let gateway = Gateway::start(config);
    let mut client = Client::connect(gateway.addr()).unwrap();
    let answer = client.ask(&fixture.ask(streaming)).unwrap();

    let kind = if how == Stalls {
        "timeout_error"
    } else {
        "api_error"
    };
    let told = Told { api, kind, message };
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    let outcome = match (how, place) {
        // What is missing of a stream that has said its last word, nobody misses.
        (_, LastByte) if streaming => Outcome::Ok,
        (Stalls, _) => Outcome::Timeout,
        (Ends | Garbles | Resets, _) => Outcome::UpstreamError,
    };
    let ended = gateway.records(1).ended().clone();
    assert_eq!((ended.outcome, ended.attempts), (outcome, 1), "{case}");
    let provider = match api.vendor() {
        Vendor::Anthropic => "anthropic",
        Vendor::OpenAi => "openai",
    };
    assert_eq!(gateway.key_states(provider), ["valid", "valid"], "{case}");
    match (how, status) {
        // It may have been given up before it had read what it was asked.
        (Stalls, 504) => script.abandon(),
        _ => drop(script.verify()),
    }

    let sent = at.saturating_sub(head_of(&wire));
    match (status, streaming) {
        (200, false) => {
            assert!(!answer.is_complete(), "{case}: {answer:?}");
            let whole = fixture.relayed(false);
            assert_eq!(answer.body, whole[..sent.min(whole.len())], "{case}");
        }
        (200, true) => told.after(&fixture, &answer, place, case),
        _ => told.alone(&answer, case),
    }
}

/// The length of a message's head.
fn head_of(wire: &[u8]) -> usize {
    find(wire, b"\r\n\r\n").unwrap() + 4
}

/// The place in the bytes of a whole reply.
fn offset(fixture: &Fixture, wire: &[u8], place: Place, streaming: bool) -> usize {
    let head = head_of(wire);
    let body = if streaming {
        let two = Reply::sse(two_events(&fixture.body(true))).bytes();
        head + two.len() - head_of(&two) - b"0\r\n\r\n".len()
    } else {
        head + (wire.len() - head) / 2
    };
    match place {
        Beginning => 0,
        WithinHead => 20,
        AfterHead => head,
        WithinBody => body,
        WithinEvent => body + 20,
        LastByte => wire.len() - 1,
    }
}

/// The first two events of a stream.
fn two_events(body: &[u8]) -> &[u8] {
    let ends = body.windows(2).enumerate();
    let mut ends = ends.filter(|(_, pair)| *pair == b"\n\n");
    &body[..ends.nth(1).unwrap().0 + 2]
}

/// An error of the bridge's own.
#[derive(Clone, Copy, Debug)]
struct Told<'a> {
    api: Api,
    kind: &'a str,
    message: &'a str,
}

impl Told<'_> {
    /// It is the whole reply.
    #[track_caller]
    fn alone(self, answer: &Answer, case: &str) {
        assert!(answer.is_complete(), "{case}: {answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{case}"
        );
        assert_eq!(answer.json(), self.body(answer), "{case}");
    }

    /// It is the last event of a stream, after what was relayed.
    #[track_caller]
    fn after(self, fixture: &Fixture, answer: &Answer, place: Place, case: &str) {
        assert!(
            answer.is_complete() && answer.is_stream(),
            "{case}: {answer:?}"
        );
        let whole = events(&fixture.relayed(true));
        if matches!(place, LastByte) {
            // Nothing is missing that a client would read, and nothing is added.
            assert_eq!(answer.events(), whole, "{case}");
            return;
        }
        let mut got = answer.events();
        let last = got.pop().unwrap();
        // Of Anthropic's API half an event is made a `ping`, which clients skip.
        got.retain(|event| event.name != "ping" || whole.contains(event));
        let relayed = match place {
            AfterHead => 0,
            _ => 2,
        };
        assert_eq!(got, whole[..relayed], "{case}");
        assert_eq!(
            last.name,
            if self.api == Api::ChatCompletions {
                ""
            } else {
                "error"
            }
        );
        let data: Value = serde_json::from_str(&last.data).unwrap();
        assert_eq!(data, self.event(answer, got.last()), "{case}");
    }

    fn code(self) -> &'static str {
        match self.kind {
            "api_error" => "server_error",
            "timeout_error" => "timeout",
            _ => panic!("no code for {}", self.kind),
        }
    }

    fn body(self, answer: &Answer) -> Value {
        let (kind, message) = (self.kind, self.message);
        match self.api.vendor() {
            Vendor::Anthropic => {
                let id = answer.header("x-aibridge-id");
                json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": id})
            }
            Vendor::OpenAi => {
                let code = match kind {
                    "invalid_request_error" => Value::Null,
                    _ => self.code().into(),
                };
                json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
            }
        }
    }

    fn event(self, answer: &Answer, before: Option<&SseEvent>) -> Value {
        if self.api != Api::Responses {
            return self.body(answer);
        }
        let number = before.map_or(0, |event| {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            data["sequence_number"].as_u64().unwrap() + 1
        });
        json!({
            "type": "error", "code": self.code(), "message": self.message, "param": null,
            "sequence_number": number,
        })
    }
}

/// A reply that is larger than all buffers on its way.
fn endless(streaming: bool) -> Reply {
    let text = "x".repeat(64 << 10);
    if streaming {
        Reply::sse(format!("data: {{\"type\":\"ping\",\"x\":\"{text}\"}}\n\n").repeat(512))
    } else {
        Reply::json(200, text.repeat(512))
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up_with_the_call_that_it_caused() {
    for api in APIS {
        for streaming in [false, true] {
            let case = format!("{api:?} streaming={streaming}");
            let reply = endless(streaming);
            let whole = reply.body().len();
            let script = Script::in_order([reply]);
            let server = Server::start(&script).unwrap();
            let mut config = setup::config_at(&server.target(), &KEYS[..1]);
            config.timeouts.client_body = SHORT;
            let gateway = Gateway::start(config);
            let mut client = Client::connect(gateway.addr()).unwrap();
            client.send(&Ask::new(api, streaming).bytes()).unwrap();
            // It has not read a byte by the time that its interception is over.
            let ended = gateway.records(1).ended().clone();
            assert_eq!(ended.outcome, Outcome::Cancelled, "{case}");
            let got = client.answer();
            let is_whole = got.is_ok_and(|got| got.is_complete() || got.body.len() >= whole);
            assert!(!is_whole, "{case}");
            script.verify();
        }
    }
}

/// A bridge whose upstream nobody may call.
fn unused(change: impl Fn(&mut Config)) -> (Script, Server, Gateway) {
    let script = Script::in_order([]);
    let server = Server::start(&script).unwrap();
    let mut config = setup::config_at(&server.target(), &KEYS[..1]);
    change(&mut config);
    let gateway = Gateway::start(config);
    (script, server, gateway)
}

/// The places at which requests break off: within the head, at its end, and within the body.
fn parts(ask: &[u8]) -> [(&[u8], &'static str); 3] {
    let head = head_of(ask);
    [
        (&ask[..head / 2], "head"),
        (&ask[..head], "body"),
        (&ask[..ask.len() - 5], "body"),
    ]
}

#[test]
fn half_a_request_and_its_end_come_to_nothing() {
    for api in APIS {
        for streaming in [false, true] {
            let (script, _server, gateway) = unused(|_| ());
            for (part, _) in parts(&Ask::new(api, streaming).bytes()) {
                let mut stream = TcpStream::connect(gateway.addr()).unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                stream.write_all(part).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert_eq!(got, b"", "{api:?}: {}", part.escape_ascii());
            }
            assert_eq!(gateway.records(0).all_ended().len(), 0);
            script.verify();
        }
    }
}

#[test]
fn half_a_request_and_silence_are_a_408() {
    for api in APIS {
        for streaming in [false, true] {
            let (script, _server, gateway) = unused(|config| {
                (config.timeouts.client_header, config.timeouts.client_body) = (SHORT, SHORT);
            });
            for (part, name) in parts(&Ask::new(api, streaming).bytes()) {
                let mut client = Client::connect(gateway.addr()).unwrap();
                client.send(part).unwrap();
                let answer = client.answer().unwrap();
                let message = format!("the request's {name} took too long");
                assert_eq!(answer.status, 408, "{answer:?}");
                assert_eq!(answer.error_message(), message);
            }
            script.verify();
        }
    }
}

#[test]
fn defect_17_a_malformed_body_is_a_400_and_nobody_is_called() {
    let bodies = [
        ("{\"model\":\"m\"", "request body is not valid JSON: "),
        ("", "request body is not valid JSON: "),
        ("[]", "request body must be a JSON object"),
        ("{}", "`model` must be a non-empty string"),
        (
            "{\"model\":\"m\",\"stream\":1}",
            "`stream` must be a boolean",
        ),
    ];
    for api in APIS {
        let (script, _server, gateway) = unused(|_| ());
        let mut client = Client::connect(gateway.addr()).unwrap();
        for (body, message) in bodies {
            let answer = client.ask(&Ask::with_body(api, false, body)).unwrap();
            assert_eq!(answer.status, 400, "{api:?} {body}");
            let told = answer.error_message();
            assert!(told.starts_with(message), "{api:?} {body}: {told}");
            let error = Told {
                api,
                kind: "invalid_request_error",
                message: &told,
            };
            error.alone(&answer, body);
        }
        script.verify();
    }
}
