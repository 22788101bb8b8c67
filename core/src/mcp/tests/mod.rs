//! The machines against a server made up here, in virtual time.

mod calls;
mod fake;
mod keeper;
mod listen;
mod renewal;
mod results;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    Action, CallEvent, CallLimits, Calls, ExchangeId, Failure, Input, Keeper, KeeperEvent, Request,
    Server, Terms, Tool, ToolResult, Version,
};
use crate::{
    rng::Rng,
    target::Target,
    time::{Duration, Instant},
};
use bytes::Bytes;
use fake::Fake;

/// What the world drives.
trait Machine {
    fn handle(&mut self, now: Instant, on: ExchangeId, input: Input);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_action(&mut self) -> Option<Action>;
    fn poll_timeout(&self) -> Option<Instant>;
}

impl Machine for Calls {
    fn handle(&mut self, now: Instant, on: ExchangeId, input: Input) {
        Self::handle(self, now, on, input);
    }
    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }
    fn poll_action(&mut self) -> Option<Action> {
        Self::poll_action(self)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
}

impl Machine for Keeper {
    fn handle(&mut self, now: Instant, on: ExchangeId, input: Input) {
        Self::handle(self, now, KeeperEvent::Exchange(on, input));
    }
    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }
    fn poll_action(&mut self) -> Option<Action> {
        Self::poll_action(self)
    }
    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }
}

/// A server, a clock, and how the server's bytes are cut.
struct World {
    now: Instant,
    fake: Fake,
    piece: usize,
    aborted: BTreeSet<ExchangeId>,
    /// Exchanges that are still open, oldest first.
    open: Vec<ExchangeId>,
}

impl World {
    fn new(fake: Fake) -> Self {
        Self {
            now: Instant::from_secs(1),
            fake,
            piece: usize::MAX,
            aborted: BTreeSet::new(),
            open: Vec::new(),
        }
    }

    /// Carries out what the machine wants, and tells it what comes of it, until neither has
    /// anything left.
    fn settle(&mut self, machine: &mut impl Machine) {
        let mut coming = VecDeque::new();
        loop {
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Abort(on) => {
                        assert!(self.open.contains(&on), "{on:?} was not open");
                        self.open.retain(|open| *open != on);
                        self.aborted.insert(on);
                    }
                    Action::Request(on, request) => {
                        self.open.push(on);
                        let reply = self.fake.reply(&request);
                        coming.extend(reply.into_iter().map(|input| (on, input)));
                    }
                }
            }
            let Some((on, input)) = coming.pop_front() else {
                return;
            };
            if self.open.contains(&on) {
                self.tell(machine, on, input);
            }
        }
    }

    /// Tells an input, its bytes in pieces.
    fn tell(&mut self, machine: &mut impl Machine, on: ExchangeId, input: Input) {
        if let Input::Body(mut bytes) = input {
            while !bytes.is_empty() {
                let piece = bytes.split_to(self.piece.min(bytes.len()));
                machine.handle(self.now, on, Input::Body(piece));
            }
            return;
        }
        if matches!(input, Input::End | Input::Failed(_)) {
            self.open.retain(|open| *open != on);
        }
        machine.handle(self.now, on, input);
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, machine: &mut impl Machine, time: Duration) {
        let end = self.now + time;
        self.settle(machine);
        let mut woken = 0;
        while let Some(at) = machine.poll_timeout().filter(|at| *at <= end) {
            woken += 1;
            assert!(woken < 1000, "a deadline that is not met");
            self.now = self.now.max(at);
            machine.handle_timeout(self.now);
            self.settle(machine);
        }
        self.now = end;
    }
}

fn server() -> Arc<Server> {
    let target = Target {
        host: "mcp.example".into(),
        port: 80,
        tls: false,
    };
    let token = crate::Secret::new("Bearer mcp-token-0123456789");
    let server =
        Server::new("fake", target, "/mcp").with_header(http::header::AUTHORIZATION, &token);
    Arc::new(server.unwrap())
}

fn tool(name: &str) -> Tool {
    Tool::new(name, "", Bytes::from_static(b"{}"))
}
