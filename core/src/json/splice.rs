//! Edits that leave every other byte as it was.

use std::ops::Range;

use bytes::Bytes;

/// `text` with each range replaced by its bytes. Ranges ascend and do not overlap; those at the
/// same offset that are empty insert in order. One allocation.
///
/// A range that breaks this rule is cut to what lies after the one before it and within the text.
///
/// ```
/// use aibridge_core::json::splice;
///
/// assert_eq!(splice(b"[1,2]", &[(1..2, b"0"), (4..4, b",3")]), "[0,2,3]");
/// ```
pub fn splice(text: &[u8], edits: &[(Range<usize>, &[u8])]) -> Bytes {
    let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let removed: usize = edits.iter().map(|(range, _)| range.len()).sum();
    let mut out = Vec::with_capacity((text.len() + added).saturating_sub(removed));
    let mut kept = 0;
    for (range, new) in edits {
        let start = range.start.clamp(kept, text.len());
        out.extend_from_slice(&text[kept..start]);
        out.extend_from_slice(new);
        kept = range.end.clamp(start, text.len());
    }
    out.extend_from_slice(&text[kept..]);
    Bytes::from(out)
}
