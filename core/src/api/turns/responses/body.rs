//! Blocking turns: the last response, without what the client must not see.

use bytes::Bytes;

use super::{Merge, event::Response};
use crate::api::turns::{MAX_TURN, Turn};

impl Merge {
    pub(in crate::api::turns) fn body(body: Bytes, turn: &mut Turn) -> Bytes {
        let response = Response::read(&body).unwrap_or_default();
        turn.used = response.counts.clone().unwrap_or_default();
        let items = response.items(&body);
        let shown: Vec<_> = items.iter().map(|item| !item.is_injected(turn)).collect();
        for item in &items {
            item.note(turn);
        }
        turn.decide(response.is_completed, |_| {
            let output: Vec<_> = items.iter().map(|item| item.text).collect();
            let output = output.join(&b","[..]);
            (output.len() <= MAX_TURN).then_some(output)
        });
        if turn.goes_on() {
            return Bytes::new();
        }
        let edits = response.edits(&body, &shown, turn);
        if edits.is_empty() {
            return body;
        }
        edits.apply(&body)
    }
}
