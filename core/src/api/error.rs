//! Errors of the bridge's own, in each API's shape.

use bytes::Bytes;
use http::StatusCode;

use crate::{
    api::{Api, Vendor},
    id::InterceptionId,
    time::Duration,
};

/// An error that the bridge makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Status, where the reply has not started.
    pub status: StatusCode,
    /// `error.type`
    pub kind: &'static str,
    /// OpenAI's `error.code`.
    pub code: Option<&'static str>,
    /// `error.message`
    pub message: String,
    /// `Retry-After`, where the reply has not started. Whole seconds.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// As a response body.
    pub fn body(&self, _vendor: Vendor, _id: InterceptionId) -> Bytes {
        todo!()
    }
    /// As the API's stream error event. `sequence_number` is the last one seen (responses).
    pub fn event(&self, _api: Api, _id: InterceptionId, _sequence_number: Option<u64>) -> Bytes {
        todo!()
    }
}
