//! A session's questions and their answers.

use std::sync::Arc;

use crate::{
    config::Config,
    id::ConnId,
    interception,
    mcp::{KeeperEvent, News, Terms},
    record::ToolServer,
    target::Target,
    time::Duration,
};

/// A question to the [`Bridge`](crate::Bridge), answered at once.
#[derive(Clone, Debug)]
pub enum Query {
    /// May a request begin?
    Admit,
    /// A connection to this origin.
    Connect {
        /// The origin.
        target: Target,
        /// Only a new one will do: a parked one has just turned out to be dead.
        fresh: bool,
    },
    /// An interception's own question.
    Interception(interception::Query),
    /// What calls have to say to the keeper of this MCP server since it asked last.
    Keep(Arc<str>),
    /// What the keeper of this MCP server has found out.
    News(Arc<str>, News),
    /// Something for the keeper of this MCP server.
    Tell(Arc<str>, KeeperEvent),
    /// On which terms this MCP server is spoken to.
    Terms(Arc<str>),
}

/// The answer to a [`Query`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// It may, under this configuration; or not.
    Admit(Result<Arc<Config>, Refused>),
    /// Use this connection: parked before (`Unpark` it), or new (`Open` it).
    Connect {
        /// The connection.
        conn: ConnId,
        /// Whether it is on the shelf.
        parked: bool,
    },
    /// To the interception.
    Interception(interception::Answer),
    /// For the keeper, in order.
    Keep(Vec<KeeperEvent>),
    /// It is known now; of news, what there is to record.
    Told(Option<ToolServer>),
    /// None while the server cannot be used.
    Terms(Option<Terms>),
}

/// Why nothing new is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The bridge is shutting down. Come back after this long.
    Draining(Duration),
    /// What a request does could not be recorded. Come back after this long.
    Unrecorded(Duration),
}
