//! An MCP server for as long as it takes to have its tool on offer: what the server's keeper asks
//! is answered at once.

use std::collections::BTreeMap;

use aibridge_core::{
    Bridge, ConnId, Instant, Session,
    session::{Action, Event},
};
use bytes::{Buf, Bytes};
use serde_json::{Value, json};

/// More than a keeper asks before it has a list.
const STEPS: usize = 1000;

/// Has every server of the configuration offer the tool `look`.
pub(super) fn tools(bridge: &mut Bridge, now: Instant) {
    for mut keeper in bridge.keepers(now) {
        let mut sent: BTreeMap<ConnId, Vec<u8>> = BTreeMap::new();
        for _ in 0..STEPS {
            if let Some(action) = keeper.poll_action() {
                play(&mut keeper, now, action, &mut sent);
            } else if let Some(query) = keeper.poll_query() {
                let answer = bridge.answer(now, query);
                keeper.handle_answer(now, answer);
            }
        }
    }
    let servers = bridge.tool_servers();
    assert!(servers.iter().all(|server| server.offered.len() == 1));
}

fn play(keeper: &mut Session, now: Instant, action: Action, sent: &mut BTreeMap<ConnId, Vec<u8>>) {
    match action {
        Action::Open(conn, _) => keeper.handle(now, Event::Opened(conn)),
        Action::Send(conn, mut frame) => {
            let bytes = frame.copy_to_bytes(frame.remaining());
            keeper.handle(now, Event::Sent(conn, bytes.len()));
            let sent = sent.entry(conn).or_default();
            sent.extend_from_slice(&bytes);
            if let Some(reply) = reply(sent) {
                keeper.handle(now, Event::Received(conn, reply));
            }
        }
        _ => {}
    }
}

/// The reply to a request, once all of it is there.
fn reply(request: &[u8]) -> Option<Bytes> {
    let text = str::from_utf8(request).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if !head.starts_with("POST ") {
        return Some(http("405 No", ""));
    }
    let message: Value = serde_json::from_str(body).ok()?;
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "desk", "version": "1"},
        }),
        "tools/list" => json!({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]}),
        name if name.starts_with("notifications/") => return Some(http("202 Fine", "")),
        _ => return Some(http("404 No", "")),
    };
    let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    Some(http("200 OK", &reply.to_string()))
}

fn http(status: &str, body: &str) -> Bytes {
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
    )
    .into()
}
