//! The sans-IO, deterministic heart of aibridge.
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
pub mod record;
mod rng;
mod secret;
pub mod session;
pub mod sse;
mod target;
mod time;

pub use bridge::Bridge;
pub use fault::Fault;
pub use frame::Frame;
pub use id::{CallId, ConnId, InterceptionId};
pub use interception::Interception;
pub use rng::Rng;
pub use secret::Secret;
pub use session::Session;
pub use target::Target;
pub use time::{Duration, Instant};
