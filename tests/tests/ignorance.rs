//! Adapters know bytes and time, and nothing of what they mean; and what they share knows no
//! runtime.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The source files of a crate, and their code in small letters.
fn code_of(name: &str) -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
        .join("src");
    let paths = fs::read_dir(source)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let code = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: String = lines.collect();
        // What an atomic does is no business of a key.
        (path, code.to_lowercase().replace("release", ""))
    };
    paths.map(code).collect()
}

#[test]
fn adapters_know_no_protocol_and_no_provider() {
    for name in ["io", "io-smol", "io-tokio"] {
        let files = code_of(name);
        assert!(files.len() >= 2, "{name}");
        for (path, code) in files {
            for word in [
                "http",
                "json",
                "anthropic",
                "openai",
                "lease",
                "secret",
                "header",
            ] {
                assert!(!code.contains(word), "{}: {word}", path.display());
            }
        }
    }
}

#[test]
fn what_adapters_share_knows_no_runtime() {
    for (path, code) in code_of("io") {
        for word in ["tokio", "smol", "std::net::tcp", "thread::spawn"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}
