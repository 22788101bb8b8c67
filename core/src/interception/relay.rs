//! From a judged reply to the client: bytes as they come, looked into on the way.
//!
//! The client gets upstream's bytes exactly. What the bridge adds, it adds between events or after
//! the last: a keep-alive where upstream is silent, an error event where it broke off. What it
//! withholds is at most the usage chunk that only the bridge had asked for; a stream that may bring
//! one is relayed event by event, every other one read by read.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header::CONTENT_ENCODING, header::CONTENT_TYPE};

use super::{
    Action, Outbox,
    sieve::Sieve,
    state::{Call, Lent},
};
use crate::{
    api::{self, Api, ApiError, Inspected, Pass, Told, Vendor, turns::Passed},
    codec::Step,
    config::Timeouts,
    fault::Fault,
    id::{CallId, InterceptionId},
    sse,
    time::{Instant, after, earliest},
};

/// A blocking reply longer than this is relayed and not understood.
const MAX_READ_BODY: usize = 16 << 20;

/// A reply on its way to the client.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) call: CallId,
    /// The pool's key; `None` for the client's own.
    pub(super) lent: Option<Lent>,
    pub(super) status: StatusCode,
    /// When the first byte of the body came.
    pub(super) first_byte: Option<Instant>,
    /// Bytes of upstream's that the client was given.
    pub(super) relayed: u64,
    id: InterceptionId,
    follow: Follow,
    timeouts: Timeouts,
    idle: Option<Instant>,
    ping: Option<Instant>,
}

/// How much of a body is understood.
#[derive(Debug)]
enum Follow {
    /// A stream of events.
    Events(Box<Events>),
    /// Nothing: a passthrough, or an encoding that is not ours to read.
    Opaque,
    /// A blocking reply, read when it is complete.
    Whole(Api, Whole),
}

#[derive(Debug)]
struct Events {
    api: Api,
    stream: api::Stream,
    reader: Reader,
}

/// How a stream is read beside relaying it.
#[derive(Debug)]
enum Reader {
    /// All of it passes, as it comes.
    Verbatim(sse::Decoder),
    /// An event may be withheld.
    ByEvent {
        sieve: Sieve,
        /// The last event was withheld and ended in a CR: an LF right after it goes the same way.
        withheld_cr: bool,
    },
}

/// A body collected, without a copy where it comes in one piece.
#[derive(Debug)]
enum Whole {
    Many(BytesMut),
    One(Bytes),
    TooLong,
}

/// How a relay ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) told: Told,
    /// Why the reply is not complete.
    pub(super) fault: Option<Fault>,
    /// Whether what was there to be understood is understood in full.
    pub(super) complete: bool,
}

impl Relay {
    /// A relay for this reply. `api` is `None` where nothing is to be understood.
    pub(super) fn new(
        now: Instant,
        call: &Call,
        id: InterceptionId,
        status: StatusCode,
        headers: &HeaderMap,
        api: Option<(Api, &Inspected)>,
        timeouts: Timeouts,
    ) -> Self {
        let follow = match api {
            Some((api, inspected)) if !is_encoded(headers) => {
                if is_stream(status, headers, inspected.stream) {
                    Follow::Events(Box::new(Events::new(api, inspected)))
                } else {
                    Follow::Whole(api, Whole::One(Bytes::new()))
                }
            }
            _ => Follow::Opaque,
        };
        let mut relay = Self {
            call: call.id,
            lent: call.lent.clone(),
            status,
            first_byte: None,
            relayed: 0,
            id,
            follow,
            timeouts,
            idle: None,
            ping: None,
        };
        relay.rest(now);
        relay
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self.follow, Follow::Events(_))
    }

    /// The stream's terminal event has come: whatever happens now, the client has all of it.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.follow, Follow::Events(events) if events.stream.is_complete())
    }

    /// Some of the body.
    pub(super) fn body(&mut self, now: Instant, bytes: Bytes, out: &mut Outbox) {
        if bytes.is_empty() {
            return;
        }
        self.first_byte.get_or_insert(now);
        self.rest(now);
        self.relayed += match &mut self.follow {
            Follow::Events(events) => events.relay(bytes, out),
            Follow::Opaque => out.body(bytes),
            Follow::Whole(_, whole) => {
                whole.push(&bytes);
                out.body(bytes)
            }
        };
    }

    /// The reply is complete.
    pub(super) fn end(mut self, out: &mut Outbox) -> Finished {
        if let Follow::Events(events) = &mut self.follow {
            events.flush(out);
        }
        out.actions.push_back(Action::ReplyEnd);
        self.finish(None)
    }

    /// The reply broke off.
    pub(super) fn fail(mut self, fault: Fault, out: &mut Outbox) -> Finished {
        if self.is_complete() {
            return self.end(out);
        }
        let Follow::Events(events) = &mut self.follow else {
            out.actions.push_back(Action::ReplyAbort);
            return self.finish(Some(fault));
        };
        events.close_half_event(out);
        if events.stream.is_complete() {
            return self.end(out);
        }
        let error = match fault {
            Fault::TimedOut => ApiError::upstream_timeout(),
            fault => ApiError::upstream_failed(fault),
        };
        let event = events.break_off(&error, self.id);
        out.body(event);
        out.actions.push_back(Action::ReplyEnd);
        self.finish(Some(fault))
    }

    /// The client left; nothing more is relayed. Only a stream shows before its end that the client
    /// has all of it.
    pub(super) fn cancel(self) -> Finished {
        let complete = self.is_complete();
        Finished {
            complete,
            ..self.finish(None)
        }
    }

    /// Time has passed. True if upstream has been silent for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) -> bool {
        if self.idle.is_some_and(|at| at <= now) {
            return true;
        }
        if self.ping.is_some_and(|at| at <= now) {
            self.ping = after(now, self.timeouts.ping);
            if let Follow::Events(events) = &self.follow
                && !events.mid_event()
                && !events.stream.is_complete()
            {
                out.body(Bytes::from_static(keep_alive(events.api)));
            }
        }
        false
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.idle, self.ping)
    }

    /// Upstream has just been heard.
    fn rest(&mut self, now: Instant) {
        self.idle = after(now, self.timeouts.idle);
        self.ping = self
            .is_stream()
            .then(|| after(now, self.timeouts.ping))
            .flatten();
    }

    fn finish(self, fault: Option<Fault>) -> Finished {
        let (told, complete) = match self.follow {
            Follow::Events(mut events) => {
                let complete = events.stream.is_complete();
                (events.stream.told(), complete)
            }
            Follow::Opaque => (Told::default(), true),
            Follow::Whole(api, whole) => match whole.bytes() {
                Some(body) => {
                    let told = api::read_body(api, body);
                    let complete = told.complete;
                    (told, complete)
                }
                None => (Told::default(), true),
            },
        };
        Finished {
            told,
            fault,
            complete: complete && fault.is_none(),
        }
    }
}

impl Events {
    fn new(api: Api, inspected: &Inspected) -> Self {
        let stream = api::Stream::new(api, inspected);
        let reader = if stream.may_withhold() {
            Reader::ByEvent {
                sieve: Sieve::new(),
                withheld_cr: false,
            }
        } else {
            Reader::Verbatim(sse::Decoder::new(sse::MAX_EVENT))
        };
        Self {
            api,
            stream,
            reader,
        }
    }

    /// Relays what may be; says how much that was.
    fn relay(&mut self, bytes: Bytes, out: &mut Outbox) -> u64 {
        match &mut self.reader {
            Reader::Verbatim(decoder) => {
                decoder.push(bytes.clone());
                while let Step::Item(item) = decoder.next() {
                    if let sse::Item::Event(event) = item {
                        self.stream.event(&event);
                    }
                }
                out.body(bytes)
            }
            Reader::ByEvent { sieve, .. } => {
                sieve.push(bytes);
                self.sift(out)
            }
        }
    }

    /// The stream has ended properly: an event without its end is relayed too.
    fn flush(&mut self, out: &mut Outbox) {
        if let Reader::ByEvent { sieve, .. } = &mut self.reader {
            sieve.end();
            self.sift(out);
        }
    }

    fn sift(&mut self, out: &mut Outbox) -> u64 {
        let Reader::ByEvent { sieve, withheld_cr } = &mut self.reader else {
            return 0;
        };
        let stream = &mut self.stream;
        let mut judge = |item: &sse::Item| {
            let is_withheld = match item {
                sse::Item::Event(event) => stream.event(event) == Pass::Withhold,
                sse::Item::Raw(raw) => *withheld_cr && raw.starts_with(b"\n"),
            };
            *withheld_cr = is_withheld && item.raw().ends_with(b"\r");
            if is_withheld {
                Passed::Withhold
            } else {
                Passed::Relay
            }
        };
        let mut relayed = 0;
        while let Some(bytes) = sieve.next(&mut judge) {
            relayed += out.body(bytes);
        }
        relayed
    }

    /// Nothing may be put in here.
    fn mid_event(&self) -> bool {
        match &self.reader {
            Reader::Verbatim(decoder) => decoder.mid_event(),
            Reader::ByEvent { sieve, .. } => sieve.mid_event(),
        }
    }

    /// Where half an event is out, sets it off from what follows. Where only the end of an OpenAI
    /// stream's last event was missing, the stream is complete after this.
    fn close_half_event(&mut self, out: &mut Outbox) {
        if !self.mid_event() || self.stream.may_withhold() {
            return;
        }
        match self.api.vendor() {
            // Its clients skip events named `ping` unread, and the last name counts.
            Vendor::Anthropic => out.body(Bytes::from_static(b"\nevent: ping\n\n")),
            Vendor::OpenAi => self.relay(Bytes::from_static(b"\n\n"), out),
        };
    }

    /// The error event.
    fn break_off(&mut self, error: &ApiError, id: InterceptionId) -> Bytes {
        error.event(self.api, id, self.stream.sequence_number())
    }
}

impl Whole {
    fn push(&mut self, bytes: &Bytes) {
        match self {
            Self::TooLong => {}
            Self::One(one) if one.is_empty() => *self = Self::One(bytes.clone()),
            Self::One(one) => {
                let mut many = BytesMut::with_capacity(2 * (one.len() + bytes.len()));
                many.extend_from_slice(one);
                many.extend_from_slice(bytes);
                *self = Self::Many(many);
            }
            Self::Many(many) if many.len() + bytes.len() > MAX_READ_BODY => *self = Self::TooLong,
            Self::Many(many) => many.extend_from_slice(bytes),
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Many(many) => Some(many),
            Self::One(one) => Some(one),
            Self::TooLong => None,
        }
    }
}

/// Whether a body must be decoded before it can be looked into (RFC 9110 §8.4).
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(CONTENT_ENCODING).into_iter();
    let mut codings = fields
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// By what upstream says; where it says nothing, by what was asked for.
pub(super) fn is_stream(status: StatusCode, headers: &HeaderMap, asked: bool) -> bool {
    if !status.is_success() {
        return false;
    }
    match headers.get(CONTENT_TYPE) {
        Some(kind) => {
            let kind = kind.as_bytes();
            let event_stream = b"text/event-stream";
            kind.get(..event_stream.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(event_stream))
        }
        None => asked,
    }
}

pub(super) const fn keep_alive(api: Api) -> &'static [u8] {
    match api.vendor() {
        Vendor::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Vendor::OpenAi => b": keep-alive\n\n",
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_codings_that_change_something_encode() {
        for (fields, expected) in [
            (&[][..], false),
            (&[""], false),
            (&["identity"], false),
            (&["Identity , identity"], false),
            (&["gzip"], true),
            (&["identity, br"], true),
            (&["identity", "gzip"], true),
        ] {
            let field = |text: &&'static str| (CONTENT_ENCODING, HeaderValue::from_static(text));
            let headers = fields.iter().map(field).collect();
            assert_eq!(is_encoded(&headers), expected, "{fields:?}");
        }
    }
}
