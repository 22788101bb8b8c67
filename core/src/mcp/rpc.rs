//! JSON-RPC 2.0 messages, from and to bytes.
//!
//! What is sent has its members in one order, always, so that equal runs send equal bytes. What is
//! read is not insisted on beyond need: a message is told by which of `method`, `result`, `error`
//! and `id` it has, as the specification's §4 and §5 define them. A batch (§6) is read as its
//! messages; none is ever sent.

use bytes::Bytes;

use super::{failure::Failure, terms::Version};
use crate::json::{self, Kind, Scanner};

/// Method not found (§5.1).
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// The parameters are not what the method takes.
pub(super) const INVALID_PARAMS: i64 = -32602;

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// No answer is expected.
    Notification { method: String },
    /// An answer is expected under this id, which is kept as it stands in the text.
    Request { id: Bytes, method: String },
    /// The answer to a request: the result's text, or the error.
    Response {
        id: Id,
        result: Result<Bytes, Failure>,
        /// For an error: its `data`, as it stands in the text.
        data: Option<Bytes>,
    },
}

/// A response's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// An integer, or a string that is one: some servers write it so.
    Number(u64),
    /// Null, absent, or a text of the server's own: it could not tell which request it answers.
    Unknown,
}

/// Reads a text: one message, or a batch of them.
pub(super) fn read(text: &Bytes, out: &mut Vec<Message>) -> Result<(), Failure> {
    read_all(text, out).map_err(|error| match error {
        ReadError::Json => Failure::Malformed("not JSON"),
        ReadError::Shape => Failure::Malformed("not a JSON-RPC message"),
    })
}

enum ReadError {
    Json,
    Shape,
}

impl From<json::Error> for ReadError {
    fn from(_: json::Error) -> Self {
        Self::Json
    }
}

fn read_all(text: &Bytes, out: &mut Vec<Message>) -> Result<(), ReadError> {
    let mut scan = Scanner::new(text)?;
    if scan.kind()? == Kind::Array {
        scan.array()?;
        while scan.element()? {
            out.push(message(&mut scan, text)?);
        }
    } else {
        out.push(message(&mut scan, text)?);
    }
    Ok(scan.end()?)
}

fn message(scan: &mut Scanner<'_>, text: &Bytes) -> Result<Message, ReadError> {
    let (mut id, mut raw_id, mut method) = (Id::Unknown, None, None);
    let (mut result, mut error) = (None, None);
    if !scan.object_or_skip()? {
        return Err(ReadError::Shape);
    }
    while let Some(key) = scan.key()? {
        match &*key.decode() {
            "id" | "error" if scan.kind()? == Kind::Null => scan.null()?,
            "id" => {
                let start = scan.clone();
                raw_id = Some(text.slice(scan.skip()?));
                id = read_id(start)?;
            }
            "method" => method = scan.string_or_skip()?.map(|s| s.decode().into_owned()),
            "result" => result = Some(text.slice(scan.skip()?)),
            "error" => error = Some(read_error(scan, text)?),
            _ => {
                scan.skip()?;
            }
        }
    }
    if let Some((failure, data)) = error {
        let result = Err(failure);
        return Ok(Message::Response { id, result, data });
    }
    match (method, raw_id, result) {
        (Some(method), Some(id), _) => Ok(Message::Request { id, method }),
        (Some(method), None, _) => Ok(Message::Notification { method }),
        (None, _, Some(result)) => Ok(Message::Response {
            id,
            result: Ok(result),
            data: None,
        }),
        (None, _, None) => Err(ReadError::Shape),
    }
}

fn read_id(mut scan: Scanner<'_>) -> Result<Id, json::Error> {
    let number = match scan.kind()? {
        Kind::Number => scan.u64()?,
        Kind::String => scan.string()?.decode().parse().ok(),
        Kind::Array | Kind::Bool | Kind::Null | Kind::Object => None,
    };
    Ok(number.map_or(Id::Unknown, Id::Number))
}

fn read_error(scan: &mut Scanner<'_>, text: &Bytes) -> Result<(Failure, Option<Bytes>), ReadError> {
    let (mut code, mut message, mut data) = (0, None, None);
    if scan.kind()? == Kind::String {
        message = scan.string_or_skip()?; // not by the book, but it says something
    } else if scan.object_or_skip()? {
        while let Some(key) = scan.key()? {
            match &*key.decode() {
                "code" if scan.kind()? == Kind::Number => {
                    code = scan.number()?.parse().unwrap_or(0);
                }
                "message" => message = scan.string_or_skip()?,
                "data" => data = Some(text.slice(scan.skip()?)),
                _ => {
                    scan.skip()?;
                }
            }
        }
    }
    let message = message.map(|s| s.decode()).unwrap_or_default();
    let message = if message.is_empty() {
        "unspecified error"
    } else {
        &message
    };
    Ok((Failure::error(code, message), data))
}

/// A request. `params` are the members of its parameters, without the braces.
pub(super) fn request(id: u64, method: &str, params: &str, version: Version) -> Bytes {
    let meta = meta(version);
    let comma = if params.is_empty() || meta.is_empty() {
        ""
    } else {
        ","
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":{{{params}{comma}{meta}}}}}"#,
        quote(method)
    )
    .into()
}

/// A notification.
pub(super) fn notification(method: &str, params: &str) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","method":{},"params":{{{params}}}}}"#,
        quote(method)
    )
    .into()
}

/// What a server's request is answered: `ping` well, anything else that it is not known.
pub(super) fn answer(id: &[u8], method: &str) -> Bytes {
    let id = String::from_utf8_lossy(id);
    if method == "ping" {
        return format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into();
    }
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{METHOD_NOT_FOUND},"message":"Method not found"}}}}"#
    )
    .into()
}

/// A text as a JSON string.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Who we are, as an object.
pub(super) const CLIENT_INFO: &str = concat!(
    r#"{"name":"aibridge","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// What a request of a revision without handshake says of itself (2026-07-28, basic, `_meta`).
fn meta(version: Version) -> String {
    if !version.is_stateless() {
        return String::new();
    }
    let version = version.as_str();
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"{version}","io.modelcontextprotocol/clientInfo":{CLIENT_INFO},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_one(text: &str) -> Result<Message, Failure> {
        let mut out = Vec::new();
        read(&Bytes::copy_from_slice(text.as_bytes()), &mut out)?;
        assert_eq!(out.len(), 1);
        Ok(out.remove(0))
    }

    #[test]
    fn responses_are_read_whatever_their_id() {
        for (id, expected) in [
            (r#""id":7,"#, Id::Number(7)),
            (r#""id":"7","#, Id::Number(7)),
            (r#""id":"server-error","#, Id::Unknown),
            (r#""id":null,"#, Id::Unknown),
            (r#""id":1.5,"#, Id::Unknown),
            ("", Id::Unknown),
        ] {
            let text =
                format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":-32600,"message":"no"}}}}"#);
            let Ok(Message::Response { id, result, .. }) = read_one(&text) else {
                panic!("{text}")
            };
            assert_eq!(id, expected, "{text}");
            assert_eq!(result, Err(Failure::Error(-32600, "no".into())));
        }
    }

    #[test]
    fn the_kinds_are_told_apart() {
        let id = Bytes::from_static(b"\"a\"");
        let method = "ping".to_owned();
        assert_eq!(
            read_one(r#"{"method":"ping","id":"a"}"#),
            Ok(Message::Request { id, method })
        );
        let method = "notifications/progress".to_owned();
        assert_eq!(
            read_one(r#"{"method":"notifications/progress","params":{"progress":1}}"#),
            Ok(Message::Notification { method })
        );
        assert_eq!(
            read_one(r#"{"id":1,"result":{"a":[1 ,2]},"error":null}"#),
            Ok(Message::Response {
                id: Id::Number(1),
                result: Ok(Bytes::from_static(br#"{"a":[1 ,2]}"#)),
                data: None
            })
        );
    }

    #[test]
    fn a_batch_is_its_messages() {
        let mut out = Vec::new();
        let text = Bytes::from_static(br#"[{"method":"a"},{"id":1,"result":null}]"#);
        read(&text, &mut out).unwrap();
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for text in [
            "",
            "oops",
            "{",
            r#"{"id":1}"#,
            "3",
            "[3]",
            r#"{"id":1,"result":{}} x"#,
        ] {
            assert!(
                matches!(read_one(text), Err(Failure::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_sent_has_one_order() {
        assert_eq!(
            request(1, "tools/list", r#""cursor":"x""#, Version::V20251125),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}"#
        );
        let modern = request(2, "tools/list", "", Version::V20260728);
        let text = std::str::from_utf8(&modern).unwrap();
        let start = r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#;
        assert!(text.starts_with(start), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        assert_eq!(
            answer(b"\"p\"", "ping"),
            r#"{"jsonrpc":"2.0","id":"p","result":{}}"#
        );
        assert!(matches!(
            read_one(std::str::from_utf8(&answer(b"3", "sampling/createMessage")).unwrap()),
            Ok(Message::Response {
                id: Id::Number(3),
                result: Err(Failure::Error(-32601, _)),
                ..
            })
        ));
    }
}
