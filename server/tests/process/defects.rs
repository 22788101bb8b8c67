//! Defects of the list in `tests/tests/defects.rs` that only the running binary can show. 16 is in
//! `log`, 19 in `trouble`, 20 in `reload`.

use std::{fs, time::Duration};

use crate::bridge::{Bridge, ask, blocking, folder, provider, question};

/// How many series there are.
fn series(bridge: &Bridge) -> usize {
    let text = bridge.get("/metrics");
    text.lines()
        .filter(|line| line.starts_with("aibridge_"))
        .count()
}

#[test]
fn defect_18_neither_metrics_nor_circuits_grow_with_what_clients_send() {
    let folder = folder("labels");
    let upstream = provider(Duration::ZERO, |_, _| vec![blocking("msg_1")]);
    let config = folder.join("aibridge.toml");
    let text = format!(
        "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"a-key-of-the-pool\"]\n[provider.circuit]\n"
    );
    fs::write(&config, text).unwrap();
    let bridge = Bridge::start(&config, "warn", "");
    let ask_all = |from: u32| {
        for number in from..from + 150 {
            let agent = format!("user-agent: agent-{number}\r\nsession-id: session-{number}\r\n");
            let body = question("Hi", false).replace("\"m\"", &format!("\"model-{number}\""));
            let saw = ask(&bridge.clients, &agent, &body).unwrap();
            assert_eq!(saw.status(), 200, "{saw:?}");
        }
    };
    ask_all(0);
    let before = series(&bridge);
    ask_all(150);
    assert_eq!(series(&bridge), before);
    let text = bridge.get("/metrics");
    for chosen in ["agent-", "session-", "model-299"] {
        assert!(!text.contains(chosen), "{chosen}: {text}");
    }
    let circuits = text.lines().filter(|line| line.contains("circuit"));
    let circuits = circuits.filter(|line| line.starts_with("aibridge_"));
    assert!((1..=4).contains(&circuits.count()), "{text}");
    bridge.stop();
}
