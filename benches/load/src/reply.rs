//! What the mock provider says, prepared once: the bytes of each kind of reply and of each kind of
//! request.
//!
//! The shapes are those of Anthropic's messages API, so that a bridge which reads events has real
//! ones to read. The load generator knows the same bytes and compares every reply with them.

use std::{fmt::Write, str::FromStr};

/// Events in a stream, from `message_start` to `message_stop`.
pub const EVENTS: usize = 100;
/// Bytes in a blocking reply's body.
pub const BLOCKING_BODY: usize = 300;
/// Bytes in a large request's body.
pub const LARGE_BODY: usize = 1024 * 1024;
/// Events that an idle stream sends before it falls silent.
const IDLE_EVENTS: usize = 4;

/// What is asked of the mock, named in the request header `x-load`, which proxies pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small request, a reply of 300 bytes.
    Blocking,
    /// A stream of 100 events, ten to a write, without a pause between the writes.
    Grouped,
    /// A stream of 100 events that falls silent after the first few.
    Idle,
    /// A request of 1 MiB, a reply of 300 bytes.
    Large,
    /// A stream of 100 events, 2 ms apart: each is a read of its own for the proxy.
    Paced,
    /// A stream of 100 events, each written on its own, without a pause between them.
    Stream,
}

impl Kind {
    /// As spelt in `x-load` and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Grouped => "grouped",
            Self::Idle => "idle",
            Self::Large => "large",
            Self::Paced => "paced",
            Self::Stream => "stream",
        }
    }

    /// Is the reply a stream of events?
    pub const fn streams(self) -> bool {
        matches!(
            self,
            Self::Grouped | Self::Idle | Self::Paced | Self::Stream
        )
    }

    /// The whole request: head and body, ready to be written.
    pub fn request(self, path: &str) -> Vec<u8> {
        let body = self.request_body();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: aibridge-load\r\naccept: application/json\r\n\
             content-type: application/json\r\nanthropic-version: 2023-06-01\r\nx-api-key: aibridge\r\n\
             x-load: {}\r\ncontent-length: {}\r\n\r\n",
            self.name(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body.as_bytes());
        request
    }

    fn request_body(self) -> String {
        let stream = self.streams();
        let mut body = format!(
            r#"{{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":{stream},"messages":["#
        );
        if self == Self::Large {
            fill_with_turns(&mut body);
        }
        body.push_str(r#"{"role":"user","content":"Name three rivers of Europe, and the seas they end in."}]}"#);
        body
    }

    /// The body that a proxy must hand on unchanged.
    pub fn expected(self) -> Vec<u8> {
        match self {
            Self::Blocking | Self::Large => blocking_body(),
            Self::Idle => events().take(IDLE_EVENTS).collect::<String>().into_bytes(),
            Self::Grouped | Self::Paced | Self::Stream => events().collect::<String>().into_bytes(),
        }
    }

    /// The reply as the writes that carry it.
    pub fn writes(self) -> Vec<Vec<u8>> {
        if !self.streams() {
            return vec![blocking_reply()];
        }
        let count = if self == Self::Idle {
            IDLE_EVENTS
        } else {
            EVENTS
        };
        let group = if self == Self::Grouped { 10 } else { 1 };
        let events: Vec<String> = events().take(count).collect();
        let chunk = |events: &[String]| {
            let text = events.concat();
            format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
        };
        let mut writes = vec![STREAM_HEAD.as_bytes().to_vec()];
        writes.extend(events.chunks(group).map(chunk));
        if self != Self::Idle {
            writes.push(b"0\r\n\r\n".to_vec());
        }
        writes
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let all = [
            Self::Blocking,
            Self::Grouped,
            Self::Idle,
            Self::Large,
            Self::Paced,
            Self::Stream,
        ];
        all.into_iter().find(|kind| kind.name() == name).ok_or(())
    }
}

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\nrequest-id: req_011CSHoEeqs5C35K2UUqR7Fy\r\ntransfer-encoding: chunked\r\n\r\n";

fn blocking_reply() -> Vec<u8> {
    let mut reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_011CSHoEeqs5C35K2UUqR7Fy\r\n\
         content-length: {BLOCKING_BODY}\r\n\r\n"
    )
    .into_bytes();
    reply.extend_from_slice(&blocking_body());
    reply
}

fn blocking_body() -> Vec<u8> {
    let before = r#"{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":""#;
    let after = r#""}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":21,"output_tokens":17}}"#;
    let text = "The Rhine, the Danube and the Rhone: the North Sea, the Black Sea, and so on.";
    let room = BLOCKING_BODY.saturating_sub(before.len() + after.len());
    let text: String = text.chars().cycle().take(room).collect();
    format!("{before}{text}{after}").into_bytes()
}

/// What the deltas say, over and over.
const WORDS: [&str; 7] = [
    " the",
    " Rhine",
    " rises in the",
    " Alps,",
    " passes",
    " Basel \\u2014 and",
    " ends",
];

/// The events of one stream, in order, with their blank lines.
fn events() -> impl Iterator<Item = String> {
    let head = [
        (
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":21,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1}}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
        ("ping", r#"{"type": "ping"}"#),
    ];
    let tail = [
        (
            "content_block_stop",
            r#"{"type":"content_block_stop","index":0}"#,
        ),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":188}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ];
    let deltas = WORDS.into_iter().cycle().take(EVENTS - head.len() - tail.len()).map(|word| {
        let data = format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{word}"}}}}"#
        );
        ("content_block_delta", data)
    });
    let owned = |(name, data): (&'static str, &str)| (name, data.to_owned());
    let all = head
        .into_iter()
        .map(owned)
        .chain(deltas)
        .chain(tail.into_iter().map(owned));
    all.map(|(name, data)| format!("event: {name}\ndata: {data}\n\n"))
}

/// A long conversation: turns of some 2 KiB until the body is as large as wanted.
fn fill_with_turns(body: &mut String) {
    const LAST_TURN: usize = 96;
    let line = r#"fn main() {\n    println!(\"a line of code, with its quotes and a \\\\ escaped\");\n}\n"#;
    let mut turn = 0;
    while body.len() + LAST_TURN < LARGE_BODY {
        let role = ["user", "assistant"][turn % 2];
        let _ = write!(
            body,
            r#"{{"role":"{role}","content":[{{"type":"text","text":""#
        );
        let room = LARGE_BODY.saturating_sub(body.len() + LAST_TURN + 8);
        let lines = (room / line.len()).min(24);
        (0..lines).for_each(|_| body.push_str(line));
        if lines == 0 {
            body.extend(std::iter::repeat_n('.', room));
        }
        body.push_str(r#""}]},"#);
        turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocking_body_has_the_promised_size() {
        let body = blocking_body();
        assert_eq!(body.len(), BLOCKING_BODY);
        assert!(body.ends_with(b"}}"));
    }

    #[test]
    fn a_stream_has_the_promised_events() {
        let text = String::from_utf8(Kind::Stream.expected()).unwrap();
        assert_eq!(text.matches("\n\n").count(), EVENTS);
        assert!(text.starts_with("event: message_start\n"));
        assert!(text.ends_with("data: {\"type\":\"message_stop\"}\n\n"));
        assert_eq!(
            Kind::Stream.writes().len(),
            EVENTS + 2,
            "a head, the events, the last chunk"
        );
    }

    #[test]
    fn a_large_request_has_a_body_of_one_mebibyte() {
        let body = Kind::Large.request_body();
        let difference = body.len().abs_diff(LARGE_BODY);
        assert!(difference < 64, "{}", body.len());
        let turns = body.matches(r#""role":"user""#).count()
            - body.matches(r#""role":"assistant""#).count();
        assert!(turns <= 1, "the turns alternate");
    }
}
