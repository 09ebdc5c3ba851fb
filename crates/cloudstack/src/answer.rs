//! From the bytes of an answer to its payload: lenient JSON and the one-key envelope. Pure.
//!
//! CloudStack un-escapes every `\uXXXX` after serialising, so strings may hold raw control characters and `\=`.
//! Text is repaired only after it failed to parse as it came. Classifying refusals is `refusal`'s affair.

use std::borrow::Cow;

use serde_json::Value;

/// Why an answer has no payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Not JSON, also after repair.
    #[error("the answer is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// JSON, but not an object that holds one object.
    #[error("the answer is not an envelope of one key")]
    NoEnvelope,
}

/// The payload inside the envelope `{"<command>response": {…}}`, whatever its key is called.
pub(crate) fn payload(body: &[u8]) -> Result<Value, AnswerError> {
    let Value::Object(mut envelope) = parse(body)? else { return Err(AnswerError::NoEnvelope) };
    let key = match envelope.len() {
        1 => envelope.keys().next().cloned(),
        _ => envelope.keys().find(|key| key.to_ascii_lowercase().ends_with("response")).cloned(),
    };
    match key.and_then(|key| envelope.remove(&key)) {
        Some(payload @ Value::Object(_)) => Ok(payload),
        _ => Err(AnswerError::NoEnvelope),
    }
}

fn parse(body: &[u8]) -> Result<Value, AnswerError> {
    let text: Cow<'_, str> = String::from_utf8_lossy(body);
    serde_json::from_str(&text).or_else(|_| serde_json::from_str(&repaired(&text))).map_err(AnswerError::NotJson)
}

/// The text with control characters inside strings escaped, and a backslash that escapes nothing made a real one.
fn repaired(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut in_string = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            '\\' if in_string => push_escape(&mut out, &mut rest),
            c if in_string && c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

fn push_escape(out: &mut String, rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    match ahead.next() {
        Some(c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't')) => {
            out.push('\\');
            out.push(c);
            *rest = ahead;
        }
        Some('u') if ahead.clone().take(4).filter(char::is_ascii_hexdigit).count() == 4 => {
            out.push_str("\\u");
            *rest = ahead;
        }
        // `\=` and its like: the backslash is text. The next character is looked at again in its own right.
        _ => out.push_str("\\\\"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, any, proptest};

    #[test]
    fn the_envelope_is_the_single_key_whatever_it_is_called() {
        for (body, payload_text) in [
            (r#"{"listvolumesresponse":{}}"#, "{}"),
            (r#"{"addnictovirtualmachineresponse":{"jobid":"x"}}"#, r#"{"jobid":"x"}"#),
            (r#"{"null":{"errorcode":432}}"#, r#"{"errorcode":432}"#),
            (r#"{"cloud-stack-version":"4.4.1","listzonesresponse":{"count":0}}"#, r#"{"count":0}"#),
        ] {
            assert_eq!(payload(body.as_bytes()).unwrap().to_string(), payload_text, "{body}");
        }
    }

    #[test]
    fn what_is_no_envelope() {
        for body in ["", "<html/>", "[]", "3", r#"{"a":1,"b":2}"#, r#"{"listzonesresponse":"x"}"#, "{}"] {
            assert!(payload(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn damaged_strings_are_repaired() {
        for (inside, expected) in [
            ("a\u{1}b\nc\td", "a\u{1}b\nc\td"),
            (r"k\=v", r"k\=v"),
            (r#"q\"\\\u00e9\/"#, "q\"\\é/"),
            ("x\\\u{2}", "x\\\u{2}"),
            (r"\u00zz\=", r"\u00zz\="),
            ("<&'=>\u{7}", "<&'=>\u{7}"),
        ] {
            let body = format!("{{\n\"r\":{{\"t\":\"{inside}\",\"end\":\"\u{3}\"}}}}");
            let value = payload(body.as_bytes()).unwrap();
            assert_eq!(value["t"], expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = payload(&body);
        }

        #[test]
        fn json_like_text_never_panics(body in r#"[{}\[\]":,\\u0-9a-f=\x00-\x1f]{0,200}"#) {
            let _ = payload(body.as_bytes());
        }

        #[test]
        fn any_text_with_only_its_quotes_and_backslashes_escaped_comes_back(text in any::<String>()) {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let value = payload(format!("{{\"r\":{{\"t\":\"{escaped}\"}}}}").as_bytes()).unwrap();
            assert_eq!(value["t"], text);
        }
    }
}
