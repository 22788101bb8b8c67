//! Request bodies: whatever is said of one, it can be prepared, and tools be put into it, with
//! nothing else changed.

use aibridge_core::api::{self, Api, Tool};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Members that may be put in, or changed.
const OURS: [&str; 4] = [
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "stream_options",
];

/// Inspects, prepares and injects into `data` as a request's body, in each API.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    let tools: Vec<_> = ["bmcp_a_one", "bmcp_b_two"]
        .iter()
        .filter_map(|name| Tool::new(*name, Some("Does \"it\"."), r#"{"type":"object"}"#).ok())
        .collect();
    for api in [Api::ChatCompletions, Api::Messages, Api::Responses] {
        let body = Bytes::copy_from_slice(data);
        let Ok(inspected) = api::inspect(api, &body) else {
            continue;
        };
        let prepared = api::prepare(body.clone(), &inspected);
        let injected = api::inject(api, body.clone(), &inspected, &tools);
        let none = api::inject(api, body.clone(), &inspected, &[]);
        assert_eq!(none.body, prepared, "no tools, no change");
        // Halves of surrogates are refused by the other parser, and doubled members are not told
        // apart by it.
        let (Some(before), Some(after)) = (object(&body), object(&injected.body)) else {
            continue;
        };
        assert!(object(&prepared).is_some());
        if is_double(&body, &before) {
            continue;
        }
        let is_ours = |name: &String| OURS.contains(&&**name);
        for (name, value) in before.iter().filter(|(name, _)| !is_ours(name)) {
            assert_eq!(after.get(name), Some(value), "{name}");
        }
        let mut names = after.keys();
        assert!(names.all(|name| before.contains_key(name) || is_ours(name)));
        if injected.names.is_empty() {
            assert_eq!(injected.body, prepared);
            continue;
        }
        let (own, all) = (tools_of(&before), tools_of(&after));
        assert_eq!(all.len(), own.len() + injected.names.len());
        let mut rest = all.iter();
        let is_kept = |tool: &Value| rest.any(|known| known == tool);
        assert!(own.iter().all(is_kept), "the client's own, in order");
    }
}

fn tools_of(body: &Map<String, Value>) -> &[Value] {
    let tools = body.get("tools").and_then(Value::as_array);
    tools.map_or(&[], Vec::as_slice)
}

fn object(text: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(text).ok()
}

/// Whether a member of the body itself occurs twice: it is then longer than what is left of it when
/// read.
fn is_double(text: &[u8], members: &Map<String, Value>) -> bool {
    let Ok(mut scan) = aibridge_core::json::Scanner::new(text) else {
        return true;
    };
    let mut count = 0;
    let mut read = || {
        scan.object()?;
        while scan.key()?.is_some() {
            count += 1;
            scan.skip()?;
        }
        Ok::<_, aibridge_core::json::Error>(())
    };
    read().is_err() || count != members.len()
}
