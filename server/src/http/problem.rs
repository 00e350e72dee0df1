//! Every error answer: `application/problem+json` (RFC 9457), and nothing that helps an attacker.
//!
//! A problem never carries a stack, SQL, a version or what a dependency said; those go to the log. What was wrong with
//! a field is named, so that a caller learns everything at once. The same object stands on its line of an NDJSON answer.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nexus_actors::engine::{ChangeError, MarksError, ResumeError, SubmitError};
use nexus_actors::ports::LedgerError;
use nexus_store::directory::DirectoryError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::wire::fields::FieldError;
use crate::wire::json::Malformed;

/// An error answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:nexus:problem:invalid-fields", "title": "A field is wrong", "status": 422,
    "detail": "stop_loss must be above zero",
    "errors": [{"field": "stop_loss", "code": "invalid", "message": "stop_loss must be above zero"}]
}))]
pub struct Problem {
    /// A stable name of the kind of problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The kind, in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This problem, in words.
    detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after_s: Option<u64>,
    #[serde(skip)]
    challenge: Option<&'static str>,
}

/// When to try again after the database or the engine was away.
const RETRY_SOON: Duration = Duration::from_secs(1);

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            challenge: None,
        }
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        // Whole seconds, rounded up: a caller that obeys must not come too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.retry_after_s = Some(seconds.clamp(1, 86_400));
        self
    }

    /// 400: not of the expected form.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "urn:nexus:problem:malformed", "The request is malformed", detail)
    }

    /// 401: nobody is signed in.
    pub fn no_credentials() -> Self {
        let detail = "send an access token or an API key as Authorization: Bearer …";
        let mut problem = Self::unauthorized(detail);
        problem.challenge = Some(r#"Bearer realm="nexus""#);
        problem
    }

    /// 401: what was sent does not sign anybody in.
    pub fn bad_credentials() -> Self {
        Self::unauthorized("the token or key is unknown, expired or revoked")
    }

    /// 401: wrong name or password.
    pub fn bad_login() -> Self {
        Self::unauthorized("wrong username or password")
    }

    fn unauthorized(detail: &str) -> Self {
        let title = "Not signed in";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, "urn:nexus:problem:unauthorized", title, detail);
        problem.challenge = Some(r#"Bearer realm="nexus", error="invalid_token""#);
        problem
    }

    /// 403: signed in, but not for this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "urn:nexus:problem:forbidden", "Not allowed", detail)
    }

    /// 404.
    pub fn not_found(what: &str) -> Self {
        let detail = format!("there is no such {what}");
        Self::new(StatusCode::NOT_FOUND, "urn:nexus:problem:not-found", "Not found", detail)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let detail = "this path does not take this method; see the header Allow";
        let title = "Method not allowed";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "urn:nexus:problem:method-not-allowed", title, detail)
    }

    /// 408: the body did not arrive in time.
    pub fn too_slow() -> Self {
        let detail = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "urn:nexus:problem:too-slow", "Too slow", detail)
    }

    /// 409.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "urn:nexus:problem:conflict", "Conflict", detail)
    }

    /// 413: more than `limit` bytes.
    pub fn too_large(what: &str, limit: usize) -> Self {
        let detail = format!("{what} may have at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "urn:nexus:problem:too-large", "Too large", detail)
    }

    /// 415.
    pub fn unsupported_media_type(expected: &str) -> Self {
        let detail = format!("send the body with Content-Type: {expected}");
        let title = "Unsupported media type";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "urn:nexus:problem:unsupported-media-type", title, detail)
    }

    /// 422: well-formed, but fields are wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.message.clone(),
            several => format!("{} fields are wrong", several.len()),
        };
        let title = "A field is wrong";
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "urn:nexus:problem:invalid-fields", title, detail);
        problem.errors = errors;
        problem
    }

    /// 422 for one field.
    pub fn invalid_field(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { field: field.to_owned(), code, message: message.into() }])
    }

    /// 403 with the fields that ask for what is not allowed.
    pub fn forbidden_fields(detail: impl Into<String>, errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::forbidden(detail) }
    }

    /// 429.
    pub fn overloaded(detail: impl Into<String>, wait: Duration) -> Self {
        let title = "Too much is under way";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "urn:nexus:problem:overloaded", title, detail).retry_after(wait)
    }

    /// 429: a name is locked for a while, whether or not anybody is called that.
    pub fn locked(wait: Duration) -> Self {
        let detail = "too many logins of this name have failed; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "urn:nexus:problem:locked", "Locked for a while", detail)
            .retry_after(wait)
    }

    /// 503.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "Not available now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "urn:nexus:problem:unavailable", title, detail)
            .retry_after(RETRY_SOON)
    }

    /// 500. What happened is in the log, under the request id.
    pub fn internal() -> Self {
        let detail = "something went wrong; the log knows it by the request id of this answer";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "urn:nexus:problem:internal", "Internal error", detail)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// This problem as one line of JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|_| b"{\"status\":500}".to_vec())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), self.to_json()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<Malformed> for Problem {
    fn from(error: Malformed) -> Self {
        Self::malformed(error.0)
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::invalid(errors)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "the ledger failed a request");
        match error {
            LedgerError::Unavailable(_) => Self::unavailable("the ledger is away; nothing was changed"),
            LedgerError::InDoubt(_) => Self::unavailable("the ledger did not say whether it was done; send it again"),
            LedgerError::Corrupt(_) => Self::internal(),
        }
    }
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Taken(what) => Self::conflict(format!("{what} is taken")),
            DirectoryError::Unknown(what) => Self::not_found(what),
            DirectoryError::Unavailable(ref why) => {
                tracing::error!(%why, "the directory failed a request");
                Self::unavailable("the database is away; nothing was changed")
            }
        }
    }
}

impl From<MarksError> for Problem {
    fn from(error: MarksError) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Overloaded { retry_after } => {
                Self::overloaded("too many decisions are under way; nothing was changed", retry_after)
            }
            SubmitError::KeyReused => Self::conflict("this id was used for another signal"),
            SubmitError::UnknownUser => Self::invalid_field("user_id", "unknown", "user_id names nobody"),
            SubmitError::Ledger(error) => error.into(),
            SubmitError::NotServing(why) => Self::unavailable(format!("the engine is not serving: {why}")),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnknownUser => Self::not_found("user"),
            ChangeError::Ledger(error) => error.into(),
            ChangeError::NotServing(why) => Self::unavailable(format!("the engine is not serving: {why}")),
        }
    }
}

impl From<ResumeError> for Problem {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Hold(wait) => {
                let detail = format!("trading may be resumed in {} s", wait.as_millis().div_ceil(1_000));
                Self::conflict(detail).retry_after(wait)
            }
            ResumeError::NotDurable(why) => {
                tracing::error!(%why, "a resume was not durable");
                Self::unavailable("the resume could not be made durable; trading is still halted")
            }
            ResumeError::Overtaken => Self::conflict("a stop came meanwhile; trading is still stopped"),
            ResumeError::Starting => Self::unavailable("the engine is still starting"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_status_and_say_when_to_try_again() {
        let table = [
            (Problem::from(SubmitError::Overloaded { retry_after: Duration::from_millis(1_001) }), 429, Some("2")),
            (SubmitError::KeyReused.into(), 409, None),
            (SubmitError::UnknownUser.into(), 422, None),
            (SubmitError::NotServing("starting").into(), 503, Some("1")),
            (LedgerError::Unavailable("SELECT secret".into()).into(), 503, Some("1")),
            (LedgerError::Corrupt("row 7".into()).into(), 500, None),
            (DirectoryError::Taken("username").into(), 409, None),
            (DirectoryError::Unknown("feed").into(), 404, None),
            (ResumeError::Hold(Duration::from_secs(60)).into(), 409, Some("60")),
            (ResumeError::Overtaken.into(), 409, None),
            (Problem::no_credentials(), 401, None),
        ];
        for (problem, status, retry_after) in table {
            let body = String::from_utf8(problem.to_json()).expect("text");
            assert!(!body.contains("SELECT") && !body.contains("row 7"), "{body}");
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status);
            let header = response.headers().get(RETRY_AFTER).map(|value| value.to_str().expect("ascii").to_owned());
            assert_eq!(header.as_deref(), retry_after, "{status}");
            assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), status == 401);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        }
    }
}
