//! Another configuration while the bridge runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::bridge::{Bridge, ask, blocking, field, folder, provider, question, streamed};

/// A provider that answers with the key it was shown, as the reply's id.
fn telling() -> String {
    telling_at(Duration::ZERO)
}

/// The same, with a pause between any two events of a stream.
fn telling_at(pace: Duration) -> String {
    provider(pace, |head, body| {
        let key = field(head, "x-api-key").unwrap_or_default().to_owned();
        if body.contains("\"stream\":true") {
            return streamed(&key);
        }
        vec![blocking(&key)]
    })
}

fn write(folder: &Path, provider: &str, keys: &[&str], more: &str) -> PathBuf {
    let keys: Vec<_> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    let file = folder.join("aibridge.toml");
    let text = format!(
        "{more}\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{provider}\"\nkeys = [{}]\n",
        keys.join(", ")
    );
    fs::write(&file, text).unwrap();
    file
}

fn key_used(bridge: &Bridge) -> String {
    let seen = ask(&bridge.clients, "", &question("Who?", false)).unwrap();
    assert_eq!(seen.status(), 200, "{}", seen.body);
    let at = seen.body.find("\"id\":\"").unwrap() + 6;
    seen.body[at..].split('"').next().unwrap().to_owned()
}

#[test]
fn secrets_in_files_are_read_again_on_a_signal_and_on_request() {
    let folder = folder("rotation");
    let secret = folder.join("key");
    fs::write(&secret, "key-of-monday\n").unwrap();
    let file = write(&folder, &telling(), &["file:key"], "");
    let bridge = Bridge::start(&file, "info", "");
    assert_eq!(key_used(&bridge), "key-of-monday");

    fs::write(&secret, "key-of-tuesday\n").unwrap();
    assert_eq!(key_used(&bridge), "key-of-monday", "not before it is told");
    bridge.signal("HUP");
    bridge.until("reloaded", |bridge| {
        bridge.log().contains("configuration reloaded")
    });
    assert_eq!(key_used(&bridge), "key-of-tuesday");

    fs::write(&secret, "key-of-wednesday\n").unwrap();
    let reply = bridge.request("POST", "/reload");
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.ends_with("{\"status\":\"ok\"}\n"),
        "{reply}"
    );
    assert_eq!(key_used(&bridge), "key-of-wednesday");
    let log = bridge.stop();
    assert!(!log.contains("day"), "{log}");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let folder = folder("refused");
    let provider = telling();
    let file = write(&folder, &provider, &["the-first-key"], "");
    let bridge = Bridge::start(&file, "info", "");
    for (text, why) in [
        (
            "[server]\nmax_bdy = \"1KiB\"",
            "aibridge.toml:2: max_bdy: unknown field",
        ),
        (
            "[records]\njsonl = \"x.jsonl\"",
            "aibridge.toml: records cannot change while the bridge runs",
        ),
    ] {
        write(&folder, &provider, &["the-second-key"], text);
        let reply = bridge.request("POST", "/reload");
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        assert!(reply.contains(why), "{reply}");
        assert_eq!(key_used(&bridge), "the-first-key");
    }
    bridge.signal("HUP");
    bridge.until("refused", |bridge| {
        bridge.log().matches("reload refused").count() == 3
    });
    assert!(bridge.request("GET", "/reload").starts_with("HTTP/1.1 405"));
    bridge.stop();
}

#[test]
fn defect_20_a_hundred_reloads_under_load_fail_no_request_and_cut_no_stream() {
    let folder = folder("reloads");
    let provider = telling_at(Duration::from_millis(10));
    // Who asks stays, with other limits; other clients, providers, servers and limits come and go.
    let client = |name: &str, limits: &str| {
        format!("[[client]]\nname = \"{name}\"\ntoken = \"token-of-{name}\"\n{limits}\n")
    };
    let other = |name: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\napi = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\nkeys = [\"key-of-{name}\"]\n"
        )
    };
    let alice = client("alice", "");
    let variants: [(&[&str], String); 5] = [
        (&["key-a", "key-b"], alice.clone()),
        (
            &["key-b", "key-c"],
            format!(
                "[server]\nmax_body = \"1MiB\"\n{alice}{}",
                client("bob", "")
            ),
        ),
        (
            &["key-c"],
            format!("{alice}[[mcp]]\nname = \"nobody\"\nurl = \"http://127.0.0.1:9/mcp\"\n"),
        ),
        (
            &["key-c", "key-a"],
            client("carol", "") + &client("alice", "max_in_flight = 50") + &other("one"),
        ),
        (
            &["key-a"],
            other("two") + &other("one") + &client("alice", "requests_per_minute = 1000000"),
        ),
    ];
    let file = write(&folder, &provider, variants[0].0, &variants[0].1);
    let bridge = Bridge::start(&file, "warn", "");
    let (over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Reloads, and streams that went on through one.
    let (reloads, outlasted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (over, asked, bridge) = (&over, &asked, &bridge);
            let (reloads, outlasted) = (&reloads, &outlasted);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let begun = reloads.load(Relaxed);
                    let body = question("Still there?", client % 2 == 0);
                    let token = "x-aibridge-token: token-of-alice\r\n";
                    let seen = ask(&bridge.clients, token, &body).unwrap();
                    assert_eq!((seen.status(), seen.complete), (200, true), "{}", seen.body);
                    assert!(!seen.body.contains("error"), "{}", seen.body);
                    asked.fetch_add(1, Relaxed);
                    // Another that came in between was whole while this ran.
                    let is_streamed = client % 2 == 0;
                    if is_streamed && reloads.load(Relaxed) > begun + 1 {
                        outlasted.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        for number in 1..=1_000 {
            if number > 100 && outlasted.load(Relaxed) >= 10 {
                break;
            }
            let (keys, more) = &variants[number % variants.len()];
            write(&folder, &provider, keys, more);
            let reply = bridge.request("POST", "/reload");
            reloads.fetch_add(1, Relaxed);
            // So that there is load between any two.
            let before = asked.load(Relaxed);
            while asked.load(Relaxed) == before {
                thread::yield_now();
            }
            if !reply.starts_with("HTTP/1.1 200") {
                over.store(true, Relaxed);
                panic!("{reply}");
            }
        }
        over.store(true, Relaxed);
    });
    assert!(asked.load(Relaxed) >= 100);
    assert!(outlasted.load(Relaxed) >= 10, "{outlasted:?}");
    bridge.stop();
}

#[test]
fn a_reload_that_hangs_keeps_no_signal_from_being_heeded() {
    let folder = folder("hanging");
    let secret = folder.join("key");
    fs::write(&secret, "a-key").unwrap();
    let file = write(&folder, &telling(), &["file:key"], "");
    let bridge = Bridge::start(&file, "info", "");
    fs::remove_file(&secret).unwrap();
    let made = Command::new("mkfifo").arg(&secret).status();
    assert!(made.unwrap().success());
    bridge.signal("HUP");
    // Opened as soon as the bridge reads it, and nothing comes.
    let _never_written = fs::File::options().write(true).open(&secret).unwrap();
    bridge.signal("TERM");
    assert_eq!(bridge.ends(), Some(0));
}
