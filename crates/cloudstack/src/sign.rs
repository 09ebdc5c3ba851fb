//! Request signing, version 3: pure functions from parameters and a secret key to the signature.
//!
//! The server rebuilds the same text from the decoded parameters, so every byte matters: names sorted by bytes before
//! they are lower-cased, names raw, values escaped as Java's `URLEncoder` does but with `%20` for a space, and the
//! whole text lower-cased at the end. Knows nothing of HTTP and reads no clock.

use std::fmt::Write as _;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use time::OffsetDateTime;

/// How long a signed request stays valid, in seconds. Servers that enforce timestamps allow at most 15 minutes ahead of
/// their own clock; five minutes tolerate a clock that is up to five minutes behind or ten ahead.
pub const VALIDITY_SECONDS: i64 = 300;

/// The text that is signed, for parameters in any order. `signature` itself must not be among them.
#[must_use]
pub fn canonical_text<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut pairs: Vec<(&str, &str)> = params.into_iter().collect();
    pairs.sort_unstable();
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        push_escaped(&mut text, value);
    }
    text.to_lowercase()
}

/// The signature of the parameters: HMAC-SHA1 of [`canonical_text`] in standard, padded Base64, not yet URL-encoded.
#[must_use]
pub fn signature<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>, secret_key: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret_key.expose().as_bytes());
    STANDARD.encode(hmac::sign(&key, canonical_text(params).as_bytes()))
}

/// The `expires` parameter for a request signed at `now`: `2030-01-01T00:00:00+0000`.
#[must_use]
pub fn expires_at(now: OffsetDateTime) -> String {
    let end = now.to_offset(time::UtcOffset::UTC).saturating_add(time::Duration::seconds(VALIDITY_SECONDS));
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}+0000",
        end.year(),
        u8::from(end.month()),
        end.day(),
        end.hour(),
        end.minute(),
        end.second()
    )
}

fn push_escaped(text: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => text.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("apiKey", "KEY-abc_123");

    fn check(params: &[(&str, &str)], secret: &str, text: Option<&str>, expected: &str) {
        if let Some(text) = text {
            assert_eq!(canonical_text(params.iter().copied()), text);
        }
        assert_eq!(signature(params.iter().copied(), &Secret::new(secret)), expected);
    }

    #[test]
    fn the_official_example() {
        check(
            &[
                ("apikey", "plgWJfZK4gyS3mOMTVmjUVg-X-jlWlnfaUJ9GAbBbf9EdM-kAYMmAiLqzzq1ElZLYq_u38zCm0bewzGUdP66mg"),
                ("command", "listUsers"),
                ("response", "json"),
            ],
            "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ",
            None,
            "TTpdDq/7j/J58XCRHomKoQXEQds=",
        );
    }

    #[test]
    fn odd_characters_in_values() {
        check(
            &[
                ("command", "createVolume"),
                KEY,
                ("response", "json"),
                ("name", "disk 0 ~*'()!@/+:é"),
                ("zoneid", "1d8d87d4-1425-459c-8d81-c6f57dca2bd2"),
            ],
            "SECRET-xyz_789",
            Some(concat!(
                "apikey=key-abc_123&command=createvolume",
                "&name=disk%200%20%7e*%27%28%29%21%40%2f%2b%3a%c3%a9&response=json",
                "&zoneid=1d8d87d4-1425-459c-8d81-c6f57dca2bd2"
            )),
            "3PGv2U0zu8xQUiBwt1vQ5pziVK0=",
        );
    }

    #[test]
    fn maps_sort_by_their_original_bytes_and_version_three_signs_the_expiry() {
        check(
            &[
                ("command", "deployVirtualMachine"),
                KEY,
                ("response", "json"),
                ("details[2].b", "2"),
                ("details[10].a", "1"),
                ("details[0].rootDiskController", "virtio"),
                ("details[0].UEFI", "SECURE"),
                ("expires", "2030-01-01T00:00:00+0000"),
                ("signatureVersion", "3"),
            ],
            "SECRET-xyz_789",
            Some(concat!(
                "apikey=key-abc_123&command=deployvirtualmachine&details[0].uefi=secure",
                "&details[0].rootdiskcontroller=virtio&details[10].a=1&details[2].b=2",
                "&expires=2030-01-01t00%3a00%3a00%2b0000&response=json&signatureversion=3"
            )),
            "sEuRuV0j/leCAKyIY8/jFggYJ3U=",
        );
    }

    #[test]
    fn the_expiry_is_five_minutes_ahead_and_has_no_colon_in_its_offset() {
        let now = time::macros::datetime!(2029-12-31 23:56:30 UTC);
        assert_eq!(expires_at(now), "2030-01-01T00:01:30+0000");
        let elsewhere = time::macros::datetime!(2030-01-01 05:26:30 +5:30);
        assert_eq!(expires_at(elsewhere), "2030-01-01T00:01:30+0000");
    }
}
