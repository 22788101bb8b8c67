//! Putting together again what was streamed in pieces.
//!
//! Strings are kept as they stood between their quotes, escapes and all, and joined that way: so a
//! signature comes out byte for byte, and a surrogate pair whose halves came in two pieces comes
//! out whole.

use crate::{
    api::{edits::quoted, read},
    json::{Kind, Str},
};

/// Members of an object that are strings and grow by pieces.
#[derive(Debug, Default)]
pub(super) struct Strings(Vec<(String, Vec<u8>)>);

impl Strings {
    /// More of the string `name`. Gives its place, by which more can be added without a search.
    pub(super) fn push(&mut self, name: &str, raw: &[u8]) -> usize {
        let known = self.0.iter().position(|(known, _)| known == name);
        let place = known.unwrap_or_else(|| {
            self.0.push((name.to_owned(), Vec::new()));
            self.0.len() - 1
        });
        self.push_at(place, raw);
        place
    }

    pub(super) fn push_at(&mut self, place: usize, raw: &[u8]) {
        if let Some((_, text)) = self.0.get_mut(place) {
            text.extend_from_slice(raw);
        }
    }

    /// The string as it stands between its quotes.
    pub(super) fn raw(&self, name: &str) -> Option<&[u8]> {
        let known = self.0.iter().find(|(known, _)| known == name);
        known.map(|(_, raw)| &**raw)
    }

    /// The string unescaped; empty where there is none or it is malformed.
    pub(super) fn text(&self, name: &str) -> String {
        unescaped(self.raw(name).unwrap_or_default())
    }

    /// How many bytes they have.
    pub(super) fn len(&self) -> usize {
        self.0
            .iter()
            .map(|(name, raw)| name.len() + raw.len())
            .sum()
    }

    /// All that are not empty, in the order in which they began.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let strings = self.0.iter().map(|(name, raw)| (&**name, &**raw));
        strings.filter(|(_, raw)| !raw.is_empty())
    }
}

/// Text from between quotes, unescaped; empty where it is malformed.
pub(super) fn unescaped(raw: &[u8]) -> String {
    let string = [b"\"", raw, b"\""].concat();
    let text = read::document(&string, |scan| {
        scan.string_or_skip().map(|text| text.map(owned))
    });
    text.flatten().unwrap_or_default()
}

/// Whether a text is a JSON object.
pub(super) fn is_object(text: &[u8]) -> bool {
    let kind = read::document(text, |scan| {
        let kind = scan.kind()?;
        read::skip(scan).map(|()| kind)
    });
    kind == Some(Kind::Object)
}

fn owned(string: Str<'_>) -> String {
    string.decode().into_owned()
}

/// Appends a member `"name":"raw"` to an object being written, with its comma.
pub(super) fn put(name: &str, raw: &[u8], object: &mut Vec<u8>) {
    if object.last() != Some(&b'{') {
        object.push(b',');
    }
    object.extend_from_slice(quoted(name).as_bytes());
    object.extend_from_slice(b":\"");
    object.extend_from_slice(raw);
    object.push(b'"');
}
