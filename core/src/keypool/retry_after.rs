//! How long a provider asks to wait.

use http::HeaderMap;

use crate::time::{Duration, Instant};

/// The wait that a reply's headers ask for: `retry-after-ms`, else `retry-after` in seconds or as a
/// date (RFC 9110 §10.2.3). `None` for zero, negative, past, overflowing or unparsable values.
pub fn retry_after(_now: Instant, _headers: &HeaderMap) -> Option<Duration> {
    todo!()
}
