//! An engine's refusal (`application/problem+json`, RFC 9457) in a few clear lines.
//!
//! What is at fault stands first, then each field on its own line, then when to try again. Something else than an engine
//! may answer, a proxy for one: then the beginning of what it said is shown.

use std::fmt;

use reqwest::StatusCode;
use serde_json::Value;

use super::output::{cell, field};

/// The longest part of an answer that is not a problem object and is still shown, in characters.
const BODY_CHARS_SHOWN_MAX: usize = 300;

/// What the engine said when it did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Problem {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// In words.
    detail: String,
    /// The fields at fault, one line each.
    fields: Vec<String>,
    /// When to try again.
    retry_after: Option<String>,
}

impl Problem {
    /// Reads an answer whose status is no success.
    pub(crate) fn read(status: StatusCode, retry_after: Option<String>, body: &[u8]) -> Self {
        let parsed: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
        let Some(problem) = parsed else {
            let detail = String::from_utf8_lossy(body).trim().chars().take(BODY_CHARS_SHOWN_MAX).collect();
            return Self { status, detail, fields: Vec::new(), retry_after };
        };
        let detail = [field(&problem, "detail"), field(&problem, "title")].into_iter().find(|text| !text.is_empty());
        let line = |error: &Value| {
            let (name, message) = (field(error, "field"), field(error, "message"));
            // A message may begin with the name of its field already.
            let text = if message.starts_with(&name) { message } else { format!("{name} {message}") };
            format!("{} ({})", text.trim(), cell(&error["code"]))
        };
        let fields = problem["errors"].as_array().map(|errors| errors.iter().map(line).collect()).unwrap_or_default();
        Self { status, detail: detail.unwrap_or_default(), fields, retry_after }
    }
}

impl Problem {
    /// How long the engine asks to wait.
    pub(crate) fn retry_after(&self) -> Option<std::time::Duration> {
        self.retry_after.as_deref()?.parse().ok().map(std::time::Duration::from_secs)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.status.canonical_reason().unwrap_or("refused");
        let detail = if self.detail.is_empty() { reason } else { &self.detail };
        write!(f, "{detail} (HTTP {})", self.status.as_u16())?;
        for line in &self.fields {
            write!(f, "\n  {line}")?;
        }
        if let Some(seconds) = &self.retry_after {
            write!(f, "\n  try again in {seconds} s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_its_fields() {
        let body = br#"{"title":"Unprocessable","status":422,"detail":"the body has faults","errors":[
            {"field":"equity","code":"missing","message":"is required"},
            {"field":"side","code":"invalid","message":"side is neither buy nor sell"}]}"#;
        let problem = Problem::read(StatusCode::UNPROCESSABLE_ENTITY, None, body);
        let expected =
            "the body has faults (HTTP 422)\n  equity is required (missing)\n  side is neither buy nor sell (invalid)";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn whatever_answers_is_told() {
        let table: [(StatusCode, Option<&str>, &[u8], &str); 4] = [
            (StatusCode::TOO_MANY_REQUESTS, Some("7"), b"{}", "Too Many Requests (HTTP 429)\n  try again in 7 s"),
            (StatusCode::BAD_GATEWAY, None, b"<html>\xff</html>", "<html>\u{fffd}</html> (HTTP 502)"),
            (StatusCode::NOT_FOUND, None, b"", "Not Found (HTTP 404)"),
            (StatusCode::CONFLICT, None, br#"{"title":"Taken"}"#, "Taken (HTTP 409)"),
        ];
        for (status, retry_after, body, expected) in table {
            assert_eq!(Problem::read(status, retry_after.map(str::to_owned), body).to_string(), expected);
        }
    }
}
