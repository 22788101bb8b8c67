//! An adapter knows bytes and time, and nothing of what they mean.

use std::{fs, path::Path};

#[test]
fn the_adapter_knows_no_protocol_and_no_provider() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = 0;
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let code: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let code = code.to_lowercase();
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
        read += 1;
    }
    assert!(read > 5);
}
