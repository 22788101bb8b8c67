//! Upstreams in the simulator: how connections come up, what is read from them and written to them,
//! and how they break.

use aibridge_core::{ConnId, Duration, Fault, Frame, Target};
use bytes::{Buf, Bytes};

use super::{
    Sim,
    parts::{Conn, Wire},
};
use crate::{
    Connect, Peer, Step,
    history::{Called, Fact},
};

impl Sim {
    pub(super) fn open(&mut self, index: usize, id: ConnId, target: &Target) {
        let upstream = match self.servers.get(target) {
            Some(server) => server.clone(),
            None if *target == crate::setup::upstream() => self.upstream.clone(),
            None => panic!("nothing is at {target}"),
        };
        let mut conn = Conn::new(index);
        conn.sips = upstream.sips();
        conn.server = self.watch.as_ref().and_then(|watch| watch.server(target));
        match upstream.dial() {
            (Connect::Accept(number), Duration::ZERO) => {
                conn.peer = Some(Peer::new(upstream, number));
                conn.inbox.push_back(Wire::Opened);
            }
            (Connect::Accept(number), takes) => {
                conn.coming = Some(Peer::new(upstream, number));
                conn.wakes = Some(self.now + takes);
            }
            (Connect::Fail(fault), _) => conn.inbox.push_back(Wire::Failed(fault)),
            (Connect::NoAnswer, _) => {}
        }
        let known = self.conns.insert(id, conn);
        assert!(known.is_none(), "{id} is opened twice");
    }

    pub(super) fn send_upstream(&mut self, id: ConnId, mut frame: Frame) {
        let bytes = frame.copy_to_bytes(frame.remaining());
        let Some(conn) = self.conns.get_mut(&id) else {
            panic!("bytes for {id}, which is not there");
        };
        conn.unread.extend_from_slice(&bytes);
        if conn.sips.is_none() {
            self.read(id);
        }
    }

    /// The upstream reads, if it is time for that and there is something to read.
    fn read(&mut self, id: ConnId) -> bool {
        let now = self.now;
        let conn = self.conns.get_mut(&id);
        let Some(conn) = conn.filter(|conn| conn.next_read().is_some_and(|at| at <= now)) else {
            return false;
        };
        let most = conn.sips.map_or(usize::MAX, |(bytes, _)| bytes.max(1));
        conn.reads_at = conn.sips.map(|(_, pause)| now + pause);
        let bytes = conn.unread.split_to(most.min(conn.unread.len())).freeze();
        conn.credit += bytes.len();
        self.arrived(id, bytes);
        true
    }

    /// What is at this place among the watched targets goes down: its connections are reset, those
    /// that come up included.
    pub(crate) fn break_off(&mut self, server: usize) {
        let mut told = Vec::new();
        for (id, conn) in &mut self.conns {
            let is_up = conn.peer.is_some() || conn.coming.is_some();
            if conn.server == Some(server) && is_up && !conn.dead {
                conn.dead = true;
                conn.inbox.push_back(Wire::Failed(Fault::Reset));
                told.extend(conn.owner.map(|owner| (owner, *id)));
            }
        }
        for (owner, id) in told {
            self.note(owner, || Fact::Broke(id, "resets"));
        }
    }

    /// Bytes reach the upstream.
    fn arrived(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.dead) else {
            return;
        };
        let calls = conn.peer.as_mut().map(|peer| peer.push(bytes));
        let (owner, server) = (conn.owner, conn.server);
        for call in calls.unwrap_or_default() {
            let conn = self.conns.get_mut(&id);
            let is_reused = conn.is_some_and(|conn| std::mem::replace(&mut conn.is_used, true));
            if let Some(owner) = owner {
                self.note(owner, || {
                    Fact::Called(Box::new(Called {
                        conn: id,
                        provider: server,
                        is_reused,
                        seen: call.clone(),
                    }))
                });
            }
            let hint = aibridge_core::Secret::new(call.key.as_str()).hint();
            self.log(|| {
                format!(
                    "   {id} upstream sees {} {} with {hint}",
                    call.method, call.path
                )
            });
        }
    }

    /// The upstream does one thing.
    pub(super) fn step_peer(&mut self, id: ConnId) -> bool {
        self.read(id) || self.play(id)
    }

    /// The next step of a reply, or a connection that comes up.
    fn play(&mut self, id: ConnId) -> bool {
        let (now, confirmations) = (self.now, self.upstream.confirmations());
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.dead) else {
            return false;
        };
        if conn.wakes.is_some_and(|at| at > now) || conn.confirms > confirmations {
            return false;
        }
        conn.wakes = None;
        if let Some(peer) = conn.coming.take() {
            conn.peer = Some(peer);
            conn.inbox.push_back(Wire::Opened);
            self.read(id);
            return true;
        }
        let Some(peer) = &mut conn.peer else {
            return false;
        };
        // Silence for ever is a step that is never taken.
        if peer.peek() == Some(&Step::Stall) {
            return false;
        }
        let owner = conn.owner;
        let fact = match peer.next_step() {
            None | Some(Step::Stall) => return false,
            Some(Step::Bytes(bytes)) => {
                conn.inbox.push_back(Wire::Bytes(bytes.clone()));
                Fact::Sent(id, bytes)
            }
            Some(Step::Confirm) => {
                conn.confirms += 1;
                return true;
            }
            Some(Step::End) => {
                conn.dead = true;
                conn.inbox.push_back(Wire::End);
                Fact::Broke(id, "ends")
            }
            Some(Step::Reset) => {
                conn.dead = true;
                conn.inbox.push_back(Wire::Failed(Fault::Reset));
                Fact::Broke(id, "resets")
            }
            Some(Step::Wait(wait)) => {
                conn.wakes = Some(now + wait);
                return true;
            }
        };
        if let Some(owner) = owner {
            self.note(owner, || fact);
        }
        true
    }
}
