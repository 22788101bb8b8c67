//! What a client that is turned away must be told, in each API's shape.
#![allow(dead_code, unreachable_pub, reason = "each suite uses a part of it")]

use aibridge_core::api::Api;
use aibridge_testkit::Answer;
use serde_json::{Value, json};

/// Checks a refusal to the letter: status, `Retry-After`, and the body in the API's shape.
#[track_caller]
pub fn assert_refused(api: Api, answer: &Answer, status: u16, seconds: &str, message: &str) {
    let told = format!("{api:?}: {}", answer.text());
    assert_eq!(answer.status, status, "{told}");
    assert_eq!(answer.header("retry-after"), Some(seconds), "{told}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{told}"
    );
    let (kind, code) = match (status, api) {
        (429, _) => ("rate_limit_error", "rate_limit_exceeded"),
        (_, Api::Messages) => ("overloaded_error", ""),
        _ => ("api_error", "server_error"),
    };
    let expected = if api == Api::Messages {
        let id = answer.json()["request_id"].clone();
        assert_eq!(id.as_str().map(str::len), Some(36), "{told}");
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": id})
    } else {
        json!({"error": {"message": message, "type": kind, "param": Value::Null, "code": code}})
    };
    assert_eq!(answer.json(), expected, "{told}");
}
