//! The script that comes with the kit.

use aibridge_core::api::Api;
use aibridge_testkit::{APIS, Ask, Reply, Seen, sdk};

#[test]
fn the_builtin_script_answers_by_key() {
    let script = sdk();
    let call = |api: Api, key: &str, streaming: bool, body: &str| {
        let path = match api {
            Api::Messages => "/v1/messages",
            Api::ChatCompletions => "/v1/chat/completions",
            Api::Responses => "/v1/responses",
        };
        let mut ask = Ask::with_body(api, streaming, body).key(api, key);
        ask.path = path.to_owned();
        script.upstream().call(Seen::new(ask.request(), 1))
    };
    for api in APIS {
        for streaming in [false, true] {
            let text = |reply: Reply| String::from_utf8(reply.bytes().to_vec()).unwrap();
            let good = text(call(api, "good", streaming, r#"{"model":"m"}"#));
            assert!(good.starts_with("HTTP/1.1 200") && !good.contains("get_weather"));
            let tools = text(call(
                api,
                "good",
                streaming,
                r#"{"model":"m","tools":[{}]}"#,
            ));
            assert!(tools.contains("get_weather"));
            let limited = text(call(api, "limited", streaming, r#"{"model":"m"}"#));
            assert!(limited.starts_with("HTTP/1.1 429") && limited.contains("retry-after: 5\r\n"));
            let revoked = text(call(api, "revoked", streaming, r#"{"model":"m"}"#));
            assert!(revoked.starts_with("HTTP/1.1 401"));
        }
        let slow = call(api, "good", true, r#"{"model":"slow-m"}"#);
        assert!(slow.steps().len() > 3, "it pauses");
    }
    script.verify();
}
