//! How fast a request body is checked while two of its fields are found, and strings unescaped.

use std::{fmt::Write, hint::black_box};

use aibridge_core::json::{Error, Scanner};
use divan::{Bencher, counter::BytesCount};

fn main() {
    divan::main();
}

const TOOL: &str = r#"{"name":"read_file","description":"Reads a file from the local filesystem.\n\nUsage:\n- The path must be absolute, not relative.\n- By default, it reads up to 2000 lines.","input_schema":{"type":"object","properties":{"file_path":{"type":"string","description":"The absolute path"},"offset":{"type":"integer","minimum":0},"limit":{"type":"integer","minimum":1,"maximum":2000},"tags":{"type":"array","items":{"type":"string","enum":["a","b","c"]}}},"required":["file_path"],"additionalProperties":false}}"#;

const TURN: &str = r#"{"role":"user","content":[{"type":"text","text":"Here is what the function does today, as far as I can tell:\n\n```rust\nfn main() {\n    println!(\"hello, {}\", name);\n    let total = items.iter().map(|item| item.price * item.count).sum::<u64>();\n}\n```\n\nPlease explain why the second line is needed at all, and whether we could do without it; then write a test that fails without it, in the style of the other tests of this module.\n","cache_control":{"type":"ephemeral"}}]}"#;

/// A body of about `size` bytes as an agent sends it: a fifth of it tool schemas, the rest
/// conversation, and `stream` last.
fn body(size: usize) -> String {
    let mut body = r#"{"model":"claude-sonnet-4-5","max_tokens":32000,"tools":["#.to_owned();
    let list = |body: &mut String, item: &str, until: usize| {
        body.push_str(item);
        while body.len() + item.len() < until {
            write!(body, ",{item}").expect("a String takes it");
        }
    };
    list(&mut body, TOOL, size / 5);
    body.push_str(r#"],"messages":["#);
    list(&mut body, TURN, size);
    body.push_str(r#"],"stream":true}"#);
    body
}

fn model_and_stream(body: &[u8]) -> Result<(usize, bool), Error> {
    let mut scanner = Scanner::new(body)?;
    let (mut model, mut stream) = (0, false);
    scanner.object()?;
    while let Some(key) = scanner.key()? {
        match key.raw() {
            "model" => model = black_box(scanner.string()?.decode()).len(),
            "stream" => stream = scanner.bool()?,
            _ => {
                scanner.skip()?;
            }
        }
    }
    scanner.end()?;
    Ok((model, stream))
}

#[divan::bench(args = [1 << 10, 100 << 10, 1 << 20])]
fn find_model_and_stream_in_a_body_of(bencher: Bencher<'_, '_>, size: usize) {
    let body = body(size);
    bencher
        .counter(BytesCount::of_str(&body))
        .bench_local(|| model_and_stream(black_box(body.as_bytes())));
}

#[divan::bench]
fn check_tool_schemas(bencher: Bencher<'_, '_>) {
    let tools = format!("[{}]", [TOOL; 200].join(","));
    bencher
        .counter(BytesCount::of_str(&tools))
        .bench_local(|| Scanner::new(black_box(tools.as_bytes()))?.skip());
}

#[divan::bench]
fn decode_a_prompt_of_100_kib(bencher: Bencher<'_, '_>) {
    let line = r#"    println!(\"hello, {}\", name); // and a few more words\n"#;
    let text = format!("\"{}\"", line.repeat((100 << 10) / line.len()));
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        Scanner::new(text.as_bytes())?
            .string()
            .map(|s| s.decode().len())
    });
}
