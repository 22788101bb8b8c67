//! A secret appears in no output but the credential header that it belongs in.

use aibridge_core::{api::Api, config::Config, trace};
use aibridge_testkit::{
    APIS, Ask, Cut, Drive, Fixture, Reply, Script, Seen, Sim, answer::find, setup,
};

const POOL: [&str; 2] = ["sk-pool-SECRET-aaaa-0001", "sk-pool-SECRET-bbbb-0002"];
const TOKEN: &str = "token-SECRET-of-alice-01";
const OWN: &str = "sk-own-SECRET-of-alice-9";
const ALL: [&str; 4] = [POOL[0], POOL[1], TOKEN, OWN];

fn config() -> Config {
    setup::with_client(setup::config(&POOL), "alice", TOKEN)
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    for secret in ALL {
        assert!(
            find(bytes, secret.as_bytes()).is_none(),
            "{what} holds {secret}"
        );
        // Not in pieces either: more than the hint's four characters of an end.
        let middle = &secret[6..secret.len() - 6];
        assert!(
            find(bytes, middle.as_bytes()).is_none(),
            "{what} holds a part of {secret}"
        );
    }
}

/// What upstream saw, less the one header that a secret belongs in.
fn assert_calls_clean(calls: &[Seen], allowed: &[&str]) {
    for call in calls {
        assert!(
            allowed.contains(&call.key.as_str()),
            "{} is not for this call",
            call.key
        );
        let credentials = ["x-api-key", "authorization"].map(|name| call.header(name));
        assert_eq!(
            credentials.iter().filter(|value| !value.is_empty()).count(),
            1
        );
        for (name, value) in &call.headers {
            if name != "x-api-key" && name != "authorization" {
                assert_clean(name.as_str(), value.as_bytes());
            }
        }
        assert_clean("a path", call.path.as_bytes());
        assert_clean("a body", &call.body);
    }
}

/// The traces hold no secret, and are replayed nevertheless.
#[track_caller]
fn assert_traces_clean(mut sim: Sim) {
    for trace in sim.take_traces() {
        assert_clean("a trace", &trace);
        if let Err(trouble) = trace::replay(&trace) {
            panic!("{trouble}\n{}", String::from_utf8_lossy(&trace));
        }
    }
}

fn replies(api: Api) -> Vec<Reply> {
    let of_api = Fixture::all()
        .into_iter()
        .filter(|fixture| fixture.api == api);
    let mut replies: Vec<_> = of_api
        .flat_map(|fixture| {
            fixture
                .forms()
                .into_iter()
                .map(move |form| fixture.reply(form))
        })
        .collect();
    replies.extend([
        Reply::refuse(),
        Reply::reset(),
        Reply::garbage(),
        Reply::stall(),
        Reply::status(500),
        Reply::sse("data: {}\n\n").reset_at(150),
    ]);
    replies
}

#[test]
fn no_output_of_a_session_holds_a_secret() {
    for api in APIS {
        for reply in replies(api) {
            for own in [false, true] {
                let limited = Reply::status(429).until_close();
                let first = if own { Vec::new() } else { vec![limited] };
                let script = Script::in_order(first.into_iter().chain([reply.clone()]));
                let mut sim = Sim::new(config(), &script).traced();
                let mut ask = Ask::new(api, true).header("x-aibridge-token", TOKEN);
                if own {
                    ask = ask.key(api, OWN);
                }
                let client = sim.connect();
                sim.send(client, ask.bytes());
                sim.settle();
                assert_clean("a running session's debug form", sim.debug().as_bytes());
                sim.take_answer(client);
                sim.end(client);
                sim.settle();

                assert_clean(
                    "the timeline, with each action's debug form",
                    sim.timeline().as_bytes(),
                );
                assert_clean("the records", format!("{:?}", sim.records).as_bytes());
                assert_clean("the debug form", sim.debug().as_bytes());
                assert_clean(
                    "the keys as shown",
                    format!("{:?}", sim.bridge.keys(sim.now)).as_bytes(),
                );
                let allowed: &[&str] = if own { &[OWN] } else { &POOL };
                assert_calls_clean(&script.verify(), allowed);
                assert_traces_clean(sim);
            }
        }
    }
}

#[test]
fn no_reply_holds_a_secret() {
    for api in APIS {
        for reply in replies(api) {
            let script = Script::in_order([Reply::status(401), reply]);
            let mut drive = Drive::new(setup::config(&POOL), script.upstream());
            let outcome = drive.ask(&Ask::new(api, false));
            assert_clean("the body", &outcome.answer.body);
            assert_clean(
                "the headers",
                format!("{:?}", outcome.answer.headers).as_bytes(),
            );
            assert_clean("the records", format!("{:?}", outcome.records).as_bytes());
            assert_calls_clean(&script.verify(), &POOL);
        }
    }
}

#[test]
fn refusals_do_not_repeat_what_they_refuse() {
    for (name, value) in [
        ("x-api-key", OWN),
        ("authorization", OWN),
        ("x-aibridge-token", OWN),
    ] {
        for api in APIS {
            let script = Script::in_order([]);
            let mut sim = Sim::new(config(), &script).traced();
            let client = sim.connect();
            sim.send(client, Ask::new(api, false).header(name, value).bytes());
            sim.settle();
            assert_clean("a refusal", sim.got(client));
            assert_clean("the timeline", sim.timeline().as_bytes());
            script.verify();
            assert_traces_clean(sim);
        }
    }
}

#[test]
fn the_configuration_does_not_show_secrets() {
    assert_clean("the configuration", format!("{:?}", config()).as_bytes());
}

/// A key in a prompt, and in what an upstream says, cut into pieces of any length.
#[test]
fn a_trace_holds_no_secret_that_a_client_quotes_or_an_upstream_repeats() {
    for (api, size) in APIS
        .into_iter()
        .flat_map(|api| [1, 7, 1000].map(|size| (api, size)))
    {
        let [one, two] = POOL;
        let said = format!("{{\"error\":{{\"message\":\"no: {one} {two} {OWN}\"}}}}");
        for reply in [
            Reply::json(400, said.clone()),
            Reply::json(400, said.clone()).with_length(),
            Reply::sse(format!("data: {said}\n\n")),
            Reply::status(404)
                .header("set-cookie", two)
                .header("x-repeats", OWN),
        ] {
            let script = Script::in_order([reply.cut(Cut::Every(size))]);
            let mut sim = Sim::new(config(), &script).traced();
            let client = sim.connect();
            let mut ask = Ask::new(api, false)
                .header("x-aibridge-token", TOKEN)
                .key(api, OWN);
            let quotes = format!("Name a river, not {OWN} or {one}.");
            let body = String::from_utf8_lossy(&ask.body).replace("Name a river.", &quotes);
            ask.body = body.into();
            for piece in ask.bytes().chunks(size) {
                sim.send(client, piece.to_vec());
                sim.settle();
            }
            sim.take_answer(client);
            sim.end(client);
            sim.settle();
            script.verify();
            assert_traces_clean(sim);
        }
    }
}

/// What a provider says of a key it was shown, in each form in which it may say so.
fn repeats(key: &str) -> [Reply; 3] {
    let said = format!("{{\"error\":{{\"message\":\"incorrect key: {key}; {key}\"}}}}");
    let cut = key.split_at(key.len() - 3).0;
    let long = format!("{{\"error\":{{\"message\":\"{}{cut}\"}}}}", "x".repeat(99));
    [
        Reply::json(400, said.clone()),
        Reply::json(400, long),
        Reply::sse(format!("event: error\ndata: {said}\n\n")),
    ]
}

#[test]
fn of_a_key_that_an_upstream_repeats_a_record_has_the_hint_alone() {
    // A trace does not know the second again, which is a mere word.
    for key in ["sk-echoed-SECRET-key-0001", "correcthorsebatterystaple"] {
        for api in APIS {
            for own in [false, true] {
                for reply in repeats(key) {
                    let script = Script::in_order([reply]);
                    let pool = if own { "another-key-0" } else { key };
                    let mut sim = Sim::new(setup::config(&[pool]), &script).traced();
                    let mut ask = Ask::new(api, true);
                    if own {
                        ask = ask.key(api, key);
                    }
                    sim.ask(&ask);
                    sim.settle();
                    let records = format!("{:?}", sim.records);
                    assert!(!records.contains(&key[6..key.len() - 6]), "{records}");
                    let ended = sim.records.ended();
                    let error = ended.error.as_deref().unwrap();
                    assert!(error.contains(&format!("{}...", &key[..4])), "{error}");
                    let class = ended.class.as_deref().unwrap();
                    assert!(
                        !class.contains("incorrect") && !class.contains("xxx"),
                        "{class}"
                    );
                    script.verify();
                    assert_traces_clean(sim);
                }
            }
        }
    }
}
