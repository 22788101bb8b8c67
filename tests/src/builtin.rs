//! The script that SDKs are tried against.

use std::time::Duration;

use aibridge_core::api::Api;
use serde_json::Value;

use crate::{Fixture, Reply, Script, Seen, obedient, streamed};

/// How long a model whose name begins with `slow-` pauses between events.
const PAUSE: Duration = Duration::from_millis(100);

/// A provider of all three APIs that looks at the key: `good` is answered, `limited` is told to
/// come back in five seconds, any other is refused with 401. A prompt of lines such as
/// `call TOOL {"a":1}` is obeyed, a call a turn, and answered with what the tools said. Any other
/// is answered with a call of `get_weather` for some `city` where tools are offered, and with a
/// sentence where none are. A model whose name begins with `slow-` pauses between events.
pub fn sdk() -> Script {
    let fixtures = Fixture::all();
    Script::choosing(move |call| reply(&fixtures, call))
}

fn reply(fixtures: &[Fixture], call: &Seen) -> Reply {
    let path = call.path.split('?').next().unwrap_or_default();
    let api = match path {
        "/v1/chat/completions" => Api::ChatCompletions,
        "/v1/messages" => Api::Messages,
        "/v1/responses" => Api::Responses,
        "/v1/models" => return Reply::json(200, r#"{"object":"list","data":[],"has_more":false}"#),
        _ => return Reply::status(404),
    };
    match call.key.as_str() {
        "good" => {}
        "limited" => return error(api, 429, "rate_limit_error", "slow down").retry_after(5),
        _ => return error(api, 401, "authentication_error", "invalid key"),
    }
    let Ok(request) = serde_json::from_slice::<Value>(&call.body) else {
        return error(api, 400, "invalid_request_error", "the body is not JSON");
    };
    let streaming = request["stream"] == true;
    let reply = match obedient::reply(api, &request) {
        Some(Ok(said)) if streaming => Reply::sse(streamed(api, &said)),
        Some(Ok(said)) => Reply::json(200, said.to_string()),
        Some(Err(wrong)) => return error(api, 400, "invalid_request_error", &wrong),
        None => match fixture(fixtures, api, &request) {
            Some(fixture) => fixture.reply(streaming),
            None => return Reply::status(500),
        },
    };
    let slow = request["model"]
        .as_str()
        .is_some_and(|model| model.starts_with("slow-"));
    if slow && streaming {
        reply.pausing(PAUSE)
    } else {
        reply
    }
}

/// What is said where nothing else is asked for.
fn fixture<'a>(fixtures: &'a [Fixture], api: Api, request: &Value) -> Option<&'a Fixture> {
    let tools = request["tools"]
        .as_array()
        .is_some_and(|tools| !tools.is_empty());
    let kind = if tools { "client_tool_call" } else { "simple" };
    let of_kind = |fixture: &&Fixture| fixture.api == api && fixture.name.ends_with(kind);
    fixtures.iter().find(of_kind)
}

fn error(api: Api, status: u16, kind: &str, message: &str) -> Reply {
    let error = serde_json::json!({"type": kind, "message": message, "param": null, "code": null});
    let body = match api {
        Api::Messages => {
            serde_json::json!({"type": "error", "error": error, "request_id": "req_scripted"})
        }
        Api::ChatCompletions | Api::Responses => serde_json::json!({"error": error}),
    };
    Reply::json(status, body.to_string())
}
