//! JSON without trees: a strict pull scanner over a text, and splices into it.
//!
//! A request body may be a megabyte of which the bridge needs two fields. [`Scanner`] walks a text
//! once, by RFC 8259, and allocates nothing: the caller asks for what it expects, takes what it
//! knows and [skips](Scanner::skip) the rest, which is checked all the same, so that who reaches
//! [`end`](Scanner::end) has read well-formed JSON. [`splice`] then edits the text at offsets that
//! the scanner gave, and leaves every other byte as it was.
//!
//! A scanner is always in one of three places, and each call belongs to one of them:
//!
//! | place | calls | leads to |
//! |---|---|---|
//! | before a value | `kind`, `object`, `array`, `string`, `bool`, `null`, `number`, `u64`, `skip` | after it; within it for `object` and `array` |
//! | within an object, or after a member | `key` | before the member's value; after the object |
//! | within an array, or after an element | `element` | before the next element; after the array |
//!
//! and after the outermost value, `end`. A call out of place, or one for another kind of value than
//! there is, takes nothing and says so. After an error about the text itself, a scanner must not be
//! used further: it would not panic, but what it says means nothing.
//!
//! ```
//! use aibridge_core::json::{Scanner, splice};
//!
//! let body = br#"{"messages": [], "model": "gpt-5", "stream": true}"#;
//! let mut scanner = Scanner::new(body)?;
//! let (mut model, mut messages) = (None, 0..0);
//! scanner.object()?;
//! while let Some(key) = scanner.key()? {
//!     if key.is("model") {
//!         model = Some(scanner.string()?.decode());
//!     } else if key.is("messages") {
//!         messages = scanner.skip()?;
//!     } else {
//!         scanner.skip()?;
//!     }
//! }
//! scanner.end()?;
//! assert_eq!(model.as_deref(), Some("gpt-5"));
//! assert_eq!(
//!     splice(body, &[(messages, b"[1]")]),
//!     &br#"{"messages": [1], "model": "gpt-5", "stream": true}"#[..],
//! );
//! # Ok::<(), aibridge_core::json::Error>(())
//! ```

mod block;
mod error;
mod scan;
mod splice;
mod string;
#[cfg(test)]
mod tests;
mod token;

pub use error::{Error, ErrorKind};
pub use scan::{Kind, Scanner};
pub use splice::splice;
pub use string::Str;
