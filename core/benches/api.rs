//! What it costs to know what a request says, and to follow a streamed reply.
#![allow(
    missing_docs,
    reason = "a benchmark's functions are named in its report"
)]

use aibridge_core::{
    api::{
        self, Api, Stream, Tool,
        turns::{Passed, Turns},
    },
    codec::Step,
    sse,
};
use divan::{Bencher, counter::BytesCount, counter::ItemsCount};

const APIS: [Api; 3] = [Api::ChatCompletions, Api::Messages, Api::Responses];
const SIZES: [usize; 3] = [1 << 10, 100 << 10, 1 << 20];

fn main() {
    divan::main();
}

/// A conversation of `size` bytes or a little more: many turns of text with some escapes, tools in
/// front.
fn request(api: Api, size: usize) -> String {
    let list = if api == Api::Responses {
        "input"
    } else {
        "messages"
    };
    let kind = if api == Api::Responses {
        "input_text"
    } else {
        "text"
    };
    let mut body = format!(
        r#"{{"stream":true,"max_tokens":8192,"tools":[{{"name":"read_file","description":"Reads a file.","input_schema":{{"type":"object","properties":{{"path":{{"type":"string"}}}},"required":["path"]}}}}],"{list}":["#
    );
    let mut turn = 0;
    while body.len() + 400 < size || turn == 0 {
        let role = ["user", "assistant"][turn % 2];
        if turn > 0 {
            body.push(',');
        }
        let text = "The quick brown fox jumps over the lazy dog.\\nThen \\\"it\\\" sleeps. "
            .repeat(2 + turn % 40);
        let message =
            format!(r#"{{"role":"{role}","content":[{{"type":"{kind}","text":"{text}"}}]}}"#);
        body += &message;
        turn += 1;
    }
    body + r#"],"model":"some-model"}"#
}

#[divan::bench(args = APIS, consts = SIZES)]
fn inspect<const SIZE: usize>(bencher: Bencher<'_, '_>, api: Api) {
    let body = request(api, SIZE);
    bencher
        .counter(BytesCount::of_slice(body.as_bytes()))
        .bench_local(|| api::inspect(api, divan::black_box(body.as_bytes())));
}

/// 50 tools with schemas of the size that MCP servers have.
fn tools() -> Vec<Tool> {
    let property =
        r#""name":{"type":"string","description":"What it is called, in the words of the user."}"#;
    let properties = (0..6).map(|nth| property.replace("name", &format!("name_{nth}")));
    let properties: Vec<_> = properties.collect();
    let schema = format!(
        r#"{{"type":"object","properties":{{{}}},"required":["name_0"]}}"#,
        properties.join(",")
    );
    let tool = |nth| {
        let description = "Looks for something, and tells what it is.";
        Tool::new(
            format!("bmcp_server_tool_{nth}"),
            Some(description),
            &schema,
        )
        .expect("a schema")
    };
    (0..50).map(tool).collect()
}

#[divan::bench(args = APIS, consts = [1 << 20])]
fn inject_50_tools<const SIZE: usize>(bencher: Bencher<'_, '_>, api: Api) {
    let body = bytes::Bytes::from(request(api, SIZE));
    let inspected = api::inspect(api, &body).expect("is a request");
    let tools = tools();
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench_local(|| api::inject(api, divan::black_box(body.clone()), &inspected, &tools));
}

/// 100 events: a start, text, an end.
fn stream(api: Api) -> String {
    let (start, end) = match api {
        Api::ChatCompletions => (
            String::new(),
            "data: {\"id\":\"chatcmpl-BwoiPTGRbKkY5rncfaM0s9KtWrq5N\",\"object\":\"chat.completion.chunk\",\"created\":1753357673,\"model\":\"gpt-4.1\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":238}}\n\ndata: [DONE]\n\n",
        ),
        Api::Messages => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":18,\"output_tokens\":1}}}\n\n\
             event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
                .to_owned(),
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        Api::Responses => (
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"},\"sequence_number\":0}\n\n".to_owned(),
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":11,\"output_tokens\":18}},\"sequence_number\":99}\n\n",
        ),
    };
    let text: String = (0..97)
        .map(|i| match api {
            Api::ChatCompletions => format!(
                "data: {{\"id\":\"chatcmpl-BwoiPTGRbKkY5rncfaM0s9KtWrq5N\",\"object\":\"chat.completion.chunk\",\"created\":1753357673,\"model\":\"gpt-4.1-2025-04-14\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_51e1070cf2\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{i}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null,\"obfuscation\":\"ha7QSWu{i}\"}}\n\n"
            ),
            Api::Messages => format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word{i}\"}}}}\n\n"
            ),
            Api::Responses => format!(
                "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"content_index\":0,\"delta\":\" word{i}\",\"item_id\":\"msg_0f9c4b2f224d858000695fa063d4708197af73c2f37cb0b9d3\",\"logprobs\":[],\"obfuscation\":\"N16SG5Ui\",\"output_index\":0,\"sequence_number\":{}}}\n\n",
                i + 1
            ),
        })
        .collect();
    start + &text + end
}

/// Following alone: the events are there already.
#[divan::bench(args = APIS)]
fn follow_100_events(bencher: Bencher<'_, '_>, api: Api) {
    let inspected = api::inspect(api, br#"{"model":"m","stream":true}"#).expect("is a request");
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(stream(api).into());
    let mut events = Vec::new();
    while let Step::Item(item) = decoder.next() {
        if let sse::Item::Event(event) = item {
            events.push(event);
        }
    }
    bencher
        .counter(ItemsCount::new(events.len()))
        .bench_local(|| {
            let mut stream = Stream::new(api, &inspected);
            for event in &events {
                divan::black_box(stream.event(event));
            }
            stream.told()
        });
}

/// As above, with tools injected that are not called.
#[divan::bench(args = APIS)]
fn turns_of_100_events(bencher: Bencher<'_, '_>, api: Api) {
    let body = bytes::Bytes::from_static(br#"{"model":"m","stream":true}"#);
    let inspected = api::inspect(api, &body).expect("is a request");
    let injected = api::inject(api, body, &inspected, &tools());
    let mut decoder = sse::Decoder::new(1 << 20);
    decoder.push(stream(api).into());
    let mut items = Vec::new();
    while let Step::Item(item) = decoder.next() {
        items.push(item);
    }
    bencher
        .counter(ItemsCount::new(items.len()))
        .bench_local(|| {
            let mut turns = Turns::new(
                api,
                &inspected,
                injected.body.clone(),
                injected.names.clone(),
            );
            let mut relayed = 0;
            for item in &items {
                relayed += usize::from(turns.item(item) == Passed::Relay);
            }
            (relayed, turns.end(), turns.told())
        });
}
