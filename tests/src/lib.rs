//! What aibridge is tested with, and what is built on it can be tested with.
//!
//! A test writes a [`Script`], what the upstream will reply, and an [`Ask`], what a client sends;
//! plays the two through one of these drivers; and looks at the [`Answer`], the [`Records`] and the
//! calls that the upstream saw.
//!
//! | driver | exercises | time |
//! |---|---|---|
//! | [`Drive`] | an `Interception`, at the level of messages | virtual |
//! | [`Sim`] | `Session`s and a `Bridge`, at the level of bytes | virtual |
//! | [`World`] | several of these at random: clients, bridges, providers with rate limits, MCP servers, faults | virtual |
//! | [`sockets`] | an adapter, on real sockets | real, without sleeps |
//!
//! A [`Policy`](aibridge_core::keypool::Policy) of your own is tested with [`laws::check_policy`].
//!
//! [`Fixture`]s are whole conversations to do it with, read from `fixtures/`.

pub mod answer;
mod ask;
mod builtin;
mod drive;
pub mod fixture;
pub mod grammar;
pub mod history;
pub mod laws;
pub mod model;
mod obedient;
mod peer;
pub mod plan;
mod records;
mod reply;
mod script;
pub mod setup;
mod sim;
pub mod sockets;
pub mod strategies;
mod streamed;
pub mod tool_server;
pub mod txtar;
pub mod world;

pub use answer::Answer;
pub use ask::{APIS, Ask, path};
pub use builtin::sdk;
pub use drive::{Drive, Outcome};
pub use fixture::Fixture;
pub use model::Turn;
pub use peer::Peer;
pub use records::Records;
pub use reply::{Cut, Reply, Step};
pub use script::{Connect, Host, Script, Seen, Upstream};
pub use sim::{ClientId, Sim, key_states};
pub use streamed::streamed;
pub use tool_server::{Ran, ToolServer, tool_server, tool_turn, tools_origin, with_tools};
pub use world::World;
