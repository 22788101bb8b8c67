//! Runs [`aibridge_core`](https://docs.rs/aibridge-core) on smol: sockets and timers, and nothing
//! else.
//!
//! A [`Server`]'s connections are tasks of smol's global executor, or of one that you
//! [bring](Smol::on). All that is not smol's is in [`aibridge_io`], so that what holds of one
//! adapter holds of the other.
//!
//! ```no_run
//! use std::{net::TcpListener, sync::Arc};
//! use aibridge_core::{Target, api::Vendor, config::{Config, Provider}};
//! use aibridge_smol::Server;
//! use smol::Async;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target { host: "api.anthropic.com".into(), port: 443, tls: true };
//! let provider = Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(["key-one", "key-two"]);
//! let config = Config { providers: vec![Arc::new(provider)], ..Config::default() };
//!
//! let server = Server::builder(config).build()?;
//! server.serve(Async::<TcpListener>::bind(([127, 0, 0, 1], 8787))?).await;
//! # Ok(()) }
//! ```

mod runtime;

pub use aibridge_io::{BuildError, Identity, InvalidIdentity, InvalidPem, Roots, Sink};
pub use runtime::Smol;

/// A bridge that serves clients, on smol.
pub type Server = aibridge_io::Server<Smol>;

/// Puts a [`Server`] together. Begins with [`Server::builder`].
pub type Builder = aibridge_io::Builder<Smol>;
