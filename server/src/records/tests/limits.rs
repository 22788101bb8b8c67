//! What is not shown, or not kept: what memory has no more, what is too old, what others say of
//! errors.

use super::*;

#[test]
fn paging_ends_where_memory_does() {
    let folder = Folder::new("jsonl-pages");
    let place = Place::Jsonl(folder.0.join("records.jsonl"));
    for mut recorder in [
        Recorder::in_memory(3),
        Recorder::open(&records(place)).unwrap(),
    ] {
        recorder.ring = Mutex::new(Ring::new(3));
        for number in 0..9 {
            for record in whole(number, 1_000 + number, "alice") {
                recorder.keep(record);
            }
        }
        let mut search = Search::newest(2);
        let mut pages = Vec::new();
        loop {
            let page = recorder.find(&search).unwrap();
            let Some(last) = page.last() else { break };
            let (started_at, id) = (None, last.id.clone());
            search.before = Some(Cursor { started_at, id });
            pages.push(page.len());
        }
        assert_eq!(pages, [2, 1]);
        // The last one shown may be gone by the time that the next page is asked for.
        search.before = Some(Cursor {
            started_at: None,
            id: id(0).to_string(),
        });
        assert_eq!(recorder.find(&search), Ok(Vec::new()));
        recorder.close();
    }
}

#[test]
fn what_is_older_than_it_is_kept_is_not_shown_from_memory_either() {
    let folder = Folder::new("ring-retention");
    let mut terms = records(Place::Sqlite(folder.0.join("records.db")));
    terms.retention = Some(Duration::from_secs(3600));
    let recorder = Recorder::open(&terms).unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::SystemTime::UNIX_EPOCH);
    let now = u64::try_from(now.unwrap().as_millis()).unwrap();
    for (seed, at) in [(1, 1_000), (2, now)] {
        for record in whole(seed, at, "alice") {
            recorder.keep(record);
        }
    }
    recorder.keep(started(id(3), "runs"));
    let found = recorder.find(&Search::newest(9)).unwrap();
    let found: Vec<_> = found.into_iter().map(|it| it.id).collect();
    assert_eq!(found, [id(2).to_string(), id(3).to_string()]);
    let mut search = Search::newest(9);
    search.before = Some(Cursor {
        started_at: None,
        id: id(77).to_string(),
    });
    assert_eq!(recorder.find(&search), Ok(Vec::new()));
    recorder.close();
}

#[test]
fn what_cannot_be_written_before_the_end_is_lost_and_counted() {
    let recorder = Recorder::open(&records(Place::Jsonl("/dev/full".into()))).unwrap();
    let kept = whole(1, 1_000, "alice");
    let lines = kept.len() as u64;
    for record in kept {
        recorder.keep(record);
    }
    commit(&recorder);
    assert_eq!(recorder.counts().lost, 0, "it is held in memory");
    recorder.close();
    assert_eq!(recorder.counts().lost, lines);
}

#[test]
fn where_texts_are_not_wanted_nothing_has_what_others_say_of_errors() {
    for sqlite in [true, false] {
        let folder = Folder::new(if sqlite { "words-db" } else { "words-jsonl" });
        let file = folder.0.join("records");
        let place = if sqlite {
            Place::Sqlite(file)
        } else {
            Place::Jsonl(file)
        };
        let mut terms = records(place);
        terms.prompts = false;
        let recorder = Recorder::open(&terms).unwrap();
        recorder.keep(started(id(1), "m"));
        recorder.keep(Record::ToolUsage(
            id(1),
            ToolUsage {
                turn: 1,
                call: ToolCall {
                    id: "toolu_1".to_owned(),
                    name: "weather".to_owned(),
                    arguments: "{}".to_owned(),
                },
                injected: true,
                server: None,
                error: Some("what-a-tool-said".to_owned()),
                class: Some("status 500".into()),
                at: Instant::EPOCH,
            },
        ));
        let mut end = ended(id(1));
        if let Record::Ended(_, ended) = &mut end {
            ended.error = Some("what-a-provider-said".to_owned());
            ended.class = Some("upstream said 400 Bad Request".into());
        }
        recorder.keep(end);
        let shown = serde_json::to_value(recorder.find(&Search::newest(1)).unwrap()).unwrap();
        assert_eq!(shown[0]["error"], "upstream said 400 Bad Request");
        assert_eq!(shown[0]["tools"][0]["error"], "status 500");
        recorder.close();
        let bytes = folder.bytes();
        let has = |text: &str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(has("status 500") && has("upstream said 400 Bad Request"));
        assert!(!has("what-a-tool-said") && !has("what-a-provider-said"));
    }
}
