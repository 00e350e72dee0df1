//! Bodies: read within a bound of bytes and time, and decoded once.
//!
//! A declared length beyond the bound is refused before a byte is read; an undeclared one is counted as it comes. The
//! time runs for the whole body, not for its pieces, so that a drip does not hold a connection.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

use super::app::App;
use super::problem::Problem;
use crate::wire::json;

/// The most bytes of a body, or of a line of a stream.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A body that must be JSON of the form `T`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let body = read(request, BODY_BYTES_MAX, app.settings.bounds.body_timeout).await?;
        Ok(Self(json::decode(&body)?))
    }
}

/// A body that may be absent; when there is one, it must be JSON of the form `T`.
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<App>> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let body = read(request, BODY_BYTES_MAX, app.settings.bounds.body_timeout).await?;
        if body.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        require_json(&headers)?;
        Ok(Self(json::decode(&body)?))
    }
}

/// Refuses what is not declared as JSON.
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let essence = media_type(headers);
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json { Ok(()) } else { Err(Problem::unsupported_media_type("application/json")) }
}

/// The media type of a body in lower case, without parameters; empty when none is given.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The whole body: at most `limit` bytes, within `timeout`.
pub async fn read(request: Request, limit: usize, timeout: Duration) -> Result<Bytes, Problem> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit)) {
        return Err(Problem::too_large("a body", limit));
    }
    let gathered = gather(request.into_body(), limit);
    tokio::time::timeout(timeout, gathered).await.unwrap_or_else(|_| Err(Problem::too_slow()))
}

async fn gather(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Problem::malformed("the body broke off")
        })?;
        // Trailers carry nothing that we read.
        let Ok(data) = frame.into_data() else { continue };
        if gathered.len() + data.len() > limit {
            return Err(Problem::too_large("a body", limit));
        }
        gathered.extend_from_slice(&data);
    }
    Ok(gathered.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;

    fn request(body: Body) -> Request {
        Request::new(body)
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_bounds() {
        let second = Duration::from_secs(1);
        let fits = read(request(Body::from("abcd")), 4, second).await.expect("read");
        assert_eq!(fits, "abcd");
        let long = read(request(Body::from("abcde")), 4, second).await.expect_err("too long");
        assert_eq!(long.status().as_u16(), 413);
        let mut declared = request(Body::empty());
        declared.headers_mut().insert(CONTENT_LENGTH, "18446744073709551616".parse().expect("a header"));
        assert!(read(declared, 4, second).await.is_ok(), "what is no length is hyper's to refuse");
        let mut declared = request(Body::empty());
        declared.headers_mut().insert(CONTENT_LENGTH, "100000000".parse().expect("a header"));
        assert_eq!(read(declared, 4, second).await.expect_err("declared").status().as_u16(), 413);
        let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let slow = read(request(endless), 4, Duration::from_millis(10)).await.expect_err("slow");
        assert_eq!(slow.status().as_u16(), 408);
    }

    #[test]
    fn json_is_known_by_its_media_type() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonp", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().expect("a header"));
            assert_eq!(require_json(&headers).is_ok(), expected, "{value}");
        }
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
