//! How fast a stream of typical events is decoded: whole, in reads of 4 KiB, and dribbled.

use std::hint::black_box;

use aibridge_core::{
    codec::Step,
    sse::{Decoder, Item, MAX_EVENT},
};
use bytes::Bytes;
use divan::{Bencher, counter::BytesCount};

fn main() {
    divan::main();
}

/// 1 MiB of events of 150 to 250 bytes, as the messages API streams them.
fn stream() -> Bytes {
    let mut stream = String::with_capacity(1 << 20);
    for nth in 0.. {
        let text = "lorem ipsum dolor sit amet, consectetur adipiscing elit sed do eiusmod tempor incididunt ut";
        let text = &text[..10 + nth * 37 % 80];
        let event = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        );
        if stream.len() + event.len() > 1 << 20 {
            break;
        }
        stream.push_str(&event);
    }
    Bytes::from(stream)
}

#[divan::bench(args = [1 << 20, 16384, 4096, 1024, 64])]
fn decode_1_mib_in_pushes_of(bencher: Bencher<'_, '_>, push: usize) {
    let stream = stream();
    bencher
        .counter(BytesCount::new(stream.len()))
        .bench_local(|| {
            let mut decoder = Decoder::new(MAX_EVENT);
            let mut data = 0;
            let mut rest = stream.clone();
            while !rest.is_empty() {
                decoder.push(rest.split_to(push.min(rest.len())));
                while let Step::Item(item) = decoder.next() {
                    if let Item::Event(event) = &item {
                        data += black_box(event.name()).len() + black_box(event.data()).len();
                    }
                }
            }
            data
        });
}
