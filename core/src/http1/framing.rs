//! Where a body ends (RFC 9112 §6.3), and whether the connection goes on after it (§9.3).

use http::{HeaderMap, HeaderValue, Version, header};

use super::{
    BodyLength, Error,
    fields::{list, list_has},
};

/// How the body of a request is delimited. Without a length there is none.
pub(super) fn request(version: Version, headers: &HeaderMap) -> Result<BodyLength, Error> {
    Ok(declared(version, headers)?.unwrap_or(BodyLength::Known(0)))
}

/// How the body of a response is delimited. Without a length it is what comes before the end.
pub(super) fn response(version: Version, headers: &HeaderMap) -> Result<BodyLength, Error> {
    Ok(declared(version, headers)?.unwrap_or(BodyLength::UntilClose))
}

/// Whether the sender means to keep the connection.
pub(super) fn keep_alive(version: Version, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::CONNECTION) {
        return version == Version::HTTP_11;
    }
    !list_has(headers, &header::CONNECTION, "close")
        && (version == Version::HTTP_11 || list_has(headers, &header::CONNECTION, "keep-alive"))
}

fn declared(version: Version, headers: &HeaderMap) -> Result<Option<BodyLength>, Error> {
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // > A server MAY reject a request that contains both Content-Length and Transfer-Encoding
        // (§6.1): that is how requests are smuggled, so it does.
        if length.is_some() {
            return Err(Error::LengthAndCoding);
        }
        if version == Version::HTTP_10 {
            return Err(Error::CodingInHttp10);
        }
        check_codings(headers)?;
        return Ok(Some(BodyLength::Chunked));
    }
    let Some(length) = length else {
        return Ok(None);
    };
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Error::ContentLength);
    }
    let length = decimal(length).ok_or(Error::ContentLength)?;
    Ok(Some(BodyLength::Known(length)))
}

/// Exactly `chunked`, once, is understood.
fn check_codings(headers: &HeaderMap) -> Result<(), Error> {
    let mut chunked = false;
    for coding in list(headers, &header::TRANSFER_ENCODING) {
        if chunked {
            return Err(Error::ChunkedNotLast);
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(Error::UnknownCoding);
        }
        chunked = true;
    }
    Ok(())
}

/// `1*DIGIT` that fits. Not `str::parse`, which takes a sign.
fn decimal(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}
