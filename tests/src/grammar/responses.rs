//! `response.created`, items with places from zero that are added and done, one terminal event;
//! numbers that rise.

use serde_json::Value;

use super::{Call, Reply, array, check_arguments, count, ensure, json, number, string};

#[derive(Debug, Default)]
pub(super) struct Reader {
    reply: Reply,
    started: bool,
    last_number: Option<u64>,
    /// For each item that was added, whether it is done.
    items: Vec<bool>,
    /// What its deltas said.
    streamed: String,
}

impl super::Reader for Reader {
    fn event(&mut self, name: &str, data: &str) -> Result<bool, String> {
        let event = json(data)?;
        let kind = string(&event, "type")?;
        ensure(name == kind, "the event's name is not its type")?;
        let is_known = kind == "error" || !event["response"].is_null();
        if event["sequence_number"].is_null() && !is_known && event["output_index"].is_null() {
            // An event of a later day.
            return Ok(false);
        }
        let number = number(&event, "sequence_number")?;
        ensure(
            self.last_number.is_none_or(|last| last < number),
            "the sequence number does not rise",
        )?;
        self.last_number = Some(number);
        if kind == "error" {
            string(&event, "message")?;
            self.reply.error = Some(event);
            return Ok(true);
        }
        let response = &event["response"];
        if kind == "response.created" {
            ensure(!self.started, "a second response.created")?;
            self.started = true;
            string(response, "id")?.clone_into(&mut self.reply.id);
            return Ok(false);
        }
        ensure(self.started, "no response.created before")?;
        if !event["output_index"].is_null() {
            self.item(kind, &event)?;
        }
        match kind {
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.end(response).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn finish(self) -> Result<Reply, String> {
        Ok(self.reply)
    }
}

impl Reader {
    fn item(&mut self, kind: &str, event: &Value) -> Result<(), String> {
        let index = usize::try_from(number(event, "output_index")?).unwrap_or(usize::MAX);
        if kind == "response.output_item.added" {
            ensure(index == self.items.len(), "the place does not follow")?;
            self.items.push(false);
            return Ok(());
        }
        let is_done = self.items.get_mut(index).ok_or("no such item")?;
        ensure(!*is_done, "the item is done")?;
        match kind {
            "response.output_item.done" => *is_done = true,
            "response.output_text.delta" => self.streamed += string(event, "delta")?,
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, response: &Value) -> Result<(), String> {
        let reply = read(response)?;
        ensure(reply.id == self.reply.id, "another id")?;
        ensure(self.items.iter().all(|done| *done), "an item is not done")?;
        // Some servers leave the output out of the last event.
        let outputs = array(response, "output")?.len();
        ensure(
            outputs == self.items.len() || outputs == 0 || self.items.is_empty(),
            "the items are not the output",
        )?;
        ensure(
            self.streamed.is_empty() || reply.text == self.streamed || outputs == 0,
            "the text is not what was streamed",
        )?;
        self.reply = reply;
        Ok(())
    }
}

fn read(response: &Value) -> Result<Reply, String> {
    let mut reply = Reply {
        id: string(response, "id")?.to_owned(),
        stop: string(response, "status")?.to_owned(),
        ..Reply::default()
    };
    for item in array(response, "output")? {
        match string(item, "type")? {
            "message" => {
                for part in array(item, "content")? {
                    reply.text += part["text"].as_str().unwrap_or_default();
                }
            }
            "reasoning" => {
                for part in item["summary"].as_array().into_iter().flatten() {
                    reply.thoughts += part["text"].as_str().unwrap_or_default();
                }
            }
            "function_call" => {
                let arguments = string(item, "arguments")?;
                if reply.stop == "completed" {
                    check_arguments(arguments)?;
                }
                reply.calls.push(Call {
                    id: string(item, "call_id")?.to_owned(),
                    name: string(item, "name")?.to_owned(),
                    arguments: arguments.to_owned(),
                });
            }
            _ => {}
        }
    }
    count(&response["usage"], &mut reply.usage);
    Ok(reply)
}

pub(super) fn body(response: &Value) -> Result<Reply, String> {
    read(response)
}
