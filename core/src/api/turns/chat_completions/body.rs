//! Blocking turns: the last reply, without what the client must not see.

use bytes::Bytes;

use super::{Merge, chunk::Chunk, is_tool_use};
use crate::api::{
    edits::Edits,
    read::{self, decoded},
    turns::{MAX_TURN, ToolCall, Turn},
    usage::Counts,
};

impl Merge {
    pub(in crate::api::turns) fn body(body: Bytes, turn: &mut Turn) -> Bytes {
        let chunk = Chunk::read(&body).unwrap_or_default();
        let Some(choice) = &chunk.first else {
            turn.decide(false, |_| None);
            return body;
        };
        let mut edits = Edits::default();
        if let Some(range) = &chunk.usage {
            let usage = &body[range.clone()];
            turn.used = read::document(usage, Counts::read)
                .flatten()
                .unwrap_or_default();
            turn.raise(usage, range.start, &mut edits);
        }
        let delta = &choice.delta;
        let mut keep = Vec::with_capacity(delta.calls.len());
        for call in &delta.calls {
            let name = decoded(call.name);
            let is_injected = turn.is_injected(&name);
            keep.push(!is_injected);
            turn.calls_own |= !is_injected;
            if is_injected {
                turn.calls.push(ToolCall {
                    id: decoded(call.id).into_owned(),
                    name: name.into_owned(),
                    arguments: decoded(call.arguments).into_owned(),
                });
            }
        }
        let reason = choice.finish.as_ref().map(|(reason, _)| reason.decode());
        turn.decide(is_tool_use(reason.as_deref()), |_| {
            let message = delta.range.clone().and_then(|range| body.get(range))?;
            (message.len() <= MAX_TURN).then(|| message.to_vec())
        });
        if turn.goes_on() {
            return Bytes::new();
        }
        if keep.contains(&true) {
            edits.cut(&body, &delta.call_spans, |nth| keep[nth]);
        } else if !keep.is_empty() {
            edits.cut(&body, &delta.spans, |nth| delta.calls_member != Some(nth));
        }
        if let Some((reason, range)) = &choice.finish
            && turn.leaves_no_calls()
            && reason.is("tool_calls")
        {
            edits.replace(range.clone(), "\"stop\"");
        }
        if edits.is_empty() {
            return body;
        }
        edits.apply(&body)
    }
}
