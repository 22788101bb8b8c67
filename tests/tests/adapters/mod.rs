//! What only real sockets can show, of any adapter.
//!
//! A test crate for each adapter has these suites, and names the adapter: what they share is
//! written once, and each test says on which it fails.

mod committed;
mod connections;
mod contained;
mod cut;
mod faults;
mod sockets;
mod tls;
