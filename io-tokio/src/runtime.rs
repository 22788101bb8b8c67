//! Tokio, as adapters see a runtime.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use aibridge_io::Runtime;
use bytes::BytesMut;
use tokio::{
    io::AsyncWrite,
    net::{TcpListener, TcpStream, lookup_host},
    time::{self, Sleep},
};
use tokio_util::io::poll_read_buf;

/// The tokio runtime of whoever calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

impl Runtime for Tokio {
    type Listener = TcpListener;
    type Sleep = Pin<Box<Sleep>>;
    type Stream = TcpStream;

    fn poll_accept(
        &self,
        listener: &TcpListener,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<TcpStream>> {
        listener.poll_accept(context).map_ok(|(stream, _)| stream)
    }

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send {
        TcpStream::connect(address)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    fn sleep_until(&self, at: Instant) -> Pin<Box<Sleep>> {
        Box::pin(time::sleep_until(at.into()))
    }

    fn poll_sleep(sleep: &mut Pin<Box<Sleep>>, context: &mut Context<'_>) -> Poll<()> {
        sleep.as_mut().poll(context)
    }

    fn reset_sleep(sleep: &mut Pin<Box<Sleep>>, at: Instant) {
        sleep.as_mut().reset(at.into());
    }

    fn set_nodelay(stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)
    }

    fn set_reset(stream: &TcpStream) -> io::Result<()> {
        stream.set_zero_linger()
    }

    fn poll_read(
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        poll_read_buf(Pin::new(stream), context, room)
    }

    fn poll_write(
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(stream).poll_write_vectored(context, slices)
    }

    fn poll_finish(stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(stream).poll_shutdown(context)
    }
}
