//! What a client asks: one request, as bytes or as a message.

use std::fmt::Write as _;

use aibridge_core::api::{Api, Vendor};
use bytes::Bytes;
use http::{Method, Request};

/// The three APIs.
pub const APIS: [Api; 3] = [Api::Messages, Api::ChatCompletions, Api::Responses];

/// A client's request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path and query at the bridge.
    pub path: String,
    /// Header fields but `host` and framing.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
}

impl Ask {
    /// A short question to this API.
    pub fn new(api: Api, streaming: bool) -> Self {
        let body = match api {
            Api::Messages => {
                r#"{"model":"claude-test-1","max_tokens":64,"messages":[{"role":"user","content":"Name a river."}]}"#
            }
            Api::ChatCompletions => {
                r#"{"model":"gpt-test-1","messages":[{"role":"user","content":"Name a river."}]}"#
            }
            Api::Responses => r#"{"model":"gpt-test-1","input":"Name a river."}"#,
        };
        Self::with_body(api, streaming, body)
    }

    /// A request with this JSON object, `stream` set as told.
    pub fn with_body(api: Api, streaming: bool, body: &str) -> Self {
        let body = if streaming {
            body.replacen('{', r#"{"stream":true,"#, 1)
        } else {
            body.to_owned()
        };
        Self::post(path(api), body)
    }

    /// A `POST` of JSON to this path.
    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        let ask = Self {
            method: Method::POST,
            path: path.to_owned(),
            headers: Vec::new(),
            body: body.into(),
        };
        ask.header("content-type", "application/json")
    }

    /// A `GET` of this path.
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// The same with a header field more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a credential of the client's own, in the form that this API's SDKs use.
    #[must_use]
    pub fn key(self, api: Api, key: &str) -> Self {
        match api.vendor() {
            Vendor::Anthropic => self.header("x-api-key", key),
            Vendor::OpenAi => self.header("authorization", &format!("Bearer {key}")),
        }
    }

    /// As a message.
    ///
    /// # Panics
    /// The parts do not make a request.
    pub fn request(&self) -> Request<Bytes> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("host", "bridge.test")
            .header("content-length", self.body.len());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
            .body(self.body.clone())
            .expect("the parts make a request")
    }

    /// As bytes.
    pub fn bytes(&self) -> Bytes {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nhost: bridge.test\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat().into()
    }
}

/// Where the bridge serves an API.
pub const fn path(api: Api) -> &'static str {
    match api {
        Api::Messages => "/anthropic/v1/messages",
        Api::ChatCompletions => "/openai/v1/chat/completions",
        Api::Responses => "/openai/v1/responses",
    }
}
