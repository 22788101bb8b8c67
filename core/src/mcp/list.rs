//! A server's list of tools, all pages of it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;

use super::{
    exchange::{Answer, Exchange},
    failure::Failure,
    mirror::{self, Mirror},
    outbox::{ExchangeId, Input, Outbox},
    peer::Peer,
    rpc,
};
use crate::{
    json::{self, Kind, Scanner},
    time::{Duration, Instant, earliest},
};

/// Most tools of one server. Models are given a few hundred at most.
const MAX_TOOLS: usize = 4096;

/// Most pages of a list. A server that always names a further one has no end.
const MAX_PAGES: usize = 256;

/// Longest cursor, in bytes: all that came are kept, to know one that comes again.
const MAX_CURSOR: usize = 4 << 10;

/// Most text of all pages, in bytes.
const MAX_TEXT: usize = 32 << 20;

/// What a tool that describes no arguments takes.
const ANY_OBJECT: &[u8] = br#"{"type":"object"}"#;

/// A tool as its server describes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name on the server.
    pub name: Arc<str>,
    /// What it does, for the model; may be empty.
    pub description: Arc<str>,
    /// The schema of its arguments: a JSON object, its text as it came.
    pub schema: Bytes,
    /// Arguments to send in header fields as well.
    pub(super) mirrors: Vec<Mirror>,
}

impl Tool {
    /// A tool; `schema` is the text of a JSON object.
    pub fn new(name: &str, description: &str, schema: Bytes) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            schema,
            mirrors: Vec::new(),
        }
    }
}

impl Tool {
    /// Whether arguments are sent in header fields as well.
    pub(crate) fn is_mirrored(&self) -> bool {
        !self.mirrors.is_empty()
    }

    /// The same, with those arguments sent in header fields as well that its schema names.
    pub(crate) fn mirrored(self) -> Self {
        let mirrors = mirror::find(&self.schema).unwrap_or_default();
        Self { mirrors, ..self }
    }
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tool({:?}, schema {} B)", self.name, self.schema.len())
    }
}

/// A tool that a server listed and that is not offered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name on the server; empty where it has none.
    pub tool: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.tool, self.why)
    }
}

/// A complete list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) tools: Vec<Arc<Tool>>,
    pub(super) refused: Vec<Refused>,
}

impl Listed {
    /// How many tools were listed, offered or not.
    fn len(&self) -> usize {
        self.tools.len() + self.refused.len()
    }
}

/// Reads a list, page after page.
#[derive(Debug)]
pub(super) struct Lister {
    peer: Peer,
    exchange: Exchange,
    listed: Listed,
    /// How long the pages were, in bytes.
    text: usize,
    cursors: BTreeSet<String>,
    /// How long each page may take.
    timeout: Duration,
    until: Instant,
}

impl Lister {
    pub(super) fn new(now: Instant, peer: Peer, timeout: Duration, out: &mut Outbox) -> Self {
        Self {
            exchange: page(&peer, None, out),
            peer,
            listed: Listed::default(),
            text: 0,
            cursors: BTreeSet::new(),
            timeout,
            until: now + timeout,
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: ExchangeId,
        input: Input,
        out: &mut Outbox,
    ) -> Option<Result<Listed, Failure>> {
        let answer = self.exchange.handle(now, on, input, out)?;
        match self.turn(answer) {
            Err(failure) => Some(Err(failure)),
            Ok(None) => Some(Ok(std::mem::take(&mut self.listed))),
            Ok(Some(cursor)) => {
                self.until = now + self.timeout;
                self.exchange = page(&self.peer, Some(&cursor), out);
                self.cursors.insert(cursor);
                None
            }
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut Outbox,
    ) -> Option<Result<Listed, Failure>> {
        self.exchange.handle_timeout(now, out);
        if now < self.until {
            return None;
        }
        self.exchange.cancel(now, "timed out", out);
        Some(Err(Failure::TimedOut))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(Some(self.until), self.exchange.deadline())
    }

    pub(super) fn abort(&mut self, out: &mut Outbox) {
        self.exchange.abort(out);
    }

    /// Whether the server said meanwhile that the list has changed again.
    pub(super) fn list_changed(&mut self) -> bool {
        self.exchange.list_changed()
    }

    /// Keeps a page; gives the next one's cursor.
    fn turn(&mut self, answer: Answer) -> Result<Option<String>, Failure> {
        let page = answer?;
        self.text += page.len();
        if self.text > MAX_TEXT {
            return Err(Failure::TooLarge);
        }
        let is_stateless = self.peer.version().is_stateless();
        let cursor = read_page(&page, is_stateless, &mut self.listed)
            .map_err(|_| Failure::Malformed("no list of tools"))?;
        if self.listed.len() > MAX_TOOLS {
            return Err(Failure::Malformed("too many tools"));
        }
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        if cursor.len() > MAX_CURSOR {
            return Err(Failure::Malformed("a cursor that is too long"));
        }
        // This page's own cursor is among them, but for the first, which had none.
        if self.cursors.contains(&cursor) || self.cursors.len() + 1 >= MAX_PAGES {
            return Err(Failure::Malformed("the list of tools has no end"));
        }
        Ok(Some(cursor))
    }
}

fn page(peer: &Peer, cursor: Option<&str>, out: &mut Outbox) -> Exchange {
    let params = cursor.map(|cursor| format!(r#""cursor":{}"#, rpc::quote(cursor)));
    let params = params.unwrap_or_default();
    Exchange::request(peer.clone(), "tools/list", &params, HeaderMap::new(), out)
}

/// Reads a result; gives the cursor of the next page, where there is one.
fn read_page(
    text: &Bytes,
    mirrored: bool,
    listed: &mut Listed,
) -> Result<Option<String>, json::Error> {
    let (mut cursor, mut tools) = (None, None);
    let mut scan = Scanner::new(text)?;
    scan.object()?;
    while let Some(key) = scan.key()? {
        match &*key.decode() {
            "nextCursor" => cursor = scan.string_or_skip()?,
            "tools" => {
                tools = Some(scan.clone());
                scan.skip()?;
            }
            _ => {
                scan.skip()?;
            }
        }
    }
    scan.end()?;
    // A list without the member is none.
    let mut tools = tools.unwrap_or(Scanner::new(b"null")?);
    tools.array()?;
    // One beyond the limit is enough to see that there are too many.
    while listed.len() <= MAX_TOOLS && tools.element()? {
        match read_tool(&mut tools, text, mirrored)? {
            Ok(tool) => listed.tools.push(Arc::new(tool)),
            Err(refused) => listed.refused.push(refused),
        }
    }
    let cursor = cursor.map(|cursor| cursor.decode().into_owned());
    Ok(cursor.filter(|cursor| !cursor.is_empty()))
}

fn read_tool(
    scan: &mut Scanner<'_>,
    text: &[u8],
    mirrored: bool,
) -> Result<Result<Tool, Refused>, json::Error> {
    let refused = |tool: &str, why| {
        let tool = tool.to_owned();
        Ok(Err(Refused { tool, why }))
    };
    let (mut name, mut description, mut schema) = (None, None, ANY_OBJECT);
    let mut is_object = true;
    if !scan.object_or_skip()? {
        return refused("", "it is not an object");
    }
    while let Some(key) = scan.key()? {
        match &*key.decode() {
            "name" => name = scan.string_or_skip()?,
            "description" => description = scan.string_or_skip()?,
            "inputSchema" => {
                is_object = scan.kind()? == Kind::Object;
                schema = &text[scan.skip()?];
            }
            _ => {
                scan.skip()?;
            }
        }
    }
    let name = name.map(|name| name.decode()).unwrap_or_default();
    if name.is_empty() {
        return refused("", "it has no name");
    }
    if !is_object {
        return refused(&name, "its inputSchema is not an object");
    }
    let mirrors = if mirrored {
        mirror::find(schema)
    } else {
        Ok(Vec::new())
    };
    Ok(match mirrors {
        Ok(mirrors) => {
            let description = description.map(|d| d.decode()).unwrap_or_default();
            let schema = Bytes::copy_from_slice(schema);
            let tool = Tool::new(&name, &description, schema);
            Ok(Tool { mirrors, ..tool })
        }
        Err(why) => Err(Refused {
            tool: name.into_owned(),
            why,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defect_21_schemas_are_kept_to_the_byte() {
        let schema = r##"{ "type":"object", "$defs":{"x":{"type":"string"}},"properties":{"a":{"$ref":"#/$defs/x"}},
            "additionalProperties" : false, "oneOf":[ ] }"##;
        let page = format!(
            r#"{{"tools":[{{"name":"a\u0062","inputSchema":{schema},"description":"does\nit","x":1}}]}}"#
        );
        let mut listed = Listed::default();
        assert_eq!(read_page(&page.into(), true, &mut listed), Ok(None));
        assert_eq!(&*listed.tools[0].name, "ab");
        assert_eq!(&*listed.tools[0].description, "does\nit");
        assert_eq!(listed.tools[0].schema, schema);
    }

    #[test]
    fn tools_that_cannot_be_offered_are_named() {
        let page = br#"{"tools":[1,{"x":1},{"name":"s","inputSchema":true},{"name":"bare"},
            {"name":"m","inputSchema":{"x-mcp-header":"A"}}],"nextCursor":""}"#;
        let mut listed = Listed::default();
        assert_eq!(
            read_page(&Bytes::from_static(page), true, &mut listed),
            Ok(None)
        );
        assert_eq!(listed.tools.len(), 1);
        assert_eq!(listed.tools[0].schema, ANY_OBJECT);
        let refused: Vec<_> = listed.refused.iter().map(|r| &*r.tool).collect();
        assert_eq!(refused, ["", "", "s", "m"]);
    }

    #[test]
    fn a_page_without_tools_is_malformed() {
        for page in [&b"{}"[..], b"[]", b"null", br#"{"tools":{}}"#] {
            let page = Bytes::from_static(page);
            assert!(
                read_page(&page, false, &mut Listed::default()).is_err(),
                "{page:?}"
            );
        }
    }
}
