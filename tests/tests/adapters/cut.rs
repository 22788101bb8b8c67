//! A reply that is cut must not look complete.

use std::io::{self, Read, Write};

use aibridge_testkit::{
    Reply, Script,
    setup::{self, KEYS},
    sockets::Server,
};

use crate::Gateway;

#[test]
fn an_http_1_0_client_sees_that_its_reply_was_cut() {
    let whole =
        Reply::sse(r#"{"data":[{"id":"a"},{"id":"b"}]"#).header("content-type", "application/json");
    let reply = whole.clone().end_at(whole.bytes().len() - 5);
    let script = Script::in_order([reply]);
    let server = Server::start(&script).unwrap();
    let gateway = Gateway::start(setup::config_at(&server.target(), &KEYS[..1]));
    let mut client = std::net::TcpStream::connect(gateway.addr()).unwrap();
    client
        .write_all(b"GET /openai/v1/models HTTP/1.0\r\n\r\n")
        .unwrap();
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    script.verify();
}
