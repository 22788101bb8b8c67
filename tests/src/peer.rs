//! One connection of a scripted upstream, without I/O: bytes in, [`Step`]s out.
//!
//! It reads requests with the core's own strict decoder, so that whatever the bridge sends is
//! checked on the way.

use std::collections::VecDeque;

use aibridge_core::{
    codec::Step as Decoded,
    http1::{
        Limits, RequestHead,
        server::{Decoder, Item},
    },
};
use bytes::{Bytes, BytesMut};
use http::Request;

use crate::{
    reply::Step,
    script::{Seen, Upstream},
};

/// One connection of a scripted upstream, without I/O: bytes in, [`Step`]s out.
#[derive(Debug)]
pub struct Peer {
    upstream: Upstream,
    number: u64,
    decoder: Decoder,
    head: Option<Box<RequestHead>>,
    body: BytesMut,
    steps: VecDeque<Step>,
}

impl Peer {
    /// A connection of this number.
    pub fn new(upstream: Upstream, number: u64) -> Self {
        Self {
            upstream,
            number,
            decoder: Decoder::new(Limits::default()),
            head: None,
            body: BytesMut::new(),
            steps: VecDeque::new(),
        }
    }

    /// The bridge sent something. Says which calls became complete by it.
    pub fn push(&mut self, bytes: Bytes) -> Vec<Seen> {
        self.decoder.push(bytes);
        let mut calls = Vec::new();
        loop {
            match self.decoder.next() {
                Ok(Decoded::Item(Item::Head(head))) => self.head = Some(head),
                Ok(Decoded::Item(Item::Body(bytes))) => self.body.extend_from_slice(&bytes),
                Ok(Decoded::Item(Item::End)) => {
                    calls.extend(self.called());
                    self.decoder.next_message();
                }
                Ok(Decoded::More | Decoded::Pause) => return calls,
                Err(error) => {
                    self.upstream
                        .note(format!("the bridge sent no HTTP: {error:?}"));
                    self.steps.push_back(Step::End);
                    return calls;
                }
            }
        }
    }

    /// The next thing to do.
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// What comes next, without doing it.
    pub fn peek(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// A request is complete: asks the script.
    fn called(&mut self) -> Option<Seen> {
        let head = self.head.take()?;
        let mut request = Request::new(self.body.split().freeze());
        *request.method_mut() = head.method;
        *request.uri_mut() = head.target;
        *request.headers_mut() = head.headers;
        let seen = Seen::new(request, self.number);
        self.steps.extend(self.upstream.call(seen.clone()).steps());
        Some(seen)
    }
}
