//! `Retry-After` and `retry-after-ms`, one line each.

use std::time::{Duration, UNIX_EPOCH};

use aibridge_core::{Instant, keypool::retry_after};
use http::{HeaderMap, HeaderValue};

/// Reads the first line of `data` as `Retry-After`, the second as `retry-after-ms`.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    const NOW: u64 = 784_111_777;
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["retry-after", "retry-after-ms"] {
        let Some(Ok(value)) = lines.next().map(HeaderValue::from_bytes) else {
            continue;
        };
        headers.insert(name, value);
    }
    let wait = retry_after(Instant::from_secs(NOW), &headers);
    assert_ne!(wait, Some(Duration::ZERO));
    if headers.contains_key("retry-after-ms") {
        return;
    }
    let Some(text) = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let text = text.trim();
    // Whole seconds and dates have one meaning.
    let expected = if let Ok(seconds) = text.parse::<u32>() {
        Some(Duration::from_secs(seconds.into())).filter(|_| !text.starts_with('+'))
    } else if let Ok(date) = httpdate::parse_http_date(text) {
        let since = date.duration_since(UNIX_EPOCH).ok();
        since.and_then(|since| since.checked_sub(Duration::from_secs(NOW)))
    } else {
        return;
    };
    assert_eq!(wait, expected.filter(|wait| !wait.is_zero()));
}
