//! The simulator's inside: one thing at a time, and the part of an adapter that does what sessions
//! want.

use std::collections::VecDeque;

use aibridge_core::{
    ConnId, Fault, Instant,
    record::Record,
    session::{Action, Event},
};
use bytes::Buf;

use super::{
    Sim,
    parts::{Conn, Wire},
    tail,
};
use crate::history::Fact;

/// Where things to do come from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Clients,
    Deadlines,
    Upstreams,
}

/// All orders in which the sources can be looked at; the first where nothing is left to chance.
const ORDERS: [[Source; 3]; 6] = {
    use Source::{Clients, Deadlines, Upstreams};
    [
        [Clients, Upstreams, Deadlines],
        [Upstreams, Clients, Deadlines],
        [Clients, Deadlines, Upstreams],
        [Upstreams, Deadlines, Clients],
        [Deadlines, Clients, Upstreams],
        [Deadlines, Upstreams, Clients],
    ]
};

impl Sim {
    pub(crate) fn next_moment(&self) -> Option<Instant> {
        let sessions = self
            .live
            .iter()
            .filter_map(|index| self.clients[*index].due);
        let upstreams = self.conns.values().filter(|conn| !conn.dead);
        let upstreams = upstreams.flat_map(|conn| [conn.wakes, conn.next_read()]);
        sessions
            .chain(upstreams.flatten())
            .chain(self.bridge.poll_timeout())
            .min()
    }

    /// Does one thing, if there is one to do.
    pub(super) fn step(&mut self) -> bool {
        let order = ORDERS[self.draw(ORDERS.len())];
        order.into_iter().any(|source| match source {
            Source::Clients => self.step_clients(),
            Source::Deadlines => self.step_deadlines(),
            Source::Upstreams => self.step_upstreams(),
        })
    }

    fn step_clients(&mut self) -> bool {
        let clients = self.live.iter().copied();
        let clients = clients
            .filter(|at| self.clients[*at].may_step())
            .collect::<Vec<_>>();
        self.any_of(&clients, Self::step_client)
    }

    fn step_upstreams(&mut self) -> bool {
        let now = self.now;
        let conns = self.conns.iter().filter(|(_, conn)| conn.may_step(now));
        let conns: Vec<_> = conns.map(|(id, _)| *id).collect();
        self.any_of(&conns, Self::step_conn)
    }

    fn step_deadlines(&mut self) -> bool {
        let is_due = |at: &usize| self.clients[*at].due.is_some_and(|due| due <= self.now);
        let due: Vec<_> = self.live.iter().copied().filter(is_due).collect();
        self.any_of(&due, Self::time_client) || self.time_bridge()
    }

    /// Does one thing at one of these, beginning anywhere.
    fn any_of<T: Copy>(&mut self, all: &[T], step: impl Fn(&mut Self, T) -> bool) -> bool {
        let first = self.draw(all.len());
        let (before, after) = all.split_at(first);
        after.iter().chain(before).any(|one| step(self, *one))
    }

    /// A number below this one, or 0 where nothing is left to chance.
    fn draw(&mut self, below: usize) -> usize {
        let Some(rng) = self.shuffle.as_mut().filter(|_| below > 1) else {
            return 0;
        };
        usize::try_from(rng.next_u64() % below as u64).unwrap_or_default()
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
            let is_held = !wants && matches!(conn.inbox.front(), Some(Wire::Bytes(_)));
            let was_held = std::mem::replace(&mut conn.is_held, is_held);
            if let Some(event) = next_event(id, &mut conn.inbox, wants) {
                self.log(|| format!("s{owner} {}", describe(&event)));
                if matches!(event, Event::Failed(..)) {
                    self.conns.remove(&id); // it is gone: nobody closes it
                }
                self.tell(owner, event);
                return true;
            }
            if is_held && !was_held {
                self.note(owner, || Fact::Held(id));
            }
        }
        self.step_peer(id)
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

    /// Hands a client what it is ready to take.
    pub(super) fn flush(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.reads {
            self.hand(index, usize::MAX);
        }
    }

    /// Hands a client so many bytes at most.
    pub(super) fn hand(&mut self, index: usize, most: usize) {
        let client = &mut self.clients[index];
        let len = client.unsent.len().min(most);
        if len > 0 {
            client.credit += len;
            let bytes = client.unsent.split_to(len).freeze();
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

/// Takes the first thing off an inbox, if the session would notice it: bytes and an end only where
/// it reads.
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
