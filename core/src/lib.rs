//! The sans-IO, deterministic heart of aibridge: a bridge between AI clients and AI providers.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or waits. Time, bytes and failures come in as values; bytes to
//! send, calls to make, records to keep and deadlines to wake at go out as values. The same inputs give the same outputs, on
//! every machine.
//!
//! # Two levels to drive it on
//!
//! | | knows | you bring |
//! |---|---|---|
//! | [`Interception`] | one client request, as HTTP messages | an HTTP server and client |
//! | [`Session`] | one client connection, as bytes | a way to move bytes, and a timer |
//!
//! Beside either stands one [`Bridge`], which holds what they share: key pools and idle connections. It is never touched from
//! within: they ask, and are answered at once.
//!
//! # The contract
//!
//! After making one, and after every `handle*`:
//!
//! 1. take every `poll_action` and do it;
//! 2. answer one `poll_query` with `handle_answer`, if there is one, and begin again;
//! 3. when neither has anything, look at `poll_timeout` (and, of a session, `wants_read` for each connection);
//! 4. wait for one thing, tell it, repeat.
//!
//! `handle*` cannot fail: what a peer does wrong becomes actions and a record. News of a connection or a call that is
//! over is normal, and ignored. `now` never decreases. `handle_timeout` may be called at any time.
//!
//! [`Interception`] and [`Session`] each have an example in their documentation that runs as it stands; the folder `examples` has one
//! over `std::net` and threads, and one within hyper. `aibridge-tokio` is the adapter that the shipped server uses.
//!
//! # What is below
//!
//! [`keypool`] with the [`Policy`](keypool::Policy) trait that decides a key's fate; [`api`], what the three provider APIs look
//! like; and the codecs: [`http1`], [`sse`] and [`json`]. Each layer uses only those below it. Beside all of it stands [`trace`]: what a
//! session was told and did, written down and run again.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod api;
pub mod bridge;
pub mod codec;
pub mod config;
mod fault;
mod frame;
pub mod http1;
mod id;
pub mod interception;
pub mod json;
pub mod keypool;
pub mod mcp;
pub mod proxy;
pub mod record;
mod rng;
pub mod secret;
pub mod session;
pub mod sse;
mod target;
mod time;
pub mod trace;

pub use bridge::Bridge;
pub use fault::Fault;
pub use frame::Frame;
pub use id::{CallId, ConnId, InterceptionId, ParseIdError};
pub use interception::Interception;
pub use rng::Rng;
pub use secret::Secret;
pub use session::Session;
pub use target::Target;
pub use time::{Duration, Instant};
