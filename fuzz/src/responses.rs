//! The reply on a connection to upstream: no split shows, what is held is bounded, and hyper finds
//! the same status and the same body.

use std::iter;

use aibridge_core::http1::Limits;
use http::Method;

use crate::{
    hyper_says,
    messages::{response, tight},
    pieces,
};

/// Decodes `data` as the reply to a GET, a HEAD or a CONNECT.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        for ends in [true, false] {
            let limits = tight();
            let whole = response(iter::once(data), &limits, &method, ends);
            assert_eq!(response(pieces(data), &limits, &method, ends), whole);
            assert_eq!(response(data.chunks(1), &limits, &method, ends), whole);
        }
    }
    let ours = response(iter::once(data), &Limits::default(), &Method::GET, true);
    let (Some(ours), Some(theirs)) = (ours.messages.last(), hyper_says::response(data)) else {
        return;
    };
    if !ours.complete {
        return;
    }
    assert_eq!(ours.status, theirs.status);
    if let Some(body) = theirs.body {
        assert_eq!(ours.body, body);
    }
}
