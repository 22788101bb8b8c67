//! Requests on a connection: no split shows, what is held is bounded, what was decoded can be
//! encoded and decoded again, and hyper finds the same requests with the same bodies. That last one
//! is what smuggling lives on.

use std::iter;

use aibridge_core::http1::{Limits, client::encode_head};
use bytes::Buf;
use http::{HeaderMap, Method};

use crate::{
    hyper_says::{self, STRICTER},
    messages::{Decoded, requests, tight},
    pieces,
};

/// Decodes `data` as what a client sends on a connection.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let limits = tight();
    let whole = requests(iter::once(data), &limits);
    assert_eq!(requests(pieces(data), &limits), whole);
    assert_eq!(requests(data.chunks(1), &limits), whole);

    let whole = requests(iter::once(data), &Limits::default());
    round_trip(&whole);
    compare(&whole, &hyper_says::requests(data));
}

/// Both find the same requests, and where one of them finds no more, neither does the other.
fn compare(ours: &Decoded, theirs: &[hyper_says::Message]) {
    let complete: Vec<_> = ours.messages.iter().filter(|it| it.complete).collect();
    for (ours, theirs) in complete.iter().zip(theirs) {
        assert_eq!(ours.method, theirs.method);
        assert_eq!(ours.target, theirs.target);
        if let Some(body) = &theirs.body {
            assert_eq!(ours.body, *body, "{} {}", ours.method, ours.target);
        }
    }
    let read = theirs.iter().take_while(|it| it.body.is_some()).count();
    if read > complete.len() {
        let is_stricter = ours.error.is_some_and(|error| STRICTER.contains(&error));
        assert!(
            is_stricter,
            "{:?} ends what hyper reads: {theirs:?}",
            ours.error
        );
    }
    if read < complete.len() {
        let last = read.checked_sub(1).map(|last| complete[last]);
        let is_last = last.is_some_and(|last| !last.keep_alive || last.method == Method::CONNECT);
        assert!(is_last, "hyper refuses {:?}", complete[read]);
    }
}

/// What was received is sent on, and received again.
fn round_trip(decoded: &Decoded) {
    for message in decoded.messages.iter().filter(|message| message.complete) {
        let len = message.body.len() as u64;
        let mut head = encode_head(
            &message.method,
            &message.target,
            "a",
            &HeaderMap::new(),
            &[],
            len,
        );
        let mut wire = head.copy_to_bytes(head.remaining()).to_vec();
        wire.extend_from_slice(&message.body);
        let again = requests(iter::once(&wire[..]), &Limits::default());
        assert_eq!(again.error, None, "{}", wire.escape_ascii());
        let [again] = &again.messages[..] else {
            panic!(
                "{} messages of one: {}",
                again.messages.len(),
                wire.escape_ascii()
            );
        };
        assert!(again.complete);
        assert_eq!(
            (&again.method, &again.target, &again.body),
            (&message.method, &message.target, &message.body)
        );
    }
}
