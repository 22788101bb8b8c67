//! What a reply told, collected within limits.

use crate::api::Usage;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It is relayed as it came.
    Relay,
    /// The client did not ask for it.
    Withhold,
}

/// A tool call that the model made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// The provider's id of the call.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Arguments as the model wrote them: JSON text, or free text for custom tools. The tool calls
    /// of a reply together are kept up to 1 MiB; what is beyond is cut off.
    pub arguments: String,
}

/// A thought that the model showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// `thinking`, `reasoning_summary` or `commentary`.
    pub source: &'static str,
    /// Its text. The thoughts of a reply together are kept up to 1 MiB; what is beyond is cut off.
    pub text: String,
}

/// What a reply told, once it has ended or broken off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The reply's id.
    pub id: Option<String>,
    /// The last usage reported; `None` if there was none.
    pub usage: Option<Usage>,
    /// Tool calls in order.
    pub tool_calls: Vec<ToolCall>,
    /// Thoughts in order; none is empty.
    pub thoughts: Vec<Thought>,
    /// The stop or finish reason or the response's status.
    pub stop: Option<String>,
    /// The provider's own error in the stream or body: its message, or else its type. At most 1
    /// KiB.
    pub error: Option<String>,
    /// A stream: its terminal event came (`message_stop`; `[DONE]`; `response.completed`,
    /// `.incomplete`, `.failed`), or an error of the provider's own. A body: it parsed as a reply
    /// of its API.
    pub complete: bool,
    /// Responses: the last `sequence_number`, or `None`.
    pub sequence_number: Option<u64>,
}

/// Takes notes for a [`Told`], and no more of them than there is room for.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) told: Told,
    call_room: usize,
    thought_room: usize,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            told: Told::default(),
            call_room: ROOM,
            thought_room: ROOM,
        }
    }
}

impl Notes {
    /// The reply's id; the first one counts.
    pub(super) fn id(&mut self, id: &str) {
        if self.told.id.is_none() && !id.is_empty() && id.len() <= MAX_SHORT {
            self.told.id = Some(id.to_owned());
        }
    }

    /// Why it stopped; the last word counts.
    pub(super) fn stop(&mut self, reason: &str) {
        self.told.stop = Some(clip(reason, MAX_SHORT).to_owned());
    }

    /// The provider's own error. Nothing is expected after it.
    pub(super) fn error(&mut self, message: &str) {
        self.told.error = Some(clip(message, MAX_SHORT).to_owned());
        self.told.complete = true;
    }

    /// A new tool call, by its place; `None` where there is no room for it.
    pub(super) fn call(&mut self, id: &str, name: &str) -> Option<usize> {
        let cost = size_of::<ToolCall>() + id.len() + name.len();
        self.call_room = self.call_room.checked_sub(cost)?;
        self.told.tool_calls.push(ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
        });
        Some(self.told.tool_calls.len() - 1)
    }

    /// Adds a call's id and name where they were not known yet.
    pub(super) fn name(&mut self, call: usize, id: &str, name: &str) {
        let Some(call) = self.told.tool_calls.get_mut(call) else {
            return;
        };
        if call.id.is_empty() {
            push_within(&mut call.id, id, &mut self.call_room);
        }
        if call.name.is_empty() {
            push_within(&mut call.name, name, &mut self.call_room);
        }
    }

    /// Whether a call is known under an id, and that is not `id`.
    pub(super) fn has_other_id(&self, call: usize, id: &str) -> bool {
        let known = self.told.tool_calls.get(call);
        known.is_some_and(|call| !call.id.is_empty() && call.id != id)
    }

    /// More of a call's arguments.
    pub(super) fn arguments(&mut self, call: usize, text: &str) {
        if let Some(call) = self.told.tool_calls.get_mut(call) {
            push_within(&mut call.arguments, text, &mut self.call_room);
        }
    }

    /// What was noted as a call's arguments so far was none of them.
    pub(super) fn forget_arguments(&mut self, call: usize) {
        if let Some(call) = self.told.tool_calls.get_mut(call) {
            self.call_room += call.arguments.len();
            call.arguments.clear();
        }
    }

    /// A new thought, by its place; `None` where there is no room for it.
    pub(super) fn thought(&mut self, source: &'static str) -> Option<usize> {
        self.thought_room = self.thought_room.checked_sub(size_of::<Thought>())?;
        let text = String::new();
        self.told.thoughts.push(Thought { source, text });
        Some(self.told.thoughts.len() - 1)
    }

    /// More of a thought.
    pub(super) fn think(&mut self, thought: usize, text: &str) {
        if let Some(thought) = self.told.thoughts.get_mut(thought) {
            push_within(&mut thought.text, text, &mut self.thought_room);
        }
    }

    /// A whole thought.
    pub(super) fn whole_thought(&mut self, source: &'static str, text: &str) {
        if let Some(thought) = self.thought(source) {
            self.think(thought, text);
        }
    }

    /// What was told. New notes begin, but it stays known whether the reply was complete.
    pub(super) fn take(&mut self) -> Told {
        let mut told = std::mem::take(self).told;
        // Models that hide their thoughts send the blocks and leave them empty.
        told.thoughts.retain(|thought| !thought.text.is_empty());
        self.told.complete = told.complete;
        told
    }
}

/// Appends what there is room for, in whole characters.
fn push_within(to: &mut String, text: &str, room: &mut usize) {
    let kept = clip(text, *room);
    to.push_str(kept);
    // Text that was cut is not taken up again later, in the middle.
    *room = if kept.len() < text.len() {
        0
    } else {
        *room - kept.len()
    };
}

/// At most `max` bytes of `text`, in whole characters.
fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// For all tool calls of a reply; and as much again for its thoughts. Bytes.
const ROOM: usize = 1 << 20;
/// A call in a body shorter than this is noted, if it is the first. Bytes.
pub(super) const NOTED: usize = ROOM - size_of::<ToolCall>();
/// For ids, stop reasons and errors. Bytes.
const MAX_SHORT: usize = 1 << 10;
