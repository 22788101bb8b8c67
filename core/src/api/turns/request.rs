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

    /// Whether the provider keeps the conversation: it has the turn's input and output already and
    /// would have them twice.
    pub(super) fn is_kept(&self) -> bool {
        self.says("conversation", |scan| {
            scan.kind().map(|kind| kind != Kind::Null)
        })
    }

    /// Whether the provider stores nothing, so that it knows no item by its id alone.
    pub(super) fn stores_nothing(&self) -> bool {
        self.says("store", |scan| {
            scan.bool_or_skip().map(|store| store == Some(false))
        })
    }

    /// Whether `says` is true of a member of the request. Only the Responses API has state.
    fn says(&self, member: &str, says: impl Fn(&mut Scanner<'_>) -> Result<bool, Error>) -> bool {
        let mut is_said = false;
        if self.list != "input" {
            return is_said;
        }
        read::document(&self.body, |scan| {
            read::object(scan, |scan, name| {
                if name == member {
                    is_said = says(&mut scan.clone())?;
                }
                read::skip(scan)
            })
        });
        is_said
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
