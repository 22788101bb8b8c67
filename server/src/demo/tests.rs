//! The parts of the demo, each for itself. The whole is run by the tests of the binary.

use aibridge_core::{
    Instant,
    api::Api,
    keypool::{KeyState, Reason, Transition},
};
use http::StatusCode;
use serde_json::json;

use super::*;

/// A scene that went exactly as scripted.
fn played(scene: &Scene) -> Played {
    let hint = |index: usize| Secret::new(script::keys(scene.api.vendor())[index]).hint();
    let mut happenings = vec![(Duration::ZERO, Happening::Asked)];
    for (index, _) in scene.attempts {
        happenings.push((
            Duration::from_millis(1),
            Happening::Called { hint: hint(*index) },
        ));
    }
    happenings.push((Duration::from_millis(2), Happening::FirstEvent));
    happenings.push((Duration::from_millis(3), Happening::LastEventSent));
    let recorded = json!(
        scene
            .attempts
            .iter()
            .map(|(index, status)| (hint(*index), status))
            .collect::<Vec<_>>()
    );
    Played {
        heard: Heard {
            status: StatusCode::OK,
            id: Some("id".to_owned()),
            text: scene.answer.text(),
            unasked_usage: false,
        },
        recorded: recorded_as(scene, &recorded),
        states: scene
            .states
            .iter()
            .map(|state| (*state).to_owned())
            .collect(),
        happenings,
    }
}

fn recorded_as(scene: &Scene, attempts: &Value) -> Interception {
    use crate::records::{Attempt, Tool, Usage};
    let tool = scene.tool.as_ref();
    let tools = tool.into_iter().map(|tool| Tool {
        turn: 1,
        name: tool.model_name(),
        call_id: "toolu_demo".to_owned(),
        injected: true,
        server: Some(script::TOOL_SERVER.into()),
        error: None,
    });
    let attempts = attempts.as_array().unwrap().iter().map(|attempt| Attempt {
        turn: 1,
        key: attempt[0].as_str().unwrap().into(),
        status: attempt[1]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok()),
        verdict: "relay".into(),
        fault: None,
    });
    Interception {
        id: "id".to_owned(),
        provider: "anthropic".into(),
        api: scene.api.as_str().into(),
        model: "demo-model".into(),
        streaming: scene.streaming,
        actor: "local".into(),
        client: "Unknown".into(),
        session_id: None,
        credential_kind: "centralized".into(),
        credential_hint: None,
        started_at: String::new(),
        ended_at: Some(String::new()),
        status: Some(200),
        outcome: Some("ok".into()),
        error: None,
        attempts: attempts.collect(),
        turns: 1,
        usage: Usage {
            input_tokens: scene.answer.input_tokens + tool.map_or(0, |tool| tool.input_tokens),
            output_tokens: scene.answer.output_tokens + tool.map_or(0, |tool| tool.output_tokens),
            ..Usage::default()
        },
        tools: tools.collect(),
        first_byte_ms: None,
        total_ms: None,
    }
}

#[test]
fn every_api_streams_the_answer_it_gives_whole() {
    let answer = SCENES[0].answer;
    for api in [Api::Messages, Api::ChatCompletions, Api::Responses] {
        for usage in [false, true] {
            let events = replies::stream(api, "m", &answer, usage);
            let stream = String::from_utf8(events.concat()).unwrap();
            let (text, told) = client::read_stream(api, &stream);
            assert_eq!(text, answer.text());
            assert_eq!(
                told,
                usage && api == Api::ChatCompletions,
                "usage only where it is asked for"
            );
            assert!(events.iter().all(|event| event.ends_with(b"\n\n")));
        }
        assert!(
            replies::whole(api, "m", &answer)
                .to_string()
                .contains(&answer.text())
        );
    }
}

#[test]
fn a_scene_that_goes_as_scripted_has_no_differences() {
    for scene in &SCENES {
        assert_eq!(played(scene).differences(scene), [""; 0], "{}", scene.title);
    }
}

#[test]
fn whatever_differs_from_the_script_is_named() {
    type Spoil = fn(&mut Played);
    let spoilers: [(Spoil, &str); 9] = [
        (
            |played| played.heard.status = StatusCode::BAD_GATEWAY,
            "status for the client: 502 instead of 200",
        ),
        (
            |played| played.heard.text.clear(),
            "text for the client: \"\" instead of",
        ),
        (
            |played| played.heard.unasked_usage = true,
            "usage that the client did not ask for: true",
        ),
        (
            |played| drop(played.happenings.remove(1)),
            "keys that the provider saw: [\"sk-d...0002\"] instead of",
        ),
        (
            |played| drop(played.recorded.attempts.pop()),
            "attempts recorded:",
        ),
        (
            |played| played.recorded.outcome = Some("cancelled".into()),
            "outcome recorded: Some(\"cancelled\")",
        ),
        (
            |played| played.recorded.usage.output_tokens += 1,
            "tokens recorded, in and out: (12, 16)",
        ),
        (
            |played| played.states[0] = "valid".to_owned(),
            "states of the keys: [\"valid\", \"valid\"]",
        ),
        (
            |played| drop(played.happenings.remove(3)),
            "first event relayed before the last was sent: false",
        ),
    ];
    let scene = &SCENES[0];
    for (spoil, what) in spoilers {
        let mut played = played(scene);
        spoil(&mut played);
        let differences = played.differences(scene);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences[0].contains(what), "{differences:?}");
    }
}

#[test]
fn the_timeline_reads_as_a_story() {
    let scene = &SCENES[0];
    let transition = Transition {
        index: 0,
        hint: "sk-d...0001".to_owned(),
        from: KeyState::Valid,
        to: KeyState::Temporary(Instant::from_secs(20), Reason::RateLimited),
    };
    let happenings = [
        (0, Happening::Asked),
        (
            1,
            Happening::Called {
                hint: "sk-d...0001".to_owned(),
            },
        ),
        (
            2,
            Happening::Answered {
                status: StatusCode::TOO_MANY_REQUESTS,
                events: None,
            },
        ),
        (
            3,
            Happening::KeyChanged {
                transition,
                now: Instant::from_millis(3),
            },
        ),
        (
            4,
            Happening::Called {
                hint: "sk-d...0002".to_owned(),
            },
        ),
        (
            5,
            Happening::Answered {
                status: StatusCode::OK,
                events: Some(10),
            },
        ),
        (
            6,
            Happening::Head {
                status: StatusCode::OK,
            },
        ),
        (7, Happening::FirstEvent),
        (100, Happening::LastEventSent),
        (
            101,
            Happening::Ended {
                text: "A bridge.".to_owned(),
            },
        ),
    ];
    let happenings =
        happenings.map(|(millis, happening)| (Duration::from_millis(millis), happening));
    let mut out = Vec::new();
    let mut teller = Teller::plain(&mut out);
    teller.open(1, scene).unwrap();
    teller
        .tell(scene, &happenings, &played(scene).recorded)
        .unwrap();
    let expected = r#"
1. Anthropic Messages, streamed
   the first key is rate-limited: the next one answers, and the client notices nothing

    0.0 ms  client → bridge     POST /anthropic/v1/messages  "What is a bridge?"
    1.0 ms  bridge → provider   with key 1 (sk-d...0001)
    2.0 ms  provider → bridge   429 Too Many Requests, retry-after: 20
    3.0 ms  bridge              key 1 (sk-d...0001) cools down for 20 s (rate_limited)
    4.0 ms  bridge → provider   with key 2 (sk-d...0002)
    5.0 ms  provider → bridge   200 OK, a stream of 10 events
    6.0 ms  bridge → client     200 OK
    7.0 ms  bridge → client     the first event, as soon as it is there
  101.0 ms  bridge → client     complete: "A bridge."
            recorded            ok: 2 calls to the provider, 12 tokens in, 15 out
"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
