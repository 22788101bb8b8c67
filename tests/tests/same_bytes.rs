//! One seed, one conversation: whichever adapter runs it, upstream and the client get the same
//! bytes, and the records say the same; and what each recorded of its run is the run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aibridge_core::{
    api::Api,
    record::Record,
    trace::{self, Ending, Observer, Opening, Recorder, Step, Tracer},
};
use aibridge_io::Server as Bridge;
use aibridge_smol::Smol;
use aibridge_testkit::{
    APIS, Answer, Fixture, Ran, Reply, Script, Seen,
    setup::{self, KEYS},
    sockets::{Client, Server},
    tool_server, tool_turn, with_tools,
};
use aibridge_tokio::Tokio;

mod gateway;
use gateway::{Adapter, Gateway};

/// What there is to see of a conversation from outside.
#[derive(Debug, PartialEq)]
struct Traces {
    upstream: Vec<Seen>,
    answers: Vec<Answer>,
    records: Vec<String>,
}

/// A key that is limited, the same request by the next one, a loop with a tool in it, and a reply
/// that breaks off.
fn replies(fixture: &Fixture, streaming: bool) -> Vec<Reply> {
    let reply = fixture.reply(streaming);
    let half = reply.bytes().len() / 2;
    vec![
        Reply::json(429, "{}").retry_after(600),
        fixture.reply(streaming),
        tool_turn(fixture.api, streaming, "bmcp_desk_get_weather"),
        fixture.reply(streaming),
        reply.reset_at(half),
    ]
}

const ASKED: usize = 3;

/// Records all sessions.
#[derive(Debug, Default)]
struct Recorders(Mutex<Vec<Arc<Mutex<Recorder>>>>);

impl Tracer for Recorders {
    fn begin(&self, opening: Opening) -> Option<Box<dyn Observer>> {
        let recorder = Arc::new(Mutex::new(Recorder::new(opening, "test")));
        self.0.lock().unwrap().push(Arc::clone(&recorder));
        let observe = move |step: Step| recorder.lock().unwrap().record(step);
        Some(Box::new(observe))
    }
}

fn converse<A: Adapter>(upstream: &Server, tools: &Server, api: Api, streaming: bool) -> Traces {
    let config = setup::config_at(&upstream.target(), &KEYS[..2]);
    let recorders = Arc::new(Recorders::default());
    let builder = Bridge::<A>::builder(with_tools(config, &tools.target()));
    let gateway = Gateway::build(builder.tracer(Arc::clone(&recorders) as _));
    gateway.wait_for_tools(1);
    let mut client = Client::connect(gateway.addr()).unwrap();
    let ask = Fixture::simple(api).ask(streaming);
    let answers = (0..ASKED).map(|_| client.ask(&ask).unwrap()).collect();
    // Those of the MCP server's keeper come when they come.
    let of_clients = |record: &&Record| !matches!(record, Record::ToolServer(_));
    let records = gateway.records(ASKED).0;
    let records = records.iter().filter(of_clients);
    drop(client);
    gateway.drain(Duration::from_secs(20));
    drop(gateway);
    replay(Arc::into_inner(recorders).unwrap());
    Traces {
        upstream: Vec::new(),
        answers,
        records: records
            .map(|it| without_times(&format!("{it:?}")))
            .collect(),
    }
}

/// The run is over: what was recorded of it can be run again without the adapter.
fn replay(recorders: Recorders) {
    let recorders = recorders.0.into_inner().unwrap();
    assert_eq!(recorders.len(), 1, "the client's session");
    for recorder in recorders {
        let recorder = Arc::into_inner(recorder).unwrap().into_inner().unwrap();
        let summary = trace::replay(&recorder.finish()).unwrap();
        assert_eq!((summary.ending, summary.unsure), (Ending::Complete, None));
        assert!(summary.outputs > 20);
    }
}

/// Blanks out instants and durations, as they debug: the clock is the adapter's own.
fn without_times(text: &str) -> String {
    let mut blanked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, behind) = from.split_at(end.unwrap_or(from.len()));
        let units = ["ns", "µs", "ms", "s"];
        let unit = units.iter().find_map(|unit| behind.strip_prefix(unit));
        let unit = unit.filter(|behind| !behind.starts_with(char::is_alphanumeric));
        let is_whole_word = !before.ends_with(|c: char| c.is_alphanumeric() || c == '-');
        blanked.push_str(before);
        let of_time = unit.filter(|_| is_whole_word);
        blanked.push_str(of_time.map_or(number, |_| "<time>"));
        rest = of_time.unwrap_or(behind);
    }
    blanked + rest
}

#[test]
fn adapters_differ_in_nothing_that_can_be_seen() {
    for api in APIS {
        for streaming in [false, true] {
            let fixture = Fixture::simple(api);
            // Both talk to the same upstream, so that nothing differs by its port.
            let twice = [replies(&fixture, streaming), replies(&fixture, streaming)];
            let script = Script::in_order(twice.into_iter().flatten());
            let weather = tool_server(&["get_weather"], |_, _| Ran::Text("Rain.".to_owned()));
            let upstream = Server::start(&script).unwrap();
            let tools = Server::start(&weather).unwrap();
            let mut on_tokio = converse::<Tokio>(&upstream, &tools, api, streaming);
            let mut on_smol = converse::<Smol>(&upstream, &tools, api, streaming);
            let seen = script.verify();
            let connections = seen.len() / 2;
            let (first, second) = seen.split_at(connections);
            on_tokio.upstream = numbered_from_one(first);
            on_smol.upstream = numbered_from_one(second);
            let name = format!("{api:?}, streaming={streaming}");
            assert_eq!(on_tokio, on_smol, "{name}");
            assert_eq!(on_tokio.upstream.len(), 5, "{name}");
            assert!(on_tokio.records.len() > 8, "{name}: {on_tokio:#?}");
            weather.abandon();
        }
    }
}

/// Connections counted from the first of a run.
fn numbered_from_one(seen: &[Seen]) -> Vec<Seen> {
    let before = seen[0].connection - 1;
    let mut seen = seen.to_vec();
    for call in &mut seen {
        call.connection -= before;
    }
    seen
}

#[test]
fn times_are_blanked_and_nothing_else() {
    for (text, blanked) in [
        (
            "at: 12.000000001s, total: 3.4ms }",
            "at: <time>, total: <time> }",
        ),
        (
            "\"gpt-4s\" 5 x9s 7seconds 250",
            "\"gpt-4s\" 5 x9s 7seconds 250",
        ),
        ("Some(15µs)", "Some(<time>)"),
    ] {
        assert_eq!(without_times(text), blanked);
    }
}
