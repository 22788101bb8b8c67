//! Runs [`aibridge_core`](https://docs.rs/aibridge-core) on tokio: sockets and timers, and nothing
//! else.
//!
//! A [`Server`] runs in the tokio runtime it is used in, on any number of threads; every connection
//! is one task. All that is not tokio's is in [`aibridge_io`].
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
//! let server = Server::builder(config).build()?;
//! server.serve(TcpListener::bind("127.0.0.1:8787").await?).await;
//! # Ok(()) }
//! ```

mod runtime;

pub use aibridge_io::{BuildError, Identity, InvalidIdentity, InvalidPem, Roots, Sink};
pub use runtime::Tokio;

/// A bridge that serves clients, on tokio.
pub type Server = aibridge_io::Server<Tokio>;

/// Puts a [`Server`] together. Begins with [`Server::builder`].
pub type Builder = aibridge_io::Builder<Tokio>;
