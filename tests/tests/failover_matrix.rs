//! Failover, as one table: 3 APIs × {blocking, streaming} × 8 scenarios, each run three ways.
//!
//! The ways are an `Interception` alone, `Session`s in the simulator, and an adapter on real sockets. What is looked at
//! is the same in all: status, `Retry-After`, the keys' states by index, the keys that upstream saw in order, the
//! credential hint in the record, and the body.

use aibridge_core::api::{Api, Vendor};
use aibridge_testkit::{
    APIS, Answer, Ask, Drive, Fixture, Records, Reply, Script, Sim, key_states,
    setup::{self, HINTS, KEYS},
    sockets::{Client, Server},
};
use bytes::Bytes;

mod gateway;
use gateway::Gateway;

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
    for case in cases() {
        let script = case.script();
        let server = Server::start(&script).unwrap();
        let config = setup::config_at(&server.target(), case.keys());
        let gateway = Gateway::start(config);
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
