//! A machine that has no descriptors left.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::bridge::{Bridge, ask, blocking, folder, provider, question};

/// More connect than may be open. Those that are in are served, the others wait, and all is well
/// when they have gone.
#[test]
fn it_runs_out_of_descriptors_and_recovers() {
    let folder = folder("descriptors");
    let provider = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let file = folder.join("aibridge.toml");
    let text = format!(
        "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{provider}\"\nkeys = [\"k\"]\n"
    );
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start(&file, "warn", "ulimit -n 48;");
    let crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(&bridge.clients).unwrap())
        .collect();
    bridge.until("out of descriptors", |bridge| {
        bridge.log().contains("cannot accept")
    });
    drop(crowd);
    bridge.until("served again", |bridge| {
        ask(&bridge.clients, "", &question("Hello?", false)).is_ok_and(|seen| seen.status() == 200)
    });
    let log = bridge.stop();
    // It rested between its tries.
    assert!(log.matches("cannot accept").count() < 300, "{log}");
}

/// Each request takes two: a limit that whoever starts it may raise is not what it runs into.
#[test]
fn it_takes_all_descriptors_that_it_may_have() {
    let folder = folder("soft-limit");
    let file = folder.join("aibridge.toml");
    let text = "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://127.0.0.1:9\"\n";
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start(&file, "warn", "ulimit -H -n 512; ulimit -S -n 48;");
    let crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(&bridge.clients).unwrap())
        .collect();
    bridge.until("all are in", |bridge| {
        bridge.metric("aibridge_client_connections") == 100
    });
    drop(crowd);
    assert!(!bridge.stop().contains("cannot accept"));
}

/// Of each that the kernel makes, all 2 MiB are resident.
#[test]
fn it_has_no_huge_pages() {
    let folder = folder("huge-pages");
    let file = folder.join("aibridge.toml");
    let text = "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://127.0.0.1:9\"\n";
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start(&file, "warn", "");
    // Linux alone tells, from 5.0 on.
    let status = fs::read_to_string(format!("/proc/{}/status", bridge.pid())).unwrap_or_default();
    assert!(!status.contains("THP_enabled:\t1"), "{status}");
    bridge.stop();
}

/// One connection too many is told so.
#[test]
fn beyond_the_limit_connections_are_told_to_come_back() {
    let folder = folder("connections");
    let provider = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let file = folder.join("aibridge.toml");
    let text = format!(
        "[server]\nmax_connections = 2\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{provider}\"\nkeys = [\"k\"]\n"
    );
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start(&file, "warn", "");
    let held: Vec<_> = (0..2)
        .map(|_| TcpStream::connect(&bridge.clients).unwrap())
        .collect();
    bridge.until("two are in", |bridge| {
        bridge.metric("aibridge_client_connections") == 2
    });
    let seen = ask(&bridge.clients, "", &question("Room?", false)).unwrap();
    assert_eq!(seen.status(), 503);
    assert!(seen.head.contains("retry-after: 1\r\n"), "{}", seen.head);
    assert!(seen.body.contains("\"overloaded_error\""), "{}", seen.body);
    drop(held);
    bridge.until("they have gone", |bridge| {
        bridge.metric("aibridge_client_connections") == 0
    });
    let seen = ask(&bridge.clients, "", &question("Room?", false)).unwrap();
    assert_eq!(seen.status(), 200);
    bridge.stop();
}

/// A client that dribbles its head is let go in time, whatever it sends.
#[test]
fn slow_heads_are_cut_off() {
    let folder = folder("slow");
    let file = folder.join("aibridge.toml");
    let text = "[server]\nclient_header_timeout = \"300ms\"\nclient_idle_timeout = \"300ms\"\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://127.0.0.1:9\"\nkeys = [\"k\"]\n";
    fs::write(&file, text).unwrap();
    let bridge = Bridge::start(&file, "warn", "");
    for (begin, dribbles) in [
        (&b""[..], false),
        (b"POST /anthropic/v1/messages HTTP/1.1\r\nhost:", false),
        (b"POST /anthropic/v1/messages HTTP/1.1\r\nx-slow: ", true),
    ] {
        let mut stream = TcpStream::connect(&bridge.clients).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(begin).unwrap();
        let mut reply = String::new();
        if dribbles {
            // It goes on until nobody takes it any more: the lingering end is a second long.
            let mut stream = stream.try_clone().unwrap();
            let begun = Instant::now();
            while stream.write_all(b"x").is_ok() {
                assert!(begun.elapsed() < Duration::from_secs(15), "it is cut off");
                thread::sleep(Duration::from_millis(20));
            }
            continue;
        }
        stream.read_to_string(&mut reply).unwrap();
        let expected = if begin.is_empty() { "" } else { "HTTP/1.1 408" };
        assert!(reply.starts_with(expected), "{reply}");
        assert_eq!(reply.is_empty(), begin.is_empty(), "{reply}");
    }
    bridge.stop();
}
