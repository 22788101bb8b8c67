//! Arguments that a server wants to see in header fields as well (2026-07-28, "Custom Headers from
//! Tool Parameters").
//!
//! A property of a tool's schema may carry `x-mcp-header: NAME`; the argument's value is then sent
//! in `Mcp-Param-NAME` too. A tool whose annotations break the rules must not be offered.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

const ANNOTATION: &str = "x-mcp-header";

/// Keywords under which there is data, not schemas.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// Keywords under which there are schemas by name.
const NAMED: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// One argument to mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// Names of properties, outermost first.
    path: Vec<String>,
    field: HeaderName,
}

/// What a schema wants mirrored, or why the tool must not be offered.
pub(super) fn find(schema: &[u8]) -> Result<Vec<Mirror>, &'static str> {
    // Hardly any schema has one: do not build a tree for the others.
    if memchr::memmem::find(schema, ANNOTATION.as_bytes()).is_none() {
        return Ok(Vec::new());
    }
    let schema: Value = serde_json::from_slice(schema).map_err(|_| "inputSchema is not JSON")?;
    let mut found = Vec::new();
    walk(&schema, Some(&mut Vec::new()), &mut found)?;
    Ok(found)
}

/// Looks through a schema; `path` leads to it where it is reached by `properties` alone.
fn walk(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    found: &mut Vec<Mirror>,
) -> Result<(), &'static str> {
    let Value::Object(schema) = schema else {
        return match schema {
            Value::Array(schemas) => schemas.iter().try_for_each(|s| walk(s, None, found)),
            _ => Ok(()),
        };
    };
    if let Some(name) = schema.get(ANNOTATION) {
        let path = path.as_deref().filter(|path| !path.is_empty());
        let path = path.ok_or("x-mcp-header out of place")?;
        found.push(mirror(name, schema, path, found)?);
    }
    for (keyword, value) in schema {
        let is_named = NAMED.contains(&keyword.as_str());
        match value {
            Value::Object(schemas) if is_named => {
                for (name, schema) in schemas {
                    match path.as_deref_mut().filter(|_| keyword == "properties") {
                        None => walk(schema, None, found)?,
                        Some(path) => {
                            path.push(name.clone());
                            walk(schema, Some(path), found)?;
                            path.pop();
                        }
                    }
                }
            }
            _ if DATA.contains(&keyword.as_str()) => {}
            _ => walk(value, None, found)?,
        }
    }
    Ok(())
}

fn mirror(
    name: &Value,
    schema: &Map<String, Value>,
    path: &[String],
    found: &[Mirror],
) -> Result<Mirror, &'static str> {
    let kind = schema.get("type").and_then(Value::as_str);
    if !matches!(kind, Some("boolean" | "integer" | "string")) {
        return Err("x-mcp-header on a value that is not primitive");
    }
    let name = name.as_str().filter(|name| !name.is_empty());
    let field = name.map(|name| HeaderName::try_from(format!("mcp-param-{name}")));
    let Some(Ok(field)) = field else {
        return Err("x-mcp-header is not a field name");
    };
    if found.iter().any(|mirror| mirror.field == field) {
        return Err("x-mcp-header used twice");
    }
    let path = path.to_vec();
    Ok(Mirror { path, field })
}

/// The fields of a call with these arguments.
pub(super) fn fields(mirrors: &[Mirror], arguments: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if mirrors.is_empty() {
        return fields;
    }
    let arguments: Value = serde_json::from_slice(arguments).unwrap_or_default();
    for Mirror { path, field } in mirrors {
        let value = path.iter().try_fold(&arguments, |at, name| at.get(name));
        let text = match value {
            Some(Value::Bool(value)) => value.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(_) | Value::Null | Value::Object(_)) | None => continue,
        };
        fields.insert(field, encode(&text));
    }
    fields
}

/// A text as a field's value: itself where it can be, else in base 64 between marks ("Value
/// Encoding").
pub(super) fn encode(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|b| matches!(b, b' '..=b'~'))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    let value = if is_plain {
        HeaderValue::from_str(text)
    } else {
        HeaderValue::try_from(format!("=?base64?{}?=", base64(text.as_bytes())))
    };
    value.unwrap_or(const { HeaderValue::from_static("") })
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for at in 0..4 {
            text.push(if at <= group.len() {
                char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_the_specification_shows() {
        for (text, value) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
        ] {
            assert_eq!(encode(text), value, "{text:?}");
        }
    }

    #[test]
    fn annotated_arguments_become_fields() {
        let schema = br#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "x-mcp-header":{"type":"string"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}},
                    "default":{"x-mcp-header":1}},
            "gone":{"type":"boolean","x-mcp-header":"Gone"}}}"#;
        let mirrors = find(schema).unwrap();
        let fields = fields(&mirrors, br#"{"region":"eu","deep":{"n":-7},"gone":null}"#);
        assert_eq!(fields.len(), 2);
        assert_eq!(fields["mcp-param-region"], "eu");
        assert_eq!(fields["mcp-param-n"], "-7");
    }

    #[test]
    fn annotations_against_the_rules_refuse_the_tool() {
        for properties in [
            r#""a":{"type":"number","x-mcp-header":"A"}"#,
            r#""a":{"type":"string","x-mcp-header":""}"#,
            r#""a":{"type":"string","x-mcp-header":"a b"}"#,
            r#""a":{"type":"string","x-mcp-header":7}"#,
            r#""a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#,
            r#""a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}"#,
            r#""a":{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#,
        ] {
            let schema = format!(r#"{{"type":"object","properties":{{{properties}}}}}"#);
            assert!(find(schema.as_bytes()).is_err(), "{schema}");
        }
        assert!(find(br#"{"type":"string","x-mcp-header":"Root"}"#).is_err());
    }
}
