//! Secrets: values that can be sent and compared but not printed.

use std::{cmp::Reverse, fmt, sync::Arc};

use hmac_sha256::Hash;
use zeroize::Zeroizing;

/// A secret's beginning that is shorter, in bytes, tells little more than the hint.
const TELLING: usize = 8;

/// An API key or a token.
///
/// It has no `Display`, its `Debug` shows only the [hint](Self::hint), and equality takes the same
/// time wherever two secrets of one length differ. Clones share one allocation, which is
/// overwritten when the last of them goes.
///
/// ```
/// use aibridge_core::Secret;
///
/// let key = Secret::new("sk-ant-api03-abcdefgh");
/// assert_eq!(key.hint(), "sk-a...efgh");
/// assert_eq!(format!("{key:?}"), "Secret(sk-a...efgh)");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Box<str>>>);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Every call of this is a place where a secret leaves custody.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be shown: the first and last characters around `...`.
    ///
    /// Counted in characters: four at each end from 20 on, two from 10, one from 5, else none.
    pub fn hint(&self) -> String {
        let n = self.0.chars().count();
        let shown = match n {
            0 => return String::new(),
            20.. => 4,
            10.. => 2,
            5.. => 1,
            _ => 0,
        };
        let head = self.0.chars().take(shown);
        head.chain("...".chars())
            .chain(self.0.chars().skip(n - shown))
            .collect()
    }

    /// Whether it can stand in a header: not blank, and only visible ASCII, spaces or tabs. Other
    /// bytes, which some accept there, mean something else to everybody.
    pub fn fits_header(&self) -> bool {
        let fits = |byte: u8| matches!(byte, b'\t' | b' '..=b'~');
        !self.0.trim().is_empty() && self.0.bytes().all(fits)
    }

    /// A text with the [hint](Self::hint) in place of every copy of the secret. Of one that is cut
    /// off at the text's end, only its beginning is left.
    ///
    /// ```
    /// use aibridge_core::Secret;
    ///
    /// let key = Secret::new("sk-ant-api03-abcdefgh");
    /// let said = "sk-ant-api03-abcdefgh is revoked, sk-ant-api03";
    /// assert_eq!(key.masked_in(said.to_owned()), "sk-a...efgh is revoked, sk-a...");
    /// ```
    #[must_use]
    pub fn masked_in(&self, mut text: String) -> String {
        let secret = self.expose();
        if secret.is_empty() {
            return text;
        }
        if text.contains(secret) {
            text = text.replace(secret, &self.hint());
        }
        let mut cuts = secret.char_indices().map(|(at, _)| at);
        let cut = cuts.rfind(|len| *len >= TELLING && text.ends_with(&secret[..*len]));
        if let Some(len) = cut {
            text.truncate(text.len() - len);
            text.push_str(&self.hint_of_beginning());
        }
        text
    }

    /// The [hint](Self::hint) as far as its dots.
    pub(crate) fn hint_of_beginning(&self) -> String {
        let mut hint = self.hint();
        if let Some(dots) = hint.find("...") {
            hint.truncate(dots + 3);
        }
        hint
    }

    /// Equality with a text, in time that depends on the lengths alone.
    pub fn matches(&self, other: &[u8]) -> bool {
        is_equal(self.0.as_bytes(), other)
    }

    /// What is kept of a secret that is only ever compared.
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

/// A text with each of these [masked](Secret::masked_in), the longest first: one may be part of
/// another.
pub(crate) fn mask(text: String, mut secrets: Vec<&Secret>) -> String {
    secrets.sort_by_key(|secret| Reverse(secret.expose().len()));
    let masked = |text, secret: &Secret| secret.masked_in(text);
    secrets.into_iter().fold(text, masked)
}

/// The SHA-256 of a secret: enough to know it when it is shown, and nothing to show in its place.
///
/// Secrets are long and random, so there is no list of likely ones to try: no salt and no slow
/// function are needed.
///
/// ```
/// use aibridge_core::{Secret, secret::Digest};
///
/// let kept = Secret::new("a-client-token").digest();
/// assert!(kept.matches(Digest::of(b"a-client-token")) && !kept.matches(Digest::of(b"another")));
/// assert_eq!(format!("{kept:?}"), "Digest(..)");
/// ```
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of what somebody shows.
    pub fn of(shown: &[u8]) -> Self {
        Self(Hash::hash(shown))
    }

    /// Equality, in time that does not depend on either.
    pub fn matches(&self, other: Self) -> bool {
        is_equal(&self.0, &other.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.matches(*other)
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// Equality in time that depends on the lengths alone.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    // Folding every byte, and keeping the fold opaque, leaves nothing to stop early at.
    let differing = one
        .iter()
        .zip(other)
        .fold(0, |acc, (a, b)| std::hint::black_box(acc | (a ^ b)));
    differing == 0
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_show_both_ends_by_length() {
        for (secret, hint) in [
            ("", ""),
            ("abcd", "..."),
            ("short", "s...t"),
            ("k0-pool-key", "k0...ey"),
            ("sk-ant-api03-abcdefgh", "sk-a...efgh"),
            ("hélloworld🌍!", "hé...🌍!"),
        ] {
            assert_eq!(Secret::new(secret).hint(), hint);
        }
    }

    #[test]
    fn comparison_is_by_content() {
        assert_eq!(Secret::new("one"), Secret::new("one"));
        assert_ne!(Secret::new("one"), Secret::new("two"));
        assert_ne!(Secret::new("one"), Secret::new("ones"));
    }

    /// FIPS 180-4, "abc".
    #[test]
    fn a_digest_is_the_sha_256() {
        let Digest(bytes) = Secret::new("abc").digest();
        assert_eq!(bytes[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(bytes[28..], [0xf2, 0x00, 0x15, 0xad]);
    }

    #[test]
    fn only_visible_ascii_spaces_and_tabs_fit_a_header() {
        for fits in ["sk-1", "Basic dXNlcg==", "a\tb", "!~"] {
            assert!(Secret::new(fits).fits_header(), "{fits:?}");
        }
        for not in ["", " ", "\t"] {
            assert!(!Secret::new(not).fits_header(), "blank: {not:?}");
        }
        for not in ["sk\n1", "sk\r1", "sk\u{0}1", "sk\u{1f}1", "sk\u{7f}1"] {
            assert!(!Secret::new(not).fits_header(), "control: {not:?}");
        }
        for not in [
            "schlüssel",
            "“sk-1”",
            "sk-1\u{200b}",
            "sk\u{a0}1",
            "sk\u{80}1",
        ] {
            assert!(!Secret::new(not).fits_header(), "beyond ASCII: {not:?}");
        }
    }

    #[test]
    fn a_text_shows_no_more_of_a_secret_than_its_hint() {
        let key = Secret::new("sk-ant-api03-abcdefgh");
        for (text, masked) in [
            ("", ""),
            ("no key is valid", "no key is valid"),
            (
                "sk-ant-api03-abcdefgh, sk-ant-api03-abcdefghi",
                "sk-a...efgh, sk-a...efghi",
            ),
            ("invalid key sk-ant-api03-abcdefg", "invalid key sk-a..."),
            ("invalid key sk-ant-a", "invalid key sk-a..."),
            ("invalid key sk-ant", "invalid key sk-ant"),
        ] {
            assert_eq!(key.masked_in(text.to_owned()), masked);
        }
        assert_eq!(Secret::new("k").masked_in("a k".to_owned()), "a ...");
        assert_eq!(Secret::new("").masked_in("text".to_owned()), "text");
        let odd = Secret::new("schlüssel-eins");
        assert_eq!(odd.masked_in("ist schlüssel".to_owned()), "ist sc...");
    }
}
