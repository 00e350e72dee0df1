//! One log line and one measurement a request: who, what, how it ended, how long it took.
//!
//! Never a body, never a header: what is secret cannot leak from where it is not written. The route is written as its
//! pattern, so that ids do not make a measurement of their own.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::app::App;
use super::peer::{Peer, client_ip};
use crate::auth::principal::Principal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over from a caller.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Who a request turned out to come from; filled in once that is known.
#[derive(Clone, Default)]
pub struct Caller(Arc<OnceLock<String>>);

impl Caller {
    /// Notes who a request comes from.
    pub fn note(extensions: &Extensions, principal: &Principal) {
        if let Some(Self(cell)) = extensions.get::<Self>() {
            // Noted once: whoever was found first stays.
            let _ = cell.set(principal.to_string());
        }
    }
}

/// Lets a request pass and writes down how it went.
pub async fn record(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let caller = Caller::default();
    request.extensions_mut().insert(caller.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let peer = request.extensions().get::<Peer>().copied();
    let client = peer.map(|peer| client_ip(peer, request.headers(), &app.settings.trusted_proxies));
    let span = tracing::info_span!("request", id = %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let principal = caller.0.get().map_or("-", String::as_str);
    let client = client.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        // Probes ask every few seconds and would bury what people look for.
        if route.starts_with("/health") || route == "/api/v1/metrics" {
            tracing::debug!(%method, route, status, took_us, principal, client, "answered");
        } else {
            tracing::info!(%method, route, status, took_us, principal, client, "answered");
        }
    });
    let labels = [("method", label_of(&method).to_owned()), ("route", route), ("status", status.to_string())];
    metrics::counter!("nexus_http_requests_total", &labels).increment(1);
    metrics::histogram!("nexus_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    response
}

/// The name of a method in a measurement. A caller may make up methods, and each would be a measurement of its own.
fn label_of(method: &Method) -> &str {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    if known.contains(method) { method.as_str() } else { "other" }
}

/// The caller's own id when it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(allowed)
    };
    given.filter(is_plain).map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_method_is_no_measurement_of_its_own() {
        let made_up = Method::from_bytes(b"MADE-UP-17").expect("a method");
        assert_eq!((label_of(&Method::PATCH), label_of(&made_up)), ("PATCH", "other"));
    }

    #[test]
    fn a_request_id_is_taken_over_when_it_is_plain() {
        for (given, is_taken) in [("abc-1", true), ("a b", false), ("", false), ("{\"x\":1}", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().expect("a header"));
            assert_eq!(request_id(&headers) == given, is_taken, "{given}");
        }
    }
}
