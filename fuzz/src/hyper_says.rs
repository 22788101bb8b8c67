//! What hyper makes of the same bytes. Driven by hand: all its input is there from the start.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use aibridge_core::http1::Error;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    service::service_fn,
};

/// What we refuse, and hyper may take and read on: we are strict where two servers could read two
/// things.
pub(crate) const STRICTER: [Error; 8] = [
    // It skips extensions unread.
    Error::ChunkExtension,
    // It looks only whether `chunked` is the last of several codings.
    Error::ChunkedNotLast,
    Error::UnknownCoding,
    // To it a length that is given twice is one, if both are the same.
    Error::ContentLength,
    // It does without.
    Error::Host,
    // It goes by the coding, and drops the length.
    Error::LengthAndCoding,
    // To it a bare LF ends a line.
    Error::LineEnd,
    // It cuts off a fragment, and takes any form for any method.
    Error::Target,
];

/// A message as hyper saw it.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) status: u16,
    /// None where hyper did not come to the end of it.
    pub(crate) body: Option<Vec<u8>>,
}

/// Rounds of polling that nothing takes: hyper wakes itself, and never waits for anybody else here.
const ROUNDS: usize = 1000;

/// The requests that hyper's server is given.
pub(crate) fn requests(data: &[u8]) -> Vec<Message> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let mut message = Message {
                method: request.method().clone(),
                target: request.uri().to_string(),
                ..Message::default()
            };
            let at = lock(&seen).len();
            lock(&seen).push(Message {
                method: message.method.clone(),
                target: message.target.clone(),
                ..Message::default()
            });
            let body = request.into_body().collect().await;
            message.body = body.ok().map(|body| body.to_bytes().to_vec());
            lock(&seen)[at] = message;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    // The end of its input is not to make it give up what it has read.
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true);
    let connection = builder.serve_connection(Wire(data.to_vec()), service);
    poll(connection);
    std::mem::take(&mut *lock(&seen))
}

/// The reply that hyper's client is given.
pub(crate) fn response(data: &[u8]) -> Option<Message> {
    let data = data.to_vec();
    poll(async move {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(Wire(data))
            .await
            .ok()?;
        let request = Request::get("/")
            .header("host", "a")
            .body(Empty::<Bytes>::new())
            .ok()?;
        let exchange = async move {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            Some(Message {
                status,
                body: body.ok().map(|body| body.to_bytes().to_vec()),
                ..Message::default()
            })
        };
        let both = futures_util::future::join(exchange, connection);
        both.await.0
    })?
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn poll<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..ROUNDS {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

/// A socket with all of its input, whose output nobody reads.
struct Wire(Vec<u8>);

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.0.len().min(buffer.remaining());
        let rest = self.0.split_off(len);
        let piece = std::mem::replace(&mut self.0, rest);
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
