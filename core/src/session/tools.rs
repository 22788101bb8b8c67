//! The MCP servers' side of a session: calls of tools, each on connections of its own.
//!
//! A tool may have run although its answer got lost, so a call never goes out on a connection that
//! might be dead: each exchange has a fresh one, which ends with it.

use std::sync::Arc;

use super::{
    Action, Asked, Flow, Session,
    upstream::{Wanted, Whose},
};
use crate::{
    bridge::Query,
    id::ConnId,
    interception::{self, ToolCall},
    mcp::{self, CallEvent, CallLimits, Calls, Failure, Keeper, KeeperEvent, Terms, ToolCallId},
    record::{Record, ToolServer},
    rng::Rng,
    time::{Duration, Instant},
};

/// How often a keeper asks what calls have to say to it.
const LOOK: Duration = Duration::from_secs(1);

/// The calls of a session.
#[derive(Debug)]
pub(super) struct Tools {
    calls: Calls,
    running: Vec<Names>,
}

/// What a running call is named.
#[derive(Debug)]
struct Names {
    /// By [`Calls`].
    ours: ToolCallId,
    /// By the interception.
    theirs: ToolCallId,
}

impl Tools {
    fn new(limits: CallLimits, rng: &mut Rng) -> Self {
        Self {
            calls: Calls::new(limits, rng),
            running: Vec::new(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.calls.poll_timeout()
    }
}

/// A session that has no client: it keeps an MCP server.
#[derive(Debug)]
pub(super) struct Keeping {
    keeper: Keeper,
    look_at: Instant,
}

impl Keeping {
    pub(super) fn new(now: Instant, keeper: Keeper) -> Self {
        Self {
            keeper,
            look_at: now + LOOK,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let own = self.keeper.poll_timeout();
        own.map_or(self.look_at, |at| at.min(self.look_at))
    }

    fn server(&self) -> Arc<mcp::Server> {
        Arc::clone(self.keeper.server())
    }
}

impl Session {
    /// An interception wants a tool called.
    pub(super) fn call_tool(&mut self, id: ToolCallId, call: Box<ToolCall>) {
        let server = Arc::clone(&call.entry.server);
        self.ask(Asked::Terms(id, call), Query::Terms(server));
    }

    /// The bridge has said on which terms the tool's server is spoken to.
    pub(super) fn terms(
        &mut self,
        now: Instant,
        id: ToolCallId,
        call: &ToolCall,
        terms: Option<&Terms>,
    ) {
        let Some(terms) = terms else {
            let done = interception::Event::ToolDone(id, Err(Failure::Down));
            return self.tell(now, done);
        };
        if !matches!(self.flow, Flow::Running(_)) {
            return; // the client has left meanwhile
        }
        let limits = CallLimits {
            timeout: self.config.tools.call,
            result: self.config.tools.result,
        };
        let tools = self
            .tools
            .get_or_insert_with(|| Box::new(Tools::new(limits, &mut self.rng)));
        tools.calls.set_limits(limits);
        let (server, tool) = (&call.entry.server, &call.entry.tool);
        let name = tools.calls.begin(now, server, terms, tool, &call.arguments);
        tools.running.push(Names {
            ours: name,
            theirs: id,
        });
        self.pump_tools(now);
    }

    /// The interception wants nothing more of its tools.
    pub(super) fn abort_tools(&mut self, now: Instant) {
        if let Some(tools) = &mut self.tools {
            tools.running.clear();
            tools.calls.cancel_all(now);
            self.pump_tools(now);
        }
    }

    /// Something happened to an exchange with an MCP server.
    pub(super) fn tool_exchange(&mut self, now: Instant, on: mcp::ExchangeId, input: mcp::Input) {
        if let Flow::Keeping(keeping) = &mut self.flow {
            keeping.keeper.handle(now, KeeperEvent::Exchange(on, input));
            return self.pump_keeper();
        }
        if let Some(tools) = &mut self.tools {
            tools.calls.handle(now, on, input);
            self.pump_tools(now);
        }
    }

    pub(super) fn time_tools(&mut self, now: Instant) {
        if let Flow::Keeping(keeping) = &mut self.flow {
            if keeping.look_at <= now {
                keeping.look_at = now + LOOK;
                let query = Query::Keep(keeping.server());
                self.ask(Asked::Keep, query);
            }
            let Flow::Keeping(keeping) = &mut self.flow else {
                return;
            };
            keeping.keeper.handle_timeout(now);
            return self.pump_keeper();
        }
        if let Some(tools) = &mut self.tools
            && tools.deadline().is_some_and(|at| at <= now)
        {
            tools.calls.handle_timeout(now);
            self.pump_tools(now);
        }
    }

    /// Takes what the calls have to say.
    fn pump_tools(&mut self, now: Instant) {
        while let Some(tools) = &mut self.tools {
            if let Some(action) = tools.calls.poll_action() {
                self.exchange_with_server(action);
                continue;
            }
            let (server, word) = match tools.calls.poll_event() {
                Some(CallEvent::Done(name, result)) => {
                    let at = tools.running.iter().position(|call| call.ours == name);
                    if let Some(id) = at.map(|at| tools.running.swap_remove(at).theirs) {
                        self.tell(now, interception::Event::ToolDone(id, result));
                    }
                    continue;
                }
                Some(CallEvent::Recheck(server)) => (server, KeeperEvent::Recheck),
                Some(CallEvent::Renewed {
                    server,
                    stale,
                    fresh,
                }) => (server, KeeperEvent::Renewed { stale, fresh }),
                None => break,
            };
            self.ask(Asked::Told, Query::Tell(server, word));
        }
        let is_idle = self
            .tools
            .as_ref()
            .is_none_or(|tools| tools.calls.is_idle());
        if is_idle && matches!(self.flow, Flow::Parting) {
            self.done();
        }
    }

    /// Takes what the keeper has to say.
    pub(super) fn pump_keeper(&mut self) {
        while let Flow::Keeping(keeping) = &mut self.flow {
            if let Some(action) = keeping.keeper.poll_action() {
                self.exchange_with_server(action);
            } else if let Some(news) = keeping.keeper.poll_news() {
                let query = Query::News(keeping.server(), news);
                self.ask(Asked::Told, query);
            } else if keeping.keeper.is_done() {
                return self.over();
            } else {
                return;
            }
        }
    }

    /// What calls left word of for the keeper.
    pub(super) fn keep(&mut self, now: Instant, words: Vec<KeeperEvent>) {
        if let Flow::Keeping(keeping) = &mut self.flow {
            for word in words {
                keeping.keeper.handle(now, word);
            }
            self.pump_keeper();
        }
    }

    /// The bridge knows; there may be something to record.
    pub(super) fn told(&mut self, record: Option<ToolServer>) {
        let record = record.map(|server| Action::Emit(Box::new(Record::ToolServer(server))));
        self.out.actions.extend(record);
    }

    fn exchange_with_server(&mut self, action: mcp::Action) {
        match action {
            mcp::Action::Abort(on) => self.abort_exchange(Whose::Tool(on)),
            mcp::Action::Request(on, request) => {
                self.begin_exchange(Whose::Tool(on), Wanted::Tool(Box::new(request)));
            }
        }
    }

    /// Whether words of farewell to MCP servers are still on their way.
    pub(super) fn is_parting(&self) -> bool {
        self.tools
            .as_ref()
            .is_some_and(|tools| !tools.calls.is_idle())
    }

    /// Nothing is left to happen.
    pub(super) fn done(&mut self) {
        let conns: Vec<ConnId> = self.exchanges.drain(..).filter_map(|e| e.conn()).collect();
        self.out
            .actions
            .extend(conns.into_iter().map(Action::Close));
        self.out.actions.push_back(Action::Done);
        self.leave();
        self.flow = Flow::Over;
    }
}
