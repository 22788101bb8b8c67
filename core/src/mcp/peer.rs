//! The requests themselves: methods and header fields.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};

use super::{
    outbox::{Outbox, Request},
    rpc,
    server::Server,
    terms::{Terms, Version},
};
use crate::time::Instant;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("aibridge/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Both, always: servers refuse a request whose reply could not be a stream with 406.
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// Longest id of a server's request that is answered, in bytes: the answer repeats it.
const MAX_ID: usize = 256;

/// A server and the terms it is spoken to on; none yet while they are being agreed on.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) server: Arc<Server>,
    pub(super) terms: Option<Terms>,
    /// Whether the session has only just begun.
    is_new: bool,
}

impl Peer {
    pub(super) fn new(server: &Arc<Server>, terms: Option<Terms>) -> Self {
        Self {
            server: Arc::clone(server),
            terms,
            is_new: false,
        }
    }

    /// The same, where `is_new` in a session that has only just begun: a server that refuses a
    /// request in it has not forgotten it.
    pub(super) fn in_new_session(self, is_new: bool) -> Self {
        Self { is_new, ..self }
    }

    pub(super) fn version(&self) -> Version {
        self.terms.as_ref().map_or(Version::OFFERED, |t| t.version)
    }

    pub(super) fn has_session(&self) -> bool {
        self.terms.as_ref().is_some_and(|t| t.session.is_some())
    }

    /// Whether a request that is refused as a bad one may have been refused for its session.
    pub(super) fn may_be_forgotten(&self) -> bool {
        self.has_session() && !self.is_new
    }

    /// A message of ours. `method` is the message's, `more` are fields that only this message has.
    pub(super) fn post(&self, method: &str, more: HeaderMap, body: Bytes) -> Request {
        let mut headers = self.headers(BOTH);
        headers.insert(CONTENT_TYPE, JSON);
        if self.version().is_stateless() {
            if let Ok(method) = HeaderValue::from_str(method) {
                headers.insert(MCP_METHOD, method);
            }
            headers.extend(more);
        }
        self.request(Method::POST, headers, body)
    }

    /// The stream that a server may send what nobody asked for on, or one that broke, from the
    /// event after this one.
    pub(super) fn get(&self, after: Option<&[u8]>) -> Request {
        let mut headers = self.headers(EVENTS);
        if let Some(Ok(id)) = after.map(HeaderValue::from_bytes) {
            headers.insert(LAST_EVENT_ID, id);
        }
        self.request(Method::GET, headers, Bytes::new())
    }

    /// Ends the session, where there is one.
    pub(super) fn delete(&self, now: Instant, out: &mut Outbox) {
        if self.has_session() {
            let request = self.request(Method::DELETE, self.headers(BOTH), Bytes::new());
            out.errand(now, request);
        }
    }

    /// Answers a server's request. Revisions without a session have none, and forbid to answer.
    pub(super) fn answer(&self, now: Instant, id: &[u8], method: &str, out: &mut Outbox) {
        if !self.version().is_stateless() && id.len() <= MAX_ID {
            let request = self.post("", HeaderMap::new(), rpc::answer(id, method));
            out.errand(now, request);
        }
    }

    fn headers(&self, accept: HeaderValue) -> HeaderMap {
        let mut headers = self.server.headers.clone();
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.insert(ACCEPT, accept);
        if let Some(terms) = &self.terms {
            let version = HeaderValue::from_static(terms.version.as_str());
            headers.insert(PROTOCOL_VERSION, version);
            if let Some(session) = &terms.session {
                headers.insert(SESSION_ID, session.clone());
            }
        }
        headers
    }

    fn request(&self, method: Method, headers: HeaderMap, body: Bytes) -> Request {
        Request {
            server: Arc::clone(&self.server),
            method,
            headers,
            body,
        }
    }
}
