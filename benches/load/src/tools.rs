//! An MCP server beside the mock provider: ten tools, which no model here ever calls. A request
//! that they are offered with costs the bridge what it costs to look for a call that does not come.

use serde_json::{Value, json};

const TOOLS: usize = 10;

/// The whole reply to a JSON-RPC message.
pub fn answer(body: &[u8]) -> Vec<u8> {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let result = match message["method"].as_str().unwrap_or_default() {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "load", "version": "1"},
        }),
        "tools/list" => json!({"tools": (0..TOOLS).map(tool).collect::<Vec<_>>()}),
        method if method.starts_with("notifications/") => return http("202 Accepted", ""),
        _ => {
            let error = json!({"code": -32601, "message": "method not found"});
            let reply = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
            return http("200 OK", &reply.to_string());
        }
    };
    let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    http("200 OK", &reply.to_string())
}

fn tool(number: usize) -> Value {
    json!({
        "name": format!("tool_{number}"),
        "description": "Does what a tool of an organisation does, in a sentence or two. Give it a path, and how much of it.",
        "inputSchema": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
            "required": ["path"],
            "additionalProperties": false,
        },
    })
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
