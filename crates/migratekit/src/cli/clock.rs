//! Times and durations in words. Pure.

use time::macros::format_description;
use time::{Duration, OffsetDateTime};

/// Age up to which a time is told as an age.
const RECENT: Duration = Duration::days(7);

/// A time to the second, UTC; `-` when there is none.
pub fn stamp(at: Option<OffsetDateTime>) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.and_then(|at| at.to_offset(time::UtcOffset::UTC).format(&format).ok()).unwrap_or_else(|| "-".to_owned())
}

/// How long ago something was; its date when that is long; `-` when it was never.
pub fn ago(at: Option<OffsetDateTime>) -> String {
    age(at, OffsetDateTime::now_utc())
}

fn age(at: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let age = now - at;
    // Another machine's clock may be a little ahead.
    if age < Duration::seconds(-60) || age > RECENT {
        return stamp(Some(at));
    }
    match age.whole_seconds() {
        ..5 => "just now".to_owned(),
        seconds @ 5..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// How long something took, or has taken so far; `-` when it never began.
pub fn took(began: Option<OffsetDateTime>, ended: Option<OffsetDateTime>) -> String {
    let Some(began) = began else { return "-".to_owned() };
    let took = (ended.unwrap_or_else(OffsetDateTime::now_utc) - began).max(Duration::ZERO);
    if took < Duration::minutes(1) {
        return format!("{:.1} s", took.as_seconds_f64());
    }
    duration(took.whole_seconds().unsigned_abs())
}

/// Whole seconds in words.
pub fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Reads a span of time as it is typed: `90s`, `10m`, `2h`, `1d`; a bare number is seconds.
///
/// # Errors
/// What was expected instead.
pub fn seconds_of(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
    seconds.filter(|&seconds| seconds > 0).ok_or_else(|| "expected a time such as 90s, 10m, 2h or 1d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(5, "5 s"), (65, "1 min 5 s"), (7325, "2 h 2 min")] {
            assert_eq!(duration(seconds), text);
        }
        let began = datetime!(2026-01-02 03:04:05 UTC);
        assert_eq!(took(Some(began), Some(began + Duration::milliseconds(1540))), "1.5 s");
        assert_eq!(took(Some(began), Some(began + Duration::seconds(90))), "1 min 30 s");
        assert_eq!(took(None, None), "-");
    }

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(seconds_of(text), Ok(seconds), "{text}");
        }
        for text in ["", "h", "0s", "-1s", "2w", "1.5h", "99999999999999999999s", "18446744073709551615d"] {
            assert!(seconds_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_recent_is_told_as_an_age() {
        let now = datetime!(2026-01-09 03:04:05 UTC);
        for (seconds, text) in [
            (-2, "just now"),
            (59, "59 s ago"),
            (3599, "59 min ago"),
            (90_000, "25 h ago"),
            (200_000, "2 days ago"),
            (700_000, "2026-01-01 00:37:25 UTC"),
            (-120, "2026-01-09 03:06:05 UTC"),
        ] {
            assert_eq!(age(Some(now - Duration::seconds(seconds)), now), text);
        }
        assert_eq!(age(None, now), "-");
    }
}
