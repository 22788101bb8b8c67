//! Where bytes are read to.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio_util::io::poll_read_buf;

use crate::stream::Stream;

/// Room for reading, shared by all connections of a thread: idle ones hold none.
const ROOM: usize = 64 << 10;
/// A read into less would be a system call for little.
const LEAST: usize = 16 << 10;

thread_local! {
    static ARENA: RefCell<BytesMut> = RefCell::default();
}

/// Reads what is there; empty at the end of the stream. The bytes share the arena: when all of them are gone, their room is used
/// again, so that reading allocates nothing as a rule.
pub(crate) fn poll_read(stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() - arena.len() < LEAST {
            arena.reserve(ROOM);
        }
        let count = ready!(poll_read_buf(Pin::new(stream), context, arena))?;
        Poll::Ready(Ok(arena.split_to(count).freeze()))
    })
}
