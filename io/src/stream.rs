//! A connection, with or without TLS.

use std::{
    fmt,
    io::{self, IoSlice},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{arena, runtime::Runtime, tls::Tls};

/// An open connection.
pub(crate) enum Stream<R: Runtime> {
    Plain(R::Stream),
    Tls(Box<Tls<R>>),
}

impl<R: Runtime> Stream<R> {
    /// Whether it is open and silent. Bytes nobody asked for make a connection as useless as its
    /// end.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.poll_read(&mut context).is_pending()
    }

    /// Reads what is there; empty at the end.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Plain(stream) => arena::poll_read::<R>(stream, context),
            Self::Tls(tls) => tls.poll_read(context),
        }
    }

    /// Takes as much as it can now. It is out when it is flushed.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => R::poll_write(stream, context, slices),
            Self::Tls(tls) => tls.poll_write(context, slices),
        }
    }

    /// Drops it, and has the peer see that it was cut.
    pub(crate) fn reset(self) {
        let stream = match &self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.stream(),
        };
        // Fails where the peer has gone already.
        let _ = R::set_reset(stream);
    }

    /// Everything written goes out; and, if `finishing`, the end after it.
    pub(crate) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        finishing: bool,
    ) -> Poll<io::Result<()>> {
        match (self, finishing) {
            (Self::Plain(_), false) => Poll::Ready(Ok(())),
            (Self::Plain(stream), true) => R::poll_finish(stream, context),
            (Self::Tls(tls), false) => tls.poll_flush(context),
            (Self::Tls(tls), true) => tls.poll_finish(context),
        }
    }
}

impl<R: Runtime> fmt::Debug for Stream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(..)",
            Self::Tls(_) => "Tls(..)",
        })
    }
}
