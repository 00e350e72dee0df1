//! Strict JSON: what is not exactly one value of the expected form is malformed.
//!
//! `serde_json` refuses duplicate fields of a struct, and every body type refuses unknown ones. Its messages name the
//! field and the place but may echo what was sent, so they are cut to a length that no answer suffers from.

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::objects::Objects;

/// The longest echo of what was sent, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// A body that is not of the expected form; in words.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Reads exactly one JSON value.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed("the body is not UTF-8".to_owned()))?;
    if text.trim_ascii().is_empty() {
        return Err(Malformed("the body is empty; a JSON value is expected".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Objects(&mut json));
    value.and_then(|value| json.end().map(|()| value)).map_err(|error| Malformed(cut(&error.to_string())))
}

/// Whether a body is a JSON array, judged by its first character.
pub fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        #[serde(rename = "a")]
        _a: String,
    }

    #[test]
    fn what_is_not_exactly_one_value_of_the_form_is_malformed() {
        let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
        let long = format!("{{\"{}\":1}}", "x".repeat(100_000));
        let table: [&[u8]; 12] = [
            b"",
            b"   ",
            b"{",
            b"{\"a\":1}",
            b"{\"a\":\"1\",\"a\":\"1\"}",
            b"{\"a\":\"1\",\"b\":\"1\"}",
            b"{\"a\":\"1\"} x",
            b"[\"1\"]",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":NaN}",
            deep.as_bytes(),
            long.as_bytes(),
        ];
        for body in table {
            let error = decode::<Pair>(body).expect_err("malformed");
            assert!(error.0.chars().count() <= MESSAGE_CHARS_MAX + 1);
        }
        assert!(decode::<Pair>(b" {\"a\":\"1\"} ").is_ok());
    }

    #[test]
    fn an_array_is_known_by_its_first_character() {
        assert!(is_array(b" \n[1]"));
        assert!(!is_array(b"{}"));
        assert!(!is_array(b""));
    }
}
