//! A provider that fails again and again is left alone for a while, where that is configured.

use aibridge_core::{
    Duration,
    api::Api,
    config::{Breaker, Config},
};
use aibridge_testkit::{
    APIS, Ask, Reply, Script, Sim,
    setup::{self, KEYS},
};
use refusal::assert_refused;

mod refusal;

const SECOND: Duration = Duration::from_secs(1);

fn with_breakers() -> Config {
    setup::with_providers(setup::config(&KEYS[..1]), |provider| {
        provider.breaker = Some(Breaker::default());
    })
}

/// An upstream that answers with these statuses, and then well.
fn statuses(statuses: impl IntoIterator<Item = u16, IntoIter: Send + 'static>) -> Script {
    let mut statuses = statuses.into_iter();
    Script::choosing(move |_| match statuses.next() {
        Some(status) if status != 200 => Reply::status(status),
        _ => Reply::json(200, r#"{"id":"x"}"#),
    })
}

#[test]
fn after_five_failures_in_a_row_nothing_is_sent_for_half_a_minute() {
    for api in APIS {
        for status in [503, 504, 529] {
            let script = statuses([status; 5]);
            let mut sim = Sim::new(with_breakers(), &script);
            for _ in 0..5 {
                assert_eq!(sim.ask(&Ask::new(api, false)).status, status, "relayed");
            }
            let message = "the provider is failing (retry after 30s)";
            assert_refused(api, &sim.ask(&Ask::new(api, true)), 503, "30", message);
            sim.advance(SECOND * 29);
            let message = "the provider is failing (retry after 1s)";
            assert_refused(api, &sim.ask(&Ask::new(api, false)), 503, "1", message);
            assert_eq!(script.seen().len(), 5, "{api:?}: left alone");
            sim.advance(SECOND);
            for _ in 0..20 {
                assert_eq!(sim.ask(&Ask::new(api, false)).status, 200);
            }
            script.verify();
        }
    }
}

#[test]
fn a_failure_of_one_that_tries_leaves_the_provider_alone_again() {
    let script = statuses([529; 6]);
    let mut sim = Sim::new(with_breakers(), &script);
    let ask = Ask::new(Api::Messages, false);
    for _ in 0..5 {
        assert_eq!(sim.ask(&ask).status, 529);
    }
    sim.advance(SECOND * 30);
    assert_eq!(sim.ask(&ask).status, 529, "one tries");
    let message = "the provider is failing (retry after 30s)";
    assert_refused(Api::Messages, &sim.ask(&ask), 503, "30", message);
    assert_eq!(script.seen().len(), 6);
    script.verify();
}

#[test]
fn while_three_try_the_others_wait() {
    let mut failures = 5;
    let script = Script::choosing(move |_| {
        if failures > 0 {
            failures -= 1;
            return Reply::status(503);
        }
        Reply::json(200, r#"{"id":"x"}"#).after(SECOND)
    });
    let mut sim = Sim::new(with_breakers(), &script);
    let ask = Ask::new(Api::ChatCompletions, false);
    for _ in 0..5 {
        assert_eq!(sim.ask(&ask).status, 503);
    }
    sim.advance(SECOND * 30);
    let trying: Vec<_> = (0..3).map(|_| sim.connect()).collect();
    for client in &trying {
        sim.send(*client, ask.bytes());
    }
    sim.settle();
    let message = "the provider is failing (retry after 1s)";
    assert_refused(Api::ChatCompletions, &sim.ask(&ask), 503, "1", message);
    for client in trying {
        assert_eq!(sim.take_answer(client).status, 200);
    }
    assert_eq!(sim.ask(&ask).status, 200);
    script.verify();
}

/// One that leaves says nothing of the provider, and blocks nobody.
#[test]
fn clients_that_leave_while_they_try_make_room_for_others() {
    let mut calls = 0;
    let script = Script::choosing(move |_| {
        calls += 1;
        match calls {
            ..=5 => Reply::status(503),
            6..=8 => Reply::stall(),
            _ => Reply::json(200, r#"{"id":"x"}"#),
        }
    });
    let mut sim = Sim::new(with_breakers(), &script);
    let ask = Ask::new(Api::Responses, false);
    for _ in 0..5 {
        assert_eq!(sim.ask(&ask).status, 503);
    }
    sim.advance(SECOND * 30);
    for _ in 0..3 {
        let client = sim.connect();
        sim.send(client, ask.bytes());
        sim.settle();
        sim.reset(client);
        sim.settle();
    }
    assert_eq!(sim.ask(&ask).status, 200);
    script.verify();
}

#[test]
fn each_provider_and_endpoint_has_a_circuit_of_its_own() {
    let script = Script::choosing(|call| {
        if call.path.ends_with("/chat/completions") {
            Reply::status(503)
        } else {
            Reply::json(200, r#"{"id":"x"}"#)
        }
    });
    let mut sim = Sim::new(with_breakers(), &script);
    for _ in 0..5 {
        assert_eq!(sim.ask(&Ask::new(Api::ChatCompletions, false)).status, 503);
    }
    let refused = sim.ask(&Ask::new(Api::ChatCompletions, false));
    assert_eq!(refused.header("retry-after"), Some("30"));
    for ask in [
        Ask::new(Api::Responses, false),
        Ask::new(Api::Messages, false),
        Ask::get("/openai/v1/models"),
    ] {
        assert_eq!(sim.ask(&ask).status, 200, "{}", ask.path);
    }
    script.verify();
}

/// What is a key's fault, or nobody's, or in between, is no row of failures.
#[test]
fn other_failures_do_not_count() {
    let row = [503, 529, 504, 503, 200, 503, 529, 500, 502, 400, 404, 529];
    let script = statuses(row);
    let mut sim = Sim::new(with_breakers(), &script);
    for status in row {
        assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, status);
    }
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    script.verify();
}

#[test]
fn by_default_a_provider_is_never_left_alone() {
    let script = statuses([529; 40]);
    let mut sim = Sim::new(setup::config(&KEYS[..1]), &script);
    for _ in 0..40 {
        assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 529);
    }
    script.verify();
}

/// What failed where a provider was says nothing of where it is now.
#[test]
fn a_provider_that_moves_begins_with_a_closed_circuit() {
    let script = statuses([529; 5]);
    let mut sim = Sim::new(with_breakers(), &script);
    for _ in 0..5 {
        sim.ask(&Ask::new(Api::Messages, false));
    }
    sim.reload(with_breakers()).unwrap();
    assert_eq!(
        sim.ask(&Ask::new(Api::Messages, false)).status,
        503,
        "as it was"
    );
    sim.reload(setup::with_providers(with_breakers(), |provider| {
        provider.base_path = "/moved".into();
    }))
    .unwrap();
    assert_eq!(sim.ask(&Ask::new(Api::Messages, false)).status, 200);
    script.verify();
}
