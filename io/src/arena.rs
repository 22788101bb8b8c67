//! Where bytes are read to.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};

use crate::runtime::Runtime;

/// Room for reading, shared by all connections of a thread: idle ones hold none.
const ROOM: usize = 64 << 10;
/// A read into less would be a system call for little.
const LEAST: usize = 16 << 10;

thread_local! {
    static ARENA: RefCell<BytesMut> = RefCell::default();
}

/// Reads what is there; empty at the end of the stream. The bytes share the arena: when all of them
/// are gone, their room is used again, so that reading allocates nothing as a rule.
pub(crate) fn poll_read<R: Runtime>(
    stream: &mut R::Stream,
    context: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    with_room(|arena| {
        let count = ready!(R::poll_read(stream, context, arena))?;
        Poll::Ready(Ok(arena.split_to(count).freeze()))
    })
}

/// What is appended to the arena. The arena cannot be read to meanwhile.
pub(crate) fn gather<T>(append: impl FnOnce(&mut BytesMut) -> T) -> (Bytes, T) {
    with_room(|arena| {
        let told = append(arena);
        (arena.split().freeze(), told)
    })
}

fn with_room<T>(fill: impl FnOnce(&mut BytesMut) -> T) -> T {
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() - arena.len() < LEAST {
            arena.reserve(ROOM);
        }
        fill(arena)
    })
}
