//! What the adapters of [`aibridge_core`] share: everything but the calls to their runtime.
//!
//! Every client connection is one task, which owns a [`Session`](aibridge_core::Session) and its
//! sockets, and goes round one loop: do what the session wants done, answer what it asks, wait for
//! whichever socket or deadline is ready first. No channels, no tasks besides, no locks held while
//! waiting. What sessions share is one [`Bridge`](aibridge_core::Bridge) and one shelf of idle
//! sockets, behind one lock that is held for microseconds.
//!
//! An adapter is an implementation of [`Runtime`], a dozen functions of a line or two, and names of
//! its own for [`Server`] and [`Builder`]. `aibridge-tokio` and `aibridge-smol` are such; use one
//! of them, or write the one that you need.
//!
//! This crate knows bytes and time. What they mean is the core's business. It is no part of the
//! core, because it reads clocks, takes locks and draws keys for TLS.

mod arena;
mod builder;
mod clock;
mod connect;
mod connection;
mod driver;
mod identity;
mod race;
mod roots;
mod runtime;
mod server;
mod sessions;
mod shared;
mod stream;
mod timer;
mod tls;

pub use builder::{BuildError, Builder};
pub use identity::{Identity, InvalidIdentity};
pub use roots::{InvalidPem, Roots};
pub use runtime::Runtime;
pub use server::Server;
pub use shared::Sink;
