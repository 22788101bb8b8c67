//! One message of ours, and all that it takes to have it answered.
//!
//! ```text
//!  Sent ──head──▶ Reading ──▶ the answer
//!    │              │   ▲
//!    │  stream ends │   │ head of the GET
//!    │              ▼   │
//!    │   Waiting ──retry──▶ Resuming ──refused──▶ a failure
//!    ├──202──▶ Accepted ──▶ the answer to a notification
//!    └──any other status──▶ Refused, its body read for words ──▶ a failure
//! ```
//!
//! A stream that ends without the answer is resumed from its last event where the server gave its
//! events ids (2025-11-25, transports, "Resumability and Redelivery"), as long as each attempt
//! brings something new.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::{
    failure::Failure,
    inbox::{Inbox, MAX_MESSAGE, Position},
    outbox::{ExchangeId, Input, Outbox},
    peer::{Peer, SESSION_ID},
    rpc::{self, Id, Message},
};
use crate::{
    fault::Fault,
    time::{Duration, Instant},
};

/// The wait before a stream is resumed where the server names none.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row a stream is resumed without anything new coming.
const MAX_STALLS: u32 = 5;

/// How much of a refusal's body is read.
const MAX_REFUSAL: usize = 64 << 10;

/// What servers say of methods and parameters that they do not know. With a 400 they are no sign of
/// a lost session: a new one would not make the request any better.
const PLAIN_ERRORS: [i64; 2] = [rpc::METHOD_NOT_FOUND, rpc::INVALID_PARAMS];

/// An answer: the result's text, empty for a notification.
pub(super) type Answer = Result<Bytes, Failure>;

/// A message of ours under way.
#[derive(Debug)]
pub(super) struct Exchange {
    peer: Peer,
    /// What the answer must carry; none for a notification.
    id: Option<u64>,
    on: ExchangeId,
    stage: Stage,
    position: Position,
    stalls: u32,
    session: Option<HeaderValue>,
    /// An error's `data`.
    data: Option<Bytes>,
    list_changed: bool,
}

#[derive(Debug)]
enum Stage {
    Accepted,
    Over,
    Reading(Inbox),
    Refused(StatusCode, Vec<u8>),
    Resuming,
    Sent,
    Waiting(Instant),
}

impl Exchange {
    /// Sends a request. `params` are the members of its parameters without the braces; `more` are
    /// fields that only this one has.
    pub(super) fn request(
        peer: Peer,
        method: &str,
        params: &str,
        more: HeaderMap,
        out: &mut Outbox,
    ) -> Self {
        let id = out.rpc_id();
        let body = rpc::request(id, method, params, peer.version());
        let on = out.request(peer.post(method, more, body));
        Self::new(peer, Some(id), on)
    }

    /// Sends a notification whose acceptance is waited for.
    pub(super) fn notification(peer: Peer, method: &str, out: &mut Outbox) -> Self {
        let body = rpc::notification(method, "");
        let on = out.request(peer.post(method, HeaderMap::new(), body));
        Self::new(peer, None, on)
    }

    fn new(peer: Peer, id: Option<u64>, on: ExchangeId) -> Self {
        Self {
            peer,
            id,
            on,
            stage: Stage::Sent,
            position: Position::default(),
            stalls: 0,
            session: None,
            data: None,
            list_changed: false,
        }
    }

    /// Something happened to an exchange; not to this one, perhaps.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: ExchangeId,
        input: Input,
        out: &mut Outbox,
    ) -> Option<Answer> {
        if on != self.on {
            return None;
        }
        let answer = self.step(now, input, out)?;
        Some(answer.map_err(|failure| failure.masked(&self.peer.server)))
    }

    fn step(&mut self, now: Instant, input: Input, out: &mut Outbox) -> Option<Answer> {
        match (std::mem::replace(&mut self.stage, Stage::Over), input) {
            (Stage::Over | Stage::Waiting(_), _) => None,
            (Stage::Sent, Input::Head(status, headers)) => self.head(status, &headers, out),
            (Stage::Resuming, Input::Head(status, headers)) => {
                self.resumed(now, status, &headers, out)
            }
            (Stage::Reading(inbox), Input::Body(bytes)) => self.read(now, inbox, Some(bytes), out),
            (Stage::Reading(inbox), Input::End) => self.read(now, inbox, None, out),
            (Stage::Reading(inbox), Input::Failed(fault)) => {
                self.broken(now, inbox.position(), fault)
            }
            (Stage::Resuming, Input::Failed(fault)) => {
                let position = self.position.clone();
                self.broken(now, position, fault)
            }
            (Stage::Refused(status, mut body), Input::Body(bytes)) => {
                let room = MAX_REFUSAL.saturating_sub(body.len());
                body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                self.stage = Stage::Refused(status, body);
                None
            }
            (Stage::Refused(status, body), Input::End | Input::Failed(_)) => {
                Some(Err(self.refusal(status, body)))
            }
            (Stage::Accepted, Input::End | Input::Failed(_)) => Some(Ok(Bytes::new())),
            (_, Input::Failed(fault)) => Some(Err(Failure::Fault(fault))),
            // A second head, or a body before the first: no HTTP client tells such a thing.
            (stage, Input::Body(_) | Input::End | Input::Head(..)) => {
                self.stage = stage;
                None
            }
        }
    }

    pub(super) fn is_on(&self, on: ExchangeId) -> bool {
        self.on == on && !matches!(self.stage, Stage::Over | Stage::Waiting(_))
    }

    /// Resumes a stream whose wait is over.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.deadline().is_some_and(|at| at <= now) {
            let last_id = self.position.last_id.as_deref();
            self.on = out.request(self.peer.get(last_id));
            self.stage = Stage::Resuming;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(at) => Some(at),
            Stage::Accepted
            | Stage::Over
            | Stage::Reading(_)
            | Stage::Refused(..)
            | Stage::Resuming
            | Stage::Sent => None,
        }
    }

    /// Gives up, without a word to the server.
    pub(super) fn abort(&mut self, out: &mut Outbox) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        if !matches!(stage, Stage::Over | Stage::Waiting(_)) {
            out.abort(self.on);
        }
    }

    /// Gives up, and tells the server so. Where requests stand for themselves, the broken
    /// connection tells it.
    pub(super) fn cancel(&mut self, now: Instant, reason: &str, out: &mut Outbox) {
        if let Some(id) = self.id
            && !matches!(self.stage, Stage::Over)
            && !self.peer.version().is_stateless()
        {
            let method = "notifications/cancelled";
            let params = format!(r#""requestId":{id},"reason":{}"#, rpc::quote(reason));
            let body = rpc::notification(method, &params);
            out.errand(now, self.peer.post(method, HeaderMap::new(), body));
        }
        self.abort(out);
    }

    /// How many bytes of a reply it holds.
    pub(super) fn buffered(&self) -> usize {
        match &self.stage {
            Stage::Reading(inbox) => inbox.buffered(),
            Stage::Refused(_, body) => body.len(),
            Stage::Accepted | Stage::Over | Stage::Resuming | Stage::Sent | Stage::Waiting(_) => {
                self.position.last_id.as_ref().map_or(0, Bytes::len)
            }
        }
    }

    /// The session that the reply's head named.
    pub(super) fn session(&mut self) -> Option<HeaderValue> {
        self.session.take()
    }

    /// The `data` of the error that the answer was.
    pub(super) fn error_data(&self) -> Option<&Bytes> {
        self.data.as_ref()
    }

    /// Whether the server said, since last asked, that its tools are others now.
    pub(super) fn list_changed(&mut self) -> bool {
        std::mem::take(&mut self.list_changed)
    }

    fn head(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        out: &mut Outbox,
    ) -> Option<Answer> {
        if !status.is_success() {
            self.stage = Stage::Refused(status, Vec::new());
            return None;
        }
        if self.id.is_none() {
            self.stage = Stage::Accepted;
            return None;
        }
        self.session = headers.get(SESSION_ID).cloned();
        let inbox = match media_type(headers) {
            Media::Events => Inbox::events(MAX_MESSAGE, None),
            Media::Json => Inbox::json(MAX_MESSAGE),
            Media::Other => {
                out.abort(self.on);
                return Some(Err(Failure::Malformed("neither JSON nor events")));
            }
        };
        self.stage = Stage::Reading(inbox);
        None
    }

    fn resumed(
        &mut self,
        now: Instant,
        status: StatusCode,
        headers: &HeaderMap,
        out: &mut Outbox,
    ) -> Option<Answer> {
        if status == StatusCode::OK && media_type(headers) == Media::Events {
            let position = std::mem::take(&mut self.position);
            self.stage = Stage::Reading(Inbox::events(MAX_MESSAGE, Some(position)));
            return None;
        }
        out.abort(self.on);
        if status.is_server_error() {
            let position = self.position.clone();
            return self.broken(now, position, Fault::Closed);
        }
        // Whether the request was carried out is not known; so it is not sent again, even if the
        // session is lost.
        Some(Err(Failure::Fault(Fault::Closed)))
    }

    fn read(
        &mut self,
        now: Instant,
        mut inbox: Inbox,
        bytes: Option<Bytes>,
        out: &mut Outbox,
    ) -> Option<Answer> {
        let is_end = bytes.is_none();
        let mut messages = Vec::new();
        let read = match bytes {
            Some(bytes) => inbox.push(bytes, &mut messages),
            None => inbox.end(&mut messages),
        };
        for message in messages {
            let answer = self.take(now, message, out);
            if answer.is_some() {
                if !is_end {
                    out.linger(now, self.on);
                }
                return answer;
            }
        }
        if let Err(failure) = read {
            if !is_end {
                out.abort(self.on);
            }
            return Some(Err(failure));
        }
        if is_end {
            return self.broken(now, inbox.position(), Fault::Closed);
        }
        self.stage = Stage::Reading(inbox);
        None
    }

    fn take(&mut self, now: Instant, message: Message, out: &mut Outbox) -> Option<Answer> {
        match message {
            Message::Notification { method } => {
                self.list_changed |= method == super::listen::LIST_CHANGED;
                None
            }
            Message::Request { id, method } => {
                self.peer.answer(now, &id, &method, out);
                None
            }
            Message::Response { id, result, data } => {
                let is_ours = match id {
                    Id::Number(number) => self.id == Some(number),
                    // Who could not read our id says so with an error; a result knows it.
                    Id::Unknown => result.is_err(),
                };
                self.data = data;
                Some(if is_ours {
                    result
                } else {
                    Err(Failure::Malformed("wrong id"))
                })
            }
        }
    }

    /// The reply ended, or failed, without the answer.
    fn broken(&mut self, now: Instant, position: Position, fault: Fault) -> Option<Answer> {
        self.stalls = if position.moved { 0 } else { self.stalls + 1 };
        let resumable = position.last_id.is_some() && !self.peer.version().is_stateless();
        if !resumable || self.stalls > MAX_STALLS {
            return Some(Err(Failure::Fault(fault)));
        }
        self.stage = Stage::Waiting(now + position.retry.unwrap_or(RETRY));
        self.position = Position {
            moved: false,
            ..position
        };
        None
    }

    /// What a reply that is no success means.
    fn refusal(&mut self, status: StatusCode, body: Vec<u8>) -> Failure {
        let mut messages = Vec::new();
        let error = match rpc::read(&body.into(), &mut messages) {
            Ok(()) => messages.into_iter().find_map(|message| match message {
                Message::Response {
                    result: Err(Failure::Error(code, words)),
                    data,
                    ..
                } => Some((code, words, data)),
                Message::Notification { .. }
                | Message::Request { .. }
                | Message::Response { .. } => None,
            }),
            Err(_) => None,
        };
        let is_plain = |(code, ..): &(i64, String, _)| PLAIN_ERRORS.contains(code);
        // A 404 means nothing else where there is a session, whatever the body says ("Session
        // Management"). Others say it with a 400, which may also mean what it says, and does in a
        // session that has only just begun.
        let is_lost = match status {
            StatusCode::NOT_FOUND => self.peer.has_session(),
            StatusCode::BAD_REQUEST => {
                self.peer.may_be_forgotten() && !error.as_ref().is_some_and(is_plain)
            }
            _ => false,
        };
        if is_lost {
            return Failure::SessionLost;
        }
        let Some((code, words, data)) = error else {
            return Failure::status(status, "");
        };
        self.data = data;
        // The code says more than the status, but where the server does not let us in.
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::status(status, &words),
            _ => Failure::error(code, &words),
        }
    }
}

/// What a reply's body is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Events,
    Json,
    Other,
}

pub(super) fn media_type(headers: &HeaderMap) -> Media {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next();
    match essence.unwrap_or_default().trim() {
        it if it.eq_ignore_ascii_case("text/event-stream") => Media::Events,
        it if it.eq_ignore_ascii_case("application/json") => Media::Json,
        _ => Media::Other,
    }
}
