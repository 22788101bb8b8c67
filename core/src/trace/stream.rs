//! The bytes that come on one connection, with placeholders in place of secrets.
//!
//! A secret may be cut anywhere. So the bytes of a head are held until the head is complete, and
//! those of a body while they may be the beginning of a secret.

use bytes::Bytes;

use super::{heads, secrets::Secrets};
use crate::{
    codec::Step,
    http1::{
        Limits,
        server::{Decoder, Item},
    },
};

/// Longest head of a reply that is waited for, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// The bytes that come on one connection.
#[derive(Debug)]
pub(super) struct Stream {
    /// Not given out yet.
    held: Vec<u8>,
    part: Part,
    messages: Messages,
}

/// What the first of the bytes that are held belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Body,
    /// So much of it was looked at.
    Head(usize),
    /// Nobody reads it.
    Nothing,
}

/// How heads are found.
#[derive(Debug)]
enum Messages {
    /// One reply.
    Reply,
    /// Requests, one after the other.
    Requests(Box<Decoder>),
}

/// Bytes that are decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) bytes: Vec<u8>,
    /// There was a secret where it does not belong.
    pub(super) repeated: bool,
}

impl Stream {
    /// What a client sends.
    pub(super) fn of_client(limits: &Limits) -> Self {
        let limits = Limits {
            body: u64::MAX,
            ..limits.clone()
        };
        Self {
            held: Vec::new(),
            part: Part::Head(0),
            messages: Messages::Requests(Box::new(Decoder::new(limits))),
        }
    }

    /// What an upstream replies to one request.
    pub(super) const fn of_upstream() -> Self {
        Self {
            held: Vec::new(),
            part: Part::Head(0),
            messages: Messages::Reply,
        }
    }

    /// Takes bytes; gives those that are decided.
    pub(super) fn push(&mut self, bytes: &Bytes, secrets: &mut Secrets) -> Decided {
        let mut decided = Decided::default();
        self.held.extend_from_slice(bytes);
        match &mut self.messages {
            Messages::Reply => self.find_head(secrets, &mut decided),
            Messages::Requests(decoder) => {
                decoder.push(bytes.clone());
                self.find_heads(secrets, &mut decided);
            }
        }
        match self.part {
            Part::Head(_) => {}
            Part::Body => {
                // Scrubbed first: the end of a whole secret is not the beginning of another.
                decided.repeated |= secrets.scrub(&mut self.held);
                let open = secrets.open_end(&self.held);
                self.give(self.held.len() - open, &mut decided);
            }
            Part::Nothing => {
                self.held.fill(b'x');
                self.give(self.held.len(), &mut decided);
            }
        }
        decided
    }

    /// No more will come: gives the rest.
    pub(super) fn end(&mut self, secrets: &mut Secrets) -> Decided {
        let mut decided = Decided::default();
        self.redact_rest(secrets, &mut decided);
        decided.repeated |= secrets.scrub_end(&mut self.held);
        self.give(self.held.len(), &mut decided);
        decided
    }

    fn give(&mut self, count: usize, decided: &mut Decided) {
        decided.bytes.extend(self.held.drain(..count));
    }

    /// A reply's head, and those of the interim replies before it.
    fn find_head(&mut self, secrets: &mut Secrets, decided: &mut Decided) {
        while let Part::Head(seen) = self.part {
            let len = self.held.len();
            let end = match heads::end(&self.held, seen) {
                Some(end) => end,
                None if len > MAX_HEAD => len,
                None => {
                    self.part = Part::Head(len);
                    return;
                }
            };
            let is_interim = self.held.starts_with(b"HTTP/1.1 1");
            self.give_head(end, secrets, decided);
            self.part = if is_interim {
                Part::Head(0)
            } else {
                Part::Body
            };
        }
    }

    /// The heads of requests.
    fn find_heads(&mut self, secrets: &mut Secrets, decided: &mut Decided) {
        while let Messages::Requests(decoder) = &mut self.messages
            && self.part != Part::Nothing
        {
            let step = decoder.next();
            if matches!(step, Ok(Step::Item(Item::End))) {
                decoder.next_message();
            }
            let here = self.held.len().saturating_sub(decoder.buffered());
            match step {
                Ok(Step::Item(Item::Head(_))) => {
                    self.give_head(here, secrets, decided);
                    self.part = Part::Body;
                }
                Ok(Step::Item(Item::Body(_))) => {}
                Ok(Step::Item(Item::End)) => {
                    decided.repeated |= secrets.scrub(&mut self.held[..here]);
                    self.give(here, decided);
                    self.part = Part::Head(0);
                }
                Ok(Step::More | Step::Pause) => return,
                Err(_) => {
                    self.redact_rest(secrets, decided);
                    self.give(self.held.len(), decided);
                    self.part = Part::Nothing;
                }
            }
        }
    }

    fn give_head(&mut self, len: usize, secrets: &mut Secrets, decided: &mut Decided) {
        heads::redact(&mut self.held[..len], secrets);
        heads::scrub(&mut self.held[..len], secrets);
        self.give(len, decided);
    }

    /// What is held, where its message does not go on.
    fn redact_rest(&mut self, secrets: &mut Secrets, decided: &mut Decided) {
        if matches!(self.part, Part::Head(_)) {
            heads::redact(&mut self.held, secrets);
            heads::scrub(&mut self.held, secrets);
        } else {
            decided.repeated |= secrets.scrub(&mut self.held);
        }
    }
}
