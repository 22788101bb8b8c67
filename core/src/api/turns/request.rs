//! The request of a turn, which each turn's is the beginning of the next one's.

use bytes::Bytes;

use crate::{
    api::{Api, edits::Edits, read},
    json::{Error, Kind, Scanner},
};

/// A request body to which turns are appended.
#[derive(Debug)]
pub(super) struct Request {
    body: Bytes,
    /// The member that holds the conversation.
    list: &'static str,
    /// Found when the first turn is appended: most requests have but one turn.
    end: Option<End>,
}

/// What a provider keeps of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// A turn's input and output: they would be there twice if they came again.
    All,
    /// What it has said, by the items' ids; or it is sent all of it each time.
    Items,
    /// Nothing: it knows no item by its id alone.
    Nothing,
}

/// Where a list of messages ends: before its closing bracket.
#[derive(Clone, Copy, Debug)]
struct End {
    at: usize,
    is_empty: bool,
}

impl Request {
    pub(super) fn new(api: Api, body: Bytes) -> Self {
        let list = match api {
            Api::ChatCompletions | Api::Messages => "messages",
            Api::Responses => "input",
        };
        let end = None;
        Self { body, list, end }
    }

    /// Makes edits, before anything is appended.
    pub(super) fn edit(&mut self, edits: impl FnOnce(&[u8]) -> Edits) {
        let edits = edits(&self.body);
        if !edits.is_empty() && self.end.is_none() {
            self.body = edits.apply(&self.body);
        }
    }

    /// Appends elements to the conversation. All other bytes stay.
    pub(super) fn append(&mut self, elements: &[u8]) -> Bytes {
        let Some(end) = self.end.or_else(|| self.prepare()) else {
            return self.body.clone();
        };
        let comma = if end.is_empty { "" } else { "," };
        let added = [comma.as_bytes(), elements].concat();
        let at = end.at + added.len();
        let mut edits = Edits::default();
        edits.insert(end.at, added);
        self.body = edits.apply(&self.body);
        let is_empty = end.is_empty && elements.is_empty();
        self.end = Some(End { at, is_empty });
        self.body.clone()
    }

    /// What the provider keeps of this conversation.
    pub(super) fn kept(&self) -> Kept {
        // Only the Responses API has state.
        if self.list != "input" {
            return Kept::Items;
        }
        let (mut has_conversation, mut store) = (false, None);
        read::document(&self.body, |scan| {
            read::object(scan, |scan, name| match name {
                "conversation" => {
                    has_conversation = scan.kind()? != Kind::Null;
                    read::skip(scan)
                }
                "store" => scan.bool_or_skip().map(|it| store = it),
                _ => read::skip(scan),
            })
        });
        match store {
            _ if has_conversation => Kept::All,
            Some(false) => Kept::Nothing,
            _ => Kept::Items,
        }
    }

    /// Puts elements in the place of the input.
    pub(super) fn replace(&mut self, elements: &[u8]) -> Bytes {
        let mut edits = Edits::default();
        let value = [b"[", elements, b"]"].concat();
        let mut first = None;
        read::document(&self.body, |scan| {
            scan.object()?;
            first = Some(scan.position());
            while let Some(name) = scan.key()? {
                let range = scan.skip()?;
                if name.is(self.list) {
                    edits.replace(range, value.clone());
                }
            }
            Ok(())
        });
        if let Some(first) = first.filter(|_| edits.is_empty()) {
            let member = [b"\"", self.list.as_bytes(), b"\":", &*value, b","].concat();
            edits.insert(first, member);
        }
        self.body = edits.apply(&self.body);
        self.body.clone()
    }

    /// Finds the list. Where it is a string or missing, the body gets one.
    fn prepare(&mut self) -> Option<End> {
        let list = self.list;
        let found = read::document(&self.body, |scan| List::read(scan, list))?;
        let mut edits = Edits::default();
        match found {
            List::Array(end) => return Some(end),
            List::Text(range) => {
                // A string is short for one user message of that text.
                let end = range.end;
                edits.insert(
                    range.start,
                    "[{\"type\":\"message\",\"role\":\"user\",\"content\":",
                );
                edits.insert(end, "}]");
            }
            List::Absent(first) => edits.insert(first, format!("\"{list}\":[],")),
            List::Odd => return None,
        }
        self.body = edits.apply(&self.body);
        match read::document(&self.body, |scan| List::read(scan, list))? {
            List::Array(end) => Some(end),
            List::Absent(_) | List::Odd | List::Text(_) => None,
        }
    }
}

/// What the conversation is in.
enum List {
    /// Nothing; the offset is after the body's opening brace.
    Absent(usize),
    Array(End),
    Odd,
    Text(std::ops::Range<usize>),
}

impl List {
    fn read(scan: &mut Scanner<'_>, list: &str) -> Result<Self, Error> {
        scan.object()?;
        let mut found = Self::Absent(scan.position());
        while let Some(name) = scan.key()? {
            if !name.is(list) {
                scan.skip()?;
                continue;
            }
            found = match scan.kind()? {
                Kind::Array => {
                    let mut is_empty = true;
                    scan.array()?;
                    while scan.element()? {
                        is_empty = false;
                        scan.skip()?;
                    }
                    let at = scan.position() - 1;
                    Self::Array(End { at, is_empty })
                }
                Kind::String => Self::Text(scan.skip()?),
                Kind::Bool | Kind::Null | Kind::Number | Kind::Object => {
                    scan.skip()?;
                    Self::Odd
                }
            };
        }
        Ok(found)
    }
}
