//! Whatever a client has seen complete is in the store after `kill -9`, once.
//!
//! `AIBRIDGE_KILLS` says how often the bridge is killed: a few times unless told.

use std::{
    collections::BTreeMap,
    env, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::bridge::{Bridge, ask, blocking, folder, provider, question, streamed};
use rusqlite::Connection;

/// Clients at work at once, and how long each rests between two questions: some 200 questions a
/// second.
const CLIENTS: u64 = 24;
const REST: Duration = Duration::from_millis(50);
/// Whoever began longer before the kill is in the store.
const SETTLED: Duration = Duration::from_millis(60);

/// What a client saw.
struct Saw {
    complete: bool,
    begun: Instant,
}

#[test]
fn what_a_client_saw_complete_is_in_the_store_after_kill_9() {
    let kills = env::var("AIBRIDGE_KILLS").map_or(3, |kills| kills.parse::<u32>().unwrap());
    let folder = folder("crash");
    let number = AtomicU64::new(0);
    // A stream takes some 140 ms, so that there are always some that a kill cuts short.
    let upstream = provider(Duration::from_millis(20), move |_, body| {
        let id = format!("msg_{}", number.fetch_add(1, Relaxed));
        if body.contains("\"stream\":true") {
            streamed(&id)
        } else {
            vec![blocking(&id)]
        }
    });
    let config = folder.join("aibridge.toml");
    let text = format!(
        "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"a-key-of-the-pool\"]\n[records]\nsqlite = \"records.db\"\n"
    );
    fs::write(&config, text).unwrap();

    let mut bridge = Bridge::start(&config, "warn", "");
    let address = Arc::new(Mutex::new(bridge.clients.clone()));
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (address, seen) = (Arc::clone(&address), Arc::clone(&seen));
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut stream = client % 2 == 0;
                while !stop.load(Relaxed) {
                    let at = address.lock().unwrap().clone();
                    let begun = Instant::now();
                    if let Ok(saw) = ask(&at, "", &question("What is a bridge?", stream)) {
                        assert_eq!(saw.status(), 200, "{saw:?}");
                        let complete = saw.complete;
                        seen.lock()
                            .unwrap()
                            .insert(saw.id(), Saw { complete, begun });
                    }
                    stream = !stream;
                    thread::sleep(REST);
                }
            })
        })
        .collect();

    let mut killed = Vec::new();
    for _ in 0..kills {
        // The moments need to differ, not to be told in advance.
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos();
        thread::sleep(Duration::from_millis(700 + u64::from(nanos % 1_300)));
        killed.push(Instant::now());
        bridge.kill();
        bridge = Bridge::start(&config, "warn", "");
        address.lock().unwrap().clone_from(&bridge.clients);
    }
    thread::sleep(Duration::from_millis(500));
    stop.store(true, Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let lost = bridge.metric("aibridge_records_lost_total");
    let log = bridge.stop();
    assert_eq!(lost, 0, "{log}");

    let store = Connection::open(folder.join("records.db")).unwrap();
    let mut stored = BTreeMap::new();
    let mut select = store
        .prepare("SELECT id, outcome, (SELECT count(*) FROM token_usage t WHERE t.interception_id = i.id) FROM interceptions i")
        .unwrap();
    let mut rows = select.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let kept: (Option<String>, u32) = (row.get(1).unwrap(), row.get(2).unwrap());
        let known = stored.insert(row.get::<_, String>(0).unwrap(), kept);
        assert!(known.is_none(), "stored twice");
    }

    let seen = seen.lock().unwrap();
    let (mut complete, mut cut, mut in_store, mut interrupted) = (0, 0, 0, 0);
    for (id, saw) in &*seen {
        let kept = stored
            .get(id)
            .map(|(outcome, usage)| (outcome.as_deref(), *usage));
        if saw.complete {
            complete += 1;
            assert_eq!(kept, Some((Some("ok"), 1)), "{id} was seen complete");
            continue;
        }
        cut += 1;
        let cut_at = killed.iter().find(|at| **at > saw.begun).unwrap();
        let settled = saw.begun + SETTLED < *cut_at;
        in_store += u32::from(settled);
        assert!(
            kept.is_some() || !settled,
            "{id} was seen, and is not in the store"
        );
    }
    for (id, (outcome, usage)) in &stored {
        let outcome = outcome
            .as_deref()
            .unwrap_or_else(|| panic!("{id} still runs"));
        interrupted += u32::from(outcome == "interrupted");
        assert!(*usage <= 1, "{id} has its tokens twice");
    }
    println!(
        "{kills} kills: {} interceptions stored, {interrupted} of them interrupted; clients saw {complete} complete, {cut} cut short, {in_store} of them begun more than {SETTLED:?} before",
        stored.len()
    );
    assert!(complete > 50 * kills, "there was no load");
    assert!(interrupted > 0, "nothing ran when it was killed");
}
