//! Errors of the bridge's own, in each API's shape.
//!
//! An error is said once, in the bridge's terms ([`ErrorKind`]), and written in the vendor's: as
//! the body of a reply that has not started, or as the stream's own error event where it has. A
//! provider's errors never pass through here: they are relayed as they came.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use crate::{
    api::{Api, Vendor},
    fault::Fault,
    id::InterceptionId,
    time::{Duration, whole_seconds},
};

/// An error that the bridge makes itself.
///
/// ```
/// use aibridge_core::api::ApiError;
/// use std::time::Duration;
///
/// let error = ApiError::rate_limited(Duration::from_millis(2500));
/// assert_eq!(error.status, 429);
/// assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
/// assert_eq!(error.message, "all configured keys are rate-limited (retry after 3s)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Status, where the reply has not started.
    pub status: StatusCode,
    /// What it is, whoever's API it is told in.
    pub kind: ErrorKind,
    /// `error.message`
    pub message: String,
    /// `Retry-After`, where the reply has not started. Whole seconds, at least one.
    pub retry_after: Option<Duration>,
}

/// What an error is. The vendors have names of their own for each: see [`ErrorKind::type_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The upstream or the keys for it failed, or the loop of tools did.
    Api,
    /// The caller is not known.
    Authentication,
    /// The request is malformed.
    InvalidRequest,
    /// There is nothing at this path.
    NotFound,
    /// The bridge is shutting down, holds as much as it can, or cannot record; or the provider is
    /// left alone for a while since it has been failing.
    Overloaded,
    /// The caller may not do this.
    Permission,
    /// Every key is cooling down, or the client has as many requests running, or has begun as many
    /// in a minute, as it may.
    RateLimit,
    /// The upstream was too slow, or the client with its request.
    Timeout,
    /// The request is too large.
    TooLarge,
    /// The request is sound, but the bridge cannot serve it.
    Unsupported,
}

impl ErrorKind {
    /// `error.type`
    pub const fn type_for(self, vendor: Vendor) -> &'static str {
        match (self, vendor) {
            (Self::Api, _) | (Self::Overloaded, Vendor::OpenAi) => "api_error",
            (Self::Authentication, _) => "authentication_error",
            (Self::InvalidRequest | Self::Unsupported, _)
            | (Self::NotFound | Self::TooLarge, Vendor::OpenAi) => "invalid_request_error",
            (Self::NotFound, Vendor::Anthropic) => "not_found_error",
            (Self::Overloaded, Vendor::Anthropic) => "overloaded_error",
            (Self::Permission, _) => "permission_error",
            (Self::RateLimit, _) => "rate_limit_error",
            (Self::Timeout, _) => "timeout_error",
            (Self::TooLarge, Vendor::Anthropic) => "request_too_large",
        }
    }

    /// OpenAI's `error.code`. OpenAI has none for most requests that are merely malformed.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            // Clients retry this one; Codex gives up on the codes that tell of overload.
            Self::Api | Self::Overloaded => Some("server_error"),
            Self::Authentication => Some("invalid_api_key"),
            Self::InvalidRequest => None,
            Self::NotFound => Some("unknown_url"),
            Self::Permission => Some("permission_denied"),
            Self::RateLimit => Some("rate_limit_exceeded"),
            Self::Timeout => Some("timeout"),
            Self::TooLarge => Some("request_too_large"),
            Self::Unsupported => Some("unsupported"),
        }
    }
}

impl ApiError {
    /// Every key of the pool is cooling down: 429. `retry_after` is rounded up to whole seconds, at
    /// least one.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        let message = format!("all configured keys are rate-limited (retry after {seconds}s)");
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimit, message)
            .retry_after(retry_after)
    }

    /// Every key of the pool is retired: 502.
    pub fn keys_unauthorized() -> Self {
        let message = "all configured keys failed authentication";
        Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Api, message)
    }

    /// The connection to the upstream failed: 502. Only the class of the failure is told, no
    /// address.
    pub fn upstream_failed(fault: Fault) -> Self {
        let message = format!("upstream connection failed: {fault}");
        Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Api, message)
    }

    /// The upstream was silent for too long: 504.
    pub fn upstream_timeout() -> Self {
        let message = "upstream did not answer in time";
        Self::new(StatusCode::GATEWAY_TIMEOUT, ErrorKind::Timeout, message)
    }

    /// The loop of turns and tools went too far, or cannot go on: 502.
    pub fn loop_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, ErrorKind::Api, message)
    }

    /// The request is malformed: 400.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::InvalidRequest, message)
    }

    /// The request's body is larger than `limit` bytes: 413.
    pub fn too_large(limit: u64) -> Self {
        let message = format!("request body is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::TooLarge, message)
    }

    /// The caller is not known: 401.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ErrorKind::Authentication, message)
    }

    /// The caller may not do this: 403.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorKind::Permission, message)
    }

    /// There is nothing at this path: 404.
    pub fn not_found() -> Self {
        let message = "no such route";
        Self::new(StatusCode::NOT_FOUND, ErrorKind::NotFound, message)
    }

    /// The route is there, but not for this method: 405. The caller adds `Allow`.
    pub fn method_not_allowed() -> Self {
        let message = "method not allowed on this route";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, ErrorKind::InvalidRequest, message)
    }

    /// A WebSocket was asked for where there is none: 426. Codex then falls back to plain HTTP. The
    /// caller adds `Upgrade`.
    pub fn upgrade_required() -> Self {
        let message = "WebSocket is not supported on this route: use HTTP/1.1";
        let status = StatusCode::UPGRADE_REQUIRED;
        Self::new(status, ErrorKind::InvalidRequest, message)
    }

    /// `background: true` in the Responses API: 501.
    pub fn unsupported() -> Self {
        let message = "background requests are currently not supported";
        Self::new(StatusCode::NOT_IMPLEMENTED, ErrorKind::Unsupported, message)
    }

    /// The bridge is shutting down, and another one is to be asked after `retry_after`: 503.
    pub fn draining(retry_after: Duration) -> Self {
        let message = "shutting down: try again";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, ErrorKind::Overloaded, message).retry_after(retry_after)
    }

    /// There are as many requests or connections as the bridge can hold: 503.
    pub fn busy(retry_after: Duration) -> Self {
        let message = "the bridge is busy: try again";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, ErrorKind::Overloaded, message).retry_after(retry_after)
    }

    /// The client has as many requests running as it may have: 429.
    pub fn client_busy(limit: u32, retry_after: Duration) -> Self {
        let message = format!("this client may have {limit} requests in flight: try again");
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimit, message)
            .retry_after(retry_after)
    }

    /// The client has begun as many requests in the last minute as it may: 429.
    pub fn client_too_fast(limit: u32, retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        let message =
            format!("this client may make {limit} requests per minute (retry after {seconds}s)");
        Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimit, message)
            .retry_after(retry_after)
    }

    /// The provider has failed again and again, and is left alone: 503.
    pub fn provider_failing(retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        let message = format!("the provider is failing (retry after {seconds}s)");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, ErrorKind::Overloaded, message).retry_after(retry_after)
    }

    /// What this request does could not be recorded, and that is not to happen: 503.
    pub fn unrecorded(retry_after: Duration) -> Self {
        let message = "requests cannot be recorded at the moment: try again";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, ErrorKind::Overloaded, message).retry_after(retry_after)
    }

    /// What a codec refused, with the status it hints at: 400, 413, 414, 431, …; or what upstream
    /// answered, with the status it did.
    pub fn http(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status.as_u16() {
            401 => ErrorKind::Authentication,
            403 => ErrorKind::Permission,
            404 => ErrorKind::NotFound,
            408 | 504 => ErrorKind::Timeout,
            413 => ErrorKind::TooLarge,
            429 => ErrorKind::RateLimit,
            501 => ErrorKind::Unsupported,
            // Anthropic's own.
            529 => ErrorKind::Overloaded,
            500.. => ErrorKind::Api,
            _ => ErrorKind::InvalidRequest,
        };
        Self::new(status, kind, message)
    }

    /// As a response body.
    pub fn body(&self, vendor: Vendor, id: InterceptionId) -> Bytes {
        match vendor {
            Vendor::Anthropic => {
                let request_id = id.ascii();
                json(&Anthropic {
                    kind: "error",
                    error: AnthropicError {
                        kind: self.kind.type_for(vendor),
                        message: &self.message,
                    },
                    request_id: str::from_utf8(&request_id).unwrap_or_default(),
                })
            }
            Vendor::OpenAi => json(&OpenAi {
                error: OpenAiError {
                    message: &self.message,
                    kind: self.kind.type_for(vendor),
                    param: (),
                    code: self.kind.code(),
                },
            }),
        }
        .into()
    }

    /// As the API's stream error event, which ends the stream: no `[DONE]` follows it.
    /// `sequence_number` is the last one seen (responses).
    pub fn event(&self, api: Api, id: InterceptionId, sequence_number: Option<u64>) -> Bytes {
        match api {
            Api::ChatCompletions => framed("data: ", &self.body(api.vendor(), id)),
            Api::Messages => framed("event: error\ndata: ", &self.body(api.vendor(), id)),
            Api::Responses => framed(
                "event: error\ndata: ",
                &json(&ResponsesEvent {
                    kind: "error",
                    code: self.kind.code(),
                    message: &self.message,
                    param: (),
                    sequence_number: sequence_number.map_or(0, |last| last.saturating_add(1)),
                }),
            ),
        }
    }

    fn new(status: StatusCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    fn retry_after(self, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(whole_seconds(retry_after))),
            ..self
        }
    }
}

/// Serialising strings and numbers into memory cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// JSON has no line breaks outside its strings, and none inside: one `data` line is enough.
fn framed(head: &str, json: &[u8]) -> Bytes {
    [head.as_bytes(), json, b"\n\n"].concat().into()
}

#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// Always null: the bridge blames no parameter.
    param: (),
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct ResponsesEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: Option<&'static str>,
    message: &'a str,
    param: (),
    sequence_number: u64,
}
