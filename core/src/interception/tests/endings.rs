//! How an interception ends where somebody leaves, or time runs out, about when the reply is
//! complete.

use super::*;
use crate::{
    api::Api,
    mcp::{Catalog, Failure, Server, Tool},
};

/// The provider's own error, in every way in which a stream has one.
const ERRORS: [(Api, &str); 4] = [
    (
        Api::Messages,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    ),
    (
        Api::ChatCompletions,
        "data: {\"error\":{\"message\":\"Overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
    ),
    (
        Api::Responses,
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":1,\"response\":{\"id\":\"r\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"Overloaded\"},\"output\":[]}}\n\n",
    ),
    (
        Api::Responses,
        "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"Overloaded\",\"param\":null,\"sequence_number\":1}\n\n",
    ),
];

/// A whole reply, up to its terminal event.
const WHOLE: [(Api, &str); 3] = [
    (
        Api::Messages,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    (
        Api::ChatCompletions,
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
         data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1}}\n\n\
         data: [DONE]\n\n",
    ),
    (
        Api::Responses,
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":1,\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n",
    ),
];

/// The beginning of a reply, usage included, and one that ends in a call of an injected tool.
const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":1000,\"output_tokens\":1}}}\n\n";
const CALL: &str = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"bmcp_coder_create\",\"input\":{}}}\n\n\
    event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n";
const USES: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":5}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const CUT_SHORT: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"},\"usage\":{\"output_tokens\":5}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn request(api: Api) -> Request<Bytes> {
    let input = r#"{"model":"m","stream":true,"input":"hi"}"#;
    match api {
        Api::ChatCompletions => chat(),
        Api::Messages => messages(true),
        Api::Responses => Request::post("/p/v1/responses").body(input.into()).unwrap(),
    }
}

/// A streamed reply to a request of this API, begun.
fn plain(api: Api) -> Run {
    let mut run = Run::new(provider(api.vendor()), request(api));
    run.stream();
    run
}

/// The same, with an injected tool.
pub(super) fn with_tools(provider: Provider, api: Api) -> Run {
    let target = provider.target.clone();
    let server = Arc::new(Server::new("coder", target, "/mcp"));
    let schema = Bytes::from_static(br#"{"type":"object"}"#);
    let tools = [Arc::new(Tool::new("create", "", schema))];
    let catalog = Catalog::new([(&server, &tools[..])]);
    let config = Config {
        providers: vec![Arc::new(provider)],
        mcp: vec![Arc::clone(&server)],
        ..Config::default()
    };
    let toolbox = Arc::new(Toolbox::new(Arc::new(catalog)));
    let mut run = Run::of(config, toolbox, request(api));
    run.stream();
    run
}

fn both(api: Api) -> [Run; 2] {
    [plain(api), with_tools(provider(api.vendor()), api)]
}

/// One that has called its tool and been told that this failed; the next turn's reply has begun.
fn second_turn(after: Duration) -> Run {
    let mut run = with_tools(provider(Vendor::Anthropic), Api::Messages);
    run.bytes([START, CALL, USES].concat().as_bytes());
    run.end();
    run.pass(after);
    run.tell(Event::ToolDone(run.tools[0], Err(Failure::Down)));
    run.stream();
    run
}

/// Calls of injected tools that came to nothing: in which turn, and why.
fn not_run(run: &Run) -> Vec<(u32, &str)> {
    let mut not_run = Vec::new();
    for record in &run.records {
        if let Record::ToolUsage(_, call) = record
            && let Some(error) = call.error.as_deref()
            && call.injected
        {
            not_run.push((call.turn, error));
        }
    }
    not_run
}

#[test]
fn a_stream_whose_last_event_lacks_only_its_end_is_complete() {
    for (api, whole) in WHOLE {
        for missing in [1, 2] {
            let mut run = plain(api);
            let cut = &whole[..whole.len() - missing];
            run.bytes(cut.as_bytes());
            run.tell(Event::UpstreamFailed(CallId(1), Fault::Closed));
            assert_eq!(run.ended, Some(true));
            // The others' half event has not reached the client, or not under its name.
            let is_complete = api == Api::Responses;
            let text = run.text();
            assert_eq!(text.contains("error"), !is_complete, "{api:?}: {text}");
            assert!(!is_complete || text.starts_with(whole), "{api:?}: {text}");
            assert_eq!(run.outcome() == Outcome::Ok, is_complete, "{api:?}");
        }
    }
}

#[test]
fn a_client_that_hangs_up_on_the_providers_error_leaves_the_error_recorded() {
    for (api, error) in ERRORS {
        for mut run in both(api) {
            run.bytes(error.as_bytes());
            assert_eq!(run.text(), error);
            run.tell(Event::ClientGone);
            assert_eq!(run.outcome(), Outcome::UpstreamError, "{api:?}");
            assert_eq!(run.error(), Some("Overloaded"), "{api:?}");
            assert_eq!(run.aborted, [CallId(1)]);
        }
    }
}

#[test]
fn a_client_that_leaves_after_the_terminal_event_has_had_it_all() {
    for (api, whole) in WHOLE {
        for mut run in both(api) {
            run.bytes(whole.as_bytes());
            run.tell(Event::ClientGone);
            assert_eq!((run.outcome(), run.error()), (Outcome::Ok, None), "{api:?}");
            assert_eq!(run.usage(), [(1, 7)], "{api:?}");
            assert_eq!(run.aborted, [CallId(1)]);
        }
    }
}

#[test]
fn a_client_that_leaves_before_the_terminal_event_has_cancelled() {
    for (api, whole) in WHOLE {
        for mut run in both(api) {
            run.bytes(&whole.as_bytes()[..whole.len() - 1]);
            run.tell(Event::ClientGone);
            assert_eq!(run.outcome(), Outcome::Cancelled, "{api:?}");
        }
    }
}

#[test]
fn a_client_that_leaves_between_turns_has_cancelled() {
    let mut run = with_tools(provider(Vendor::Anthropic), Api::Messages);
    run.bytes([START, CALL, USES].concat().as_bytes());
    run.tell(Event::ClientGone);
    assert_eq!(
        (run.outcome(), run.usage()),
        (Outcome::Cancelled, vec![(1, 1000)])
    );
    assert_eq!(not_run(&run), [(1, "not run: the client has left")]);
}

#[test]
fn calls_that_are_not_run_are_recorded_also_where_the_client_leaves_at_the_end() {
    let mut run = with_tools(provider(Vendor::Anthropic), Api::Messages);
    run.bytes([START, CALL, CUT_SHORT].concat().as_bytes());
    run.tell(Event::ClientGone);
    assert_eq!(run.outcome(), Outcome::Ok);
    assert_eq!(
        not_run(&run),
        [(1, "not run: the turn ended before its time")]
    );
}

#[test]
fn calls_of_a_turn_that_breaks_off_are_recorded_as_not_run() {
    let reset = |run: &mut Run| run.tell(Event::UpstreamFailed(run.call(), Fault::Reset));
    let falls_silent = |run: &mut Run| run.pass(Duration::from_secs(600));
    let leaves = |run: &mut Run| run.tell(Event::ClientGone);
    let ends: [(fn(&mut Run), _); 3] = [
        (reset, "not run: the turn broke off"),
        (falls_silent, "not run: the turn broke off"),
        (leaves, "not run: the client has left"),
    ];
    for (end, why) in ends {
        let mut run = with_tools(provider(Vendor::Anthropic), Api::Messages);
        run.bytes([START, CALL].concat().as_bytes());
        end(&mut run);
        assert_ne!(run.outcome(), Outcome::Ok);
        assert_eq!(not_run(&run), [(1, why)]);
    }
    let mut run = second_turn(Duration::from_secs(590));
    run.bytes([START, CALL].concat().as_bytes());
    run.pass(Duration::from_secs(10));
    assert_eq!(run.outcome(), Outcome::Timeout);
    assert_eq!(not_run(&run)[1..], [(2, "not run: the turn broke off")]);
}

#[test]
fn calls_of_a_turn_that_is_too_long_are_recorded_as_not_run() {
    let open = r#"data: {"type":"content_block_start","index":9,"content_block":{"type":"text","text":""}}"#;
    let word = "x".repeat(1 << 20);
    let word = format!(
        r#"data: {{"type":"content_block_delta","index":9,"delta":{{"type":"text_delta","text":"{word}"}}}}"#
    );
    let mut run = with_tools(provider(Vendor::Anthropic), Api::Messages);
    run.bytes([START, open, "\n\n"].concat().as_bytes());
    for _ in 0..=32 {
        run.bytes([&word, "\n\n"].concat().as_bytes());
    }
    run.bytes([CALL, USES].concat().as_bytes());
    run.end();
    assert_eq!(run.outcome(), Outcome::Internal);
    assert_eq!(not_run(&run), [(1, "not run: the turn is too long")]);
}

#[test]
fn nothing_is_added_after_the_terminal_event() {
    for (api, last) in WHOLE.into_iter().chain(ERRORS) {
        for mut run in both(api) {
            run.bytes(last.as_bytes());
            let whole = run.text().to_owned();
            run.pass(Duration::from_secs(15));
            assert_eq!(run.text(), whole, "{api:?}: a keep-alive");
            run.tell(Event::UpstreamFailed(run.call(), Fault::Reset));
            assert_eq!(
                (run.text(), run.ended),
                (&*whole, Some(true)),
                "{api:?}: an error"
            );
            assert_eq!(
                run.outcome() == Outcome::Ok,
                last.contains("tokens\":7"),
                "{api:?}"
            );
        }
    }
}

#[test]
fn the_tokens_of_a_turn_that_the_loops_time_limit_ends_are_recorded() {
    let mut run = second_turn(Duration::from_secs(590));
    run.bytes(START.as_bytes());
    run.pass(Duration::from_secs(10));
    assert_eq!(run.outcome(), Outcome::Timeout);
    assert_eq!(run.usage(), [(1, 1000), (2, 1000)]);
}

#[test]
fn a_reply_that_is_complete_is_not_ended_by_the_loops_time_limit() {
    let mut run = second_turn(Duration::from_secs(590));
    run.bytes(WHOLE[0].1.as_bytes());
    run.pass(Duration::from_secs(10));
    assert_eq!((run.outcome(), run.ended), (Outcome::Ok, Some(true)));
    assert!(!run.text().contains("error"), "{}", run.text());
    assert_eq!(run.aborted, [CallId(2)]);
}
