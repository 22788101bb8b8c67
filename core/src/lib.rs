//! The sans-IO, deterministic heart of aibridge: a bridge between AI clients and AI providers.
//!
//! Nothing here opens a socket, reads a clock, draws a random number or waits. Time, bytes and
//! failures come in as values; bytes to send, calls to make, records to keep and deadlines to wake
//! at go out as values. The same inputs give the same outputs, on every machine.
//!
//! # Two levels to drive it on
//!
//! | | knows | you bring |
//! |---|---|---|
//! | [`Interception`] | one client request, as HTTP messages | an HTTP server and client |
//! | [`Session`] | one client connection, as bytes | a way to move bytes, and a timer |
//!
//! Beside either stands one [`Bridge`], which holds what they share: the configuration in force,
//! key pools, idle upstream connections, the tools of MCP servers, circuit breakers, and what is
//! counted to admit requests. It is never touched from within: they ask, and are answered at once.
//! Limits (per client, per body, in all) and circuit breakers are enforced by a [`Session`];
//! whoever drives an [`Interception`] directly enforces their own.
//!
//! # The contract
//!
//! After making one, and after every `handle*`:
//!
//! 1. take every `poll_action` and do it;
//! 2. answer one `poll_query` with `handle_answer`, if there is one, and begin again;
//! 3. when neither has anything, look at `poll_timeout` (and, of a session, `wants_read` for each
//!    connection);
//! 4. wait for one thing, tell it, repeat.
//!
//! A session comes from [`Bridge::connected`]. When it is over, or is dropped as it is, tell
//! [`Bridge::disconnected`]: what it holds of limits is free only then. After each call to the
//! bridge, close the idle connections that [`Bridge::poll_close`] names, and call
//! [`Bridge::handle_timeout`] when [`Bridge::poll_timeout`] says. Where MCP servers are configured,
//! run the sessions of [`Bridge::keepers`] too, at the start and after each reload.
//!
//! Answering queries first gives right results too, but then a connection that has just become free
//! is not reused at once.
//!
//! `handle*` cannot fail: what a peer does wrong becomes actions and a record. News of a connection
//! or a call that is over is normal, and ignored. `now` never decreases. `handle_timeout` may be
//! called at any time.
//!
//! # A failover
//!
//! Without any socket, one key rate-limited and the next good:
//!
//! ```
//! # use std::sync::Arc;
//! # use aibridge_core::{Bridge, Instant, Interception, InterceptionId, Rng, Target, api::Vendor};
//! # use aibridge_core::{config::{Config, Provider}, interception::{Action, Event}};
//! # use bytes::Bytes;
//! # use http::{HeaderMap, Request, StatusCode};
//! let target = Target { host: "api.example".into(), port: 443, tls: true };
//! let provider = Provider::new("anthropic", Vendor::Anthropic, target, "")
//!     .with_keys(["key-one", "key-two"]);
//! let config = Arc::new(Config { providers: vec![Arc::new(provider)], ..Config::default() });
//! let mut bridge = Bridge::new(Arc::clone(&config), 1).unwrap();
//!
//! let now = Instant::from_secs(1);
//! let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
//! let request = Request::post("/anthropic/v1/messages").body(Bytes::from(body)).unwrap();
//! let id = InterceptionId::draw(&mut Rng::new(1));
//! let mut interception = Interception::new(now, &config, id, request);
//!
//! let mut upstream = [StatusCode::TOO_MANY_REQUESTS, StatusCode::OK].into_iter();
//! let (mut keys, mut replied) = (vec![], None);
//! while !interception.is_done() {
//!     while let Some(action) = interception.poll_action() {
//!         match action {
//!             Action::Call(call, request) => {
//!                 keys.push(request.credential.1.to_str().unwrap().to_owned());
//!                 let status = upstream.next().unwrap();
//!                 interception.handle(now, Event::UpstreamHead(call, status, HeaderMap::new()));
//!                 interception.handle(now, Event::UpstreamEnd(call));
//!             }
//!             Action::ReplyHead(reply) => replied = Some(reply.status),
//!             _ => {}
//!         }
//!     }
//!     if let Some(query) = interception.poll_query() {
//!         interception.handle_answer(now, bridge.answer_interception(now, query));
//!     }
//! }
//! assert_eq!(keys, ["key-one", "key-two"]);
//! assert_eq!(replied, Some(StatusCode::OK));
//! ```
//!
//! [`Session`] has an example of its own in its documentation; the folder `examples` has one over
//! `std::net` and threads, and one within hyper. `aibridge-tokio` is the adapter that the shipped
//! server uses.
//!
//! # What is below
//!
//! [`keypool`] with the [`Policy`](keypool::Policy) trait that decides a key's fate; [`api`], what
//! the three provider APIs look like; [`mcp`], a client of MCP servers; [`proxy`], outbound HTTP
//! proxies; and the codecs: [`http1`], [`sse`] and [`json`]. Plain values stand between:
//! [`config`] goes in once, a [`record`] comes out for keeping, and a [`secret`] cannot be printed.
//! Each layer uses only those below it. Beside all of it stands [`trace`]: what a session was told
//! and did, written down and run again.
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
pub mod proxy;
pub mod record;
mod rng;
pub mod secret;
pub mod session;
pub mod sse;
mod target;
mod time;
pub mod trace;

pub use bridge::Bridge;
pub use fault::Fault;
pub use frame::Frame;
pub use id::{CallId, ConnId, InterceptionId, ParseIdError};
pub use interception::Interception;
pub use rng::Rng;
pub use secret::Secret;
pub use session::Session;
pub use target::Target;
pub use time::{Duration, Instant};
