//! What one request does to the pool, the next one meets.

use aibridge_core::{Duration, api::Api};
use aibridge_testkit::{
    APIS, Ask, Reply, Script, Sim,
    setup::{self, KEYS},
};

fn provider(api: Api) -> &'static str {
    if api == Api::Messages {
        "anthropic"
    } else {
        "openai"
    }
}

fn models(api: Api) -> Ask {
    let path = if api == Api::Messages {
        "/anthropic/v1/models"
    } else {
        "/openai/v1/models"
    };
    Ask::get(path)
}

fn good() -> Reply {
    Reply::json(200, r#"{"id":"x"}"#)
}

/// Two keys, the first limited for five seconds at its first call.
fn limited_once() -> Script {
    let mut first = true;
    Script::choosing(move |call| {
        let limited = call.key == KEYS[0] && std::mem::take(&mut first);
        if limited {
            Reply::status(429).retry_after(5)
        } else {
            good()
        }
    })
}

#[test]
fn after_a_failover_the_next_request_starts_on_the_second_key() {
    for api in APIS {
        let script = limited_once();
        let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
        for _ in 0..3 {
            assert_eq!(sim.ask(&Ask::new(api, false)).status, 200);
        }
        assert_eq!(
            script.keys(),
            [KEYS[0], KEYS[1], KEYS[1], KEYS[1]],
            "{api:?}"
        );
        script.verify();
    }
}

#[test]
fn the_same_pool_serves_passthrough_routes() {
    for api in APIS {
        let script = limited_once();
        let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
        assert_eq!(sim.ask(&models(api)).status, 200);
        assert_eq!(sim.ask(&Ask::new(api, true)).status, 200);
        assert_eq!(sim.ask(&models(api)).status, 200);
        assert_eq!(
            script.keys(),
            [KEYS[0], KEYS[1], KEYS[1], KEYS[1]],
            "{api:?}"
        );
        assert_eq!(sim.records.passthrough().len(), 2);
        script.verify();
    }
}

#[test]
fn both_openai_apis_share_one_pool_and_providers_do_not() {
    let script = limited_once();
    let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
    sim.ask(&Ask::new(Api::ChatCompletions, false));
    sim.ask(&Ask::new(Api::Responses, false));
    sim.ask(&Ask::new(Api::Messages, false));
    assert_eq!(script.keys(), [KEYS[0], KEYS[1], KEYS[1], KEYS[0]]);
    assert_eq!(sim.key_states("openai"), ["temporary", "valid"]);
    assert_eq!(sim.key_states("anthropic"), ["valid", "valid"]);
    script.verify();
}

#[test]
fn after_the_cooldown_the_first_key_is_used_again() {
    for api in APIS {
        let script = limited_once();
        let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
        sim.ask(&Ask::new(api, false));
        sim.advance(Duration::from_millis(4999));
        assert_eq!(sim.key_states(provider(api)), ["temporary", "valid"]);
        sim.ask(&Ask::new(api, false));
        sim.advance(Duration::from_millis(1));
        assert_eq!(sim.key_states(provider(api)), ["valid", "valid"]);
        sim.ask(&Ask::new(api, false));
        assert_eq!(
            script.keys(),
            [KEYS[0], KEYS[1], KEYS[1], KEYS[0]],
            "{api:?}"
        );
        script.verify();
    }
}

#[test]
fn exhaustion_counts_down_in_whole_seconds() {
    let script = Script::by_key([
        (KEYS[0], [Reply::status(429).retry_after(5)]),
        (KEYS[1], [Reply::status(429).retry_after(9)]),
    ]);
    let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
    let mut retry_after = |wait| {
        sim.advance(Duration::from_millis(wait));
        let answer = sim.ask(&Ask::new(Api::Messages, true));
        assert_eq!((answer.status, answer.is_stream()), (429, false));
        answer.header("retry-after").map(str::to_owned)
    };
    assert_eq!(retry_after(0).as_deref(), Some("5"));
    assert_eq!(
        retry_after(1).as_deref(),
        Some("5"),
        "4.999 s are rounded up"
    );
    assert_eq!(retry_after(999).as_deref(), Some("4"));
    assert_eq!(
        retry_after(3999).as_deref(),
        Some("1"),
        "a millisecond is a second"
    );
    let seen = script.verify();
    assert_eq!(seen.len(), 2, "no call is wasted on a key that cools");
}

#[test]
fn an_administrator_resets_a_retired_key() {
    let mut revoked = true;
    let script = Script::choosing(move |_| {
        if std::mem::take(&mut revoked) {
            Reply::status(401)
        } else {
            good()
        }
    });
    let mut sim = Sim::new(setup::config(&KEYS[..1]), &script);
    assert_eq!(sim.ask(&Ask::new(Api::Responses, false)).status, 502);
    sim.advance(Duration::from_secs(86_400));
    assert_eq!(sim.key_states("openai"), ["permanent"]);
    assert_eq!(sim.ask(&Ask::new(Api::Responses, false)).status, 502);

    assert_eq!(sim.bridge.reset_key(sim.now, "openai", 1), None);
    assert!(sim.bridge.reset_key(sim.now, "openai", 0).is_some());
    assert_eq!(sim.key_states("openai"), ["valid"]);
    assert_eq!(sim.ask(&Ask::new(Api::Responses, false)).status, 200);
    assert_eq!(script.verify().len(), 2);
}

#[test]
fn a_client_with_its_own_key_leaves_the_pool_alone() {
    let script = Script::choosing(|call| {
        if call.key == "its-own-key" {
            Reply::status(401)
        } else {
            good()
        }
    });
    let mut sim = Sim::new(setup::config(&KEYS[..2]), &script);
    let byok = Ask::new(Api::ChatCompletions, false).key(Api::ChatCompletions, "its-own-key");
    assert_eq!(sim.ask(&byok).status, 401);
    assert_eq!(sim.key_states("openai"), ["valid", "valid"]);
    assert_eq!(sim.ask(&Ask::new(Api::ChatCompletions, false)).status, 200);
    assert_eq!(script.keys(), ["its-own-key", KEYS[0]]);
    script.verify();
}
