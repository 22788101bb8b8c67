//! The plain text archive format of `fixtures/`: several files in one that reads and diffs well.
//!
//! An archive is a comment, then sections. A section begins with a line `-- name --` and goes on to
//! the next such line or the end. There is no escaping, so no section may hold a marker line of its
//! own; every section that is not empty ends in a newline. The format is that of Go's `txtar`.
//!
//! ```
//! use aibridge_testkit::txtar::Archive;
//!
//! let archive: Archive = "A greeting.\n-- request --\nhello\n-- reply --\n".parse().unwrap();
//! assert_eq!(archive.comment, "A greeting.\n");
//! assert_eq!(archive.get("request"), Some("hello\n"));
//! assert_eq!(archive.get("reply"), Some(""));
//! assert_eq!(archive.to_string(), "A greeting.\n-- request --\nhello\n-- reply --\n");
//! ```

use std::{convert::Infallible, fmt, str::FromStr};

/// A parsed archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// What stands before the first section.
    pub comment: String,
    /// Name and text of each section, in order.
    pub sections: Vec<(String, String)>,
}

impl Archive {
    /// The text of the first section of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let section = self.sections.iter().find(|(known, _)| known == name);
        section.map(|(_, text)| text.as_str())
    }
}

impl FromStr for Archive {
    type Err = Infallible;

    /// Every text is an archive: at worst a comment alone.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let mut archive = Self::default();
        for line in text.split_inclusive('\n') {
            if let Some(name) = marker(line) {
                archive.sections.push((name.to_owned(), String::new()));
                continue;
            }
            let text = archive.sections.last_mut().map(|(_, text)| text);
            let text = text.unwrap_or(&mut archive.comment);
            text.push_str(line);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        Ok(archive)
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.comment)?;
        for (name, text) in &self.sections {
            write!(f, "-- {name} --\n{text}")?;
        }
        Ok(())
    }
}

/// The name in a marker line.
fn marker(line: &str) -> Option<&str> {
    let name = line.trim_end_matches(['\r', '\n']);
    let name = name.strip_prefix("-- ")?.strip_suffix(" --")?.trim();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Archive {
        text.parse().unwrap()
    }

    #[test]
    fn sections_keep_their_order_and_text() {
        let archive = parse("c\n\n-- a --\n1\n2\n-- b/c --\n\n-- a --\n3");
        assert_eq!(archive.comment, "c\n\n");
        assert_eq!(
            archive.sections,
            [("a", "1\n2\n"), ("b/c", "\n"), ("a", "3\n")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
        );
    }

    #[test]
    fn lines_that_only_look_like_markers_are_text() {
        for line in ["--a--", "-- --", "--  --", "- a -", "-- a -- b", " -- a --"] {
            let archive = parse(&format!("-- x --\n{line}\n"));
            assert_eq!(archive.get("x"), Some(&*format!("{line}\n")), "{line}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in [
            "",
            "only a comment",
            "-- a --\n-- b --\n",
            "c\n-- a --\r\nx\r\n-- b --\ny",
        ] {
            let once = parse(text);
            assert_eq!(parse(&once.to_string()), once, "{text:?}");
        }
    }
}
