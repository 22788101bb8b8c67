//! The binary, run as its users run it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// The binary, in an environment that has none of the user's own keys or proxies.
fn aibridge(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aibridge"));
    command.args(args).stdin(Stdio::null());
    // Without a configuration file, records are kept in the working directory: each process has one
    // of its own.
    let folder = format!(
        "cwd-{}-{}",
        std::process::id(),
        STARTED.fetch_add(1, Relaxed)
    );
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(folder);
    fs::create_dir_all(&folder).unwrap();
    command.current_dir(folder);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if ["ANTHROPIC_", "OPENAI_", "AIBRIDGE_"]
            .iter()
            .any(|prefix| upper.starts_with(prefix))
            || upper.ends_with("_PROXY")
        {
            command.env_remove(name);
        }
    }
    command
}

fn run(args: &[&str]) -> (i32, String, String) {
    finished(&aibridge(args).output().unwrap())
}

fn finished(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A configuration file of its own for this test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

const PROVIDER: &str =
    "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"http://127.0.0.1:9\"\n";

#[test]
fn version_and_help_are_fine_and_wrong_usage_exits_with_2() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!(
        (code, out.as_str()),
        (0, concat!("aibridge ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["check", "--help"],
        &["demo", "--help"],
    ] {
        assert_eq!(run(args).0, 0, "{args:?}");
    }
    for args in [
        &[][..],
        &["bridge"],
        &["serve", "--listen", "8787"],
        &["serve", "--workers", "0"],
        &["check", "--log", "loud"],
        &["demo", "--log-format", "xml"],
    ] {
        let (code, _, err) = run(args);
        assert_eq!(code, 2, "{args:?}: {err}");
    }
}

#[test]
fn init_writes_a_configuration_that_is_valid_and_overwrites_nothing() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("init");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("new.toml");
    let shown = path.to_str().unwrap();
    let (code, out, err) = run(&["init", shown]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("aibridge serve --config"), "{out}");
    let check = aibridge(&["check", "--config", shown])
        .env("ANTHROPIC_API_KEY", "sk-ant-of-the-environment")
        .output();
    assert_eq!(finished(&check.unwrap()).0, 0);
    fs::write(&path, "mine").unwrap();
    let (code, _, err) = run(&["init", shown]);
    assert_eq!(code, 1);
    assert!(
        err.contains("new.toml") && err.contains("choose another file"),
        "{err}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn check_prints_the_configuration_with_its_secrets_masked() {
    let path = file(
        "good.toml",
        &format!("{PROVIDER}keys = [\"env:TEST_KEY\", \"file:good.key\"]\n"),
    );
    file("good.key", "sk-ant-from-a-file-9876\n");
    let output = aibridge(&["check", "--config", path.to_str().unwrap()])
        .env("TEST_KEY", "sk-ant-from-the-environment-1234")
        .output();
    let (code, out, err) = finished(&output.unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with(&format!("# {}: valid\n\n[server]\n", path.display())),
        "{out}"
    );
    assert!(
        out.contains("  \"sk-a...1234\", # env:TEST_KEY\n  \"sk-a...9876\", # file:good.key\n"),
        "{out}"
    );
    assert!(!out.contains("from-"), "{out}");
}

#[test]
fn check_without_a_file_looks_at_the_environment() {
    let output = aibridge(&["check"])
        .env("OPENAI_API_KEY", "sk-1,sk-2")
        .output();
    let (code, out, _) = finished(&output.unwrap());
    assert_eq!(code, 0);
    assert!(out.starts_with("# environment: valid\n"), "{out}");
    assert!(out.contains("# env:OPENAI_API_KEY, entry 2"), "{out}");
}

#[test]
fn an_invalid_configuration_exits_with_2_and_names_file_line_key_and_fix() {
    let path = file(
        "bad.toml",
        &format!("{PROVIDER}keys = [\n  \"literal\",\n  \"env:NOT_SET_ANYWHERE\",\n]\n"),
    );
    let path = path.to_str().unwrap();
    for command in ["check", "serve"] {
        let (code, out, err) = run(&[command, "--config", path]);
        assert_eq!((code, out.as_str()), (2, ""), "{command}");
        assert_eq!(
            err,
            format!(
                "{path}:7: provider \"anthropic\": keys[1]: environment variable NOT_SET_ANYWHERE is not set; set it or remove the entry\n"
            )
        );
    }
    let (code, _, err) = run(&["check", "--config", "/nowhere/aibridge.toml"]);
    assert_eq!(code, 2);
    assert!(
        err.starts_with("/nowhere/aibridge.toml: cannot be read"),
        "{err}"
    );
}

/// A bridge that runs, and what it printed until it was ready.
struct Served {
    child: Child,
    clients: String,
    admin: String,
    printed: String,
}

impl Served {
    fn start(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut args = args.to_vec();
        args.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = aibridge(&args)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Reading in a thread of its own, so that a bridge that says nothing fails the test rather
        // than hangs it.
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut printed = String::new();
        while !printed.contains("\nBase URLs") {
            let line = lines
                .recv_timeout(Duration::from_secs(20))
                .expect("the bridge prints how to use it");
            printed.push_str(&line);
            printed.push('\n');
        }
        let address = |label: &str| {
            let line = printed
                .lines()
                .find(|line| line.trim_start().starts_with(label))
                .unwrap();
            line.rsplit_once("http://").unwrap().1.to_owned()
        };
        Self {
            clients: address("clients"),
            admin: address("admin"),
            child,
            printed,
        }
    }

    /// Sends a request, and returns the whole reply.
    fn ask(address: &str, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn get(&self, path: &str) -> String {
        Self::ask(
            &self.admin,
            &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"),
        )
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end; returns exit code and log.
    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        let mut log = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (code, log)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A test that failed must not leave a bridge behind; one that ended is not there to be
        // killed.
        let _ = self.child.kill();
    }
}

#[test]
fn serve_says_where_it_is_is_ready_and_ends_well_on_sigterm() {
    let bridge = Served::start(
        &["serve"],
        &[("ANTHROPIC_API_KEY", "sk-ant-secret-secret-secret")],
    );
    assert!(bridge.printed.contains(&format!(
        "export ANTHROPIC_BASE_URL=http://{}/anthropic ANTHROPIC_AUTH_TOKEN=aibridge\n",
        bridge.clients
    )));
    assert!(bridge.get("/healthz").ends_with("{\"status\":\"ok\"}\n"));
    // Ready follows the printed lines at once, but follows.
    let ready = (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        bridge.get("/readyz").starts_with("HTTP/1.1 200")
    });
    assert!(ready);
    let keys = bridge.get("/keys");
    assert!(
        keys.contains("\"hint\":\"sk-a...cret\"") && keys.contains("\"state\":\"valid\""),
        "{keys}"
    );

    bridge.signal("HUP");
    assert!(
        bridge.get("/healthz").starts_with("HTTP/1.1 200"),
        "SIGHUP does no harm"
    );
    bridge.signal("TERM");
    let (code, log) = bridge.end();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("configuration reloaded"), "{log}");
    assert!(
        log.lines().all(|line| line.starts_with('{')),
        "JSON lines where no terminal is: {log}"
    );
    assert!(!log.contains("secret-secret"), "{log}");
}

#[test]
fn a_call_fails_over_and_is_logged_and_shown_without_its_prompt() {
    let provider = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", provider.local_addr().unwrap());
    thread::spawn(move || {
        for stream in provider.incoming().map_while(Result::ok) {
            thread::spawn(move || limited_provider(stream));
        }
    });
    let text = format!(
        "[[provider]]\nname = \"anthropic\"\napi = \"anthropic\"\nbase_url = \"{url}\"\nkeys = [\"key-one-limited\", \"key-two-working\"]\n[[provider]]\nname = \"other\"\napi = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n"
    );
    let path = file("failover.toml", &text);
    let bridge = Served::start(
        &[
            "serve",
            "--workers",
            "1",
            "--config",
            path.to_str().unwrap(),
        ],
        &[],
    );

    let body = "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"a private prompt\"}]}";
    let request = format!(
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = Served::ask(&bridge.clients, &request);
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.contains(ANSWER),
        "{reply}"
    );
    let id = reply
        .lines()
        .find_map(|line| line.strip_prefix("x-aibridge-id: "))
        .unwrap()
        .to_owned();

    let shown = (0..200)
        .map(|_| bridge.get("/interceptions"))
        .find(|shown| {
            thread::sleep(Duration::from_millis(10));
            shown.contains("\"outcome\":\"ok\"")
        });
    let shown = shown.unwrap();
    assert!(shown.contains(&format!("\"id\":\"{id}\"")), "{shown}");
    assert!(
        shown.contains("\"input_tokens\":7") && shown.contains("\"output_tokens\":3"),
        "{shown}"
    );
    assert!(!shown.contains("private"), "{shown}");
    let keys = bridge.get("/keys");
    assert!(
        keys.contains("\"state\":\"temporary\"") && keys.contains("\"reason\":\"rate_limited\""),
        "{keys}"
    );

    bridge.signal("INT");
    let (code, log) = bridge.end();
    assert_eq!(code, 0, "{log}");
    assert!(
        log.contains("\"message\":\"key cools down\"") && log.contains(&id),
        "{log}"
    );
    assert!(
        !log.contains("private") && !log.contains("one-limited"),
        "{log}"
    );
}

const ANSWER: &str = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":7,\"output_tokens\":3}}";

/// One reply per connection: 429 for the first key, an answer for the second.
fn limited_provider(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut limited) = (0, false);
    for line in reader
        .by_ref()
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let line = line.to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        limited |= line.contains("key-one-limited");
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let (status, body) = if limited {
        ("429 Too Many Requests\r\nretry-after: 30", "busy")
    } else {
        ("200 OK", ANSWER)
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(reply.as_bytes()).unwrap();
}

#[test]
fn an_address_in_use_is_a_runtime_failure_that_names_the_option() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run(&[
        "serve",
        "--listen",
        &address,
        "--admin",
        "127.0.0.1:0",
        "--log",
        "off",
    ]);
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!("cannot listen on {address}")) && err.contains("--listen"),
        "{err}"
    );
}

#[test]
fn the_demo_goes_as_it_should() {
    let (code, out, err) = run(&["demo"]);
    assert_eq!(code, 0, "{out}\n{err}");
    for line in [
        "429 Too Many Requests, retry-after: 20",
        "All went as it should",
    ] {
        assert!(out.contains(line), "{out}");
    }
    assert!(!out.contains('\x1b'), "colours only on a terminal");
}

#[test]
fn files_named_in_the_configuration_are_found_beside_it_and_looked_into() {
    let good = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let good = good.cert.pem();
    file("ca.pem", &good);
    file("empty.pem", "\n");
    let broken = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    file("broken.pem", &format!("{good}{broken}"));
    file("cut.pem", &good[..good.len() / 2]);
    let check = |name: &str, server: &str, keys: &str| {
        let path = file(name, &format!("[server]\n{server}\n{PROVIDER}{keys}\n"));
        run(&["check", "--config", path.to_str().unwrap()])
    };
    let (code, out, _) = check("ca-good.toml", "upstream_ca = \"ca.pem\"", "");
    assert_eq!(code, 0);
    assert!(out.contains("/ca.pem\"\n"), "{out}");

    let (code, _, err) = check("ca-empty.toml", "upstream_ca = \"empty.pem\"", "");
    assert_eq!(code, 2);
    assert!(
        err.contains(":2: server: upstream_ca: ")
            && err.contains("empty.pem has no certificate in it; give a PEM file"),
        "{err}"
    );

    for (name, number) in [("broken", 2), ("cut", 1)] {
        let upstream_ca = format!("upstream_ca = \"{name}.pem\"");
        let (code, _, err) = check(&format!("ca-{name}.toml"), &upstream_ca, "");
        assert_eq!(code, 2);
        let what =
            format!("{name}.pem has a certificate in it that cannot be used (number {number}: ");
        assert!(
            err.contains(":2: server: upstream_ca: ") && err.contains(&what),
            "{err}"
        );
    }

    let (code, _, err) = check("key-empty.toml", "", "keys = [\"file:empty.pem\"]");
    assert_eq!(code, 2);
    assert!(
        err.contains("keys[0]: file ")
            && err.contains("empty.pem is empty; write the secret into it or remove the entry"),
        "{err}"
    );
}
