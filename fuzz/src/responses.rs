//! The reply on a connection to upstream: no split shows, what is held is bounded, and hyper finds
//! the same status and the same body.

use std::iter;

use aibridge_core::http1::Limits;
use http::Method;

use crate::{
    hyper_says::{self, STRICTER},
    messages::{Decoded, response, tight},
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
    compare(&ours, hyper_says::response(data).as_ref());
}

/// Both find the same reply, and where we find none, neither does hyper. The other way round says
/// nothing: hyper gives up an exchange for more than what is wrong with the bytes, as where a reply is
/// there before the request is out.
fn compare(ours: &Decoded, theirs: Option<&hyper_says::Message>) {
    let Some((status, body)) = theirs.and_then(|it| Some((it.status, it.body.as_ref()?))) else {
        return;
    };
    if let Some(ours) = ours.messages.last().filter(|it| it.complete) {
        assert_eq!((ours.status, &ours.body), (status, body));
        return;
    }
    let is_stricter = ours.error.is_some_and(|error| STRICTER.contains(&error));
    let error = ours.error;
    assert!(
        is_stricter,
        "{error:?} ends what hyper reads: {status} {body:?}"
    );
}
