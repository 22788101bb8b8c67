//! Failover, as two tables: 3 APIs × {blocking, streaming} × 8 scenarios, and × 3 with a tool
//! called in between, each run three ways.
//!
//! The ways are an `Interception` alone, `Session`s in the simulator, and the adapters on real
//! sockets. What is looked at is the same in all: status, `Retry-After`, the keys' states by index,
//! the keys that upstream saw in order, the credential hint in the record, and the body.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aibridge_core::{
    api::{Api, Vendor},
    record::Outcome,
};
use aibridge_smol::Smol;
use aibridge_testkit::{
    APIS, Answer, Ask, Drive, Fixture, Ran, Records, Reply, Script, Sim, grammar, key_states,
    setup::{self, HINTS, KEYS},
    sockets::{Client, Server},
    tool_server, tool_turn, tools_origin, with_tools,
};
use aibridge_tokio::Tokio;
use bytes::Bytes;
use serde_json::Value;

mod gateway;
use gateway::{Adapter, Gateway};

const BYOK: &str = "sk-client-own-key-0001";

/// A row of the table.
struct Scenario {
    name: &'static str,
    /// What upstream replies to each key of the pool, in order; `Good` is the fixture's reply.
    upstream: &'static [Said],
    /// The client brings its own key.
    byok: bool,
    status: u16,
    retry_after: Option<&'static str>,
    states: &'static [&'static str],
    /// How many keys of the pool upstream saw.
    calls: usize,
    body: Body,
}

#[derive(Clone, Copy)]
enum Said {
    Good,
    Limited(u64),
    /// No call reaches this key.
    Nothing,
    Status(u16),
}

enum Body {
    /// The fixture's.
    Good,
    /// What upstream said last.
    Relayed,
    /// The bridge's own error: its message, and `error.type` for each vendor.
    Own(&'static str, &'static str),
}

use Said::{Good, Limited, Nothing, Status};

const TABLE: [Scenario; 8] = [
    Scenario {
        name: "single_valid_key",
        upstream: &[Good],
        byok: false,
        status: 200,
        retry_after: None,
        states: &["valid"],
        calls: 1,
        body: Body::Good,
    },
    Scenario {
        name: "failover_after_429",
        upstream: &[Limited(5), Good],
        byok: false,
        status: 200,
        retry_after: None,
        states: &["temporary", "valid"],
        calls: 2,
        body: Body::Good,
    },
    Scenario {
        name: "failover_after_401",
        upstream: &[Status(401), Good],
        byok: false,
        status: 200,
        retry_after: None,
        states: &["permanent", "valid"],
        calls: 2,
        body: Body::Good,
    },
    Scenario {
        name: "failover_after_403",
        upstream: &[Status(403), Good],
        byok: false,
        status: 200,
        retry_after: None,
        states: &["permanent", "valid"],
        calls: 2,
        body: Body::Good,
    },
    Scenario {
        name: "all_keys_rate_limited",
        upstream: &[Limited(5), Limited(3), Limited(10)],
        byok: false,
        status: 429,
        retry_after: Some("3"),
        states: &["temporary", "temporary", "temporary"],
        calls: 3,
        body: Body::Own("all configured keys are rate-limited", "rate_limit_error"),
    },
    Scenario {
        name: "all_keys_unauthorized",
        upstream: &[Status(401), Status(401)],
        byok: false,
        status: 502,
        retry_after: None,
        states: &["permanent", "permanent"],
        calls: 2,
        body: Body::Own("all configured keys failed authentication", "api_error"),
    },
    Scenario {
        name: "server_error_no_failover",
        upstream: &[Status(500), Nothing],
        byok: false,
        status: 500,
        retry_after: None,
        states: &["valid", "valid"],
        calls: 1,
        body: Body::Relayed,
    },
    Scenario {
        name: "byok_no_failover",
        upstream: &[Limited(5), Nothing],
        byok: true,
        status: 429,
        retry_after: Some("5"),
        states: &["valid", "valid"],
        calls: 1,
        body: Body::Relayed,
    },
];

/// A row of the second table: the first turn calls an injected tool. Two keys.
struct Agentic {
    name: &'static str,
    /// What upstream replies after the first turn.
    then: &'static [Said],
    /// The keys that upstream sees, by index.
    keys: &'static [usize],
    states: [&'static str; 2],
    /// All keys are rate-limited in the end, until so many seconds later.
    exhausted: Option<&'static str>,
}

const AGENTIC: [Agentic; 3] = [
    Agentic {
        name: "agentic_happy_path",
        then: &[Good],
        keys: &[0, 0],
        states: ["valid", "valid"],
        exhausted: None,
    },
    Agentic {
        name: "agentic_failover_to_k1",
        then: &[Limited(5), Good],
        keys: &[0, 0, 1],
        states: ["temporary", "valid"],
        exhausted: None,
    },
    Agentic {
        name: "agentic_all_keys_fail",
        then: &[Limited(5), Limited(3)],
        keys: &[0, 0, 1],
        states: ["temporary", "temporary"],
        exhausted: Some("3"),
    },
];

/// A cell: a scenario for one API in one form.
struct Case {
    scenario: &'static Scenario,
    api: Api,
    streaming: bool,
}

/// What came of it.
struct Observed {
    answer: Answer,
    states: Vec<&'static str>,
    records: Records,
}

fn cases() -> impl Iterator<Item = Case> {
    let forms = APIS
        .into_iter()
        .flat_map(|api| [false, true].map(|streaming| (api, streaming)));
    forms.flat_map(|(api, streaming)| {
        TABLE.iter().map(move |scenario| Case {
            scenario,
            api,
            streaming,
        })
    })
}

impl Case {
    fn name(&self) -> String {
        let form = if self.streaming {
            "streaming"
        } else {
            "blocking"
        };
        format!("{} {form} {}", self.api.as_str(), self.scenario.name)
    }

    fn provider(&self) -> &'static str {
        match self.api.vendor() {
            Vendor::Anthropic => "anthropic",
            Vendor::OpenAi => "openai",
        }
    }

    fn keys(&self) -> &'static [&'static str] {
        &KEYS[..self.scenario.upstream.len()]
    }

    fn good(&self) -> Fixture {
        Fixture::simple(self.api)
    }

    fn reply(&self, said: Said) -> Option<Reply> {
        match said {
            Good => Some(self.good().reply(self.streaming)),
            Limited(seconds) => Some(Reply::status(429).retry_after(seconds)),
            Nothing => None,
            Status(code) => Some(Reply::status(code)),
        }
    }

    fn script(&self) -> Script {
        let keys = if self.scenario.byok {
            &[BYOK, "none"]
        } else {
            &KEYS[..]
        };
        let said = keys.iter().copied().zip(self.scenario.upstream);
        Script::by_key(said.map(|(key, said)| (key, self.reply(*said))))
    }

    fn ask(&self) -> Ask {
        let ask = self.good().ask(self.streaming);
        if self.scenario.byok {
            ask.key(self.api, BYOK)
        } else {
            ask
        }
    }

    fn body(&self) -> Option<Bytes> {
        let last = self.scenario.upstream[self.scenario.calls - 1];
        match self.scenario.body {
            Body::Good => Some(self.good().relayed(self.streaming)),
            Body::Relayed => self.reply(last).map(|reply| reply.body()),
            Body::Own(..) => None,
        }
    }

    #[track_caller]
    fn check(&self, script: Script, observed: &Observed) {
        let name = self.name();
        let (expected, answer) = (self.scenario, &observed.answer);
        assert_eq!(answer.status, expected.status, "{name}: {answer:?}");
        assert!(answer.is_complete(), "{name}");
        assert_eq!(answer.header("retry-after"), expected.retry_after, "{name}");
        assert_eq!(observed.states, expected.states, "{name}");

        let keys: Vec<_> = script.verify().into_iter().map(|call| call.key).collect();
        let of_pool: &[&str] = if expected.byok { &[BYOK] } else { &KEYS };
        assert_eq!(keys, of_pool[..expected.calls], "{name}");
        let hint = if expected.byok {
            "sk-c...0001"
        } else {
            HINTS[expected.calls - 1]
        };
        assert_eq!(&*observed.records.ended().credential_hint, hint, "{name}");
        assert_eq!(
            observed.records.ended().attempts as usize,
            expected.calls,
            "{name}"
        );

        if let Some(body) = self.body() {
            assert_eq!(answer.body, body, "{name}");
        }
        if let Body::Own(message, kind) = expected.body {
            assert!(
                answer.error_message().contains(message),
                "{name}: {answer:?}"
            );
            assert_eq!(answer.error_type(), kind, "{name}");
        }
        assert_eq!(
            answer.is_stream(),
            self.streaming && expected.status == 200,
            "{name}"
        );
        if expected.status != 200 {
            assert_eq!(
                answer.header("content-type"),
                Some("application/json"),
                "{name}"
            );
            assert!(
                answer.json().is_object(),
                "{name}: an error is JSON, never an event"
            );
        }
    }
}

#[test]
fn the_table_has_48_cases() {
    assert_eq!(cases().count(), 48);
}

#[test]
fn on_the_interception_alone() {
    for case in cases() {
        let script = case.script();
        let mut drive = Drive::new(setup::config(case.keys()), script.upstream());
        let outcome = drive.ask(&case.ask());
        let observed = Observed {
            answer: outcome.answer,
            states: key_states(&drive.bridge, drive.now, case.provider()),
            records: outcome.records,
        };
        case.check(script, &observed);
    }
}

#[test]
fn on_session_bytes_in_the_simulator() {
    for case in cases() {
        let script = case.script();
        let mut sim = Sim::new(setup::config(case.keys()), &script);
        let answer = sim.ask(&case.ask());
        let observed = Observed {
            answer,
            states: sim.key_states(case.provider()),
            records: sim.records.clone(),
        };
        case.check(script, &observed);
    }
}

#[test]
fn on_real_sockets() {
    on_sockets_of::<Tokio>();
    on_sockets_of::<Smol>();
}

fn on_sockets_of<A: Adapter>() {
    for case in cases() {
        let script = case.script();
        let server = Server::start(&script).unwrap();
        let config = setup::config_at(&server.target(), case.keys());
        let gateway = Gateway::<A>::start(config);
        let mut client = Client::connect(gateway.addr()).unwrap();
        let answer = client.ask(&case.ask()).unwrap();
        let records = gateway.records(1);
        let observed = Observed {
            answer,
            states: gateway.key_states(case.provider()),
            records,
        };
        case.check(script, &observed);
    }
}

// --- with a tool called in between --------------------------------------------------------------------------------

/// A cell of the second table.
struct AgenticCase {
    scenario: &'static Agentic,
    api: Api,
    streaming: bool,
}

fn agentic_cases() -> impl Iterator<Item = AgenticCase> {
    let forms = APIS
        .into_iter()
        .flat_map(|api| [false, true].map(|streaming| (api, streaming)));
    forms.flat_map(|(api, streaming)| {
        AGENTIC.iter().map(move |scenario| AgenticCase {
            scenario,
            api,
            streaming,
        })
    })
}

const TOOLS: &[&str] = &["get_weather"];

fn weather(tool: &str, arguments: &Value) -> Ran {
    assert_eq!(tool, "get_weather");
    Ran::Text(format!("Rain, says {arguments}"))
}

impl AgenticCase {
    fn plain(&self) -> Case {
        let Self { api, streaming, .. } = *self;
        Case {
            scenario: &TABLE[0],
            api,
            streaming,
        }
    }

    fn script(&self) -> Script {
        let first = tool_turn(self.api, self.streaming, "bmcp_desk_get_weather");
        let then = self.scenario.then.iter();
        let then = then.filter_map(|said| self.plain().reply(*said));
        Script::in_order(std::iter::once(first).chain(then))
    }

    #[track_caller]
    fn check(&self, script: Script, observed: &Observed) {
        let (expected, answer) = (self.scenario, &observed.answer);
        let name = format!("{:?} {} {}", self.api, self.streaming, expected.name);
        assert!(answer.is_complete(), "{name}");
        assert_eq!(observed.states, expected.states, "{name}");
        let calls = script.verify();
        let keys: Vec<_> = calls.iter().map(|call| &*call.key).collect();
        let of_pool: Vec<_> = expected.keys.iter().map(|index| KEYS[*index]).collect();
        assert_eq!(keys, of_pool, "{name}");

        let first = String::from_utf8_lossy(&calls[0].body);
        assert!(first.contains("bmcp_desk_get_weather"), "{name}: {first}");
        for call in &calls[1..] {
            let body = String::from_utf8_lossy(&call.body);
            assert!(body.contains("Rain, says"), "{name}: {body}");
        }
        let ended = observed.records.ended();
        assert_eq!(
            (ended.turns, ended.attempts as usize),
            (2, calls.len()),
            "{name}"
        );
        let tools = observed.records.tools();
        assert_eq!(tools.len(), 1, "{name}: {tools:?}");
        assert!(tools[0].injected && tools[0].error.is_none(), "{name}");

        let Some(retry_after) = expected.exhausted else {
            assert_eq!(
                (answer.status, answer.is_stream()),
                (200, self.streaming),
                "{name}"
            );
            assert_eq!(ended.outcome, Outcome::Ok, "{name}");
            let read = if self.streaming {
                grammar::stream(self.api, &answer.body)
            } else {
                grammar::body(self.api, &answer.body)
            };
            let reply = read.unwrap_or_else(|broken| panic!("{name}: {broken}\n{}", answer.text()));
            assert!(
                reply.calls.is_empty() && reply.error.is_none(),
                "{name}: {reply:?}"
            );
            return;
        };
        assert_eq!(ended.outcome, Outcome::RateLimited, "{name}");
        assert!(!answer.text().contains("bmcp_"), "{name}");
        let late = self.streaming && self.api != Api::Responses;
        assert!(
            answer
                .text()
                .contains("all configured keys are rate-limited"),
            "{name}"
        );
        if !late {
            assert_eq!(answer.status, 429, "{name}");
            assert_eq!(answer.header("retry-after"), Some(retry_after), "{name}");
            assert_eq!(answer.error_type(), "rate_limit_error", "{name}");
            return;
        }
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (200, None),
            "{name}"
        );
        match self.api {
            Api::Messages => {
                let errors = answer.text().matches("event: error\n").count();
                assert_eq!(errors, 1, "{name}: {}", answer.text());
            }
            Api::ChatCompletions | Api::Responses => {
                let error = answer
                    .text()
                    .find("data: {\"error\"")
                    .expect("an error event");
                assert!(!answer.text()[error..].contains("[DONE]"), "{name}");
            }
        }
    }
}

#[test]
fn the_agentic_table_has_18_cases() {
    assert_eq!(agentic_cases().count(), 18);
}

#[test]
fn agentic_on_the_interception_alone() {
    for case in agentic_cases() {
        let script = case.script();
        let config = with_tools(setup::config(&KEYS[..2]), &tools_origin());
        let mut drive = Drive::new(config, script.upstream()).with_tools(TOOLS, weather);
        let outcome = drive.ask(&case.plain().ask());
        let observed = Observed {
            answer: outcome.answer,
            states: key_states(&drive.bridge, drive.now, case.plain().provider()),
            records: outcome.records,
        };
        case.check(script, &observed);
    }
}

#[test]
fn agentic_on_session_bytes_in_the_simulator() {
    for case in agentic_cases() {
        let script = case.script();
        let server = tool_server(TOOLS, weather);
        let config = with_tools(setup::config(&KEYS[..2]), &tools_origin());
        let mut sim = Sim::new(config, &script).with_server(&tools_origin(), &server);
        let answer = sim.ask(&case.plain().ask());
        let observed = Observed {
            answer,
            states: sim.key_states(case.plain().provider()),
            records: sim.records.clone(),
        };
        case.check(script, &observed);
        server.abandon();
    }
}

#[test]
fn agentic_on_real_sockets() {
    agentic_on_sockets_of::<Tokio>();
    agentic_on_sockets_of::<Smol>();
}

fn agentic_on_sockets_of<A: Adapter>() {
    for case in agentic_cases() {
        let (script, tools) = (case.script(), tool_server(TOOLS, weather));
        let (upstream, server) = (
            Server::start(&script).unwrap(),
            Server::start(&tools).unwrap(),
        );
        let config = setup::config_at(&upstream.target(), &KEYS[..2]);
        let gateway = Gateway::<A>::start(with_tools(config, &server.target()));
        gateway.wait_for_tools(1);
        let mut client = Client::connect(gateway.addr()).unwrap();
        let answer = client.ask(&case.plain().ask()).unwrap();
        let records = gateway.records(1);
        let observed = Observed {
            answer,
            states: gateway.key_states(case.plain().provider()),
            records,
        };
        case.check(script, &observed);
        tools.abandon();
    }
}
