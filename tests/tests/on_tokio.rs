//! What only real sockets can show, on tokio.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod gateway;

use aibridge_tokio::Tokio as Runtime;

type Bridge = aibridge_io::Server<Runtime>;
type Gateway = gateway::Gateway<Runtime>;
