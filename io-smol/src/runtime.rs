//! Smol, as adapters see a runtime.

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use aibridge_io::Runtime;
use bytes::BytesMut;
use smol::{Async, Executor, Timer};
use socket2::SockRef;

/// The most that is read at once.
const ROOM: usize = 64 << 10;

thread_local! {
    /// What is read goes through here: memory can be read to only once it has a value, and this has
    /// had one from the beginning.
    static ROOM_TO_READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into_boxed_slice());
}

/// Smol's reactor, and an executor: the global one, or yours.
#[derive(Clone, Debug, Default)]
pub struct Smol(Option<Arc<Executor<'static>>>);

impl Smol {
    /// Has tasks run on this executor. Somebody must run it.
    pub const fn on(executor: Arc<Executor<'static>>) -> Self {
        Self(Some(executor))
    }
}

impl Runtime for Smol {
    type Listener = Async<TcpListener>;
    type Sleep = Timer;
    type Stream = Async<TcpStream>;

    fn poll_accept(
        &self,
        listener: &Async<TcpListener>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Async<TcpStream>>> {
        let accepted = until_done(
            || listener.get_ref().accept(),
            || listener.poll_readable(context),
        );
        accepted.map(|accepted| Async::new(accepted?.0))
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Async<TcpStream>>> + Send {
        Async::<TcpStream>::connect(address)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = host.to_owned();
        // The system's resolver blocks.
        smol::unblock(move || Ok((host, port).to_socket_addrs()?.collect())).await
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
    }

    fn sleep_until(&self, at: Instant) -> Timer {
        Timer::at(at)
    }

    fn poll_sleep(sleep: &mut Timer, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(sleep).poll(context).map(drop)
    }

    fn reset_sleep(sleep: &mut Timer, at: Instant) {
        sleep.set_at(at);
    }

    fn set_nodelay(stream: &Async<TcpStream>) -> io::Result<()> {
        stream.get_ref().set_nodelay(true)
    }

    fn set_reset(stream: &Async<TcpStream>) -> io::Result<()> {
        SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO))
    }

    fn poll_read(
        stream: &mut Async<TcpStream>,
        context: &mut Context<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        ROOM_TO_READ.with_borrow_mut(|bytes| {
            let most = (room.capacity() - room.len()).min(ROOM);
            let count = ready!(until_done(
                || stream.get_ref().read(&mut bytes[..most]),
                || stream.poll_readable(context),
            ))?;
            room.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        })
    }

    fn poll_write(
        stream: &mut Async<TcpStream>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        until_done(
            || stream.get_ref().write_vectored(slices),
            || stream.poll_writable(context),
        )
    }

    fn poll_finish(stream: &mut Async<TcpStream>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(stream.get_ref().shutdown(Shutdown::Write))
    }
}

/// Tries at once, since most calls succeed at once, and again each time that the reactor finds it
/// worth a try.
fn until_done<T>(
    mut attempt: impl FnMut() -> io::Result<T>,
    mut poll_worth_a_try: impl FnMut() -> Poll<io::Result<()>>,
) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(poll_worth_a_try())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}
