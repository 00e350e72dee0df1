//! What every request passes: one log line and one measurement (who, what, how it ended, how long it took), the net under
//! panics, and headers that every answer carries.
//!
//! Never a body, never a header is written: what is secret cannot leak from where it is not. The route is written as its
//! pattern, so that ids do not make a measurement of their own.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use parking_lot::RwLock;
use tracing::Instrument;

use super::app::App;
use super::peer::{Peer, client_ip};
use super::problem::Problem;
use crate::auth::principal::{Principal, Who};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over from a caller.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Who a request turned out to come from; filled in once that is known.
#[derive(Clone, Default)]
pub struct Caller(Arc<OnceLock<Who>>);

impl Caller {
    /// Notes who a request comes from.
    pub fn note(extensions: &Extensions, principal: &Principal) {
        if let Some(Self(cell)) = extensions.get::<Self>() {
            // Noted once: whoever was found first stays.
            let _ = cell.set(principal.who());
        }
    }
}

/// Lets a request pass, sees to its answer, and writes down how it went.
pub async fn record(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let caller = Caller::default();
    request.extensions_mut().insert(caller.clone());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let client = peer.map(|peer| client_ip(peer, request.headers(), &app.settings.trusted_proxies));
    let span = tracing::info_span!("request", id = %id);
    let mut response = answer_of(next.run(request)).instrument(span.clone()).await;
    add_headers(response.headers_mut(), &id);
    let (status, took) = (response.status().as_u16(), began.elapsed());
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    span.in_scope(|| {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let (principal, client) = (or_dash(caller.0.get()), or_dash(client.as_ref()));
        // Probes ask every few seconds and would bury what people look for.
        if route.starts_with("/health") || route == "/api/v1/metrics" {
            tracing::debug!(%method, route, status, took_us, %principal, %client, "answered");
        } else {
            tracing::info!(%method, route, status, took_us, %principal, %client, "answered");
        }
    });
    app.measurements.note(&method, route, status, took);
    response
}

/// The answer, also when its handler panics: that ends the request and nothing else.
async fn answer_of(handling: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(handling).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown kind");
        tracing::error!(panic = text, "a handler panicked");
        Problem::internal().into_response()
    })
}

/// What is not known is a dash in the log.
fn or_dash(known: Option<&impl Display>) -> &dyn Display {
    known.map_or(&"-", |it| it)
}

/// The id of the request, and what is so unless a handler has said otherwise.
fn add_headers(headers: &mut HeaderMap, id: &str) {
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The measurements of requests, by route, and by method and status. Naming one anew takes longer than routing a request. Bounded
/// by what there is: routes are patterns, and methods and statuses a handful.
#[derive(Default)]
pub struct Measurements(RwLock<HashMap<String, HashMap<Kind, Measurement>>>);

/// Method and status.
type Kind = (&'static str, u16);

struct Measurement {
    requests: metrics::Counter,
    seconds: metrics::Histogram,
}

impl Measurements {
    fn note(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let kind = (label_of(method), status);
        if let Some(known) = self.0.read().get(route).and_then(|kinds| kinds.get(&kind)) {
            return known.note(took);
        }
        let mut routes = self.0.write();
        let kinds = routes.entry(route.to_owned()).or_default();
        kinds.entry(kind).or_insert_with(|| Measurement::of(kind, route)).note(took);
    }
}

impl Measurement {
    fn of((method, status): Kind, route: &str) -> Measurement {
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        Measurement {
            requests: metrics::counter!("nexus_http_requests_total", &labels),
            seconds: metrics::histogram!("nexus_http_request_seconds", &labels[..2]),
        }
    }

    fn note(&self, took: Duration) {
        self.requests.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

/// The name of a method in a measurement. A caller may make up methods, and each would be a measurement of its own.
fn label_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
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

    #[tokio::test]
    async fn a_panic_of_a_handler_is_an_answer() {
        let panicking = async { panic!("at the {}", "disco") };
        assert_eq!(answer_of(panicking).await.status().as_u16(), 500);
    }

    #[test]
    fn a_handler_has_the_last_word_on_headers_that_every_answer_carries() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        add_headers(&mut headers, "abc-1");
        assert_eq!(headers[CACHE_CONTROL], "max-age=1");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[REQUEST_ID], "abc-1");
    }

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
