//! The MCP client of the core, over `std::net` and threads.
//!
//! `cargo run -p aibridge-core --example mcp_client -- http://127.0.0.1:3001/mcp [TOOL
//! ARGUMENTS]...` connects to a server, prints what its keeper finds out or, where tools are named,
//! calls them all at once and prints what they return; then it takes leave. Each exchange has a
//! thread and a connection of its own.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an adapter is where the clock and the sockets are"
)]

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{self, SystemTime},
};

use aibridge_core::{
    Fault, Instant, Rng, Target,
    codec::Step,
    http1::{
        Limits,
        client::{Decoder, Item, encode_head},
    },
    mcp::{
        Action, CallEvent, CallLimits, Calls, ExchangeId, Input, Keeper, KeeperEvent,
        KeeperSettings, News, Request, Server,
    },
};
use bytes::{Buf, Bytes};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let url = words
        .next()
        .ok_or("usage: mcp_client URL [TOOL ARGUMENTS]...")?;
    let server = Arc::new(server(&url).ok_or("not a plain http:// URL")?);
    let clock = Clock::new();
    let mut keeper = Keeper::new(
        clock.now(),
        Arc::clone(&server),
        KeeperSettings::default(),
        Rng::new(clock.wall),
    );
    let mut wire = Wire::new();
    let (mut tools, mut terms) = (Vec::new(), None);
    while terms.is_none() {
        wire.turn(clock, &mut keeper);
        while let Some(news) = keeper.poll_news() {
            match news {
                News::Down { why, .. } => return Err(why.into()),
                News::Tools { tools: listed, .. } => tools = listed.to_vec(),
                News::Up(agreed) => terms = Some(agreed),
            }
        }
    }
    let terms = terms.ok_or("not connected")?;
    println!("{} with {} tools", terms.version.as_str(), tools.len());
    let mut calls = Calls::new(CallLimits::default(), &mut Rng::new(clock.wall + 1));
    let mut is_called = false;
    while let Some(name) = words.next() {
        let tool = tools.iter().find(|tool| *tool.name == *name);
        let tool = tool.ok_or("no such tool")?;
        let arguments = words.next().unwrap_or_default();
        calls.begin(clock.now(), &server, &terms, tool, arguments.as_bytes());
        is_called = true;
    }
    if is_called {
        finish(clock, &mut calls)?;
    } else {
        for tool in tools {
            println!("{} {}", tool.name, String::from_utf8_lossy(&tool.schema));
        }
    }
    keeper.handle(clock.now(), KeeperEvent::Shutdown);
    while !keeper.is_done() {
        wire.turn(clock, &mut keeper);
    }
    Ok(())
}

/// Waits for calls, and prints what they return.
fn finish(clock: Clock, calls: &mut Calls) -> Result<(), Box<dyn Error>> {
    let mut wire = Wire::new();
    while !calls.is_idle() {
        wire.turn(clock, calls);
        while let Some(event) = calls.poll_event() {
            match event {
                CallEvent::Done(_, Ok(result)) => println!("{}", result.text()),
                CallEvent::Done(_, Err(failure)) => return Err(failure.told().into()),
                CallEvent::Recheck(_) => println!("(the list may have changed)"),
                CallEvent::Renewed { .. } => println!("(the session was renewed)"),
            }
        }
    }
    Ok(())
}

fn server(url: &str) -> Option<Server> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (host, 80),
    };
    let target = Target {
        host: host.into(),
        port,
        tls: false,
    };
    let path = if path.is_empty() { "/" } else { path };
    Some(Server::new("server", target, path))
}

/// What both machines have in common.
trait Machine {
    fn tell(&mut self, now: Instant, on: ExchangeId, input: Input);
    fn wake(&mut self, now: Instant);
    fn next_action(&mut self) -> Option<Action>;
    fn deadline(&self) -> Option<Instant>;
}

impl Machine for Keeper {
    fn tell(&mut self, now: Instant, on: ExchangeId, input: Input) {
        self.handle(now, KeeperEvent::Exchange(on, input));
    }
    fn wake(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
    fn next_action(&mut self) -> Option<Action> {
        self.poll_action()
    }
    fn deadline(&self) -> Option<Instant> {
        self.poll_timeout()
    }
}

impl Machine for Calls {
    fn tell(&mut self, now: Instant, on: ExchangeId, input: Input) {
        self.handle(now, on, input);
    }
    fn wake(&mut self, now: Instant) {
        self.handle_timeout(now);
    }
    fn next_action(&mut self) -> Option<Action> {
        self.poll_action()
    }
    fn deadline(&self) -> Option<Instant> {
        self.poll_timeout()
    }
}

/// The exchanges of one machine.
struct Wire {
    open: BTreeMap<ExchangeId, TcpStream>,
    told: Sender<(ExchangeId, Input)>,
    inbox: Receiver<(ExchangeId, Input)>,
}

impl Wire {
    fn new() -> Self {
        let (told, inbox) = mpsc::channel();
        let open = BTreeMap::new();
        Self { open, told, inbox }
    }

    /// Does what the machine wants, then waits for one thing.
    fn turn(&mut self, clock: Clock, machine: &mut impl Machine) {
        while let Some(action) = machine.next_action() {
            match action {
                Action::Abort(on) => {
                    if let Some(stream) = self.open.remove(&on) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
                Action::Request(on, request) => match self.begin(on, request) {
                    Ok(stream) => {
                        self.open.insert(on, stream);
                    }
                    Err(_) => machine.tell(clock.now(), on, Input::Failed(Fault::Refused)),
                },
            }
        }
        let Some(deadline) = machine.deadline() else {
            return;
        };
        match self.inbox.recv_timeout(deadline - clock.now()) {
            Ok((on, input)) => {
                if matches!(input, Input::End | Input::Failed(_)) {
                    self.open.remove(&on);
                }
                machine.tell(clock.now(), on, input);
            }
            Err(_) => machine.wake(clock.now()),
        }
    }

    /// Sends a request; its reply is read in a thread.
    fn begin(&self, on: ExchangeId, request: Request) -> io::Result<TcpStream> {
        let target = &request.server.target;
        let mut stream = TcpStream::connect((&*target.host, target.port))?;
        let mut head = encode_head(
            &request.method,
            &request.server.path,
            &target.authority(),
            &request.headers,
            &[],
            request.body.len() as u64,
        );
        stream.write_all(&head.copy_to_bytes(head.remaining()))?;
        stream.write_all(&request.body)?;
        let (mut reader, told) = (stream.try_clone()?, self.told.clone());
        thread::spawn(move || {
            let told = |input| told.send((on, input)).is_ok();
            let decoder = Decoder::new(Limits::default(), &request.method);
            if let Err(fault) = read(&mut reader, decoder, told) {
                told(Input::Failed(fault));
            }
        });
        Ok(stream)
    }
}

/// Reads a reply to its end.
fn read(
    stream: &mut TcpStream,
    mut decoder: Decoder,
    told: impl Fn(Input) -> bool,
) -> Result<(), Fault> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let input = match decoder.next().map_err(|_| Fault::Protocol)? {
            Step::Item(Item::Interim(_)) => continue,
            Step::Item(Item::Head(head)) => Input::Head(head.status, head.headers),
            Step::Item(Item::Body(bytes)) => Input::Body(bytes),
            Step::Item(Item::End) | Step::Pause => {
                told(Input::End);
                return Ok(());
            }
            Step::More => {
                match stream.read(&mut buffer).map_err(|_| Fault::Reset)? {
                    0 => decoder.end(),
                    count => decoder.push(Bytes::copy_from_slice(&buffer[..count])),
                }
                continue;
            }
        };
        if !told(input) {
            return Ok(());
        }
    }
}

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
