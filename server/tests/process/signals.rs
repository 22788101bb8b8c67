//! Signals while the records are being opened, and in the demo.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::bridge::{folder, forget_environment};

/// The binary as it runs, whatever it does. What it prints and logs is in files.
struct Process {
    child: Child,
    folder: PathBuf,
}

impl Process {
    fn start(folder: PathBuf, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aibridge"));
        command
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("out")).unwrap())
            .stderr(File::create(folder.join("log")).unwrap());
        forget_environment(&mut command);
        let child = command.spawn().unwrap();
        Self { child, folder }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for something to become true.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            let ended = self.child.try_wait().unwrap();
            if is(self) {
                return;
            }
            if ended.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("never {what}: {}{}", self.read("out"), self.read("log"));
    }

    /// The exit code that it ends with by itself, soon.
    #[track_caller]
    fn ends(mut self) -> Option<i32> {
        for _ in 0..500 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end: {}", self.read("log"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A bridge that opens its records for as long as nobody reads from the pipe that is in their
/// place, and that has been told once to stop.
fn opening(name: &str) -> Process {
    let folder = folder(name);
    let config = "[[provider]]\nname = \"a\"\napi = \"anthropic\"\nbase_url = \"http://127.0.0.1:9\"\n[records]\nsqlite = \"records.db\"\n";
    fs::write(folder.join("aibridge.toml"), config).unwrap();
    let made = Command::new("mkfifo")
        .arg(folder.join("records.db"))
        .status();
    assert!(made.unwrap().success());
    let args = ["serve", "--log", "info", "--config", "aibridge.toml"];
    let listeners = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut process = Process::start(folder, &[&args[..], &listeners].concat());
    process.until("opening", |it| {
        it.folder.join("records.db-spool/lock").exists()
    });
    process.signal("TERM");
    process.until("stopping", |it| it.read("log").contains("stopping"));
    process
}

#[test]
fn a_signal_ends_it_in_order_as_soon_as_the_records_are_open() {
    let mut process = opening("opening");
    let (pipe, moved) = (
        process.folder.join("records.db"),
        process.folder.join("pipe"),
    );
    // What it opens next under this name is a new database.
    fs::rename(pipe, &moved).unwrap();
    let both = OpenOptions::new().read(true).write(true).open(moved);
    let _reader = both.unwrap();
    process.until("open", |it| it.folder.join("records.db").exists());
    let folder = process.folder.clone();
    assert_eq!(process.ends(), Some(0));
    let printed = fs::read_to_string(folder.join("out")).unwrap();
    assert_eq!(printed, "", "it never listened");
}

#[test]
fn a_second_signal_ends_it_at_once_though_the_records_are_not_open() {
    let process = opening("opening-impatient");
    process.signal("TERM");
    assert_eq!(process.ends(), Some(1));
}

/// A demo that has been told once to stop while a client uploads its request.
fn demo(name: &str) -> (Process, TcpStream) {
    let mut process = Process::start(folder(name), &["demo", "--hold"]);
    process.until("held", |it| it.read("out").contains("/interceptions\n"));
    let printed = process.read("out");
    let address = |of: &str| {
        let mut lines = printed.lines().map(str::split_whitespace);
        let mut line = lines.find(|line| line.clone().next() == Some(of)).unwrap();
        line.nth(1).unwrap().replace("http://", "")
    };
    let mut client = TcpStream::connect(address("bridge")).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let head = "POST /anthropic/v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    client.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(&client).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");

    process.signal("TERM");
    let admin = address("admin");
    process.until("draining", |_| {
        let mut stream = TcpStream::connect(&admin).unwrap();
        let ask = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.starts_with("HTTP/1.1 503") && reply.contains("draining")
    });
    (process, client)
}

#[test]
fn a_signal_ends_the_demo_once_its_clients_have_finished() {
    let (process, client) = demo("demo");
    drop(client);
    assert_eq!(process.ends(), Some(0));
}

#[test]
fn a_second_signal_ends_the_demo_at_once() {
    let (process, _client) = demo("demo-impatient");
    process.signal("INT");
    assert_eq!(process.ends(), Some(1));
}
