//! What a session was told and what it did, written down, and run again.
//!
//! A [`Session`](crate::Session) is a pure function of what it is told: bytes, ends and failures of
//! connections, the time, and the answers to its questions. A trace is all of that for one client
//! connection, in JSON Lines, with a hash of everything that the session did. [`replay`] gives it
//! to a fresh session and compares: with the same code the two are the same to the bit, and with
//! other code it says where they first differ.
//!
//! | line | says |
//! |---|---|
//! | `{"trace":…}` | the first: version, time, seed and configuration that the session began with |
//! | `{"in":[nanoseconds since the start, …]}` | what the session was told |
//! | `{"do":…}`, `{"ask":…}` | what it did or asked: in words, its length, its hash |
//! | `{"wait":…}` | it has nothing more to do until then, and wants these connections read |
//! | `{"unsure":…}` | from here on contents are not compared, for this reason; lengths are |
//! | `{"end":…}` | the last: how many lines of each kind there are |
//!
//! # Recording
//!
//! [`Watched`] stands around a session and tells an [`Observer`] each [`Step`]; a [`Recorder`]
//! makes lines of steps. The two may be on different threads. Without an observer, a step costs one
//! branch.
//!
//! # Secrets
//!
//! A trace has no secret in it. Each is replaced by a placeholder that is the same throughout the
//! trace, as long as the secret, and keeps only what a [hint](crate::Secret::hint) shows of it; so
//! lengths and records stay as they were, and the hashes are those of outputs with placeholders in
//! them. Secrets are: keys and fields of the configuration; the values of credential fields and of
//! telling parameters in the heads of requests; cookies and MCP session ids in those of responses.
//! What is known as a secret is then replaced wherever else it appears, also where it is cut in
//! two: input is held back until that is decided. Secrets of fewer than eight bytes, or that are
//! mere words, are replaced in their own places only, and nothing is looked for in what is
//! compressed. A client whose key is a word that its requests are made of spoils its own trace:
//! that is then not replayed as it was.
//!
//! Where an upstream repeats a secret in what it sends, the session may have passed it on in any
//! pieces. From there on contents are not compared.
//!
//! A trace does contain what people and models said to each other.
//!
//! # Limits
//!
//! Sessions that keep MCP servers are not recorded, nor are policies other than
//! [`Failover`](crate::keypool::Failover): a trace of a provider with another one is written, and
//! says so when it is replayed.

mod answer;
mod config;
mod heads;
mod line;
mod output;
mod recorder;
mod replay;
mod secrets;
mod stream;
#[cfg(test)]
mod tests;
mod watched;

pub use recorder::Recorder;
pub use replay::{Difference, Ending, Summary, Trouble, replay};
pub use watched::{Observer, Opening, Step, Tracer, Watched};

/// The version of the format. A trace of another one is not replayed. It changes whenever a line
/// can say something that the version before could not read, a new field of the configuration
/// included; not where a session does something else.
pub const VERSION: u32 = 1;
