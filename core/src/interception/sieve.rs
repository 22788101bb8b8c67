//! A stream taken apart into its events, and put together again of those that pass.
//!
//! Events that came together leave together: what passes is cut out of the bytes that came, in runs
//! as long as possible. An event that is not yet whole waits for its rest.

use bytes::{Buf, Bytes};

use crate::{api::turns::Passed, codec::Step, sse};

/// Lets the events of a stream pass, or not.
#[derive(Debug)]
pub(super) struct Sieve {
    decoder: sse::Decoder,
    /// Bytes that went into the decoder before the last push and have not come out of it.
    held: usize,
    /// The last push, without what has been dealt with.
    bytes: Bytes,
    /// How much of its front passes.
    run: usize,
    /// What is sent in the place of the event that follows the run before.
    instead: Bytes,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self {
            decoder: sse::Decoder::new(sse::MAX_EVENT),
            held: 0,
            bytes: Bytes::new(),
            run: 0,
            instead: Bytes::new(),
        }
    }

    /// Takes some of the stream. What was pushed before must have been taken out with `next`.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.decoder.push(bytes.clone());
        self.bytes = bytes;
    }

    /// The stream has ended: an event without its end comes out too.
    pub(super) fn end(&mut self) {
        self.decoder.end();
    }

    /// The stream stands inside an event.
    pub(super) fn mid_event(&self) -> bool {
        self.decoder.mid_event()
    }

    /// The next bytes to be sent, never empty. `judge` is asked once about each item, in order.
    pub(super) fn next(&mut self, mut judge: impl FnMut(&sse::Item) -> Passed) -> Option<Bytes> {
        if !self.instead.is_empty() {
            return Some(std::mem::take(&mut self.instead));
        }
        while let Step::Item(item) = self.decoder.next() {
            let passed = judge(&item);
            let raw = item.raw();
            let before = self.held.min(raw.len());
            let now = raw.len() - before;
            self.held -= before;
            let instead = match passed {
                Passed::Relay if before == 0 => {
                    self.run += now;
                    continue;
                }
                Passed::Relay => raw.clone(),
                Passed::Replace(bytes) => bytes,
                Passed::Withhold => Bytes::new(),
            };
            let run = self.take_run();
            self.bytes.advance(now);
            if !run.is_empty() {
                self.instead = instead;
                return Some(run);
            }
            if !instead.is_empty() {
                return Some(instead);
            }
        }
        let run = self.take_run();
        self.held += std::mem::take(&mut self.bytes).len();
        (!run.is_empty()).then_some(run)
    }

    fn take_run(&mut self) -> Bytes {
        self.bytes.split_to(std::mem::take(&mut self.run))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that comes out of a sieve which keeps no `b`, and has something else for `c`.
    fn sift(pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut sieve = Sieve::new();
        let mut out = Vec::new();
        let judge = |item: &sse::Item| match item {
            sse::Item::Event(event) if *event.data() == *b"b" => Passed::Withhold,
            sse::Item::Event(event) if *event.data() == *b"c" => Passed::Replace("C".into()),
            _ => Passed::Relay,
        };
        for piece in pieces {
            sieve.push(Bytes::copy_from_slice(piece));
            while let Some(bytes) = sieve.next(judge) {
                out.push(bytes);
            }
        }
        sieve.end();
        while let Some(bytes) = sieve.next(judge) {
            out.push(bytes);
        }
        out
    }

    #[test]
    fn what_came_together_leaves_together() {
        let out = sift(&[b"data: a\n\ndata: a\n\n: rest\ndata: b\n\ndata: c\n\ndata: a\n\ndata:"]);
        let expected = [
            "data: a\n\ndata: a\n\n: rest\n",
            "C",
            "data: a\n\n",
            "data:",
        ];
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn no_split_changes_what_passes(
            events in prop::collection::vec("data: [abc]\n\n|: x\n|\r\n|data: b\r\n\r\n", 0..12),
            mut cuts in prop::collection::vec(0..200_usize, 0..20),
        ) {
            let stream = events.concat().into_bytes();
            cuts.retain(|cut| *cut <= stream.len());
            cuts.sort_unstable();
            let ends = cuts.iter().copied().chain([stream.len()]);
            let mut start = 0;
            let pieces: Vec<_> = ends.map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect();
            // A CRLF that is split ends its event with the CR; the LF after it is an item of its
            // own.
            let strip = |out: Vec<Bytes>| out.concat().into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
            prop_assert_eq!(strip(sift(&pieces)), strip(sift(&[&stream])));
        }
    }
}
