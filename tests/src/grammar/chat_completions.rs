//! Chunks of one id; for each choice a role, contents, and one finish; at most one chunk of usage;
//! `[DONE]`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Call, Reply, array, check_arguments, count, ensure, json, string};

#[derive(Debug, Default)]
pub(super) struct Reader {
    reply: Reply,
    choices: BTreeMap<u64, Choice>,
    usage_chunks: u32,
}

#[derive(Debug, Default)]
struct Choice {
    has_role: bool,
    is_finished: bool,
    calls: Vec<(u64, Call)>,
}

impl super::Reader for Reader {
    fn event(&mut self, name: &str, data: &str) -> Result<bool, String> {
        ensure(name.is_empty(), "chunks have no names")?;
        if data == "[DONE]" {
            return Ok(true);
        }
        let chunk = json(data)?;
        if !chunk["error"].is_null() {
            string(&chunk["error"], "message")?;
            self.reply.error = Some(chunk);
            return Ok(true);
        }
        let id = string(&chunk, "id")?;
        ensure(
            self.reply.id.is_empty() || self.reply.id == id,
            "another id",
        )?;
        id.clone_into(&mut self.reply.id);
        count(&chunk["usage"], &mut self.reply.usage);
        let choices = array(&chunk, "choices")?;
        if choices.is_empty() {
            ensure(chunk["usage"].is_object(), "a chunk of nothing")?;
            self.usage_chunks += 1;
            ensure(self.usage_chunks == 1, "a second chunk of usage")?;
        } else {
            ensure(self.usage_chunks == 0, "a choice behind the usage")?;
        }
        choices.iter().try_for_each(|choice| self.choice(choice))?;
        Ok(false)
    }

    fn finish(mut self) -> Result<Reply, String> {
        if self.reply.error.is_some() {
            return Ok(self.reply);
        }
        ensure(!self.choices.is_empty(), "no choice")?;
        for (index, choice) in self.choices {
            ensure(choice.has_role, "a choice without a role")?;
            ensure(choice.is_finished, "a choice is not finished")?;
            for (nth, (call_index, call)) in choice.calls.into_iter().enumerate() {
                ensure(call_index == nth as u64, "calls are not counted from zero")?;
                if index == 0 {
                    self.reply.calls.push(call);
                }
            }
        }
        check_stop(&self.reply)?;
        Ok(self.reply)
    }
}

impl Reader {
    fn choice(&mut self, value: &Value) -> Result<(), String> {
        let index = super::number(value, "index")?;
        let choice = self.choices.entry(index).or_default();
        ensure(!choice.is_finished, "the choice is finished")?;
        let delta = &value["delta"];
        if !delta["role"].is_null() {
            ensure(!choice.has_role, "a second role")?;
            choice.has_role = true;
        }
        ensure(choice.has_role, "no role before")?;
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            choice.call(call)?;
        }
        let reply = &mut self.reply;
        if index == 0 {
            reply.text += delta["content"].as_str().unwrap_or_default();
            reply.thoughts += delta["reasoning_content"].as_str().unwrap_or_default();
        }
        if let Some(reason) = value["finish_reason"].as_str() {
            choice.is_finished = true;
            if index == 0 {
                reason.clone_into(&mut reply.stop);
            }
        }
        Ok(())
    }
}

impl Choice {
    fn call(&mut self, value: &Value) -> Result<(), String> {
        let index = super::number(value, "index")?;
        let function = &value["function"];
        let arguments = function["arguments"].as_str().unwrap_or_default();
        if let Some((_, call)) = self.calls.iter_mut().find(|(known, _)| *known == index) {
            ensure(function["name"].is_null(), "a call is named twice")?;
            call.arguments += arguments;
            return Ok(());
        }
        let call = Call {
            id: string(value, "id")?.to_owned(),
            name: string(function, "name")?.to_owned(),
            arguments: arguments.to_owned(),
        };
        self.calls.push((index, call));
        Ok(())
    }
}

fn check_stop(reply: &Reply) -> Result<(), String> {
    if reply.stop != "tool_calls" {
        return Ok(());
    }
    ensure(
        !reply.calls.is_empty(),
        "finished for a tool that is not called",
    )?;
    let mut calls = reply.calls.iter();
    calls.try_for_each(|call| check_arguments(&call.arguments))
}

pub(super) fn body(completion: &Value) -> Result<Reply, String> {
    let choices = array(completion, "choices")?;
    let first = choices.first().ok_or("no choice")?;
    let message = &first["message"];
    ensure(message["role"] == "assistant", "no assistant's message")?;
    let mut reply = Reply {
        id: string(completion, "id")?.to_owned(),
        text: message["content"].as_str().unwrap_or_default().to_owned(),
        stop: string(first, "finish_reason")?.to_owned(),
        ..Reply::default()
    };
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let arguments = string(&call["function"], "arguments")?;
        reply.calls.push(Call {
            id: string(call, "id")?.to_owned(),
            name: string(&call["function"], "name")?.to_owned(),
            arguments: arguments.to_owned(),
        });
    }
    count(&completion["usage"], &mut reply.usage);
    check_stop(&reply)?;
    Ok(reply)
}
