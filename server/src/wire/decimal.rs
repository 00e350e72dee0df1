//! A number as it was typed: a JSON string or a JSON number, with all its digits.
//!
//! `serde_json` would read a number into a double; here the raw text is kept and the engine's exact parser judges it.
//! So `0.1` and `"0.1"` are the same, and `0.10000000000000000001` is refused instead of rounded.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};

/// The text of a number that has not been judged yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WireDecimal(String);

impl WireDecimal {
    /// The number as it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number as it was typed.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for WireDecimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        match raw.as_bytes().first() {
            Some(b'"') => {
                let text: Cow<'_, str> = serde_json::from_str(raw).map_err(D::Error::custom)?;
                Ok(Self(text.into_owned()))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Self(raw.to_owned())),
            _ => Err(D::Error::custom("a number, or a number in a string, is expected")),
        }
    }
}

impl utoipa::PartialSchema for WireDecimal {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .description(Some("A decimal number in a string; the form that is preferred"))
            .examples(["1.085"]);
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Number))
            .description(Some("A JSON number; its digits are taken exactly as typed"));
        OneOfBuilder::new()
            .item(text)
            .item(number)
            .description(Some("A decimal number of at most 8 decimal places, taken exactly or refused"))
            .into()
    }
}

impl utoipa::ToSchema for WireDecimal {
    fn name() -> Cow<'static, str> {
        "Decimal".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_kept_as_typed() {
        for (json, expected) in [
            ("1.08500", "1.08500"),
            ("\"1.085\"", "1.085"),
            ("1e309", "1e309"),
            ("0.10000000000000000001", "0.10000000000000000001"),
            ("-1", "-1"),
            ("\"NaN\"", "NaN"),
            ("\"\\u0031\"", "1"),
        ] {
            assert_eq!(serde_json::from_str::<WireDecimal>(json).expect(json).as_str(), expected);
        }
        for wrong in ["true", "null", "[]", "{}", "[1]", "NaN", "+1", "01", ".5"] {
            assert!(serde_json::from_str::<WireDecimal>(wrong).is_err(), "{wrong}");
        }
    }
}
