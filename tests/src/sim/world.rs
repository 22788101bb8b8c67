//! The simulator's inside: one thing at a time, and the part of an adapter that does what sessions want.

use std::collections::VecDeque;

use aibridge_core::{
    ConnId, Duration, Fault, Frame, Instant, Target,
    record::Record,
    session::{Action, Event},
};
use bytes::{Buf, Bytes};

use super::{
    Sim,
    parts::{Conn, Wire},
    tail,
};
use crate::{
    Connect, Peer, Step,
    history::{Called, Fact},
};

impl Sim {
    pub(crate) fn next_moment(&self) -> Option<Instant> {
        let sessions = self
            .live
            .iter()
            .filter_map(|index| self.clients[*index].due);
        let upstreams = self
            .conns
            .values()
            .filter(|conn| !conn.dead)
            .filter_map(|conn| conn.wakes);
        sessions
            .chain(upstreams)
            .chain(self.bridge.poll_timeout())
            .min()
    }

    /// Does one thing, if there is one to do.
    pub(super) fn step(&mut self) -> bool {
        let clients = self.live.iter().copied();
        let clients: Vec<_> = clients.filter(|at| self.clients[*at].may_step()).collect();
        let now = self.now;
        let conns = self.conns.iter().filter(|(_, conn)| conn.may_step(now));
        let conns: Vec<_> = conns.map(|(id, _)| *id).collect();
        let (first_client, first_conn, conns_first) = self.first(clients.len(), conns.len());
        let clients = |sim: &mut Self| {
            let (before, after) = clients.split_at(first_client);
            let mut clients = after.iter().chain(before);
            clients.any(|index| sim.step_client(*index))
        };
        let upstreams = |sim: &mut Self| {
            let (before, after) = conns.split_at(first_conn);
            let mut conns = after.iter().chain(before);
            conns.any(|conn| sim.step_conn(*conn))
        };
        (conns_first && upstreams(self))
            || clients(self)
            || upstreams(self)
            || (0..self.live.len()).any(|at| self.time_client(self.live[at]))
            || self.time_bridge()
    }

    /// With which client and which connection to begin, and whether connections come first.
    fn first(&mut self, clients: usize, conns: usize) -> (usize, usize, bool) {
        let Some(rng) = &mut self.shuffle else {
            return (0, 0, false);
        };
        let mut below = |bound: usize| {
            let drawn = rng.next_u64() % bound.max(1) as u64;
            usize::try_from(drawn).unwrap_or_default()
        };
        (below(clients), below(conns), below(2) == 1)
    }

    fn step_client(&mut self, index: usize) -> bool {
        let client = &mut self.clients[index];
        let Some(session) = &client.session else {
            return false;
        };
        if client.credit > 0 {
            let credit = std::mem::take(&mut client.credit);
            self.tell(index, Event::Sent(ConnId::CLIENT, credit));
            return true;
        }
        let wants = session.wants_read(ConnId::CLIENT);
        let Some(event) = next_event(ConnId::CLIENT, &mut client.inbox, wants) else {
            return false;
        };
        self.log(|| format!("s{index} {}", describe(&event)));
        self.tell(index, event);
        true
    }

    fn step_conn(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else {
            return false;
        };
        if let Some(owner) = conn.owner {
            let Some(session) = &self.clients[owner].session else {
                return false;
            };
            if conn.credit > 0 {
                let credit = std::mem::take(&mut conn.credit);
                self.tell(owner, Event::Sent(id, credit));
                return true;
            }
            let wants = session.wants_read(id);
            if let Some(event) = next_event(id, &mut conn.inbox, wants) {
                self.log(|| format!("s{owner} {}", describe(&event)));
                if matches!(event, Event::Failed(..)) {
                    self.conns.remove(&id); // it is gone: nobody closes it
                }
                self.tell(owner, event);
                return true;
            }
        }
        self.step_peer(id)
    }

    /// The upstream does one thing.
    fn step_peer(&mut self, id: ConnId) -> bool {
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
            let early = conn.early.split().freeze();
            if !early.is_empty() {
                self.arrived(id, early);
            }
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

    fn time_client(&mut self, index: usize) -> bool {
        let now = self.now;
        let client = &mut self.clients[index];
        let Some(session) = client
            .session
            .as_mut()
            .filter(|_| client.due.is_some_and(|at| at <= now))
        else {
            return false;
        };
        session.handle_timeout(now);
        self.log(|| format!("s{index} timeout"));
        self.pump(index);
        true
    }

    fn time_bridge(&mut self) -> bool {
        if self.bridge.poll_timeout().is_none_or(|at| at > self.now) {
            return false;
        }
        self.bridge.handle_timeout(self.now);
        self.unshelve();
        true
    }

    // --- the adapter's part

    pub(super) fn tell(&mut self, index: usize, event: Event) {
        if let Some(session) = &mut self.clients[index].session {
            session.handle(self.now, event);
            self.pump(index);
        }
    }

    /// Queries, actions, until there are none: the contract of [`Session`].
    pub(super) fn pump(&mut self, index: usize) {
        loop {
            let Some(session) = &mut self.clients[index].session else {
                return;
            };
            if let Some(action) = session.poll_action() {
                self.act(index, action);
                continue;
            }
            if let Some(query) = session.poll_query() {
                let shown = if self.quiet {
                    String::new()
                } else {
                    format!("{query:?}")
                };
                let asked = self.watch.as_mut().map(|watch| watch.asked(&query));
                let answer = self.bridge.answer(self.now, query);
                if let (Some(watch), Some(asked)) = (&mut self.watch, asked) {
                    watch.answered(self.now, index, asked, &answer);
                }
                session.handle_answer(self.now, answer);
                self.log(|| format!("s{index} ? {}", first_word(&shown)));
                self.unshelve();
                continue;
            }
            self.clients[index].due = session.poll_timeout();
            let owes = std::mem::take(&mut self.clients[index].owes_bytes);
            if owes {
                self.wrong(
                    index,
                    "an interception's last record behind its reply's last bytes",
                );
            }
            return;
        }
    }

    /// A session broke its contract.
    fn wrong(&mut self, index: usize, what: &str) {
        assert!(self.watch.is_some(), "{what}:\n{}", tail(&self.timeline));
        self.note(index, || Fact::Wrong(what.to_owned()));
    }

    fn act(&mut self, index: usize, action: Action) {
        if let Some(watch) = &mut self.watch {
            watch.shows(&action);
        }
        match &action {
            Action::Send(conn, frame) => {
                let len = frame.remaining();
                self.log(|| format!("s{index} {conn} > {len} B"));
            }
            other => {
                let show = || {
                    format!(
                        "s{index} {}",
                        format!("{other:?}").chars().take(160).collect::<String>()
                    )
                };
                self.log(show);
            }
        }
        // Whoever has seen the end of a reply can rely on its records.
        match &action {
            Action::Emit(record) => {
                self.clients[index].owes_bytes |= matches!(**record, Record::Ended(..));
            }
            Action::Close(ConnId::CLIENT)
            | Action::Done
            | Action::Finish(ConnId::CLIENT)
            | Action::Reset(ConnId::CLIENT)
            | Action::Send(ConnId::CLIENT, _) => self.clients[index].owes_bytes = false,
            _ => {}
        }
        match action {
            Action::Emit(record) if self.watch.is_some() => {
                self.note(index, || Fact::Recorded(record));
            }
            Action::Emit(record) => self.records.0.push(*record),
            Action::Done => self.done(index),
            Action::Send(ConnId::CLIENT, mut frame) => {
                assert!(
                    !self.clients[index].closed,
                    "bytes behind the end of a client's connection"
                );
                let bytes = frame.copy_to_bytes(frame.remaining());
                self.clients[index].unsent.extend_from_slice(&bytes);
                self.flush(index);
            }
            Action::Finish(ConnId::CLIENT) => self.close_client(index),
            Action::Close(ConnId::CLIENT) => {
                self.clients[index].unsent.clear();
                self.close_client(index);
            }
            Action::Reset(ConnId::CLIENT) => {
                self.clients[index].unsent.clear();
                self.clients[index].reset = true;
                self.close_client(index);
            }
            Action::Open(conn, target) => self.open(index, conn, &target),
            Action::Send(conn, frame) => self.send_upstream(conn, frame),
            Action::Close(conn) => {
                self.conns.remove(&conn);
            }
            Action::Finish(conn) | Action::Reset(conn) => {
                panic!("only a client's connection is finished or reset, not {conn}")
            }
            Action::Park(id, target) => {
                let conn = self
                    .conns
                    .get_mut(&id)
                    .expect("a parked connection is there");
                conn.owner = None;
                self.bridge.park(self.now, id, target);
                self.unshelve();
            }
            Action::Unpark(id) => {
                let conn = self.conns.entry(id).or_insert_with(Conn::gone);
                conn.owner = Some(index);
                if conn.dead || !conn.inbox.is_empty() {
                    conn.inbox = [Wire::Failed(Fault::Closed)].into();
                }
            }
        }
    }

    fn done(&mut self, index: usize) {
        let left: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.owner == Some(index))
            .map(|(id, _)| *id)
            .collect();
        if !left.is_empty() {
            self.wrong(
                index,
                &format!("a session is done and has not closed {left:?}"),
            );
        }
        self.live.retain(|live| *live != index);
        let client = &mut self.clients[index];
        client.closed = true;
        if let Some(session) = client.session.take() {
            self.bridge.disconnected(session.session());
        }
    }

    fn close_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.closed = true;
        if client.polite && !client.left {
            client.left = true;
            client.inbox.push_back(Wire::End);
        }
    }

    fn open(&mut self, index: usize, id: ConnId, target: &Target) {
        let upstream = match self.servers.get(target) {
            Some(server) => server.clone(),
            None if *target == crate::setup::upstream() => self.upstream.clone(),
            None => panic!("nothing is at {target}"),
        };
        let mut conn = Conn::new(index);
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

    fn send_upstream(&mut self, id: ConnId, mut frame: Frame) {
        let bytes = frame.copy_to_bytes(frame.remaining());
        let Some(conn) = self.conns.get_mut(&id) else {
            panic!("bytes for {id}, which is not there");
        };
        conn.credit += bytes.len();
        if conn.peer.is_none() {
            return conn.early.extend_from_slice(&bytes);
        }
        self.arrived(id, bytes);
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

    /// Hands a client what it is ready to take.
    pub(super) fn flush(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.reads && !client.unsent.is_empty() {
            client.credit += client.unsent.len();
            let bytes = client.unsent.split().freeze();
            client.got.extend_from_slice(&bytes);
            self.note(index, || Fact::Delivered(bytes));
        }
    }

    /// Closes what the bridge wants off the shelf.
    fn unshelve(&mut self) {
        while let Some(conn) = self.bridge.poll_close() {
            self.conns.remove(&conn);
        }
    }
}

/// Takes the first thing off an inbox, if the session would notice it: bytes and an end only where it reads.
fn next_event(conn: ConnId, inbox: &mut VecDeque<Wire>, wants_read: bool) -> Option<Event> {
    if matches!(inbox.front()?, Wire::Bytes(_) | Wire::End) && !wants_read {
        return None;
    }
    Some(match inbox.pop_front()? {
        Wire::Bytes(bytes) => Event::Received(conn, bytes),
        Wire::End => Event::Ended(conn),
        Wire::Failed(fault) => Event::Failed(conn, fault),
        Wire::Opened => Event::Opened(conn),
    })
}

fn describe(event: &Event) -> String {
    match event {
        Event::Received(conn, bytes) => format!("{conn} < {} B", bytes.len()),
        other => format!("{other:?}"),
    }
}

fn first_word(text: &str) -> &str {
    text.split([' ', '{', '(']).next().unwrap_or_default()
}
