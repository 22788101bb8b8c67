//! The unit of writing: up to three pieces that leave in one vectored write.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Longest inline head: a chunk size of 16 hexadecimal digits and CRLF.
const HEAD_MAX: usize = NO_HEAD as usize;

/// Where the head starts when there is none.
const NO_HEAD: u8 = 18;

/// Bytes to send: an inline head, a shared body and a static tail, any of them empty.
///
/// A chunk of a chunked body is one frame: its size line is the head, the peer's own bytes are the
/// body (shared, never copied), CRLF is the tail. It implements [`Buf`] with vectored chunks, so an
/// adapter writes many frames with one `writev`.
///
/// ```
/// use aibridge_core::Frame;
/// use bytes::{Buf, Bytes};
///
/// let mut frame = Frame::chunked(Bytes::from_static(b"hello"));
/// assert_eq!(frame.remaining(), 10);
/// assert_eq!(frame.copy_to_bytes(10), "5\r\nhello\r\n");
/// ```
#[derive(Clone)]
pub struct Frame {
    head: [u8; HEAD_MAX],
    head_at: u8,
    body: Bytes,
    tail: &'static [u8],
}

impl Frame {
    /// These bytes and nothing else.
    pub const fn raw(body: Bytes) -> Self {
        Self {
            head: [0; HEAD_MAX],
            head_at: NO_HEAD,
            body,
            tail: b"",
        }
    }

    /// A static text.
    pub const fn fixed(text: &'static [u8]) -> Self {
        Self {
            head: [0; HEAD_MAX],
            head_at: NO_HEAD,
            body: Bytes::new(),
            tail: text,
        }
    }

    /// One chunk of a chunked body (RFC 9112 §7.1). Of an empty `body` it is an empty frame: an
    /// empty chunk would end the whole body.
    pub fn chunked(body: Bytes) -> Self {
        if body.is_empty() {
            return Self::raw(body);
        }
        let mut head = [0; HEAD_MAX];
        head[HEAD_MAX - 2..].copy_from_slice(b"\r\n");
        let mut at = HEAD_MAX - 2;
        let mut rest = body.len();
        while rest > 0 {
            at -= 1;
            head[at] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
        }
        Self {
            head,
            head_at: u8::try_from(at).unwrap_or(0),
            body,
            tail: b"\r\n",
        }
    }

    /// Copies a short body out of the buffer it shares: for a frame that has to wait, lest a few
    /// bytes hold many.
    pub fn unshare(&mut self) {
        const SHORT: usize = 4 << 10;
        if self.body.len() <= SHORT {
            self.body = Bytes::copy_from_slice(&self.body);
        }
    }

    fn head(&self) -> &[u8] {
        &self.head[usize::from(self.head_at)..]
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.head().len() + self.body.len() + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        if !self.head().is_empty() {
            self.head()
        } else if !self.body.is_empty() {
            &self.body
        } else {
            self.tail
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = [self.head(), &self.body[..], self.tail];
        let mut filled = 0;
        for (slot, piece) in slices
            .iter_mut()
            .zip(pieces.into_iter().filter(|p| !p.is_empty()))
        {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        let from_head = count.min(self.head().len());
        self.head_at += u8::try_from(from_head).unwrap_or(0);
        count -= from_head;
        let from_body = count.min(self.body.len());
        self.body.advance(from_body);
        self.tail = &self.tail[count - from_body..];
    }
}

impl std::fmt::Debug for Frame {
    /// Sizes only: a frame may carry a credential or a prompt.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Frame({} + {} + {})",
            self.head().len(),
            self.body.len(),
            self.tail.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(mut frame: Frame, step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while frame.has_remaining() {
            let n = step.min(frame.chunk().len());
            out.extend_from_slice(&frame.chunk()[..n]);
            frame.advance(n);
        }
        out
    }

    #[test]
    fn a_chunk_reads_the_same_in_any_steps() {
        let frame = Frame::chunked(Bytes::from(vec![b'x'; 300]));
        let whole = drained(frame.clone(), 1000);
        assert!(whole.starts_with(b"12c\r\nxxx") && whole.ends_with(b"x\r\n"));
        for step in 1..10 {
            assert_eq!(drained(frame.clone(), step), whole);
        }
    }

    #[test]
    fn advancing_crosses_pieces() {
        let mut frame = Frame::chunked(Bytes::from_static(b"abc"));
        frame.advance(7);
        assert_eq!(frame.chunk(), b"\n");
        assert_eq!(frame.remaining(), 1);
    }

    #[test]
    fn an_empty_chunk_writes_nothing() {
        assert!(!Frame::chunked(Bytes::new()).has_remaining());
    }

    #[test]
    fn vectored_chunks_skip_empty_pieces() {
        let frame = Frame::raw(Bytes::from_static(b"abc"));
        let mut slices = [IoSlice::new(b""); 4];
        assert_eq!(frame.chunks_vectored(&mut slices), 1);
        assert_eq!(&*slices[0], b"abc");
    }
}
