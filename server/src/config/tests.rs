//! Configurations, and what is said of them.

use std::env::VarError;

use aibridge_core::keypool::Rejected;

use super::*;

mod mistakes;

/// An environment of these variables.
fn sources(variables: &'static [(&'static str, &'static str)]) -> Sources {
    Sources {
        env: Box::new(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or(VarError::NotPresent)
        }),
        folder: PathBuf::from("/nowhere"),
    }
}

fn read(text: &str) -> Result<Settings, Error> {
    let sources = sources(&[
        ("KEY_1", " sk-ant-api03-first-key-aaaa\n"),
        ("KEY_2", "sk-ant-api03-second-key-bbbb"),
        ("BLANK", " "),
        ("SPLIT", "two keys"),
    ]);
    Settings::from_toml("aibridge.toml", text, &sources, Overrides::default())
}

/// A file with this `[server]` table and this in the provider's.
fn with(server: &str, provider: &str) -> String {
    format!(
        "[server]\n{server}\n[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"https://api.anthropic.com\"\n{provider}\n"
    )
}

fn provider(name: &str, api: &str, url: &str) -> String {
    format!("[[provider]]\nname = \"{name}\"\napi = \"{api}\"\nbase_url = \"{url}\"\n")
}

fn client(name: &str, token: &str) -> String {
    format!("[[client]]\nname = \"{name}\"\ntoken = \"{token}\"\n")
}

#[test]
fn every_complaint_names_file_line_key_and_fix() {
    let good = provider("a", "openai", "https://host/v1");
    let cases: Vec<(String, &str)> = vec![
        (
            String::new(),
            "aibridge.toml: no provider; add a [[provider]] with name, api and base_url",
        ),
        (
            with("listen = \"8787\"", ""),
            "aibridge.toml:2: server: listen: \"8787\" is not an address; write an IP address and a port, such as \"127.0.0.1:8787\"",
        ),
        (
            with("listen = 8787", ""),
            "aibridge.toml:2: listen: is of type integer; write a string",
        ),
        (
            with("listn = \"127.0.0.1:1\"", ""),
            "aibridge.toml:2: listn: unknown field `listn`, expected one of `listen`, `admin`, `admin_token`, `max_body`, `header_timeout`, `idle_timeout`, `drain_timeout`, `client_header_timeout`, `client_body_timeout`, `client_idle_timeout`, `max_connections`, `max_buffered`, `tls`, `admin_tls`, `admin_hosts`, `upstream_ca`",
        ),
        (
            with("listen = \"0.0.0.0:8787\"", ""),
            "aibridge.toml:2: server: listen: 0.0.0.0:8787 can be reached by others, who could use the keys; name who may in [[client]], or listen on 127.0.0.1",
        ),
        (
            with("admin = \"0.0.0.0:8788\"", ""),
            "aibridge.toml:2: server: admin: 0.0.0.0:8788 can be reached by others; set admin_token, or listen on 127.0.0.1",
        ),
        (
            with("admin = \"localhost:8787\"", ""),
            "aibridge.toml:2: server: admin: 127.0.0.1:8787 is also `listen`; use another port",
        ),
        (
            with("admin_token = \"env:BLANK\"", ""),
            "aibridge.toml:2: server: admin_token: environment variable BLANK is empty; set it or remove the entry",
        ),
        (
            with("admin_token = \"\"", ""),
            "aibridge.toml:2: server: admin_token: is empty; give a value, \"env:NAME\" or \"file:PATH\"",
        ),
        (
            with("max_body = \"0\"", ""),
            "aibridge.toml:2: server: max_body: must be more than 0; remove it for the default",
        ),
        (
            with("max_body = \"32 megs\"", ""),
            "aibridge.toml:2: server: max_body: \"megs\" is not a unit of size; use B, KiB, MiB or GiB, as in \"32MiB\"",
        ),
        (
            with("header_timeout = 60", ""),
            "aibridge.toml:2: server: header_timeout: \"60\" lacks a unit; write \"60s\" for seconds",
        ),
        (
            with("idle_timeout = true", ""),
            "aibridge.toml:2: idle_timeout: is of type boolean; write a number with its unit in quotes, such as \"60s\" or \"32MiB\"",
        ),
        (
            with("drain_timeout = \"0s\"", ""),
            "aibridge.toml:2: server: drain_timeout: must be more than 0; remove it for the default",
        ),
        (
            with("upstream_ca = \"ca.pem\"", ""),
            "aibridge.toml:2: server: upstream_ca: /nowhere/ca.pem cannot be read (No such file or directory (os error 2)); check the path",
        ),
        (
            with("tls = { cert = \"c\", key = \"k\" }", ""),
            "aibridge.toml:2: server: tls: cert: /nowhere/c cannot be read (No such file or directory (os error 2)); check the path\naibridge.toml:2: server: tls: key: /nowhere/k cannot be read (No such file or directory (os error 2)); check the path",
        ),
        (
            client("alice", "t-0") + &client(" alice ", "t-1") + &good,
            "aibridge.toml:5: client \"alice\": name: is used twice; choose another",
        ),
        (
            client("alice", "t-0")
                + "metadata = { \"a b\" = \"c\", d = \"\\u00e9\", E = \"f\", e = \"g\" }\n"
                + &good,
            "aibridge.toml:4: client \"alice\": metadata: a b: ends a header field's name; use letters, digits and hyphens\naibridge.toml:4: client \"alice\": metadata: d: is a header field's value; use printable ASCII characters\naibridge.toml:4: client \"alice\": metadata: e: is there in another case as well; remove one",
        ),
        (
            client("ali\\u0007ce", "t-1") + &good,
            "aibridge.toml:2: client \"ali\\u{7}ce\": name: must be 1 to 128 printable characters; choose another",
        ),
        (
            client("alice", "t-1") + &client("bob", "t-1") + &good,
            "aibridge.toml:6: client \"bob\": token: is also that of \"alice\"; give each its own",
        ),
        (
            client("alice", "file:token") + &good,
            "aibridge.toml:3: client \"alice\": token: file /nowhere/token does not exist; create it or remove the client",
        ),
        (
            provider("Open AI", "openai", "https://host/v1"),
            "aibridge.toml:2: provider \"Open AI\": name: is the route's prefix; use 1 to 64 lower-case letters, digits and hyphens",
        ),
        (
            good.clone() + &good,
            "aibridge.toml:6: provider \"a\": name: is used twice; choose another",
        ),
        (
            provider("a", "gemini", "https://host"),
            "aibridge.toml:3: provider \"a\": api: \"gemini\" is not known; use \"anthropic\" or \"openai\"",
        ),
        (
            provider("a", "openai", "https://host/v1?x=y"),
            "aibridge.toml:4: provider \"a\": base_url: has a query or fragment; leave everything from ? or # on out",
        ),
        (
            provider("a", "openai", "http://localhost:8787/v1"),
            "aibridge.toml:4: provider \"a\": base_url: http://localhost:8787 is the bridge itself; name the provider's own URL",
        ),
        (
            with("", "keys = [\n  \"env:KEY_1\",\n  \"env:KEY_3\",\n]"),
            "aibridge.toml:9: provider \"anthropic\": keys[1]: environment variable KEY_3 is not set; set it or remove the entry",
        ),
        (
            with(
                "",
                "keys = [\"env:KEY_1\", \"sk-ant-api03-first-key-aaaa\"]",
            ),
            "aibridge.toml:7: provider \"anthropic\": keys[1]: duplicate key, the same as keys[0]; remove one",
        ),
        (
            with("", "keys = [\"env:SPLIT\"]"),
            "aibridge.toml:7: provider \"anthropic\": keys[0]: has characters that cannot stand in a credential (white space, control or non-ASCII characters); check the value",
        ),
        (
            with("", "byok = false"),
            "aibridge.toml:4: provider \"anthropic\": keys: none, and byok = false, so nobody could use it; add a key",
        ),
        (
            with("", "[provider.failover]\nunauthorized = \"relay\""),
            "aibridge.toml:8: provider \"anthropic\": failover: unauthorized: \"relay\" is not known; use \"permanent\" or a duration, such as \"10m\"",
        ),
        (
            with("", "[provider.failover]\nforbidden = \"never\""),
            "aibridge.toml:8: provider \"anthropic\": failover: forbidden: \"never\" is not known; use \"permanent\", \"relay\" or a duration, such as \"10m\"",
        ),
        (
            with("", "[provider.failover]\nmax_cooldown = \"10s\""),
            "aibridge.toml:8: provider \"anthropic\": failover: default_cooldown 60s is longer than max_cooldown 10s; change one",
        ),
        (
            good.clone() + "[[mcp]]\nname = \"coder\"\nurl = \"127.0.0.1:1/mcp\"\n",
            "aibridge.toml:7: mcp \"coder\": url: has no scheme; begin it with https:// or http://",
        ),
        (
            good.clone()
                + "[[mcp]]\nname = \"a b\"\nurl = \"http://h/mcp\"\n[[mcp]]\nname = \"a-b\"\nurl = \"http://h/mcp\"\n[[mcp]]\nname = \"a_b\"\nurl = \"http://h/mcp\"\n",
            "aibridge.toml:12: MCP servers \"a b\" and \"a_b\": their tools would have the same names; choose another name",
        ),
        (
            good.clone() + "[[mcp]]\nname = \"coder\"\nurl = \"http://h/mcp\"\ndeny = \"(\"\n",
            "aibridge.toml:8: mcp \"coder\": deny: is not a regular expression (found open group without closing ')'); mend it",
        ),
        (
            good.clone()
                + "[[mcp]]\nname = \"coder\"\nurl = \"http://h/mcp\"\nheaders = { mcp-session-id = \"x\" }\n",
            "aibridge.toml:8: mcp \"coder\": headers: mcp-session-id: is set by the bridge; remove it",
        ),
        (
            good.clone()
                + "[[mcp]]\nname = \"coder\"\nurl = \"http://h/mcp\"\nheaders = { authorization = \"env:NOT_SET\" }\n",
            "aibridge.toml:8: mcp \"coder\": headers: authorization: environment variable NOT_SET is not set; set it or remove the entry",
        ),
        (
            good.clone() + "[records]\npostgres = \"postgres://h/d\"\n",
            "aibridge.toml:6: records: postgres: not supported by this version; use `sqlite`, or `jsonl` and load that",
        ),
        (
            good.clone() + "[records]\nsqlite = \"/tmp/a.db\"\njsonl = \"/tmp/a.jsonl\"\n",
            "aibridge.toml:7: records: jsonl: `sqlite` is given too; records are kept in one place, so remove either",
        ),
        (
            good.clone() + "[records]\njsonl = \"/tmp/a.jsonl\"\nretention = \"90d\"\n",
            "aibridge.toml:7: records: retention: only `sqlite` has it; remove it, or use `sqlite`",
        ),
        (
            good.clone() + "[records]\nsqlite = \"\"\n",
            "aibridge.toml:6: records: sqlite: is empty; name a file",
        ),
        (
            good.clone() + "[records]\nsqlite = \"/tmp/a.db\"\non_full = \"stop\"\n",
            "aibridge.toml:7: records: on_full: \"stop\" is neither \"serve\" nor \"refuse\"; use one of them",
        ),
        (
            with("max_connections = 0", ""),
            "aibridge.toml:2: server: max_connections: must be a whole number from 1; remove it for the default",
        ),
        (
            with("client_header_timeout = 0", ""),
            "aibridge.toml:2: server: client_header_timeout: must be more than 0; remove it for the default",
        ),
        (
            with("admin_hosts = [\"bridge.internal:8788\"]", ""),
            "aibridge.toml:2: server: admin_hosts: must be names such as \"bridge.internal\"; leave out scheme and port",
        ),
        (
            with("", "[provider.circuit]\nfailures = -1"),
            "aibridge.toml:8: provider \"anthropic\": circuit: failures: must be a whole number from 1; remove it for the default",
        ),
        (
            good.clone() + "[[client]]\nname = \"a\"\ntoken = \"t\"\nmax_in_flight = 0\n",
            "aibridge.toml:8: client \"a\": max_in_flight: must be a whole number from 1; remove it for the default",
        ),
        (
            good.clone() + "[tools]\nmax_turns = 0\n",
            "aibridge.toml:6: tools: max_turns: must be a whole number from 1; remove it for the default",
        ),
        (
            good.clone() + "[tools]\ncall_timeout = \"0s\"\nloop_timeout = 0\nmax_result = \"0\"\n",
            "aibridge.toml:6: tools: call_timeout: must be more than 0; remove it for the default\naibridge.toml:7: tools: loop_timeout: must be more than 0; remove it for the default\naibridge.toml:8: tools: max_result: must be more than 0; remove it for the default",
        ),
        (
            good.clone() + "[tools]\ncall_timeout = \"60\"\n",
            "aibridge.toml:6: tools: call_timeout: \"60\" lacks a unit; write \"60s\" for seconds",
        ),
        (
            good.clone() + "[tools]\nturns = 3\n",
            "aibridge.toml:6: turns: unknown field `turns`, expected one of `max_turns`, `call_timeout`, `loop_timeout`, `max_result`",
        ),
        (
            good.clone() + "[trace]\ndir = \"\"\n",
            "aibridge.toml:6: trace: dir: is empty; name a folder",
        ),
        (
            good.clone() + "[trace]\ndir = \"/dev/null\"\n",
            "aibridge.toml:6: trace: dir: /dev/null is no folder; name another",
        ),
    ];
    for (text, expected) in cases {
        let error = read(&text).map(drop).unwrap_err().to_string();
        assert_eq!(error, expected, "{text}");
    }
}

#[test]
fn all_complaints_come_at_once_in_the_order_of_the_file() {
    let text = with(
        "listen = \"x\"\nidle_timeout = \"5\"",
        "keys = [\"env:A\", \"env:B\"]",
    );
    let error = read(&text).map(drop).unwrap_err().to_string();
    let lines: Vec<_> = error
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            "aibridge.toml:2",
            "aibridge.toml:3",
            "aibridge.toml:8",
            "aibridge.toml:8"
        ]
    );
}

#[test]
fn defaults_are_those_of_the_reference() {
    let settings = read(&with("", "keys = [\"env:KEY_1\"]")).unwrap();
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8787");
    assert_eq!(settings.admin.to_string(), "127.0.0.1:8788");
    assert!(settings.warnings.is_empty());
    let core = settings.core();
    assert_eq!(core.limits.body, 32 << 20);
    assert_eq!(core.timeouts, Timeouts::default());
    assert_eq!(core.tools, ToolLimits::default());
    let provider = &core.providers[0];
    assert!(provider.byok && !provider.send_actor);
    assert_eq!(
        provider.keys,
        [aibridge_core::Secret::new("sk-ant-api03-first-key-aaaa")]
    );
    assert_eq!(provider.default_cooldown, Duration::from_secs(60));
    assert_eq!(provider.max_cooldown, Duration::from_secs(3600));
}

#[test]
fn configured_values_reach_the_core() {
    let server = "max_body = \"1MiB\"\nheader_timeout = \"20m\"\nidle_timeout = 0\ndrain_timeout = \"5s\"\nclient_idle_timeout = \"7s\"\nmax_connections = 9\nmax_buffered = \"2MiB\"";
    let provider = "byok = false\nsend_actor = true\nkeys = [\"env:KEY_2\", \"env:KEY_1\"]\n[provider.failover]\nunauthorized = \"8s\"\nforbidden = \"relay\"\ndefault_cooldown = \"5s\"\nmax_cooldown = \"10s\"\n[provider.circuit]\nfailures = 2\n[[client]]\nname = \"alice\"\ntoken = \"t-1\"\nmax_in_flight = 4\nrequests_per_minute = 60\nmetadata = { Team = \"search\", cost = \"4 2\" }\n[tools]\nmax_turns = 3\ncall_timeout = \"5s\"\nloop_timeout = \"1m\"\nmax_result = \"2KiB\"";
    let settings = read(&with(server, provider)).unwrap();
    let core = settings.core();
    assert_eq!(core.limits.body, 1 << 20);
    assert_eq!(core.timeouts.header, Duration::from_secs(1200));
    assert_eq!(
        core.timeouts.header_blocking,
        Duration::from_secs(1200),
        "a longer limit holds for both"
    );
    assert_eq!(core.timeouts.idle, Duration::ZERO);
    assert_eq!(settings.drain_timeout, Duration::from_secs(5));
    assert_eq!(core.timeouts.client_idle, Duration::from_secs(7));
    assert_eq!(
        (core.capacity.connections, core.capacity.buffered),
        (9, 2 << 20)
    );
    let tools = ToolLimits {
        turns: 3,
        call: Duration::from_secs(5),
        whole: Duration::from_secs(60),
        result: 2048,
    };
    assert_eq!(core.tools, tools);
    let again = read(&settings.to_string()).unwrap();
    assert_eq!(again.tools, tools, "what is shown can be read");
    let client = &core.clients[0];
    assert_eq!((&*client.name, client.max_in_flight), ("alice", Some(4)));
    assert_eq!(client.requests_per_minute, Some(60));
    let metadata = [("cost", "4 2"), ("team", "search")];
    assert_eq!(Some(&client.metadata), Metadata::new(metadata).as_ref());
    assert!(
        client
            .token
            .matches(aibridge_core::Secret::new("t-1").digest())
    );
    let breaker = core.providers[0].breaker.unwrap();
    assert_eq!((breaker.failures, breaker.half_open), (2, 3));
    let provider = &core.providers[0];
    assert!(!provider.byok && provider.send_actor);
    assert_eq!(provider.keys[1].hint(), "sk-a...aaaa", "order is kept");
    assert_eq!(
        (provider.default_cooldown, provider.max_cooldown),
        (Duration::from_secs(5), Duration::from_secs(10))
    );
    assert_eq!(
        settings.providers[0].failover.unauthorized,
        Rejected::Cool(Duration::from_secs(8))
    );
    assert_eq!(settings.providers[0].failover.forbidden, Rejected::Relay);
}

#[test]
fn blocking_replies_have_ten_minutes_unless_there_is_no_limit() {
    for (written, blocking) in [("\"5s\"", 600), ("\"15m\"", 900), ("0", 0)] {
        let settings = read(&with(&format!("header_timeout = {written}"), "")).unwrap();
        assert_eq!(
            settings.core().timeouts.header_blocking,
            Duration::from_secs(blocking),
            "{written}"
        );
    }
}

#[test]
fn a_public_address_needs_clients_and_the_admin_one_a_token() {
    let text = with(
        "listen = \"0.0.0.0:1\"\nadmin = \"[::]:2\"\nadmin_token = \"t\"",
        "[[client]]\nname = \"a\"\ntoken = \"u\"",
    );
    assert_eq!(read(&text).unwrap().listen.to_string(), "0.0.0.0:1");
}

#[test]
fn the_command_line_replaces_addresses_before_they_are_judged() {
    let judged = |server: &str, listen: Option<&str>, admin: Option<&str>| {
        let address = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let overrides = Overrides {
            listen: address(listen),
            admin: address(admin),
        };
        let settings = Settings::from_toml("f", &with(server, ""), &sources(&[]), overrides);
        settings.map_or_else(|error| error.to_string(), |_| String::new())
    };
    let public = "listen = \"0.0.0.0:1\"";
    assert_eq!(judged(public, Some("127.0.0.1:1"), None), "");
    // What is wrong is the option then, and no line of the file.
    let local = "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"";
    let error = judged(local, Some("0.0.0.0:1"), None);
    let expected = "f: --listen: 0.0.0.0:1 can be reached";
    assert!(error.starts_with(expected), "{error}");
    let error = judged(local, None, Some("0.0.0.0:2"));
    let expected = "f: --admin: 0.0.0.0:2 can be reached";
    assert!(error.starts_with(expected), "{error}");
    assert_eq!(
        judged(local, Some("127.0.0.1:2"), None),
        "f:3: server: admin: 127.0.0.1:2 is also `--listen`; use another port"
    );
}

#[test]
fn what_is_shown_is_a_configuration_again_and_has_no_secret() {
    let server = "admin_token = \"literal-admin-token\"\nmax_body = \"1MiB\"";
    let provider = "keys = [\"env:KEY_1\", \"sk-literal-0123456789\"]\n[provider.failover]\nunauthorized = \"10m\"\n[[client]]\nname = \"al\\\"ice\"\ntoken = \"token-of-alice-123\"\nmetadata = { team = \"a \\\"b\\\"\" }";
    let settings = read(&with(server, provider)).unwrap();
    let shown = settings.to_string();
    for secret in [
        "literal-admin-token",
        "first-key",
        "0123456789",
        "token-of-alice",
    ] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!format!("{settings:?}").contains(secret));
    }
    assert!(
        shown.contains("  \"sk-a...aaaa\", # env:KEY_1\n  \"sk-l...6789\", # literal\n"),
        "{shown}"
    );
    let again = read(&shown).unwrap();
    assert_eq!(again.max_body, settings.max_body);
    assert_eq!(again.core().timeouts, settings.core().timeouts);
    assert_eq!(again.providers[0].failover, settings.providers[0].failover);
    assert_eq!(again.clients[0].name, "al\"ice");
    assert_eq!(again.clients[0].metadata["team"], "a \"b\"");
}

#[test]
fn unknown_keys_are_named_together_with_all_else_that_is_wrong() {
    let text = with(
        "listn = \"127.0.0.1:1\"\nmax_body = \"0\"",
        "keyz = [\"k\"]\nkeys = [\"env:NOWHERE\"]\n[provider.failover]\nforbiden = \"relay\"",
    ) + "[sqlite]\npath = \"x\"\n";
    let error = read(&text).map(drop).unwrap_err().to_string();
    let lines: Vec<_> = error
        .lines()
        .map(|line| line.split(", expected").next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        [
            "aibridge.toml:2: listn: unknown field `listn`",
            "aibridge.toml:3: server: max_body: must be more than 0; remove it for the default",
            "aibridge.toml:8: keyz: unknown field `keyz`",
            "aibridge.toml:9: provider \"anthropic\": keys[0]: environment variable NOWHERE is not set; set it or remove the entry",
            "aibridge.toml:11: forbiden: unknown field `forbiden`",
            "aibridge.toml:12: unknown field `sqlite`",
        ]
    );
}

#[test]
fn complaints_about_types_do_not_repeat_the_value() {
    let text = with("", "keys = \"sk-secret, expected nothing\"");
    let error = read(&text).map(drop).unwrap_err().to_string();
    assert_eq!(
        error,
        "aibridge.toml:7: keys: is of type string; write a list"
    );
}

#[test]
fn a_version_in_the_wrong_place_is_pointed_out() {
    for (api, url, warns) in [
        ("anthropic", "https://api.anthropic.com/v1", true),
        ("anthropic", "https://api.anthropic.com", false),
        ("openai", "https://api.openai.com", true),
        ("openai", "https://api.openai.com/v1", false),
        ("openai", "http://localhost:11434", false),
    ] {
        let text = format!("[[provider]]\nname = \"p\"\napi = \"{api}\"\nbase_url = \"{url}\"\n");
        assert_eq!(
            read(&text).unwrap().warnings.len(),
            usize::from(warns),
            "{url}"
        );
    }
}

#[test]
fn without_a_file_the_environment_names_keys_and_urls() {
    let sources = sources(&[
        ("ANTHROPIC_API_KEY", "sk-ant-1, sk-ant-2,"),
        ("OPENAI_BASE_URL", "http://localhost:11434/v1"),
    ]);
    let settings = Settings::from_environment(&sources, Overrides::default()).unwrap();
    let core = settings.core();
    let summary: Vec<_> = core
        .providers
        .iter()
        .map(|p| {
            (
                p.name.to_string(),
                format!("{}{}", p.target, p.base_path),
                p.keys.len(),
            )
        })
        .collect();
    assert_eq!(
        summary,
        [
            (
                "anthropic".to_owned(),
                "https://api.anthropic.com".to_owned(),
                2
            ),
            (
                "openai".to_owned(),
                "http://localhost:11434/v1".to_owned(),
                0
            ),
        ]
    );
    assert!(settings.warnings.is_empty());
    assert!(
        settings
            .to_string()
            .contains("# env:ANTHROPIC_API_KEY, entry 2")
    );
}

#[test]
fn without_any_key_the_bridge_still_serves_clients_with_their_own() {
    let settings = Settings::from_environment(&sources(&[]), Overrides::default()).unwrap();
    assert_eq!(settings.providers.len(), 2);
    assert!(
        settings
            .providers
            .iter()
            .all(|p| p.byok && p.keys.is_empty())
    );
    assert!(settings.warnings[0].contains("neither ANTHROPIC_API_KEY nor OPENAI_API_KEY is set"));
}

#[test]
fn complaints_about_the_environment_name_the_variable() {
    let cases: [(&'static [(&str, &str)], &str); 4] = [
        (
            &[("OPENAI_API_KEY", "sk-1,sk-2,sk-1")],
            "environment: OPENAI_API_KEY: entry 3: duplicate key, the same as entry 1; remove one",
        ),
        (
            &[("OPENAI_API_KEY", "sk-1 sk-2")],
            "environment: OPENAI_API_KEY: entry 1: has characters that cannot stand in a credential (white space, control or non-ASCII characters); check the value",
        ),
        (
            &[("OPENAI_BASE_URL", "localhost/v1")],
            "environment: OPENAI_BASE_URL: has no scheme; begin it with https:// or http://",
        ),
        (
            &[("ANTHROPIC_BASE_URL", "http://127.0.0.1:8787/anthropic")],
            "environment: ANTHROPIC_BASE_URL: http://127.0.0.1:8787 is the bridge itself; name the provider's own URL",
        ),
    ];
    for (variables, expected) in cases {
        let error = Settings::from_environment(&sources(variables), Overrides::default())
            .map(drop)
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
