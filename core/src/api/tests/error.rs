use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{Fault, InterceptionId, Rng};

fn id() -> InterceptionId {
    InterceptionId::draw(&mut Rng::new(7))
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// Error, status, Anthropic's type, OpenAI's type and code, message.
type Row = (
    ApiError,
    u16,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

#[test]
fn every_error_has_its_status_and_its_type_in_both_vendors_words() {
    let table: &[Row] = &[
        (
            ApiError::rate_limited(one_second()),
            429,
            "rate_limit_error",
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "all configured keys are rate-limited (retry after 1s)",
        ),
        (
            ApiError::keys_unauthorized(),
            502,
            "api_error",
            "api_error",
            Some("server_error"),
            "all configured keys failed authentication",
        ),
        (
            ApiError::upstream_failed(Fault::Refused),
            502,
            "api_error",
            "api_error",
            Some("server_error"),
            "upstream connection failed: connection refused",
        ),
        (
            ApiError::upstream_timeout(),
            504,
            "timeout_error",
            "timeout_error",
            Some("timeout"),
            "upstream did not answer in time",
        ),
        (
            ApiError::invalid_request("no"),
            400,
            "invalid_request_error",
            "invalid_request_error",
            None,
            "no",
        ),
        (
            ApiError::too_large(5),
            413,
            "request_too_large",
            "invalid_request_error",
            Some("request_too_large"),
            "request body is larger than 5 bytes",
        ),
        (
            ApiError::unauthorized("who?"),
            401,
            "authentication_error",
            "authentication_error",
            Some("invalid_api_key"),
            "who?",
        ),
        (
            ApiError::forbidden("no"),
            403,
            "permission_error",
            "permission_error",
            Some("permission_denied"),
            "no",
        ),
        (
            ApiError::not_found(),
            404,
            "not_found_error",
            "invalid_request_error",
            Some("unknown_url"),
            "no such route",
        ),
        (
            ApiError::method_not_allowed(),
            405,
            "invalid_request_error",
            "invalid_request_error",
            None,
            "method not allowed on this route",
        ),
        (
            ApiError::upgrade_required(),
            426,
            "invalid_request_error",
            "invalid_request_error",
            None,
            "WebSocket is not supported on this route: use HTTP/1.1",
        ),
        (
            ApiError::unsupported(),
            501,
            "invalid_request_error",
            "invalid_request_error",
            Some("unsupported"),
            "background requests are currently not supported",
        ),
        (
            ApiError::draining(one_second()),
            503,
            "overloaded_error",
            "api_error",
            Some("server_error"),
            "shutting down: try again",
        ),
        (
            ApiError::http(http::StatusCode::URI_TOO_LONG, "long"),
            414,
            "invalid_request_error",
            "invalid_request_error",
            None,
            "long",
        ),
        (
            ApiError::http(http::StatusCode::PAYLOAD_TOO_LARGE, "big"),
            413,
            "request_too_large",
            "invalid_request_error",
            Some("request_too_large"),
            "big",
        ),
        (
            ApiError::http(http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "big"),
            431,
            "invalid_request_error",
            "invalid_request_error",
            None,
            "big",
        ),
        (
            ApiError::http(http::StatusCode::REQUEST_TIMEOUT, "slow"),
            408,
            "timeout_error",
            "timeout_error",
            Some("timeout"),
            "slow",
        ),
        (
            ApiError::http(http::StatusCode::TOO_MANY_REQUESTS, "many"),
            429,
            "rate_limit_error",
            "rate_limit_error",
            Some("rate_limit_exceeded"),
            "many",
        ),
        (
            ApiError::http(http::StatusCode::BAD_GATEWAY, "bad"),
            502,
            "api_error",
            "api_error",
            Some("server_error"),
            "bad",
        ),
    ];
    for (error, status, anthropic, openai, code, message) in table {
        assert_eq!(error.status, *status);
        let body = parsed(&error.body(Vendor::Anthropic, id()));
        assert_eq!(
            body,
            json!({"type": "error", "error": {"type": anthropic, "message": message}, "request_id": id().to_string()})
        );
        let body = parsed(&error.body(Vendor::OpenAi, id()));
        assert_eq!(
            body,
            json!({"error": {"message": message, "type": openai, "param": null, "code": code}})
        );
    }
}

#[test]
fn bodies_keep_the_vendors_order_of_members() {
    let error = ApiError::keys_unauthorized();
    insta::assert_snapshot!(
        String::from_utf8_lossy(&error.body(Vendor::Anthropic, id())),
        @r#"{"type":"error","error":{"type":"api_error","message":"all configured keys failed authentication"},"request_id":"63cbe1e4-5932-4dd7-844c-3cd7f43c661c"}"#
    );
    insta::assert_snapshot!(
        String::from_utf8_lossy(&error.body(Vendor::OpenAi, id())),
        @r#"{"error":{"message":"all configured keys failed authentication","type":"api_error","param":null,"code":"server_error"}}"#
    );
}

#[test]
fn retry_after_is_rounded_up_to_whole_seconds() {
    for (millis, seconds) in [
        (0, 1),
        (1, 1),
        (1000, 1),
        (1001, 2),
        (2500, 3),
        (60_000, 60),
    ] {
        let error = ApiError::rate_limited(Duration::from_millis(millis));
        assert_eq!(error.retry_after, Some(Duration::from_secs(seconds)));
        let end = format!("(retry after {seconds}s)");
        assert!(error.message.ends_with(&end), "{}", error.message);
    }
    assert_eq!(
        ApiError::rate_limited(Duration::MAX).retry_after,
        Some(Duration::from_secs(u64::MAX))
    );
    assert_eq!(ApiError::keys_unauthorized().retry_after, None);
}

#[test]
fn stream_events_are_the_apis_own() {
    let error = ApiError::upstream_failed(Fault::Reset);
    let id = id();
    let of = |api, last| String::from_utf8(error.event(api, id, last).to_vec()).unwrap();
    assert_eq!(
        of(Api::Messages, None),
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":\"upstream connection \
             failed: connection reset\"}},\"request_id\":\"{id}\"}}\n\n"
        )
    );
    assert_eq!(
        of(Api::ChatCompletions, None),
        "data: {\"error\":{\"message\":\"upstream connection failed: connection reset\",\"type\":\"api_error\",\
         \"param\":null,\"code\":\"server_error\"}}\n\n"
    );
    let numbered = |number: u64| {
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"code\":\"server_error\",\"message\":\"upstream connection \
             failed: connection reset\",\"param\":null,\"sequence_number\":{number}}}\n\n"
        )
    };
    assert_eq!(of(Api::Responses, Some(41)), numbered(42));
    assert_eq!(of(Api::Responses, None), numbered(0));
    assert_eq!(of(Api::Responses, Some(u64::MAX)), numbered(u64::MAX));
}

/// The bridge reads its own error events as it reads a provider's.
#[test]
fn an_error_event_is_one_event_whatever_the_message() {
    let message = "quotes \" breaks \r\n\n and \u{2028} \u{0} bytes";
    let error = ApiError::invalid_request(message);
    for api in APIS {
        let events = events([&error.event(api, id(), Some(1))[..]]);
        assert_eq!(events.len(), 1);
        let inspected = inspect(api, br#"{"model":"m","stream":true}"#).unwrap();
        let mut stream = Stream::new(api, &inspected);
        assert_eq!(stream.event(&events[0]), Pass::Relay);
        assert!(stream.is_complete());
        assert_eq!(stream.told().error.as_deref(), Some(message));
    }
}
