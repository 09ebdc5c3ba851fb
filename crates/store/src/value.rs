//! How values of `model` are kept in columns: statuses as their texts, sizes as signed 64 bit, times as UTC.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, QueryResult, TryGetError, TryGetable, Value};
use time::{OffsetDateTime, PrimitiveDateTime};

/// A value kept as the text it displays as; read through `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored<T>(pub T);

impl<T> Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Stored<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: fmt::Display> From<Stored<T>> for Value {
    fn from(stored: Stored<T>) -> Self {
        stored.0.to_string().into()
    }
}

impl<T: FromStr> TryGetable for Stored<T> {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let text = String::try_get_by(row, index)?;
        parse(&text).map_err(|error| TryGetError::DbErr(sea_orm::DbErr::Type(error)))
    }
}

fn parse<T: FromStr>(text: &str) -> Result<Stored<T>, String> {
    text.parse().map(Stored).map_err(|_| format!("{text:?} is not a {}", std::any::type_name::<T>()))
}

impl<T: FromStr> ValueType for Stored<T> {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let text = <String as ValueType>::try_from(value)?;
        parse(&text).map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        std::any::type_name::<T>().to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::String
    }

    fn column_type() -> ColumnType {
        ColumnType::Text
    }
}

impl<T> Nullable for Stored<T> {
    fn null() -> Value {
        Value::String(None)
    }
}

/// A number of bytes or things; read through `*`. What does not fit 63 bits is kept as the largest that does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(pub u64);

impl Deref for Count {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<u32> for Count {
    fn from(number: u32) -> Self {
        Self(u64::from(number))
    }
}

impl From<Count> for Value {
    fn from(count: Count) -> Self {
        TryInto::<i64>::try_into(count.0).unwrap_or(i64::MAX).into()
    }
}

impl TryGetable for Count {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let number = i64::try_get_by(row, index)?;
        let negative = |_| TryGetError::DbErr(sea_orm::DbErr::Type(format!("{number} is negative")));
        number.try_into().map(Self).map_err(negative)
    }
}

impl ValueType for Count {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let number = <i64 as ValueType>::try_from(value)?;
        number.try_into().map(Self).map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        "Count".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::BigInt
    }

    fn column_type() -> ColumnType {
        ColumnType::BigInteger
    }
}

impl Nullable for Count {
    fn null() -> Value {
        Value::BigInt(None)
    }
}

/// A point in time as both databases keep it: UTC, whole microseconds; read through `*`.
///
/// SQLite keeps a text that sorts like the time (an RFC 3339 text with a variable fraction does not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        OffsetDateTime::now_utc().into()
    }
}

impl Deref for Timestamp {
    type Target = OffsetDateTime;

    fn deref(&self) -> &OffsetDateTime {
        &self.0
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        let utc = time.to_offset(time::UtcOffset::UTC);
        let nanoseconds = utc.nanosecond() / 1000 * 1000;
        Self(utc.replace_nanosecond(nanoseconds).unwrap_or(utc))
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl From<Timestamp> for Value {
    fn from(timestamp: Timestamp) -> Self {
        PrimitiveDateTime::new(timestamp.0.date(), timestamp.0.time()).into()
    }
}

impl TryGetable for Timestamp {
    fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
        PrimitiveDateTime::try_get_by(row, index).map(|time| time.assume_utc().into())
    }
}

impl ValueType for Timestamp {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        <PrimitiveDateTime as ValueType>::try_from(value).map(|time| time.assume_utc().into())
    }

    fn type_name() -> String {
        "Timestamp".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::TimeDateTime
    }

    fn column_type() -> ColumnType {
        ColumnType::DateTime
    }
}

impl Nullable for Timestamp {
    fn null() -> Value {
        Value::TimeDateTime(None)
    }
}

/// Largest free text kept, in bytes: MariaDB's TEXT takes 65,535.
pub(crate) const MAX_TEXT_BYTES: usize = 60_000;
/// Longest short text kept, in characters: the width of the columns.
pub(crate) const MAX_SHORT_CHARS: usize = 255;

/// A free text, cut to what its column takes.
pub(crate) fn bounded_text(mut text: String) -> String {
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    text.truncate(end);
    text
}

/// A short text, cut to what its column takes.
pub(crate) fn short_text(text: &str) -> String {
    text.chars().take(MAX_SHORT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::status::JobStatus;

    #[test]
    fn a_time_keeps_its_microseconds_and_nothing_finer() {
        let fine = time::macros::datetime!(2026-03-04 05:06:07.123456789 +02:00);
        assert_eq!(*Timestamp::from(fine), time::macros::datetime!(2026-03-04 03:06:07.123456 UTC));
    }

    #[test]
    fn a_status_is_kept_as_its_text_and_nonsense_is_refused() {
        assert_eq!(Value::from(Stored(JobStatus::NeedsOperator)), Value::from("needs_operator"));
        assert!(<Stored<JobStatus> as ValueType>::try_from(Value::from("bogus")).is_err());
    }

    #[test]
    fn a_count_beyond_the_column_is_kept_as_the_largest() {
        assert_eq!(Value::from(Count(u64::MAX)), Value::from(i64::MAX));
        assert!(<Count as ValueType>::try_from(Value::from(-1i64)).is_err());
    }
}
