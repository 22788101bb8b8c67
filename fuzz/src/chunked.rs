//! The chunked coding: what is encoded is decoded, however it is cut, and any bytes in its place
//! are decoded the same in all pieces, or refused.

use std::iter;

use aibridge_core::http1::{BodyLength, Limits, server::Encoder};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::{
    messages::{requests, response, tight},
    pieces,
};

/// Encodes `data` as a body in chunks and decodes it, and decodes `data` as such a body itself.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let mut encoder = Encoder::new(Version::HTTP_11, &Method::GET);
    let head = encoder.head(
        StatusCode::OK,
        &HeaderMap::new(),
        BodyLength::Chunked,
        false,
    );
    let bodies = pieces(data).map(|piece| encoder.body(Bytes::copy_from_slice(piece)));
    let bodies: Vec<_> = bodies.collect();
    let frames = iter::once(head).chain(bodies).chain([encoder.end()]);
    let wire: Vec<u8> = frames
        .flat_map(|mut frame| frame.copy_to_bytes(frame.remaining()))
        .collect();
    for pieces in [
        vec![&wire[..]],
        wire.chunks(3).collect(),
        pieces(&wire).collect(),
    ] {
        let decoded = response(pieces.into_iter(), &Limits::default(), &Method::GET, false);
        assert_eq!(decoded.error, None);
        assert!(decoded.messages[0].complete);
        assert_eq!(decoded.messages[0].body, data);
    }

    let head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let wire = [&head[..], data].concat();
    let whole = requests(iter::once(&wire[..]), &tight());
    assert_eq!(requests(pieces(&wire), &tight()), whole);
    assert_eq!(requests(wire.chunks(1), &tight()), whole);
}
