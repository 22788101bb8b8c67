//! Sessions that servers have forgotten, and the new ones that take their place.
//!
//! Calls that lost the same session share one handshake; one that finds out late goes on in what
//! came of it.

use std::sync::Arc;

use super::{
    failure::Failure,
    handshake::Handshake,
    outbox::{ExchangeId, Input, Outbox},
    server::Server,
    terms::Terms,
};
use crate::time::{Duration, Instant};

/// The renewals of one client's calls.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    running: Vec<Renewal>,
    /// The last that succeeded, for each server.
    done: Vec<(Lost, Terms)>,
}

#[derive(Debug)]
struct Renewal {
    lost: Lost,
    handshake: Handshake,
}

/// A session that a server does not know any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) server: Arc<Server>,
    pub(super) stale: Terms,
}

/// What a renewal came to.
pub(super) type Renewed = (Lost, Result<Terms, Failure>);

impl Renewals {
    /// The terms in place of those that were lost, if they are known; else a handshake is under way
    /// after this.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        lost: &Lost,
        timeout: Duration,
        out: &mut Outbox,
    ) -> Option<Terms> {
        if let Some((_, fresh)) = self.done.iter().find(|(known, _)| known == lost) {
            return Some(fresh.clone());
        }
        if self.running.iter().all(|renewal| renewal.lost != *lost) {
            self.running.push(Renewal {
                lost: lost.clone(),
                handshake: Handshake::renew(now, &lost.server, timeout, out),
            });
        }
        None
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        on: ExchangeId,
        input: Input,
        out: &mut Outbox,
    ) -> Option<Renewed> {
        let is_on = |renewal: &Renewal| renewal.handshake.is_on(on);
        let at = self.running.iter().position(is_on)?;
        let agreed = self.running[at].handshake.handle(now, on, input, out)?;
        Some(self.finish(at, agreed.map(|agreed| agreed.terms)))
    }

    /// Wakes the handshakes; gives one that is over, and is called again until there is none.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> Option<Renewed> {
        for at in 0..self.running.len() {
            if let Some(agreed) = self.running[at].handshake.handle_timeout(now, out) {
                return Some(self.finish(at, agreed.map(|agreed| agreed.terms)));
            }
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let handshakes = self.running.iter().map(|renewal| &renewal.handshake);
        handshakes.filter_map(Handshake::deadline).min()
    }

    pub(super) fn abort(&mut self, now: Instant, out: &mut Outbox) {
        for mut renewal in std::mem::take(&mut self.running) {
            renewal.handshake.leave(now, out);
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    fn finish(&mut self, at: usize, fresh: Result<Terms, Failure>) -> Renewed {
        let Renewal { lost, .. } = self.running.remove(at);
        if let Ok(fresh) = &fresh {
            self.done.retain(|(known, _)| known.server != lost.server);
            self.done.push((lost.clone(), fresh.clone()));
        }
        (lost, fresh)
    }
}
