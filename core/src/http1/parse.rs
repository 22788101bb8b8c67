//! From the bytes of a complete head to its fields. The splitting is `httparse`'s, which is strict
//! by default; the checks that concern the meaning of single fields are here.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use httparse::{Header, Status};

use super::{
    BodyLength, Error, RequestHead, ResponseHead,
    fields::{is_credential, list_has},
    framing, names,
};

/// Field slots on the stack; a head with more gets a vector.
const SLOTS: usize = 32;

/// Parses a request head; `block` runs through its closing empty line.
pub(super) fn request(block: &[u8], fields: usize) -> Result<RequestHead, Error> {
    let block = Bytes::copy_from_slice(block);
    with_slots(fields, |slots| {
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed.parse_with_uninit_headers(&block, slots);
        complete(status, &block, |line| {
            line.rsplit(|&byte| byte == b' ').next()
        })?;
        let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Error::StartLine)?;
        let target = parse_target(&method, block.slice_ref(target.as_bytes()))?;
        let version = version(parsed.version);
        let headers = collect(&block, parsed.headers)?;
        check_host(version, &headers)?;
        let length = framing::request(version, &headers)?;
        let expect_continue = version == Version::HTTP_11
            && length != BodyLength::Known(0)
            && list_has(&headers, &header::EXPECT, "100-continue");
        Ok(RequestHead {
            keep_alive: framing::keep_alive(version, &headers),
            method,
            target,
            version,
            headers,
            length,
            expect_continue,
        })
    })
}

/// Parses a response head; `block` runs through its closing empty line. An interim response has no
/// body and needs no length.
pub(super) fn response(block: &[u8], fields: usize) -> Result<ResponseHead, Error> {
    let block = Bytes::copy_from_slice(block);
    with_slots(fields, |slots| {
        let mut parsed = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            &block,
            slots,
        );
        complete(status, &block, |line| {
            line.split(|&byte| byte == b' ').next()
        })?;
        let status =
            StatusCode::from_u16(parsed.code.unwrap_or(0)).map_err(|_| Error::StartLine)?;
        let version = version(parsed.version);
        let headers = collect(&block, parsed.headers)?;
        let length = if status.is_informational() {
            BodyLength::Known(0)
        } else {
            framing::response(version, &headers)?
        };
        Ok(ResponseHead {
            keep_alive: framing::keep_alive(version, &headers),
            status,
            version,
            headers,
            length,
        })
    })
}

/// Checks a trailer section, which runs through its closing empty line, and drops it: nobody waits
/// for it, and merging it into the head is how fields are smuggled (RFC 9110 §6.5.1).
pub(super) fn trailers(block: &[u8], fields: usize) -> Result<(), Error> {
    if fields == 0 {
        return Ok(());
    }
    let mut slots = vec![httparse::EMPTY_HEADER; fields];
    match httparse::parse_headers(block, &mut slots) {
        Ok(Status::Complete(_)) => Ok(()),
        Ok(Status::Partial) => Err(Error::LineEnd),
        Err(error) => Err(refusal(error)),
    }
}

fn with_slots<'a, T>(fields: usize, parse: impl FnOnce(&mut [MaybeUninit<Header<'a>>]) -> T) -> T {
    if fields <= SLOTS {
        return parse(&mut [const { MaybeUninit::uninit() }; SLOTS]);
    }
    let mut slots = Vec::new();
    slots.resize_with(fields, MaybeUninit::uninit);
    parse(&mut slots)
}

/// Whether the parser took the whole block. `version_of` finds the version in the start line.
fn complete<'a>(
    status: httparse::Result<usize>,
    block: &'a [u8],
    version_of: impl FnOnce(&'a [u8]) -> Option<&'a [u8]>,
) -> Result<(), Error> {
    match status {
        Ok(Status::Complete(len)) if len == block.len() => Ok(()),
        // The block ends with the first empty line, so neither less nor more can be read.
        Ok(_) => Err(Error::LineEnd),
        Err(httparse::Error::Version) => {
            let mut lines = block.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
            match lines.find(|line| !line.is_empty()).and_then(version_of) {
                // A version that is spoken stands in the wrong place.
                Some(b"HTTP/1.0" | b"HTTP/1.1") => Err(Error::StartLine),
                Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => {
                    Err(Error::Version)
                }
                _ => Err(Error::StartLine),
            }
        }
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: httparse::Error) -> Error {
    match error {
        httparse::Error::HeaderName => Error::FieldName,
        httparse::Error::HeaderValue => Error::FieldValue,
        httparse::Error::NewLine => Error::LineEnd,
        httparse::Error::TooManyHeaders => Error::TooManyFields,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            Error::StartLine
        }
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

/// The fields as a map whose values are slices of the block.
fn collect(block: &Bytes, fields: &[Header<'_>]) -> Result<HeaderMap, Error> {
    let mut headers =
        HeaderMap::try_with_capacity(fields.len()).map_err(|_| Error::TooManyFields)?;
    for field in fields {
        let name = names::parse(field.name.as_bytes()).ok_or(Error::FieldName)?;
        let mut value = HeaderValue::from_maybe_shared(block.slice_ref(field.value))
            .map_err(|_| Error::FieldValue)?;
        value.set_sensitive(is_credential(&name));
        headers
            .try_append(name, value)
            .map_err(|_| Error::TooManyFields)?;
    }
    Ok(headers)
}

/// The request target, in a form that its method takes (RFC 9112 §3.2).
fn parse_target(method: &Method, text: Bytes) -> Result<Uri, Error> {
    let is_origin_form = text.starts_with(b"/");
    let is_asterisk = text == "*";
    // A fragment is not part of a target, and `Uri` would drop it without a word.
    if text.contains(&b'#') {
        return Err(Error::Target);
    }
    let uri = Uri::from_maybe_shared(text).map_err(|_| Error::Target)?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(Error::Target);
    }
    let fits = if *method == Method::CONNECT {
        uri.authority().is_some() && uri.scheme().is_none()
    } else if is_asterisk {
        *method == Method::OPTIONS
    } else {
        is_origin_form || uri.scheme().is_some()
    };
    if fits { Ok(uri) } else { Err(Error::Target) }
}

/// A request has one `Host`, and a valid one; only HTTP/1.0 may leave it out. Anything else is to
/// be answered with 400 (RFC 9112 §3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        return if version == Version::HTTP_10 {
            Ok(())
        } else {
            Err(Error::Host)
        };
    };
    let is_host_byte =
        |&byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte);
    if hosts.next().is_some() || !host.as_bytes().iter().all(is_host_byte) {
        return Err(Error::Host);
    }
    Ok(())
}
