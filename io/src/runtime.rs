//! What a runtime does for an adapter.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;

/// Sockets, timers and tasks: all that one adapter has and another has not.
///
/// Every function here is one call of the runtime's. None blocks. A function that gives
/// [`Poll::Pending`] has the task of its context woken when it is worth another try, and an error
/// [`WouldBlock`](io::ErrorKind::WouldBlock) is never given.
pub trait Runtime: Send + Sync + 'static {
    /// Where connections come in.
    type Listener: Send + Sync;
    /// A wait for an instant.
    type Sleep: Send + 'static;
    /// A TCP connection.
    type Stream: Send + 'static;

    /// The next connection that has come in. One task asks at a time.
    ///
    /// # Errors
    /// Those of the system.
    fn poll_accept(
        &self,
        listener: &Self::Listener,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Self::Stream>>;

    /// Opens a connection. Dropping the future gives it up.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The addresses of a name, or the address that it is.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Runs a task to its end, or as long as the runtime exists.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// A wait that ends then.
    fn sleep_until(&self, at: Instant) -> Self::Sleep;

    /// Whether the wait is over.
    fn poll_sleep(sleep: &mut Self::Sleep, context: &mut Context<'_>) -> Poll<()>;

    /// Moves a wait, whether it is over or not, to another instant.
    fn reset_sleep(sleep: &mut Self::Sleep, at: Instant);

    /// Sends what is written without waiting for more (`TCP_NODELAY`).
    ///
    /// # Errors
    /// Those of the system.
    fn set_nodelay(stream: &Self::Stream) -> io::Result<()>;

    /// Makes dropping the connection reset it; unsent bytes are lost (`SO_LINGER` of zero).
    ///
    /// # Errors
    /// Those of the system.
    fn set_reset(stream: &Self::Stream) -> io::Result<()>;

    /// Appends what has come to `room`, which has some left, and tells how much; 0 at the end of
    /// the stream.
    ///
    /// # Errors
    /// The connection is broken.
    fn poll_read(
        stream: &mut Self::Stream,
        context: &mut Context<'_>,
        room: &mut BytesMut,
    ) -> Poll<io::Result<usize>>;

    /// Sends from the front of the slices as much as goes out now, and tells how much: never 0,
    /// as there are bytes in them.
    ///
    /// # Errors
    /// The connection is broken.
    fn poll_write(
        stream: &mut Self::Stream,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Ends our side of the connection. The other's may still be read.
    ///
    /// # Errors
    /// The connection is broken.
    fn poll_finish(stream: &mut Self::Stream, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}
