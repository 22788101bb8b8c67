//! Conversations as data: a request, the provider's reply in both forms, and what is expected of
//! them.
//!
//! A fixture is an [`Archive`] under `fixtures/{messages,chat,responses}/`, with these sections:
//!
//! | section | holds |
//! |---|---|
//! | `request` | the client's body, `stream` left out |
//! | `head` | optional: status code and reason in the first line, header fields in the others; else `200` |
//! | `streaming` | the body of the streamed reply, where there is one |
//! | `blocking` | the body of the blocking reply, where there is one; without `streaming`, of both |
//! | `expect` | facts, a `name: value` a line; `streaming.` or `blocking.` before a name limits it to that form |
//!
//! Facts: `status`; `outcome` and `error` of the record; `prompt` (`\n` is a newline); `id`, `stop`
//! of the reply; `input`, `output`, `cache_read`, `cache_write` tokens; `tool` (id, name and
//! arguments) and `thought` (its source), once for each; `usage_wanted: yes` where the client asked
//! for chat's usage chunk itself; `newlines: crlf` where the stream's lines end so on the wire.

use std::{fs, path::Path};

use aibridge_core::api::Api;
use bytes::Bytes;

use crate::{APIS, Ask, Reply, txtar::Archive};

/// A conversation. See the [module](self).
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Folder and file name without its ending.
    pub name: String,
    /// Which API it speaks.
    pub api: Api,
    archive: Archive,
}

impl Fixture {
    /// All fixtures in `fixtures/`, by API and name.
    ///
    /// # Panics
    /// They cannot be read.
    pub fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        let mut all = Vec::new();
        for api in APIS {
            let folder = folder(api);
            let files = fs::read_dir(root.join(folder)).expect("fixtures are there");
            let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
            paths.sort();
            for path in paths {
                let text = fs::read_to_string(&path).expect("a fixture is text");
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                all.push(Self::parse(&format!("{folder}/{stem}"), api, &text));
            }
        }
        all
    }

    /// A fixture from its text.
    pub fn parse(name: &str, api: Api, text: &str) -> Self {
        let Ok(archive) = text.parse();
        Self {
            name: name.to_owned(),
            api,
            archive,
        }
    }

    /// The fixture of this name, such as `chat/simple`.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        let mut all = Self::all();
        all.retain(|fixture| fixture.name == name);
        all.pop().unwrap_or_else(|| panic!("no fixture {name}"))
    }

    /// The simple conversation of this API.
    pub fn simple(api: Api) -> Self {
        Self::named(&format!("{}/simple", folder(api)))
    }

    /// The forms it has: blocking (`false`), streaming (`true`).
    pub fn forms(&self) -> Vec<bool> {
        let has = |streaming: &bool| {
            let own = self
                .archive
                .get(if *streaming { "streaming" } else { "blocking" });
            own.is_some() || self.archive.get("head").is_some()
        };
        [false, true].into_iter().filter(has).collect()
    }

    /// The client's request.
    pub fn ask(&self, streaming: bool) -> Ask {
        let body = self.archive.get("request").unwrap_or_default();
        Ask::with_body(self.api, streaming, body.trim_end())
    }

    /// The body of the provider's reply, as on the wire.
    ///
    /// # Panics
    /// There is none in this form.
    pub fn body(&self, streaming: bool) -> Bytes {
        let stream = self.archive.get("streaming").filter(|_| streaming);
        if let Some(text) = stream {
            let crlf = self
                .fact("newlines", true)
                .is_some_and(|kind| kind == "crlf");
            return if crlf {
                text.replace('\n', "\r\n").into()
            } else {
                text.to_owned().into()
            };
        }
        let body = self.archive.get("blocking").expect("a reply in this form");
        body.trim_end().to_owned().into()
    }

    /// What the client is to get of that body: all of it, but for chat's usage chunk where it had
    /// not asked.
    pub fn relayed(&self, streaming: bool) -> Bytes {
        let body = self.body(streaming);
        let is_chat_stream = self.api == Api::ChatCompletions && streaming;
        if !is_chat_stream || self.fact("usage_wanted", true).is_some() {
            return body;
        }
        let is_usage = |event: &Bytes| {
            let text = String::from_utf8_lossy(event).replace(' ', "");
            text.contains(r#""choices":[],"usage":{"#)
        };
        let mut events = crate::reply::split_events(&body);
        events.retain(|event| !is_usage(event));
        events.concat().into()
    }

    /// The provider's reply.
    ///
    /// # Panics
    /// There is none in this form, or its head is malformed.
    pub fn reply(&self, streaming: bool) -> Reply {
        let is_stream = streaming && self.archive.get("streaming").is_some();
        let body = self.body(streaming);
        let mut reply = if is_stream {
            Reply::sse(&body)
        } else {
            Reply::json(200, body)
        };
        let mut head = self.archive.get("head").unwrap_or("200").lines();
        let code = head.next().and_then(|line| line.get(..3)?.parse().ok());
        reply = reply.with_status(code.expect("a status code"));
        for line in head {
            let (name, value) = line.split_once(": ").expect("a header field");
            reply = reply.header(name, value);
        }
        reply
    }

    /// A fact; the first of that name.
    pub fn fact(&self, name: &str, streaming: bool) -> Option<&str> {
        self.facts(name, streaming).first().copied()
    }

    /// All facts of that name, in order.
    pub fn facts(&self, name: &str, streaming: bool) -> Vec<&str> {
        let form = if streaming { "streaming." } else { "blocking." };
        let lines = self.archive.get("expect").unwrap_or_default().lines();
        lines
            .filter_map(|line| line.split_once(": "))
            .filter(|(known, _)| known.strip_prefix(form).unwrap_or(known) == name)
            .map(|(_, value)| value)
            .collect()
    }

    /// A fact that is a number.
    pub fn number(&self, name: &str, streaming: bool) -> Option<u64> {
        self.fact(name, streaming)?.parse().ok()
    }

    /// The archive as it was read.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }
}

/// Where the fixtures of an API are.
const fn folder(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions => "chat",
        Api::Messages => "messages",
        Api::Responses => "responses",
    }
}
