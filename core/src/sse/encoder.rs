//! From events to bytes.

use bytes::Bytes;

use super::lines::Lines;

/// One event: `event: name` where `name` is not empty, one `data:` line per line of `data`, and a
/// blank line.
///
/// The format has no escapes. Line ends within `data`, of any kind, arrive as LF; those within
/// `name` cannot be sent at all, so the name ends at the first.
///
/// ```
/// use aibridge_core::sse::encode;
///
/// assert_eq!(encode("ping", "{}"), "event: ping\ndata: {}\n\n");
/// assert_eq!(encode("", "[DONE]"), "data: [DONE]\n\n");
/// assert_eq!(encode("", "a\nb"), "data: a\ndata: b\n\n");
/// ```
pub fn encode(name: &str, data: &str) -> Bytes {
    let name = name.split(['\n', '\r']).next().unwrap_or_default();
    let name_line = if name.is_empty() {
        0
    } else {
        "event: \n".len() + name.len()
    };
    let ends = memchr::memchr2_iter(b'\n', b'\r', data.as_bytes()).count();
    let data_lines = "data: \n".len() * (1 + ends) + data.len();
    let mut event = Vec::with_capacity(name_line + data_lines + 1);
    if !name.is_empty() {
        line(&mut event, b"event: ", name.as_bytes());
    }
    for text in Lines::new(data.as_bytes()) {
        line(&mut event, b"data: ", &data.as_bytes()[text]);
    }
    // The line after the last line end, which `Lines` does not count.
    if data.is_empty() || data.ends_with(['\n', '\r']) {
        line(&mut event, b"data: ", b"");
    }
    event.push(b'\n');
    Bytes::from(event)
}

fn line(event: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    event.extend_from_slice(field);
    event.extend_from_slice(value);
    event.push(b'\n');
}
