//! Tokens: given where one starts, find where it ends (RFC 8259 §3, §6, §7).

use super::{
    block::{self, Block},
    error::{Error, ErrorKind},
};

/// A string's end.
pub(super) struct StringEnd {
    /// Offset of the closing quote.
    pub(super) quote: usize,
    pub(super) escaped: bool,
}

/// Finds the end of a string whose opening quote is just before `at`.
#[inline]
pub(super) fn string_end(text: &[u8], at: usize) -> Result<StringEnd, Error> {
    // Names and most values are short: a register or two.
    for at in [at, at + 8] {
        let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) else {
            break;
        };
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            let quote = at + found.trailing_zeros() as usize / 8;
            if text[quote] == b'"' {
                let escaped = false;
                return Ok(StringEnd { quote, escaped });
            }
            break;
        }
    }
    long_string_end(text, at)
}

fn long_string_end(text: &[u8], mut at: usize) -> Result<StringEnd, Error> {
    let mut escaped = false;
    loop {
        let until = match text
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .map(block::read)
        {
            Some(Block::GoesOn(len, escapes)) => {
                at += len;
                escaped |= escapes;
                continue;
            }
            Some(Block::Ends(len, escapes)) => {
                let quote = at + len;
                escaped |= escapes;
                return Ok(StringEnd { quote, escaped });
            }
            Some(Block::Odd) => at + block::LEN,
            None => usize::MAX,
        };
        while at < until {
            match text.get(at) {
                Some(b'"') => return Ok(StringEnd { quote: at, escaped }),
                Some(b'\\') => {
                    at = escape_end(text, at)?;
                    escaped = true;
                }
                Some(..0x20) => return Err(Error::new(ErrorKind::Control, at)),
                Some(_) => at += 1,
                None => return Err(Error::new(ErrorKind::Unterminated, at)),
            }
        }
    }
}

/// Marks, by its highest bit, each byte of `word` that is special. Bytes above (in the word) a
/// marked one may be marked wrongly, by a borrow; the lowest mark is always right.
#[inline]
const fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    // XOR with an ASCII character leaves the highest bit alone, so one test for "was it below 0x80"
    // serves all three.
    (quote | backslash | control) & !word & HIGHS
}

/// The end of an escape whose backslash is at `at`.
#[inline]
fn escape_end(text: &[u8], at: usize) -> Result<usize, Error> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => code_unit_end(text, at + 2),
        _ => Err(unfinished(text, at + 1, ErrorKind::Escape)),
    }
}

/// The end of the four hexadecimal digits at `at`.
fn code_unit_end(text: &[u8], at: usize) -> Result<usize, Error> {
    let digits = text[at..].iter().take(4);
    match digits.take_while(|byte| byte.is_ascii_hexdigit()).count() {
        4 => Ok(at + 4),
        count => Err(unfinished(text, at + count, ErrorKind::Escape)),
    }
}

/// An error within a string, or the text's end before it can be one.
fn unfinished(text: &[u8], at: usize, kind: ErrorKind) -> Error {
    let kind = if at < text.len() {
        kind
    } else {
        ErrorKind::Unterminated
    };
    Error::new(kind, at)
}

/// The end of a number that starts at `at`, with a minus sign or a digit.
pub(super) fn number_end(text: &[u8], mut at: usize) -> Result<usize, Error> {
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    if byte(at) == b'-' {
        at += 1;
    }
    at = match byte(at) {
        b'0' => at + 1, // a leading zero is the only digit
        _ => digits_end(text, at)?,
    };
    if byte(at) == b'.' {
        at = digits_end(text, at + 1)?;
    }
    if let b'e' | b'E' = byte(at) {
        at += 1;
        if let b'+' | b'-' = byte(at) {
            at += 1;
        }
        at = digits_end(text, at)?;
    }
    Ok(at)
}

/// The end of one or more digits.
fn digits_end(text: &[u8], at: usize) -> Result<usize, Error> {
    let digits = text.get(at..).unwrap_or_default().iter();
    match digits.take_while(|byte| byte.is_ascii_digit()).count() {
        0 => Err(Error::new(ErrorKind::Number, at)),
        count => Ok(at + count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_quote_wherever_it_stands() {
        for len in 0..200 {
            for escape in [
                None,
                Some((r"\n", true)),
                Some((r#"\""#, true)),
                Some((r"\u00e9", true)),
                Some(("é", false)),
            ] {
                let mut text = "x".repeat(len);
                if let Some((escape, _)) = escape {
                    text.insert_str(len / 2, escape);
                }
                let quote = text.len();
                for rest in ["\"", "\", \"more\"", &format!("\"{}", "y".repeat(100))] {
                    let end = string_end(format!("{text}{rest}").as_bytes(), 0).unwrap();
                    assert_eq!(
                        (end.quote, end.escaped),
                        (quote, escape.is_some_and(|(_, escaped)| escaped))
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_string_is_told_with_its_place() {
        for len in 0..150 {
            let fill = "x".repeat(len);
            for (wrong, kind, place) in [
                ("\n\"", ErrorKind::Control, len),
                (r#"\x""#, ErrorKind::Escape, len + 1),
                (r#"\u00g0""#, ErrorKind::Escape, len + 4),
                ("", ErrorKind::Unterminated, len),
                ("\\", ErrorKind::Unterminated, len + 1),
                (r"\u12", ErrorKind::Unterminated, len + 4),
            ] {
                let text = format!("{fill}{wrong}");
                let error = string_end(text.as_bytes(), 0).err();
                assert_eq!(error, Some(Error::new(kind, place)), "{text}");
            }
        }
    }
}
