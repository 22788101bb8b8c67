//! The fixtures say what they expect of themselves: each is read with the core's API layer and
//! driven through an interception, and must give the facts that it states.

use aibridge_core::{
    api::{self, ToolCall},
    codec::Step,
    sse,
};
use aibridge_testkit::{APIS, Drive, Fixture, Records, Script, setup};

#[test]
fn every_api_has_every_kind_of_conversation() {
    let all = Fixture::all();
    for api in APIS {
        let of_api = all.iter().filter(|fixture| fixture.api == api);
        let kinds: Vec<_> = of_api
            .filter_map(|fixture| Some(fixture.name.split_once('/')?.1))
            .collect();
        for kind in [
            "simple",
            "client_tool_call",
            "parallel_client_tools",
            "long_output",
            "pre_stream_error",
            "mid_stream_error",
            "malformed_body",
        ] {
            assert!(kinds.contains(&kind), "{api:?}: {kind} is not in {kinds:?}");
        }
        // Each API has its own word for it.
        let thinks = |kind: &&str| matches!(*kind, "thinking" | "reasoning");
        assert!(kinds.iter().any(thinks), "{api:?}: {kinds:?}");
    }
}

#[test]
fn fixtures_are_written_as_they_read() {
    for fixture in Fixture::all() {
        let text = fixture.archive().to_string();
        assert_eq!(
            text.parse(),
            Ok(fixture.archive().clone()),
            "{}",
            fixture.name
        );
    }
}

#[test]
fn stop_reasons_are_those_the_fixture_states() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let inspected = api::inspect(fixture.api, &fixture.ask(streaming).body).unwrap();
            let body = fixture.body(streaming);
            let told = if streaming {
                let mut stream = api::Stream::new(fixture.api, &inspected);
                let mut decoder = sse::Decoder::new(1 << 20);
                decoder.push(body);
                while let Step::Item(item) = decoder.next() {
                    if let sse::Item::Event(event) = item {
                        stream.event(&event);
                    }
                }
                stream.told()
            } else {
                api::read_body(fixture.api, &body)
            };
            let name = format!("{} streaming={streaming}", fixture.name);
            assert_eq!(
                told.stop.as_deref(),
                fixture.fact("stop", streaming),
                "{name}"
            );
        }
    }
}

#[test]
fn an_interception_records_what_the_fixture_states() {
    for fixture in Fixture::all() {
        for streaming in fixture.forms() {
            let script = Script::in_order([fixture.reply(streaming)]);
            let mut drive = Drive::new(setup::config(&setup::KEYS[..1]), script.upstream());
            let outcome = drive.ask(&fixture.ask(streaming));
            let name = format!("{} streaming={streaming}", fixture.name);
            assert_eq!(
                Some(u64::from(outcome.answer.status)),
                fixture.number("status", streaming),
                "{name}"
            );
            assert!(outcome.answer.is_complete(), "{name}");
            check(&fixture, streaming, &outcome.records, &name);
            script.verify();
        }
    }
}

fn check(fixture: &Fixture, streaming: bool, records: &Records, name: &str) {
    let ended = records.ended();
    let fact = |what| fixture.fact(what, streaming);
    assert_eq!(
        Some(ended.outcome.as_str()),
        fact("outcome"),
        "{name}: {records:#?}"
    );
    if let Some(error) = fact("error") {
        assert_eq!(ended.error.as_deref(), Some(error), "{name}");
    }
    let prompt = fact("prompt").map(|prompt| prompt.replace("\\n", "\n"));
    assert_eq!(
        records.prompts(),
        prompt.iter().collect::<Vec<_>>(),
        "{name}"
    );

    let tool = |call: &ToolCall| format!("{} {} {}", call.id, call.name, call.arguments);
    let tools: Vec<_> = records
        .tools()
        .iter()
        .map(|used| tool(&used.call))
        .collect();
    // A blocking messages reply holds the arguments as JSON, laid out as the body is.
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let tools: Vec<_> = tools.iter().map(|tool| squeeze(tool)).collect();
    let expected: Vec<_> = fixture
        .facts("tool", streaming)
        .into_iter()
        .map(squeeze)
        .collect();
    assert_eq!(tools, expected, "{name}");
    assert_eq!(
        records.thoughts(),
        fixture.facts("thought", streaming),
        "{name}"
    );

    let Some(input) = fixture.number("input", streaming) else {
        return assert!(records.usage().is_empty(), "{name}: {records:#?}");
    };
    let usage = records.usage();
    assert_eq!(usage.len(), 1, "{name}");
    assert_eq!(usage[0].reply_id.as_deref(), fact("id"), "{name}");
    let usage = &usage[0].usage;
    let number = |what| fixture.number(what, streaming).expect("a number");
    assert_eq!(
        [
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write
        ],
        [
            input,
            number("output"),
            number("cache_read"),
            number("cache_write")
        ],
        "{name}"
    );
}
