//! Drives an [`Interception`] with no sockets at all: the first key is rate-limited, the second
//! answers.
//!
//! Everything that would take a network is a value here:
//! `cargo run -p aibridge-core --example failover`.

use std::{error::Error, sync::Arc, time::Duration};

use aibridge_core::{
    Bridge, Instant, Interception, InterceptionId, Rng, Target,
    api::Vendor,
    config::{Config, Provider},
    interception::{Action, Event},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::RETRY_AFTER};

fn main() -> Result<(), Box<dyn Error>> {
    let target = Target {
        host: "api.example".into(),
        port: 443,
        tls: true,
    };
    let provider = Provider::new("anthropic", Vendor::Anthropic, target, "")
        .with_keys(["sk-first-key-0001", "sk-second-key-0002"]);
    let config = Arc::new(Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    });
    let mut bridge = Bridge::new(Arc::clone(&config), 7)?;

    let mut now = Instant::from_secs(1_700_000_000);
    let body = r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let request = Request::post("/anthropic/v1/messages").body(Bytes::from(body))?;
    let id = InterceptionId::draw(&mut Rng::new(7));
    let mut interception = Interception::new(now, &config, id, request);

    while !interception.is_done() {
        while let Some(action) = interception.poll_action() {
            match action {
                Action::Call(call, request) => {
                    println!("{now:?}  {call:?} > {} {}", request.method, request.path);
                    now += Duration::from_millis(40);
                    // The scripted upstream: a rate limit for the first key, a reply for the
                    // second.
                    let (status, headers, body) = if request.credential.1 == "sk-first-key-0001" {
                        let wait = (RETRY_AFTER, HeaderValue::from_static("20"));
                        (
                            StatusCode::TOO_MANY_REQUESTS,
                            HeaderMap::from_iter([wait]),
                            "{}",
                        )
                    } else {
                        (
                            StatusCode::OK,
                            HeaderMap::new(),
                            r#"{"type":"message","content":[]}"#,
                        )
                    };
                    interception.handle(now, Event::UpstreamHead(call, status, headers));
                    interception.handle(now, Event::UpstreamBody(call, Bytes::from(body)));
                    interception.handle(now, Event::UpstreamEnd(call));
                }
                Action::ReplyHead(reply) => println!("{now:?}  client < {}", reply.status),
                Action::ReplyBody(bytes) => println!("{now:?}  client < {bytes:?}"),
                Action::Emit(record) => println!("{now:?}  {record:?}"),
                // Without MCP servers in the configuration there are no tools.
                Action::AbortTools
                | Action::CallTool(..)
                | Action::Abort(_)
                | Action::ReplyEnd
                | Action::ReplyAbort => {}
            }
        }
        if let Some(query) = interception.poll_query() {
            let answer = bridge.answer_interception(now, query);
            interception.handle_answer(now, answer);
        }
    }
    for key in &bridge.keys(now)[0].keys {
        println!("{now:?}  {} is {}", key.hint, key.state.as_str());
    }
    Ok(())
}
