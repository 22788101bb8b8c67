//! Calls that a server wants repeated (2026-07-28, "Multi Round-Trip Requests").
//!
//! A server that keeps no state may answer a call with a text that it wants back with the same
//! call. It may also want the user asked something; but not a client like this one, that never says
//! it can.

use bytes::Bytes;

use crate::json::{self, Scanner};

/// How often one call is repeated at most.
pub(super) const MAX_ROUNDS: u32 = 8;

/// What a repeated call carries beyond the first one's parameters, if this result asks for it:
/// members, each after a comma.
pub(super) fn wanted(result: &Bytes) -> Option<String> {
    read(result).ok().flatten()
}

fn read(result: &[u8]) -> Result<Option<String>, json::Error> {
    let (mut is_wanted, mut asks, mut state) = (false, false, None);
    let mut scan = Scanner::new(result)?;
    scan.object()?;
    while let Some(key) = scan.key()? {
        match &*key.decode() {
            "resultType" => {
                is_wanted = scan
                    .string_or_skip()?
                    .is_some_and(|s| s.is("input_required"));
            }
            "inputRequests" => {
                scan.skip()?;
                asks = true;
            }
            "requestState" => state = scan.string_or_skip()?,
            _ => {
                scan.skip()?;
            }
        }
    }
    scan.end()?;
    if !is_wanted || asks {
        return Ok(None);
    }
    // As it stands, to the byte: it may be signed.
    Ok(state.map(|state| format!(r#","requestState":"{}""#, state.raw())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_state_without_questions_is_sent_back() {
        for (result, sent) in [
            (
                r#"{"resultType":"input_required","requestState":"a\u0041\/"}"#,
                Some(r#","requestState":"a\u0041\/""#),
            ),
            (
                r#"{"resultType":"input_required","requestState":"a","inputRequests":{}}"#,
                None,
            ),
            (r#"{"resultType":"input_required"}"#, None),
            (r#"{"resultType":"complete","requestState":"a"}"#, None),
            (r#"{"content":[]}"#, None),
            ("[]", None),
        ] {
            assert_eq!(wanted(&result.into()).as_deref(), sent, "{result}");
        }
    }
}
