//! A server of any revision, with tools of every temper.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{Input, Request, Version};
use crate::fault::Fault;

/// Which clients it understands, and how it treats them.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one way in which servers differ"
)]
pub(super) struct Fake {
    /// The newest revision with a handshake that it speaks; none: only that without.
    pub(super) handshake: Option<Version>,
    /// Whether it speaks 2026-07-28.
    pub(super) stateless: bool,
    /// Whether it gives sessions.
    pub(super) sessions: bool,
    /// Whether it answers as a stream.
    pub(super) streams: bool,
    /// What a client of an unknown session is told.
    pub(super) lost: StatusCode,
    /// How it refuses what it does not know: status, and JSON-RPC code where there is one.
    pub(super) unknown: (StatusCode, Option<i64>),
    /// The tools, page by page.
    pub(super) pages: Vec<Vec<&'static str>>,
    /// Whether nobody is there.
    pub(super) down: bool,
    /// The reply to a GET without an event to go on from.
    pub(super) listening: StatusCode,
    /// Messages that it refuses by their methods, each with which status.
    pub(super) refused: Vec<(&'static str, StatusCode)>,
    /// Sessions begun.
    pub(super) begun: u32,
    /// The session that is known; none after it was lost.
    pub(super) session: Option<String>,
    /// Sessions that it was asked to delete.
    pub(super) deleted: Vec<String>,
    /// Method and, for messages, JSON-RPC method of each request.
    pub(super) seen: Vec<String>,
    /// Messages that were sent to it, whole.
    pub(super) bodies: Vec<Value>,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self {
            handshake: Some(Version::V20251125),
            stateless: false,
            sessions: true,
            streams: false,
            lost: StatusCode::NOT_FOUND,
            unknown: (StatusCode::BAD_REQUEST, Some(-32000)),
            pages: vec![vec!["echo"]],
            down: false,
            listening: StatusCode::METHOD_NOT_ALLOWED,
            refused: Vec::new(),
            begun: 0,
            session: None,
            deleted: Vec::new(),
            seen: Vec::new(),
            bodies: Vec::new(),
        }
    }

    pub(super) fn modern() -> Self {
        Self {
            handshake: None,
            stateless: true,
            sessions: false,
            ..Self::new()
        }
    }

    /// The server is started anew, and remembers nothing.
    pub(super) fn restart(&mut self) {
        self.session = None;
    }

    pub(super) fn reply(&mut self, request: &Request) -> Vec<Input> {
        assert_eq!(
            request.headers["authorization"],
            "Bearer mcp-token-0123456789"
        );
        if self.down {
            return vec![Input::Failed(Fault::Refused)];
        }
        let accept = request.headers["accept"].to_str().unwrap();
        let is_post = request.method == Method::POST;
        if is_post && !(accept.contains("application/json") && accept.contains("text/event-stream"))
        {
            return plain(StatusCode::NOT_ACCEPTABLE);
        }
        if !is_post {
            self.seen.push(request.method.to_string());
            return self.no_post(request);
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let method = body["method"].as_str().unwrap_or("answer").to_owned();
        self.seen.push(method.clone());
        self.bodies.push(body.clone());
        let field = |name: &str| request.headers.get(name).map(|v| v.to_str().unwrap());
        let version = field("mcp-protocol-version");
        if version == Some("2026-07-28") {
            return self.stateless(&method, &body, field("mcp-method"), field("mcp-name"));
        }
        assert_eq!(field("mcp-method"), None);
        if method == "initialize" {
            return self.initialize(&body);
        }
        if let Some(refusal) = self.session_refusal(&request.headers) {
            return refusal;
        }
        assert_eq!(version, self.handshake.map(Version::as_str));
        if let Some((_, status)) = self.refused.iter().find(|(it, _)| *it == method) {
            return error(*status, &body["id"], -32000, "not today");
        }
        self.message(&method, &body)
    }

    fn session_refusal(&self, headers: &HeaderMap) -> Option<Vec<Input>> {
        let session = headers.get("mcp-session-id").map(|v| v.to_str().unwrap());
        let is_known = session == self.session.as_deref() && (session.is_some() == self.sessions);
        (!is_known).then(|| error(self.lost, &json!(null), -32001, "Session not found"))
    }

    fn no_post(&mut self, request: &Request) -> Vec<Input> {
        if request.method == Method::DELETE {
            let session = &request.headers["mcp-session-id"];
            self.deleted.push(session.to_str().unwrap().to_owned());
        }
        if let Some(refusal) = self.session_refusal(&request.headers) {
            return refusal;
        }
        if request.method == Method::DELETE {
            self.session = None;
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        match request
            .headers
            .get("last-event-id")
            .map(HeaderValue::as_bytes)
        {
            None if self.listening == StatusCode::OK => vec![head("text/event-stream")],
            None => plain(self.listening),
            Some(b"first") => events(&format!("id: second\n{}", event(&json!({"method": "x"})))),
            Some(b"second") => {
                let id = &self.bodies.last().unwrap()["id"];
                let result = json!({"id": id, "result": text("resumed")});
                events(&format!("id: third\n{}", event(&result)))
            }
            Some(other) => panic!("{other:?}"),
        }
    }

    fn initialize(&mut self, body: &Value) -> Vec<Input> {
        assert_eq!(body["params"]["protocolVersion"], "2025-11-25");
        let Some(version) = self.handshake else {
            return error(StatusCode::BAD_REQUEST, &json!(null), -32022, "no");
        };
        self.begun += 1;
        self.session = self.sessions.then(|| format!("session-{}", self.begun));
        let result = json!({
            "protocolVersion": version.as_str(),
            "capabilities": {"tools": {"listChanged": self.listening == StatusCode::OK}},
            "serverInfo": {"name": "fake", "version": "1"},
        });
        let mut reply = self.result(body, &result);
        if let (Input::Head(_, headers), Some(session)) = (&mut reply[0], &self.session) {
            headers.insert("mcp-session-id", session.parse().unwrap());
        }
        reply
    }

    fn stateless(
        &mut self,
        method: &str,
        body: &Value,
        mirrored: Option<&str>,
        name: Option<&str>,
    ) -> Vec<Input> {
        if !self.stateless {
            let (status, code) = self.unknown;
            return match code {
                Some(code) => error(status, &json!("server-error"), code, "Bad Request"),
                None => plain(status),
            };
        }
        let meta = &body["params"]["_meta"];
        assert_eq!(
            meta["io.modelcontextprotocol/protocolVersion"],
            "2026-07-28"
        );
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        assert_eq!(mirrored, Some(method));
        assert_eq!(name, body["params"]["name"].as_str());
        match method {
            "server/discover" => {
                let result = json!({
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {"listChanged": self.listening == StatusCode::OK}},
                });
                self.result(body, &result)
            }
            "subscriptions/listen" => {
                assert_eq!(body["params"]["notifications"]["toolsListChanged"], true);
                let method = "notifications/subscriptions/acknowledged";
                let mut reply = events(&event(&json!({"jsonrpc": "2.0", "method": method})));
                reply.pop(); // the end
                reply
            }
            _ => self.message(method, body),
        }
    }

    fn message(&mut self, method: &str, body: &Value) -> Vec<Input> {
        match method {
            "tools/list" => self.list(body),
            "tools/call" => self.call(body),
            _ if body.get("id").is_none() || body.get("method").is_none() => {
                plain(StatusCode::ACCEPTED)
            }
            _ => error(StatusCode::OK, &body["id"], -32601, "Method not found"),
        }
    }

    fn list(&mut self, body: &Value) -> Vec<Input> {
        let cursor = body["params"]["cursor"].as_str();
        let page = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let tool = |name: &&str| json!({"name": name, "inputSchema": {"type": "object"}});
        let tools: Vec<Value> = self.pages[page].iter().map(tool).collect();
        let mut result = json!({"tools": tools});
        if page + 1 < self.pages.len() {
            result["nextCursor"] = (page + 1).to_string().into();
        }
        self.result(body, &result)
    }

    fn call(&mut self, body: &Value) -> Vec<Input> {
        let id = &body["id"];
        let arguments = body["params"]["arguments"].to_string();
        match body["params"]["name"].as_str().unwrap() {
            "echo" => self.result(body, &text(&arguments)),
            "rounds" => {
                let state = body["params"]["requestState"].as_str().unwrap_or_default();
                if state == "++" {
                    return self.result(body, &text("at last"));
                }
                let state = format!("{state}+");
                self.result(
                    body,
                    &json!({"resultType": "input_required", "requestState": state}),
                )
            }
            "endless" => self.result(
                body,
                &json!({"resultType": "input_required", "requestState": "x"}),
            ),
            "nothing" => self.result(body, &json!({"content": []})),
            "wrong" => self.result(
                body,
                &json!({"content": [text("no")["content"][0]], "isError": true}),
            ),
            "image" => {
                let image = json!({"type": "image", "data": "AAAA", "mimeType": "image/png"});
                self.result(body, &json!({"content": [image]}))
            }
            "big" => self.result(body, &text(&"x".repeat(5 << 20))),
            "huge" => self.result(body, &text(&"x".repeat(17 << 20))),
            "hang" => Vec::new(),
            "chatty" => events(
                &[
                    event(&json!({"method": "notifications/progress", "params": {"progress": 1}})),
                    ": still here\n\n".to_owned(),
                    event(&json!({"id": "p1", "method": "ping"})),
                    event(&json!({"id": 7, "method": "sampling/createMessage", "params": {}})),
                    event(&json!({"method": "notifications/tools/list_changed"})),
                    event(&json!({"id": id, "result": text("done")})),
                    event(&json!({"method": "notifications/message"})),
                ]
                .concat(),
            ),
            "later" => events("id: first\nretry: 2500\ndata: \n\n"),
            "fading" => events(&event(&json!({"method": "notifications/progress"}))),
            "die" => {
                self.restart();
                vec![
                    head("text/event-stream"),
                    Input::Body("data: {".into()),
                    Input::Failed(Fault::Reset),
                ]
            }
            "blabs" => {
                let words = "Bearer mcp-token-0123456789 is over; mcp-token-0123456789 was good, mcp-token-01234";
                error(StatusCode::UNAUTHORIZED, id, -32001, words)
            }
            "null-id" => error(StatusCode::OK, &json!(null), -32603, "Broken inside"),
            "other-id" => self.result(&json!({"id": 1}), &text("for somebody else")),
            "html" => vec![head("text/html"), Input::Body("<p>".into()), Input::End],
            "garbage" => vec![
                head("application/json"),
                Input::Body("{oops".into()),
                Input::End,
            ],
            "empty" => plain(StatusCode::ACCEPTED),
            "forbidden" => error(StatusCode::FORBIDDEN, &json!(null), -32003, "not yours"),
            "teapot" => plain(StatusCode::IM_A_TEAPOT),
            "input" => self.result(
                body,
                &json!({"resultType": "input_required", "inputRequests": {}}),
            ),
            _ => error(StatusCode::OK, id, -32602, "Unknown tool"),
        }
    }

    fn result(&self, body: &Value, result: &Value) -> Vec<Input> {
        let message = json!({"jsonrpc": "2.0", "id": body["id"], "result": result});
        if self.streams {
            return events(&event(&message));
        }
        vec![
            head("application/json; charset=utf-8"),
            Input::Body(message.to_string().into()),
            Input::End,
        ]
    }
}

pub(super) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

pub(super) fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}]})
}

fn head(media: &'static str) -> Input {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Input::Head(StatusCode::OK, headers)
}

fn events(stream: &str) -> Vec<Input> {
    let body = Bytes::copy_from_slice(stream.as_bytes());
    vec![head("text/event-stream"), Input::Body(body), Input::End]
}

fn plain(status: StatusCode) -> Vec<Input> {
    vec![Input::Head(status, HeaderMap::new()), Input::End]
}

fn error(status: StatusCode, id: &Value, code: i64, message: &str) -> Vec<Input> {
    let body = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
    let Input::Head(_, headers) = head("application/json") else {
        unreachable!()
    };
    vec![
        Input::Head(status, headers),
        Input::Body(body.to_string().into()),
        Input::End,
    ]
}
