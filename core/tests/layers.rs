//! The core's shape, read from its source: each layer uses only those below it, and nothing reaches
//! for the outside.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test reads files, and fails by panicking"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers, lowest first; modules of one line may use each other.
const LAYERS: &[&[&str]] = &[
    &[
        "time", "rng", "id", "secret", "frame", "fault", "target", "codec",
    ],
    &["http1", "sse", "json"],
    &["api", "mcp", "proxy"],
    &["keypool"],
    &["config", "record"],
    &["interception"],
    &["session", "bridge"],
    &["trace"],
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All source files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// A file's code, without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs")))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The modules that `crate::…` names in a text: `crate::a::b`, `crate::{a::b, c::{d}}`,
/// `crate::Name`.
fn used(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_name(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, byte) in group.bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 0 => break,
                b'}' => depth -= 1,
                b',' if depth == 0 => begins = true,
                byte if begins && !byte.is_ascii_whitespace() => {
                    found.push(first_name(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn first_name(text: &str) -> String {
    let name = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_');
    name.collect()
}

/// The module that exports a name at the crate's root.
fn home(name: &str) -> String {
    let root = fs::read_to_string(source().join("lib.rs")).unwrap();
    for line in root
        .lines()
        .filter_map(|line| line.strip_prefix("pub use "))
    {
        let (module, names) = line.split_once("::").unwrap();
        if names
            .split(|c: char| !c.is_alphanumeric())
            .any(|one| one == name)
        {
            return module.to_owned();
        }
    }
    name.to_owned()
}

#[test]
fn each_layer_uses_only_those_below_it() {
    let mut wrong = Vec::new();
    for path in files(&source()).iter().filter(|path| !is_test(path)) {
        let inside = path.strip_prefix(source()).unwrap();
        let module = inside.components().next().unwrap().as_os_str();
        let module = module.to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own = layer(module).unwrap_or_else(|| panic!("{module} is in no layer"));
        for name in used(&code(path)) {
            let other = home(&name);
            let theirs = layer(&other).unwrap_or_else(|| panic!("{other} is in no layer"));
            if theirs > own {
                wrong.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "upward edges:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_use_lines_reads_them() {
    let code = "use crate::time::Instant;\nuse crate::{api::{self, Api}, bridge::Query, Frame};\nlet x = crate::json::Scanner;";
    assert_eq!(used(code), ["time", "api", "bridge", "Frame", "json"]);
    assert_eq!(home("Frame"), "frame");
    assert!(layer("bridge") > layer("api"));
}

/// What would make an output depend on more than the inputs. `clippy.toml` forbids the same by
/// type; this finds names that a type does not show, such as in macros.
#[test]
fn nothing_reaches_for_the_outside() {
    const BANNED: &[&str] = &[
        "std::env",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "std::process",
        "std::thread",
        "SystemTime",
        "time::Instant::now",
        "HashMap",
        "HashSet",
        "RandomState",
        "thread_local!",
        "static mut",
        "println!",
        "eprintln!",
        "tokio",
        "tracing",
        "async fn",
        ".await;",
        ".await?",
        "unsafe",
    ];
    let mut wrong = Vec::new();
    for path in files(&source()).iter().filter(|path| !is_test(path)) {
        let code = code(path);
        let found = BANNED.iter().filter(|banned| code.contains(**banned));
        wrong.extend(found.map(|banned| format!("{}: {banned}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
