//! A model that does what its prompt says.
//!
//! A prompt whose lines begin with `call` is a plan: each names a tool and its arguments. The model
//! makes a call a turn, in that order, and then tells what the tools said:
//!
//! ```text
//! call bmcp_desk_add {"a": 2, "b": 3}
//! call bmcp_desk_echo {"message": "hello"}
//! ```
//!
//! It knows nothing but what is in the request. So what it tells was in the continuation, and a
//! history that does not tie each result to its call is refused. The first turn uses 1,000 tokens
//! in and 10 out, the second 2,000 and 20, and so on.

use aibridge_core::api::Api;
use serde_json::{Value, json};

/// What such a model replies to a request, in blocking form; `None` if the prompt is no plan.
///
/// # Errors
/// What is wrong with the conversation.
pub(crate) fn reply(api: Api, request: &Value) -> Option<Result<Value, String>> {
    let history = history(api, request);
    let is_prompt = |entry: &Entry| matches!(entry, Entry::Prompt(_));
    let begin = history.iter().rposition(is_prompt)?;
    let (Entry::Prompt(prompt), since) = (&history[begin], &history[begin + 1..]) else {
        return None;
    };
    let plan: Vec<_> = prompt
        .lines()
        .filter_map(|line| line.strip_prefix("call ")?.split_once(' '))
        .collect();
    if plan.is_empty() {
        return None;
    }
    let results = match paired(since) {
        Ok(results) => results,
        Err(wrong) => return Some(Err(wrong)),
    };
    let turn = results.len() + 1;
    let Some((name, arguments)) = plan.get(turn - 1) else {
        let text = format!("The tools said: {}", results.join(" | "));
        return Some(Ok(said(api, turn, &text, None)));
    };
    if !offers(api, request, name) {
        let text = format!("There is no tool {name}.");
        return Some(Ok(said(api, turn, &text, None)));
    }
    let text = format!("I ask {name}. ");
    Some(Ok(said(api, turn, &text, Some((name, arguments)))))
}

/// What a conversation is made of, as far as the model minds.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Prompt(String),
    Call(String),
    Result(String, String),
}

/// The results, if every call has one and each follows its call.
fn paired(history: &[Entry]) -> Result<Vec<&str>, String> {
    let mut results = Vec::new();
    let mut open = Vec::new();
    for entry in history {
        match entry {
            Entry::Call(id) => open.push(id),
            Entry::Prompt(_) => {}
            Entry::Result(id, text) => {
                let Some(place) = open.iter().position(|call| *call == id) else {
                    return Err(format!("a result for {id}, which was not called"));
                };
                open.remove(place);
                results.push(text.as_str());
            }
        }
    }
    match open.first() {
        Some(id) => Err(format!("no result for {id}")),
        None => Ok(results),
    }
}

fn history(api: Api, request: &Value) -> Vec<Entry> {
    let list = match api {
        Api::ChatCompletions | Api::Messages => &request["messages"],
        Api::Responses => &request["input"],
    };
    if let Some(text) = list.as_str() {
        return vec![Entry::Prompt(text.to_owned())];
    }
    let list = list.as_array().into_iter().flatten();
    list.flat_map(|item| match api {
        Api::ChatCompletions => chat_message(item),
        Api::Messages => message(item),
        Api::Responses => response_item(item),
    })
    .collect()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A text, or the texts of a list of parts; other parts are named by their kind.
fn text(content: &Value) -> String {
    let part = |part: &Value| match part["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", part["type"].as_str().unwrap_or_default()),
    };
    match content.as_array() {
        Some(parts) => parts.iter().map(part).collect(),
        None => word(content),
    }
}

fn chat_message(item: &Value) -> Vec<Entry> {
    match item["role"].as_str() {
        Some("user") => vec![Entry::Prompt(text(&item["content"]))],
        Some("tool") => {
            let (id, text) = (word(&item["tool_call_id"]), text(&item["content"]));
            vec![Entry::Result(id, text)]
        }
        _ => {
            let calls = item["tool_calls"].as_array().into_iter().flatten();
            calls.map(|call| Entry::Call(word(&call["id"]))).collect()
        }
    }
}

fn message(item: &Value) -> Vec<Entry> {
    let Some(blocks) = item["content"].as_array() else {
        let is_prompt = item["role"] == "user";
        let prompt = is_prompt.then(|| Entry::Prompt(word(&item["content"])));
        return prompt.into_iter().collect();
    };
    let entry = |block: &Value| match block["type"].as_str()? {
        "text" if item["role"] == "user" => Some(Entry::Prompt(word(&block["text"]))),
        "tool_use" => Some(Entry::Call(word(&block["id"]))),
        "tool_result" => {
            let mut text = text(&block["content"]);
            if block["is_error"] == true {
                text.insert_str(0, "(failed) ");
            }
            Some(Entry::Result(word(&block["tool_use_id"]), text))
        }
        _ => None,
    };
    blocks.iter().filter_map(entry).collect()
}

fn response_item(item: &Value) -> Vec<Entry> {
    let entry = match item["type"].as_str() {
        Some("function_call") => Entry::Call(word(&item["call_id"])),
        Some("function_call_output") => {
            Entry::Result(word(&item["call_id"]), text(&item["output"]))
        }
        _ if item["role"] == "user" => Entry::Prompt(text(&item["content"])),
        _ => return Vec::new(),
    };
    vec![entry]
}

/// Whether the request offers a tool of this name.
fn offers(api: Api, request: &Value, name: &str) -> bool {
    let mut tools = request["tools"].as_array().into_iter().flatten();
    tools.any(|tool| match api {
        Api::ChatCompletions => tool["function"]["name"] == name,
        Api::Messages | Api::Responses => tool["name"] == name,
    })
}

/// A turn's reply: some text, and perhaps a call.
fn said(api: Api, turn: usize, text: &str, call: Option<(&str, &str)>) -> Value {
    let (input, output) = (1000 * turn, 10 * turn);
    let id = format!("call_{turn}");
    match api {
        Api::ChatCompletions => {
            let mut message = json!({"role": "assistant", "content": text, "refusal": null});
            if let Some((name, arguments)) = call {
                let function = json!({"name": name, "arguments": arguments});
                message["tool_calls"] =
                    json!([{"id": id, "type": "function", "function": function}]);
            }
            let finish = if call.is_some() { "tool_calls" } else { "stop" };
            let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
            let choice =
                json!({"index": 0, "message": message, "logprobs": null, "finish_reason": finish});
            json!({
                "id": format!("chatcmpl-{turn}"), "object": "chat.completion", "created": 1_763_894_000, "model": "gpt-5.1",
                "choices": [choice], "usage": usage,
            })
        }
        Api::Messages => {
            let mut content = vec![json!({"type": "text", "text": text})];
            if let Some((name, arguments)) = call {
                let input: Value = serde_json::from_str(arguments).unwrap_or_default();
                content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
            }
            let stop = if call.is_some() {
                "tool_use"
            } else {
                "end_turn"
            };
            json!({
                "id": format!("msg_{turn}"), "type": "message", "role": "assistant", "model": "claude-fixture-1",
                "content": content, "stop_reason": stop, "stop_sequence": null,
                "usage": {"input_tokens": input, "output_tokens": output},
            })
        }
        Api::Responses => {
            let part =
                json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
            let mut items = vec![json!({
                "id": format!("msg_{turn}"), "type": "message", "status": "completed", "role": "assistant", "content": [part],
            })];
            if let Some((name, arguments)) = call {
                items.push(json!({
                    "id": format!("fc_{turn}"), "type": "function_call", "status": "completed", "call_id": id, "name": name,
                    "arguments": arguments,
                }));
            }
            let usage = json!({
                "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + output,
            });
            json!({
                "id": format!("resp_{turn}"), "object": "response", "created_at": 1_763_894_100, "status": "completed",
                "error": null, "incomplete_details": null, "instructions": null, "model": "gpt-5.1", "output": items,
                "parallel_tool_calls": false, "tool_choice": "auto", "tools": [], "metadata": {}, "usage": usage,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{APIS, grammar};

    const PLAN: &str = "call add {\"a\":2}\ncall echo {}";

    fn asked(api: Api, since: &[Value]) -> Option<Result<Value, String>> {
        let mut list = vec![json!({"role": "user", "content": PLAN})];
        list.extend_from_slice(since);
        let (key, tools) = match api {
            Api::ChatCompletions => ("messages", json!([{"function": {"name": "add"}}])),
            Api::Messages => ("messages", json!([{"name": "add"}])),
            Api::Responses => ("input", json!([{"name": "add"}])),
        };
        reply(api, &json!({"tools": tools, key: list}))
    }

    fn read(api: Api, reply: &Value) -> grammar::Reply {
        grammar::body(api, reply.to_string().as_bytes()).unwrap()
    }

    /// A call and its result, as the API's history has them.
    fn round(api: Api, result_id: &str) -> [Value; 2] {
        match api {
            Api::ChatCompletions => [
                json!({"role": "assistant", "content": null, "tool_calls": [{"id": "call_1"}]}),
                json!({"role": "tool", "tool_call_id": result_id, "content": "2"}),
            ],
            Api::Messages => [
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "call_1"}]}),
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": result_id, "content": "2"}]}),
            ],
            Api::Responses => [
                json!({"type": "function_call", "call_id": "call_1"}),
                json!({"type": "function_call_output", "call_id": result_id, "output": "2"}),
            ],
        }
    }

    #[test]
    fn calls_what_is_offered_and_says_what_is_not() {
        for api in APIS {
            let first = read(api, &asked(api, &[]).unwrap().unwrap());
            let call = &first.calls[0];
            assert_eq!((&*call.name, &*call.id), ("add", "call_1"));
            let second = asked(api, &round(api, "call_1")).unwrap().unwrap();
            assert_eq!(read(api, &second).text, "There is no tool echo.");
        }
    }

    #[test]
    fn refuses_a_result_of_no_call_and_a_call_without_result() {
        for api in APIS {
            let wrong = asked(api, &round(api, "call_2")).unwrap().unwrap_err();
            assert_eq!(wrong, "a result for call_2, which was not called");
            let wrong = asked(api, &round(api, "call_1")[..1]).unwrap().unwrap_err();
            assert_eq!(wrong, "no result for call_1");
        }
    }

    #[test]
    fn any_other_prompt_is_no_plan() {
        let request = json!({"messages": [{"role": "user", "content": "Please call me."}]});
        assert_eq!(reply(Api::Messages, &request), None);
    }
}
