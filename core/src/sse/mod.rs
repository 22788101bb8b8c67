//! Server-sent events, by the grammar of the WHATWG HTML standard, §9.2.
//!
//! A stream is a byte order mark or none, then lines; a line ends with CR, LF or CRLF; a blank line
//! dispatches the fields that stood before it as one event. [`Decoder`] cuts the pushed bytes into
//! *blocks* at these blank lines and gives each out whole: as an [`Event`] where a browser would
//! dispatch one, else as raw bytes. Nothing is thrown away, so whoever relays a stream event by event
//! can still pass on every byte of it.
//!
//! The decoder knows three places in a stream:
//!
//! | place | ends with |
//! |---|---|
//! | start | three bytes that are a byte order mark, or the first that cannot be |
//! | between blocks | any byte; a line feed that belongs to the carriage return before it passes as raw |
//! | within a block | its blank line; for a comment that opens a block, the end of its line |
//!
//! A block that lies within one push is a slice of it; one that spans pushes is assembled, up to a
//! limit. What the fields of an event are does not depend on how the stream was split into pushes.
//!
//! ```
//! use aibridge_core::codec::Step;
//! use aibridge_core::sse::{Decoder, Item, MAX_EVENT};
//! use bytes::Bytes;
//!
//! let mut decoder = Decoder::new(MAX_EVENT);
//! decoder.push(Bytes::from_static(b"event: ping\nda"));
//! assert!(matches!(decoder.next(), Step::More));
//! decoder.push(Bytes::from_static(b"ta: {}\n\n"));
//! let Step::Item(Item::Event(event)) = decoder.next() else { panic!("an event") };
//! assert_eq!(event.name(), b"ping");
//! assert_eq!(&*event.data(), b"{}");
//! assert_eq!(event.raw(), "event: ping\ndata: {}\n\n");
//! ```

mod decoder;
mod encoder;
mod event;
mod lines;
#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Item, MAX_EVENT};
pub use encoder::encode;
pub use event::Event;
