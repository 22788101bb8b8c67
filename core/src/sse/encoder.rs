//! From events to bytes.

use bytes::Bytes;

/// One event: `event: name` where `name` is not empty, one `data:` line per line of `data`, and a blank line.
pub fn encode(_name: &str, _data: &str) -> Bytes {
    todo!()
}
