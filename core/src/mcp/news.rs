//! What a keeper is told, and what it tells.

use std::sync::Arc;

use super::{
    failure::Failure,
    list::{Refused, Tool},
    outbox::{ExchangeId, Input},
    terms::Terms,
};
use crate::time::{Duration, Instant};

/// How a keeper paces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeeperSettings {
    /// How long each request may take.
    pub timeout: Duration,
    /// The first wait before a server that is down is tried again; each further one is twice as
    /// long.
    pub backoff: Duration,
    /// The longest of these waits.
    pub max_backoff: Duration,
    /// How often the tools are listed anew though nothing was said of a change; zero: never. It is
    /// also what finds out that a silent server has gone.
    pub refresh: Duration,
    /// How long a session that no call begins in any more is left alone before it is deleted:
    /// longer than any call takes.
    pub retire: Duration,
}

impl Default for KeeperSettings {
    /// 10 s; from 1 s to 60 s; every five minutes; after two minutes.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            refresh: Duration::from_secs(300),
            retire: Duration::from_secs(120),
        }
    }
}

/// What happens to a keeper.
#[derive(Clone, Debug)]
pub enum KeeperEvent {
    /// Something happened to an exchange of its.
    Exchange(ExchangeId, Input),
    /// A call saw the server mention that its tools changed, or failed as if the server or the tool
    /// were gone: look again.
    Recheck,
    /// A call has renewed the session.
    Renewed {
        /// What the call began with.
        stale: Terms,
        /// What it went on with.
        fresh: Terms,
    },
    /// Take leave.
    Shutdown,
}

/// What a keeper has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The server cannot be used.
    Down {
        /// Why.
        why: Failure,
        /// When it is tried again.
        retry_at: Instant,
    },
    /// The server's tools, when first known and whenever they change.
    Tools {
        /// In the server's order.
        tools: Arc<[Arc<Tool>]>,
        /// Those that it listed and that cannot be offered.
        refused: Vec<Refused>,
    },
    /// The server can be used, on these terms. The tools come before it.
    Up(Terms),
}
