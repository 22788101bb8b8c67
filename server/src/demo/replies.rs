//! What the scripted provider says, in the words of the three APIs: whole replies and streams of
//! events, as the real providers write them but for their length.

use aibridge_core::api::{Api, Vendor};
use bytes::Bytes;
use serde_json::{Value, json};

use super::script::Tool;

/// An answer, independent of the API that it is given in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The text, in the pieces that it is streamed in.
    pub(super) pieces: &'static [&'static str],
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// A reply to a request that does not stream.
pub(super) fn whole(api: Api, model: &str, answer: &Answer) -> Value {
    let Answer {
        input_tokens,
        output_tokens,
        ..
    } = *answer;
    match api {
        Api::Messages => json!({
            "id": "msg_demo", "type": "message", "role": "assistant", "model": model,
            "content": [{"type": "text", "text": answer.text()}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {
                "input_tokens": input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
            },
        }),
        Api::ChatCompletions => json!({
            "id": "chatcmpl-demo", "object": "chat.completion", "created": 1_767_225_600, "model": model,
            "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": answer.text(), "refusal": null},
            }],
            "usage": chat_usage(answer),
        }),
        Api::Responses => response(model, "completed", Some(answer)),
    }
}

/// The events of a streamed reply. `usage` is whether a chat client asked for it.
pub(super) fn stream(api: Api, model: &str, answer: &Answer, usage: bool) -> Vec<Bytes> {
    match api {
        Api::Messages => messages(model, answer).iter().map(named).collect(),
        Api::ChatCompletions => chat(model, answer, usage),
        Api::Responses => responses(model, answer).iter().map(named).collect(),
    }
}

/// The events of a streamed turn that calls a tool, on Anthropic's API.
pub(super) fn tool_call(model: &str, tool: &Tool) -> Vec<Bytes> {
    let Tool {
        arguments,
        input_tokens,
        output_tokens,
        ..
    } = *tool;
    let message = json!({
        "id": "msg_demo", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    });
    let call =
        json!({"type": "tool_use", "id": "toolu_demo", "name": tool.model_name(), "input": {}});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": call}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": arguments}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": output_tokens},
        }),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(named).collect()
}

/// What a key gets that is not answered.
pub(super) fn error(vendor: Vendor, kind: &str, message: &str) -> Value {
    match vendor {
        Vendor::Anthropic => json!({
            "type": "error", "error": {"type": kind, "message": message}, "request_id": "req_demo",
        }),
        Vendor::OpenAi => json!({
            "error": {"message": message, "type": kind, "param": null, "code": null},
        }),
    }
}

fn messages(model: &str, answer: &Answer) -> Vec<Value> {
    let Answer {
        input_tokens,
        output_tokens,
        ..
    } = *answer;
    let message = json!({
        "id": "msg_demo", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": input_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    });
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(answer.pieces.iter().map(|piece| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": output_tokens},
        }),
        json!({"type": "message_stop"}),
    ]);
    events
}

fn chat(model: &str, answer: &Answer, usage: bool) -> Vec<Bytes> {
    let chunk = |choices: Value, tokens: Value| {
        let mut chunk = json!({
            "id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": 1_767_225_600, "model": model,
            "choices": choices,
        });
        if usage {
            chunk["usage"] = tokens;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let choice = |delta: Value, finish: Option<&str>| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            Value::Null,
        )
    };
    let mut events = vec![choice(json!({"role": "assistant", "content": ""}), None)];
    events.extend(
        answer
            .pieces
            .iter()
            .map(|piece| choice(json!({"content": piece}), None)),
    );
    events.push(choice(json!({}), Some("stop")));
    if usage {
        events.push(chunk(json!([]), chat_usage(answer)));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn chat_usage(answer: &Answer) -> Value {
    let Answer {
        input_tokens,
        output_tokens,
        ..
    } = *answer;
    json!({
        "prompt_tokens": input_tokens, "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    })
}

fn responses(model: &str, answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    let part = |text: &str| json!({"type": "output_text", "annotations": [], "text": text});
    let place = json!({"item_id": "msg_demo", "output_index": 0, "content_index": 0});
    let at_place = |mut event: Value| {
        for (key, value) in place.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        event
    };
    let started = json!({
        "id": "msg_demo", "type": "message", "status": "in_progress", "role": "assistant", "content": [],
    });
    let mut events = vec![
        json!({"type": "response.created", "response": response(model, "in_progress", None)}),
        json!({"type": "response.in_progress", "response": response(model, "in_progress", None)}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": started}),
        at_place(json!({"type": "response.content_part.added", "part": part("")})),
    ];
    events.extend(
        answer
            .pieces
            .iter()
            .map(|piece| at_place(json!({"type": "response.output_text.delta", "delta": piece}))),
    );
    events.extend([
        at_place(json!({"type": "response.output_text.done", "text": text})),
        at_place(json!({"type": "response.content_part.done", "part": part(&text)})),
        json!({"type": "response.output_item.done", "output_index": 0, "item": output(&text)}),
        json!({"type": "response.completed", "response": response(model, "completed", Some(answer))}),
    ]);
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    events
}

fn output(text: &str) -> Value {
    json!({
        "id": "msg_demo", "type": "message", "status": "completed", "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "text": text}],
    })
}

fn response(model: &str, status: &str, answer: Option<&Answer>) -> Value {
    json!({
        "id": "resp_demo", "object": "response", "created_at": 1_767_225_600, "status": status, "model": model,
        "error": null, "incomplete_details": null,
        "output": answer.map(|answer| output(&answer.text())).into_iter().collect::<Vec<_>>(),
        "usage": answer.map(|answer| json!({
            "input_tokens": answer.input_tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        })),
    })
}

/// An event with its type as its name.
fn named(event: &Value) -> Bytes {
    let name = event["type"].as_str().unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
}
