//! A world with an MCP server `desk` in it, for suites that look at the loop of tools.
#![allow(dead_code, unreachable_pub, reason = "each suite uses a part of it")]

use aibridge_core::{api::Api, config::Config};
use aibridge_testkit::{
    APIS, Answer, Ask, Ran, Reply, Script, Sim, Turn, grammar, model,
    setup::{self, KEYS},
    tool_server, tools_origin, with_tools,
};
use serde_json::Value;

/// The tool that most turns call, as the model sees it, and as the server does.
pub const ADD: &str = "bmcp_desk_add";
pub const TOOLS: &[&str] = &["add"];

/// All three APIs, blocking and streaming.
pub fn forms() -> impl Iterator<Item = (Api, bool)> {
    APIS.into_iter()
        .flat_map(|api| [false, true].map(|streaming| (api, streaming)))
}

/// Where the client sees text before the loop is over.
pub fn streams_at_once(api: Api, streaming: bool) -> bool {
    streaming && api != Api::Responses
}

pub fn config() -> Config {
    with_tools(setup::config(&KEYS[..2]), &tools_origin())
}

/// A question; in chat streams, one that wants to know the usage.
pub fn ask(api: Api, streaming: bool) -> Ask {
    let plain = Ask::new(api, false).body;
    let body = String::from_utf8_lossy(&plain);
    let options = r#"{"stream_options":{"include_usage":true},"#;
    let body = if streaming && api == Api::ChatCompletions {
        body.replacen('{', options, 1)
    } else {
        body.into_owned()
    };
    Ask::with_body(api, streaming, &body)
}

/// The same, with these members more in front.
pub fn with_member(api: Api, streaming: bool, members: &str) -> Ask {
    let mut ask = ask(api, streaming);
    let body = String::from_utf8_lossy(&ask.body);
    ask.body = body.replacen('{', &format!("{{{members},"), 1).into();
    ask
}

/// What an adding tool returns: the sum of `a` and `b`.
pub fn add(tool: &str, arguments: &Value) -> Ran {
    assert_eq!(tool, "add");
    let number = |name: &str| arguments[name].as_i64().unwrap_or_default();
    Ran::Text((number("a") + number("b")).to_string())
}

/// A turn that calls the adding tool once.
pub fn adds(nth: usize) -> Turn {
    Turn::new().calls(&format!("call_{nth}"), ADD, r#"{"a":1,"b":2}"#)
}

pub fn says(text: &str) -> Turn {
    Turn::new().says(&[text])
}

/// The bridge between a scripted provider and a scripted server.
pub struct World {
    pub sim: Sim,
    pub upstream: Script,
    pub server: Script,
}

impl World {
    pub fn new(
        replies: impl IntoIterator<Item = Reply>,
        tools: &[&str],
        run: impl FnMut(&str, &Value) -> Ran + Send + 'static,
    ) -> Self {
        Self::of(config(), Script::in_order(replies), tool_server(tools, run))
    }

    /// The model takes these turns, and may add.
    pub fn adding(api: Api, streaming: bool, turns: &[Turn]) -> Self {
        Self::new(model::replies(api, streaming, turns), TOOLS, add)
    }

    pub fn of(config: Config, upstream: Script, server: Script) -> Self {
        let sim = Sim::new(config, &upstream).with_server(&tools_origin(), &server);
        Self {
            sim,
            upstream,
            server,
        }
    }

    /// The question of this form, answered and read by the API's grammar.
    #[track_caller]
    pub fn hear(&mut self, api: Api, streaming: bool) -> grammar::Reply {
        let answer = self.sim.ask(&ask(api, streaming));
        read(api, streaming, &answer)
    }

    /// The bodies that upstream got.
    pub fn bodies(&self) -> Vec<Value> {
        let seen = self.upstream.seen();
        seen.iter().map(|call| json(&call.body)).collect()
    }

    /// What the server was told by this method, in order.
    pub fn heard(&self, method: &str) -> Vec<Value> {
        let seen = self.server.seen();
        let messages = seen.iter().filter(|call| !call.body.is_empty());
        let messages = messages.map(|call| json(&call.body));
        messages
            .filter(|message| message["method"] == method)
            .collect()
    }

    /// How often a tool was called.
    pub fn ran(&self) -> usize {
        self.heard("tools/call").len()
    }

    /// The upstream's script was played to its end.
    #[track_caller]
    pub fn close(self) {
        self.upstream.verify();
        self.server.abandon();
    }
}

/// Reads a reply that is a success by its API's grammar, and sees to it that no injected tool
/// shows.
#[track_caller]
pub fn read(api: Api, streaming: bool, answer: &Answer) -> grammar::Reply {
    let form = format!("{api:?} streaming={streaming}");
    assert_eq!(answer.status, 200, "{form}: {answer:?}");
    assert!(answer.is_complete(), "{form}");
    assert_eq!(answer.is_stream(), streaming, "{form}");
    assert!(
        !answer.text().contains("bmcp_"),
        "{form}: {}",
        answer.text()
    );
    let read = if streaming {
        grammar::stream(api, &answer.body)
    } else {
        grammar::body(api, &answer.body)
    };
    read.unwrap_or_else(|broken| panic!("{form}: {broken}\n{}", answer.text()))
}

/// A result that a request gives the model: the id of the call, what it is told, and whether that
/// is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub id: String,
    pub content: Value,
    pub is_error: bool,
}

/// All results in a request's conversation.
pub fn results(api: Api, body: &Value) -> Vec<Told> {
    let conversation = body[list(api)].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match api {
        Api::Messages => {
            let blocks = conversation
                .iter()
                .filter_map(|message| message["content"].as_array());
            let results = blocks
                .flatten()
                .filter(|block| block["type"] == "tool_result");
            let told = |block: &Value| Told {
                id: text(&block["tool_use_id"]),
                content: block["content"].clone(),
                is_error: block["is_error"] == true,
            };
            results.map(told).collect()
        }
        Api::ChatCompletions | Api::Responses => {
            let (kind, value, id, content) = match api {
                Api::ChatCompletions => ("role", "tool", "tool_call_id", "content"),
                _ => ("type", "function_call_output", "call_id", "output"),
            };
            let results = conversation.iter().filter(|item| item[kind] == value);
            let told = |item: &Value| Told {
                id: text(&item[id]),
                is_error: text(&item[content]).starts_with("Error: "),
                content: item[content].clone(),
            };
            results.map(told).collect()
        }
    }
}

/// The member that holds the conversation.
pub fn list(api: Api) -> &'static str {
    match api {
        Api::ChatCompletions | Api::Messages => "messages",
        Api::Responses => "input",
    }
}

/// A text as the model is told it.
pub fn as_told(api: Api, text: &str) -> Value {
    match api {
        Api::Messages => serde_json::json!([{"type": "text", "text": text}]),
        Api::ChatCompletions | Api::Responses => text.into(),
    }
}

/// The names of input and output tokens.
pub fn tokens(api: Api) -> (&'static str, &'static str) {
    match api {
        Api::ChatCompletions => ("prompt_tokens", "completion_tokens"),
        Api::Messages | Api::Responses => ("input_tokens", "output_tokens"),
    }
}

#[track_caller]
pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("upstream gets JSON")
}
