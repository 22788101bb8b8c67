//! The scanner: accepts what `serde_json` accepts, and reads the same values.

use aibridge_core::json::{Error, Kind, Scanner, splice};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Scans `data` as a JSON text, and splices it where it says.
///
/// # Panics
/// A property does not hold.
pub fn target(data: &[u8]) {
    edit(data);
    let skipped = Scanner::new(data).and_then(|mut scan| {
        let range = scan.skip()?;
        scan.end().map(|()| range)
    });
    let Ok(text) = str::from_utf8(data) else {
        assert!(skipped.is_err(), "JSON is UTF-8");
        return;
    };
    let theirs = serde_json::from_str::<IgnoredAny>(text);
    let is_deep = depth(data) > 128;
    if !is_deep {
        assert_eq!(skipped.is_ok(), theirs.is_ok(), "{skipped:?} {theirs:?}");
    }
    let Ok(range) = skipped else { return };
    assert_eq!(
        range.len(),
        text.trim_matches([' ', '\t', '\r', '\n']).len()
    );

    let ours = Scanner::new(data).and_then(|mut scan| value(&mut scan));
    // serde_json refuses what fits no `f64` and halves of surrogates.
    if let Ok(theirs) = serde_json::from_str::<Value>(text) {
        assert_eq!(ours.ok(), Some(theirs));
    } else {
        assert!(ours.is_ok());
    }
}

/// Reads a value with the calls that the dialects use.
fn value(scan: &mut Scanner<'_>) -> Result<Value, Error> {
    Ok(match scan.kind()? {
        Kind::Array => {
            scan.array()?;
            let mut list = Vec::new();
            while scan.element()? {
                list.push(value(scan)?);
            }
            Value::Array(list)
        }
        Kind::Bool => Value::Bool(scan.bool()?),
        Kind::Null => scan.null().map(|()| Value::Null)?,
        Kind::Number => {
            let number = scan.number()?;
            number.parse().map_or(Value::Null, Value::Number)
        }
        Kind::Object => {
            scan.object()?;
            let mut map = Map::new();
            while let Some(name) = scan.key()? {
                let name = name.decode().into_owned();
                map.insert(name, value(scan)?);
            }
            Value::Object(map)
        }
        Kind::String => {
            let string = scan.string()?;
            let text = string.decode();
            assert!(string.is(&text));
            Value::String(text.into_owned())
        }
    })
}

/// Brackets open at once, at most; those in strings count too, which only makes it deeper.
fn depth(data: &[u8]) -> usize {
    data.iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count()
}

/// Ranges made of the data's own bytes, sound or not.
fn edit(data: &[u8]) {
    let Some([a, b, c, d]) = data.last_chunk::<4>().map(|last| last.map(usize::from)) else {
        return;
    };
    let edits = [(a..b, &b"one"[..]), (c..d, b"two")];
    let edited = splice(data, &edits);
    if a <= b && b <= c && c <= d && d <= data.len() {
        let expected = [&data[..a], b"one", &data[b..c], b"two", &data[d..]].concat();
        assert_eq!(edited, expected);
    }
    assert!(edited.len() <= data.len() + 6);
}
