//! What goes otherwise than usual at a server of a world, in order.

use std::collections::VecDeque;

use aibridge_core::{Duration, Fault};

use crate::{Connect, Reply, plan::Blip};

/// What goes otherwise than usual, call by call.
#[derive(Debug)]
pub(super) struct Blips(VecDeque<Option<Blip>>);

impl Blips {
    pub(super) fn new(plan: &[Option<Blip>]) -> Self {
        Self(plan.iter().copied().collect())
    }

    /// Somebody connects.
    pub(super) fn dial(&mut self, number: u64, takes: Duration) -> (Connect, Duration) {
        let blip = self
            .0
            .pop_front_if(|blip| blip.is_some_and(Blip::is_of_connection));
        match blip.flatten() {
            Some(Blip::Refuse) => (Connect::Fail(Fault::Refused), Duration::ZERO),
            Some(_) => (Connect::NoAnswer, Duration::ZERO),
            None => (Connect::Accept(number), takes),
        }
    }

    /// What becomes of the next call. What goes wrong with a connection waits for the next one that
    /// is opened.
    pub(super) fn next_call(&mut self) -> Option<Blip> {
        let is_of_call = |blip: &Option<Blip>| blip.is_none_or(|blip| !blip.is_of_connection());
        let at = self.0.iter().position(is_of_call)?;
        self.0.remove(at).flatten()
    }
}

impl Blip {
    /// The reply that there is in place of the usual one.
    pub(super) fn instead(self) -> Option<Reply> {
        match self {
            Self::Garbage => Some(Reply::garbage()),
            Self::Limited(wait) => Some(Reply::status(429).retry_after(wait)),
            Self::Status(status) => Some(Reply::status(status)),
            _ => None,
        }
    }

    /// The same reply, but that something goes wrong with it. It begins this much after the call.
    pub(super) fn spoil(self, reply: Reply, latency: Duration) -> Reply {
        match self {
            Self::EndAt(at) => reply.end_at(at),
            Self::ResetAt(at) => reply.reset_at(at),
            Self::StallAt(at) => reply.stall_at(at),
            Self::Wait(more) => reply.after(latency + more),
            _ => reply,
        }
    }
}
