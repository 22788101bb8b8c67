//! Runs [`aibridge_core`](https://docs.rs/aibridge-core) on smol: sockets and timers, and nothing else.
//!
//! A [`Server`] runs on smol's global executor, or on an executor of your own ([`Smol::on`]), on as many threads as that has; every
//! connection is one task. All that is not smol's is in [`aibridge_io`]. `examples/serve.rs` is a whole program.
//!
//! ```no_run
//! use std::{net::TcpListener, sync::Arc};
//! use aibridge_core::{Target, api::Vendor, config::{Config, Provider}};
//! use aibridge_smol::Server;
//! use smol::Async;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target { host: "api.anthropic.com".into(), port: 443, tls: true };
//! let provider = Provider::new("anthropic", Vendor::Anthropic, target, "").with_keys(["key-one", "key-two"]);
//! let config = Config { providers: vec![Arc::new(provider)], ..Config::default() };
//!
//! let server = Server::builder(config).seed(42).build()?;
//! smol::block_on(async {
//!     server.serve(Async::<TcpListener>::bind(([127, 0, 0, 1], 8787))?).await;
//!     Ok(())
//! })
//! # }
//! ```

mod runtime;

pub use aibridge_io::{BuildError, Identity, InvalidIdentity, Roots, Sink};
pub use runtime::Smol;

/// A bridge that serves clients, on smol.
pub type Server = aibridge_io::Server<Smol>;

/// Puts a [`Server`] together. Begins with [`Server::builder`].
pub type Builder = aibridge_io::Builder<Smol>;
