//! A session's questions and their answers.

use std::sync::Arc;

use super::{Endpoint, Ticket};
use crate::{
    config::{Config, Provider},
    id::ConnId,
    interception,
    mcp::{self, KeeperEvent, News, Terms},
    record::ToolServer,
    target::Target,
    time::Duration,
};

/// A question to the [`Bridge`](crate::Bridge), answered at once.
#[derive(Clone, Debug)]
pub enum Query {
    /// May a request begin? It holds so many bytes of memory to begin with.
    Admit {
        /// Bytes reserved for its body.
        bytes: u64,
    },
    /// A connection to this origin.
    Connect {
        /// The origin.
        target: Target,
        /// Only a new one will do: a parked one has just turned out to be dead; or it is for an MCP
        /// server, where what is lost with a dead connection may have run and is not sent again.
        fresh: bool,
    },
    /// May an admitted request go on, now that it is known what it is? Asked where there is a limit
    /// to it.
    Enter {
        /// The request.
        ticket: Ticket,
        /// Who asks, where that one is limited.
        client: Option<Arc<str>>,
        /// What is asked of which provider, where that one has a breaker.
        circuit: Option<(Arc<Provider>, Endpoint)>,
    },
    /// May it hold so many bytes in all?
    Hold {
        /// The request.
        ticket: Ticket,
        /// Bytes, those granted before included.
        bytes: u64,
    },
    /// A request holds so many bytes now, in place of what was counted of it before. They are
    /// counted whatever there is already: a request that runs is not turned away.
    Held {
        /// The request.
        ticket: Ticket,
        /// Bytes.
        bytes: u64,
    },
    /// An interception's own question.
    Interception(interception::Query),
    /// What upstream answered to a request that entered through a breaker.
    Judged {
        /// The request.
        ticket: Ticket,
        /// The status.
        status: u16,
    },
    /// What calls have to say to the keeper of this MCP server since it asked last.
    Keep(Arc<mcp::Server>),
    /// What the keeper of this MCP server has found out.
    News(Arc<mcp::Server>, News),
    /// The request is over.
    Release(Ticket),
    /// Something for the keeper of this MCP server.
    Tell(Arc<mcp::Server>, KeeperEvent),
    /// On which terms this MCP server is spoken to.
    Terms(Arc<mcp::Server>),
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// It may, under this configuration and as this ticket; or not.
    Admit(Result<(Arc<Config>, Ticket), Refused>),
    /// Use this connection: parked before (`Unpark` it), or new (`Open` it).
    Connect {
        /// The connection.
        conn: ConnId,
        /// Whether it is on the shelf.
        parked: bool,
    },
    /// To `Enter` and `Hold`: it may, or not.
    Granted(Result<(), Refused>),
    /// To the interception.
    Interception(interception::Answer),
    /// For the keeper, in order.
    Keep(Vec<KeeperEvent>),
    /// It is known now; of MCP servers' news, what there is to record.
    Told(Option<ToolServer>),
    /// None while the server cannot be used.
    Terms(Option<Terms>),
}

/// Why a request is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// There are as many connections, or as many bytes held, as there may be. Come back after this
    /// long.
    Busy(Duration),
    /// The client has as many requests running as it may have. Come back after this long.
    ClientBusy {
        /// How many.
        limit: u32,
        /// When.
        retry_after: Duration,
    },
    /// The client has begun as many requests in the last minute as it may. Come back after this
    /// long.
    ClientTooFast {
        /// How many.
        limit: u32,
        /// When.
        retry_after: Duration,
    },
    /// The bridge is shutting down. Come back after this long.
    Draining(Duration),
    /// The provider has been failing, and is left alone. Come back after this long.
    Failing(Duration),
    /// What a request does could not be recorded. Come back after this long.
    Unrecorded(Duration),
}

impl Refused {
    /// Every reason there is, as [`as_str`](Self::as_str) has it.
    pub const REASONS: [&'static str; 6] = [
        "busy",
        "client_in_flight",
        "client_rate",
        "draining",
        "circuit_open",
        "unrecorded",
    ];

    /// The reason in a word, for counting.
    pub const fn as_str(&self) -> &'static str {
        let [
            busy,
            client_in_flight,
            client_rate,
            draining,
            circuit_open,
            unrecorded,
        ] = Self::REASONS;
        match self {
            Self::Busy(_) => busy,
            Self::ClientBusy { .. } => client_in_flight,
            Self::ClientTooFast { .. } => client_rate,
            Self::Draining(_) => draining,
            Self::Failing(_) => circuit_open,
            Self::Unrecorded(_) => unrecorded,
        }
    }
}
