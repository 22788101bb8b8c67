//! The client's side of the Model Context Protocol over streamable HTTP, and the catalog of tools
//! it finds.
//!
//! Spoken are the revisions 2025-03-26, 2025-06-18 and 2025-11-25, agreed on by `initialize`, and
//! 2026-07-28, which needs no agreement. Everything here is at the level of HTTP messages: whoever
//! owns connections sends a [`Request`], and tells what comes back as [`Input`]s under the
//! request's [`ExchangeId`].
//!
//! Two machines are driven from outside, and share one server by values:
//!
//! | machine | whose | does |
//! |---|---|---|
//! | [`Keeper`] | one for each server, in the background | finds out which revision is spoken, connects, lists the tools, listens for changes, tries again when the server is down, takes leave |
//! | [`Calls`] | one for each client connection | calls tools, many at once, and renews a session that the server has forgotten |
//!
//! ```text
//!            terms, tools                  terms, a tool
//!  Keeper ─────────────────▶  Registry  ─────────────────▶  Calls
//!         ◀─────────────────            ◀─────────────────
//!          renewed, recheck              renewed, list changed
//! ```
//!
//! [`Registry`] is what stands in the middle: what all keepers have found out, and the [`Catalog`]
//! made of it.
//!
//! Inside, an *exchange* is one JSON-RPC message of ours and all that it takes to have it answered:
//! its POST, the reply as JSON or as a stream, the GETs that resume a broken stream. What a server
//! asks of us meanwhile is answered (`ping`) or refused in errands of their own, which nobody waits
//! for.
//!
//! A request is sent once. If its connection fails after it was sent, a tool may have run, and is
//! not run again; only where the server says that it does not know the session is the call
//! repeated, in a new one.

mod call;
mod catalog;
mod content;
mod exchange;
mod failure;
mod handshake;
mod inbox;
mod keeper;
mod list;
mod listen;
mod mirror;
mod news;
mod outbox;
mod peer;
mod registry;
mod renewal;
mod result;
mod round;
mod rpc;
mod server;
mod terms;
#[cfg(test)]
mod tests;

pub use call::{CallEvent, CallLimits, Calls, ToolCallId};
pub use catalog::{Catalog, Clash, Entry, NameError, check_names};
pub use content::{Block, Content, Part};
pub use failure::Failure;
pub use keeper::Keeper;
pub use list::{Refused, Tool};
pub use news::{KeeperEvent, KeeperSettings, News};
pub use outbox::{Action, ExchangeId, Input, Request};
pub use registry::{KnownServer, Registry, ServerState};
pub use result::ToolResult;
pub use server::{BadPattern, Pattern, Server};
pub use terms::{Terms, Version};
