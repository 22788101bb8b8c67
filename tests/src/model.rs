//! A model that says what a test wants: one turn, as each provider's API would send it.
//!
//! ```
//! use aibridge_core::api::Api;
//! use aibridge_testkit::{Turn, grammar};
//!
//! let turn = Turn::new().says(&["Let me ", "look."]).calls("c1", "bmcp_desk_look", r#"{"at":"sky"}"#);
//! let reply = grammar::stream(Api::Messages, turn.stream(Api::Messages, 0).as_bytes()).unwrap();
//! assert_eq!((&*reply.text, &*reply.stop), ("Let me look.", "tool_use"));
//! let reply = grammar::body(Api::Responses, turn.body(Api::Responses, 0).as_bytes()).unwrap();
//! assert_eq!(reply.calls[0].name, "bmcp_desk_look");
//! ```

use aibridge_core::api::Api;
use serde_json::{Value, json};

use crate::Reply;

/// What a model says in one turn.
#[derive(Clone, Debug)]
pub struct Turn {
    parts: Vec<Part>,
    is_cut: bool,
    first_call: usize,
    input: u64,
    output: u64,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Vec<String>),
    Thought(Vec<String>, String),
    Call(Value, String),
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            is_cut: false,
            first_call: 0,
            input: 10,
            output: 3,
        }
    }
}

impl Turn {
    /// A turn in which nothing is said; 10 tokens in, 3 out.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and these words, an event each.
    #[must_use]
    pub fn says(mut self, words: &[&str]) -> Self {
        self.parts.push(Part::Text(owned(words)));
        self
    }

    /// The same, and a thought of these words, signed where the API signs thoughts.
    #[must_use]
    pub fn thinks(mut self, words: &[&str], signature: &str) -> Self {
        self.parts
            .push(Part::Thought(owned(words), signature.to_owned()));
        self
    }

    /// The same, and a call of this id, tool and arguments.
    #[must_use]
    pub fn calls(mut self, id: &str, tool: &str, arguments: &str) -> Self {
        let call = json!({"id": id, "name": tool});
        self.parts.push(Part::Call(call, arguments.to_owned()));
        self
    }

    /// The same, but ended by the limit of tokens.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.is_cut = true;
        self
    }

    /// The same, with this many tokens read and written.
    #[must_use]
    pub fn counts(mut self, input: u64, output: u64) -> Self {
        (self.input, self.output) = (input, output);
        self
    }

    /// The same, but chat chunks count its calls from this index.
    #[must_use]
    pub fn first_call_index(mut self, index: usize) -> Self {
        self.first_call = index;
        self
    }

    /// As a reply, the `nth` of a conversation: ids tell turns apart.
    pub fn reply(&self, api: Api, streaming: bool, nth: usize) -> Reply {
        if streaming {
            Reply::sse(self.stream(api, nth))
        } else {
            Reply::json(200, self.body(api, nth))
        }
    }

    /// As events.
    pub fn stream(&self, api: Api, nth: usize) -> String {
        match api {
            Api::ChatCompletions => self.chunks(nth),
            Api::Messages => self.message_events(nth),
            Api::Responses => self.response_events(nth),
        }
    }

    /// As one JSON text.
    pub fn body(&self, api: Api, nth: usize) -> String {
        match api {
            Api::ChatCompletions => self.completion(nth),
            Api::Messages => self.message(nth),
            Api::Responses => self.response(nth),
        }
        .to_string()
    }

    fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call(..)))
    }

    fn stop(&self, cut: &'static str, called: &'static str, done: &'static str) -> &'static str {
        match (self.is_cut, self.has_calls()) {
            (true, _) => cut,
            (false, true) => called,
            (false, false) => done,
        }
    }

    // --- Messages

    fn message_stop(&self) -> &'static str {
        self.stop("max_tokens", "tool_use", "end_turn")
    }

    fn message(&self, nth: usize) -> Value {
        let block = |part: &Part| match part {
            Part::Text(words) => json!({"type": "text", "text": words.concat()}),
            Part::Thought(words, signature) => {
                json!({"type": "thinking", "thinking": words.concat(), "signature": signature})
            }
            Part::Call(call, arguments) => {
                let input: Value = serde_json::from_str(arguments).unwrap_or_default();
                json!({"type": "tool_use", "id": call["id"], "name": call["name"], "input": input})
            }
        };
        let content: Vec<_> = self.parts.iter().map(block).collect();
        json!({
            "id": format!("msg_{nth}"),
            "type": "message",
            "role": "assistant",
            "model": "claude-test-1",
            "content": content,
            "stop_reason": self.message_stop(),
            "stop_sequence": null,
            "usage": {"input_tokens": self.input, "output_tokens": self.output},
        })
    }

    fn message_events(&self, nth: usize) -> String {
        let usage = json!({"input_tokens": self.input, "output_tokens": 1});
        let message = json!({
            "id": format!("msg_{nth}"),
            "type": "message",
            "role": "assistant",
            "model": "claude-test-1",
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage,
        });
        let mut stream = event(&json!({"type": "message_start", "message": message}));
        for (index, part) in self.parts.iter().enumerate() {
            let delta = |kind: &str, member: &str, text: &str| json!({"type": kind, member: text});
            let (block, deltas) = match part {
                Part::Text(words) => {
                    let say = |word: &String| delta("text_delta", "text", word);
                    let deltas: Vec<_> = words.iter().map(say).collect();
                    (json!({"type": "text", "text": ""}), deltas)
                }
                Part::Thought(words, signature) => {
                    let think = |word: &String| delta("thinking_delta", "thinking", word);
                    let sign = delta("signature_delta", "signature", signature);
                    let deltas = words.iter().map(think).chain([sign]).collect();
                    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                    (block, deltas)
                }
                Part::Call(call, arguments) => {
                    let pieces = ["", halves(arguments).0, halves(arguments).1];
                    let give = |piece| delta("input_json_delta", "partial_json", piece);
                    let (id, name) = (&call["id"], &call["name"]);
                    let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                    (block, pieces.map(give).to_vec())
                }
            };
            stream += &event(
                &json!({"type": "content_block_start", "index": index, "content_block": block}),
            );
            for delta in deltas {
                stream +=
                    &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
            }
            stream += &event(&json!({"type": "content_block_stop", "index": index}));
        }
        let delta = json!({"stop_reason": self.message_stop(), "stop_sequence": null});
        let usage = json!({"output_tokens": self.output});
        stream += &event(&json!({"type": "message_delta", "delta": delta, "usage": usage}));
        stream + &event(&json!({"type": "message_stop"}))
    }

    // --- Chat Completions

    fn finish(&self) -> &'static str {
        self.stop("length", "tool_calls", "stop")
    }

    fn chat_usage(&self) -> Value {
        let (input, output) = (self.input, self.output);
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }

    fn completion(&self, nth: usize) -> Value {
        let (mut content, mut thoughts, mut calls) = (String::new(), String::new(), Vec::new());
        for part in &self.parts {
            match part {
                Part::Text(words) => content += &words.concat(),
                Part::Thought(words, _) => thoughts += &words.concat(),
                Part::Call(call, arguments) => {
                    let function = json!({"name": call["name"], "arguments": arguments});
                    calls.push(json!({"id": call["id"], "type": "function", "function": function}));
                }
            }
        }
        let content = Some(content).filter(|content| !content.is_empty());
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !thoughts.is_empty() {
            message["reasoning_content"] = json!(thoughts);
        }
        if !calls.is_empty() {
            message["tool_calls"] = json!(calls);
        }
        let choice = json!({"index": 0, "message": message, "finish_reason": self.finish()});
        json!({
            "id": format!("chatcmpl-{nth}"),
            "object": "chat.completion",
            "model": "gpt-test-1",
            "choices": [choice],
            "usage": self.chat_usage(),
        })
    }

    fn chunks(&self, nth: usize) -> String {
        let chunk = |choices: Value, usage: Value| {
            event(&json!({
                "id": format!("chatcmpl-{nth}"),
                "object": "chat.completion.chunk",
                "model": "gpt-test-1",
                "choices": choices,
                "usage": usage,
            }))
        };
        let say = |delta: Value, finish: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            chunk(json!([choice]), Value::Null)
        };
        let mut stream = say(json!({"role": "assistant", "content": ""}), None);
        let mut index = self.first_call;
        for part in &self.parts {
            match part {
                Part::Text(words) => {
                    stream.extend(words.iter().map(|word| say(json!({"content": word}), None)));
                }
                Part::Thought(words, _) => {
                    let think = |word: &String| say(json!({"reasoning_content": word}), None);
                    stream.extend(words.iter().map(think));
                }
                Part::Call(call, arguments) => {
                    let (head, tail) = halves(arguments);
                    let function = json!({"name": call["name"], "arguments": head});
                    let begin = json!({"index": index, "id": call["id"], "type": "function", "function": function});
                    let more = json!({"index": index, "function": {"arguments": tail}});
                    stream += &say(json!({"tool_calls": [begin]}), None);
                    stream += &say(json!({"tool_calls": [more]}), None);
                    index += 1;
                }
            }
        }
        stream += &say(json!({}), Some(self.finish()));
        stream += &chunk(json!([]), self.chat_usage());
        stream + "data: [DONE]\n\n"
    }

    // --- Responses

    fn item(part: &Part, nth: usize, place: usize) -> Value {
        let id = format!("item_{nth}_{place}");
        match part {
            Part::Text(words) => {
                let content =
                    [json!({"type": "output_text", "text": words.concat(), "annotations": []})];
                json!({"id": id, "type": "message", "role": "assistant", "status": "completed", "content": content})
            }
            Part::Thought(words, signature) => {
                let summary = [json!({"type": "summary_text", "text": words.concat()})];
                json!({"id": id, "type": "reasoning", "summary": summary, "encrypted_content": signature})
            }
            Part::Call(call, arguments) => {
                json!({"id": id, "type": "function_call", "status": "completed", "call_id": call["id"], "name": call["name"], "arguments": arguments})
            }
        }
    }

    fn response(&self, nth: usize) -> Value {
        let parts = self.parts.iter().enumerate();
        let output: Vec<_> = parts
            .map(|(place, part)| Self::item(part, nth, place))
            .collect();
        let (input, written) = (self.input, self.output);
        json!({
            "id": format!("resp_{nth}"),
            "object": "response",
            "status": if self.is_cut { "incomplete" } else { "completed" },
            "model": "gpt-test-1",
            "output": output,
            "usage": {"input_tokens": input, "output_tokens": written, "total_tokens": input + written},
        })
    }

    fn response_events(&self, nth: usize) -> String {
        let mut number = 0;
        let mut next = |mut data: Value| {
            data["sequence_number"] = json!(number);
            number += 1;
            event(&data)
        };
        let begun = json!({"id": format!("resp_{nth}"), "status": "in_progress", "output": []});
        let mut stream = next(json!({"type": "response.created", "response": begun}));
        for (place, part) in self.parts.iter().enumerate() {
            let item = Self::item(part, nth, place);
            stream += &next(
                json!({"type": "response.output_item.added", "output_index": place, "item": item}),
            );
            let (kind, pieces) = match part {
                Part::Text(words) => ("response.output_text.delta", words.clone()),
                Part::Thought(words, _) => ("response.reasoning_summary_text.delta", words.clone()),
                Part::Call(_, arguments) => (
                    "response.function_call_arguments.delta",
                    vec![arguments.clone()],
                ),
            };
            for piece in pieces {
                stream += &next(json!({"type": kind, "output_index": place, "delta": piece}));
            }
            stream += &next(
                json!({"type": "response.output_item.done", "output_index": place, "item": item}),
            );
        }
        let kind = if self.is_cut {
            "response.incomplete"
        } else {
            "response.completed"
        };
        stream + &next(json!({"type": kind, "response": self.response(nth)}))
    }
}

/// The replies of a conversation, one for each turn.
pub fn replies(api: Api, streaming: bool, turns: &[Turn]) -> impl Iterator<Item = Reply> + '_ {
    let turns = turns.iter().enumerate();
    turns.map(move |(nth, turn)| turn.reply(api, streaming, nth))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A text in two pieces, cut at a character.
fn halves(text: &str) -> (&str, &str) {
    text.split_at(text.floor_char_boundary(text.len() / 2))
}

fn event(data: &Value) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}
