//! Pages that say what programs do.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Each mutation by its name and its file.
#[test]
fn the_table_of_mutants_is_that_of_the_script() {
    let (script, page) = (read("mutants/run"), read("README.md"));
    let in_script: Vec<_> = script
        .lines()
        .filter_map(|line| {
            let (what, rest) = line.strip_prefix("    (\"")?.split_once("\", \"")?;
            Some((what, rest.split('"').next()?))
        })
        .collect();
    let (_, table) = page.split_once("| mutation |").unwrap();
    let in_page: Vec<_> = table
        .lines()
        .skip(2)
        .map_while(|line| {
            let (what, rest) = line.strip_prefix("| ")?.split_once(" | `")?;
            let (file, by) = rest.split_once("` | ")?;
            by.starts_with('`').then_some((what, file))
        })
        .collect();
    assert!(in_script.len() >= 15);
    assert_eq!(in_page, in_script);
    let all = format!("All {} are noticed.", in_script.len());
    assert!(page.contains(&all), "{all}");
}
