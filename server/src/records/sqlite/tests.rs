//! The database, by itself.

use aibridge_core::{
    api::{Thought, ToolCall},
    record::{Record, ToolUsage},
};

use super::{
    super::{
        line,
        spool::{self, Batch, Position},
        tests::{Folder, attempt, each, ended, id, started, tokens, wait, whole},
    },
    *,
};

const TERMS: Terms = Terms {
    texts: Texts::Kept,
    retention: None,
    sweep: SWEEP,
    backlog: 1 << 20,
};

fn number(file: &Path, select: &str) -> i64 {
    let connection = Connection::open(file).unwrap();
    connection.query_row(select, (), |row| row.get(0)).unwrap()
}

fn said(seed: u64) -> Vec<Record> {
    let call = ToolCall {
        id: "toolu_1".to_owned(),
        name: "weather".to_owned(),
        arguments: "what-was-argued".to_owned(),
    };
    let tool = ToolUsage {
        turn: 1,
        call,
        injected: true,
        server: Some("coder".into()),
        error: None,
        class: None,
        at: aibridge_core::Instant::EPOCH,
    };
    let thought = Thought {
        source: "thinking",
        text: "what-was-thought".to_owned(),
    };
    vec![
        started(id(seed), "m"),
        Record::Prompt(id(seed), "what-was-asked".to_owned()),
        tokens(id(seed), 1, 5, 6),
        Record::ToolUsage(id(seed), tool),
        Record::Thought(id(seed), thought),
        ended(id(seed)),
    ]
}

#[test]
fn texts_are_in_the_store_only_where_they_are_wanted() {
    for (texts, kept) in [(Texts::Kept, true), (Texts::Dropped, false)] {
        let folder = Folder::new(if kept { "texts" } else { "no-texts" });
        let file = folder.0.join("records.db");
        let store = Sqlite::open(&file, Terms { texts, ..TERMS }).unwrap();
        each(&said(1), |record| store.journal.keep(record));
        store.close();
        let bytes = folder.bytes();
        for text in ["what-was-asked", "what-was-argued", "what-was-thought"] {
            let found = bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes());
            assert_eq!(found, kept, "{text}");
        }
        assert_eq!(
            number(
                &file,
                "SELECT count(*) FROM tool_usage WHERE name = 'weather'"
            ),
            1
        );
        assert_eq!(
            number(&file, "SELECT count(*) FROM prompts"),
            i64::from(kept)
        );
    }
}

#[test]
fn every_row_has_the_interceptions_id() {
    let folder = Folder::new("ids");
    let file = folder.0.join("records.db");
    let store = Sqlite::open(&file, TERMS).unwrap();
    each(&said(1), |record| store.journal.keep(record));
    each(&whole(2, 1, "alice"), |record| store.journal.keep(record));
    store.close();
    for table in schema::PARTS.into_iter().chain(["interceptions"]) {
        let (one, two) = (id(1), id(2));
        let all = number(&file, &format!("SELECT count(*) FROM {table}"));
        let known =
            format!("SELECT count(*) FROM {table} WHERE interception_id IN ('{one}', '{two}')");
        assert_eq!(number(&file, &known), all, "{table}");
        assert!(all > 0, "{table}");
    }
}

#[test]
fn what_ran_at_the_end_is_interrupted_at_the_next_start_and_once() {
    let folder = Folder::new("interrupted");
    let file = folder.0.join("records.db");
    for seed in [1, 2] {
        let store = Sqlite::open(&file, TERMS).unwrap();
        store.journal.keep(&started(id(seed), "m"));
        each(&whole(10 + seed, 1, "alice"), |record| {
            store.journal.keep(record);
        });
        store.close();
        assert_eq!(
            number(
                &file,
                "SELECT count(*) FROM interceptions WHERE ended_at IS NULL"
            ),
            1
        );
    }
    Sqlite::open(&file, TERMS).unwrap().close();
    let interrupted = "SELECT count(*) FROM interceptions WHERE outcome = 'interrupted' AND ended_at > started_at";
    assert_eq!(number(&file, interrupted), 2);
    assert_eq!(
        number(
            &file,
            "SELECT count(*) FROM interceptions WHERE outcome = 'ok'"
        ),
        2
    );
}

#[test]
fn what_a_crash_left_in_the_spool_is_taken_in_once_up_to_the_line_that_was_cut() {
    let folder = Folder::new("spool");
    let file = folder.0.join("records.db");
    Sqlite::open(&file, TERMS).unwrap().close();
    {
        // A process that dies after it has taken the first two interceptions in and journaled two
        // more, the last not quite.
        let mut reader = Reader::open(&spool_of(&file)).unwrap();
        let mut importer = Importer::new(connect(&file).unwrap()).unwrap();
        reader.seek(importer.position().unwrap()).unwrap();
        let files = Files::Series(reader.begin().unwrap());
        let journal = Journal::start(files, Texts::Kept, None).unwrap();
        for seed in 1..=4 {
            if seed == 3 {
                while let Some(batch) = reader.next().unwrap() {
                    let end = batch.end;
                    importer.take(&batch).unwrap();
                    reader.advance(end);
                }
            }
            each(&whole(seed, 1, "alice"), |record| journal.keep(record));
            let mark = journal.mark();
            wait(|context| journal.poll_commit(context, mark));
        }
        journal.close();
        let paths = std::fs::read_dir(spool_of(&file)).unwrap();
        let paths = paths.map(|entry| entry.unwrap().path());
        let last = paths.filter(|path| path.extension().is_some()).max();
        let last = OpenOptions::new().write(true).open(last.unwrap()).unwrap();
        last.set_len(last.metadata().unwrap().len() - 10).unwrap();
    }
    Sqlite::open(&file, TERMS).unwrap().close();
    assert_eq!(
        number(
            &file,
            "SELECT count(*) FROM interceptions WHERE outcome = 'ok'"
        ),
        3
    );
    assert_eq!(
        number(
            &file,
            "SELECT count(*) FROM interceptions WHERE outcome = 'interrupted'"
        ),
        1
    );
    assert_eq!(number(&file, "SELECT count(*) FROM token_usage"), 4);
}

/// Everything in a table, in an order that does not depend on when a row was written.
fn rows(file: &Path, table: &str) -> Vec<String> {
    let connection = Connection::open(file).unwrap();
    let mut select = connection
        .prepare(&format!("SELECT * FROM {table} ORDER BY interception_id"))
        .unwrap();
    let names: Vec<_> = select.column_names().map(str::to_owned).collect();
    let mut rows = select.query(()).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let cells = names.iter().enumerate();
        let cells = cells.filter(|(_, name)| *name != "interception");
        all.push(format!(
            "{:?}",
            cells
                .map(|(at, _)| row.get::<_, rusqlite::types::Value>(at).unwrap())
                .collect::<Vec<_>>()
        ));
    }
    all
}

#[test]
fn the_rows_are_the_same_however_the_lines_are_taken_in() {
    // Two interceptions whose lines alternate, one line that belongs to nothing, and one
    // interception told of twice.
    let (first, second) = (said(1), said(2));
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for record in first.iter().zip(&second).flat_map(|(a, b)| [a, b]) {
        line::with_line(record, Texts::Kept, |line| {
            let mut text = Vec::new();
            spool::append(line, &mut text);
            lines.push(text);
        });
    }
    lines.push(b"\x07\0\0\0garbage".to_vec());
    lines.extend_from_within(..1);
    let take = |name: &str, cuts: &[usize]| {
        let folder = Folder::new(name);
        let file = folder.0.join("records.db");
        let mut connection = connect(&file).unwrap();
        schema::migrate(&mut connection).unwrap();
        let mut importer = Importer::new(connection).unwrap();
        let (mut strange, mut rest) = (0, &lines[..]);
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            let end = Position::default();
            strange += importer
                .take(&Batch {
                    bytes: &now.concat(),
                    end,
                })
                .unwrap()
                .strange;
            rest = later;
        }
        let tables = schema::PARTS.into_iter().chain(["interceptions"]);
        (
            strange,
            tables.map(|table| rows(&file, table)).collect::<Vec<_>>(),
        )
    };
    let (strange, whole) = take("batch-whole", &[]);
    assert_eq!(strange, 2);
    assert_eq!(
        whole.iter().map(Vec::len).collect::<Vec<_>>(),
        [0, 2, 2, 2, 2, 2]
    );
    assert!(
        whole[1]
            .iter()
            .all(|prompt| prompt.contains("what-was-asked"))
    );
    for cut in 1..lines.len() {
        assert_eq!(
            take("batch-cut", &[cut]),
            (strange, whole.clone()),
            "cut at {cut}"
        );
    }
    assert_eq!(take("batch-each", &vec![1; lines.len()]), (strange, whole));
}

#[test]
fn the_spools_files_are_deleted_when_they_have_been_taken_in() {
    let folder = Folder::new("files");
    let mut reader = Reader::open(&folder.0).unwrap();
    let mut spool = reader.begin().unwrap();
    let length = u32::to_le_bytes((1 << 20) - 4);
    let line = vec![b'x'; (1 << 20) - 4];
    let mut read = 0;
    for _ in 0..40 {
        let mut line = [&length[..], &line].concat();
        while !line.is_empty() {
            let written = spool.write(&line).unwrap();
            line.drain(..written);
        }
        spool.line_is_over(false);
    }
    let files = || std::fs::read_dir(&folder.0).unwrap().count() - 1;
    assert_eq!(files(), 3);
    while let Some(batch) = reader.next().unwrap() {
        let (bytes, end) = (batch.bytes.len(), batch.end);
        read += bytes;
        reader.advance(end);
        reader.delete_done().unwrap();
    }
    assert_eq!((read, files()), (40 << 20, 1));
    assert_eq!(
        reader.next().unwrap().map(|batch| batch.end),
        None::<Position>
    );
}

#[test]
fn what_another_version_has_left_is_neither_misread_nor_forgotten() {
    let folder = Folder::new("foreign");
    let file = folder.0.join("records.db");
    Sqlite::open(&file, TERMS).unwrap().close();
    std::fs::write(spool_of(&file).join("000000002.jsonl"), "{}\n").unwrap();
    let error = Sqlite::open(&file, TERMS).unwrap_err();
    assert!(
        error.contains("000000002.jsonl is of another version"),
        "{error}"
    );
}

#[test]
fn what_is_too_old_is_deleted_a_little_at_a_time_with_all_that_belongs_to_it() {
    let folder = Folder::new("retention");
    let file = folder.0.join("records.db");
    let store = Sqlite::open(&file, TERMS).unwrap();
    for seed in 0..450 {
        each(&whole(seed, 1_000 + seed, "alice"), |record| {
            store.journal.keep(record);
        });
    }
    store.close();
    let mut importer = Importer::new(connect(&file).unwrap()).unwrap();
    let old = view::rfc3339(aibridge_core::Instant::from_millis(1_410));
    let mut left = Vec::new();
    loop {
        let more = importer.delete_before(&old).unwrap();
        left.push(number(&file, "SELECT count(*) FROM interceptions"));
        if !more {
            break;
        }
    }
    assert_eq!(left, [250, 50, 40]);
    assert_eq!(number(&file, "SELECT count(*) FROM token_usage"), 40);
    assert_eq!(number(&file, "SELECT count(*) FROM attempts"), 40);
}

#[test]
fn a_bridge_deletes_what_is_too_old_by_itself() {
    let folder = Folder::new("sweep");
    let file = folder.0.join("records.db");
    let retention = Some(Duration::from_secs(3600));
    let store = Sqlite::open(&file, Terms { retention, ..TERMS }).unwrap();
    each(&whole(1, 1_000, "alice"), |record| {
        store.journal.keep(record);
    });
    each(&whole(2, now().as_millis(), "alice"), |record| {
        store.journal.keep(record);
    });
    store.close();
    let store = Sqlite::open(&file, Terms { retention, ..TERMS }).unwrap();
    let gone = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        number(&file, "SELECT count(*) FROM interceptions") == 1
    });
    assert!(gone);
    store.close();
}

/// Whether these files have this text.
fn has(folder: &Folder, text: &str) -> bool {
    let bytes = folder.bytes();
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn after_an_orderly_stop_no_text_is_left_in_the_spool() {
    let folder = Folder::new("stop");
    let file = folder.0.join("records.db");
    let store = Sqlite::open(&file, TERMS).unwrap();
    each(&said(1), |record| store.journal.keep(record));
    store.close();
    assert_eq!(number(&file, "SELECT count(*) FROM prompts"), 1);
    let left = std::fs::read_dir(spool_of(&file)).unwrap();
    let left: u64 = left.map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(left, 0);
    // And the next one goes on from there.
    let store = Sqlite::open(&file, TERMS).unwrap();
    each(&said(2), |record| store.journal.keep(record));
    store.close();
    assert_eq!(number(&file, "SELECT count(*) FROM prompts"), 2);
}

#[test]
fn of_what_is_too_old_no_file_has_the_texts_while_the_bridge_runs() {
    let folder = Folder::new("forget");
    let file = folder.0.join("records.db");
    let terms = Terms {
        retention: Some(Duration::from_secs(3600)),
        sweep: Duration::from_millis(10),
        ..TERMS
    };
    let store = Sqlite::open(&file, terms).unwrap();
    let mut old = said(1);
    if let Some(Record::Started(_, started)) = old.first_mut() {
        started.at = aibridge_core::Instant::from_millis(1_000);
    }
    each(&old, |record| store.journal.keep(record));
    each(&whole(2, now().as_millis(), "alice"), |record| {
        store.journal.keep(record);
    });
    let texts = ["what-was-asked", "what-was-argued", "what-was-thought"];
    let gone = (0..1_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        number(&file, "SELECT count(*) FROM interceptions") == 1
            && !texts.iter().any(|text| has(&folder, text))
    });
    assert!(gone);
    each(&whole(3, now().as_millis(), "alice"), |record| {
        store.journal.keep(record);
    });
    store.close();
    assert_eq!(number(&file, "SELECT count(*) FROM interceptions"), 2);
}

#[test]
fn what_was_interrupted_has_the_attempts_that_are_known() {
    let folder = Folder::new("interrupted-attempts");
    let file = folder.0.join("records.db");
    let store = Sqlite::open(&file, TERMS).unwrap();
    store.journal.keep(&started(id(1), "m"));
    for hint in ["one", "two"] {
        store
            .journal
            .keep(&attempt(id(1), hint, Ok(429), "next_key"));
    }
    store.journal.keep(&started(id(2), "m"));
    store.close();
    Sqlite::open(&file, TERMS).unwrap().close();
    let of = |attempts: u32| {
        format!(
            "SELECT count(*) FROM interceptions WHERE outcome = 'interrupted' AND attempts = {attempts}"
        )
    };
    let known = of(2) + " AND turns = 1 AND credential_hint = 'two'";
    assert_eq!(number(&file, &known), 1);
    assert_eq!(number(&file, &(of(0) + " AND credential_hint IS NULL")), 1);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let folder = Folder::new("version");
    let file = folder.0.join("records.db");
    Sqlite::open(&file, TERMS).unwrap().close();
    assert_eq!(number(&file, "PRAGMA user_version"), 1);
    Connection::open(&file)
        .unwrap()
        .pragma_update(None, "user_version", 7)
        .unwrap();
    let error = Sqlite::open(&file, TERMS).unwrap_err();
    assert!(
        error.contains("it is of version 7, and this program knows 1"),
        "{error}"
    );
    assert_eq!(number(&file, "PRAGMA user_version"), 7);
}

#[test]
fn what_is_no_database_is_not_written_to() {
    let folder = Folder::new("other");
    let file = folder.0.join("records.db");
    std::fs::write(
        &file,
        "my diary, which is longer than the head of a database would be, and no such thing at all",
    )
    .unwrap();
    assert!(
        Sqlite::open(&file, TERMS)
            .unwrap_err()
            .contains("not a database")
    );
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .starts_with("my diary")
    );
}
