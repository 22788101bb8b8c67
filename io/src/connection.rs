//! One connection of a session: what is to be written, and whether the peer may still be read.

use std::{
    collections::VecDeque,
    io::IoSlice,
    task::{Context, Poll},
};

use aibridge_core::{ConnId, Fault, Frame, session::Event};
use bytes::Buf;

use crate::{
    connect::{self, Connecting},
    runtime::Runtime,
    stream::Stream,
};

/// How many pieces are written in one system call at most.
const SLICES: usize = 64;

/// A connection and its unsent bytes.
pub(crate) struct Connection<R: Runtime> {
    pub(crate) id: ConnId,
    link: Link<R>,
    unsent: Unsent,
    /// TLS may hold bytes that were written to it.
    unflushed: bool,
    /// Our side is to be ended after the last byte.
    finishing: bool,
    /// The peer has ended its side.
    ended: bool,
    /// Writing has failed. The peer may have answered before it hung up, so what it sent is still
    /// read.
    broken: Option<Fault>,
}

enum Link<R: Runtime> {
    Connecting(Connecting<R>),
    Open(Stream<R>),
}

impl<R: Runtime> Connection<R> {
    pub(crate) fn open(id: ConnId, stream: Stream<R>) -> Self {
        Self::new(id, Link::Open(stream))
    }

    pub(crate) fn connecting(id: ConnId, connecting: Connecting<R>) -> Self {
        Self::new(id, Link::Connecting(connecting))
    }

    fn new(id: ConnId, link: Link<R>) -> Self {
        Self {
            id,
            link,
            unsent: Unsent::default(),
            unflushed: false,
            finishing: false,
            ended: false,
            broken: None,
        }
    }

    pub(crate) fn send(&mut self, frame: Frame) {
        if self.broken.is_none() {
            self.unsent.frames.push_back(frame);
        }
    }

    pub(crate) fn finish(&mut self) {
        self.finishing = true;
    }

    /// Drops it, and has the peer see that it was cut.
    pub(crate) fn reset(self) {
        if let Link::Open(stream) = self.link {
            stream.reset();
        }
    }

    /// The connection itself, where it is up.
    pub(crate) fn into_stream(self) -> Option<Stream<R>> {
        match self.link {
            Link::Connecting(_) => None,
            Link::Open(stream) => Some(stream),
        }
    }

    /// The next thing that happens to it. After `Failed` it is of no use.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, wants_read: bool) -> Poll<Event> {
        let stream = match &mut self.link {
            Link::Open(stream) => stream,
            Link::Connecting(connecting) => {
                let Poll::Ready(connected) = connecting.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                return Poll::Ready(match connected {
                    Ok(stream) => {
                        self.link = Link::Open(stream);
                        Event::Opened(self.id)
                    }
                    Err(fault) => Event::Failed(self.id, fault),
                });
            }
        };

        if self.unsent.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.unsent.chunks_vectored(&mut slices);
            match stream.poll_write(context, &slices[..filled]) {
                // It would be tried for ever.
                Poll::Ready(Ok(0)) => self.broken = Some(Fault::Reset),
                Poll::Ready(Ok(count)) => {
                    self.unsent.advance(count);
                    self.unflushed = true;
                    return Poll::Ready(Event::Sent(self.id, count));
                }
                Poll::Ready(Err(error)) => self.broken = Some(connect::fault(&error)),
                Poll::Pending => self.unsent.unshare(),
            }
        } else if self.unflushed || self.finishing {
            match stream.poll_flush(context, self.finishing) {
                Poll::Ready(Ok(())) => (self.unflushed, self.finishing) = (false, false),
                Poll::Ready(Err(error)) => self.broken = Some(connect::fault(&error)),
                Poll::Pending => {}
            }
        }
        if let Some(fault) = self.broken {
            self.unsent.frames.clear();
            (self.unflushed, self.finishing) = (false, false);
            if self.id.is_client() || self.ended {
                return Poll::Ready(Event::Failed(self.id, fault));
            }
        }

        if !wants_read || self.ended {
            return Poll::Pending;
        }
        let Poll::Ready(read) = stream.poll_read(context) else {
            return Poll::Pending;
        };
        Poll::Ready(match (read, self.broken) {
            (Ok(bytes), _) if !bytes.is_empty() => Event::Received(self.id, bytes),
            (_, Some(fault)) => Event::Failed(self.id, fault),
            (Ok(_), None) => {
                self.ended = true;
                Event::Ended(self.id)
            }
            (Err(error), None) => Event::Failed(self.id, connect::fault(&error)),
        })
    }
}

/// Frames as one run of bytes.
#[derive(Default)]
struct Unsent {
    frames: VecDeque<Frame>,
    /// How many of them, from the front, share no buffer any more.
    unshared: usize,
}

impl Unsent {
    /// The peer does not take them now, so they shall not hold the buffers they were read into.
    fn unshare(&mut self) {
        self.frames
            .iter_mut()
            .skip(self.unshared)
            .for_each(Frame::unshare);
        self.unshared = self.frames.len();
    }
}

impl Buf for Unsent {
    fn remaining(&self) -> usize {
        self.frames.iter().map(Buf::remaining).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.frames.front().map_or(&[], Buf::chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for frame in &self.frames {
            if filled == slices.len() {
                break;
            }
            filled += frame.chunks_vectored(&mut slices[filled..]);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(frame) = self.frames.front_mut() {
            let len = frame.remaining();
            if count < len {
                return frame.advance(count);
            }
            count -= len;
            self.frames.pop_front();
            self.unshared = self.unshared.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn frames_are_written_as_one_run_however_they_are_taken() {
        for step in 1..20 {
            let mut unsent = Unsent::default();
            for text in ["head", "", "a body", "tail"] {
                unsent.frames.push_back(Frame::chunked(Bytes::from(text)));
            }
            let mut written = Vec::new();
            while unsent.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 5];
                let filled = unsent.chunks_vectored(&mut slices);
                let run: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.iter().copied())
                    .collect();
                let count = step.min(run.len());
                written.extend_from_slice(&run[..count]);
                unsent.advance(count);
                unsent.unshare();
            }
            assert_eq!(written, b"4\r\nhead\r\n6\r\na body\r\n4\r\ntail\r\n");
            assert!(unsent.frames.is_empty());
        }
    }
}
