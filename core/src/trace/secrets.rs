//! Secrets and what stands in their place.

use std::collections::BTreeSet;

use memchr::memmem::Finder;
use zeroize::Zeroizing;

use super::heads;
use crate::{
    config::PLACEHOLDER,
    secret::{Digest, Secret},
};

/// Shorter ones are not looked for in contents: they would be found everywhere.
const MIN: usize = 8;
/// Shorter ones are not looked for where words mean something to HTTP.
const MIN_STRONG: usize = 16;
/// What placeholders are filled with.
const FILL: &str = "secret";

/// All secrets of a trace.
#[derive(Default)]
pub(super) struct Secrets {
    /// In the order in which they were met.
    known: Vec<Known>,
    /// Places in `known` of those that are looked for, longest first.
    sought: Vec<usize>,
    /// Names, in lower case, of fields that are secret by configuration.
    names: BTreeSet<Box<str>>,
}

struct Known {
    secret: Zeroizing<Vec<u8>>,
    placeholder: Vec<u8>,
    /// It too, as the configuration knows it of clients.
    digest: Digest,
    finder: Finder<'static>,
}

impl Secrets {
    /// A field of this name is a secret.
    pub(super) fn add_name(&mut self, name: &str) {
        self.names.insert(name.into());
    }

    /// Whether a field of this name, in any case, is a secret.
    pub(super) fn is_secret(&self, name: &[u8]) -> bool {
        heads::is_secret(name)
            || str::from_utf8(name)
                .is_ok_and(|name| self.names.contains(&*name.to_ascii_lowercase()))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// What stands in a secret's place.
    pub(super) fn placeholder(&mut self, secret: &[u8]) -> &[u8] {
        let at = self.add(secret);
        at.map_or(PLACEHOLDER.as_bytes(), |at| &self.known[at].placeholder)
    }

    /// The same, of a text.
    pub(super) fn placeholder_text(&mut self, secret: &str) -> String {
        if secret.is_empty() {
            return String::new();
        }
        String::from_utf8_lossy(self.placeholder(secret.as_bytes())).into_owned()
    }

    /// Puts placeholders into a place where a secret stands.
    pub(super) fn replace(&mut self, place: &mut [u8]) {
        if !place.is_empty() {
            let placeholder = self.placeholder(place);
            place.copy_from_slice(placeholder);
        }
    }

    /// The placeholder of the secret with this digest, if it was met.
    pub(super) fn of_digest(&self, digest: Digest) -> Option<String> {
        let known = self.known.iter().find(|known| known.digest == digest)?;
        Some(String::from_utf8_lossy(&known.placeholder).into_owned())
    }

    /// Whether a text shows the hint of one, as a record does where somebody has repeated a secret.
    pub(super) fn is_masked_in(&self, text: &str) -> bool {
        let shows = |known: &Known| {
            let secret = String::from_utf8_lossy(&known.secret);
            text.contains(&Secret::new(&*secret).hint_of_beginning())
        };
        text.contains("...") && self.known.iter().any(shows)
    }

    /// Replaces all that are long enough, wherever they stand. Says whether there was any.
    pub(super) fn scrub(&self, bytes: &mut [u8]) -> bool {
        self.scrub_those(bytes, |_| true)
    }

    /// The same, but only of those that are no word of HTTP's: for start lines and names of fields.
    pub(super) fn scrub_strong(&self, bytes: &mut [u8]) -> bool {
        self.scrub_those(bytes, |secret| {
            secret.len() >= MIN_STRONG && !secret.contains(&b'/')
        })
    }

    fn scrub_those(&self, bytes: &mut [u8], is_meant: impl Fn(&[u8]) -> bool) -> bool {
        let mut found = false;
        let sought = self.sought.iter().map(|at| &self.known[*at]);
        for known in sought.filter(|known| is_meant(&known.secret)) {
            let mut from = 0;
            while let Some(at) = known.finder.find(&bytes[from..]) {
                let (start, len) = (from + at, known.secret.len());
                bytes[start..start + len].copy_from_slice(&known.placeholder);
                from = start + len;
                found = true;
            }
        }
        found
    }

    /// How many bytes at the end may be the beginning of one.
    pub(super) fn open_end(&self, bytes: &[u8]) -> usize {
        let open = |known: &Known| {
            let longest = bytes.len().min(known.secret.len() - 1);
            let mut lens = (1..=longest).rev();
            lens.find(|len| bytes.ends_with(&known.secret[..*len]))
        };
        let sought = self.sought.iter().map(|at| &self.known[*at]);
        sought.filter_map(open).max().unwrap_or(0)
    }

    /// Replaces the beginning of one at the end, if it is long enough to tell something. Says
    /// whether there was one.
    pub(super) fn scrub_end(&self, bytes: &mut [u8]) -> bool {
        for known in self.sought.iter().map(|at| &self.known[*at]) {
            let longest = bytes.len().min(known.secret.len() - 1);
            let mut lens = (MIN - 1..=longest).rev();
            if let Some(len) = lens.find(|len| bytes.ends_with(&known.secret[..*len])) {
                let start = bytes.len() - len;
                bytes[start..].copy_from_slice(&known.placeholder[..len]);
                return true;
            }
        }
        false
    }

    /// The place of a secret, which is added if it is new; none if it is no secret.
    fn add(&mut self, secret: &[u8]) -> Option<usize> {
        if secret == PLACEHOLDER.as_bytes() || secret.is_empty() {
            return None;
        }
        let same = |known: &Known| known.secret[..] == *secret || known.placeholder == secret;
        if let Some(at) = self.known.iter().position(same) {
            return Some(at);
        }
        let at = self.known.len();
        self.known.push(Known {
            placeholder: placeholder(secret, at + 1),
            digest: Digest::of(secret),
            finder: Finder::new(secret).into_owned(),
            secret: Zeroizing::new(secret.to_vec()),
        });
        if is_sought(secret) {
            self.sought.push(at);
            self.sought
                .sort_by_key(|at| std::cmp::Reverse(self.known[*at].secret.len()));
        }
        Some(at)
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.known.len())
    }
}

/// Whether it is looked for everywhere: not if it is short, a mere word, or could be a piece of
/// JSON. To replace `messages` wherever it stands would change what a request means.
fn is_sought(secret: &[u8]) -> bool {
    let is_mark = |byte: &u8| matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'=');
    let is_plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || is_mark(byte) || *byte == b'/' || !byte.is_ascii()
    };
    let is_no_word = |byte: &u8| byte.is_ascii_digit() || is_mark(byte) || !byte.is_ascii();
    secret.len() >= MIN && secret.iter().all(is_plain) && secret.iter().any(is_no_word)
}

/// As long as the secret and with its hint. Between the ends, letters and digits are replaced by
/// the number and a word, and what is beyond ASCII by as much of that; all else, which is white
/// space or punctuation and means something to parsers, stays. A text stays one.
fn placeholder(secret: &[u8], number: usize) -> Vec<u8> {
    // The fill may by chance be what stands there: that of the next number is not. Where there is
    // nothing to hide, neither changes anything.
    let mut tries = (number..number + 2).map(|number| hidden(secret, number));
    let other = tries.find(|hidden| hidden != secret);
    other.unwrap_or_else(|| secret.to_vec())
}

fn hidden(secret: &[u8], number: usize) -> Vec<u8> {
    let fill = format!("{number}{FILL}");
    let mut fill = fill.chars().cycle();
    let mut hide = |it: char| match it.len_utf8() {
        _ if it.is_whitespace() => it,
        1 if it.is_ascii_alphanumeric() => fill.next().unwrap_or('x'),
        1 => it,
        2 => 'ÿ',
        3 => '\u{fffd}',
        _ => '\u{10ffff}',
    };
    let Ok(text) = str::from_utf8(secret) else {
        let hide = |byte: &u8| match byte {
            0x80.. => 0xff,
            _ => u8::try_from(hide(char::from(*byte))).unwrap_or(*byte),
        };
        return secret.iter().map(hide).collect();
    };
    let hint = Secret::new(text).hint();
    let shown = hint
        .find("...")
        .map_or(0, |end| hint[..end].chars().count());
    let end = text.chars().count().saturating_sub(shown);
    let hide = |(at, it)| match at {
        _ if (shown..end).contains(&at) => hide(it),
        _ => it,
    };
    let hidden: String = text.chars().enumerate().map(hide).collect();
    hidden.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_the_secrets_length_and_hint_and_nothing_else_of_it() {
        for (secret, placeholder) in [
            ("sk-ant-api03-abcdefgh", "sk-a1s-ecret-1secefgh"),
            ("k0-pool-key", "k0-1sec-rey"),
            ("short", "s1set"),
            ("abc", "1se"),
            ("Q1s9", "1sec"),
            ("a=b; c=d/e%41", "a=1; s=e/c%41"),
            ("1", "2"),
            ("schlüssel-für-ÄÖÜ-8", "sc1sÿecre-tÿ1-ÿÿÿ-8"),
            ("ü123456789ä", "ü11secret9ä"),
            ("\u{a0}wärme\u{a0}", "\u{a0}1ÿsec\u{a0}"),
        ] {
            let mut secrets = Secrets::default();
            let text = secrets.placeholder_text(secret);
            assert_eq!(text, placeholder);
            assert_eq!(text.len(), secret.len());
            assert_eq!(Secret::new(&*text).hint(), Secret::new(secret).hint());
            assert_ne!(text, secret);
            assert_eq!(secrets.placeholder_text(secret), text, "it is stable");
            assert_eq!(secrets.placeholder_text(&text), text);
        }
        let mut secrets = Secrets::default();
        assert_eq!(
            secrets.placeholder_text("sk-ant-api03-abcdefgh"),
            "sk-a1s-ecret-1secefgh"
        );
        assert_eq!(
            secrets.placeholder_text("sk-ant-api03-zyxwefgh"),
            "sk-a2s-ecret-2secefgh"
        );
        assert_eq!(secrets.placeholder_text("aibridge"), "aibridge");
    }

    #[test]
    fn a_secret_with_letters_beyond_ascii_is_found_too() {
        for secret in ["sk-schlüssel-0123".as_bytes(), b"sk-schl\xfcssel-0123"] {
            let mut secrets = Secrets::default();
            secrets.placeholder(secret);
            let mut bytes = [b"said: ", secret, b"."].concat();
            assert!(secrets.scrub(&mut bytes));
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    }

    /// Found by the fuzzer, as an endless loop.
    #[test]
    fn what_has_nothing_to_hide_stays_as_it_is() {
        for secret in ["o-------s", "----", "aa\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}aa"] {
            assert_eq!(Secrets::default().placeholder_text(secret), secret);
        }
    }

    #[test]
    fn a_secret_is_found_anywhere_and_its_beginning_at_the_end() {
        let mut secrets = Secrets::default();
        let placeholder = secrets.placeholder_text("0123456789");
        let mut bytes = b"a 0123456789 and 0123456789, 01234567".to_vec();
        assert_eq!(secrets.open_end(&bytes), 8);
        assert!(secrets.scrub(&mut bytes) && secrets.scrub_end(&mut bytes));
        let start = &placeholder[..8];
        let expected = format!("a {placeholder} and {placeholder}, {start}");
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        assert_eq!(secrets.open_end(b"no 1"), 0);
    }
}
