//! Bytes of a connection, but for how they are framed: how a body is cut into chunks may depend on
//! how it came.

/// What begins a reply's head.
const BEGINS: &[u8] = b"HTTP/1.1 ";

/// Replies with their chunked bodies in one piece. Whatever is no chunk stays as it is.
pub(super) fn without_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let (head, rest) = bytes.split_at(end + 4);
        all.extend_from_slice(head);
        bytes = rest;
        if find(head, b"transfer-encoding: chunked").is_some() {
            while let Some((data, rest)) = chunk(bytes) {
                all.extend_from_slice(data);
                bytes = rest;
            }
        }
        let next = find(bytes, BEGINS).unwrap_or(bytes.len());
        all.extend_from_slice(&bytes[..next]);
        bytes = &bytes[next..];
    }
    all.extend_from_slice(bytes);
    all
}

/// A chunk's data, and what follows it.
fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = find(bytes, b"\r\n")?;
    let size = str::from_utf8(&bytes[..line]).ok()?;
    let size = usize::from_str_radix(size, 16).ok()?;
    let rest = &bytes[line + 2..];
    let data = rest.get(..size)?;
    Some((data, rest[size..].strip_prefix(b"\r\n")?))
}

pub(super) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|part| part == needle)
}
