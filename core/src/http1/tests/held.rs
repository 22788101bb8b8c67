//! What waits in a decoder does not keep alive the buffers it came in.

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A decoder whose request has ended and is being answered: what comes now waits.
fn paused() -> server::Decoder {
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(Bytes::from(GET));
    while let Ok(Step::Item(_)) = decoder.next() {}
    decoder
}

/// Pushes pieces as reads bring them, each in a buffer of its own; gives the buffers.
fn pipeline(decoder: &mut server::Decoder, bytes: &[u8], size: usize) -> Vec<Bytes> {
    let reads: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    for read in &reads {
        decoder.push(read.clone());
    }
    reads
}

#[test]
fn small_pieces_that_wait_pin_no_buffers() {
    let input = GET.repeat(100);
    for size in [1, 7, 1000] {
        let mut decoder = paused();
        let reads = pipeline(&mut decoder, input.as_bytes(), size);
        let pinned = reads.iter().filter(|read| !read.is_unique()).count();
        assert_eq!(pinned, 0, "of {} reads of {size}", reads.len());
        assert_eq!(decoder.buffered(), input.len());
    }
}

#[test]
fn large_pieces_that_wait_are_not_copied() {
    let mut decoder = paused();
    let input = GET.repeat(10_000);
    let reads = pipeline(&mut decoder, input.as_bytes(), 64 << 10);
    let [first @ .., _] = &reads[..] else {
        panic!("several")
    };
    assert!(first.iter().all(|read| !read.is_unique()));
}

#[test]
fn pieces_that_waited_come_out_in_order() {
    let pieces = [3, 30_000, 5, 7, 40_000, 1, 20_000, 20_000, 2].map(|len| len * 3);
    let body: String = ('a'..='z')
        .zip(pieces)
        .map(|(letter, len)| letter.to_string().repeat(len))
        .collect();
    let len: usize = pieces.iter().sum();
    let mut decoder = paused();
    decoder.push(Bytes::from(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {len}\r\n\r\n"
    )));
    let mut at = 0;
    for len in pieces {
        decoder.push(Bytes::copy_from_slice(&body.as_bytes()[at..at + len]));
        at += len;
    }
    decoder.push(Bytes::from(GET));
    decoder.next_message();
    let mut outcome = Outcome::default();
    drain_requests(&mut decoder, &mut outcome);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.messages.len(), 2);
    assert!(outcome.messages[0].body == body.as_bytes());
    assert!(outcome.messages.iter().all(|it| it.complete));
    assert_eq!(decoder.buffered(), 0);
}
