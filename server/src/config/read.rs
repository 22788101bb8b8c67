//! From text to what is written. A key that is not known is complained about and left out, so that
//! the rest can be looked at too.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{error::Problems, raw};

/// Reads a whole file. `None` if it is no TOML, or a value is of the wrong type: what else is wrong
/// cannot be told then.
pub(super) fn file(text: &str, problems: &mut Problems<'_>) -> Option<raw::File> {
    let mut table = DeTable::parse(text)
        .map_err(|error| problems.add_syntax(&error))
        .ok()?;
    loop {
        let error = match raw::File::deserialize(Deserializer::from(table.clone())) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        problems.add_syntax(&error);
        let is_unknown = error.message().starts_with("unknown field");
        let key = error.span().filter(|_| is_unknown)?;
        if !remove(table.get_mut(), &key) {
            return None;
        }
    }
}

/// Takes out the key at this place, with its value; whether it was there.
fn remove(table: &mut DeTable<'_>, place: &Range<usize>) -> bool {
    let found = table.keys().find(|key| key.span() == *place).cloned();
    if let Some(key) = found {
        return table.remove(&**key.get_ref()).is_some();
    }
    let mut values = table.iter_mut().map(|(_, value)| value);
    values.any(|value| remove_within(value, place))
}

fn remove_within(value: &mut Spanned<DeValue<'_>>, place: &Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Array(values) => values.iter_mut().any(|value| remove_within(value, place)),
        DeValue::Table(table) => remove(table, place),
        _ => false,
    }
}
