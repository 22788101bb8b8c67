use super::*;

/// A stream of events, named by their type where they have one.
fn stream_of(data: &[&str]) -> Vec<u8> {
    let mut stream = String::new();
    for data in data {
        let value: Value = serde_json::from_str(data).unwrap_or_default();
        if let Some(name) = value["type"].as_str() {
            stream.extend(["event: ", name, "\n"]);
        }
        stream.extend(["data: ", *data, "\n\n"]);
    }
    stream.into_bytes()
}

const START: &str =
    r#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3,"output_tokens":1}}}"#;
const TEXT_0: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const WORD_0: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#;
const STOP_0: &str = r#"{"type":"content_block_stop","index":0}"#;
const TOOL_1: &str = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}"#;
const ARGS_1: &str = r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
const STOP_1: &str = r#"{"type":"content_block_stop","index":1}"#;
const END: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#;
const TOOL_END: &str = r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{}}"#;
const LAST: &str = r#"{"type":"message_stop"}"#;
const PING: &str = r#"{"type":"ping"}"#;

#[test]
fn sound_messages_are_read() {
    let sound = stream_of(&[
        START, PING, TEXT_0, WORD_0, WORD_0, STOP_0, TOOL_1, ARGS_1, STOP_1, TOOL_END, LAST, PING,
    ]);
    let reply = stream(Api::Messages, &sound).unwrap();
    assert_eq!((&*reply.text, &*reply.stop), ("hihi", "tool_use"));
    assert_eq!(reply.usage["output_tokens"], 1);
    assert_eq!(reply.calls[0].arguments, "{}");
    let error = r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#;
    let reply = stream(Api::Messages, &stream_of(&[START, TEXT_0, error])).unwrap();
    assert!(reply.error.is_some());
}

#[test]
fn broken_messages_are_told_why() {
    for (broken, why) in [
        (&[START, START][..], "event 2: a second message_start"),
        (&[TEXT_0], "event 1: no message_start before"),
        (&[START, TOOL_1], "event 2: the index does not follow"),
        (
            &[START, TEXT_0, STOP_0, TEXT_0],
            "event 4: the index does not follow",
        ),
        (
            &[START, TEXT_0, TOOL_1],
            "event 3: the block before is open",
        ),
        (
            &[START, TEXT_0, ARGS_1],
            "event 3: not the block that is open",
        ),
        (&[START, WORD_0], "event 2: no block is open"),
        (&[START, TEXT_0, END], "event 3: a block is open"),
        (&[START, END, END], "event 3: a second message_delta"),
        (
            &[START, END, TEXT_0],
            "event 3: a block behind message_delta",
        ),
        (&[START, LAST], "event 2: no message_delta before"),
        (
            &[START, END, LAST, LAST],
            "event 4: something follows the end",
        ),
        (&[START, END], "no end after 2 events"),
        (
            &[START, TOOL_END, LAST],
            "stopped for a tool that is not called",
        ),
        (&["{}"], "event 1: no string `type`"),
        (&["{"], "event 1: no JSON"),
        (
            &[
                START,
                TEXT_0,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            ],
            "event 3: a delta of another kind than the block",
        ),
    ] {
        let broken = stream(Api::Messages, &stream_of(broken)).unwrap_err();
        assert!(broken.to_string().starts_with(why), "{why}: {broken}");
    }
    let unnamed = format!("data: {START}\n\n");
    let broken = stream(Api::Messages, unnamed.as_bytes()).unwrap_err();
    assert!(broken.to_string().contains("name is not its type"));
}

const ROLE: &str =
    r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
const SAY: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}"#;
const CALL: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"name":"n","arguments":"{}"}}]}}]}"#;
const FINISH: &str = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":4}}"#;
const DONE: &str = "[DONE]";

#[test]
fn sound_completions_are_read() {
    let sound = stream_of(&[ROLE, SAY, CALL, FINISH, USAGE, DONE]);
    let reply = stream(Api::ChatCompletions, &sound).unwrap();
    assert_eq!(
        (&*reply.text, &*reply.stop, reply.calls.len()),
        ("hi", "stop", 1)
    );
    assert_eq!(reply.usage["prompt_tokens"], 4);
    let error = r#"{"error":{"message":"no"}}"#;
    let reply = stream(Api::ChatCompletions, &stream_of(&[ROLE, error])).unwrap();
    assert!(reply.error.is_some());
}

#[test]
fn truncated_arguments_are_sound_where_the_stop_says_so() {
    let half = ARGS_1.replace("{}", "{");
    for (end, sound) in [(TOOL_END, false), (END, true)] {
        let events = [START, TEXT_0, STOP_0, TOOL_1, &half, STOP_1, end, LAST];
        assert_eq!(stream(Api::Messages, &stream_of(&events)).is_ok(), sound);
    }
}

#[test]
fn broken_completions_are_told_why() {
    let other = SAY.replace("\"c\"", "\"d\"");
    let above = CALL
        .replace("[{\"index\":0", "[{\"index\":1")
        .replace("choices\":[{\"index\":1", "choices\":[{\"index\":0");
    let tool_finish = FINISH.replace("\"stop\"", "\"tool_calls\"");
    for (broken, why) in [
        (&[SAY][..], "event 1: no role before"),
        (&[ROLE, ROLE], "event 2: a second role"),
        (&[ROLE, &other], "event 2: another id"),
        (&[ROLE, FINISH, SAY], "event 3: the choice is finished"),
        (&[ROLE, FINISH, FINISH], "event 3: the choice is finished"),
        (
            &[ROLE, FINISH, USAGE, USAGE],
            "event 4: a second chunk of usage",
        ),
        (&[ROLE, USAGE, FINISH], "event 3: a choice behind the usage"),
        (&[ROLE, FINISH], "no end after 2 events"),
        (
            &[ROLE, FINISH, DONE, DONE],
            "event 4: something follows the end",
        ),
        (
            &[r#"{"error":{"message":"no"}}"#, DONE],
            "event 2: something follows the end",
        ),
        (&[ROLE, DONE], "a choice is not finished"),
        (&[ROLE, CALL, CALL], "event 3: a call is named twice"),
        (
            &[ROLE, &above, FINISH, DONE],
            "calls are not counted from zero",
        ),
        (
            &[ROLE, &tool_finish, DONE],
            "finished for a tool that is not called",
        ),
        (&[DONE], "no choice"),
    ] {
        let broken = stream(Api::ChatCompletions, &stream_of(broken)).unwrap_err();
        assert!(broken.to_string().starts_with(why), "{why}: {broken}");
    }
}

const CREATED: &str = r#"{"type":"response.created","response":{"id":"r"},"sequence_number":0}"#;
const ADDED: &str =
    r#"{"type":"response.output_item.added","output_index":0,"item":{},"sequence_number":1}"#;
const DELTA: &str =
    r#"{"type":"response.output_text.delta","output_index":0,"delta":"hi","sequence_number":2}"#;
const ITEM_DONE: &str =
    r#"{"type":"response.output_item.done","output_index":0,"item":{},"sequence_number":3}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"r","status":"completed","output":[{"type":"message","content":[{"text":"hi"}]}],"usage":{"input_tokens":2}},"sequence_number":4}"#;

#[test]
fn sound_responses_are_read() {
    let unknown = r#"{"type":"response.weather"}"#;
    let sound = stream_of(&[CREATED, unknown, ADDED, DELTA, ITEM_DONE, COMPLETED]);
    let reply = stream(Api::Responses, &sound).unwrap();
    assert_eq!((&*reply.text, &*reply.stop), ("hi", "completed"));
    assert_eq!(reply.usage["input_tokens"], 2);
}

#[test]
fn broken_responses_are_told_why() {
    let elsewhere = ADDED.replace("\"output_index\":0", "\"output_index\":1");
    let said = DELTA.replace("\"hi\"", "\"ho\"");
    let other = COMPLETED.replace("\"r\"", "\"s\"");
    for (broken, why) in [
        (&[ADDED][..], "event 1: no response.created before"),
        (
            &[CREATED, CREATED],
            "event 2: the sequence number does not rise",
        ),
        (&[CREATED, DELTA, ADDED], "event 2: no such item"),
        (&[CREATED, &elsewhere], "event 2: the place does not follow"),
        (&[CREATED, ADDED, COMPLETED], "event 3: an item is not done"),
        (
            &[CREATED, ADDED, &said, ITEM_DONE, COMPLETED],
            "event 5: the text is not what was streamed",
        ),
        (&[CREATED, &other], "event 2: another id"),
        (&[CREATED], "no end after 1 events"),
        (
            &[CREATED, COMPLETED, COMPLETED],
            "event 3: something follows the end",
        ),
    ] {
        let broken = stream(Api::Responses, &stream_of(broken)).unwrap_err();
        assert!(broken.to_string().starts_with(why), "{why}: {broken}");
    }
}

#[test]
fn blocking_replies_are_read_or_told_why_not() {
    for (api, sound, text) in [
        (
            Api::Messages,
            r#"{"id":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn"}"#,
            "hi",
        ),
        (
            Api::ChatCompletions,
            r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#,
            "hi",
        ),
        (
            Api::Responses,
            r#"{"id":"r","status":"completed","output":[]}"#,
            "",
        ),
    ] {
        assert_eq!(body(api, sound.as_bytes()).unwrap().text, text);
        assert!(body(api, b"{").is_err());
        assert!(body(api, b"{}").is_err());
    }
    let uncalled = br#"{"id":"m","content":[],"stop_reason":"tool_use"}"#;
    let broken = body(Api::Messages, uncalled).unwrap_err();
    assert!(broken.to_string().starts_with("stopped for a tool"));
}
