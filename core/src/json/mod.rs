//! JSON without trees: a strict pull scanner over a text, and splices into it.

mod scan;
mod splice;

pub use scan::{Error, Kind, Scanner, Str};
pub use splice::splice;
