//! The binary run as its users run it: killed, reloaded, out of disk or descriptors, behind TLS,
//! and looked at closely.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bridge;
mod crash;
mod defects;
mod descriptors;
mod log;
mod reload;
mod secrets;
mod signals;
mod tls;
mod traces;
mod trouble;
