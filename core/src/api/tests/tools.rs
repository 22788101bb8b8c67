//! Tools put into requests.

use super::*;

const CLOCK: &str = r##"{"type":"object","properties":{"z":{"$ref":"#/$defs/Z"}},"required":["z"],"additionalProperties":false,"$defs":{"Z":{"type":"string"}}}"##;

fn tools() -> [Tool; 2] {
    [
        Tool::new("bmcp_a", Some("Says \"a\"."), CLOCK).unwrap(),
        Tool::new(
            "bmcp_b",
            None,
            r#"{ "type": "object", "properties": {}, "required": [] }"#,
        )
        .unwrap(),
    ]
}

fn injected(api: Api, body: &str) -> Injected {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let inspected = inspect(api, &body).unwrap();
    inject(api, body, &inspected, &tools())
}

fn body(api: Api, request: &str) -> String {
    let injected = injected(api, request);
    assert_eq!(
        inspect(api, &injected.body).map(|it| it.model).as_deref(),
        Ok("m")
    );
    String::from_utf8(injected.body.to_vec()).unwrap()
}

/// What the two tools look like, by API.
fn rendered(api: Api) -> String {
    let (a, b) = (
        r#""name":"bmcp_a","description":"Says \"a\".""#,
        r#""name":"bmcp_b""#,
    );
    let empty = r#"{ "type": "object", "properties": {} }"#;
    match api {
        Api::Messages => format!(
            r#"{{{a},"input_schema":{CLOCK},"type":"custom"}},{{{b},"input_schema":{empty},"type":"custom"}}"#
        ),
        Api::ChatCompletions => format!(
            r#"{{"type":"function","function":{{{a},"parameters":{CLOCK},"strict":false}}}},{{"type":"function","function":{{{b},"parameters":{empty},"strict":false}}}}"#
        ),
        Api::Responses => format!(
            r#"{{"type":"function",{a},"parameters":{CLOCK},"strict":false}},{{"type":"function",{b},"parameters":{empty},"strict":false}}"#
        ),
    }
}

#[test]
fn defect_21_schemas_are_put_in_whole_and_the_rest_keeps_its_bytes() {
    for (api, request, expected) in [
        (
            Api::Messages,
            r#"{ "model":"m", "x": 1.0e2 }"#,
            r#"{"tools":[T],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}, "model":"m", "x": 1.0e2 }"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":[ {"name":"own"} ],"tool_choice":{"type":"any"}}"#,
            r#"{"model":"m","tools":[T, {"name":"own"} ],"tool_choice":{"disable_parallel_tool_use":true,"type":"any"}}"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":[],"tool_choice":{"type":"auto","disable_parallel_tool_use":false}}"#,
            r#"{"model":"m","tools":[T],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}}"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":null,"tool_choice":{"type":"none"}}"#,
            r#"{"model":"m","tools":[T],"tool_choice":{"type":"none"}}"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":[ ],"tool_choice":null}"#,
            r#"{"model":"m","tools":[T ],"tool_choice":{"type":"auto","disable_parallel_tool_use":true}}"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":[],"tool_choice":"auto"}"#,
            r#"{"model":"m","tools":[T],"tool_choice":"auto"}"#,
        ),
        (
            Api::Messages,
            r#"{"model":"m","tools":[],"tool_choice":{}}"#,
            r#"{"model":"m","tools":[T],"tool_choice":{"disable_parallel_tool_use":true}}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"model":"m"}"#,
            r#"{"tools":[T],"parallel_tool_calls":false,"model":"m"}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"model":"m","n":1,"tools":[{"function":{"name":"own"}} ],"parallel_tool_calls": true}"#,
            r#"{"model":"m","n":1,"tools":[{"function":{"name":"own"}},T ],"parallel_tool_calls": false}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"model":"m","stream":true}"#,
            r#"{"tools":[T],"parallel_tool_calls":false,"stream_options":{"include_usage":true},"model":"m","stream":true}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"model":"m","stream":true,"stream_options":{"a":1},"tools":[]}"#,
            r#"{"parallel_tool_calls":false,"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1},"tools":[T]}"#,
        ),
        // Defect 14: tools of any type pass.
        (
            Api::Responses,
            r#"{"model":"m","tools":[{"type":"namespace","tools":[{"name":"bmcp_a"}]},7,{"type":"custom"}],"parallel_tool_calls":null}"#,
            r#"{"model":"m","tools":[{"type":"namespace","tools":[{"name":"bmcp_a"}]},7,{"type":"custom"},T],"parallel_tool_calls":false}"#,
        ),
    ] {
        assert_eq!(
            body(api, request),
            expected.replace('T', &rendered(api)),
            "{request}"
        );
    }
}

#[test]
fn nothing_is_put_in_where_it_cannot_be() {
    for (api, request) in [
        (Api::Messages, r#"{"model":"m","tools":{"a":1}}"#),
        (Api::ChatCompletions, r#"{"model":"m","n":2}"#),
        (Api::ChatCompletions, r#"{"model":"m","n":2,"stream":true}"#),
    ] {
        let inspected = inspect(api, request.as_bytes()).unwrap();
        let injected = injected(api, request);
        assert_eq!(injected.body, prepare(request.into(), &inspected));
        assert!(injected.names.is_empty());
    }
    let inspected = inspect(Api::Messages, br#"{"model":"m"}"#).unwrap();
    let injected = inject(Api::Messages, r#"{"model":"m"}"#.into(), &inspected, &[]);
    assert_eq!(injected.body, r#"{"model":"m"}"#);
}

#[test]
fn a_tool_of_the_clients_wins() {
    for (api, tool) in [
        (Api::Messages, r#"{"name":"bmcp_a"}"#),
        (
            Api::ChatCompletions,
            r#"{"type":"function","function":{"name":"bmcp_a"}}"#,
        ),
        (
            Api::ChatCompletions,
            r#"{"type":"custom","custom":{"name":"bmcp\u005fa"}}"#,
        ),
        (Api::Responses, r#"{"type":"function","name":"bmcp_a"}"#),
    ] {
        let injected = injected(api, &format!(r#"{{"model":"m","tools":[{tool}]}}"#));
        assert_eq!(injected.names, ["bmcp_b".into()]);
        assert_eq!(injected.shadowed, ["bmcp_a".into()]);
        let body = str::from_utf8(&injected.body).unwrap();
        assert!(!body.contains("Says"), "{body}");
        assert!(body.contains(tool), "{body}");
    }
}

#[test]
fn ten_equal_requests_give_ten_equal_bodies() {
    for api in APIS {
        let request = r#"{"model":"m","stream":true,"tools":[{"name":"own"}]}"#;
        let first = body(api, request);
        assert!((0..10).all(|_| body(api, request) == first));
    }
}

#[test]
fn a_schema_is_changed_only_where_a_provider_refuses_it() {
    for (schema, anthropic, open_ai) in [
        (
            r#"{"type":"object"}"#,
            r#"{"type":"object"}"#,
            r#"{"properties":{},"type":"object"}"#,
        ),
        (
            r#"{"required":[],"type":"object"}"#,
            r#"{"type":"object"}"#,
            r#"{"properties":{},"type":"object"}"#,
        ),
        (
            r#"{"a":1, "required": [ ] , "b":2}"#,
            r#"{"a":1 , "b":2}"#,
            r#"{"a":1 , "b":2}"#,
        ),
        (r#"{"required":[]}"#, "{}", "{}"),
        (
            r#"{"properties":{"required":[]},"type":"object"}"#,
            r#"{"properties":{"required":[]},"type":"object"}"#,
            r#"{"properties":{"required":[]},"type":"object"}"#,
        ),
        (
            r#"{"required":{}}"#,
            r#"{"required":{}}"#,
            r#"{"required":{}}"#,
        ),
    ] {
        let tool = Tool::new("t", None, schema).unwrap();
        let put = |api: Api| {
            let inspected = inspect(api, br#"{"model":"m"}"#).unwrap();
            let body = inject(
                api,
                r#"{"model":"m"}"#.into(),
                &inspected,
                std::slice::from_ref(&tool),
            )
            .body;
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert!(
            put(Api::Messages).contains(&format!(r#""input_schema":{anthropic},"#)),
            "{schema}"
        );
        assert!(
            put(Api::Responses).contains(&format!(r#""parameters":{open_ai},"#)),
            "{schema}"
        );
    }
    for schema in ["", "[]", "null", "{", "{}x"] {
        assert!(Tool::new("t", None, schema).is_err(), "{schema}");
    }
}
