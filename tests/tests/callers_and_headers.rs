//! Who is calling, whose key is used, and which header fields cross the bridge.

use aibridge_core::{
    api::{Api, Vendor},
    config::{Config, Metadata},
    record::CredentialKind,
};
use aibridge_testkit::{
    APIS, Answer, Ask, Reply, Script, Seen, Sim,
    setup::{self, KEYS, ok, raw, two_keys as config},
};

/// One request and what upstream saw of it.
fn seen(config: Config, ask: &Ask) -> (Seen, Sim) {
    let script = Script::in_order([ok()]);
    let mut sim = Sim::new(config, &script);
    let answer = sim.ask(ask);
    assert_eq!(answer.status, 200, "{answer:?}");
    (script.verify().remove(0), sim)
}

#[track_caller]
fn assert_shape(answer: &Answer, vendor: Vendor) {
    let json = answer.json();
    assert!(json["error"]["message"].is_string(), "{answer:?}");
    match vendor {
        Vendor::Anthropic => {
            assert_eq!(json["type"], "error", "{answer:?}");
            assert_eq!(
                json["request_id"].as_str(),
                answer.header("x-aibridge-id"),
                "{answer:?}"
            );
        }
        Vendor::OpenAi => {
            assert!(json.get("type").is_none(), "{answer:?}");
            assert!(json["error"].get("code").is_some(), "{answer:?}");
            assert!(json["error"]["param"].is_null(), "{answer:?}");
        }
    }
}

#[test]
fn a_client_that_brings_its_key_has_it_forwarded_as_it_came() {
    for (name, value) in [
        ("x-api-key", "sk-own-key-1"),
        ("authorization", "Bearer sk-own-key-1"),
        ("authorization", "bearer   sk-own-key-1"),
    ] {
        for api in APIS {
            let (call, sim) = seen(config(), &Ask::new(api, false).header(name, value));
            assert_eq!(call.key, "sk-own-key-1", "{name}");
            let other = if name == "x-api-key" {
                "authorization"
            } else {
                "x-api-key"
            };
            assert_eq!(call.headers.get(other), None, "{name}");
            assert_eq!(
                sim.records.started()[0].credential_kind,
                CredentialKind::Byok
            );
            assert_eq!(&*sim.records.ended().credential_hint, "sk...-1");
        }
    }
}

#[test]
fn the_placeholder_and_no_credential_use_the_pool() {
    for api in APIS {
        for ask in [
            Ask::new(api, false),
            Ask::new(api, false).key(api, "aibridge"),
        ] {
            let (call, sim) = seen(config(), &ask);
            assert_eq!(call.key, KEYS[0]);
            let (own, other) = match api.vendor() {
                Vendor::Anthropic => ("x-api-key", "authorization"),
                Vendor::OpenAi => ("authorization", "x-api-key"),
            };
            assert!(call.headers.contains_key(own) && !call.headers.contains_key(other));
            let started = sim.records.started()[0];
            assert_eq!(
                (started.credential_kind, &*started.actor),
                (CredentialKind::Centralized, "local")
            );
        }
    }
}

#[test]
fn with_clients_configured_a_token_is_required() {
    let config = || setup::with_client(config(), "alice", "alice-token");
    for api in APIS {
        for ask in [
            Ask::new(api, false),
            Ask::new(api, false).key(api, "aibridge"),
            Ask::new(api, false).key(api, "alice-tokem"),
            Ask::new(api, false).header("x-aibridge-token", "wrong"),
        ] {
            let (answer, _, seen) = raw(config(), &ask.bytes());
            assert_eq!(answer.status, 401, "{ask:?}");
            assert_shape(&answer, api.vendor());
            match api.vendor() {
                Vendor::Anthropic => assert_eq!(answer.error_type(), "authentication_error"),
                Vendor::OpenAi => assert_eq!(answer.json()["error"]["code"], "invalid_api_key"),
            }
            assert!(seen.is_empty());
        }
        for ask in [
            Ask::new(api, false).header("x-aibridge-token", "alice-token"),
            Ask::new(api, false).header("x-api-key", "alice-token"),
            Ask::new(api, false).header("authorization", "Bearer alice-token"),
        ] {
            let (call, sim) = seen(config(), &ask);
            assert_eq!(call.key, KEYS[0], "{ask:?}");
            assert_eq!(call.headers.get("x-aibridge-token"), None);
            assert_eq!(&*sim.records.started()[0].actor, "alice");
        }
        let both = Ask::new(api, false)
            .header("x-aibridge-token", "alice-token")
            .key(api, "own-key-of-hers");
        let (call, sim) = seen(config(), &both);
        assert_eq!(call.key, "own-key-of-hers");
        assert_eq!(
            sim.records.started()[0].credential_kind,
            CredentialKind::Byok
        );
        assert_eq!(&*sim.records.started()[0].actor, "alice");
    }
}

#[test]
fn a_provider_may_refuse_keys_of_clients() {
    for api in APIS {
        let config = setup::with_providers(config(), |provider| provider.byok = false);
        let ask = Ask::new(api, false).key(api, "own-key");
        let (answer, _, seen) = raw(config, &ask.bytes());
        assert_eq!(answer.status, 403);
        assert_shape(&answer, api.vendor());
        assert!(seen.is_empty());
    }
}

#[test]
fn a_provider_without_keys_says_so() {
    for api in APIS {
        let (answer, _, seen) = raw(setup::config(&[]), &Ask::new(api, false).bytes());
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_shape(&answer, api.vendor());
        assert!(seen.is_empty());
    }
}

#[test]
fn what_a_client_says_to_its_provider_is_passed_on() {
    let ask = Ask::post("/anthropic/v1/messages?beta=true", r#"{"model":"m"}"#)
        .header("anthropic-version", "2024-01-01")
        .header("anthropic-beta", "one,two")
        .header("anthropic-beta", "three")
        .header("user-agent", "claude-cli/2.0")
        .header("accept-encoding", "gzip, br")
        .header("te", "trailers")
        .header("keep-alive", "timeout=5")
        .header("x-hop", "1")
        .header("connection", "keep-alive, x-hop");
    let (call, _) = seen(config(), &ask);
    assert_eq!(call.path, "/v1/messages?beta=true");
    assert_eq!(call.header("anthropic-version"), "2024-01-01");
    let betas: Vec<_> = call.headers.get_all("anthropic-beta").iter().collect();
    assert_eq!(betas, ["one,two", "three"]);
    assert_eq!(call.header("user-agent"), "claude-cli/2.0");
    assert_eq!(call.header("accept-encoding"), "identity");
    for hop in ["te", "keep-alive", "x-hop", "connection"] {
        assert_eq!(call.headers.get(hop), None, "{hop}");
    }
}

#[test]
fn what_a_client_leaves_out_is_added() {
    let bare = "POST /anthropic/v1/messages HTTP/1.1\r\nHost: b\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}";
    let (_, _, calls) = raw(config(), bare.as_bytes());
    assert_eq!(calls[0].header("anthropic-version"), "2023-06-01");
    assert_eq!(calls[0].header("content-type"), "application/json");
}

#[test]
fn the_actor_is_told_only_where_configured() {
    let mut config = setup::with_client(config(), "zoë", "zoes-token");
    config.clients[0].metadata = Metadata::new([("team", "search")]).unwrap();
    let ask = Ask::new(Api::Messages, false).header("x-api-key", "zoes-token");
    let (call, _) = seen(config.clone(), &ask);
    assert_eq!(call.headers.get("x-ai-bridge-actor-id"), None);
    let team = "x-ai-bridge-actor-metadata-team";
    assert_eq!(call.headers.get(team), None);
    let config = setup::with_providers(config, |provider| provider.send_actor = true);
    let (call, _) = seen(config, &ask);
    assert_eq!(call.header("x-ai-bridge-actor-id"), "zo%C3%AB");
    assert_eq!(call.header(team), "search");
}

#[test]
fn upstreams_header_fields_reach_the_client() {
    let told = [
        ("request-id", "req_1"),
        ("x-request-id", "req_2"),
        ("anthropic-ratelimit-requests-remaining", "41"),
        ("x-ratelimit-remaining-tokens", "1000"),
        ("openai-processing-ms", "312"),
        ("retry-after", "7"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    for api in APIS {
        for status in [200, 400, 500] {
            let mut reply = ok().with_status(status);
            for (name, value) in told {
                reply = reply.header(name, value);
            }
            reply = reply
                .header("set-cookie", "a=b")
                .header("keep-alive", "timeout=5")
                .header("x-hop", "1")
                .header("connection", "keep-alive, x-hop");
            let script = Script::in_order([reply]);
            let mut sim = Sim::new(config(), &script);
            let answer = sim.ask(&Ask::new(api, false));
            for (name, value) in told {
                assert_eq!(answer.header(name), Some(value));
            }
            for gone in ["set-cookie", "keep-alive", "x-hop"] {
                assert_eq!(answer.header(gone), None, "{gone}");
            }
            script.verify();
        }
    }
}

#[test]
fn every_bridged_reply_names_its_record() {
    for api in APIS {
        for (reply, streaming) in [
            (ok(), false),
            (Reply::sse("data: x\n\n"), true),
            (Reply::status(500), false),
            (Reply::refuse(), true),
        ] {
            let script = Script::in_order([reply.header("x-aibridge-id", "forged")]);
            let mut sim = Sim::new(config(), &script);
            let answer = sim.ask(&Ask::new(api, streaming));
            let ids: Vec<_> = sim
                .records
                .0
                .iter()
                .filter_map(|record| match record {
                    aibridge_core::record::Record::Ended(id, _) => Some(id.to_string()),
                    _ => None,
                })
                .collect();
            assert_eq!(answer.header("x-aibridge-id"), Some(&*ids[0]));
            let named = answer
                .headers
                .iter()
                .filter(|(name, _)| name == "x-aibridge-id");
            assert_eq!(named.count(), 1);
            script.verify();
        }
    }
}
