//! Hearing of changes: the stream on which a server says what nobody asked for.
//!
//! Up to 2025-11-25 it is the reply to a GET; in 2026-07-28 it is the reply to a
//! `subscriptions/listen` that never ends. Both are opened again whenever they break, from the last
//! event where that can be; a server that refuses is left in peace.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    exchange::{Media, media_type},
    inbox::{Inbox, MAX_MESSAGE, Position},
    outbox::{ExchangeId, Input, Outbox},
    peer::Peer,
    rpc::{self, Message},
};
use crate::time::{Duration, Instant};

pub(super) const LIST_CHANGED: &str = "notifications/tools/list_changed";

/// The wait before a broken stream is opened again, doubled with each one that brought nothing.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// What is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The connection failed: the server may be gone.
    Broken,
    /// The tools are others now, or may be: what was said while nobody listened is lost.
    Changed,
    /// The server does not know the session any more.
    SessionLost,
}

/// Listens, for as long as the terms hold.
#[derive(Debug)]
pub(super) struct Listener {
    peer: Peer,
    on: ExchangeId,
    stage: Stage,
    position: Position,
    /// Streams in a row that brought nothing.
    failures: u32,
    /// Whether one was open before.
    opened: bool,
}

#[derive(Debug)]
enum Stage {
    /// The server does not offer it.
    Off,
    Opening,
    Reading(Inbox),
    Waiting(Instant),
}

impl Listener {
    pub(super) fn new(peer: Peer, out: &mut Outbox) -> Self {
        Self {
            on: open(&peer, None, out),
            peer,
            stage: Stage::Opening,
            position: Position::default(),
            failures: 0,
            opened: false,
        }
    }

    pub(super) fn is_on(&self, on: ExchangeId) -> bool {
        self.on == on && matches!(self.stage, Stage::Opening | Stage::Reading(_))
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: ExchangeId,
        input: Input,
        out: &mut Outbox,
    ) -> Option<Heard> {
        if on != self.on {
            return None;
        }
        match (std::mem::replace(&mut self.stage, Stage::Off), input) {
            (Stage::Opening, Input::Head(status, headers)) => self.head(now, status, &headers, out),
            (Stage::Opening, Input::Failed(_)) => {
                self.wait(now);
                Some(Heard::Broken)
            }
            (Stage::Reading(inbox), Input::Body(bytes)) => self.read(now, inbox, Some(bytes), out),
            (Stage::Reading(inbox), Input::End) => self.read(now, inbox, None, out),
            (Stage::Reading(inbox), Input::Failed(_)) => {
                self.broken(now, inbox);
                Some(Heard::Broken)
            }
            (stage, _) => {
                self.stage = stage;
                None
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.on = open(&self.peer, self.position.last_id.as_ref(), out);
            self.stage = Stage::Opening;
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(at) => Some(at),
            Stage::Off | Stage::Opening | Stage::Reading(_) => None,
        }
    }

    pub(super) fn abort(&mut self, out: &mut Outbox) {
        let stage = std::mem::replace(&mut self.stage, Stage::Off);
        if matches!(stage, Stage::Opening | Stage::Reading(_)) {
            out.abort(self.on);
        }
    }

    fn head(
        &mut self,
        now: Instant,
        status: StatusCode,
        headers: &HeaderMap,
        out: &mut Outbox,
    ) -> Option<Heard> {
        let media = media_type(headers);
        if status.is_success() && media == Media::Events {
            let position = std::mem::take(&mut self.position);
            let is_gap = self.opened && position.last_id.is_none();
            self.opened = true;
            self.stage = Stage::Reading(Inbox::events(MAX_MESSAGE, Some(position)));
            return is_gap.then_some(Heard::Changed);
        }
        out.abort(self.on);
        if status.is_server_error() {
            self.wait(now);
            // Whoever has never opened a stream may just not offer it.
            return self.opened.then_some(Heard::Broken);
        }
        let may_be_lost = matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST);
        // Here too; a lost session shows in the next list.
        (may_be_lost && self.opened && self.peer.has_session()).then_some(Heard::SessionLost)
    }

    fn read(
        &mut self,
        now: Instant,
        mut inbox: Inbox,
        bytes: Option<Bytes>,
        out: &mut Outbox,
    ) -> Option<Heard> {
        let is_end = bytes.is_none();
        let mut messages = Vec::new();
        let read = match bytes {
            Some(bytes) => inbox.push(bytes, &mut messages),
            None => inbox.end(&mut messages),
        };
        let mut heard = None;
        let mut is_over = is_end || read.is_err();
        for message in messages {
            self.failures = 0;
            match message {
                Message::Notification { method } if method == LIST_CHANGED => {
                    heard = Some(Heard::Changed);
                }
                Message::Notification { .. } => {}
                Message::Request { id, method } => self.peer.answer(now, &id, &method, out),
                // The server ends the subscription, or does not offer it.
                Message::Response { result, .. } if result.is_err() => {
                    self.close(is_end, out);
                    return heard;
                }
                Message::Response { .. } => is_over = true,
            }
        }
        if !is_over {
            self.stage = Stage::Reading(inbox);
            return heard;
        }
        self.close(is_end, out);
        self.broken(now, inbox);
        heard
    }

    fn close(&mut self, is_end: bool, out: &mut Outbox) {
        if !is_end {
            out.abort(self.on);
        }
    }

    fn broken(&mut self, now: Instant, inbox: Inbox) {
        self.position = inbox.position();
        if self.position.moved {
            self.failures = 0;
        }
        self.wait(now);
    }

    fn wait(&mut self, now: Instant) {
        let backoff = RETRY * (1 << self.failures.min(6));
        let asked = self.position.retry.unwrap_or_default();
        self.failures += 1;
        self.stage = Stage::Waiting(now + backoff.clamp(asked, MAX_RETRY.max(asked)));
    }
}

fn open(peer: &Peer, after: Option<&Bytes>, out: &mut Outbox) -> ExchangeId {
    let version = peer.version();
    if !version.is_stateless() {
        return out.request(peer.get(after.map(|id| &**id)));
    }
    let method = "subscriptions/listen";
    let params = r#""notifications":{"toolsListChanged":true}"#;
    let body = rpc::request(out.rpc_id(), method, params, version);
    out.request(peer.post(method, HeaderMap::new(), body))
}
