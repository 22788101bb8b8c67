//! The same scripts on real sockets: an upstream that listens, and a small blocking client.
//!
//! One thread per connection, ended with the server. A test never sleeps: where order matters, a
//! reply waits for the test's [`confirm`](Script::confirm).

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aibridge_core::Target;
use bytes::Bytes;
use socket2::SockRef;

use crate::{Answer, Ask, Connect, Peer, Script, Upstream, reply::Step};

/// How long a blocking read or write of a test may take before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A scripted upstream that listens on 127.0.0.1.
///
/// A script's connection faults happen after the accept, as resets: who listens cannot refuse. For
/// a refused connection point at [`refusing`].
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stopping: AtomicBool,
    open: Mutex<Vec<Weak<TcpStream>>>,
    /// How many connections the other side has ended.
    over: AtomicUsize,
}

impl Server {
    /// Begins to serve a script on a free port.
    ///
    /// # Errors
    /// There is none.
    pub fn start(script: &Script) -> io::Result<Self> {
        Self::listen(script.upstream(), "127.0.0.1:0")
    }

    /// Begins to serve on this address.
    ///
    /// # Errors
    /// It is not free.
    pub fn listen(upstream: Upstream, addr: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            stopping: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
            over: AtomicUsize::new(0),
        });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &upstream, &of_acceptor));
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

    /// As a provider's origin.
    pub fn target(&self) -> Target {
        Target {
            host: self.addr.ip().to_string().into(),
            port: self.addr.port(),
            tls: false,
        }
    }

    /// Waits until so many connections are over, for ten seconds at most. Whether they are.
    pub fn wait_over(&self, count: usize) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while self.shared.over.load(Ordering::SeqCst) < count {
            if Instant::now() > until {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the acceptor
        for stream in self
            .shared
            .open()
            .drain(..)
            .filter_map(|open| open.upgrade())
        {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Weak<TcpStream>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, upstream: &Upstream, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else {
            continue;
        };
        let Connect::Accept(number) = upstream.connect() else {
            reset_when_closed(&stream);
            continue;
        };
        let stream = Arc::new(stream);
        shared.open().push(Arc::downgrade(&stream));
        let (upstream, shared) = (upstream.clone(), Arc::clone(shared));
        thread::spawn(move || {
            // An error is the bridge hanging up, which is its right.
            let _ = serve(&stream, &upstream, number);
            shared.over.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// Plays one connection.
fn serve(mut stream: &TcpStream, upstream: &Upstream, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut peer = Peer::new(upstream.clone(), number);
    let mut confirmed = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        peer.push(Bytes::copy_from_slice(&buffer[..count]));
        while let Some(step) = peer.next_step() {
            match step {
                Step::Bytes(bytes) => stream.write_all(&bytes)?,
                Step::Confirm => {
                    confirmed += 1;
                    if !upstream.wait_confirmations(confirmed) {
                        upstream.note("a confirmation never came".to_owned());
                    }
                }
                Step::End => {
                    stream.shutdown(Shutdown::Write)?;
                    // What the other side still sends is read, or closing would reset the
                    // connection.
                    while stream.read(&mut buffer)? > 0 {}
                    return Ok(());
                }
                Step::Reset => {
                    reset_when_closed(stream);
                    return Ok(());
                }
                // Silence, until the other side gives up.
                Step::Stall => while stream.read(&mut buffer)? > 0 {},
                Step::Wait(time) => thread::sleep(time),
            }
        }
    }
}

/// Has a connection be reset rather than ended when it is closed, which is when the stream is
/// dropped.
fn reset_when_closed(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// An address where nobody listens: a port that was free a moment ago.
///
/// # Errors
/// No port is free.
pub fn refusing() -> io::Result<Target> {
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    Ok(Target {
        host: addr.ip().to_string().into(),
        port: addr.port(),
        tls: false,
    })
}

/// A blocking client on one connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    got: Vec<u8>,
    ended: bool,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            got: Vec::new(),
            ended: false,
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and reads its whole reply.
    ///
    /// # Errors
    /// The connection broke, or nothing came for a long time.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Answer> {
        self.send(&ask.bytes())?;
        self.answer()
    }

    /// Reads the next reply to its end, or to the end of the connection.
    ///
    /// # Errors
    /// The connection broke, or nothing came for a long time.
    pub fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, used)) = Answer::read(&self.got, self.ended)
                && (answer.is_complete() || self.ended)
            {
                self.got.drain(..used);
                return Ok(answer);
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read_more()?;
        }
    }

    /// Reads until the body of the reply so far holds so many events, and gives it as far as it is
    /// there.
    ///
    /// # Errors
    /// The connection broke or ended, or nothing came for a long time.
    pub fn wait_events(&mut self, count: usize) -> io::Result<Answer> {
        loop {
            if let Some((answer, _)) = Answer::read(&self.got, self.ended)
                && answer.events().len() >= count
            {
                return Ok(answer);
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer)?;
        self.got.extend_from_slice(&buffer[..count]);
        self.ended = count == 0;
        Ok(())
    }
}
