//! Command-line options: `--name value` pairs, a name may be repeated.

use std::{io, str::FromStr};

/// The pairs in the order given.
#[derive(Debug, Default)]
pub struct Args(Vec<(String, String)>);

impl Args {
    /// Takes the words after the command.
    pub fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut pairs = Vec::new();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or_else(|| usage(&format!("--option, not {word}")))?;
            let value = words
                .next()
                .ok_or_else(|| usage(&format!("a value after {word}")))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self(pairs))
    }

    /// Every value of an option.
    pub fn all<T: FromStr>(&self, name: &str) -> io::Result<Vec<T>> {
        let values = self.0.iter().filter(|(given, _)| given == name);
        values
            .map(|(_, value)| {
                value
                    .parse()
                    .map_err(|_| usage(&format!("a better --{name} than {value}")))
            })
            .collect()
    }

    /// The last value of an option.
    pub fn last<T: FromStr>(&self, name: &str) -> io::Result<Option<T>> {
        Ok(self.all(name)?.pop())
    }

    /// The last value of an option that must be there.
    pub fn required<T: FromStr>(&self, name: &str) -> io::Result<T> {
        self.last(name)?.ok_or_else(|| usage(&format!("--{name}")))
    }
}

/// What was wanted on the command line.
pub fn usage(wanted: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("expected {wanted}"))
}
