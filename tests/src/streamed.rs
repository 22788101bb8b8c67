//! A blocking reply as the stream in which its provider would have sent it.

use aibridge_core::api::Api;
use serde_json::{Value, json};

/// The stream that a client reads this reply from. Text comes word by word, a call's arguments in
/// two pieces.
///
/// ```
/// use aibridge_core::api::Api;
/// use aibridge_testkit::{Fixture, grammar, streamed};
///
/// let blocking = Fixture::simple(Api::Messages).body(false);
/// let stream = streamed(Api::Messages, &serde_json::from_slice(&blocking).unwrap());
/// let read = grammar::stream(Api::Messages, stream.as_bytes()).unwrap();
/// assert_eq!(read.text, grammar::body(Api::Messages, &blocking).unwrap().text);
/// ```
pub fn streamed(api: Api, reply: &Value) -> String {
    match api {
        Api::ChatCompletions => chat_completions(reply),
        Api::Messages => messages(reply),
        Api::Responses => responses(reply),
    }
}

fn event(data: &Value) -> String {
    match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn words(text: &Value) -> impl Iterator<Item = &str> {
    text.as_str().unwrap_or_default().split_inclusive(' ')
}

fn halves(text: &str) -> [&str; 2] {
    let middle = text.floor_char_boundary(text.len() / 2);
    text.split_at(middle).into()
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

fn messages(reply: &Value) -> String {
    let mut first = with(reply.clone(), "content", json!([]));
    first["stop_reason"] = Value::Null;
    first["usage"]["output_tokens"] = json!(1);
    let mut stream = event(&json!({"type": "message_start", "message": first}));
    for (index, block) in items(&reply["content"]).enumerate() {
        let (empty, deltas): (_, Vec<_>) = if block["type"] == "tool_use" {
            let arguments = block["input"].to_string();
            let delta = |piece| json!({"type": "input_json_delta", "partial_json": piece});
            let deltas = halves(&arguments).map(delta).into();
            (with(block.clone(), "input", json!({})), deltas)
        } else {
            let delta = |piece| json!({"type": "text_delta", "text": piece});
            let deltas = words(&block["text"]).map(delta).collect();
            (with(block.clone(), "text", json!("")), deltas)
        };
        stream +=
            &event(&json!({"type": "content_block_start", "index": index, "content_block": empty}));
        for delta in deltas {
            stream +=
                &event(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        stream += &event(&json!({"type": "content_block_stop", "index": index}));
    }
    let end = json!({"stop_reason": reply["stop_reason"], "stop_sequence": null});
    stream += &event(&json!({"type": "message_delta", "delta": end, "usage": reply["usage"]}));
    stream + &event(&json!({"type": "message_stop"}))
}

fn chat_completions(reply: &Value) -> String {
    let chunk = |choices: Value, usage: &Value| {
        event(&json!({
            "id": reply["id"], "object": "chat.completion.chunk", "created": reply["created"],
            "model": reply["model"], "choices": choices, "usage": usage,
        }))
    };
    let step = |delta: Value, finish: &Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            &Value::Null,
        )
    };
    let choice = &reply["choices"][0];
    let message = &choice["message"];
    let mut stream = step(json!({"role": "assistant", "content": ""}), &Value::Null);
    for word in words(&message["content"]) {
        stream += &step(json!({"content": word}), &Value::Null);
    }
    for (index, call) in items(&message["tool_calls"]).enumerate() {
        let function = &call["function"];
        let begun = json!({"name": function["name"], "arguments": ""});
        let begun =
            json!({"index": index, "id": call["id"], "type": "function", "function": begun});
        stream += &step(json!({"tool_calls": [begun]}), &Value::Null);
        for piece in halves(function["arguments"].as_str().unwrap_or_default()) {
            let more = json!({"index": index, "function": {"arguments": piece}});
            stream += &step(json!({"tool_calls": [more]}), &Value::Null);
        }
    }
    stream += &step(json!({}), &choice["finish_reason"]);
    stream + &chunk(json!([]), &reply["usage"]) + "data: [DONE]\n\n"
}

fn responses(reply: &Value) -> String {
    let mut stream = String::new();
    let mut number = 0;
    let mut next = |mut data: Value| {
        data["sequence_number"] = json!(number);
        number += 1;
        stream += &event(&data);
    };
    let mut begun = with(reply.clone(), "output", json!([]));
    begun["status"] = json!("in_progress");
    begun["usage"] = Value::Null;
    for kind in ["response.created", "response.in_progress"] {
        next(json!({"type": kind, "response": begun}));
    }
    for (index, item) in items(&reply["output"]).enumerate() {
        let place = json!({"item_id": item["id"], "output_index": index});
        let at = |mut data: Value, kind: &str| {
            data["type"] = json!(kind);
            for key in ["item_id", "output_index"] {
                data[key] = place[key].clone();
            }
            data
        };
        let (empty, inner) = if item["type"] == "function_call" {
            (
                with(item.clone(), "arguments", json!("")),
                arguments(item, at),
            )
        } else {
            (with(item.clone(), "content", json!([])), parts(item, at))
        };
        let empty = with(empty, "status", json!("in_progress"));
        next(json!({"type": "response.output_item.added", "output_index": index, "item": empty}));
        inner.into_iter().for_each(&mut next);
        next(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    next(json!({"type": "response.completed", "response": reply}));
    stream
}

/// What happens between the beginning and the end of a call.
fn arguments(item: &Value, at: impl Fn(Value, &str) -> Value) -> Vec<Value> {
    let text = item["arguments"].as_str().unwrap_or_default();
    let delta = |piece| {
        at(
            json!({"delta": piece}),
            "response.function_call_arguments.delta",
        )
    };
    let mut events = halves(text).map(delta).to_vec();
    let whole = json!({"arguments": text, "name": item["name"]});
    events.push(at(whole, "response.function_call_arguments.done"));
    events
}

/// What happens between the beginning and the end of a message.
fn parts(item: &Value, at: impl Fn(Value, &str) -> Value) -> Vec<Value> {
    let mut events = Vec::new();
    for (index, part) in items(&item["content"]).enumerate() {
        let mut next = |data: Value, kind: &str| {
            events.push(at(with(data, "content_index", json!(index)), kind));
        };
        let empty = with(part.clone(), "text", json!(""));
        next(json!({"part": empty}), "response.content_part.added");
        for word in words(&part["text"]) {
            let delta = json!({"delta": word, "logprobs": []});
            next(delta, "response.output_text.delta");
        }
        let whole = json!({"text": part["text"], "logprobs": []});
        next(whole, "response.output_text.done");
        next(json!({"part": part}), "response.content_part.done");
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fixture, grammar};

    #[test]
    fn streams_say_what_the_blocking_reply_says() {
        for kind in ["simple", "client_tool_call", "parallel_client_tools"] {
            let mut fixtures = Fixture::all();
            fixtures.retain(|fixture| fixture.name.ends_with(kind));
            assert_eq!(fixtures.len(), 3);
            for fixture in fixtures {
                let blocking = fixture.body(false);
                let reply = serde_json::from_slice(&blocking).unwrap();
                let stream = streamed(fixture.api, &reply);
                let read = grammar::stream(fixture.api, stream.as_bytes());
                let whole = grammar::body(fixture.api, &blocking);
                let mut pair = [read.unwrap(), whole.unwrap()];
                for call in pair.iter_mut().flat_map(|reply| &mut reply.calls) {
                    let parsed: Value = serde_json::from_str(&call.arguments).unwrap();
                    call.arguments = parsed.to_string();
                }
                assert_eq!(pair[0], pair[1], "{}", fixture.name);
            }
        }
    }
}
