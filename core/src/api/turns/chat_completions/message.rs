//! The assistant's message of a streamed turn, put together again.

use super::{Merge, chunk::CallDelta};
use crate::api::{
    edits::quoted,
    read::decoded,
    turns::{ToolCall, history::put},
};

/// A call whose arguments may still grow.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) index: Option<u64>,
    pub(super) call: ToolCall,
    pub(super) is_injected: bool,
    /// Members of the server's own, each with a comma before it.
    pub(super) others: String,
}

impl OpenCall {
    /// Takes what a delta says of the call.
    pub(super) fn add(&mut self, delta: &CallDelta<'_>, data: &[u8]) {
        let arguments = decoded(delta.arguments);
        self.call.arguments.push_str(&arguments);
        for (name, range) in &delta.others {
            let value = data.get(range.clone()).unwrap_or_default();
            let member = format!(",\"{}\":", name.raw());
            if !self.others.contains(&member) {
                self.others += &member;
                self.others += &String::from_utf8_lossy(value);
            }
        }
    }
}

impl Merge {
    /// The assistant's message, from what was streamed. All its calls are injected ones.
    pub(super) fn message(&self, calls: &[ToolCall]) -> Vec<u8> {
        let mut message = b"{\"role\":\"assistant\"".to_vec();
        if self.message.raw("content").is_none_or(<[u8]>::is_empty) {
            message.extend_from_slice(b",\"content\":null");
        }
        for (name, raw) in self.message.iter() {
            put(name, raw, &mut message);
        }
        if !self.details.is_empty() {
            message.extend_from_slice(b",\"reasoning_details\":[");
            message.extend_from_slice(&self.details);
            message.push(b']');
        }
        let calls = calls.iter().zip(&self.calls);
        let calls: Vec<_> = calls
            .map(|(ToolCall { id, name, arguments }, OpenCall { others, .. })| {
                format!(
                    "{{\"id\":{},\"type\":\"function\",\"function\":{{\"name\":{},\"arguments\":{}}}{others}}}",
                    quoted(id),
                    quoted(name),
                    quoted(arguments)
                )
            })
            .collect();
        message.extend_from_slice(format!(",\"tool_calls\":[{}]}}", calls.join(",")).as_bytes());
        message
    }
}
