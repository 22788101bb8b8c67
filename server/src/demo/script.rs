//! What the demo plays: who asks what, what the provider does with each key, and how it should end.

use aibridge_core::api::{Api, Vendor};
use http::StatusCode;
use serde_json::{Value, json};

use super::replies::Answer;

/// The model asked for; the scripted provider accepts any.
const MODEL: &str = "demo-model";

/// The providers' keys, in configured order. The bridge holds them; the client never sees one.
pub(super) const ANTHROPIC_KEYS: [&str; 2] = [
    "sk-demo-anthropic-limited-0001",
    "sk-demo-anthropic-working-0002",
];
pub(super) const OPENAI_KEYS: [&str; 3] = [
    "sk-demo-openai-limited-0001",
    "sk-demo-openai-revoked-0002",
    "sk-demo-openai-working-0003",
];

/// How long the scripted provider asks to leave a rate-limited key alone, in seconds.
pub(super) const RETRY_AFTER: &str = "20";

/// The MCP server, as the bridge's configuration names it.
pub(super) const TOOL_SERVER: &str = "almanac";

/// Its tool.
pub(super) const TOOL: Tool = Tool {
    name: "bridge_length",
    arguments: r#"{"bridge":"Kapellbrücke"}"#,
    result: "204 m",
    input_tokens: 61,
    output_tokens: 24,
};

/// A tool that the model calls in a turn of its own, and what that turn uses.
#[derive(Debug)]
pub(super) struct Tool {
    /// Its name on the server.
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) result: &'static str,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Tool {
    /// The name that the model knows it by.
    pub(super) fn model_name(&self) -> String {
        format!("bmcp_{TOOL_SERVER}_{}", self.name)
    }
}

/// What the scripted provider does with a key.
pub(super) fn judge(key: &str) -> StatusCode {
    match key {
        key if key.contains("working") => StatusCode::OK,
        key if key.contains("limited") => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::UNAUTHORIZED,
    }
}

/// The keys of a vendor's provider.
pub(super) fn keys(vendor: Vendor) -> &'static [&'static str] {
    match vendor {
        Vendor::Anthropic => &ANTHROPIC_KEYS,
        Vendor::OpenAi => &OPENAI_KEYS,
    }
}

/// One request of the demo.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) title: &'static str,
    /// What it is meant to show.
    pub(super) lesson: &'static str,
    pub(super) api: Api,
    pub(super) streaming: bool,
    pub(super) question: &'static str,
    pub(super) answer: Answer,
    /// The tool that the model calls before it answers.
    pub(super) tool: Option<Tool>,
    /// Keys that the provider should see, by index, and what it does with them.
    pub(super) attempts: &'static [(usize, u16)],
    /// The pool's states afterwards.
    pub(super) states: &'static [&'static str],
}

/// What is played, in order. The key states of one scene are where the next begins.
pub(super) static SCENES: [Scene; 5] = [
    Scene {
        title: "Anthropic Messages, streamed",
        lesson: "the first key is rate-limited: the next one answers, and the client notices nothing",
        api: Api::Messages,
        streaming: true,
        question: "What is a bridge?",
        answer: Answer {
            pieces: &["A bridge", " carries you", " over what", " would stop you."],
            input_tokens: 12,
            output_tokens: 15,
        },
        tool: None,
        attempts: &[(0, 429), (1, 200)],
        states: &["temporary", "valid"],
    },
    Scene {
        title: "Anthropic Messages, not streamed",
        lesson: "the limited key is remembered: it is not tried again before its time",
        api: Api::Messages,
        streaming: false,
        question: "And if one pillar falls?",
        answer: Answer {
            pieces: &["Then the next one holds."],
            input_tokens: 34,
            output_tokens: 8,
        },
        tool: None,
        attempts: &[(1, 200)],
        states: &["temporary", "valid"],
    },
    Scene {
        title: "OpenAI Chat Completions, streamed",
        lesson: "one key limited, one revoked, the third answers; usage is recorded though the client did not ask",
        api: Api::ChatCompletions,
        streaming: true,
        question: "Who pays the toll?",
        answer: Answer {
            pieces: &["The bridge", " keeps the", " purse, and", " the book."],
            input_tokens: 11,
            output_tokens: 13,
        },
        tool: None,
        attempts: &[(0, 429), (1, 401), (2, 200)],
        states: &["temporary", "permanent", "valid"],
    },
    Scene {
        title: "OpenAI Responses, streamed",
        lesson: "another API, the same provider: what was learnt about its keys holds here too",
        api: Api::Responses,
        streaming: true,
        question: "May I cross now?",
        answer: Answer {
            pieces: &["Yes.", " Mind", " the", " view."],
            input_tokens: 10,
            output_tokens: 9,
        },
        tool: None,
        attempts: &[(2, 200)],
        states: &["temporary", "permanent", "valid"],
    },
    Scene {
        title: "Anthropic Messages, streamed, with a tool of the bridge's",
        lesson: "an MCP server has come up: the model calls its tool, the bridge runs it, the client sees one answer",
        api: Api::Messages,
        streaming: true,
        question: "How long is the Kapellbrücke?",
        answer: Answer {
            pieces: &["The Kapellbrücke", " is 204 metres", " long."],
            input_tokens: 98,
            output_tokens: 11,
        },
        tool: Some(TOOL),
        attempts: &[(1, 200), (1, 200)],
        states: &["temporary", "valid"],
    },
];

impl Scene {
    /// Where the client sends it.
    pub(super) fn path(&self) -> &'static str {
        match self.api {
            Api::Messages => "/anthropic/v1/messages",
            Api::ChatCompletions => "/openai/v1/chat/completions",
            Api::Responses => "/openai/v1/responses",
        }
    }

    /// What the client sends.
    pub(super) fn body(&self) -> Value {
        let messages = json!([{"role": "user", "content": self.question}]);
        match self.api {
            Api::Messages => {
                json!({"model": MODEL, "max_tokens": 256, "stream": self.streaming, "messages": messages})
            }
            Api::ChatCompletions => {
                json!({"model": MODEL, "stream": self.streaming, "messages": messages})
            }
            Api::Responses => {
                json!({"model": MODEL, "stream": self.streaming, "input": self.question})
            }
        }
    }
}

/// The tool that the model calls before it answers a question.
pub(super) fn tool_for(question: &str) -> Option<&'static Tool> {
    let scene = SCENES.iter().find(|scene| scene.question == question)?;
    scene.tool.as_ref()
}

/// The answer to a question; to one that is not in the script, a polite one.
pub(super) fn answer_to(question: &str) -> Answer {
    let scene = SCENES.iter().find(|scene| scene.question == question);
    scene.map_or(
        Answer {
            pieces: &[
                "This is",
                " a scripted",
                " provider: it has",
                " nothing more",
                " to say.",
            ],
            input_tokens: 10,
            output_tokens: 14,
        },
        |scene| scene.answer,
    )
}
