//! A full disk, a locked database: the bridge says so, does as configured, and recovers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rusqlite::Connection;

use crate::bridge::{Bridge, ask, blocking, field, folder, provider, question};

/// A configuration in a folder of its own, with `records` in its last section.
fn config(name: &str, records: &str) -> (PathBuf, PathBuf) {
    let folder = folder(name);
    let upstream = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let text = format!(
        "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"a-key-of-the-pool\"]\n[records]\nsqlite = \"records.db\"\n{records}\n"
    );
    let config = folder.join("aibridge.toml");
    fs::write(&config, text).unwrap();
    (config, folder.join("records.db"))
}

fn stored(store: &Path) -> u64 {
    Connection::open(store)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM interceptions WHERE outcome = 'ok'",
            (),
            |row| row.get(0),
        )
        .unwrap()
}

/// Asks until the answer has this status; how many answers were 200 before.
#[track_caller]
fn ask_until(bridge: &Bridge, status: u16, prompt: &str) -> u64 {
    for answered in 0..5_000 {
        let saw = ask(&bridge.clients, "", &question(prompt, false)).unwrap();
        if saw.status() == status {
            return answered;
        }
        assert_eq!(saw.status(), 200, "{saw:?}");
    }
    panic!("never {status}: {}", bridge.log());
}

/// Waits until requests are served again. How many were, which is one.
#[track_caller]
fn served_again(bridge: &Bridge) -> u64 {
    for _ in 0..500 {
        let saw = ask(&bridge.clients, "", &question("Again?", false)).unwrap();
        if saw.status() == 200 {
            return 1;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("it does not recover: {}", bridge.log());
}

/// No file of the bridge's may be longer than this: to it, that is a full disk. In KiB.
const DISK: &str = "trap '' XFSZ; ulimit -S -f 512;";

fn make_room(bridge: &Bridge) {
    let status = Command::new("prlimit")
        .args(["--fsize=unlimited:unlimited", "--pid"])
        .arg(bridge.pid().to_string())
        .status();
    assert!(status.unwrap().success());
}

fn can_make_room() -> bool {
    let found = Command::new("prlimit").arg("--version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: prlimit (util-linux) is missing");
    }
    found
}

#[test]
fn with_a_full_disk_requests_are_refused_where_configured_and_nothing_is_lost() {
    if !can_make_room() {
        return;
    }
    let (config, store) = config("full-refuse", "on_full = \"refuse\"");
    let bridge = Bridge::start(&config, "warn", DISK);
    let prompt = "What fills a disk? ".repeat(800);
    let mut answered = ask_until(&bridge, 503, &prompt);
    assert!(answered > 5, "there was some room: {answered}");

    let saw = ask(&bridge.clients, "", &question("Now?", false)).unwrap();
    assert_eq!(
        (saw.status(), field(&saw.head, "retry-after")),
        (503, Some("5"))
    );
    assert!(saw.complete && saw.body.starts_with("{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"requests cannot be recorded at the moment: try again\"}"), "{saw:?}");
    bridge.until("said", |bridge| {
        bridge.log().contains("records cannot be written")
    });

    make_room(&bridge);
    answered += served_again(&bridge);
    bridge.until("taken in", |bridge| {
        bridge.metric("aibridge_records_pending") == 0
    });
    assert_eq!(bridge.metric("aibridge_records_lost_total"), 0);
    let log = bridge.stop();
    assert!(log.contains("records can be written again"), "{log}");
    assert_eq!(stored(&store), answered);
}

#[test]
fn defect_19_with_a_full_disk_requests_are_served_by_default_and_what_is_lost_is_counted() {
    if !can_make_room() {
        return;
    }
    let (config, store) = config("full-serve", "");
    let bridge = Bridge::start(&config, "warn", DISK);
    let prompt = "What fills a disk? ".repeat(4_000);
    for _ in 0..60 {
        let saw = ask(&bridge.clients, "", &question(&prompt, false)).unwrap();
        assert_eq!((saw.status(), saw.complete), (200, true));
    }
    let lost = bridge.metric("aibridge_records_lost_total");
    assert!(lost > 0, "4.5 MB do not fit in 0.5 and what is held");
    bridge.until("said", |bridge| {
        bridge.log().contains("records cannot be written")
    });

    make_room(&bridge);
    bridge.until("written", |bridge| {
        bridge.log().contains("records can be written again")
    });
    assert_eq!(
        ask(&bridge.clients, "", &question("Again?", false))
            .unwrap()
            .status(),
        200
    );
    bridge.until("taken in", |bridge| {
        bridge.metric("aibridge_records_pending") == 0
    });
    assert_eq!(bridge.metric("aibridge_records_lost_total"), lost);
    bridge.stop();
    let stored = stored(&store);
    assert!((5..60).contains(&stored), "{stored}");
    assert_eq!(
        lost,
        5 * (61 - stored),
        "an interception of five records is lost whole"
    );
}

#[test]
fn defect_19_while_the_database_is_locked_requests_are_served_and_recorded() {
    let (config, store) = config("locked", "");
    let bridge = Bridge::start(&config, "info", "");
    let lock = Connection::open(&store).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..50 {
        let saw = ask(&bridge.clients, "", &question("Locked?", false)).unwrap();
        assert_eq!((saw.status(), saw.complete), (200, true));
    }
    bridge.until("said", |bridge| {
        bridge
            .log()
            .contains("the database of records cannot be written to")
    });
    assert!(bridge.metric("aibridge_records_pending") > 0);
    let shown = bridge.get("/interceptions?limit=1000");
    assert_eq!(shown.matches("\"outcome\":\"ok\"").count(), 50, "{shown}");

    lock.execute_batch("COMMIT").unwrap();
    bridge.until("taken in", |bridge| {
        bridge.metric("aibridge_records_pending") == 0
    });
    assert_eq!(bridge.metric("aibridge_records_lost_total"), 0);
    let log = bridge.stop();
    assert!(
        log.contains("the database of records can be written to again"),
        "{log}"
    );
    assert_eq!(stored(&store), 50);
}

#[test]
fn too_much_waiting_for_a_locked_database_refuses_requests_where_configured() {
    let records = "on_full = \"refuse\"\nbacklog = \"64KiB\"";
    let (config, store) = config("locked-refuse", records);
    let bridge = Bridge::start(&config, "warn", "");
    let lock = Connection::open(&store).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut answered = ask_until(&bridge, 503, "Still locked?");
    assert!(answered > 20, "there was some room: {answered}");
    bridge.until("said", |bridge| {
        bridge.log().contains("too many records wait")
    });

    lock.execute_batch("COMMIT").unwrap();
    answered += served_again(&bridge);
    assert_eq!(bridge.metric("aibridge_records_lost_total"), 0);
    bridge.stop();
    assert_eq!(stored(&store), answered);
}

#[test]
fn a_second_signal_ends_it_at_once_whatever_it_waits_for() {
    let (config, store) = config("impatient", "");
    let bridge = Bridge::start(&config, "info", "");
    let lock = Connection::open(&store).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let saw = ask(&bridge.clients, "", &question("Locked?", false)).unwrap();
    assert_eq!(saw.status(), 200);
    bridge.signal("TERM");
    bridge.until("stopping", |bridge| bridge.log().contains("stopping"));
    // Long enough to be waiting for the database, which takes ten seconds to be given up.
    thread::sleep(Duration::from_millis(500));
    bridge.signal("TERM");
    assert_eq!(bridge.ends(), Some(1));
}

#[test]
fn two_bridges_do_not_share_a_store() {
    let (config, _) = config("shared", "");
    let _bridge = Bridge::start(&config, "warn", "");
    let output = Command::new(env!("CARGO_BIN_EXE_aibridge"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--config",
        ])
        .arg(&config)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("another process records there"), "{error}");
}

/// `SQLite` reads some names as a database in memory, or as a URI.
#[test]
fn records_are_in_the_file_that_was_named_whatever_its_name() {
    for (number, name) in [":memory:", "file:x.db"].into_iter().enumerate() {
        let (config, store) = config(&format!("odd-name-{number}"), "");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("records.db", name)).unwrap();
        let (folder, file) = (config.parent().unwrap(), store.with_file_name(name));
        let there = format!("cd '{}';", folder.display());
        let bridge = Bridge::start(Path::new("aibridge.toml"), "warn", &there);
        let saw = ask(&bridge.clients, "", &question("Where?", false)).unwrap();
        assert_eq!(saw.status(), 200);
        bridge.stop();
        assert_eq!(stored(&file), 1, "{name}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
