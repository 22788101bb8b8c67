//! A bridge on a real socket, over `std::net` and threads: the smallest adapter that keeps the contract.
//!
//! One thread runs each session, one more reads each of its sockets when the session wants to read. It keeps no
//! shelf: a connection that is parked is closed, and the bridge is told of none.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{self, Duration, SystemTime},
};

use aibridge_core::{
    Bridge, ConnId, Fault, Instant, Session,
    config::Config,
    session::{Action, Event},
};
use bytes::{Buf, Bytes};

use super::PATIENCE;
use crate::{Records, sim::key_states};

/// A running bridge. Ends when it is dropped.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    bridge: Mutex<Bridge>,
    records: Mutex<Records>,
    recorded: Condvar,
    stopping: AtomicBool,
    wall: Instant,
    start: time::Instant,
}

impl Gateway {
    /// A bridge of this configuration, on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is none.
    ///
    /// # Panics
    /// The keys do not make pools.
    pub fn start(config: Config) -> io::Result<Self> {
        let bridge = Bridge::new(Arc::new(config), 7).expect("the keys make pools");
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let shared = Arc::new(Shared {
            bridge: Mutex::new(bridge),
            records: Mutex::default(),
            recorded: Condvar::new(),
            stopping: AtomicBool::new(false),
            wall: Instant::EPOCH + wall,
            start: time::Instant::now(),
        });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &of_acceptor));
        Ok(Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The states of a provider's keys, by name.
    pub fn key_states(&self, provider: &str) -> Vec<&'static str> {
        key_states(&lock(&self.shared.bridge), self.shared.now(), provider)
    }

    /// What was recorded, once so many interceptions have ended: a record may be kept a moment after its reply has been read.
    ///
    /// # Panics
    /// They do not end for a long time.
    pub fn records(&self, ended: usize) -> Records {
        let pending = |records: &mut Records| records.all_ended().len() < ended;
        let records = lock(&self.shared.records);
        let waited = self
            .shared
            .recorded
            .wait_timeout_while(records, PATIENCE, pending);
        let (records, result) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !result.timed_out(),
            "no {ended} interceptions ended: {records:#?}"
        );
        records.clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn now(&self) -> Instant {
        self.wall + self.start.elapsed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || drop(Run::start(client, &shared).and_then(|mut run| run.serve())));
    }
}

/// A session and its sockets.
struct Run<'a> {
    shared: &'a Shared,
    session: Session,
    sockets: BTreeMap<ConnId, Socket>,
    told: Sender<Event>,
    events: Receiver<Event>,
}

/// A socket, and how its reader is told to read once more.
struct Socket {
    stream: TcpStream,
    read: Sender<()>,
    reading: bool,
}

impl<'a> Run<'a> {
    fn start(client: TcpStream, shared: &'a Shared) -> io::Result<Self> {
        let (told, events) = mpsc::channel();
        let client = Socket::new(ConnId::CLIENT, client, told.clone())?;
        let mut bridge = lock(&shared.bridge);
        let config = Arc::clone(bridge.config());
        Ok(Self {
            session: Session::new(shared.now(), config, bridge.fork_rng()),
            shared,
            sockets: [(ConnId::CLIENT, client)].into(),
            told,
            events,
        })
    }

    /// The contract of [`Session`], until it is over.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let now = self.shared.now();
            while let Some(query) = self.session.poll_query() {
                let answer = lock(&self.shared.bridge).answer(now, query);
                self.session.handle_answer(now, answer);
            }
            match self.session.poll_action() {
                Some(Action::Done) => return Ok(()),
                Some(action) => self.act(now, action),
                None => self.wait()?,
            }
        }
    }

    fn act(&mut self, now: Instant, action: Action) {
        let event = match action {
            Action::Close(conn) | Action::Park(conn, _) => return drop(self.sockets.remove(&conn)),
            Action::Done => return,
            Action::Emit(record) => {
                lock(&self.shared.records).0.push(*record);
                return self.shared.recorded.notify_all();
            }
            Action::Finish(conn) => {
                let socket = self.sockets.get(&conn);
                return drop(socket.map(|socket| socket.stream.shutdown(Shutdown::Write)));
            }
            Action::Open(conn, target) => {
                let stream = TcpStream::connect((&*target.host, target.port));
                match stream.and_then(|stream| Socket::new(conn, stream, self.told.clone())) {
                    Ok(socket) => {
                        self.sockets.insert(conn, socket);
                        Event::Opened(conn)
                    }
                    Err(_) => Event::Failed(conn, Fault::Refused),
                }
            }
            Action::Send(conn, mut frame) => {
                let Some(socket) = self.sockets.get_mut(&conn) else {
                    return;
                };
                let bytes = frame.copy_to_bytes(frame.remaining());
                match socket.stream.write_all(&bytes) {
                    Ok(()) => Event::Sent(conn, bytes.len()),
                    Err(_) => Event::Failed(conn, Fault::Reset),
                }
            }
            Action::Unpark(conn) => Event::Failed(conn, Fault::Closed),
        };
        self.session.handle(now, event);
    }

    /// Reads what is wanted, and waits for one thing.
    fn wait(&mut self) -> io::Result<()> {
        for (conn, socket) in &mut self.sockets {
            if self.session.wants_read(*conn) && !socket.reading {
                socket.reading = socket.read.send(()).is_ok();
            }
        }
        let now = self.shared.now();
        let due = self
            .session
            .poll_timeout()
            .map_or(Duration::MAX, |at| at.since(now));
        match self.events.recv_timeout(due.min(Duration::from_secs(3600))) {
            Ok(event) => {
                if let Event::Received(conn, _) | Event::Ended(conn) | Event::Failed(conn, _) =
                    &event
                    && let Some(socket) = self.sockets.get_mut(conn)
                {
                    socket.reading = false;
                }
                self.session.handle(self.shared.now(), event);
            }
            Err(RecvTimeoutError::Timeout) => self.session.handle_timeout(self.shared.now()),
            Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(())
    }
}

impl Socket {
    fn new(conn: ConnId, stream: TcpStream, told: Sender<Event>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (read, reads) = mpsc::channel();
        let mut reader = stream.try_clone()?;
        thread::spawn(move || read_on_demand(conn, &mut reader, &reads, &told));
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
            Ok(count) => Event::Received(conn, Bytes::copy_from_slice(&buffer[..count])),
            Err(_) => Event::Failed(conn, Fault::Reset),
        };
        if told.send(event).is_err() {
            return;
        }
    }
}
