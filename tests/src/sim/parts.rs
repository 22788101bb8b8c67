//! What a simulated world consists of: clients with their sessions, connections to upstreams, and
//! what travels on them.

use std::collections::VecDeque;

use aibridge_core::{Duration, Fault, Instant, trace::Watched};
use bytes::{Bytes, BytesMut};

use crate::Peer;

/// A client and the session that serves it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Client {
    /// `None` once it is over.
    pub(super) session: Option<Watched>,
    /// When the session wants to be told the time.
    pub(super) due: Option<Instant>,
    /// On its way to the session.
    pub(super) inbox: VecDeque<Wire>,
    /// `Sent` to be told.
    pub(super) credit: usize,
    /// Written by the session and not taken by the client.
    pub(super) unsent: BytesMut,
    pub(super) reads: bool,
    pub(super) got: BytesMut,
    /// The bridge has ended its side, or dropped the connection.
    pub(super) closed: bool,
    /// It has reset the connection.
    pub(super) reset: bool,
    /// The client ends its side once the bridge has ended its own.
    pub(super) polite: bool,
    /// The client has ended its side or reset the connection.
    pub(super) left: bool,
    /// An interception's last record was emitted, and nothing has been sent since.
    pub(super) owes_bytes: bool,
}

impl Client {
    pub(super) fn of(session: Watched) -> Self {
        Self {
            due: session.poll_timeout(),
            session: Some(session),
            inbox: VecDeque::new(),
            credit: 0,
            unsent: BytesMut::new(),
            reads: true,
            got: BytesMut::new(),
            closed: false,
            reset: false,
            polite: true,
            left: false,
            owes_bytes: false,
        }
    }

    /// Whether there can be something to do.
    pub(super) fn may_step(&self) -> bool {
        self.credit > 0 || !self.inbox.is_empty()
    }
}

/// A connection to the upstream.
#[derive(Debug)]
pub(super) struct Conn {
    /// The client whose session has it; `None` while it is on the shelf.
    pub(super) owner: Option<usize>,
    /// The upstream's end, once the connection is up.
    pub(super) peer: Option<Peer>,
    /// The same, while the connection is coming up.
    pub(super) coming: Option<Peer>,
    /// Which of the watched providers the upstream is.
    pub(super) server: Option<usize>,
    /// A request came over it.
    pub(super) is_used: bool,
    /// On its way to the session.
    pub(super) inbox: VecDeque<Wire>,
    /// Sent, and not read by the upstream.
    pub(super) unread: BytesMut,
    /// How many bytes the upstream reads at a time, and how long it pauses then; `None`: all at
    /// once.
    pub(super) sips: Option<(usize, Duration)>,
    /// The upstream reads nothing until then.
    pub(super) reads_at: Option<Instant>,
    /// `Sent` to be told.
    pub(super) credit: usize,
    /// The upstream does nothing until then.
    pub(super) wakes: Option<Instant>,
    /// How many confirmations the upstream waits for.
    pub(super) confirms: u64,
    /// Neither side sends any more.
    pub(super) dead: bool,
    /// There are bytes for the session that it did not want when it was last asked.
    pub(super) is_held: bool,
}

/// What travels towards a session.
#[derive(Debug)]
pub(super) enum Wire {
    Bytes(Bytes),
    End,
    Failed(Fault),
    Opened,
}

impl Conn {
    /// Whether there can be something to do.
    pub(super) fn may_step(&self, now: Instant) -> bool {
        let is_awake = self.wakes.is_none_or(|at| at <= now);
        let has_step =
            self.coming.is_some() || self.peer.as_ref().is_some_and(|peer| peer.peek().is_some());
        let reads = self.next_read().is_some_and(|at| at <= now);
        self.credit > 0 || !self.inbox.is_empty() || reads || (is_awake && has_step)
    }

    /// When the upstream reads on, if there is something to read.
    pub(super) fn next_read(&self) -> Option<Instant> {
        let has_bytes = self.peer.is_some() && !self.unread.is_empty();
        has_bytes.then(|| self.reads_at.unwrap_or(Instant::EPOCH))
    }

    pub(super) fn new(owner: usize) -> Self {
        Self {
            owner: Some(owner),
            peer: None,
            coming: None,
            server: None,
            is_used: false,
            inbox: VecDeque::new(),
            unread: BytesMut::new(),
            sips: None,
            reads_at: None,
            credit: 0,
            wakes: None,
            confirms: 0,
            dead: false,
            is_held: false,
        }
    }

    /// A connection that is asked for and was closed long ago.
    pub(super) fn gone() -> Self {
        Self {
            dead: true,
            ..Self::new(0)
        }
    }
}
