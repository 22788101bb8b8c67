//! Sessions recorded and run again: whatever happens to them, they do the same; what differs is
//! found where it is; and what is no trace is said to be none.
//!
//! `fixtures/traces/` has one trace for each API. Where the bridge behaves differently than when
//! they were recorded, they differ; if that is meant,
//! `AIBRIDGE_REGENERATE=1 cargo test -p aibridge-testkit --test traces` records them anew, and the
//! difference shows what has changed.

use std::{env, fs, path::Path, sync::Arc};

use aibridge_core::{
    Duration,
    api::Api,
    keypool::Failover,
    trace::{self, Ending, Trouble},
};
use aibridge_testkit::{
    APIS, Ask, Reply, Script, Sim, World, laws, model,
    setup::{self, KEYS},
    strategies::{self, Sizes},
    tool_server, tools_origin,
};
use desk::{TOOLS, add, adds, says};
use proptest::prelude::*;

mod desk;

/// A trace of a request that fails over, calls a tool, and has its answer in the second turn; and
/// of another on the same connection.
fn recorded(api: Api, streaming: bool) -> Vec<u8> {
    let limited = Reply::status(429).retry_after(5);
    let turns = [adds(0), says("Three.")];
    let turns = model::replies(api, streaming, &turns);
    let upstream = Script::in_order(
        [limited]
            .into_iter()
            .chain(turns)
            .chain([Reply::status(404)]),
    );
    let server = tool_server(TOOLS, add);
    let mut sim = Sim::new(desk::config(), &upstream)
        .traced()
        .with_server(&tools_origin(), &server);
    let client = sim.connect();
    let ask = desk::ask(api, streaming).header("user-agent", "fixture/1");
    assert_eq!(sim.ask_on(client, &ask).status, 200);
    let own = ask.key(api, "sk-own-key-of-a-client");
    assert_eq!(sim.ask_on(client, &own).status, 404);
    sim.end(client);
    sim.settle();
    upstream.verify();
    server.abandon();
    let [trace] = &sim.take_traces()[..] else {
        panic!("one connection, one trace");
    };
    trace.clone()
}

fn text(trace: &[u8]) -> &str {
    str::from_utf8(trace).expect("a trace is text")
}

#[test]
fn the_traces_in_the_repository_are_those_of_today() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/traces");
    for (api, streaming, name) in [
        (Api::Messages, true, "messages"),
        (Api::ChatCompletions, true, "chat_completions"),
        (Api::Responses, false, "responses"),
    ] {
        let file = folder.join(format!("{name}.jsonl"));
        let today = recorded(api, streaming);
        if env::var_os("AIBRIDGE_REGENERATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, &today).unwrap();
        }
        let kept = fs::read(&file).unwrap();
        if let Err(trouble) = trace::replay(&kept) {
            panic!("{}: {trouble}", file.display());
        }
        let lines = text(&kept).lines().zip(text(&today).lines());
        for (number, (kept, today)) in (1..).zip(lines) {
            assert_eq!(kept, today, "line {number} of {}", file.display());
        }
        assert_eq!(kept.len(), today.len(), "{}", file.display());
    }
}

#[test]
fn a_trace_is_replayed_to_its_end() {
    for api in APIS {
        for streaming in [false, true] {
            let trace = recorded(api, streaming);
            let summary = trace::replay(&trace).unwrap();
            assert_eq!(summary.ending, Ending::Complete);
            assert_eq!(summary.unsure, None);
            let count = |kinds: &[&str]| {
                let begins = |line: &&str| kinds.iter().any(|kind| line.starts_with(kind));
                text(&trace).lines().filter(begins).count() as u64
            };
            assert_eq!(summary.inputs, count(&["{\"in\""]));
            assert_eq!(summary.outputs, count(&["{\"do\"", "{\"ask\""]));
            assert!(summary.outputs > 50, "{summary:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_in_a_world_its_sessions_do_it_again(plan in strategies::plan(Sizes { tools: 30, ..Sizes::default() })) {
        let history = World::new(&plan, Arc::new(Failover::default())).traced().run();
        prop_assert!(!history.traces.is_empty());
        // Traces are searched as well.
        prop_assert_eq!(laws::no_secret_leaves(&history), Ok(()));
        for trace in &history.traces {
            let replayed = trace::replay(trace);
            prop_assert!(replayed.is_ok(), "{}\n{}", replayed.unwrap_err(), text(trace));
        }
    }

    #[test]
    fn what_is_no_trace_is_said_to_be_none(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..20),
        line in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        // Bytes in place of others, and a line in place of another: neither panics.
        let trace = recorded(Api::Responses, true);
        let mut bytes = trace.clone();
        let at = at.index(bytes.len() - 20);
        bytes[at..at + with.len()].copy_from_slice(&with);
        let _ = trace::replay(&bytes);
        let _ = trace::replay(&bytes[at..]);

        let mut lines: Vec<_> = text(&trace).lines().collect();
        let (line, other) = (line.index(lines.len()), other.index(lines.len()));
        lines[line] = lines[other];
        let _ = trace::replay((lines.join("\n") + "\n").as_bytes());
        lines.remove(line);
        let _ = trace::replay((lines.join("\n") + "\n").as_bytes());
    }
}

#[test]
fn a_difference_is_found_where_it_is() {
    let trace = recorded(Api::Messages, true);
    let lines: Vec<_> = text(&trace).lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let changed = if let Some((before, after)) = line.split_once("\"hash\":\"") {
            let digit = if after.starts_with('0') { "1" } else { "0" };
            format!("{before}\"hash\":\"{digit}{}", &after[1..])
        } else if line.starts_with("{\"wait\"") {
            line.replace("\"read\":[", "\"read\":[77,")
                .replace(",]", "]")
        } else {
            continue;
        };
        let mut lines = lines.clone();
        lines[at] = &changed;
        let error = trace::replay((lines.join("\n") + "\n").as_bytes()).unwrap_err();
        let Trouble::Differs(difference) = error else {
            panic!("{error}");
        };
        assert_eq!(difference.line, at + 1, "{difference}");
        assert!(difference.expected != difference.got, "{difference}");
    }
}

#[test]
fn an_output_too_many_or_too_few_is_a_difference() {
    let trace = recorded(Api::Messages, false);
    let lines: Vec<_> = text(&trace).lines().collect();
    let sends: Vec<_> = (0..lines.len())
        .filter(|at| lines[*at].contains("\"what\":\"send c0\""))
        .collect();
    for at in sends {
        let mut fewer = lines.clone();
        fewer.remove(at);
        // Whatever is out of place shows where the session waits next, at the latest.
        let waits = lines[at..]
            .iter()
            .position(|line| line.starts_with("{\"wait\""));
        let latest = at + waits.unwrap() + 1;
        let mut more = lines.clone();
        more.insert(at, lines[at]);
        for lines in [fewer, more] {
            let error = trace::replay((lines.join("\n") + "\n").as_bytes()).unwrap_err();
            assert!(
                matches!(&error, Trouble::Differs(it) if it.line > at && it.line <= latest + 1),
                "{error}"
            );
        }
    }
}

#[test]
fn a_trace_may_be_cut_anywhere() {
    let trace = recorded(Api::ChatCompletions, false);
    let first = text(&trace).find('\n').unwrap() + 1;
    for end in first..trace.len() {
        let summary = trace::replay(&trace[..end]).unwrap();
        let is_whole = end == trace.len() - 1;
        assert_eq!(
            summary.ending == Ending::Cut,
            !is_whole,
            "{end} of {}",
            trace.len()
        );
    }
    let error = trace::replay(&trace[..first - 20]).unwrap_err();
    assert!(matches!(error, Trouble::Broken { line: 1, .. }), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let trace = recorded(Api::Messages, false);
    let good = text(&trace);
    let (first, rest) = good.split_once('\n').unwrap();
    for (bad, what) in [
        (String::new(), "line 1: is not the beginning of a trace"),
        (
            "{\"a\":1}\n".to_owned(),
            "line 1: is not the beginning of a trace",
        ),
        (
            good.replacen("\"version\":1", "\"version\":7", 1),
            "is a trace of version 7; this program reads version 1",
        ),
        (
            format!("{first}\n{first}\n{rest}"),
            "line 2: a second beginning",
        ),
        (
            format!("{first}\nnonsense\n{rest}"),
            "line 2: is no line of a trace: expected value at line 1 column 1",
        ),
        (
            format!("{first}\n{{\"in\":[0,{{\"answer\":\"told\"}}]}}\n{rest}"),
            "line 2: an answer to nothing",
        ),
        (format!("{good}{first}\n"), "stands behind the end"),
        (
            good.replacen("\"policy\":{", "\"policy\":null,\"was\":{", 1),
            "unknown field `was`",
        ),
    ] {
        let error = trace::replay(bad.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_policy_of_somebodys_own_is_not_replayed_as_if_it_were_the_shipped_one() {
    #[derive(Debug)]
    struct Own(Failover);
    impl aibridge_core::keypool::Policy for Own {
        fn judge(
            &self,
            attempt: &aibridge_core::keypool::Attempt<'_>,
        ) -> aibridge_core::keypool::Verdict {
            self.0.judge(attempt)
        }
    }
    let config = setup::with_providers(setup::config(&KEYS), |provider| {
        provider.policy = Arc::new(Own(Failover::default()));
    });
    let script = Script::in_order([Reply::status(404)]);
    let mut sim = Sim::new(config, &script).traced();
    sim.ask(&Ask::new(Api::Messages, false));
    script.verify();
    let error = trace::replay(&sim.take_traces()[0]).unwrap_err();
    assert!(error.to_string().contains("a policy of somebody's own"));
}

#[test]
fn a_drained_a_crowded_and_a_timed_out_session_are_replayed() {
    let mut config = setup::config(&KEYS);
    config.capacity.connections = 1;
    let script = Script::in_order([Reply::stall()]);
    let mut sim = Sim::new(config, &script).traced();
    let one = sim.connect();
    let two = sim.connect();
    sim.send(one, Ask::new(Api::Messages, false).bytes());
    assert_eq!(sim.ask_on(two, &Ask::new(Api::Messages, false)).status, 503);
    sim.drain();
    sim.advance(Duration::from_secs(700));
    assert!(sim.is_over(one) && sim.is_over(two));
    script.verify();
    for trace in sim.take_traces() {
        assert_eq!(trace::replay(&trace).unwrap().ending, Ending::Complete);
    }
}

#[test]
fn a_reload_between_two_requests_is_in_the_trace() {
    let script =
        Script::choosing(|call| Reply::status(if call.key == "k9-pool-key" { 404 } else { 401 }));
    let mut sim = Sim::new(setup::config(&KEYS), &script).traced();
    let client = sim.connect();
    let ask = Ask::new(Api::Messages, false).header("x-aibridge-token", "the-token-of-alice");
    assert_eq!(sim.ask_on(client, &ask).status, 502);
    let renewed = setup::with_client(
        setup::config(&["k9-pool-key"]),
        "alice",
        "the-token-of-alice",
    );
    sim.reload(renewed).unwrap();
    assert_eq!(sim.ask_on(client, &ask).status, 404);
    script.abandon();
    let trace = &sim.take_traces()[0];
    for secret in ["pool-key", "token-of"] {
        assert!(!text(trace).contains(secret), "{}", text(trace));
    }
    assert_eq!(trace::replay(trace).unwrap().unsure, None);
}
