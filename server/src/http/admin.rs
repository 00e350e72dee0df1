//! The kill switch.
//!
//! A stop stands behind nothing but its admin's token: not the database, not the limits on other work, not its own body.
//! Once the token is good it is made, also when the caller goes away in the middle of a word.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use nexus_actors::engine::StopRequest;

use super::app::{App, to_the_end};
use super::body::{self, OptionalJson};
use super::extract::{Admin, StoppingAdmin};
use super::problem::Problem;
use crate::wire::admin::{ResumeAnswerBody, ResumeBody, Stop, StopAnswerBody, StopBody};

/// The most bytes of a stop's body that are looked at.
const STOP_BYTES_MAX: usize = 64 * 1024;
/// How long a stop waits for its body.
const STOP_BODY_TIMEOUT: Duration = Duration::from_millis(500);

/// Stops all new exposure
///
/// When this answers, no byte of a new-exposure order leaves the engine until a person resumes. Works with any
/// Content-Type, with an empty body, and with one that cannot be read: then everything is stopped. Working entries are
/// cancelled, protection never is. May be repeated.
#[utoipa::path(
    post, path = "/admin/emergency-stop", tag = "Kill switch",
    request_body(content = Option<StopBody>, description = "May be absent"),
    responses((status = 200, description = "Stopped", body = StopAnswerBody)),
    security(("token" = []))
)]
pub async fn emergency_stop(
    State(app): State<Arc<App>>,
    StoppingAdmin(admin): StoppingAdmin,
    request: Request,
) -> Result<axum::Json<StopAnswerBody>, Problem> {
    to_the_end(async move {
        let stop = match body::read(request, STOP_BYTES_MAX, STOP_BODY_TIMEOUT).await {
            Ok(body) => Stop::read(&body),
            Err(_) => Stop::everything("the body did not arrive whole, in time and within its bounds"),
        };
        let Stop { state, reason, cancel_open_orders, warnings } = stop;
        tracing::warn!(by = admin.name, state = state.as_str(), reason, "an emergency stop was asked for");
        let request = StopRequest { state, by: admin.name, reason, cancel_open_orders };
        let answer = app.engine.stop(request).await;
        Ok(axum::Json(StopAnswerBody::of(answer, warnings)))
    })
    .await
}

/// Resumes trading
///
/// Refused within the hold after a stop (409 with Retry-After), and when another stop comes meanwhile (409).
#[utoipa::path(
    post, path = "/admin/emergency-resume", tag = "Kill switch",
    request_body(content = Option<ResumeBody>, description = "May be absent"),
    responses(
        (status = 200, description = "Resumed", body = ResumeAnswerBody),
        (status = 409, description = "Too early after the stop, or a stop came meanwhile", body = Problem),
    ),
    security(("token" = []))
)]
pub async fn emergency_resume(
    State(app): State<Arc<App>>,
    Admin(admin): Admin,
    OptionalJson(body): OptionalJson<ResumeBody>,
) -> Result<axum::Json<ResumeAnswerBody>, Problem> {
    if body.scope.as_deref().is_some_and(|scope| scope != "global") {
        let message = "scope must be global: scopes are not in this release, and trading is still stopped";
        return Err(Problem::invalid_field("scope", "not_in_this_release", message));
    }
    to_the_end(async move {
        let by = admin.name;
        tracing::warn!(by, reason = body.reason, "a resume was asked for");
        Ok(axum::Json(ResumeAnswerBody::of(app.engine.resume(by, body.reason).await?)))
    })
    .await
}
