//! What is recorded and logged, with the binary run as its users run it: killed, out of disk, and looked at closely.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bridge;
mod crash;
mod log;
mod trouble;
