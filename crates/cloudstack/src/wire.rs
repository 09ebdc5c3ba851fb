//! How single values come over the wire: ids as strings or numbers, truths as strings, limits as words, odd dates.
//!
//! Field deserialisers for the resource types. They are lenient: a value nobody can read is an absent value, so that
//! one strange field never hides a whole list. Ids alone are demanded.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// `2024-05-01T10:11:12+0000`: no colon in the offset, which a strict RFC 3339 parser refuses.
const SERVER_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][offset_hour sign:mandatory][offset_minute]");

/// An id that must be there: a string, or a number from older servers.
pub(crate) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    plain_text(Value::deserialize(from)?).ok_or_else(|| D::Error::custom("an id is missing or empty"))
}

/// A text, absent when empty.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(plain_text(Value::deserialize(from)?))
}

/// A text that may be missing; empty then.
pub(crate) fn text_or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(plain_text(Value::deserialize(from)?).unwrap_or_default())
}

/// A whole number of zero or more, also as a string or as a float without a fraction.
pub(crate) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(whole_number(&Value::deserialize(from)?).and_then(|number| u64::try_from(number).ok()))
}

/// A whole number, also negative.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(whole_number(&Value::deserialize(from)?))
}

/// A truth: `true`, `"true"`, `1`; everything else is false.
pub(crate) fn truth<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Bool(truth) => truth,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        Value::Number(number) => number.as_i64() == Some(1),
        _ => false,
    })
}

/// A point in time.
pub(crate) fn moment<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OffsetDateTime>, D::Error> {
    Ok(plain_text(Value::deserialize(from)?).as_deref().and_then(parse_moment))
}

/// A map of texts (`details`); anything but an object is an empty map.
pub(crate) fn text_map<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Value::Object(map) = Value::deserialize(from)? else { return Ok(BTreeMap::new()) };
    Ok(map.into_iter().filter_map(|(key, value)| scalar_text(value).map(|text| (key, text))).collect())
}

/// A list; `null` or anything but an array is an empty one.
pub(crate) fn rows<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    match Value::deserialize(from)? {
        list @ Value::Array(_) => serde_json::from_value(list).map_err(D::Error::custom),
        _ => Ok(Vec::new()),
    }
}

/// Reads CloudStack's date, or RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, SERVER_DATE).or_else(|_| OffsetDateTime::parse(text, &Rfc3339)).ok()
}

fn scalar_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn plain_text(value: Value) -> Option<String> {
    scalar_text(value).filter(|text| !text.is_empty())
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole_float)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse::<f64>().ok().and_then(whole_float))
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked: within the range in which every whole float is exact")]
fn whole_float(float: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (float.abs() <= EXACT && float.fract() == 0.0).then_some(float as i64)
}

/// A resource limit: CloudStack says `"Unlimited"`, `"-1"`, `"-1.0"`, `-1` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Unlimited,
    /// At most this many (GiB for storage).
    Max(u64),
}

impl Limit {
    /// Whether `wanted` more fit, when this is what is left.
    #[must_use]
    pub fn has_room_for(self, wanted: u64) -> bool {
        match self {
            Self::Unlimited => true,
            Self::Max(left) => left >= wanted,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Max(max) => write!(f, "{max}"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unlimited => to.serialize_str("unlimited"),
            Self::Max(max) => to.serialize_u64(*max),
        }
    }
}

/// A limit; absent when there is none to read.
pub(crate) fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Limit>, D::Error> {
    let value = Value::deserialize(from)?;
    if value.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case("unlimited")) {
        return Ok(Some(Limit::Unlimited));
    }
    Ok(whole_number(&value).map(|number| u64::try_from(number).map_or(Limit::Unlimited, Limit::Max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_come_as_strings_or_numbers() {
        for (value, expected) in
            [(json!("a-b"), Some("a-b")), (json!(7), Some("7")), (json!(""), None), (json!([]), None)]
        {
            assert_eq!(id(value.clone()).ok().as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn numbers_come_in_any_dress() {
        for (value, expected) in [
            (json!(20), Some(20)),
            (json!("20"), Some(20)),
            (json!("2.0"), Some(2)),
            (json!(3.0), Some(3)),
            (json!(3.5), None),
            (json!(-1), None),
            (json!("10%"), None),
            (json!("NaN"), None),
            (json!("1e300"), None),
            (json!(null), None),
        ] {
            assert_eq!(count(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn truths_come_as_strings_from_old_servers() {
        for (value, expected) in [
            (json!(true), true),
            (json!("true"), true),
            (json!("false"), false),
            (json!(1), true),
            (json!(null), false),
        ] {
            assert_eq!(truth(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn limits_come_as_words_and_numbers() {
        for (value, expected) in [
            (json!("Unlimited"), Some(Limit::Unlimited)),
            (json!("-1"), Some(Limit::Unlimited)),
            (json!("-1.0"), Some(Limit::Unlimited)),
            (json!(-1), Some(Limit::Unlimited)),
            (json!("200"), Some(Limit::Max(200))),
            (json!(0), Some(Limit::Max(0))),
            (json!("many"), None),
        ] {
            assert_eq!(limit(value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn dates_have_no_colon_in_their_offset() {
        let expected = time::macros::datetime!(2021-09-29 12:20:11 UTC);
        for text in ["2021-09-29T17:50:11+0530", "2021-09-29T12:20:11+0000", "2021-09-29T12:20:11Z"] {
            assert_eq!(parse_moment(text), Some(expected), "{text}");
        }
        assert_eq!(parse_moment("yesterday"), None);
    }
}
