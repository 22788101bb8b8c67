//! Tokens: given where one starts, find where it ends (RFC 8259 §3, §6, §7).

use super::error::{Error, ErrorKind};

/// A string's end.
pub(super) struct StringEnd {
    /// Offset of the closing quote.
    pub(super) quote: usize,
    pub(super) escaped: bool,
}

/// Finds the end of a string whose opening quote is just before `at`.
#[inline]
pub(super) fn string_end(text: &[u8], mut at: usize) -> Result<StringEnd, Error> {
    let mut escaped = false;
    loop {
        at = special(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(StringEnd { quote: at, escaped }),
            Some(b'\\') => {
                at = escape_end(text, at)?;
                escaped = true;
            }
            Some(_) => return Err(Error::new(ErrorKind::Control, at)),
            None => return Err(Error::new(ErrorKind::Unterminated, at)),
        }
    }
}

/// Offset of the next byte of a string that is not just itself: a quote, a backslash or a control
/// character. The end of the text if there is none.
///
/// Most of a request body is long strings, so this loop is where the time goes: eight bytes at a time in
/// one register.
#[inline]
fn special(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20);
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Marks, by its highest bit, each byte of `word` that is special. Bytes above (in the word) a marked one
/// may be marked wrongly, by a borrow; the lowest mark is always right.
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
fn escape_end(text: &[u8], at: usize) -> Result<usize, Error> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let digits = text[at + 2..].iter().take(4);
            let count = digits.take_while(|byte| byte.is_ascii_hexdigit()).count();
            match count {
                4 => Ok(at + 6),
                _ => Err(unfinished(text, at + 2 + count, ErrorKind::Escape)),
            }
        }
        _ => Err(unfinished(text, at + 1, ErrorKind::Escape)),
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
    fn finds_the_first_special_byte_wherever_it_stands() {
        for special_byte in 0..=u8::MAX {
            let expected = matches!(special_byte, b'"' | b'\\' | ..0x20);
            for fill in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                for place in 0..40 {
                    let mut text = [fill; 40];
                    text[place] = special_byte;
                    let found = if expected { place } else { 40 };
                    assert_eq!(special(&text, 0), found, "{special_byte:#x} in {fill:#x}");
                    assert_eq!(special(&text, place), found);
                }
            }
        }
    }
}
