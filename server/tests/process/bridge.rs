//! The binary with records, a provider for it, and clients that know whether they have seen all of
//! an answer.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

/// A folder of its own for a test, empty.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Leaves out what the user has told the bridge by environment variables.
pub(crate) fn forget_environment(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("AIBRIDGE_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
}

/// A bridge that runs.
pub(crate) struct Bridge {
    child: Child,
    pub(crate) clients: String,
    pub(crate) admin: String,
    printed: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
    /// Reads the log to its end.
    reader: Option<thread::JoinHandle<()>>,
}

impl Bridge {
    /// Starts the binary on this configuration; listeners are chosen for it. `before` is run by a
    /// shell before it.
    pub(crate) fn start(config: &Path, level: &str, before: &str) -> Self {
        let bridge = Self::launch(config, level, before);
        bridge.until("ready", |bridge| bridge.get("/readyz").contains("\"ok\""));
        bridge
    }

    /// The same where its listeners cannot be asked without TLS.
    pub(crate) fn start_behind_tls(config: &Path) -> Self {
        let bridge = Self::launch(config, "info", "");
        bridge.until("ready", |bridge| bridge.log().contains("ready"));
        bridge
    }

    fn launch(config: &Path, level: &str, before: &str) -> Self {
        let command = format!("{before} exec \"$0\" \"$@\"");
        let mut command_line = Command::new("bash");
        command_line
            .args(["-c", &command, env!("CARGO_BIN_EXE_aibridge"), "serve"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--log", level, "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        forget_environment(&mut command_line);
        let mut child = command_line.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut written = written.lock().unwrap();
                written.push_str(&line);
                written.push('\n');
            }
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let printed = Arc::new(Mutex::new(String::new()));
        let all_printed = Arc::clone(&printed);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                *all_printed.lock().unwrap() += &(line.clone() + "\n");
                let _ = sender.send(line);
            }
        });
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(20)) else {
                panic!("it did not start: {}", log.lock().unwrap());
            };
            addresses.extend(
                line.split(|c: char| c.is_whitespace() || "=/\"".contains(c))
                    .find(|word| word.starts_with("127.0.0.1:"))
                    .map(str::to_owned),
            );
        }
        Self {
            child,
            clients: addresses.remove(0),
            admin: addresses.remove(0),
            printed,
            log,
            reader: Some(reader),
        }
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        self.printed.lock().unwrap().clone()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A reply of the admin listener.
    pub(crate) fn get(&self, path: &str) -> String {
        self.request("GET", path)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> String {
        let mut reply = String::new();
        let asked = TcpStream::connect(&self.admin).and_then(|mut stream| {
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )?;
            stream.read_to_string(&mut reply)
        });
        asked.map_or_else(|error| error.to_string(), |_| reply)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap();
    }

    /// A metric that has no labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in {text}"))
    }

    /// Waits for something to become true.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if is(self) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("never {what}: {}\n{}", self.log(), self.get("/metrics"));
    }

    /// The exit code that it ends with by itself, soon.
    #[track_caller]
    pub(crate) fn ends(mut self) -> Option<i32> {
        for _ in 0..250 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {}", self.log());
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order. Its log.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.pid().to_string();
        Command::new("kill").arg(pid).status().unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "{}", self.log());
        self.log()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A provider that answers every request with what `reply` makes of its head and body, in the
/// pieces given, `pause` apart.
pub(crate) fn provider(
    pause: Duration,
    reply: impl Fn(&str, &str) -> Vec<String> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let reply = Arc::clone(&reply);
            thread::spawn(move || serve(stream, pause, &*reply));
        }
    });
    address
}

/// One connection, for as long as it lasts.
fn serve(
    mut stream: TcpStream,
    pause: Duration,
    reply: &(impl Fn(&str, &str) -> Vec<String> + ?Sized),
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let head = head(&mut reader).ok()?;
        let mut body = vec![0; length(&head)?];
        reader.read_exact(&mut body).ok()?;
        for (number, piece) in reply(&head, &String::from_utf8_lossy(&body))
            .iter()
            .enumerate()
        {
            if number > 0 {
                thread::sleep(pause);
            }
            stream.write_all(piece.as_bytes()).ok()?;
        }
    }
}

/// A head in lower case, with its last line.
fn head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head.to_lowercase())
}

fn length(head: &str) -> Option<usize> {
    field(head, "content-length")?.parse().ok()
}

/// A field of a head in lower case.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What a client saw of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
    /// To its end, as HTTP tells it.
    pub(crate) complete: bool,
}

impl Seen {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> String {
        field(&self.head, "x-aibridge-id").unwrap().to_owned()
    }
}

/// Asks on a connection of its own. An error if not even a head came back.
pub(crate) fn ask(address: &str, headers: &str, body: &str) -> io::Result<Seen> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let head = head(&mut reader)?;
    let mut body = String::new();
    let complete = match length(&head) {
        Some(length) => reader
            .take(length as u64)
            .read_to_string(&mut body)
            .is_ok_and(|read| read == length),
        None => chunks(&mut reader, &mut body).is_ok(),
    };
    Ok(Seen {
        head,
        body,
        complete,
    })
}

fn chunks(reader: &mut impl BufRead, body: &mut String) -> io::Result<()> {
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16)
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(());
        }
        body.push_str(&String::from_utf8_lossy(&chunk[..size]));
    }
}

/// A whole answer of the Anthropic API.
pub(crate) fn blocking(id: &str) -> String {
    let body = format!(
        "{{\"id\":\"{id}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[{{\"type\":\"text\",\"text\":\"Hi\"}}],\"stop_reason\":\"end_turn\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":3}}}}"
    );
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The same as a stream: the head, each event, and the end.
pub(crate) fn streamed(id: &str) -> Vec<String> {
    let events = [
        format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"{id}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"usage\":{{\"input_tokens\":7,\"output_tokens\":1}}}}}}\n\n"),
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".to_owned(),
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n".to_owned(),
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n".to_owned(),
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n".to_owned(),
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
    ];
    let mut pieces = vec![
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_owned(),
    ];
    pieces.extend(events.map(|event| format!("{:x}\r\n{event}\r\n", event.len())));
    pieces.push("0\r\n\r\n".to_owned());
    pieces
}

/// What a client of the Anthropic API asks.
pub(crate) fn question(prompt: &str, stream: bool) -> String {
    format!(
        "{{\"model\":\"m\",\"max_tokens\":9,\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}"
    )
}
