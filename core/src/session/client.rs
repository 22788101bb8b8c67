//! The client's end: what has been read and not understood, what has been written and not taken,
//! and how long either may stay so.

use bytes::Bytes;

use super::{Action, Outbox};
use crate::{
    config::{Config, Timeouts},
    frame::Frame,
    http1::{Limits, server::Decoder},
    id::ConnId,
    time::{Duration, Instant, after, earliest},
};

/// Pipelined bytes above which the client is not read until its earlier requests are answered,
/// unless a head may be larger.
const HOLD: usize = 64 << 10;
/// How long a client may take over its request where there are too many already.
const HURRY: Duration = Duration::from_secs(5);
/// How long a client that owes us nothing may take to end its side after we ended ours.
const LINGER: Duration = Duration::from_secs(1);
/// How long one may be silent that is still sending what nobody reads any more: to close then could
/// destroy the reply that tells it why (RFC 9112 §9.6). nginx's `lingering_timeout`.
const LINGER_SILENT: Duration = Duration::from_secs(5);
/// How long it may go on so, in all. nginx's `lingering_time`.
const LINGER_LONGEST: Duration = Duration::from_secs(30);
/// How much it may send so, in bytes: eight times the largest body that is taken by default.
const LINGER_MOST: u64 = 256 << 20;

/// The client's end of a session.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) decoder: Decoder,
    /// Bytes given to the adapter and not yet written.
    pub(super) unsent: usize,
    /// How many of them, from the first, belong to replies that are finished: the client gets these
    /// though it has ended its side.
    owed: usize,
    /// Bytes above which the client is not read. No less than what is collected before it is
    /// understood: waiting for more of a head that is not read would be waiting for ever.
    hold: usize,
    /// The client has ended its side.
    pub(super) ended: bool,
    /// A head has begun to come.
    pub(super) in_head: bool,
    /// The bridge is shutting down.
    pub(super) draining: bool,
    timeouts: Timeouts,
    /// When the client must have sent what is waited for.
    due: Option<Instant>,
    /// When the client must have taken some of what was sent.
    stalled: Option<Instant>,
    /// When the client must have ended its side, whatever it sends.
    lingers: Option<Instant>,
    /// How much it may still send that is not read any more, in bytes.
    ignored: u64,
}

impl Client {
    pub(super) fn new(now: Instant, config: &Config) -> Self {
        // The limit on bodies is the session's own: it knows by then in which API's shape to
        // refuse.
        let limits = Limits {
            body: u64::MAX,
            ..config.limits.clone()
        };
        let hold = HOLD.max(limits.head).max(limits.trailers);
        let mut client = Self {
            decoder: Decoder::new(limits),
            unsent: 0,
            owed: 0,
            hold,
            ended: false,
            in_head: false,
            draining: false,
            timeouts: config.timeouts,
            due: None,
            stalled: None,
            lingers: None,
            ignored: LINGER_MOST,
        };
        client.awaits(now, Await::Request);
        client
    }

    /// Little time for the first request: the connection is one too many.
    pub(super) fn hurry(&mut self, now: Instant) {
        let timeouts = &mut self.timeouts;
        for timeout in [&mut timeouts.client_idle, &mut timeouts.client_header] {
            *timeout = HURRY;
        }
        self.awaits(now, Await::Request);
    }

    /// Another configuration is in force.
    pub(super) fn adopt(&mut self, config: &Config) {
        self.timeouts = config.timeouts;
    }

    /// Writes to the client.
    pub(super) fn send(&mut self, now: Instant, frame: Frame, out: &mut Outbox) {
        let len = bytes::Buf::remaining(&frame);
        if len == 0 {
            return;
        }
        if self.unsent == 0 {
            self.stalled = after(now, self.timeouts.client_body);
        }
        self.unsent += len;
        out.actions.push_back(Action::Send(ConnId::CLIENT, frame));
    }

    /// The client has taken some bytes.
    pub(super) fn took(&mut self, now: Instant, count: usize) {
        self.unsent = self.unsent.saturating_sub(count);
        self.owed = self.owed.saturating_sub(count);
        self.stalled = if self.unsent > 0 {
            after(now, self.timeouts.client_body)
        } else {
            None
        };
    }

    /// A reply is finished: all of what has been sent is to arrive.
    pub(super) fn owe(&mut self) {
        self.owed = self.unsent;
    }

    /// Whether some of a finished reply is still to be written.
    pub(super) fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// Bytes came.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.decoder.push(bytes);
    }

    /// The client has taken too long over a request. Whatever it still sends, it has a moment to
    /// read that, and no more: to be slow is how connections are held that are meant for others.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.lingers = Some(now + LINGER);
    }

    /// All is written: the client is waited for to end its side.
    pub(super) fn linger(&mut self, now: Instant) {
        let owes = !self.ended && self.decoder.is_within_message();
        let silent = if owes { LINGER_SILENT } else { LINGER };
        let last = *self.lingers.get_or_insert(now + LINGER_LONGEST);
        self.due = Some(last.min(now + silent));
    }

    /// The client has sent something that is not read any more. Whether it may go on.
    pub(super) fn ignore(&mut self, now: Instant, count: usize) -> bool {
        if let Some(last) = self.lingers {
            self.due = Some(last.min(now + LINGER_SILENT));
        }
        let left = self.ignored.checked_sub(count as u64);
        self.ignored = left.unwrap_or(0);
        left.is_some()
    }

    /// Sets the clock for what is waited for.
    pub(super) fn awaits(&mut self, now: Instant, what: Await) {
        let timeout = match what {
            Await::Body => self.timeouts.client_body,
            Await::Head => self.timeouts.client_header,
            Await::Nothing => Duration::ZERO,
            Await::Request => self.timeouts.client_idle,
        };
        self.due = after(now, timeout);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.stalled.is_some_and(|at| at <= now)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.due, self.stalled)
    }

    pub(super) fn may_hold_more(&self) -> bool {
        self.decoder.buffered() < self.hold
    }
}

/// What a client is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Await {
    /// More of a request's body.
    Body,
    /// The rest of a request's head.
    Head,
    /// Nothing: it waits for us.
    Nothing,
    /// The next request's first byte.
    Request,
}
