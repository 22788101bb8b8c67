//! Identifiers and times in records: texts wherever people or other programs read them, numbers in
//! the spool.
//!
//! Every record has both. Where it is kept, a client waits; the text is made later, by the thread
//! that fills the database.

use aibridge_core::{Instant, InterceptionId};
use rusqlite::types::{ToSql, ToSqlOutput};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Unexpected},
};

use super::view::rfc3339;

/// An interception's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id(pub(super) InterceptionId);

/// A time, to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Instant);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(str::from_utf8(&self.0.ascii()).unwrap_or_default())
        } else {
            self.0.to_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(D::Error::custom)
        } else {
            Deserialize::deserialize(deserializer)
                .map(|bytes| Self(InterceptionId::from_bytes(bytes)))
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&rfc3339(self.0))
        } else {
            self.0.as_millis().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
            u64::try_from(time.as_millisecond()).map_err(|_| {
                D::Error::invalid_value(Unexpected::Str(&text), &"a time since 1970")
            })?
        } else {
            u64::deserialize(deserializer)?
        };
        Ok(Self(Instant::from_millis(millis)))
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(rfc3339(self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::id, *};

    #[test]
    fn they_are_texts_in_json_and_numbers_in_the_spool() {
        let both = (Id(id(42)), Time(Instant::from_millis(1_769_860_800_123)));
        let json = serde_json::to_string(&both).unwrap();
        let expected = format!(r#"["{}","2026-01-31T12:00:00.123Z"]"#, id(42));
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<(Id, Time)>(&json).unwrap(), both);

        let spooled = postcard::to_stdvec(&both).unwrap();
        assert_eq!(spooled[..16], id(42).to_bytes());
        assert_eq!(spooled.len(), 16 + 6);
        assert_eq!(postcard::from_bytes::<(Id, Time)>(&spooled).unwrap(), both);
    }

    #[test]
    fn other_texts_are_refused() {
        let wrong: Result<Id, _> = serde_json::from_str(r#""no id""#);
        assert!(wrong.unwrap_err().to_string().contains("UUID"));
        for wrong in [r#""no time""#, r#""1969-12-31T23:59:59Z""#, "7"] {
            assert!(serde_json::from_str::<Time>(wrong).is_err(), "{wrong}");
        }
    }
}
