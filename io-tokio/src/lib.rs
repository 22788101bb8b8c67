//! Runs [`aibridge_core`] on tokio: sockets, TLS, timers, and nothing else.
//!
//! Every client connection is one task, which owns a [`Session`](aibridge_core::Session) and its sockets, and goes round
//! one loop: do what the session wants done, answer what it asks, wait for whichever socket or deadline is ready first. No
//! channels, no tasks besides, no locks held while waiting. What sessions share is one [`Bridge`](aibridge_core::Bridge) and one shelf of
//! idle sockets, behind one lock that is held for microseconds.
//!
//! This crate knows bytes and time. What they mean is the core's business.
//!
//! ```no_run
//! use std::sync::Arc;
//! use aibridge_core::{Target, api::Vendor, config::{Config, Provider}};
//! use aibridge_tokio::Server;
//! use tokio::net::TcpListener;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target { host: "api.anthropic.com".into(), port: 443, tls: true };
//! let provider = Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(["key-one", "key-two"]);
//! let config = Config { providers: vec![Arc::new(provider)], ..Config::default() };
//!
//! let server = Server::builder(config).seed(42).build()?;
//! server.serve(TcpListener::bind("127.0.0.1:8787").await?).await;
//! # Ok(()) }
//! ```

mod arena;
mod builder;
mod clock;
mod connect;
mod driver;
mod identity;
mod server;
mod shared;
mod socket;
mod stream;
mod timer;
mod tls;

pub use builder::{BuildError, Builder};
pub use identity::{Identity, InvalidIdentity};
pub use server::Server;
pub use shared::Sink;
pub use tls::Roots;
