//! Mistakes that are easily made, what is said of them, and that no secret is in what is said.

use super::*;

#[test]
fn easy_mistakes_are_told_with_their_fix_and_without_what_may_be_a_secret() {
    let good = provider("a", "openai", "https://host/v1");
    let cases: Vec<(String, &str)> = vec![
        (
            with("max_buffered = \"1MiB\"", ""),
            "aibridge.toml:2: server: max_buffered 1MiB is less than max_body 32MiB, so the largest requests could never be served; change one",
        ),
        (
            with("max_body = \"2GiB\"", ""),
            "aibridge.toml:2: server: max_buffered 1GiB is less than max_body 2GiB, so the largest requests could never be served; change one",
        ),
        (
            with(
                "",
                "[provider.failover]\nunauthorized = \"2h\"\nforbidden = \"61m\"",
            ),
            "aibridge.toml:8: provider \"anthropic\": failover: unauthorized 2h is longer than max_cooldown 1h; change one\naibridge.toml:9: provider \"anthropic\": failover: forbidden 61m is longer than max_cooldown 1h; change one",
        ),
        (
            good.clone()
                + "[[mcp]]\nname = \"coder\"\nurl = \"http://h/mcp\"\nheaders = { Authorization = \"a\", authorization = \"b\" }\n",
            "aibridge.toml:8: mcp \"coder\": headers: authorization: is there in another case as well; remove one",
        ),
        (
            with("max_connections = \"5\"", ""),
            "aibridge.toml:2: max_connections: is of type string; write a whole number",
        ),
        (
            with("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", ""),
            "aibridge.toml:3: listen: is there twice in this table; remove one",
        ),
        (
            good.clone() + "[[client]]\ntoken = \"token-of-alice\"\n",
            "aibridge.toml:5: [[client]]: name is missing; add it",
        ),
        (
            with("tls = { cert = \"c\" }", ""),
            "aibridge.toml:2: [server]: key is missing; add it",
        ),
        (
            client("alice", "aibridge") + &good,
            "aibridge.toml:3: client \"alice\": token: is what clients show that have no token, and known to all; choose another",
        ),
        (
            "[server]\nadmin_token = \"one-for-both\"\n".to_owned()
                + &client("alice", "one-for-both")
                + &good,
            "aibridge.toml:5: client \"alice\": token: is also admin_token; give the client another",
        ),
        (
            client("alice", "file:") + &good,
            "aibridge.toml:3: client \"alice\": token: names no file; write \"file:PATH\" or remove the client",
        ),
        (
            with("", "keys = [\"env:\"]"),
            "aibridge.toml:7: provider \"anthropic\": keys[0]: names no environment variable; write \"env:NAME\" or remove the entry",
        ),
        (
            with("", "keys = [\"file:/tmp\"]"),
            "aibridge.toml:7: provider \"anthropic\": keys[0]: /tmp is a folder; name the file in it that has the secret",
        ),
        (
            with("", "keys = [\"sk-abc\u{e9}\"]"),
            "aibridge.toml:7: provider \"anthropic\": keys[0]: has characters that cannot stand in a credential (white space, control or non-ASCII characters); check the value",
        ),
        (
            provider("a", "sk-ant-api03-abcdefgh", "https://host"),
            "aibridge.toml:3: provider \"a\": api: \"sk-a...efgh\" is not known; use \"anthropic\" or \"openai\"",
        ),
        (
            with("idle_timeout = \"sk-ant-api03-abcdefgh\"", ""),
            "aibridge.toml:2: server: idle_timeout: \"sk-a...efgh\" is not a duration; write a whole number and a unit, such as \"60s\"",
        ),
        (
            with("max_body = \"1 sk-ant-api03-abcdefgh\"", ""),
            "aibridge.toml:2: server: max_body: \"sk-a...efgh\" is not a unit of size; use B, KiB, MiB or GiB, as in \"32MiB\"",
        ),
        (
            good.clone() + "[[mcp]]\nname = \"coder\"\nurl = \"http://u:p@h/mcp\"\n",
            "aibridge.toml:7: mcp \"coder\": url: has a user name; put the credential into headers",
        ),
        (
            good.clone() + "[records]\non_full = \"refuse\"\n",
            "aibridge.toml:6: records: on_full: memory does not fill up; remove it, or use `sqlite` or `jsonl`",
        ),
        (
            good.clone() + "[records]\nsqlite = \"/tmp\"\n",
            "aibridge.toml:6: records: sqlite: /tmp is a folder; name a file in it",
        ),
        (
            good.clone() + "[records]\njsonl = \"records.jsonl\"\n",
            "aibridge.toml:6: records: jsonl: folder /nowhere does not exist; create it or name another",
        ),
    ];
    for (text, expected) in cases {
        let error = read(&text).map(drop).unwrap_err().to_string();
        assert_eq!(error, expected, "{text}");
    }
}

/// What stands in for a value that was rejected is compared with nothing.
#[test]
fn one_mistake_is_one_complaint() {
    let good = provider("a", "openai", "https://host/v1");
    let cases: Vec<(String, &str)> = vec![
        (
            "[server]\nlisten = \"0.0.0.0:8787\"\n".to_owned()
                + &client("alice", "env:NOT_SET")
                + &good,
            "aibridge.toml:5: client \"alice\": token: environment variable NOT_SET is not set; set it or remove the client",
        ),
        (
            with(
                "admin = \"0.0.0.0:8788\"\nadmin_token = \"env:NOT_SET\"",
                "",
            ),
            "aibridge.toml:3: server: admin_token: environment variable NOT_SET is not set; set it or remove the entry",
        ),
        (
            with("max_body = \"2GiB\"\nmax_buffered = \"4 gigs\"", ""),
            "aibridge.toml:3: server: max_buffered: \"gigs\" is not a unit of size; use B, KiB, MiB or GiB, as in \"32MiB\"",
        ),
        (
            with("max_body = \"1 meg\"\nmax_buffered = \"16MiB\"", ""),
            "aibridge.toml:2: server: max_body: \"meg\" is not a unit of size; use B, KiB, MiB or GiB, as in \"32MiB\"",
        ),
        (
            with(
                "",
                "[provider.failover]\nmax_cooldown = \"30s\"\ndefault_cooldown = \"10\"",
            ),
            "aibridge.toml:9: provider \"anthropic\": failover: default_cooldown: \"10\" lacks a unit; write \"10s\" for seconds",
        ),
        (
            with("listen = \"8789\"\nadmin = \"127.0.0.1:8787\"", ""),
            "aibridge.toml:2: server: listen: \"8789\" is not an address; write an IP address and a port, such as \"127.0.0.1:8787\"",
        ),
        (
            "[server]\nlisten = \"8789\"\n".to_owned()
                + &provider("a", "openai", "http://127.0.0.1:8787/v1"),
            "aibridge.toml:2: server: listen: \"8789\" is not an address; write an IP address and a port, such as \"127.0.0.1:8787\"",
        ),
    ];
    for (text, expected) in cases {
        let error = read(&text).map(drop).unwrap_err().to_string();
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn short_tokens_are_pointed_out() {
    for (admin, client, warned) in [
        ("long-enough", "long-too", &[][..]),
        ("1234567", "12345678", &["server: admin_token"]),
        ("12345678", "1234567", &["client \"a\": token"]),
    ] {
        let admin = format!("admin_token = \"{admin}\"");
        let client = format!("[[client]]\nname = \"a\"\ntoken = \"{client}\"");
        let warnings = read(&with(&admin, &client)).unwrap().warnings;
        let expected: Vec<_> = warned
            .iter()
            .map(|key| {
                format!(
                    "{key} is shorter than 8 characters, and may be guessed; choose a longer one"
                )
            })
            .collect();
        assert_eq!(warnings, expected);
    }
}

#[test]
fn what_is_no_text_is_told_of_as_that() {
    let folder = std::env::temp_dir().join(format!("aibridge-{}-latin1", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("latin1");
    fs::write(&file, b"schl\xfcssel").unwrap();
    let shown = file.display();
    let text = with("", &format!("keys = [\"file:{shown}\"]"));
    let error = read(&text).map(drop).unwrap_err().to_string();
    let expected = format!(
        "aibridge.toml:7: provider \"anthropic\": keys[0]: file {shown} is not UTF-8 text; write the secret into it as text"
    );
    assert_eq!(error, expected);
    for (path, what) in [
        (&file, "is not UTF-8 text; save it as that"),
        (&folder, "is a folder; name a file in it"),
    ] {
        let error = Settings::load(Some(path), Overrides::default());
        let error = error.map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {what}", path.display()));
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// What the process keeps of tokens for its whole life.
#[test]
fn of_tokens_the_settings_have_no_text() {
    let server = "admin_token = \"the-admin-token-1\"";
    let client = "[[client]]\nname = \"a\"\ntoken = \"token-of-alice-123\"";
    let settings = read(&with(server, client)).unwrap();
    let Token { digest, hint, .. } = &settings.clients[0].token;
    assert_eq!(
        *digest,
        aibridge_core::Secret::new("token-of-alice-123").digest()
    );
    assert_eq!(hint, "to...23");
    let Token { hint, .. } = settings.admin_token.as_ref().unwrap();
    assert_eq!(hint, "th...-1");
}
