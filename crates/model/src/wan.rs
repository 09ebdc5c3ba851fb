//! How an agent behaves on the link between two sites: compression, and limits of bandwidth by time of day.
//!
//! Values and a pure schedule; whoever asks brings the time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes of one MiB.
const MIB_BYTES: u64 = 1 << 20;
/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// Most limits of one list: a window for each hour of a day, and some.
pub const MAX_BANDWIDTH_LIMITS: usize = 32;

/// Whether what is sent over the data plane is compressed.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::Display,
    strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CompressionMode {
    /// Where it pays: the link is slower than the compressor.
    #[default]
    Auto,
    /// Whatever becomes shorter by it.
    On,
    /// Nothing.
    Off,
}

/// A day of the week.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
    strum::Display,
    strum::EnumString,
    strum::FromRepr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// The day so many days after Monday.
    #[must_use]
    pub fn from_monday(days: u32) -> Option<Self> {
        u8::try_from(days).ok().and_then(Self::from_repr)
    }

    fn before(self) -> Self {
        match self {
            Self::Mon => Self::Sun,
            Self::Tue => Self::Mon,
            Self::Wed => Self::Tue,
            Self::Thu => Self::Wed,
            Self::Fri => Self::Thu,
            Self::Sat => Self::Fri,
            Self::Sun => Self::Sat,
        }
    }
}

/// A time of the day, in whole minutes; 24:00 is its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

/// What is wrong with a limit of bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BandwidthLimitError {
    /// A text is no time of day.
    #[error("a time of day is written HH:MM, from 00:00 to 24:00")]
    Time,
    /// One end of a window is missing.
    #[error("a window has a beginning and an end, or neither")]
    HalfWindow,
    /// Both ends are the same.
    #[error("a window that ends when it begins is none; leave both out for all day")]
    EmptyWindow,
}

impl TimeOfDay {
    /// The beginning of a day.
    pub const MIDNIGHT: Self = Self(0);

    /// The time so many minutes after midnight.
    ///
    /// # Errors
    /// There are more than a day has.
    pub fn from_minutes(minutes: u16) -> Result<Self, BandwidthLimitError> {
        if minutes > DAY_MINUTES { Err(BandwidthLimitError::Time) } else { Ok(Self(minutes)) }
    }
}

impl FromStr for TimeOfDay {
    type Err = BandwidthLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let two_digits = |part: &str| {
            let is_number = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<u16>().ok().filter(|_| is_number)
        };
        let (hours, minutes) = text.split_once(':').ok_or(BandwidthLimitError::Time)?;
        match (two_digits(hours), two_digits(minutes)) {
            (Some(hours), Some(minutes @ 0..60)) => Self::from_minutes(hours * 60 + minutes),
            _ => Err(BandwidthLimitError::Time),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = BandwidthLimitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

/// A moment as a clock on the wall shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime {
    /// The day.
    pub day: Weekday,
    /// The time, before 24:00.
    pub time: TimeOfDay,
}

/// How much may be sent, always or in a daily window. A window whose end lies before its beginning goes over midnight and
/// belongs to the day it begins on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "WrittenLimit")]
pub struct BandwidthLimit {
    #[schema(value_type = u32, minimum = 1)]
    mib_per_s: NonZeroU32,
    #[schema(value_type = Option<String>, example = "08:00")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<TimeOfDay>,
    #[schema(value_type = Option<String>, example = "18:00")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<TimeOfDay>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<Weekday>,
}

/// A [`BandwidthLimit`] as it is written, before its window is looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimit {
    mib_per_s: NonZeroU32,
    from: Option<TimeOfDay>,
    to: Option<TimeOfDay>,
    #[serde(default)]
    days: Vec<Weekday>,
}

impl TryFrom<WrittenLimit> for BandwidthLimit {
    type Error = BandwidthLimitError;

    fn try_from(written: WrittenLimit) -> Result<Self, Self::Error> {
        let window = match (written.from, written.to) {
            (None, None) => None,
            (Some(from), Some(to)) => Some((from, to)),
            _ => return Err(BandwidthLimitError::HalfWindow),
        };
        Self::new(written.mib_per_s, window, written.days)
    }
}

impl BandwidthLimit {
    /// So many MiB per second, always or in a window, on all days or on some.
    ///
    /// # Errors
    /// The window ends when it begins.
    pub fn new(
        mib_per_s: NonZeroU32,
        window: Option<(TimeOfDay, TimeOfDay)>,
        days: Vec<Weekday>,
    ) -> Result<Self, BandwidthLimitError> {
        if window.is_some_and(|(from, to)| from == to) {
            return Err(BandwidthLimitError::EmptyWindow);
        }
        Ok(Self { mib_per_s, from: window.map(|(from, _)| from), to: window.map(|(_, to)| to), days })
    }

    /// The limit, in bytes per second.
    #[must_use]
    pub fn bytes_per_s(&self) -> u64 {
        u64::from(self.mib_per_s.get()) * MIB_BYTES
    }

    /// Whether it is in force.
    #[must_use]
    pub fn applies_at(&self, now: WallTime) -> bool {
        let on = |day| self.days.is_empty() || self.days.contains(&day);
        match (self.from, self.to) {
            (Some(from), Some(to)) if from < to => on(now.day) && from <= now.time && now.time < to,
            (Some(from), Some(to)) => (on(now.day) && from <= now.time) || (on(now.day.before()) && now.time < to),
            _ => on(now.day),
        }
    }
}

impl fmt::Display for BandwidthLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB/s", self.mib_per_s)?;
        if let (Some(from), Some(to)) = (self.from, self.to) {
            write!(f, " {from}-{to}")?;
        }
        for (index, day) in self.days.iter().enumerate() {
            write!(f, "{}{day}", if index == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

/// The lowest limit in force, in bytes per second; none when none is.
///
/// A clock that is set forward or back, for the summer or otherwise, needs no rule of its own: a window is in force whenever
/// the clock on the wall shows a time in it. An hour that is skipped is skipped, one that comes twice counts twice.
#[must_use]
pub fn lowest_limit<'a>(limits: impl IntoIterator<Item = &'a BandwidthLimit>, now: WallTime) -> Option<u64> {
    limits.into_iter().filter(|limit| limit.applies_at(now)).map(BandwidthLimit::bytes_per_s).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(mib_per_s: u32, window: &str, days: &[Weekday]) -> BandwidthLimit {
        let window = window.split_once('-').map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        BandwidthLimit::new(NonZeroU32::new(mib_per_s).unwrap(), window, days.to_vec()).unwrap()
    }

    fn at(day: Weekday, time: &str) -> WallTime {
        WallTime { day, time: time.parse().unwrap() }
    }

    #[test]
    fn windows_begin_on_time_end_before_their_end_and_go_over_midnight() {
        use Weekday::{Fri, Mon, Sat, Sun, Tue};
        let table: [(&str, &[Weekday], WallTime, bool); 18] = [
            ("", &[], at(Mon, "03:00"), true),
            ("", &[Mon], at(Mon, "23:59"), true),
            ("", &[Mon], at(Tue, "00:00"), false),
            ("08:00-18:00", &[], at(Sun, "07:59"), false),
            ("08:00-18:00", &[], at(Sun, "08:00"), true),
            ("08:00-18:00", &[], at(Sun, "17:59"), true),
            ("08:00-18:00", &[], at(Sun, "18:00"), false),
            ("08:00-18:00", &[Mon, Fri], at(Fri, "12:00"), true),
            ("08:00-18:00", &[Mon, Fri], at(Sat, "12:00"), false),
            ("00:00-24:00", &[Sat], at(Sat, "23:59"), true),
            ("22:00-06:00", &[], at(Mon, "21:59"), false),
            ("22:00-06:00", &[], at(Mon, "22:00"), true),
            ("22:00-06:00", &[], at(Tue, "05:59"), true),
            ("22:00-06:00", &[], at(Tue, "06:00"), false),
            ("22:00-06:00", &[Fri], at(Sat, "01:00"), true),
            ("22:00-06:00", &[Fri], at(Fri, "01:00"), false),
            ("22:00-06:00", &[Sun], at(Mon, "00:00"), true),
            ("22:00-06:00", &[Sat], at(Sat, "23:00"), true),
        ];
        for (window, days, now, expected) in table {
            assert_eq!(limit(1, window, days).applies_at(now), expected, "{window} {days:?} {now:?}");
        }
    }

    #[test]
    fn the_lowest_limit_in_force_counts() {
        let limits = [limit(50, "", &[]), limit(10, "08:00-18:00", &[]), limit(20, "12:00-13:00", &[])];
        assert_eq!(lowest_limit(&limits, at(Weekday::Mon, "12:30")), Some(10 << 20));
        assert_eq!(lowest_limit(&limits, at(Weekday::Mon, "19:00")), Some(50 << 20));
        assert_eq!(lowest_limit(&limits[1..], at(Weekday::Mon, "19:00")), None);
    }

    /// The clocks of one night in March and one in October: every time that was shown, and nothing else, is asked for.
    #[test]
    fn an_hour_that_is_skipped_or_comes_twice_is_judged_by_the_clock_on_the_wall() {
        let night = [limit(5, "02:30-03:30", &[])];
        let in_march = ["01:59", "03:00", "03:29", "03:30"].map(|time| lowest_limit(&night, at(Weekday::Sun, time)));
        assert_eq!(in_march, [None, Some(5 << 20), Some(5 << 20), None]);
        let in_october = ["02:29", "02:59", "02:00", "02:29", "02:30"];
        let in_october = in_october.map(|time| lowest_limit(&night, at(Weekday::Sun, time)).is_some());
        assert_eq!(in_october, [false, true, false, false, true]);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in ["8:00", "08:60", "24:01", "0800", "08:00:00", "-1:00", "+8:00", ""] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
        assert_eq!("24:00".parse::<TimeOfDay>().unwrap().to_string(), "24:00");
        let ten = NonZeroU32::MIN;
        let noon: TimeOfDay = "12:00".parse().unwrap();
        assert_eq!(BandwidthLimit::new(ten, Some((noon, noon)), vec![]), Err(BandwidthLimitError::EmptyWindow));
        let half = WrittenLimit { mib_per_s: ten, from: Some(noon), to: None, days: vec![] };
        assert_eq!(BandwidthLimit::try_from(half), Err(BandwidthLimitError::HalfWindow));
    }

    #[test]
    fn people_read_what_was_written() {
        let limit = limit(10, "08:00-18:00", &[Weekday::Mon, Weekday::Tue]);
        assert_eq!(limit.to_string(), "10 MiB/s 08:00-18:00 mon,tue");
    }
}
