//! HTTP: the routes, and what every request passes on its way to them.
//!
//! From the outside in: what every request passes (`log`: its line and its metrics, headers that every answer carries, the
//! net under panics), CORS where there is any, the routes. Who may call a route stands in its handler's signature (`Admin`, `Person`, `Source`, `Owner`), so a handler
//! cannot be reached by anybody else, and a body is only read once its sender is known. Nothing here decides anything.

pub mod admin;
pub mod app;
pub mod body;
pub mod docs;
pub mod extract;
pub mod feeds;
pub mod health;
pub mod listen;
pub mod lobby;
pub mod log;
pub mod login;
pub mod marks;
pub mod metrics;
pub mod ndjson;
pub mod peer;
pub mod problem;
pub mod records;
pub mod signals;
pub mod socket;
pub mod users;

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::routing::get;
use axum::{Router, middleware};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use app::App;
use problem::Problem;

/// The routes, and the document that describes them.
pub fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(docs::preamble())
        .routes(routes!(login::login))
        .routes(routes!(login::logout))
        .routes(routes!(signals::submit))
        .routes(routes!(signals::stored))
        .routes(routes!(marks::push))
        .routes(routes!(records::risk_status))
        .routes(routes!(records::decisions))
        .routes(routes!(records::orders))
        .routes(routes!(records::positions))
        .routes(routes!(records::fills))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change))
        .routes(routes!(users::change_limits))
        .routes(routes!(users::disable))
        .routes(routes!(users::enable))
        .routes(routes!(feeds::list, feeds::create))
        .routes(routes!(feeds::show, feeds::delete))
        .routes(routes!(feeds::rotate_secret))
        .routes(routes!(feeds::subscribe, feeds::unsubscribe))
        .routes(routes!(admin::emergency_stop))
        .routes(routes!(admin::emergency_resume))
        .routes(routes!(admin::stops))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::status))
        .routes(routes!(metrics::scrape))
        .routes(routes!(docs::openapi_json))
        .routes(routes!(docs::page))
}

/// The whole service.
pub fn router(app: Arc<App>) -> Router {
    let (routes, _) = api().split_for_parts();
    let routes = routes
        .route("/docs/{*file}", get(docs::asset))
        .fallback(|| async { Problem::not_found("path") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() });
    let routes = match cors(&app.settings.cors_origins) {
        Some(cors) => routes.layer(cors),
        None => routes,
    };
    // One layer and not one a duty: each is copied, boxed and moved for every request.
    routes.layer(middleware::from_fn_with_state(Arc::clone(&app), log::record)).with_state(app)
}

/// A browser may only call from the origins that the operator names; without any, from none.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let named = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let is_any = origins.iter().any(|origin| origin == "*");
    let layer = CorsLayer::new()
        .allow_origin(if is_any { AllowOrigin::any() } else { AllowOrigin::list(named) })
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("idempotency-key")]);
    Some(layer)
}
