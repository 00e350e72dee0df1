//! What is wrong with the fields of a well-formed body, gathered so that a caller learns everything at once.
//!
//! Every body type reads its fields through this collector. Its codes are stable and its messages are for people; both end
//! up in the `errors` of a problem.

use std::fmt::Display;
use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

use super::decimal::WireDecimal;

/// One thing that is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// The field as the body spells it; an element of a list as `[3].bid`.
    #[schema(example = "stop_loss")]
    pub field: String,
    /// A stable code.
    #[schema(example = "invalid")]
    pub code: &'static str,
    /// In words.
    #[schema(example = "stop_loss must be above zero")]
    pub message: String,
}

/// Collects what is wrong while fields are read one by one.
#[derive(Default)]
pub struct Fields {
    prefix: String,
    errors: Vec<FieldError>,
}

impl Fields {
    /// For the fields of element `index` of a list.
    pub fn of_element(index: usize) -> Self {
        Self { prefix: format!("[{index}]."), errors: Vec::new() }
    }

    /// Notes that something is wrong with a field.
    pub fn refuse(&mut self, field: &str, code: &'static str, why: impl Display) {
        let message = format!("{field} {why}");
        self.errors.push(FieldError { field: format!("{}{field}", self.prefix), code, message });
    }

    /// Reads a text that must be there.
    pub fn require<T: FromStr<Err: Display>>(&mut self, field: &str, text: Option<&str>) -> Option<T> {
        if text.is_none() {
            self.refuse(field, "missing", "is required");
        }
        self.optional(field, text)
    }

    /// Reads a text when it is there.
    pub fn optional<T: FromStr<Err: Display>>(&mut self, field: &str, text: Option<&str>) -> Option<T> {
        match text?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(field, "invalid", error);
                None
            }
        }
    }

    /// Reads a number when it is there.
    pub fn number<T: FromStr<Err: Display>>(&mut self, field: &str, number: Option<&WireDecimal>) -> Option<T> {
        self.optional(field, number.map(WireDecimal::as_str))
    }

    /// Whether nothing is wrong so far.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// `value`, if it was read and nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<FieldError>> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(self.errors),
        }
    }
}

/// Whether a name given to a user or feed has a form that stays readable in logs, paths and command lines.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err("must be 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', '@', '+'");
    }
    if uuid::Uuid::try_parse(name).is_ok() {
        return Err("must not look like an id");
    }
    Ok(())
}
