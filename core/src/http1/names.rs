//! Field names that come with every call but are not in `http`'s own table: taken from here they
//! cost no allocation, in the decoder nor whenever a header map is cloned.

use http::HeaderName;

/// Longest name in the table.
const LONGEST: usize = 43;

/// A field name in any case.
pub(super) fn parse(name: &[u8]) -> Option<HeaderName> {
    // The table's names start with `anthropic-`, `openai-`, `request-` and `x-`; most others need
    // not be looked up.
    let listed = match name.first() {
        Some(b'a' | b'A' | b'o' | b'O' | b'r' | b'R' | b'x' | b'X') => lookup(name),
        _ => None,
    };
    listed.or_else(|| HeaderName::from_bytes(name).ok())
}

macro_rules! table {
    ($text:expr; $($name:literal)*) => {{
        $(if $text == $name.as_bytes() {
            return Some(const { HeaderName::from_static($name) });
        })*
        None
    }};
}

fn lookup(name: &[u8]) -> Option<HeaderName> {
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    table!(&*lower;
        "anthropic-beta"
        "anthropic-dangerous-direct-browser-access"
        "anthropic-organization-id"
        "anthropic-ratelimit-input-tokens-limit"
        "anthropic-ratelimit-input-tokens-remaining"
        "anthropic-ratelimit-input-tokens-reset"
        "anthropic-ratelimit-output-tokens-limit"
        "anthropic-ratelimit-output-tokens-remaining"
        "anthropic-ratelimit-output-tokens-reset"
        "anthropic-ratelimit-requests-limit"
        "anthropic-ratelimit-requests-remaining"
        "anthropic-ratelimit-requests-reset"
        "anthropic-ratelimit-tokens-limit"
        "anthropic-ratelimit-tokens-remaining"
        "anthropic-ratelimit-tokens-reset"
        "anthropic-version"
        "openai-organization"
        "openai-processing-ms"
        "openai-project"
        "openai-version"
        "request-id"
        "x-api-key"
        "x-app"
        "x-claude-code-session-id"
        "x-ratelimit-limit-requests"
        "x-ratelimit-limit-tokens"
        "x-ratelimit-remaining-requests"
        "x-ratelimit-remaining-tokens"
        "x-ratelimit-reset-requests"
        "x-ratelimit-reset-tokens"
        "x-request-id"
        "x-stainless-arch"
        "x-stainless-async"
        "x-stainless-helper-method"
        "x-stainless-lang"
        "x-stainless-os"
        "x-stainless-package-version"
        "x-stainless-raw-response"
        "x-stainless-read-timeout"
        "x-stainless-retry-count"
        "x-stainless-runtime"
        "x-stainless-runtime-version"
        "x-stainless-timeout"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_listed_or_not() {
        for name in [
            "X-Api-Key",
            "anthropic-version",
            "anthropic-ratelimit-output-tokens-remaining",
            "Accept",
            "x-other",
            "a-name-that-is-longer-than-any-other-in-the-table",
        ] {
            let parsed = parse(name.as_bytes()).unwrap();
            assert_eq!(parsed, HeaderName::from_bytes(name.as_bytes()).unwrap());
            assert_eq!(parsed.as_str(), name.to_ascii_lowercase());
        }
        for name in ["x-api-key ", "x-\0", "", "x-é"] {
            assert_eq!(parse(name.as_bytes()), None, "{name:?}");
        }
    }
}
