//! A reply's body, read as messages: one JSON text, or a stream of events with one in each.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

use super::{failure::Failure, rpc, rpc::Message};
use crate::{
    codec::Step,
    sse::{self, Decoder, Item},
    time::Duration,
};

/// Longest message of a server's, in bytes. Tools do return megabytes; what of it the model is
/// shown is another limit.
pub(super) const MAX_MESSAGE: usize = 16 << 20;

/// Longest time that a server may ask to wait before a stream is resumed.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// What may stand at the start of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a body. How it is split into pushes does not show in the messages, nor in whether there is
/// an error.
pub(super) enum Inbox {
    /// One text.
    Json { text: Vec<u8>, limit: usize },
    /// Events.
    Events(Box<Events>),
}

/// A stream, and where in it we are.
pub(super) struct Events {
    decoder: Decoder,
    limit: usize,
    /// The id of the last event that had one.
    last_id: Option<Bytes>,
    /// How long to wait before the stream is resumed, where the server said so.
    retry: Option<Duration>,
    /// Whether this stream brought an id.
    moved: bool,
}

impl fmt::Debug for Inbox {
    /// Without the text: it is what users' systems say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { text, .. } => write!(f, "Json({} B)", text.len()),
            Self::Events(events) => write!(f, "Events(after {:?})", events.last_id),
        }
    }
}

impl Inbox {
    pub(super) fn json(limit: usize) -> Self {
        let text = Vec::new();
        Self::Json { text, limit }
    }

    /// `before` is the stream that this one resumes.
    pub(super) fn events(limit: usize, before: Option<Position>) -> Self {
        let before = before.unwrap_or_default();
        Self::Events(Box::new(Events {
            decoder: Decoder::new(limit),
            limit,
            last_id: before.last_id,
            retry: before.retry,
            moved: false,
        }))
    }

    /// Takes bytes, and gives the messages that they complete. With an error, the messages before
    /// it are valid.
    pub(super) fn push(&mut self, bytes: Bytes, out: &mut Vec<Message>) -> Result<(), Failure> {
        match self {
            Self::Json { text, limit } => {
                if text.len() + bytes.len() > *limit {
                    return Err(Failure::TooLarge);
                }
                text.extend_from_slice(&bytes);
                Ok(())
            }
            Self::Events(events) => events.push(bytes, out),
        }
    }

    /// The body is complete.
    pub(super) fn end(&mut self, out: &mut Vec<Message>) -> Result<(), Failure> {
        match self {
            Self::Json { text, .. } => rpc::read(&Bytes::from(std::mem::take(text)), out),
            Self::Events(_) => Ok(()), // an event without its blank line does not count
        }
    }

    /// How many bytes it holds: of a message that is not complete, and an event's id.
    pub(super) fn buffered(&self) -> usize {
        match self {
            Self::Json { text, .. } => text.len(),
            Self::Events(events) => {
                events.decoder.buffered() + events.last_id.as_ref().map_or(0, Bytes::len)
            }
        }
    }

    /// Where a stream stood.
    pub(super) fn position(self) -> Position {
        match self {
            Self::Json { .. } => Position::default(),
            Self::Events(events) => Position {
                last_id: events.last_id,
                retry: events.retry,
                moved: events.moved,
            },
        }
    }
}

/// From where, and when, a stream that broke can be resumed.
#[derive(Clone, Debug, Default)]
pub(super) struct Position {
    /// The last event's id; none where the server gave none, so that nothing can be resumed.
    pub(super) last_id: Option<Bytes>,
    /// The wait that the server asked for.
    pub(super) retry: Option<Duration>,
    /// Whether the stream brought anything since it was last resumed.
    pub(super) moved: bool,
}

impl Events {
    fn push(&mut self, bytes: Bytes, out: &mut Vec<Message>) -> Result<(), Failure> {
        self.decoder.push(bytes);
        while let Step::Item(item) = self.decoder.next() {
            match item {
                Item::Event(event) => self.event(&event, out)?,
                Item::Raw(raw) => self.raw(&raw)?,
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &sse::Event, out: &mut Vec<Message>) -> Result<(), Failure> {
        if let Some(id) = event.id() {
            self.at(id);
        }
        if let Some(millis) = event.retry() {
            self.wait(millis);
        }
        let data = event.data();
        // Events of other names are none of ours, and one without data only tells its id.
        if !matches!(event.name(), b"" | b"message") || data.is_empty() {
            return Ok(());
        }
        let text = match data {
            Cow::Borrowed(data) => event.raw().slice_ref(data),
            Cow::Owned(data) => data.into(),
        };
        rpc::read(&text, out)
    }

    /// A block without data dispatches no event, but its id and its retry time hold all the same.
    fn raw(&mut self, raw: &[u8]) -> Result<(), Failure> {
        let line = without_line_end(raw);
        let is_comment = raw.starts_with(b":");
        let is_whole = if is_comment {
            line.len() < raw.len()
        } else {
            matches!(line.last(), None | Some(b'\n' | b'\r'))
        };
        // What is above the limit comes in pieces, or in one piece that is.
        if raw != BYTE_ORDER_MARK && (!is_whole || line.len() > self.limit) {
            return Err(Failure::TooLarge);
        }
        if is_comment {
            return Ok(());
        }
        for line in raw.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if let Some(id) = field(line, b"id:") {
                self.at(id);
            } else if let Some(millis) = field(line, b"retry:") {
                let millis = std::str::from_utf8(millis).map(str::parse);
                if let Ok(Ok(millis)) = millis {
                    self.wait(millis);
                }
            }
        }
        Ok(())
    }

    fn at(&mut self, id: &[u8]) {
        self.moved = true;
        // An empty one says that from here on there is nothing to resume from.
        self.last_id = (!id.is_empty()).then(|| Bytes::copy_from_slice(id));
    }

    fn wait(&mut self, millis: u64) {
        self.retry = Some(Duration::from_millis(millis).min(MAX_RETRY));
    }
}

fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut inbox: Inbox, pieces: &[&[u8]]) -> (Vec<Message>, Result<(), Failure>, Position) {
        let mut out = Vec::new();
        let mut result = Ok(());
        for piece in pieces {
            result = inbox.push(Bytes::copy_from_slice(piece), &mut out);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = inbox.end(&mut out);
        }
        (out, result, inbox.position())
    }

    const STREAM: &[u8] = b"\xEF\xBB\xBF: hello\r\nid: 1\r\nretry: 250\r\ndata: \r\n\r\n\
        event: message\ndata: {\"method\":\ndata: \"notifications/progress\"}\n\n\
        event: other\ndata: what\n\nid: 3\n\n\
        id: 4\rdata: {\"id\":1,\"result\":{}}\r\rid: 5\ndata: {";

    #[test]
    fn streams_give_messages_and_positions() {
        let (messages, result, position) = read(Inbox::events(100, None), &[STREAM]);
        assert_eq!((messages.len(), result), (2, Ok(())));
        assert_eq!(position.last_id.as_deref(), Some(&b"4"[..]));
        assert_eq!(position.retry, Some(Duration::from_millis(250)));
        assert!(position.moved);
    }

    #[test]
    fn an_empty_id_forgets_the_position() {
        let (_, _, position) = read(Inbox::events(100, None), &[b"id: 1\n\nid:\ndata: \n\n"]);
        assert_eq!(position.last_id, None);
    }

    #[test]
    fn what_is_too_long_is_an_error() {
        let long = format!("data: {{\"id\":1,\"result\":\"{}\"}}\n\n", "x".repeat(100));
        let (messages, result, _) = read(Inbox::events(100, None), &[long.as_bytes()]);
        assert_eq!((messages.len(), result), (0, Err(Failure::TooLarge)));
        let (_, result, _) = read(Inbox::json(10), &[b"123456", b"78901"]);
        assert_eq!(result, Err(Failure::TooLarge));
    }

    #[test]
    fn comments_never_add_up() {
        let comments = b": still here\n\n".repeat(50);
        let (_, result, _) = read(Inbox::events(100, None), &[&comments, b"data: \n\n"]);
        assert_eq!(result, Ok(()));
    }

    proptest! {
        #[test]
        fn any_split_of_a_stream_reads_the_same(
            cuts in proptest::collection::vec(0..STREAM.len(), 0..12),
            limit in 10..120_usize,
        ) {
            let whole = read(Inbox::events(limit, None), &[STREAM]);
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &STREAM[w[0]..w[1]]).collect();
            let split = read(Inbox::events(limit, None), &pieces);
            if whole.1.is_ok() {
                prop_assert_eq!(whole.2.last_id, split.2.last_id);
            }
            prop_assert_eq!((whole.0, whole.1), (split.0, split.1));
        }
    }
}
