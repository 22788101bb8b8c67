//! One client connection, at the level of bytes.

use bytes::Bytes;

use crate::{
    bridge::{Answer, Query},
    fault::Fault,
    frame::Frame,
    id::ConnId,
    record::Record,
    rng::Rng,
    target::Target,
    time::Instant,
};

/// What happens to a session's connections.
#[derive(Debug)]
pub enum Event {
    /// The bridge is shutting down: finish what runs, take nothing new.
    Drain,
    /// The peer ended its side: no more bytes will come. Buffered ones came before.
    Ended(ConnId),
    /// The connection failed, or could not be opened, or was not on the shelf any more.
    Failed(ConnId, Fault),
    /// `Open` has succeeded, TLS included.
    Opened(ConnId),
    /// Bytes came.
    Received(ConnId, Bytes),
    /// So many more of the bytes given with `Send` have been written to the socket.
    Sent(ConnId, usize),
}

/// What a session wants done.
#[derive(Debug)]
pub enum Action {
    /// Drop the connection at once, unsent bytes too.
    Close(ConnId),
    /// The session is over: drop it and what it still holds.
    Done,
    /// Keep a record.
    Emit(Box<Record>),
    /// When all that was given is written: end our side, and drop the connection once the peer has ended its own or
    /// after a second or so. (Closing at once can destroy bytes on their way to the client: RFC 9112 §9.6.)
    Finish(ConnId),
    /// Connect. Answered by `Opened` or `Failed`; `Send` may come before that and is queued.
    Open(ConnId, Target),
    /// Put the connection on the shelf, idle. Its unsent bytes are none.
    Park(ConnId),
    /// Write.
    Send(ConnId, Frame),
    /// Take the connection from the shelf. If it is gone, or has bytes or an end to read, answer `Failed(_, Closed)`.
    Unpark(ConnId),
}

/// One client connection. See the [module](self).
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session at the start of its connection. Get `rng` from [`Bridge::fork_rng`](crate::Bridge::fork_rng).
    pub fn new(_now: Instant, _rng: Rng) -> Self {
        todo!()
    }
    /// Something happened to a connection.
    pub fn handle(&mut self, _now: Instant, _event: Event) {
        todo!()
    }
    /// The answer to the last query.
    pub fn handle_answer(&mut self, _now: Instant, _answer: Answer) {
        todo!()
    }
    /// Time has passed; may be called at any time.
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }
    /// The next question. Each is answered, with `handle_answer`, before the next is asked.
    #[must_use]
    pub fn poll_query(&mut self) -> Option<Query> {
        todo!()
    }
    /// The next thing to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }
    /// When to call `handle_timeout` at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Whether bytes of this connection are wanted now. While not, the adapter reads none of them.
    pub fn wants_read(&self, _conn: ConnId) -> bool {
        todo!()
    }
}
