//! What only real sockets can show, on tokio.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapters;
mod gateway;

use std::{sync::Arc, thread};

use aibridge_core::api::Api;
use aibridge_testkit::{
    Ask, setup,
    sockets::{self, Client},
    with_tools,
};
use aibridge_tokio::Tokio as Runtime;

use gateway::Adapter;

type Bridge = aibridge_io::Server<Runtime>;
type Gateway = gateway::Gateway<Runtime>;

/// Tokio panics then: that is the caller's mistake, and it can be made good.
#[test]
fn a_server_that_was_used_outside_of_the_runtime_can_be_used_in_it() {
    let upstream = sockets::refusing().unwrap();
    let config = with_tools(setup::config_at(&upstream, &setup::KEYS[..1]), &upstream);
    let server = Arc::new(Bridge::builder(config).build().unwrap());
    let host = Runtime::host();
    let (listener, addr) = Runtime::listen(&host);
    let _misused = Client::connect(addr).unwrap();
    let (stream, _) = Runtime::block_on(&host, listener.accept()).unwrap();
    let outside = Arc::clone(&server);
    let outcome = thread::spawn(move || outside.serve_connection(stream)).join();
    assert!(outcome.is_err(), "it runs nowhere");

    let addr = gateway::serve(&host, &server);
    let mut client = Client::connect(addr).unwrap();
    let answer = client.ask(&Ask::new(Api::Messages, false)).unwrap();
    assert_eq!(answer.status, 502, "nobody is there to answer");
    assert_eq!(server.connections(), 2, "the client and the tool server");
}
