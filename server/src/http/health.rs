//! Health and status, for anybody.
//!
//! Three questions that operators and orchestrators keep apart: does the process answer, should requests be sent here, and
//! is everything as it should be. A halted engine is ready, because it serves, and degraded, because it does not trade.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::app::App;
use crate::wire::health::{AliveBody, HealthBody, StatusBody};

/// Says whether the engine works
///
/// 200 when it does, also when something is not as it should be (`degraded`: halted, a venue or the hot state away); else 503.
#[utoipa::path(
    get, path = "/health", tag = "Health",
    responses(
        (status = 200, description = "It works", body = HealthBody),
        (status = 503, description = "It does not", body = HealthBody),
    ),
    security(())
)]
pub async fn health(State(app): State<Arc<App>>) -> (StatusCode, axum::Json<HealthBody>) {
    let health = HealthBody::of(&app.engine.status());
    let status = if health.status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, axum::Json(health))
}

/// Says that the process answers
#[utoipa::path(
    get, path = "/health/live", tag = "Health",
    responses((status = 200, description = "It answers", body = AliveBody)),
    security(())
)]
pub async fn live() -> axum::Json<AliveBody> {
    axum::Json(AliveBody { status: "ok" })
}

/// Says whether requests should be sent here
///
/// 200 when the engine serves, also when it is halted; 503 while it starts or stops, and without its ledger.
#[utoipa::path(
    get, path = "/health/ready", tag = "Health",
    responses(
        (status = 200, description = "Send", body = HealthBody),
        (status = 503, description = "Do not", body = HealthBody),
    ),
    security(())
)]
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, axum::Json<HealthBody>) {
    let status = app.engine.status();
    let is_ready = status.serving && status.ledger_up && !app.stopping.is_cancelled();
    let code = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(HealthBody::of(&status)))
}

/// Shows the state of the engine
#[utoipa::path(
    get, path = "/status", tag = "Health",
    responses((status = 200, description = "The state", body = StatusBody)),
    security(())
)]
pub async fn status(State(app): State<Arc<App>>) -> axum::Json<StatusBody> {
    let uptime_s = app.started.elapsed().as_secs();
    axum::Json(StatusBody::of(
        &app.engine.status(),
        app.settings.environment,
        app.clock.as_ref(),
        uptime_s,
        app.instance.clone(),
    ))
}
