//! As much HTTP/1.1 as two friends need who talk through any proxy: a head, then a body with a
//! length or in chunks. Nothing is checked that a correct proxy cannot get wrong.

use std::io::{self, ErrorKind};

use memchr::{memchr, memmem};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const READ_SIZE: usize = 64 * 1024;

/// A connection and what was read from it and not yet used.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Reads that brought bytes: how often the peer's bytes came together tells how they were sent.
    pub reads: u64,
}

/// What the other side of a message is told by its head.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Of a response; zero for a request.
    pub status: u16,
    /// The value of `x-load`.
    pub load: Option<String>,
    /// Bytes of the body, `None` for a body in chunks.
    pub length: Option<usize>,
    /// Of a request: it is for the MCP server.
    pub is_tools: bool,
}

impl Connection {
    /// Small segments leave at once on both sides.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; READ_SIZE],
            start: 0,
            end: 0,
            reads: 0,
        })
    }

    /// Dials.
    pub async fn open(target: &str) -> io::Result<Self> {
        Self::new(TcpStream::connect(target).await?)
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next head, or `None` where the peer ended the connection between two messages.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = memmem::find(unread, b"\r\n\r\n") {
                let head = parse(&unread[..at])?;
                self.start += at + 4;
                return Ok(Some(head));
            }
            if self.fill().await? == 0 {
                return if self.start == self.end {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Hands the body over, piece by piece, to its end.
    pub async fn body(
        &mut self,
        length: Option<usize>,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(length) = length {
            return self.take(length, &mut sink).await;
        }
        while let size @ 1.. = self.chunk_size().await? {
            self.take(size, &mut sink).await?;
            self.line().await?;
        }
        self.line().await?; // no trailers between friends
        Ok(())
    }

    /// Waits until the peer ends the connection or sends something; the latter is an error.
    pub async fn until_closed(&mut self) -> io::Result<()> {
        match self.fill().await {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("bytes where the end was expected")),
            Err(error) => Err(error),
        }
    }

    /// The size of the chunk that begins here.
    pub async fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.line().await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let text = std::str::from_utf8(digits).unwrap_or_default().trim();
        usize::from_str_radix(text, 16).map_err(|_| io::Error::other("not a chunk size"))
    }

    /// The bytes up to the next line end, which is consumed.
    pub async fn line(&mut self) -> io::Result<&[u8]> {
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.start..self.end]) {
                let line = self.start..self.start + at;
                self.start = line.end + 1;
                let bytes = &self.buffer[line];
                return Ok(bytes.strip_suffix(b"\r").unwrap_or(bytes));
            }
            self.fill_or_fail().await?;
        }
    }

    /// Hands over exactly so many bytes.
    pub async fn take(
        &mut self,
        mut left: usize,
        sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while left > 0 {
            if self.start == self.end {
                self.fill_or_fail().await?;
            }
            let size = left.min(self.end - self.start);
            sink(&self.buffer[self.start..self.start + size])?;
            self.start += size;
            left -= size;
        }
        Ok(())
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            return Err(io::Error::other("a head or line longer than the buffer"));
        }
        let size = self.stream.read(&mut self.buffer[self.end..]).await?;
        self.end += size;
        self.reads += u64::from(size > 0);
        Ok(size)
    }
}

fn parse(head: &[u8]) -> io::Result<Head> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut parsed = Head {
        length: Some(0),
        ..Head::default()
    };
    let first = lines.next().unwrap_or_default();
    parsed.is_tools = memmem::find(first, b" /mcp ").is_some();
    if first.starts_with(b"HTTP/1.") {
        let status = first
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        parsed.status = status
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| io::Error::other("no status in the reply"))?;
    }
    for line in lines {
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let text = || String::from_utf8_lossy(value).into_owned();
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = text()
                    .parse()
                    .map_err(|_| io::Error::other("not a content-length"))?;
                parsed.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => parsed.length = None,
            6 if name.eq_ignore_ascii_case(b"x-load") => parsed.load = Some(text()),
            _ => {}
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters_in_a_head_whatever_the_case() {
        let head = parse(b"HTTP/1.1 429 Too Many\r\nContent-Length: 12\r\nX-Load: paced").unwrap();
        assert_eq!(
            head,
            Head {
                status: 429,
                load: Some("paced".into()),
                length: Some(12),
                is_tools: false,
            }
        );
        let head = parse(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked").unwrap();
        assert_eq!(
            head,
            Head {
                status: 0,
                load: None,
                length: None,
                is_tools: false,
            }
        );
    }
}
