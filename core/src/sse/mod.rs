//! Server-sent events, by the grammar of the WHATWG HTML standard, §9.2.

mod decoder;
mod encoder;

pub use decoder::{Decoder, Event, Item};
pub use encoder::encode;
