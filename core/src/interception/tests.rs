//! Interceptions driven by hand: the states and what leads from one to the next. The full failover
//! table is in the test kit.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use proptest::prelude::*;

use super::{Action, Answer, Event, Interception, Query, Reply, Toolbox, UpstreamRequest};
use crate::{
    api::Vendor,
    bridge::Bridge,
    config::{Client, Config, Provider},
    fault::Fault,
    id::{CallId, InterceptionId},
    keypool::{Attempt, Failover, Fate, NextStep, Outcome as Came, Policy, Reason, Scope, Verdict},
    mcp::ToolCallId,
    record::{Outcome, Reason as Turned, Record},
    rng::Rng,
    secret::Secret,
    target::Target,
    time::{Duration, Instant},
};

mod endings;
mod judged_again;

const NOW: Instant = Instant::from_secs(1_000);

/// An interception, its bridge, and all it has said so far.
struct Run {
    bridge: Bridge,
    interception: Interception,
    now: Instant,
    calls: Vec<(CallId, UpstreamRequest)>,
    /// What there is where the interception asks for tools, and what it called of them.
    toolbox: Arc<Toolbox>,
    tools: Vec<ToolCallId>,
    aborted: Vec<CallId>,
    head: Option<Reply>,
    body: Vec<u8>,
    /// `Some(true)`: ended properly; `Some(false)`: broken off.
    ended: Option<bool>,
    records: Vec<Record>,
}

impl Run {
    fn new(provider: Provider, request: Request<Bytes>) -> Self {
        let config = Config {
            providers: vec![Arc::new(provider)],
            ..Config::default()
        };
        Self::of(config, Arc::default(), request)
    }

    fn of(config: Config, toolbox: Arc<Toolbox>, request: Request<Bytes>) -> Self {
        let config = Arc::new(config);
        let bridge = Bridge::new(Arc::clone(&config), 1).unwrap();
        let id = InterceptionId::draw(&mut Rng::new(1));
        let mut run = Self {
            bridge,
            interception: Interception::new(NOW, &config, id, request),
            now: NOW,
            calls: vec![],
            toolbox,
            tools: vec![],
            aborted: vec![],
            head: None,
            body: vec![],
            ended: None,
            records: vec![],
        };
        run.drain();
        run
    }

    fn drain(&mut self) {
        loop {
            if let Some(query) = self.interception.poll_query() {
                let answer = match query {
                    Query::Tools => Answer::Tools(Arc::clone(&self.toolbox)),
                    query => self.bridge.answer_interception(self.now, query),
                };
                self.interception.handle_answer(self.now, answer);
                continue;
            }
            match self.interception.poll_action() {
                Some(Action::Abort(call)) => self.aborted.push(call),
                Some(Action::Call(call, request)) => self.calls.push((call, request)),
                Some(Action::Emit(record)) => self.records.push(*record),
                Some(Action::ReplyHead(head)) => assert!(self.head.replace(head).is_none()),
                Some(Action::ReplyBody(bytes)) => {
                    assert!(self.head.is_some() && self.ended.is_none() && !bytes.is_empty());
                    self.body.extend_from_slice(&bytes);
                }
                Some(Action::ReplyEnd) => assert!(self.ended.replace(true).is_none()),
                Some(Action::ReplyAbort) => assert!(self.ended.replace(false).is_none()),
                Some(Action::AbortTools) => self.tools.clear(),
                Some(Action::CallTool(id, _)) => self.tools.push(id),
                None => return,
            }
        }
    }

    fn tell(&mut self, event: Event) {
        self.interception.handle(self.now, event);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.interception.handle_timeout(self.now);
        self.drain();
    }

    /// The call under way.
    fn call(&self) -> CallId {
        self.calls.last().unwrap().0
    }

    fn head(&mut self, status: u16, fields: &[(&'static str, &'static str)]) {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let status = StatusCode::from_u16(status).unwrap();
        self.tell(Event::UpstreamHead(
            self.call(),
            status,
            fields.iter().map(field).collect(),
        ));
    }

    fn stream(&mut self) {
        self.head(200, &[("content-type", "text/event-stream; charset=utf-8")]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.tell(Event::UpstreamBody(
            self.call(),
            Bytes::copy_from_slice(bytes),
        ));
    }

    fn end(&mut self) {
        self.tell(Event::UpstreamEnd(self.call()));
    }

    fn status(&self) -> u16 {
        self.head.as_ref().unwrap().status.as_u16()
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }

    fn states(&self) -> Vec<&'static str> {
        self.bridge.keys(self.now)[0]
            .keys
            .iter()
            .map(|key| key.state.as_str())
            .collect()
    }

    /// The turns whose tokens were recorded, and how many went in.
    fn usage(&self) -> Vec<(u32, u64)> {
        let usage = |record: &Record| match record {
            Record::TokenUsage(_, it) => Some((it.turn, it.usage.input)),
            _ => None,
        };
        self.records.iter().filter_map(usage).collect()
    }

    /// The error that was recorded.
    fn error(&self) -> Option<&str> {
        let mut errors = self.records.iter().filter_map(|record| match record {
            Record::Ended(_, ended) => Some(ended.error.as_deref()),
            _ => None,
        });
        errors.next().flatten()
    }

    /// Exactly one end was recorded: this one.
    fn outcome(&self) -> Outcome {
        let ends: Vec<_> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Ended(_, ended) => Some(ended.outcome),
                Record::Passthrough(passed) => Some(passed.outcome),
                _ => None,
            })
            .collect();
        assert_eq!(ends.len(), 1, "{:?}", self.records);
        assert!(self.interception.is_done());
        ends[0]
    }
}

fn provider(vendor: Vendor) -> Provider {
    let target = Target {
        host: "api.example".into(),
        port: 443,
        tls: true,
    };
    let base = if vendor == Vendor::OpenAi { "/v1" } else { "" };
    Provider::new("p", vendor, target, base).with_keys(["k0-pool-key", "k1-pool-key"])
}

fn messages(stream: bool) -> Request<Bytes> {
    let body = format!(
        r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    Request::post("/p/v1/messages")
        .body(Bytes::from(body))
        .unwrap()
}

fn chat() -> Request<Bytes> {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    Request::post("/p/v1/chat/completions")
        .body(Bytes::from(body))
        .unwrap()
}

#[test]
fn the_next_key_is_tried_before_the_first_byte() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(false));
    run.head(429, &[("retry-after", "5")]);
    assert_eq!(run.aborted, [CallId(1)]);
    assert!(run.head.is_none());
    run.head(200, &[("content-length", "2")]);
    run.bytes(b"{}");
    run.end();

    let keys: Vec<_> = run
        .calls
        .iter()
        .map(|(_, r)| r.credential.1.to_str().unwrap())
        .collect();
    assert_eq!(keys, ["k0-pool-key", "k1-pool-key"]);
    assert_eq!(
        (run.status(), run.text(), run.ended),
        (200, "{}", Some(true))
    );
    assert_eq!(run.head.as_ref().unwrap().length, Some(2));
    assert_eq!(run.states(), ["temporary", "valid"]);
}

#[test]
fn what_comes_late_of_a_call_that_is_over_is_ignored() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(false));
    run.head(401, &[]);
    for event in [
        Event::UpstreamBody(CallId(1), Bytes::from_static(b"late")),
        Event::UpstreamEnd(CallId(1)),
        Event::UpstreamFailed(CallId(1), Fault::Reset),
        Event::UpstreamHead(CallId(1), StatusCode::OK, HeaderMap::new()),
    ] {
        run.tell(event);
    }
    assert!(run.head.is_none());
    assert_eq!(run.calls.len(), 2);
    assert_eq!(run.states(), ["permanent", "valid"]);
}

#[test]
fn a_reset_before_the_head_is_a_plain_502_whose_key_is_kept() {
    let mut run = Run::new(provider(Vendor::OpenAi), chat());
    run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
    assert_eq!(run.status(), 502);
    assert!(
        run.text()
            .contains("upstream connection failed: connection reset"),
        "{}",
        run.text()
    );
    assert_eq!(
        (run.calls.len(), run.outcome()),
        (1, Outcome::UpstreamError)
    );
    assert_eq!(run.states(), ["valid", "valid"]);
}

#[test]
fn an_overdue_head_is_a_504() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    assert_eq!(
        run.interception.poll_timeout(),
        Some(NOW + Duration::from_secs(60))
    );
    run.pass(Duration::from_secs(59));
    assert!(run.head.is_none());
    run.pass(Duration::from_secs(1));
    assert_eq!((run.status(), run.outcome()), (504, Outcome::Timeout));
    assert_eq!(run.aborted, [CallId(1)]);
    assert!(run.text().contains("timeout_error"));
}

#[test]
fn a_client_that_leaves_aborts_the_call_and_is_recorded() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.tell(Event::ClientGone);
    assert_eq!(
        (run.aborted.as_slice(), run.outcome()),
        (&[CallId(1)][..], Outcome::Cancelled)
    );

    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.stream();
    run.bytes(b"event: ping\ndata: {}\n\n");
    run.tell(Event::ClientGone);
    assert_eq!(
        (run.aborted.as_slice(), run.outcome()),
        (&[CallId(1)][..], Outcome::Cancelled)
    );
    assert_eq!(run.ended, None);
}

#[test]
fn a_client_that_leaves_behind_the_last_event_has_had_it_all() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.stream();
    run.bytes(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    run.tell(Event::ClientGone);
    assert_eq!(run.outcome(), Outcome::Ok);
}

#[test]
fn a_stream_that_breaks_off_gets_the_apis_error_event() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.stream();
    let sent = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    run.bytes(sent.as_bytes());
    run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
    let added = run.text().strip_prefix(sent).unwrap();
    assert!(
        added.starts_with("event: error\ndata: {\"type\":\"error\""),
        "{added}"
    );
    assert_eq!(
        (run.ended, run.outcome()),
        (Some(true), Outcome::UpstreamError)
    );
}

#[test]
fn half_an_event_is_set_off_from_the_error_that_follows() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.stream();
    run.bytes(b"event: content_block_delta\ndata: {\"ty");
    run.tell(Event::UpstreamFailed(CallId(1), Fault::Reset));
    let half = "event: content_block_delta\ndata: {\"ty\nevent: ping\n\nevent: error\n";
    assert!(run.text().starts_with(half), "{}", run.text());
}

#[test]
fn a_blocking_reply_that_breaks_off_is_broken_off() {
    let mut run = Run::new(provider(Vendor::Anthropic), messages(false));
    run.head(200, &[("content-length", "100")]);
    run.bytes(b"{\"id\":");
    run.tell(Event::UpstreamFailed(CallId(1), Fault::Closed));
    assert_eq!((run.text(), run.ended), ("{\"id\":", Some(false)));
    assert_eq!(run.outcome(), Outcome::UpstreamError);
}

#[test]
fn silence_is_filled_between_events_and_never_within() {
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    let mut run = Run::new(provider(Vendor::Anthropic), messages(true));
    run.stream();
    run.bytes(b"data: {}\n\n");
    run.pass(Duration::from_secs(15));
    assert_eq!(run.text(), format!("data: {{}}\n\n{ping}"));
    run.bytes(b"data: {");
    run.pass(Duration::from_secs(15));
    assert_eq!(run.text(), format!("data: {{}}\n\n{ping}data: {{"));
    run.pass(Duration::from_secs(285));
    assert!(run.text().contains("timeout_error"));
    assert_eq!(run.outcome(), Outcome::Timeout);
}

#[test]
fn a_passthrough_is_counted_and_not_looked_into() {
    let request = Request::get("/p/v1/models").body(Bytes::new()).unwrap();
    let mut run = Run::new(provider(Vendor::Anthropic), request);
    run.head(429, &[]);
    run.head(200, &[]);
    run.bytes(b"no JSON");
    run.end();
    assert_eq!((run.text(), run.outcome()), ("no JSON", Outcome::Ok));
    assert_eq!(run.calls[1].1.path.as_ref(), "/v1/models");
    assert!(matches!(
        run.records[..],
        [Record::KeyChanged { .. }, Record::Passthrough(_)]
    ));
}

/// Cools a key for ten minutes where a 403's body says that it is out of credit, and gives up on
/// every 500.
#[derive(Debug)]
struct Credit;

impl Policy for Credit {
    fn judge(&self, attempt: &Attempt<'_>) -> Verdict {
        match attempt.outcome {
            Came::Reply { status, body, .. }
                if status == 403 && body.starts_with(b"out of credit") =>
            {
                let fate = Fate::Cool(Some(Duration::from_secs(600)), Reason::Other("credit"));
                Verdict {
                    fate,
                    scope: Scope::Key,
                    step: NextStep::NextKey,
                }
            }
            Came::Reply { status, .. } if status == 500 => Verdict {
                fate: Fate::Keep,
                scope: Scope::Key,
                step: NextStep::GiveUp,
            },
            _ => Failover::default().judge(attempt),
        }
    }

    fn body_wanted(&self, status: StatusCode) -> usize {
        if status == 403 { 13 } else { 0 }
    }
}

#[test]
fn a_policy_may_read_the_body_before_it_judges() {
    let credit = Provider {
        policy: Arc::new(Credit),
        ..provider(Vendor::Anthropic)
    };
    let mut run = Run::new(credit, messages(false));
    run.head(403, &[]);
    run.bytes(b"out of ");
    assert_eq!(run.calls.len(), 1);
    run.bytes(b"credit, sorry");
    assert_eq!(run.calls.len(), 2);
    assert_eq!(run.states(), ["temporary", "valid"]);
    run.head(500, &[]);
    assert_eq!((run.status(), run.outcome()), (502, Outcome::UpstreamError));
}

#[test]
fn a_refused_request_is_answered_in_the_apis_shape_and_leaves_word_of_it_alone() {
    let request = Request::get("/p/v1/messages").body(Bytes::new()).unwrap();
    let run = Run::new(provider(Vendor::Anthropic), request);
    assert_eq!(run.status(), 405);
    assert_eq!(run.head.as_ref().unwrap().headers["allow"], "POST");
    assert!(
        run.text().starts_with("{\"type\":\"error\""),
        "{}",
        run.text()
    );
    let [Record::TurnedAway(id, turned_away)] = &run.records[..] else {
        panic!("{:?}", run.records);
    };
    let tag = &run.head.as_ref().unwrap().headers["x-aibridge-id"];
    assert_eq!(tag.to_str().unwrap(), id.to_string());
    assert_eq!(turned_away.provider.as_deref(), Some("p"));
    assert_eq!(
        (turned_away.status, turned_away.reason),
        (405, Turned::Method)
    );
    assert!(run.interception.is_done());
}

#[test]
fn a_stranger_is_not_told_which_routes_there_are() {
    let config = || Config {
        clients: vec![Client::new("alice", Secret::new("alice-token").digest())],
        providers: vec![Arc::new(provider(Vendor::Anthropic))],
        ..Config::default()
    };
    for path in [
        "/p/v1/nothing",
        "/%70/v1/nothing",
        "/p/v1/messages",
        "/p/v1/files",
    ] {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        assert_eq!(
            Run::of(config(), Arc::default(), request).status(),
            401,
            "{path}"
        );
    }
}

#[test]
fn whatever_is_wrong_with_a_path_a_providers_prefix_decides_the_errors_shape() {
    for (path, status, reason) in [
        ("/p", 404, Turned::NotFound),
        ("/p/", 404, Turned::NotFound),
        ("/p/v1/nothing", 404, Turned::NotFound),
        ("/p/v1/models/../x", 400, Turned::Malformed),
        ("/p/v1/models/%zz", 400, Turned::Malformed),
        ("/p/v1%2Fmodels", 400, Turned::Malformed),
    ] {
        let request = Request::get(path).body(Bytes::new()).unwrap();
        let run = Run::new(provider(Vendor::Anthropic), request);
        assert_eq!(run.status(), status, "{path}");
        assert!(run.text().starts_with("{\"type\":\"error\""), "{path}");
        let [Record::TurnedAway(_, turned_away)] = &run.records[..] else {
            panic!("{path}: {:?}", run.records);
        };
        assert_eq!(turned_away.provider.as_deref(), Some("p"), "{path}");
        assert_eq!(turned_away.reason, reason, "{path}");
    }
    let request = Request::get("/q/v1").body(Bytes::new()).unwrap();
    let run = Run::new(provider(Vendor::Anthropic), request);
    assert!(run.text().starts_with("{\"error\":"), "{}", run.text());
    assert!(matches!(&run.records[..], [Record::TurnedAway(_, it)] if it.provider.is_none()));
}

#[test]
fn a_malformed_body_is_a_recorded_400() {
    let request = Request::post("/p/v1/messages")
        .body(Bytes::from_static(b"{\"model\":"))
        .unwrap();
    let run = Run::new(provider(Vendor::Anthropic), request);
    assert_eq!((run.status(), run.outcome()), (400, Outcome::BadRequest));
    assert!(run.calls.is_empty());
    assert!(run.text().contains("invalid_request_error"));
}

#[test]
fn a_user_agent_beyond_ascii_is_recorded_and_recognised() {
    for (agent, recorded) in [
        ("claude-cli/2.0 (café)".as_bytes(), "claude-cli/2.0 (café)"),
        (b"claude-cli/2.0 (caf\xe9)", "claude-cli/2.0 (caf\u{fffd})"),
    ] {
        let mut request = messages(false);
        let agent = HeaderValue::from_bytes(agent).unwrap();
        request.headers_mut().insert("user-agent", agent);
        let run = Run::new(provider(Vendor::Anthropic), request);
        let Some(Record::Started(_, started)) = run.records.first() else {
            panic!("{:?}", run.records);
        };
        assert_eq!(started.user_agent.as_deref(), Some(recorded));
        assert_eq!(started.client, "Claude Code");
    }
}

const CHUNK: &str = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";

proptest! {
    /// However the stream is cut, the chunk that nobody asked for is withheld whole, and the rest
    /// is whole.
    #[test]
    fn the_usage_chunk_is_withheld_at_any_split(cuts in proptest::collection::vec(0usize..400, 0..6)) {
        let stream = [": hello\n\n", CHUNK, CHUNK, USAGE, "data: [DONE]\n\n", ": unterminated"].concat();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut run = Run::new(provider(Vendor::OpenAi), chat());
        let asked = str::from_utf8(&run.calls[0].1.body).unwrap();
        prop_assert!(asked.contains("\"include_usage\":true"));
        run.stream();
        for pair in cuts.windows(2) {
            run.bytes(&stream.as_bytes()[pair[0]..pair[1]]);
        }
        run.end();
        prop_assert_eq!(run.text(), stream.replace(USAGE, ""));
        prop_assert_eq!(run.outcome(), Outcome::Ok);
        let recorded = run.records.iter().any(|r| matches!(r, Record::TokenUsage(_, u) if u.usage.input == 3));
        prop_assert!(recorded);
    }
}
