//! No secret is anywhere but where it belongs: not in the log at its most talkative, the store, its
//! journal, a trace, or on a page of the admin listener's.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::bridge::{Bridge, ask, field, folder, provider, question};

const POOL: [&str; 2] = ["sk-pool-key-the-first", "sk-pool-key-the-second"];
const OWN: &str = "sk-a-key-of-the-clients";
const TOKEN: &str = "the-token-of-alice";
const ADMIN: &str = "the-token-of-the-admin";
const TOOLS: &str = "the-token-for-the-tools";
const ALL: [&str; 6] = [POOL[0], POOL[1], OWN, TOKEN, ADMIN, TOOLS];

/// Looks for every secret, in part also: what a hint shows is less than what is looked for.
#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    for secret in ALL {
        let middle = &secret.as_bytes()[5..secret.len() - 5];
        let at = bytes.windows(middle.len()).position(|part| part == middle);
        let context = at.map(|at| {
            let end = bytes.len().min(at + 80);
            String::from_utf8_lossy(&bytes[at.saturating_sub(80)..end])
        });
        assert_eq!(context, None, "{secret} is in {what}");
    }
}

/// All files in a folder and below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Searches what the bridge has written, and says which files that were.
#[track_caller]
fn search(folder: &Path) -> Vec<String> {
    let mut searched = Vec::new();
    for file in files(folder) {
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        // A file of the journal's may have been taken in meanwhile.
        if name != "aibridge.toml"
            && let Ok(bytes) = fs::read(&file)
        {
            assert_clean(&name, &bytes);
            searched.push(name);
        }
    }
    searched
}

/// A page of the admin listener's, as an administrator sees it.
fn page(bridge: &Bridge, path: &str) -> String {
    let mut stream = TcpStream::connect(&bridge.admin).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{path}: {reply}");
    reply
}

fn json_reply(status: &str, body: &str) -> Vec<String> {
    let len = body.len();
    vec![format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
    )]
}

/// A server with the tool `look`, for whoever shows the token. Counts the calls.
fn tools(called: Arc<AtomicUsize>) -> String {
    provider(Duration::ZERO, move |head, body| {
        let shown = format!("bearer {TOOLS}");
        if field(head, "authorization") != Some(&shown) {
            return json_reply("401 Unauthorized", "{}");
        }
        let message: Value = serde_json::from_str(body).unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}}, "serverInfo": {"name": "desk", "version": "1"},
            }),
            Some("tools/list") => {
                json!({"tools": [{"name": "look", "inputSchema": {"type": "object"}}]})
            }
            Some("tools/call") => {
                called.fetch_add(1, Relaxed);
                json!({"content": [{"type": "text", "text": "a river"}]})
            }
            Some(name) if name.starts_with("notifications/") => {
                return json_reply("202 Accepted", "");
            }
            _ => return json_reply("404 Not Found", "{}"),
        };
        let reply = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        json_reply("200 OK", &reply.to_string())
    })
}

/// A provider whose first key is used up, and which says the key in saying so. Its model calls the
/// tool where it is offered.
fn models() -> String {
    provider(Duration::ZERO, |head, body| {
        if head.contains(POOL[0]) {
            let said = format!("the key {} is busy", POOL[0]);
            return json_reply("429 Too Many Requests\r\nretry-after: 30", &said);
        }
        if !head.contains(POOL[1]) && !head.contains(OWN) {
            return json_reply("401 Unauthorized", "{}");
        }
        let calls = body.contains("bmcp_desk_look") && !body.contains("tool_result");
        let (content, stop) = if calls {
            let call =
                json!({"type": "tool_use", "id": "toolu_1", "name": "bmcp_desk_look", "input": {}});
            (call, "tool_use")
        } else {
            (json!({"type": "text", "text": "A river."}), "end_turn")
        };
        let message = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [content], "stop_reason": stop,
            "usage": {"input_tokens": 7, "output_tokens": 3},
        });
        json_reply("200 OK", &message.to_string())
    })
}

#[test]
fn no_secret_is_in_anything_that_a_running_bridge_writes_or_shows() {
    let folder = folder("secrets");
    let called = Arc::new(AtomicUsize::new(0));
    let (upstream, desk) = (models(), tools(Arc::clone(&called)));
    let config = folder.join("aibridge.toml");
    let text = format!(
        "[server]\nadmin_token = \"{ADMIN}\"\n[[client]]\nname = \"alice\"\ntoken = \"{TOKEN}\"\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"{}\", \"{}\"]\n[[mcp]]\nname = \"desk\"\nurl = \"http://{desk}/mcp\"\nheaders = {{ authorization = \"Bearer {TOOLS}\" }}\n[records]\nsqlite = \"records.db\"\n[trace]\ndir = \"traces\"\n",
        POOL[0], POOL[1]
    );
    fs::write(&config, text).unwrap();
    let bridge = Bridge::start(&config, "trace", "");
    bridge.until("a tool on offer", |bridge| {
        page(bridge, "/tools").contains("bmcp_desk_look")
    });
    // While somebody else has the database, records stay in the journal, where they are looked for
    // too.
    let other = Connection::open(folder.join("records.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let pool = format!("x-api-key: {TOKEN}\r\n");
    let own = format!("x-aibridge-token: {TOKEN}\r\nx-api-key: {OWN}\r\n");
    for (headers, status) in [
        (&pool, 200),
        (&own, 200),
        (&format!("x-api-key: {OWN}\r\n"), 401),
        (&format!("authorization: Bearer {ADMIN}\r\n"), 401),
    ] {
        let seen = ask(&bridge.clients, headers, &question("Look!", false)).unwrap();
        assert_eq!(seen.status(), status, "{seen:?}");
        assert_clean("a client's reply", format!("{seen:?}").as_bytes());
    }
    assert_eq!(called.load(Relaxed), 2, "the tool is called for either key");

    for path in [
        "/metrics",
        "/keys",
        "/tools",
        "/interceptions",
        "/healthz",
        "/readyz",
    ] {
        assert_clean(path, page(&bridge, path).as_bytes());
    }
    assert!(page(&bridge, "/keys").contains("sk-p...irst"));
    assert!(page(&bridge, "/interceptions").contains("sk-a...ents"));
    let searched = search(&folder);
    let has_spool = searched.iter().any(|name| name.contains("spool"));
    assert!(has_spool, "{searched:?}");
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    bridge.until("all taken in, and all traces written", |bridge| {
        let rows = Connection::open(folder.join("records.db")).unwrap();
        let rows = rows.query_row("SELECT count(*) FROM interceptions", (), |row| row.get(0));
        let traces = files(&folder.join("traces")).len();
        assert!(page(bridge, "/metrics").contains("aibridge_records_lost_total 0"));
        rows.is_ok_and(|rows: u32| rows >= 2) && traces >= 2
    });
    let searched = search(&folder);
    for name in ["records.db", "records.db-wal", "traces/"] {
        assert!(
            searched.iter().any(|known| known.starts_with(name)),
            "{name}: {searched:?}"
        );
    }

    let log = bridge.stop();
    for told in ["key cools down", "sk-p...cond", "sk-a...ents"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert_clean("the log", log.as_bytes());
    assert!(search(&folder).contains(&"records.db".to_owned()));
}
