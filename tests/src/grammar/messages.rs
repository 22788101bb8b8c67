//! `message_start`, blocks one after the other with indexes from zero, `message_delta`,
//! `message_stop`.

use serde_json::Value;

use super::{Call, Reply, array, check_arguments, count, ensure, json, string};

#[derive(Debug, Default)]
pub(super) struct Reader {
    reply: Reply,
    started: bool,
    /// How many blocks began.
    blocks: u64,
    /// The kind of the block that is open.
    open: Option<String>,
    stopped: bool,
}

impl super::Reader for Reader {
    fn event(&mut self, name: &str, data: &str) -> Result<bool, String> {
        let event = json(data)?;
        let kind = string(&event, "type")?;
        ensure(name == kind, "the event's name is not its type")?;
        if kind == "error" {
            string(&event["error"], "type")?;
            string(&event["error"], "message")?;
            self.reply.error = Some(event);
            return Ok(true);
        }
        if kind == "message_start" {
            ensure(!self.started, "a second message_start")?;
            self.started = true;
            string(&event["message"], "id")?.clone_into(&mut self.reply.id);
            count(&event["message"]["usage"], &mut self.reply.usage);
            return Ok(false);
        }
        ensure(self.started, "no message_start before")?;
        if kind.starts_with("content_block") {
            ensure(!self.stopped, "a block behind message_delta")?;
            self.block(kind, &event)?;
        }
        match kind {
            "message_delta" => {
                ensure(self.open.is_none(), "a block is open")?;
                ensure(!self.stopped, "a second message_delta")?;
                self.stopped = true;
                string(&event["delta"], "stop_reason")?.clone_into(&mut self.reply.stop);
                count(&event["usage"], &mut self.reply.usage);
                Ok(false)
            }
            "message_stop" => {
                ensure(self.stopped, "no message_delta before")?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn finish(self) -> Result<Reply, String> {
        if self.reply.error.is_none() {
            check_stop(&self.reply)?;
        }
        Ok(self.reply)
    }
}

impl Reader {
    fn block(&mut self, kind: &str, event: &Value) -> Result<(), String> {
        let index = super::number(event, "index")?;
        if kind == "content_block_start" {
            ensure(self.open.is_none(), "the block before is open")?;
            ensure(index == self.blocks, "the index does not follow")?;
            self.blocks += 1;
            let block = &event["content_block"];
            self.open = Some(string(block, "type")?.to_owned());
            return self.start(block);
        }
        let open = self.open.clone().ok_or("no block is open")?;
        ensure(index + 1 == self.blocks, "not the block that is open")?;
        match kind {
            "content_block_stop" => {
                self.open = None;
                Ok(())
            }
            _ => self.delta(&open, &event["delta"]),
        }
    }

    fn start(&mut self, block: &Value) -> Result<(), String> {
        match string(block, "type")? {
            "text" => self.reply.text += string(block, "text")?,
            "thinking" => self.reply.thoughts += string(block, "thinking")?,
            "tool_use" => self.reply.calls.push(Call {
                id: string(block, "id")?.to_owned(),
                name: string(block, "name")?.to_owned(),
                arguments: String::new(),
            }),
            _ => {}
        }
        Ok(())
    }

    fn delta(&mut self, open: &str, delta: &Value) -> Result<(), String> {
        let kind = string(delta, "type")?;
        let fits = match kind {
            "text_delta" => open == "text",
            "thinking_delta" | "signature_delta" => open == "thinking",
            "input_json_delta" => open.ends_with("tool_use"),
            _ => true,
        };
        ensure(fits, "a delta of another kind than the block")?;
        match kind {
            "text_delta" => self.reply.text += string(delta, "text")?,
            "thinking_delta" => self.reply.thoughts += string(delta, "thinking")?,
            "input_json_delta" if open == "tool_use" => {
                let piece = string(delta, "partial_json")?;
                if let Some(call) = self.reply.calls.last_mut() {
                    call.arguments += piece;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whoever stops to have tools used has called one.
fn check_stop(reply: &Reply) -> Result<(), String> {
    if reply.stop != "tool_use" {
        return Ok(());
    }
    ensure(
        !reply.calls.is_empty(),
        "stopped for a tool that is not called",
    )?;
    let mut calls = reply.calls.iter();
    calls.try_for_each(|call| check_arguments(&call.arguments))
}

pub(super) fn body(message: &Value) -> Result<Reply, String> {
    let mut reader = Reader::default();
    for block in array(message, "content")? {
        reader.start(block)?;
        if block["type"] == "tool_use" {
            ensure(block["input"].is_object(), "a call's input is no object")?;
            if let Some(call) = reader.reply.calls.last_mut() {
                call.arguments = block["input"].to_string();
            }
        }
    }
    let mut reply = reader.reply;
    string(message, "id")?.clone_into(&mut reply.id);
    string(message, "stop_reason")?.clone_into(&mut reply.stop);
    count(&message["usage"], &mut reply.usage);
    check_stop(&reply)?;
    Ok(reply)
}
