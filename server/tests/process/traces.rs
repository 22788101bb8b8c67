//! Connections recorded by a running bridge, and replayed by the command.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::bridge::{Bridge, ask, blocking, folder, provider, question, streamed};

const SECRETS: [&str; 4] = [
    "sk-pool-key-the-first",
    "sk-pool-key-the-second",
    "sk-a-key-of-the-clients",
    "the-token-of-alice",
];

/// A configuration that records, in this folder.
fn config(folder: &Path, upstream: &str) -> PathBuf {
    let file = folder.join("aibridge.toml");
    let text = format!(
        "[server]\ndrain_timeout = \"200ms\"\n[[client]]\nname = \"alice\"\ntoken = \"the-token-of-alice\"\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"sk-pool-key-the-first\", \"sk-pool-key-the-second\"]\n[records]\nsqlite = \"records.db\"\n[trace]\ndir = \"made/traces\"\n"
    );
    fs::write(&file, text).unwrap();
    file
}

fn replay(files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aibridge"));
    command.arg("replay").args(files).output().unwrap()
}

fn traces(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("made/traces")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_a_bridge_has_done_is_replayed_bit_for_bit() {
    let folder = folder("traces");
    let upstream = provider(Duration::from_millis(1), |head, body| {
        if head.contains("the-first") {
            let said = "the key sk-pool-key-the-first is busy";
            let len = said.len();
            return vec![format!(
                "HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: {len}\r\n\r\n{said}"
            )];
        }
        if body.contains("\"stream\":true") {
            return streamed("msg_1");
        }
        vec![blocking("msg_2")]
    });
    let config = config(&folder, &upstream);
    let bridge = Bridge::start(&config, "info", "");

    let pool = "x-api-key: the-token-of-alice\r\n";
    let own = "x-aibridge-token: the-token-of-alice\r\nx-api-key: sk-a-key-of-the-clients\r\n";
    let first = ask(&bridge.clients, pool, &question("Name a river.", true)).unwrap();
    assert!(first.complete, "{first:?}");
    let second = ask(
        &bridge.clients,
        own,
        &question("sk-a-key-of-the-clients?", false),
    )
    .unwrap();
    assert_eq!(second.status(), 200);
    assert_eq!(ask(&bridge.clients, "", "{}").unwrap().status(), 401);
    // A connection with nothing on it is none worth a file. One that is open at the end is.
    drop(TcpStream::connect(&bridge.clients).unwrap());
    let mut open = TcpStream::connect(&bridge.clients).unwrap();
    write!(
        open,
        "POST /anthropic/v1/messages HTTP/1.1\r\nx-api-key: the-token-of-al"
    )
    .unwrap();
    bridge.until("a file for each", |_| traces(&folder).len() == 4);
    let log = bridge.stop();
    assert!(log.contains("traces are written"), "{log}");
    let _ = open.read(&mut [0]);

    let files = traces(&folder);
    let texts: Vec<_> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for (file, text) in files.iter().zip(&texts) {
        for secret in SECRETS {
            let middle = &secret[5..secret.len() - 5];
            assert!(!text.contains(middle), "{secret} is in {text}");
        }
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    // By the id that the client was told its trace is found.
    let of_id = |id: &str| texts.iter().filter(|text| text.contains(id)).count();
    assert_eq!((of_id(&first.id()), of_id(&second.id())), (1, 1));

    let replayed = replay(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&replayed.stdout);
    assert!(replayed.status.success(), "{replayed:?}");
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(
        said.lines()
            .all(|line| line.contains(" outputs, identical")),
        "{said}"
    );
    assert!(said.contains("an upstream repeated a secret"), "{said}");

    // Something else is said where it is, and a file that is none is told from it.
    let changed = folder.join("changed.jsonl");
    let text = texts
        .iter()
        .find(|text| text.contains(&second.id()))
        .unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with("{\"wait\""))
        .unwrap()
        + 1;
    fs::write(&changed, text.replacen("\"read\":[", "\"read\":[99,", 1)).unwrap();
    let differs = replay(&[&changed]);
    let said = String::from_utf8_lossy(&differs.stderr);
    assert_eq!(differs.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("changed.jsonl: line {line}, ")),
        "{said}"
    );
    assert!(said.contains("\n  expected: wait "), "{said}");

    fs::write(&changed, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    for file in [changed, folder.join("none.jsonl"), config] {
        let output = replay(&[&file]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

#[test]
fn a_trace_survives_that_its_bridge_is_killed() {
    let folder = folder("traces-killed");
    let upstream = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let bridge = Bridge::start(&config(&folder, &upstream), "info", "");
    let pool = "x-api-key: the-token-of-alice\r\n";
    let answered = ask(&bridge.clients, pool, &question("Name a river.", false)).unwrap();
    bridge.until("the record of its end", |_| {
        let files = traces(&folder);
        let written = |file: &PathBuf| {
            fs::read_to_string(file)
                .unwrap()
                .contains("record ended of")
        };
        files.iter().any(written)
    });
    assert_eq!(answered.status(), 200);
    bridge.kill();
    let replayed = replay(&[&traces(&folder)[0]]);
    assert!(replayed.status.success(), "{replayed:?}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_said_at_the_start_and_a_lost_trace_disturbs_nobody() {
    let folder = folder("traces-lost");
    let upstream = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let file = config(&folder, &upstream);
    fs::write(folder.join("made"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aibridge"));
    let output = command
        .args(["serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("aibridge.toml: trace: dir: "), "{said}");
    assert!(said.contains("cannot be written to"), "{said}");

    fs::remove_file(folder.join("made")).unwrap();
    let bridge = Bridge::start(&file, "info", "");
    fs::remove_dir_all(folder.join("made")).unwrap();
    let pool = "x-api-key: the-token-of-alice\r\n";
    for _ in 0..3 {
        let answered = ask(&bridge.clients, pool, &question("Name a river.", false));
        assert_eq!(answered.unwrap().status(), 200);
    }
    bridge.until("all counted", |bridge| {
        bridge.metric("aibridge_traces_lost_total ") == 3
    });
    let log = bridge.stop();
    assert_eq!(log.matches("a trace is not complete").count(), 1, "{log}");
}
