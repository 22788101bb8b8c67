//! Smol, as adapters see a runtime.

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use aibridge_io::Runtime;
use bytes::BytesMut;
use smol::{
    Async, Executor, Timer,
    io::{AsyncRead, AsyncWrite},
    net::resolve,
};

/// How much is read at once.
const ROOM: usize = 64 << 10;

thread_local! {
    /// Smol reads into memory that has been written to before, so that of an arena will not do.
    static ROOM_TO_READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
}

/// An executor of smol's: the global one by default.
#[derive(Clone, Debug, Default)]
pub struct Smol(Option<Arc<Executor<'static>>>);

impl Smol {
    /// This one, which somebody else runs. Connections last as long as it does.
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
        loop {
            match listener.get_ref().accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted.and_then(|(stream, _)| Async::new(stream))),
            }
            ready!(listener.poll_readable(context))?;
        }
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Async<TcpStream>>> + Send {
        Async::<TcpStream>::connect(address)
    }

    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        resolve((host, port))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = match &self.0 {
            Some(executor) => executor.spawn(task),
            None => smol::spawn(task),
        };
        task.detach();
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

    fn poll_read(
        stream: &mut Async<TcpStream>,
        context: &mut Context<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        ROOM_TO_READ.with_borrow_mut(|read| {
            let most = (room.capacity() - room.len()).min(ROOM);
            let count = ready!(Pin::new(stream).poll_read(context, &mut read[..most]))?;
            room.extend_from_slice(&read[..count]);
            Poll::Ready(Ok(count))
        })
    }

    fn poll_write(
        stream: &mut Async<TcpStream>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_write_vectored(context, slices)
    }

    fn poll_finish(stream: &mut Async<TcpStream>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(stream.get_ref().shutdown(Shutdown::Write))
    }
}
