//! Fuzz targets over aibridge-core: what must hold for every input there is.
//!
//! A target is a function from bytes to nothing that panics where a property does not hold. The
//! inputs of a target are in `corpus/`, one file each, in the format that it reads: a stream, a
//! message, a JSON text. `cargo test` replays them all; `fuzz/run` looks for others.
//!
//! How an input is cut into pieces is decided by its own last bytes ([`pieces`]), so that a file is
//! nothing but the bytes on the wire and mutations move the cuts too.

use std::{env, fs, process::ExitCode};

pub mod chunked;
mod hyper_says;
pub mod inject;
pub mod json;
pub mod mcp;
mod messages;
pub mod requests;
pub mod responses;
pub mod retry_after;
pub mod session;
pub mod sse;
pub mod turns;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those of their corpora too.
pub const TARGETS: [(&str, Target); 10] = [
    ("chunked", chunked::target),
    ("inject", inject::target),
    ("json", json::target),
    ("mcp", mcp::target),
    ("requests", requests::target),
    ("responses", responses::target),
    ("retry_after", retry_after::target),
    ("session", session::target),
    ("sse", sse::target),
    ("turns", turns::target),
];

/// `data` in pieces of 1 to 32 bytes, cut as its last three bytes say.
pub fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lengths = data.last_chunk::<3>().copied().unwrap_or([2, 0, 6]);
    let mut lengths = lengths.into_iter().cycle();
    let mut rest = data;
    std::iter::from_fn(move || {
        let length = usize::from(lengths.next()? % 32 + 1).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Runs a target on the files that the command line names. What a target panics with is what was
/// found.
pub fn replay(target: Target) -> ExitCode {
    for name in env::args().skip(1) {
        let Ok(data) = fs::read(&name) else {
            eprintln!("{name}: cannot be read");
            return ExitCode::from(2);
        };
        target(&data);
        println!("{name}: {} bytes, nothing found", data.len());
    }
    ExitCode::SUCCESS
}
