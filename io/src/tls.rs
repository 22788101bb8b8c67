//! TLS (RFC 8446, RFC 5246) on a runtime's streams. The protocol is rustls's; here its bytes are
//! moved.
//!
//! What has come is read in one go, however many records it is, and unsealed together: a read costs
//! a system call, and a record is small where a stream is slow.

use std::{
    fmt,
    future::poll_fn,
    io::{self, BufRead, IoSlice, Write},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    pki_types::ServerName,
};

use crate::{arena, runtime::Runtime};

/// A TLS connection.
pub(crate) struct Tls<R: Runtime> {
    stream: R::Stream,
    session: Connection,
    /// Read from the stream and not yet unsealed.
    sealed: Bytes,
    /// What is told once all that came before it has been read.
    failure: Option<io::Error>,
    is_finishing: bool,
}

impl<R: Runtime> Tls<R> {
    /// Our side is the client's. Begins with [`shake_hands`](Self::shake_hands).
    pub(crate) fn client(
        stream: R::Stream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(invalid)?;
        Ok(Self::new(stream, session.into()))
    }

    /// Our side is the server's.
    pub(crate) fn server(stream: R::Stream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(invalid)?;
        Ok(Self::new(stream, session.into()))
    }

    const fn new(stream: R::Stream, session: Connection) -> Self {
        Self {
            stream,
            session,
            sealed: Bytes::new(),
            failure: None,
            is_finishing: false,
        }
    }

    /// What it runs on.
    pub(crate) const fn stream(&self) -> &R::Stream {
        &self.stream
    }

    /// Agrees with the peer upon keys.
    ///
    /// # Errors
    /// The peer is not who it should be, or speaks no TLS, or none that we do; or the connection
    /// broke.
    pub(crate) async fn shake_hands(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_handshake(context)).await
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_flush(context))?;
            if !ready!(self.poll_fill(context))? {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            while !self.sealed.is_empty() && self.session.is_handshaking() {
                if let Err(error) = self.unseal() {
                    // The peer is told why, if it can be at once.
                    let _ = self.poll_flush(context);
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.poll_flush(context)
    }

    /// Reads what is there; empty once the peer has ended its side.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            if let Some(error) = self.failure.take() {
                return Poll::Ready(Err(error));
            }
            let (bytes, read) = arena::gather(|room| self.unseal_into(room));
            let ended = read.unwrap_or_else(|error| {
                self.failure = Some(error);
                false
            });
            // Alerts, and what else the protocol answers with. That they do not go out, whoever
            // writes next will see.
            let _ = self.poll_flush(context);
            if !bytes.is_empty() || ended {
                return Poll::Ready(Ok(bytes));
            }
            if self.failure.is_none() {
                ready!(self.poll_fill(context))?;
            }
        }
    }

    /// Reads sealed bytes where there are none; false at the end of the stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.sealed.is_empty() {
            self.sealed = ready!(arena::poll_read::<R>(&mut self.stream, context))?;
        }
        if !self.sealed.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.session.read_tls(&mut io::empty())?; // which tells it
        Poll::Ready(Ok(false))
    }

    /// Appends all plain bytes that there are; true at the peer's orderly end.
    fn unseal_into(&mut self, room: &mut BytesMut) -> io::Result<bool> {
        loop {
            let mut reader = self.session.reader();
            loop {
                let count = match reader.fill_buf() {
                    Ok([]) => return Ok(true),
                    Ok(plain) => {
                        room.extend_from_slice(plain);
                        plain.len()
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                reader.consume(count);
            }
            if self.sealed.is_empty() {
                return Ok(false);
            }
            self.unseal()?;
        }
    }

    /// Has some of the sealed bytes unsealed. What came out must be read before the next.
    fn unseal(&mut self) -> io::Result<()> {
        let mut rest = &self.sealed[..];
        let before = rest.len();
        self.session.read_tls(&mut rest)?;
        let used = before - rest.len();
        self.sealed.advance(used);
        self.session.process_new_packets().map_err(invalid)?;
        Ok(())
    }

    /// Takes as much as there is room for, and sends what goes out now. The rest goes with
    /// [`poll_flush`](Self::poll_flush).
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let taken = self.session.writer().write_vectored(slices)?;
            let flushed = self.poll_flush(context)?;
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            ready!(flushed);
        }
    }

    /// Sends all that was written.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut outlet = Outlet::<R> {
                stream: &mut self.stream,
                context,
            };
            match self.session.write_tls(&mut outlet) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all that was written, and the end of our side.
    pub(crate) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_finishing {
            self.is_finishing = true;
            self.session.send_close_notify();
        }
        ready!(self.poll_flush(context))?;
        R::poll_finish(&mut self.stream, context)
    }
}

impl<R: Runtime> fmt::Debug for Tls<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A stream as rustls writes to it: what does not go out now is an error.
struct Outlet<'a, 'b, R: Runtime> {
    stream: &'a mut R::Stream,
    context: &'a mut Context<'b>,
}

impl<R: Runtime> Write for Outlet<'_, '_, R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match R::poll_write(self.stream, self.context, slices) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
