//! An MCP server that tests and drivers call: a script that speaks the protocol and runs what it is
//! given.
//!
//! ```
//! use aibridge_testkit::{Ran, tool_server};
//!
//! let script = tool_server(&["add"], |tool, arguments| {
//!     let sum = arguments["a"].as_i64().unwrap() + arguments["b"].as_i64().unwrap();
//!     Ran::Text(format!("{tool}: {sum}"))
//! });
//! # script.abandon();
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use aibridge_core::{
    Duration, Target,
    api::Api,
    config::Config,
    mcp::{self, Failure, Tool, ToolResult},
};
use http::Method;
use serde_json::{Value, json};

use crate::{Fixture, Reply, Script, Seen};

/// What a tool does.
#[derive(Clone, Debug)]
pub enum Ran {
    /// The JSON-RPC error with this code and message.
    Error(i64, &'static str),
    /// This result, so much later.
    Late(Duration, Value),
    /// The server replies with this instead: a status, silence, a reset.
    Reply(Box<Reply>),
    /// This result, as MCP writes it.
    Result(Value),
    /// A result of one text.
    Text(String),
}

impl Ran {
    /// As a result, where it is one.
    fn result(self) -> Result<Value, Self> {
        match self {
            Self::Text(text) => Ok(json!({"content": [{"type": "text", "text": text}]})),
            Self::Late(_, result) | Self::Result(result) => Ok(result),
            other => Err(other),
        }
    }
}

/// The origin of the MCP server in the simulator.
pub fn tools_origin() -> Target {
    Target {
        host: "tools.test".into(),
        port: 80,
        tls: false,
    }
}

/// The same configuration with the MCP server `desk` at this origin.
#[must_use]
pub fn with_tools(mut config: Config, target: &Target) -> Config {
    let server = mcp::Server::new("desk", target.clone(), "/mcp");
    config.mcp.push(Arc::new(server));
    config
}

/// A server with these tools, of which each takes any object; `run` is what they do. It speaks the
/// revisions with a handshake and gives out sessions.
pub fn tool_server(
    tools: &[&str],
    run: impl FnMut(&str, &Value) -> Ran + Send + 'static,
) -> Script {
    let server = ToolServer::new(tools);
    let run = Mutex::new(run);
    Script::choosing(move |seen| {
        let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
        server.answer(seen, &mut *run)
    })
}

/// What an MCP server of [`tool_server`]'s kind replies to each request, for scripts that want it
/// otherwise now and then.
#[derive(Clone, Debug)]
pub struct ToolServer {
    /// The session that it gives out. It forgets all others.
    pub session: String,
    /// What it replies to requests in a session that it has forgotten: 404, by the specification.
    pub forgotten: u16,
    /// The code of the JSON-RPC error in that reply; none: a body without one.
    pub forgotten_code: Option<i64>,
    /// Its tools, as MCP writes them.
    pub tools: Vec<Value>,
    /// How many of them it lists at a time.
    pub page: usize,
}

impl ToolServer {
    /// A server with these tools, of which each takes any object.
    pub fn new(tools: &[&str]) -> Self {
        Self {
            session: "desk-session-1".to_owned(),
            forgotten: 404,
            forgotten_code: None,
            tools: tools.iter().copied().map(described).collect(),
            page: usize::MAX,
        }
    }

    /// The reply to a request; `run` is what the tools do.
    pub fn answer(&self, seen: &Seen, mut run: impl FnMut(&str, &Value) -> Ran) -> Reply {
        let message: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let method = message["method"].as_str().unwrap_or_default();
        let session = seen.header("mcp-session-id");
        if !session.is_empty() && session != self.session {
            return self.refuse(&message["id"]);
        }
        if seen.method == Method::DELETE {
            return Reply::json(200, "{}");
        }
        if seen.method != Method::POST {
            return Reply::json(405, "{}");
        }
        let (id, params) = (&message["id"], &message["params"]);
        let mut delay = Duration::ZERO;
        let result = match method {
            "initialize" => json!({
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {"listChanged": true}},
                "serverInfo": {"name": "desk", "version": "1"},
            }),
            "ping" => json!({}),
            "tools/list" => self.list(&params["cursor"]),
            "tools/call" => {
                let tool = params["name"].as_str().unwrap_or_default();
                let ran = run(tool, &params["arguments"]);
                if let Ran::Late(by, _) = &ran {
                    delay = *by;
                }
                match ran.result() {
                    Ok(result) => result,
                    Err(Ran::Reply(reply)) => return *reply,
                    Err(Ran::Error(code, text)) => return error(id, code, text),
                    Err(Ran::Late(..) | Ran::Result(_) | Ran::Text(_)) => json!({}),
                }
            }
            method if method.starts_with("notifications/") => return Reply::json(202, ""),
            _ => return error(id, -32601, "method not found"),
        };
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
        Reply::json(200, body.to_string())
            .header("mcp-session-id", &self.session)
            .after(delay)
    }

    /// The reply in a session that is forgotten.
    fn refuse(&self, id: &Value) -> Reply {
        let body = self.forgotten_code.map_or_else(
            || json!({}),
            |code| json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": "no"}}),
        );
        Reply::json(self.forgotten, body.to_string())
    }

    fn list(&self, cursor: &Value) -> Value {
        let from: usize = cursor.as_str().map_or(0, |at| at.parse().unwrap_or(0));
        let to = from.saturating_add(self.page).min(self.tools.len());
        let mut result = json!({"tools": self.tools.get(from..to)});
        if to < self.tools.len() {
            result["nextCursor"] = json!(to.to_string());
        }
        result
    }
}

/// A tool as [`tool_server`] describes it.
pub fn described(name: &str) -> Value {
    json!({
        "name": name,
        "description": format!("What {name} does"),
        "inputSchema": {"type": "object", "properties": {}, "additionalProperties": true},
    })
}

/// The fixture in which the model calls a tool of the client's, but that it calls this one.
///
/// # Panics
/// The fixture is not there.
pub fn tool_turn(api: Api, streaming: bool, name: &str) -> Reply {
    let folder = match api {
        Api::ChatCompletions => "chat",
        Api::Messages => "messages",
        Api::Responses => "responses",
    };
    let fixture = Fixture::named(&format!("{folder}/client_tool_call"));
    let body = fixture.body(streaming);
    let body = str::from_utf8(&body).expect("a fixture is text");
    let body = body.replace("get_weather", name);
    if streaming {
        Reply::sse(body)
    } else {
        Reply::json(200, body)
    }
}

/// The same tools, for a driver without connections.
pub fn listed(tools: &[&str]) -> Arc<[Arc<Tool>]> {
    let tool = |name: &&str| {
        let description = format!("What {name} does");
        let schema = described(name)["inputSchema"].to_string();
        Arc::new(Tool::new(name, &description, schema.into()))
    };
    tools.iter().map(tool).collect()
}

/// What a call comes to where there are no connections; `None` if it never ends.
pub(crate) fn returned(ran: Ran) -> Option<Result<ToolResult, Failure>> {
    match ran.result() {
        Ok(result) => Some(ToolResult::read(result.to_string().into(), 1 << 20)),
        Err(Ran::Error(code, message)) => Some(Err(Failure::Error(code, message.to_owned()))),
        Err(_) => None,
    }
}

fn error(id: &Value, code: i64, message: &str) -> Reply {
    let error = json!({"code": code, "message": message});
    let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
    Reply::json(200, body.to_string())
}
