//! The ring, fed with records by hand.

use std::sync::Arc;

use aibridge_core::{
    Duration, Fault, Instant, InterceptionId, Rng,
    api::{Api, ToolCall, Usage},
    record::{Attempt, CredentialKind, Ended, Outcome, Record, Started, TokenUsage, ToolUsage},
};
use serde_json::json;

use super::*;

fn id(seed: u64) -> InterceptionId {
    InterceptionId::draw(&mut Rng::new(seed))
}

fn started(id: InterceptionId, model: &str) -> Record {
    Record::Started(
        id,
        Box::new(Started {
            provider: "anthropic".into(),
            api: Api::Messages,
            model: model.into(),
            streaming: true,
            actor: "alice".into(),
            client: "Claude Code",
            session_id: Some("session".to_owned()),
            user_agent: Some("claude-cli/2".to_owned()),
            credential_kind: CredentialKind::Centralized,
            correlating_tool_call_id: None,
            at: Instant::from_millis(1_767_225_600_123),
        }),
    )
}

fn attempt(
    id: InterceptionId,
    hint: &str,
    result: Result<u16, Fault>,
    verdict: &'static str,
) -> Record {
    let at = Instant::EPOCH;
    let (turn, key_index, key_hint) = (1, Some(0), hint.into());
    Record::Attempt(
        id,
        Attempt {
            turn,
            key_index,
            key_hint,
            result,
            verdict,
            at,
        },
    )
}

fn tokens(id: InterceptionId, turn: u32, input: u64, output: u64) -> Record {
    let usage = Usage {
        input,
        output,
        cache_read: 1,
        ..Usage::default()
    };
    Record::TokenUsage(
        id,
        TokenUsage {
            turn,
            reply_id: None,
            usage,
            at: Instant::EPOCH,
        },
    )
}

fn ended(id: InterceptionId) -> Record {
    Record::Ended(
        id,
        Box::new(Ended {
            at: Instant::from_millis(1_767_225_601_500),
            status: Some(200),
            outcome: Outcome::Ok,
            error: None,
            credential_hint: "sk-a...bbbb".into(),
            attempts: 2,
            turns: 2,
            first_byte: Some(Duration::from_micros(12_345)),
            overhead: Duration::from_micros(50),
            total: Duration::from_millis(1377),
        }),
    )
}

fn models(recorder: &Recorder, limit: usize) -> Vec<Arc<str>> {
    recorder
        .newest(limit)
        .into_iter()
        .map(|interception| interception.model)
        .collect()
}

#[test]
fn an_interception_is_shown_in_the_shape_of_the_contract() {
    let recorder = Recorder::in_memory(10);
    let one = id(1);
    recorder.keep(started(one, "claude"));
    recorder.keep(attempt(one, "sk-a...aaaa", Ok(429), "next_key"));
    let running = serde_json::to_value(recorder.newest(1)).unwrap();
    assert_eq!(running[0]["ended_at"], json!(null));
    assert_eq!(running[0]["outcome"], json!(null));
    assert_eq!(running[0]["credential_hint"], "sk-a...aaaa");

    recorder.keep(attempt(one, "sk-a...bbbb", Err(Fault::Refused), "give_up"));
    recorder.keep(tokens(one, 1, 30, 4));
    recorder.keep(tokens(one, 2, 40, 5));
    recorder.keep(Record::ToolUsage(
        one,
        ToolUsage {
            turn: 1,
            call: ToolCall {
                id: "toolu_1".to_owned(),
                name: "weather".to_owned(),
                arguments: "{\"city\":\"Paris\"}".to_owned(),
            },
            injected: false,
            server: None,
            error: None,
            at: Instant::EPOCH,
        },
    ));
    recorder.keep(ended(one));
    assert_eq!(
        serde_json::to_value(recorder.newest(1)).unwrap(),
        json!([{
            "id": one.to_string(),
            "provider": "anthropic",
            "api": "messages",
            "model": "claude",
            "streaming": true,
            "actor": "alice",
            "client": "Claude Code",
            "session_id": "session",
            "credential_kind": "centralized",
            "credential_hint": "sk-a...bbbb",
            "started_at": "2026-01-01T00:00:00.123Z",
            "ended_at": "2026-01-01T00:00:01.500Z",
            "status": 200,
            "outcome": "ok",
            "error": null,
            "attempts": [
                {"turn": 1, "key": "sk-a...aaaa", "status": 429, "verdict": "next_key", "fault": null},
                {"turn": 1, "key": "sk-a...bbbb", "status": null, "verdict": "give_up", "fault": "connection refused"},
            ],
            "turns": 2,
            "usage": {"input_tokens": 70, "output_tokens": 9, "cache_read_tokens": 2, "cache_write_tokens": 0},
            "tools": [
                {"turn": 1, "name": "weather", "call_id": "toolu_1", "injected": false, "server": null, "error": null},
            ],
            "first_byte_ms": 12.345,
            "total_ms": 1377.0,
        }])
    );
}

#[test]
fn the_newest_start_comes_first_whatever_ended_first() {
    let recorder = Recorder::in_memory(10);
    for (seed, model) in [(1, "a"), (2, "b"), (3, "c")] {
        recorder.keep(started(id(seed), model));
    }
    recorder.keep(ended(id(3)));
    recorder.keep(ended(id(1)));
    assert_eq!(models(&recorder, 100), ["c".into(), "b".into(), "a".into()]);
    assert_eq!(models(&recorder, 2), ["c".into(), "b".into()]);
    assert!(models(&recorder, 0).is_empty());
}

#[test]
fn of_the_ended_the_longest_ended_goes_and_the_running_stay() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(started(id(0), "runs"));
    for (seed, model) in [(1, "a"), (2, "b"), (3, "c")] {
        recorder.keep(started(id(seed), model));
        recorder.keep(ended(id(seed)));
    }
    assert_eq!(
        models(&recorder, 100),
        ["c".into(), "b".into(), "runs".into()]
    );
}

#[test]
fn records_of_an_unknown_or_ended_interception_are_ignored() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(tokens(id(9), 1, 1, 1));
    recorder.keep(ended(id(9)));
    assert!(recorder.newest(9).is_empty());

    recorder.keep(started(id(1), "a"));
    recorder.keep(ended(id(1)));
    recorder.keep(tokens(id(1), 1, 1, 1));
    recorder.keep(ended(id(1)));
    let kept = recorder.newest(9);
    assert_eq!((kept.len(), kept[0].usage.input_tokens), (1, 0));
}

#[test]
fn texts_and_lists_that_others_choose_are_bounded() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(started(id(1), &"é".repeat(100_000)));
    for _ in 0..1000 {
        recorder.keep(attempt(id(1), "hint", Ok(429), "next_key"));
    }
    let kept = recorder.newest(1).remove(0);
    assert_eq!(kept.model.len(), 256);
    assert_eq!(kept.attempts.len(), 256);
}
