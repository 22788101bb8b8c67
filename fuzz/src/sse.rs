//! Server-sent events: no split shows, no byte is lost, no more than an event is held, and another
//! parser finds the same events.

use std::convert::Infallible;

use aibridge_core::{
    codec::Step,
    sse::{Decoder, Item, MAX_EVENT},
};
use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures_util::{FutureExt, StreamExt, stream};

use crate::pieces;

/// An event as any parser sees it: name and data.
type Event = (Vec<u8>, Vec<u8>);

/// The byte order mark, which a stream may begin with.
const MARK: char = '\u{feff}';

/// What may follow an event's last line before it is clear that the event is over.
const LINE_END: usize = 2;

/// Decodes `data` as a stream.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    for limit in [MAX_EVENT, 40] {
        let (whole, raw) = decode([data].into_iter(), limit);
        assert_eq!(raw, data, "all bytes come out");
        let (cut, raw) = decode(pieces(data), limit);
        assert_eq!(raw, data, "all bytes come out of pieces");
        let (single, _) = decode(data.chunks(1), limit);
        // How much of an event was held when it went above the limit depends on the pieces; what an
        // event is does not.
        assert_eq!(cut, whole, "limit {limit}");
        assert_eq!(single, whole, "limit {limit}");
    }
    if let Ok(text) = str::from_utf8(data) {
        compare(text, &decode([data].into_iter(), MAX_EVENT).0);
    }
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> (Vec<Event>, Vec<u8>) {
    let mut decoder = Decoder::new(limit);
    let (mut events, mut raw) = (Vec::new(), Vec::new());
    let mut take = |decoder: &mut Decoder| {
        while let Step::Item(item) = decoder.next() {
            raw.extend_from_slice(item.raw());
            if let Item::Event(event) = item {
                if let Some(range) = event.data_range() {
                    assert_eq!(event.raw()[range], *event.data());
                }
                events.push((event.name().to_vec(), event.data().into_owned()));
            }
        }
        let held = decoder.buffered();
        assert!(held <= limit + LINE_END, "{held} bytes held of {limit}");
    };
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        take(&mut decoder);
    }
    decoder.end();
    take(&mut decoder);
    (events, raw)
}

/// `eventsource-stream` names unnamed events `message`, leaves out those whose data is empty, waits
/// after a last CR for what comes, and panics on a byte order mark: all its own.
fn compare(text: &str, ours: &[Event]) {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    if text.starts_with(MARK) {
        return;
    }
    let line_feed = if text.ends_with('\r') { "\n" } else { "" };
    let pieces = [text, line_feed].map(|piece| Ok::<_, Infallible>(piece.as_bytes()));
    let stream = stream::iter(pieces).eventsource();
    let theirs = stream.map(|event| event.map(|event| (event.event, event.data)));
    let Some(theirs) = theirs.collect::<Vec<_>>().now_or_never() else {
        panic!("the other parser waits");
    };
    let Ok(theirs) = theirs.into_iter().collect::<Result<Vec<_>, _>>() else {
        return; // it gives up on what is no field
    };
    let ours: Vec<_> = ours
        .iter()
        .filter(|(_, data)| !data.is_empty())
        .map(|(name, data)| {
            let name = if name.is_empty() {
                &b"message"[..]
            } else {
                name
            };
            (String::from_utf8_lossy(name), String::from_utf8_lossy(data))
        })
        .collect();
    let theirs: Vec<_> = theirs
        .iter()
        .filter(|(_, data)| !data.is_empty())
        .map(|(name, data)| (name.as_str().into(), data.as_str().into()))
        .collect();
    assert_eq!(ours, theirs);
}
