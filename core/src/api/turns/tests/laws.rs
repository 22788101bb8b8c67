//! What holds whatever a provider sends.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::api::tests::APIS;

/// Data that each API's streams are made of, sound and broken.
const DATA: [&str; 38] = [
    "{}",
    "[]",
    "{",
    "[DONE]",
    r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"bmcp_t","input":{}}}"#,
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"b","name":"own","input":{}}}"#,
    r#"{"type":"content_block_start","content_block":7}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\x"}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\ud83d"}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
    r#"{"type":"content_block_delta","index":1,"delta":{"citation":{},"x":1}}"#,
    r#"{"type":"content_block_stop","index":0}"#,
    r#"{"type":"content_block_stop","index":1}"#,
    r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":3,"input_tokens":null}}"#,
    r#"{"type":"message_delta","delta":{},"usage":{}}"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"error","error":{"type":"e","message":"m"}}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    r#"{"id":"d","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"obfuscation":"x"}"#,
    r#"{"choices":[{"delta":{"content":"ho"}},{"index":1,"delta":{"content":"he"}}],"id":"e"}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"bmcp_t","arguments":"{}"}}]}}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"id":"b","function":{"name":"own"}},7,{"index":0}]}}]}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1}}"#,
    r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":1,"x":{"y":18446744073709551615}}}"#,
    r#"{"id":7,"choices":[7],"usage":7}"#,
    r#"{"type":"response.created","response":{"id":"r"},"sequence_number":0}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","name":"bmcp_t"}}"#,
    r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"message","phase":"final_answer"}}"#,
    r#"{"type":"response.output_text.delta","output_index":1,"delta":"x"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","name":"bmcp_t","arguments":"{}"}}"#,
    r#"{"type":"response.output_item.done","output_index":2,"item":{"type":"function_call","name":"own"}}"#,
    r#"{"type":"response.output_item.done","item":7}"#,
    r#"{"type":"response.completed","response":{"output":[{"type":"function_call","name":"bmcp_t","arguments":"{}"},7],"usage":{"input_tokens":1}}}"#,
    r#"{"type":"response.completed","response":7}"#,
];

fn any_stream() -> impl Strategy<Value = String> {
    let event = (select(DATA.to_vec()), any::<bool>()).prop_map(|(data, is_named)| {
        let name = data.strip_prefix(r#"{"type":""#).filter(|_| is_named);
        match name.and_then(|rest| rest.split('"').next()) {
            Some(name) => ["event: ", name, "\ndata: ", data, "\n\n"].concat(),
            None => ["data: ", data, "\n\n"].concat(),
        }
    });
    let other = select(vec![
        ": c\n\n",
        "\n",
        "data: [\ndata: ]\n\n",
        "event: x\n\n",
    ]);
    vec(
        prop_oneof![9 => event, 1 => other.prop_map(str::to_owned)],
        0..24,
    )
    .prop_map(|events| events.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Nothing that is sent panics; how it is cut changes nothing; what goes upstream is JSON.
    #[test]
    fn any_streams_are_followed(streams in vec(any_stream(), 1..4), piece in 1..90usize) {
        let request = r#"{"model":"m","stream":true,"messages":[],"input":[]}"#;
        let streams: Vec<_> = streams.iter().map(String::as_str).collect();
        for api in APIS {
            let whole = stream_in(api, request, &streams, usize::MAX);
            let cut = stream_in(api, request, &streams, piece);
            prop_assert_eq!(&cut.client, &whole.client);
            prop_assert_eq!(&cut.ends, &whole.ends);
            for request in &whole.requests {
                prop_assert!(inspect(api, request.as_bytes()).is_ok(), "{}", request);
            }
        }
    }

    #[test]
    fn any_bodies_are_followed(bodies in vec(select(DATA.to_vec()), 1..4)) {
        let request = r#"{"model":"m","messages":[],"input":[]}"#;
        for api in APIS {
            let played = block(api, request, &bodies);
            for request in &played.requests {
                prop_assert!(inspect(api, request.as_bytes()).is_ok(), "{}", request);
            }
        }
    }
}
