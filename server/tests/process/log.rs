//! At any level, the log tells what happened and holds nothing of what was said, and no secret.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::bridge::{Bridge, ask, blocking, folder, provider, question};

/// What must not be in the log, and where it comes from.
const PRIVATE: [&str; 11] = [
    "the-users-prompt",
    "the-models-answer",
    "the-models-thought",
    "the-tools-argument",
    "what-upstream-quoted",
    "sk-pool-key-the-first",
    "sk-pool-key-the-second",
    "sk-a-key-of-the-clients",
    "the-token-of-alice",
    "the-token-of-the-admin",
    "the-token-of-the-server",
];

#[test]
fn the_log_tells_what_happened_and_nothing_that_was_said() {
    let folder = folder("log");
    let upstream = provider(Duration::ZERO, |head, body| {
        let reply = |status: &str, body: &str| {
            vec![format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )]
        };
        if head.contains("the-first") {
            return reply(
                "429 Too Many Requests\r\nretry-after: 30",
                "the key sk-pool-key-the-first is busy",
            );
        }
        if body.contains("fail") {
            let body = "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"what-upstream-quoted: the-users-prompt\"}}";
            return reply("400 Bad Request", body);
        }
        let content = "[{\"type\":\"thinking\",\"thinking\":\"the-models-thought\",\"signature\":\"s\"},{\"type\":\"text\",\"text\":\"the-models-answer\"},{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"own\",\"input\":{\"city\":\"the-tools-argument\"}}]";
        let whole = blocking("msg_1").replace("[{\"type\":\"text\",\"text\":\"Hi\"}]", content);
        let (_, body) = whole.split_once("\r\n\r\n").unwrap();
        reply("200 OK", body)
    });
    let config = folder.join("aibridge.toml");
    let text = format!(
        "[server]\nadmin_token = \"the-token-of-the-admin\"\n[[client]]\nname = \"alice\"\ntoken = \"the-token-of-alice\"\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://{upstream}\"\nkeys = [\"sk-pool-key-the-first\", \"sk-pool-key-the-second\"]\n[records]\nsqlite = \"records.db\"\n[[mcp]]\nname = \"nobody\"\nurl = \"http://127.0.0.1:9/mcp\"\nheaders = {{ authorization = \"the-token-of-the-server\" }}\n"
    );
    fs::write(&config, text).unwrap();
    let bridge = Bridge::start(&config, "trace", "");

    let pool = "x-api-key: the-token-of-alice\r\n";
    let own = "x-aibridge-token: the-token-of-alice\r\nx-api-key: sk-a-key-of-the-clients\r\n";
    let prompt = "the-users-prompt";
    let answered = ask(&bridge.clients, pool, &question(prompt, false)).unwrap();
    assert!(answered.body.contains("the-models-answer"), "{answered:?}");
    let failed = ask(
        &bridge.clients,
        own,
        &question("fail the-users-prompt", false),
    )
    .unwrap();
    assert_eq!(failed.status(), 400);
    let refused = ask(
        &bridge.clients,
        "x-api-key: sk-a-key-of-the-clients\r\n",
        &question(prompt, false),
    )
    .unwrap();
    assert_eq!(refused.status(), 401);
    bridge.until("counted", |bridge| {
        let counted = "aibridge_refusals_total{reason=\"unauthenticated\"} 1\n";
        let mut stream = TcpStream::connect(&bridge.admin).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer the-token-of-the-admin\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        metrics.contains(counted)
    });
    let malformed = ask(
        &bridge.clients,
        pool,
        "{\"model\":\"m\",\"messages\":\"the-users-prompt\"",
    );
    assert_eq!(malformed.unwrap().status(), 400);

    bridge.until("the server is missed", |bridge| {
        bridge.log().contains("MCP server cannot be used")
    });

    let log = bridge.stop();
    for private in PRIVATE {
        assert!(!log.contains(private), "{private} is in the log:\n{log}");
    }
    let line = log
        .lines()
        .find(|line| line.contains(&answered.id()))
        .unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    for (field, value) in [
        ("level", "INFO"),
        ("message", "interception"),
        ("actor", "alice"),
        ("provider", "anthropic"),
        ("api", "messages"),
        ("model", "m"),
        ("outcome", "ok"),
        ("key", "sk-p...cond"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    let numbers = [
        ("status", 200),
        ("attempts", 2),
        ("turns", 1),
        ("input_tokens", 7),
        ("output_tokens", 3),
    ];
    for (field, value) in numbers {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(line["total_ms"].as_f64().unwrap() >= line["first_byte_ms"].as_f64().unwrap());
    let line = log.lines().find(|line| line.contains(&refused.id()));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    for (field, value) in [
        ("level", "INFO"),
        ("message", "request refused"),
        ("provider", "anthropic"),
        ("reason", "unauthenticated"),
        ("why", "no client of this bridge has this token"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["status"], 401, "{line}");
    let cools = log
        .lines()
        .find(|line| line.contains("key cools down"))
        .unwrap();
    assert!(
        cools.contains("\"level\":\"WARN\"") && cools.contains("sk-p...irst"),
        "{cools}"
    );
    assert!(
        log.lines().any(|line| line.contains(&failed.id())
            && line.contains("bad_request") | line.contains("upstream_error")),
        "{log}"
    );

    // And the store has what the log has not.
    let store = rusqlite::Connection::open(folder.join("records.db")).unwrap();
    let text = |sql| {
        store
            .query_row(sql, (), |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(
        text("SELECT text FROM prompts ORDER BY rowid LIMIT 1"),
        prompt
    );
    assert_eq!(
        text("SELECT message_id FROM prompts ORDER BY rowid LIMIT 1"),
        "msg_1",
        "defect 16: a prompt has its message's id after a failover"
    );
    assert_eq!(
        text("SELECT arguments FROM tool_usage"),
        "{\"city\":\"the-tools-argument\"}"
    );
    assert_eq!(
        text("SELECT text FROM model_thoughts"),
        "the-models-thought"
    );
    let keys = store.query_row("SELECT group_concat(key_hint || ' ' || status || ' ' || verdict) FROM attempts WHERE interception_id = ?", [answered.id()], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(keys, "sk-p...irst 429 next_key,sk-p...cond 200 relay");
}
