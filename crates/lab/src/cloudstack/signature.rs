//! How a CloudStack server checks a request's signature: canonical text, HMAC-SHA1, expiry.
//!
//! Pure functions over decoded parameters and a clock reading. Written from the protocol, not from the product's client,
//! so that an error in one of the two shows.

use aws_lc_rs::hmac;
use base64::Engine as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// The text whose HMAC is the signature: parameters but `signature`, sorted by original name, values encoded, all in lower case.
#[must_use]
pub fn canonical_text(parameters: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> =
        parameters.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("signature")).collect();
    sorted.sort_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
    let pairs: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={}", encode_value(value))).collect();
    pairs.join("&").to_lowercase()
}

/// The Base64 signature of the parameters under a secret key (not yet encoded for a URL).
#[must_use]
pub fn signature_of(parameters: &[(String, String)], secret_key: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret_key.as_bytes());
    let tag = hmac::sign(&key, canonical_text(parameters).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(tag.as_ref())
}

/// Java's `URLEncoder` for UTF-8 with `+` turned into `%20`: only `A-Z a-z 0-9 . - * _` stay.
#[must_use]
pub fn encode_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'*' | b'_') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether a version 3 `expires` value is readable and lies after `now`.
#[must_use]
pub fn is_still_valid(expires: &str, now: OffsetDateTime) -> bool {
    parse_expiry(expires).is_some_and(|moment| moment > now)
}

/// Reads `2030-01-01T00:00:00+0000`, `…Z` and `…+00:00`.
#[must_use]
pub fn parse_expiry(text: &str) -> Option<OffsetDateTime> {
    let without_colon =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][offset_hour sign:mandatory][offset_minute]");
    OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &without_colon)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn published_vectors() {
        let documented_key = "plgWJfZK4gyS3mOMTVmjUVg-X-jlWlnfaUJ9GAbBbf9EdM-kAYMmAiLqzzq1ElZLYq_u38zCm0bewzGUdP66mg";
        let documented_secret =
            "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ";
        let cases = [
            (
                "V1",
                documented_secret,
                owned(&[("apikey", documented_key), ("command", "listUsers"), ("response", "json")]),
                "TTpdDq/7j/J58XCRHomKoQXEQds=",
            ),
            (
                "V2",
                "SECRET-xyz_789",
                owned(&[
                    ("command", "createVolume"),
                    ("apiKey", "KEY-abc_123"),
                    ("response", "json"),
                    ("name", "disk 0 ~*'()!@/+:é"),
                    ("zoneid", "1d8d87d4-1425-459c-8d81-c6f57dca2bd2"),
                ]),
                "3PGv2U0zu8xQUiBwt1vQ5pziVK0=",
            ),
            (
                "V3",
                "SECRET-xyz_789",
                owned(&[
                    ("signatureVersion", "3"),
                    ("details[2].b", "2"),
                    ("command", "deployVirtualMachine"),
                    ("apiKey", "KEY-abc_123"),
                    ("response", "json"),
                    ("details[0].rootDiskController", "virtio"),
                    ("details[0].UEFI", "SECURE"),
                    ("details[10].a", "1"),
                    ("expires", "2030-01-01T00:00:00+0000"),
                    ("signature", "is left out"),
                ]),
                "sEuRuV0j/leCAKyIY8/jFggYJ3U=",
            ),
        ];
        for (name, secret, parameters, expected) in cases {
            assert_eq!(signature_of(&parameters, secret), expected, "{name}");
        }
    }

    #[test]
    fn canonical_text_is_sorted_before_it_is_lowered() {
        let text = canonical_text(&owned(&[("b", "X Y"), ("apikey", "k"), ("apiKey", "K"), ("Z", "~*é")]));
        assert_eq!(text, "z=%7e*%c3%a9&apikey=k&apikey=k&b=x%20y");
    }

    #[test]
    fn expiry_forms() {
        let now = time::macros::datetime!(2029-12-31 23:59:59 UTC);
        let cases = [
            ("2030-01-01T00:00:00+0000", true),
            ("2030-01-01T00:00:00Z", true),
            ("2030-01-01T00:00:00+00:00", true),
            ("2030-01-01T05:30:00+0530", true),
            ("2029-12-31T23:59:59+0000", false),
            ("2030-01-01T00:59:58+0100", false),
            ("2030-01-01", false),
            ("", false),
        ];
        for (text, valid) in cases {
            assert_eq!(is_still_valid(text, now), valid, "{text}");
        }
    }
}
