//! An MCP server of a world: it runs one tool, and things go wrong with that.

use aibridge_core::{Duration, Target};
use serde_json::json;

use super::blips::Blips;
use crate::{
    Connect, Host, Ran, Reply, Seen, ToolServer,
    plan::{Blip, ToolPlan},
};

/// An MCP server.
#[derive(Debug)]
pub(super) struct Tools {
    plan: ToolPlan,
    server: ToolServer,
    blips: Blips,
    errands: Blips,
}

impl Tools {
    pub(super) fn new(plan: &ToolPlan) -> Self {
        Self {
            plan: plan.clone(),
            server: ToolServer::new(&["look"]),
            blips: Blips::new(&plan.blips),
            errands: Blips::new(&plan.errands),
        }
    }

    /// Where the MCP server of this number is.
    pub(super) fn target(index: usize) -> Target {
        Target {
            host: format!("t{index}.test").into(),
            port: 80,
            tls: false,
        }
    }

    fn usual(&self, seen: &Seen) -> Reply {
        let (latency, fails) = (self.plan.latency, self.plan.fails);
        let content = json!({"content": [{"type": "text", "text": "a river"}]});
        self.server.answer(seen, |_, _| {
            if fails {
                return Ran::Reply(Box::new(Reply::status(500).after(latency)));
            }
            Ran::Late(latency, content.clone())
        })
    }
}

impl Host for Tools {
    fn dial(&mut self, number: u64) -> (Connect, Duration) {
        let dialled = self.blips.dial(number, Duration::ZERO);
        match dialled.0 {
            Connect::Accept(_) => self.errands.dial(number, Duration::ZERO),
            _ => dialled,
        }
    }

    fn call(&mut self, seen: &Seen) -> Reply {
        let is_call = memchr::memmem::find(&seen.body, b"\"tools/call\"").is_some();
        let (blips, latency) = if is_call {
            (&mut self.blips, self.plan.latency)
        } else {
            (&mut self.errands, Duration::ZERO)
        };
        let blip = blips.next_call();
        let reply = blip.and_then(Blip::instead);
        let reply = reply.unwrap_or_else(|| self.usual(seen));
        let reply = reply.cut(self.plan.cut.clone());
        match blip {
            Some(blip) => blip.spoil(reply, latency),
            None => reply,
        }
    }
}
