//! A third adapter, over `std::net` and threads, to show that the core needs no runtime.
//!
//! `cargo run -p aibridge-core --example threads` puts it in front of an upstream of its own, that
//! limits the first key and answers the second, sends one request through it, prints the reply, and
//! ends.
//!
//! One thread runs each session, one more reads each of its sockets when the session wants to read.
//! It keeps no shelf: a connection that is parked is closed, and the bridge is told of none.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an adapter is where the clock, the sockets and the threads are"
)]

use std::{
    collections::BTreeMap,
    error::Error,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{self, Duration, SystemTime},
};

use aibridge_core::{
    Bridge, ConnId, Fault, Instant, Target,
    api::Vendor,
    config::{Config, Provider},
    session::{Action, Event},
};
use bytes::{Buf, Bytes};

/// The wall clock once, the monotonic clock from there on.
#[derive(Clone, Copy)]
struct Clock {
    wall: u64,
    start: time::Instant,
}

impl Clock {
    fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            wall: u64::try_from(wall.as_nanos()).unwrap_or(0),
            start: time::Instant::now(),
        }
    }

    fn now(self) -> Instant {
        Instant::from_nanos(self.wall) + self.start.elapsed()
    }
}

/// A socket of a session, and how its reader is told to read once more.
struct Socket {
    stream: TcpStream,
    read: Sender<()>,
    reading: bool,
}

impl Socket {
    fn new(conn: ConnId, stream: TcpStream, told: Sender<Event>) -> std::io::Result<Self> {
        let (read, reads) = mpsc::channel();
        let mut reader = stream.try_clone()?;
        spawn(move || read_on_demand(conn, &mut reader, &reads, &told));
        Ok(Self {
            stream,
            read,
            reading: false,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Wakes the reader, which may be within a read.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn read_on_demand(
    conn: ConnId,
    stream: &mut TcpStream,
    reads: &Receiver<()>,
    told: &Sender<Event>,
) {
    let mut buffer = vec![0; 16 << 10];
    while reads.recv().is_ok() {
        let event = match stream.read(&mut buffer) {
            Ok(0) => Event::Ended(conn),
            Ok(n) => Event::Received(conn, Bytes::copy_from_slice(&buffer[..n])),
            Err(_) => Event::Failed(conn, Fault::Reset),
        };
        if told.send(event).is_err() {
            return;
        }
    }
}

/// Runs one session to its end.
fn drive(client: TcpStream, bridge: &Mutex<Bridge>, clock: Clock) -> std::io::Result<()> {
    let (told, events) = mpsc::channel();
    let mut sockets = BTreeMap::new();
    sockets.insert(
        ConnId::CLIENT,
        Socket::new(ConnId::CLIENT, client, told.clone())?,
    );
    let mut session = {
        let mut bridge = bridge.lock().unwrap_or_else(PoisonError::into_inner);
        bridge.connected(clock.now())
    };
    loop {
        let now = clock.now();
        if let Some(action) = session.poll_action() {
            match action {
                Action::Done => {
                    let mut bridge = bridge.lock().unwrap_or_else(PoisonError::into_inner);
                    bridge.disconnected(&session);
                    return Ok(());
                }
                // The standard library has no way to reset a connection: this one only ends.
                Action::Close(conn) | Action::Park(conn, _) | Action::Reset(conn) => {
                    drop(sockets.remove(&conn));
                }
                // Never lent, as the bridge is told of none.
                Action::Unpark(conn) => session.handle(now, Event::Failed(conn, Fault::Closed)),
                Action::Emit(record) => println!("{record:?}"),
                Action::Finish(conn) => {
                    if let Some(socket) = sockets.get(&conn) {
                        let _ = socket.stream.shutdown(Shutdown::Write);
                    }
                }
                Action::Open(conn, target) => {
                    let opened = TcpStream::connect((&*target.host, target.port))
                        .and_then(|stream| Socket::new(conn, stream, told.clone()));
                    match opened {
                        Ok(socket) => {
                            sockets.insert(conn, socket);
                            session.handle(now, Event::Opened(conn));
                        }
                        Err(_) => session.handle(now, Event::Failed(conn, Fault::Refused)),
                    }
                }
                Action::Send(conn, mut frame) => {
                    let Some(socket) = sockets.get_mut(&conn) else {
                        continue;
                    };
                    let bytes = frame.copy_to_bytes(frame.remaining());
                    let event = match socket.stream.write_all(&bytes) {
                        Ok(()) => Event::Sent(conn, bytes.len()),
                        Err(_) => Event::Failed(conn, Fault::Reset),
                    };
                    session.handle(now, event);
                }
            }
            continue;
        }
        if let Some(query) = session.poll_query() {
            let answer = bridge
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .answer(now, query);
            session.handle_answer(now, answer);
            continue;
        }
        for (conn, socket) in &mut sockets {
            if session.wants_read(*conn) && !socket.reading {
                socket.reading = socket.read.send(()).is_ok();
            }
        }
        let wait = session
            .poll_timeout()
            .map_or(Duration::MAX, |at| at.since(clock.now()));
        match events.recv_timeout(wait.min(Duration::from_secs(3600))) {
            Ok(event) => {
                if let Event::Received(conn, _) | Event::Ended(conn) | Event::Failed(conn, _) =
                    &event
                    && let Some(socket) = sockets.get_mut(conn)
                {
                    socket.reading = false;
                }
                session.handle(clock.now(), event);
            }
            Err(RecvTimeoutError::Timeout) => session.handle_timeout(clock.now()),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let address = upstream.local_addr()?;
    spawn(move || {
        upstream
            .incoming()
            .flatten()
            .for_each(|stream| drop(scripted(stream)));
    });

    let target = Target {
        host: "127.0.0.1".into(),
        port: address.port(),
        tls: false,
    };
    let provider = Provider::new("anthropic", Vendor::Anthropic, target, "")
        .with_keys(["sk-first-key-0001", "sk-second-key-0002"]);
    let config = Arc::new(Config {
        providers: vec![Arc::new(provider)],
        ..Config::default()
    });
    let bridge = Bridge::new(config, 1)?;
    let bridge = Arc::new(Mutex::new(bridge));

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clock = Clock::new();
    spawn(move || {
        for client in listener.incoming().flatten() {
            let bridge = Arc::clone(&bridge);
            spawn(move || drop(drive(client, &bridge, clock)));
        }
    });

    let body = r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let mut client = TcpStream::connect(address)?;
    write!(
        client,
        "POST /anthropic/v1/messages HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reply = String::new();
    client.read_to_string(&mut reply)?;
    println!("\n{reply}");
    if reply.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err("the failover did not work".into())
    }
}

/// An upstream that limits the first key and answers every other.
fn scripted(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"}]}") {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..n]);
    }
    let limited = request.windows(17).any(|key| key == b"sk-first-key-0001");
    let (status, body) = if limited {
        ("429 Too Many Requests\r\nretry-after: 20", "{}")
    } else {
        (
            "200 OK",
            r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hello"}]}"#,
        )
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    thread::spawn(run);
}
