//! HTTP/1.1 codecs: heads as the clients and providers send them, and chunked bodies.
//!
//! `cargo bench -p aibridge-core --bench http1`. Allocations are counted beside the time.

use aibridge_core::{
    codec::Step,
    http1::{BodyLength, Limits, client, server},
};
use bytes::{Buf, Bytes};
use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use http::{HeaderMap, Method, StatusCode, Version};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const REQUEST: &str = "POST /v1/messages?beta=true HTTP/1.1\r\n\
    host: 127.0.0.1:8787\r\n\
    accept: application/json\r\n\
    anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14\r\n\
    anthropic-dangerous-direct-browser-access: true\r\n\
    anthropic-version: 2023-06-01\r\n\
    content-type: application/json\r\n\
    user-agent: claude-cli/2.0.0 (external, cli)\r\n\
    x-api-key: sk-ant-api03-000000000000000000000000000000000000\r\n\
    x-app: cli\r\n\
    x-stainless-arch: x64\r\n\
    x-stainless-lang: js\r\n\
    x-stainless-package-version: 0.60.0\r\n\
    x-stainless-runtime: node\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    content-length: 0\r\n\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n\
    date: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    content-type: text/event-stream; charset=utf-8\r\n\
    connection: keep-alive\r\n\
    cache-control: no-cache\r\n\
    anthropic-ratelimit-requests-limit: 4000\r\n\
    anthropic-ratelimit-requests-remaining: 3999\r\n\
    anthropic-ratelimit-requests-reset: 2024-01-01T00:00:00Z\r\n\
    request-id: req_000000000000000000000000\r\n\
    server: cloudflare\r\n\
    content-length: 0\r\n\r\n";

#[divan::bench(sample_size = 64)]
fn request_head(bencher: Bencher<'_, '_>) {
    let wire = Bytes::from_static(REQUEST.as_bytes());
    let mut decoder = server::Decoder::new(Limits::default());
    bencher
        .counter(BytesCount::new(wire.len()))
        .bench_local(|| {
            decoder.push(black_box(wire.clone()));
            black_box(decoder.next()).expect("the head");
            black_box(decoder.next()).expect("the end");
            decoder.next_message();
        });
}

#[divan::bench(sample_size = 64)]
fn request_head_in_two_reads(bencher: Bencher<'_, '_>) {
    let wire = Bytes::from_static(REQUEST.as_bytes());
    let mut decoder = server::Decoder::new(Limits::default());
    bencher
        .counter(BytesCount::new(wire.len()))
        .bench_local(|| {
            decoder.push(wire.slice(..300));
            black_box(decoder.next()).expect("more");
            decoder.push(wire.slice(300..));
            black_box(decoder.next()).expect("the head");
            black_box(decoder.next()).expect("the end");
            decoder.next_message();
        });
}

#[divan::bench(sample_size = 64)]
fn response_head(bencher: Bencher<'_, '_>) {
    let wire = Bytes::from_static(RESPONSE.as_bytes());
    bencher
        .counter(BytesCount::new(wire.len()))
        .bench_local(|| {
            let mut decoder = client::Decoder::new(Limits::default(), &Method::POST);
            decoder.push(black_box(wire.clone()));
            black_box(decoder.next()).expect("the head");
        });
}

#[divan::bench(sample_size = 64)]
fn encode_request_head(bencher: Bencher<'_, '_>) {
    let headers = headers();
    bencher.bench_local(|| {
        client::encode_head(
            &Method::POST,
            "/v1/messages",
            "a.test",
            black_box(&headers),
            &[],
            9,
        )
    });
}

#[divan::bench(sample_size = 64)]
fn encode_response_head(bencher: Bencher<'_, '_>) {
    let headers = headers();
    bencher.bench_local(|| {
        server::Encoder::new(Version::HTTP_11, &Method::POST).head(
            StatusCode::OK,
            black_box(&headers),
            BodyLength::Chunked,
            false,
        )
    });
}

/// 1 MiB in chunks of this size, read from the socket 64 KiB at a time.
#[divan::bench(args = [100, 4096])]
fn decode_chunked_body(bencher: Bencher<'_, '_>, chunk: usize) {
    let mut wire = Vec::new();
    let mut left = 1 << 20;
    while left > 0 {
        let len = chunk.min(left);
        wire.extend_from_slice(format!("{len:x}\r\n").as_bytes());
        wire.resize(wire.len() + len, b'x');
        wire.extend_from_slice(b"\r\n");
        left -= len;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let wire = Bytes::from(wire);
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    bencher
        .counter(BytesCount::new(1_usize << 20))
        .bench_local(|| {
            let mut decoder = client::Decoder::new(Limits::default(), &Method::GET);
            decoder.push(head.clone());
            let mut rest = wire.clone();
            let mut total = 0;
            while rest.has_remaining() {
                decoder.push(rest.split_to(rest.len().min(64 << 10)));
                while let Ok(Step::Item(item)) = decoder.next() {
                    if let client::Item::Body(data) = black_box(item) {
                        total += data.len();
                    }
                }
            }
            assert_eq!(total, 1 << 20);
        });
}

fn headers() -> HeaderMap {
    let mut decoder = server::Decoder::new(Limits::default());
    decoder.push(Bytes::from_static(REQUEST.as_bytes()));
    match decoder.next() {
        Ok(Step::Item(server::Item::Head(head))) => head.headers,
        other => panic!("{other:?}"),
    }
}
