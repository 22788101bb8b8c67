//! The recorder, fed with records by hand.

use std::{env, fs, future::poll_fn, path::PathBuf, process, sync::Arc};

use aibridge_core::{
    Duration, Fault, Instant, InterceptionId, Rng,
    api::{Api, ToolCall, Usage},
    record::{Attempt, CredentialKind, Ended, Outcome, Record, Started, TokenUsage, ToolUsage},
};
use serde_json::json;

use super::*;

mod committing;
mod limits;

/// Waits until what was kept so far is committed.
fn commit(recorder: &Recorder) {
    let mark = recorder.mark();
    wait(|context| recorder.poll_commit(context, mark));
}

pub(super) fn wait(poll: impl FnMut(&mut Context<'_>) -> Poll<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(poll_fn(poll));
}

pub(super) fn id(seed: u64) -> InterceptionId {
    InterceptionId::draw(&mut Rng::new(seed))
}

pub(super) fn started(id: InterceptionId, model: &str) -> Record {
    Record::Started(
        id,
        Box::new(Started {
            provider: "anthropic".into(),
            api: Api::Messages,
            model: model.into(),
            streaming: true,
            actor: "alice".into(),
            client: "Claude Code",
            session_id: Some("session".to_owned()),
            user_agent: Some("claude-cli/2".to_owned()),
            credential_kind: CredentialKind::Centralized,
            correlating_tool_call_id: None,
            at: Instant::from_millis(1_767_225_600_123),
        }),
    )
}

pub(super) fn attempt(
    id: InterceptionId,
    hint: &str,
    result: Result<u16, Fault>,
    verdict: &'static str,
) -> Record {
    let at = Instant::EPOCH;
    let (turn, key_index, key_hint) = (1, Some(0), hint.into());
    Record::Attempt(
        id,
        Attempt {
            turn,
            key_index,
            key_hint,
            result,
            verdict,
            at,
        },
    )
}

pub(super) fn tokens(id: InterceptionId, turn: u32, input: u64, output: u64) -> Record {
    let usage = Usage {
        input,
        output,
        cache_read: 1,
        ..Usage::default()
    };
    Record::TokenUsage(
        id,
        TokenUsage {
            turn,
            reply_id: None,
            usage,
            at: Instant::EPOCH,
        },
    )
}

pub(super) fn ended(id: InterceptionId) -> Record {
    Record::Ended(
        id,
        Box::new(Ended {
            at: Instant::from_millis(1_767_225_601_500),
            status: Some(200),
            outcome: Outcome::Ok,
            error: None,
            class: None,
            credential_hint: "sk-a...bbbb".into(),
            attempts: 2,
            turns: 2,
            first_byte: Some(Duration::from_micros(12_345)),
            overhead: Duration::from_micros(50),
            total: Duration::from_millis(1377),
        }),
    )
}

fn models(recorder: &Recorder, limit: usize) -> Vec<Arc<str>> {
    recorder
        .newest(limit)
        .into_iter()
        .map(|interception| interception.model)
        .collect()
}

#[test]
fn an_interception_is_shown_in_the_shape_of_the_contract() {
    let recorder = Recorder::in_memory(10);
    let one = id(1);
    recorder.keep(started(one, "claude"));
    recorder.keep(attempt(one, "sk-a...aaaa", Ok(429), "next_key"));
    let running = serde_json::to_value(recorder.newest(1)).unwrap();
    assert_eq!(running[0]["ended_at"], json!(null));
    assert_eq!(running[0]["outcome"], json!(null));
    assert_eq!(running[0]["credential_hint"], "sk-a...aaaa");

    recorder.keep(attempt(one, "sk-a...bbbb", Err(Fault::Refused), "give_up"));
    recorder.keep(tokens(one, 1, 30, 4));
    recorder.keep(tokens(one, 2, 40, 5));
    recorder.keep(Record::ToolUsage(
        one,
        ToolUsage {
            turn: 1,
            call: ToolCall {
                id: "toolu_1".to_owned(),
                name: "weather".to_owned(),
                arguments: "{\"city\":\"Paris\"}".to_owned(),
            },
            injected: false,
            server: None,
            error: None,
            class: None,
            at: Instant::EPOCH,
        },
    ));
    recorder.keep(ended(one));
    assert_eq!(
        serde_json::to_value(recorder.newest(1)).unwrap(),
        json!([{
            "id": one.to_string(),
            "provider": "anthropic",
            "api": "messages",
            "model": "claude",
            "streaming": true,
            "actor": "alice",
            "client": "Claude Code",
            "session_id": "session",
            "credential_kind": "centralized",
            "credential_hint": "sk-a...bbbb",
            "started_at": "2026-01-01T00:00:00.123Z",
            "ended_at": "2026-01-01T00:00:01.500Z",
            "status": 200,
            "outcome": "ok",
            "error": null,
            "attempts": [
                {"turn": 1, "key": "sk-a...aaaa", "status": 429, "verdict": "next_key", "fault": null},
                {"turn": 1, "key": "sk-a...bbbb", "status": null, "verdict": "give_up", "fault": "connection refused"},
            ],
            "turns": 2,
            "usage": {"input_tokens": 70, "output_tokens": 9, "cache_read_tokens": 2, "cache_write_tokens": 0},
            "tools": [
                {"turn": 1, "name": "weather", "call_id": "toolu_1", "injected": false, "server": null, "error": null},
            ],
            "first_byte_ms": 12.345,
            "total_ms": 1377.0,
        }])
    );
}

#[test]
fn the_newest_start_comes_first_whatever_ended_first() {
    let recorder = Recorder::in_memory(10);
    for (seed, model) in [(1, "a"), (2, "b"), (3, "c")] {
        recorder.keep(started(id(seed), model));
    }
    recorder.keep(ended(id(3)));
    recorder.keep(ended(id(1)));
    assert_eq!(models(&recorder, 100), ["c".into(), "b".into(), "a".into()]);
    assert_eq!(models(&recorder, 2), ["c".into(), "b".into()]);
    assert!(models(&recorder, 0).is_empty());
}

#[test]
fn of_the_ended_the_longest_ended_goes_and_the_running_stay() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(started(id(0), "runs"));
    for (seed, model) in [(1, "a"), (2, "b"), (3, "c")] {
        recorder.keep(started(id(seed), model));
        recorder.keep(ended(id(seed)));
    }
    assert_eq!(
        models(&recorder, 100),
        ["c".into(), "b".into(), "runs".into()]
    );
}

#[test]
fn records_of_an_unknown_or_ended_interception_are_ignored() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(tokens(id(9), 1, 1, 1));
    recorder.keep(ended(id(9)));
    assert!(recorder.newest(9).is_empty());

    recorder.keep(started(id(1), "a"));
    recorder.keep(ended(id(1)));
    recorder.keep(tokens(id(1), 1, 1, 1));
    recorder.keep(ended(id(1)));
    let kept = recorder.newest(9);
    assert_eq!((kept.len(), kept[0].usage.input_tokens), (1, 0));
}

#[test]
fn texts_and_lists_that_others_choose_are_bounded() {
    let recorder = Recorder::in_memory(2);
    recorder.keep(started(id(1), &"é".repeat(100_000)));
    for _ in 0..1000 {
        recorder.keep(attempt(id(1), "hint", Ok(429), "next_key"));
    }
    let kept = recorder.newest(1).remove(0);
    assert_eq!(kept.model.len(), 256);
    assert_eq!(kept.attempts.len(), 256);
}

/// Calls `keep` with each of the records.
pub(super) fn each<R>(records: impl IntoIterator<Item = R>, keep: impl Fn(R)) {
    for record in records {
        keep(record);
    }
}

/// A folder that is gone when the test is.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("aibridge-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// All that is in its files, of any depth.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (mut folders, mut bytes) = (vec![self.0.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    bytes.extend(fs::read(path).unwrap());
                }
            }
        }
        bytes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn records(place: Place) -> Records {
    Records {
        place,
        prompts: true,
        retention: None,
        on_full: crate::config::OnFull::Serve,
        backlog: 1 << 20,
    }
}

/// An interception that began and ended at this millisecond.
pub(super) fn whole(seed: u64, at: u64, actor: &str) -> Vec<Record> {
    let (mut begin, mut end) = (started(id(seed), "m"), ended(id(seed)));
    if let (Record::Started(_, started), Record::Ended(_, ended)) = (&mut begin, &mut end) {
        started.at = Instant::from_millis(at);
        started.actor = actor.into();
        ended.at = started.at;
    }
    vec![
        begin,
        attempt(id(seed), "hint", Ok(200), "relay"),
        tokens(id(seed), 1, 5, 6),
        end,
    ]
}

#[test]
fn what_is_not_in_memory_any_more_is_found_in_the_store_each_once_and_in_order() {
    let folder = Folder::new("find");
    let place = Place::Sqlite(folder.0.join("records.db"));
    let mut recorder = Recorder::open(&records(place)).unwrap();
    recorder.ring = Mutex::new(Ring::new(7));
    for number in 0..50 {
        let actor = if number % 5 == 0 { "bob" } else { "alice" };
        // Two of each millisecond.
        for record in whole(number, 1_000 + number / 2, actor) {
            recorder.keep(record);
        }
    }
    recorder.keep(started(id(99), "runs"));
    recorder.close();

    let mut ids = Vec::new();
    let mut search = Search::newest(4);
    loop {
        let page = recorder.find(&search).unwrap();
        let Some(last) = page.last() else {
            break;
        };
        assert!(page.len() <= 4);
        let (started_at, id) = (None, last.id.clone());
        search.before = Some(Cursor { started_at, id });
        ids.extend(page.into_iter().map(|it| (it.started_at, it.id)));
    }
    assert_eq!(ids.len(), 51);
    assert_eq!(ids[0].1, id(99).to_string());
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");

    let found = |change: &dyn Fn(&mut Search)| {
        let mut search = Search::newest(100);
        change(&mut search);
        recorder.find(&search).unwrap().len()
    };
    assert_eq!(found(&|search| search.actor = Some("bob".to_owned())), 10);
    assert_eq!(
        found(&|search| search.provider = Some("other".to_owned())),
        0
    );
    assert_eq!(found(&|search| search.outcome = Some("ok".to_owned())), 50);
    assert_eq!(
        found(&|search| search.outcome = Some("running".to_owned())),
        1
    );
    let before = |time: &str| Cursor {
        started_at: Some(time.to_owned()),
        id: String::new(),
    };
    assert_eq!(
        found(&|search| search.before = Some(before("1970-01-01T00:00:01.003Z"))),
        6
    );

    let nobody = Cursor {
        started_at: None,
        id: id(1000).to_string(),
    };
    let search = Search {
        before: Some(nobody),
        ..Search::newest(1)
    };
    assert_eq!(recorder.find(&search), Err(NotFound::NoSuchPlace));

    // What is read back is what was shown from memory.
    let stored = recorder
        .store
        .as_ref()
        .unwrap()
        .find(&Search::newest(8))
        .unwrap();
    let shown: Vec<_> = recorder.find(&Search::newest(8)).unwrap();
    assert_eq!(stored[1..], shown[1..]);
}

#[test]
fn times_are_those_of_the_calendar() {
    for at in [
        0,
        951_782_399_999,
        951_782_400_000,
        951_868_800_000,
        1_767_225_600_123,
        4_107_542_399_999,
        4_107_542_400_000,
        13_569_465_600_000,
    ] {
        let time = jiff::Timestamp::from_millisecond(i64::try_from(at).unwrap()).unwrap();
        assert_eq!(
            view::rfc3339(Instant::from_millis(at)),
            format!("{time:.3}")
        );
    }
}

#[test]
fn json_lines_are_written_one_by_one_and_what_was_interrupted_is_ended() {
    let folder = Folder::new("jsonl");
    let file = folder.0.join("records.jsonl");
    let recorder = Recorder::open(&records(Place::Jsonl(file.clone()))).unwrap();
    each(whole(1, 1, "alice"), |record| recorder.keep(record));
    commit(&recorder);
    let lines = fs::read_to_string(&file).unwrap();
    let kinds: Vec<_> = lines
        .lines()
        .map(|line| {
            let line: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
            assert!(
                line.values()
                    .all(|fields| fields["id"] == id(1).to_string())
            );
            line.keys().next().unwrap().clone()
        })
        .collect();
    assert_eq!(
        kinds,
        ["started", "attempt", "token_usage", "ended"],
        "as soon as they are committed"
    );

    recorder.keep(started(id(2), "m"));
    assert!(
        Recorder::open(&records(Place::Jsonl(file.clone())))
            .unwrap_err()
            .contains("another process")
    );
    recorder.close();
    drop(recorder);
    fs::write(
        &file,
        fs::read_to_string(&file).unwrap() + "{\"ended\":{\"id\":\"to",
    )
    .unwrap();
    Recorder::open(&records(Place::Jsonl(file.clone())))
        .unwrap()
        .close();
    let lines = fs::read_to_string(&file).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["ended"]["id"], id(2).to_string());
    assert_eq!(last["ended"]["outcome"], "interrupted");
    assert_eq!(lines.matches("\"interrupted\"").count(), 1);
}

#[test]
fn what_cannot_be_written_is_held_and_then_lost_and_counted() {
    let file = Place::Jsonl("/dev/full".into());
    let recorder = Recorder::open(&records(file)).unwrap();
    assert!(!*recorder.full().unwrap().borrow());
    for seed in 0..10 {
        each(whole(seed, 1, "alice"), |record| recorder.keep(record));
        commit(&recorder);
    }
    assert_eq!(
        recorder.counts(),
        Counts {
            pending: 40,
            lost: 0
        }
    );
    assert!(*recorder.full().unwrap().borrow());

    recorder.keep(started(id(100), &"m".repeat(2 << 20)));
    for seed in 10..20 {
        each(whole(seed, 1, "alice"), |record| recorder.keep(record));
        commit(&recorder);
    }
    assert_eq!(
        recorder.counts(),
        Counts {
            pending: 41,
            lost: 40
        }
    );
    assert_eq!(recorder.newest(100).len(), 21, "in memory it is");
    recorder.close();
}

#[test]
fn what_a_crash_ends_in_json_lines_has_the_attempts_that_are_known() {
    let folder = Folder::new("jsonl-attempts");
    let file = folder.0.join("records.jsonl");
    let recorder = Recorder::open(&records(Place::Jsonl(file.clone()))).unwrap();
    recorder.keep(started(id(1), "m"));
    recorder.keep(attempt(id(1), "one", Ok(429), "next_key"));
    recorder.keep(attempt(id(1), "two", Ok(200), "relay"));
    recorder.close();
    drop(recorder);
    Recorder::open(&records(Place::Jsonl(file.clone())))
        .unwrap()
        .close();
    let lines = fs::read_to_string(&file).unwrap();
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let ended = &last["ended"];
    assert_eq!(ended["outcome"], "interrupted");
    assert_eq!(
        (&ended["attempts"], &ended["turns"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(ended["credential_hint"], "two");
}
