//! The grammar in examples, and its laws under any split of the stream.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Decoder, Event, Item, MAX_EVENT, encode};
use crate::codec::Step;

/// What an event says: name, data, id, retry.
type Fields = (Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<u64>);

fn fields(event: &Event) -> Fields {
    (
        event.name().to_vec(),
        event.data().to_vec(),
        event.id().map(<[u8]>::to_vec),
        event.retry(),
    )
}

fn drain(decoder: &mut Decoder) -> Vec<Item> {
    std::iter::from_fn(|| match decoder.next() {
        Step::Item(item) => Some(item),
        Step::More => None,
        Step::Pause => panic!("an SSE decoder never pauses"),
    })
    .collect()
}

fn decode_pieces<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Item> {
    let mut decoder = Decoder::new(limit);
    let mut items = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        items.extend(drain(&mut decoder));
    }
    decoder.end();
    items.extend(drain(&mut decoder));
    assert!(!decoder.mid_event());
    items
}

fn decode(stream: &[u8]) -> Vec<Item> {
    decode_pieces(MAX_EVENT, [stream])
}

fn events(items: &[Item]) -> Vec<Fields> {
    let event = |item: &Item| match item {
        Item::Event(event) => Some(fields(event)),
        Item::Raw(_) => None,
    };
    items.iter().filter_map(event).collect()
}

fn raw(items: &[Item]) -> Vec<u8> {
    items.iter().flat_map(|item| item.raw().to_vec()).collect()
}

/// Names and data of the events of a stream, as text.
fn named(stream: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    events(&decode(stream.as_bytes()))
        .into_iter()
        .map(|(name, data, ..)| (text(name), text(data)))
        .collect()
}

#[test]
fn reads_the_examples_of_the_standard() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        (
            "data: YHOO\ndata: +2\ndata: 10\n\n",
            &[("", "YHOO\n+2\n10")],
        ),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            &[("", "first event"), ("", "second event")],
        ),
        ("data\n\ndata\ndata\n\ndata:", &[("", ""), ("", "\n")]),
        ("data:test\n\ndata: test\n\n", &[("", "test"), ("", "test")]),
        (
            "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
            &[("add", "73857293"), ("remove", "2153")],
        ),
    ];
    for (stream, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, d)| ((*n).to_owned(), (*d).to_owned()))
            .collect();
        assert_eq!(named(stream), expected, "{stream:?}");
    }
}

#[test]
fn reads_single_fields() {
    // One block each, read between `data: x` and its blank line: name, id, retry.
    type Read = (&'static str, Option<&'static [u8]>, Option<u64>);
    let cases: &[(&str, Read)] = &[
        ("event: a", ("a", None, None)),
        ("event:a", ("a", None, None)),
        ("event:  a ", (" a ", None, None)),
        ("event: a\nevent: b", ("b", None, None)),
        ("event: a\nevent", ("", None, None)),
        ("event: a:b", ("a:b", None, None)),
        ("Event: a", ("", None, None)),
        (" event: a", ("", None, None)),
        ("event : a", ("", None, None)),
        ("id: 7", ("", Some(b"7"), None)),
        ("id", ("", Some(b""), None)),
        ("id: 7\nid: 8", ("", Some(b"8"), None)),
        ("id: 7\nid: 8\0", ("", Some(b"7"), None)),
        ("id: \0", ("", None, None)),
        ("retry: 1500", ("", None, Some(1500))),
        ("retry: 007", ("", None, Some(7))),
        ("retry: 1\nretry: x", ("", None, Some(1))),
        ("retry: +1", ("", None, None)),
        ("retry: 1s", ("", None, None)),
        ("retry:", ("", None, None)),
        ("retry: 99999999999999999999", ("", None, None)),
        (": event: a", ("", None, None)),
        ("unknown: a", ("", None, None)),
        ("database: a", ("", None, None)),
        ("data2", ("", None, None)),
        ("ide: a\nevents\nretry2: 1", ("", None, None)),
    ];
    for (lines, (name, id, retry)) in cases {
        let items = decode(format!("data: x\n{lines}\n\n").as_bytes());
        let [Item::Event(event)] = &items[..] else {
            panic!("{lines:?} gave {items:?}")
        };
        assert_eq!(&*event.data(), b"x", "{lines:?}");
        assert_eq!(
            (event.name(), event.id(), event.retry()),
            (name.as_bytes(), *id, *retry),
            "{lines:?}"
        );
    }
}

#[test]
fn takes_every_line_end() {
    for stream in [
        "event: a\ndata: b\n\n",
        "event: a\r\ndata: b\r\n\r\n",
        "event: a\rdata: b\r\r",
        "event: a\r\ndata: b\n\r",
        "event: a\rdata: b\r\n\n",
    ] {
        let items = decode(stream.as_bytes());
        assert_eq!(items.len(), 1, "{stream:?}");
        assert_eq!(
            named(stream),
            [("a".to_owned(), "b".to_owned())],
            "{stream:?}"
        );
    }
}

/// Comments are no broken events.
#[test]
fn gives_out_what_is_no_event_as_raw() {
    for stream in [
        "\n",
        "\r\n",
        "\r",
        ": OPENROUTER PROCESSING\n\n",
        "event: a\n\n",
        "id: 7\r\rretry: 1\n\n",
        "\u{FEFF}\n",
        "\u{FEFF}",
        "data: unterminated",
        "data: unterminated\n",
        "dat\u{e9}: x\n\n",
        "\u{FEFF}\u{FEFF}data: x\n\n",
    ] {
        let items = decode(stream.as_bytes());
        assert!(events(&items).is_empty(), "{stream:?}");
        assert_eq!(raw(&items), stream.as_bytes());
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_event() {
    let stream = "\u{FEFF}data: x\n\n".as_bytes();
    for split in 0..=stream.len() {
        let (a, b) = stream.split_at(split);
        let items = decode_pieces(MAX_EVENT, [a, b]);
        let [Item::Raw(mark), Item::Event(event)] = &items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(mark, "\u{FEFF}");
        assert_eq!(event.raw(), "data: x\n\n");
    }
}

#[test]
fn gives_out_an_event_with_its_blank_line_and_a_comment_with_its_line() {
    for (stream, items) in [
        ("data: x\n\n", 1),
        ("data: x\r\r", 1),
        ("data: x\r\n\r", 1),
        (": ping\n", 1),
        (": ping\r", 1),
        ("data: x\n: ping\n", 0),
        ("data: x\n", 0),
    ] {
        let mut decoder = Decoder::new(MAX_EVENT);
        for byte in stream.as_bytes() {
            assert!(matches!(decoder.next(), Step::More));
            decoder.push(Bytes::copy_from_slice(&[*byte]));
        }
        assert_eq!(drain(&mut decoder).len(), items, "{stream:?}");
        assert_eq!(decoder.mid_event(), items == 0, "{stream:?}");
    }
}

#[test]
fn a_line_feed_behind_its_carriage_return_passes_at_once() {
    let mut decoder = Decoder::new(MAX_EVENT);
    decoder.push(Bytes::from_static(b"data: x\r\n\r"));
    assert_eq!(drain(&mut decoder).len(), 1);
    decoder.push(Bytes::from_static(b"\n"));
    let items = drain(&mut decoder);
    assert!(
        matches!(&items[..], [Item::Raw(lf)] if lf == "\n"),
        "{items:?}"
    );
    assert!(!decoder.mid_event());
    decoder.push(Bytes::from_static(b"data: y\n\n"));
    assert_eq!(events(&drain(&mut decoder)).len(), 1);
}

#[test]
fn an_event_within_one_push_shares_its_memory() {
    let push = Bytes::from(b"data: 1\n\ndata: 2\n\n".to_vec());
    let mut decoder = Decoder::new(MAX_EVENT);
    decoder.push(push.clone());
    let items = drain(&mut decoder);
    assert_eq!(items[0].raw().as_ptr(), push.as_ptr());
    assert_eq!(items[1].raw().as_ptr(), push[9..].as_ptr());
}

#[test]
fn pushes_may_queue_up() {
    let mut decoder = Decoder::new(MAX_EVENT);
    for piece in ["da", "ta: 1\n", "", "\ndata: ", "2\n\n"] {
        decoder.push(Bytes::from_static(piece.as_bytes()));
    }
    let items = drain(&mut decoder);
    assert_eq!(raw(&items), b"data: 1\n\ndata: 2\n\n");
    assert_eq!(events(&items).len(), 2);
}

#[test]
fn an_event_above_the_limit_passes_as_raw_up_to_its_blank_line() {
    let stream = b"data: 1\n\ndata: 1234\ndata: 2\n\ndata: 3\n\n";
    for size in 1..=stream.len() {
        let items = decode_pieces(12, stream.chunks(size));
        assert_eq!(raw(&items), stream, "pushes of {size}");
        let data: Vec<_> = events(&items).into_iter().map(|fields| fields.1).collect();
        assert_eq!(data, [b"1", b"3"], "pushes of {size}");
    }
}

#[test]
fn the_limit_counts_all_but_the_blank_line() {
    let stream = b"data: x\n\n";
    for (limit, expected) in [(8, 1), (7, 0)] {
        for size in 1..=stream.len() {
            let items = decode_pieces(limit, stream.chunks(size));
            assert_eq!(
                events(&items).len(),
                expected,
                "{limit} in pushes of {size}"
            );
        }
    }
}

#[test]
fn memory_stays_below_the_limit_in_an_endless_event() {
    let mut decoder = Decoder::new(1000);
    decoder.push(Bytes::from_static(b"data: "));
    let mut held = 6;
    for _ in 0..10_000 {
        decoder.push(Bytes::from_static(b"0123456789"));
        held = held + 10 - raw(&drain(&mut decoder)).len();
        assert!(decoder.mid_event());
        assert!(held <= 1000);
    }
}

#[test]
fn says_whether_it_is_within_an_event() {
    let mut decoder = Decoder::new(MAX_EVENT);
    assert!(!decoder.mid_event());
    for (push, within) in [
        ("data: x", true),
        ("\n", true),
        ("\n", false),
        (": c", true),
        ("\n", false),
        ("d", true),
    ] {
        decoder.push(Bytes::from_static(push.as_bytes()));
        drain(&mut decoder);
        assert_eq!(decoder.mid_event(), within, "after {push:?}");
    }
    decoder.end();
    assert_eq!(raw(&drain(&mut decoder)), b"d");
    assert!(!decoder.mid_event());
}

#[test]
fn debug_shows_no_data() {
    let items = decode(b"event: a\ndata: confidential\n\n");
    assert_eq!(format!("{items:?}"), r#"[Event(Event("a", 12 B of 29 B))]"#);
}

#[test]
fn a_name_cannot_smuggle_lines_into_an_encoded_event() {
    assert_eq!(encode("a\ndata: b", "c"), "event: a\ndata: c\n\n");
    assert_eq!(encode("", ""), "data: \n\n");
}

/// A stream and the lengths of the pushes it comes in.
fn split_stream() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let piece = prop_oneof![
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"data"[..]),
        Just(&b"data: some text"[..]),
        Just(&b"event: a"[..]),
        Just(&b"id: 1"[..]),
        Just(&b"retry: 5"[..]),
        Just(&b": comment"[..]),
        Just(&b":"[..]),
        Just(&b" "[..]),
        Just(&b"\xEF\xBB\xBF"[..]),
        Just(&b"\xEF"[..]),
        Just(&b"\0"[..]),
    ];
    let stream = prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat());
    (stream, prop::collection::vec(0usize..12, 1..60))
}

fn cut<'a>(mut stream: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for len in lens {
        let (piece, rest) = stream.split_at((*len).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

/// The events of a stream straight from the standard: line by line over the whole text.
fn model(stream: &[u8]) -> Vec<Fields> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut text = Vec::new();
    for (at, byte) in stream.iter().enumerate() {
        match byte {
            b'\r' => text.push(b'\n'),
            b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
            _ => text.push(*byte),
        }
    }
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    lines.pop(); // what has no line end
    let mut dispatched = Vec::new();
    let (mut name, mut data, mut id, mut retry) = (Vec::new(), Vec::new(), None, None);
    for line in lines {
        if line.is_empty() {
            let event = (name, data, id, retry);
            if !event.1.is_empty() {
                let mut event = event;
                event.1.pop();
                dispatched.push(event);
            }
            (name, data, id, retry) = (Vec::new(), Vec::new(), None, None);
            continue;
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let field = halves.next().unwrap();
        let value = halves.next().unwrap_or(b"");
        let value = if value.first() == Some(&b' ') {
            &value[1..]
        } else {
            value
        };
        match field {
            b"event" => name = value.to_vec(),
            b"data" => data.extend(value.iter().chain(b"\n")),
            b"id" if !value.contains(&0) => id = Some(value.to_vec()),
            b"retry" if value == b"5" => retry = Some(5),
            _ => {}
        }
    }
    dispatched
}

proptest! {
    #[test]
    fn any_split_gives_the_events_of_the_standard((stream, lens) in split_stream()) {
        let items = decode_pieces(MAX_EVENT, cut(&stream, &lens));
        prop_assert_eq!(raw(&items), &stream[..]);
        prop_assert_eq!(events(&items), model(&stream));
    }

    #[test]
    fn any_split_gives_the_same_events_at_a_small_limit((stream, lens) in split_stream(), limit in 0usize..40) {
        let items = decode_pieces(limit, cut(&stream, &lens));
        prop_assert_eq!(raw(&items), &stream[..]);
        prop_assert_eq!(events(&items), events(&decode_pieces(limit, [&stream[..]])));
    }

    #[test]
    fn any_bytes_come_out_as_they_went_in(stream in prop::collection::vec(any::<u8>(), 0..200), lens in prop::collection::vec(0usize..12, 1..20)) {
        let items = decode_pieces(50, cut(&stream, &lens));
        prop_assert_eq!(raw(&items), stream);
    }

    #[test]
    fn nothing_is_held_between_events((stream, lens) in split_stream()) {
        let mut decoder = Decoder::new(MAX_EVENT);
        let mut out = 0;
        let mut pushed = 0;
        for piece in cut(&stream, &lens) {
            pushed += piece.len();
            decoder.push(Bytes::copy_from_slice(piece));
            out += raw(&drain(&mut decoder)).len();
            prop_assert_eq!(decoder.mid_event(), out < pushed);
        }
    }

    #[test]
    fn what_was_encoded_decodes(name in "[a-z_.]{0,12}", data in "[ -~\\n]{0,60}") {
        let items = decode(&encode(&name, &data));
        prop_assert_eq!(events(&items), [(name.into_bytes(), data.into_bytes(), None, None)]);
    }
}
