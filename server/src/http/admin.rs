//! The kill switch.
//!
//! A stop stands behind nothing but its admin's token: not the database, not the limits on other work, not its own body.
//! Once the token is good it is made, also when the caller goes away in the middle of a word.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use nexus_actors::engine::{Engine, StopRequest};
use nexus_engine::gate::Scope;
use tokio::time::timeout;

use super::app::{App, to_the_end};
use super::body::{self, OptionalJson};
use super::extract::{Admin, StoppingAdmin};
use super::problem::Problem;
use crate::wire::admin::{ResumeAnswerBody, ResumeBody, Stop, StopAnswerBody, StopBody, StopsBody};

/// The most bytes of a stop's body that are looked at.
const STOP_BYTES_MAX: usize = 64 * 1024;
/// How long a stop waits for its body.
const STOP_BODY_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an answer waits to hear whether an id names anybody.
const LOOK_UP_WITHIN: Duration = Duration::from_millis(500);

/// Stops all new exposure, or that of one feed, symbol, venue or user
///
/// When this answers, no byte of a new-exposure order of that scope leaves the engine until a person resumes it. Works with any
/// Content-Type, with an empty body, and with one that cannot be read or names what is not known: then everything is stopped.
/// Working entries of the scope are cancelled, protection never is; `flatten` closes what is open. May be repeated.
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
        let Stop { scope, state, reason, cancel_open_orders, flatten, mut warnings } = known_to(&app.engine, stop);
        tracing::warn!(by = admin.name, %scope, state = state.as_str(), reason, "an emergency stop was asked for");
        let request = StopRequest { scope: scope.clone(), state, by: admin.name, reason, cancel_open_orders, flatten };
        let answer = app.engine.stop(request).await;
        warnings.extend(unknown(&app, &scope).await);
        Ok(axum::Json(StopAnswerBody::of(answer, warnings)))
    })
    .await
}

/// A stop of a symbol or venue that the engine does not have is a slip: everything is stopped.
fn known_to(engine: &Engine, stop: Stop) -> Stop {
    let is_known = match &stop.scope {
        Scope::Symbol(symbol) => engine.instrument(symbol).is_some(),
        Scope::Venue(venue) => engine.status().venues.contains_key(venue.as_str()),
        Scope::Everything | Scope::Feed(_) | Scope::User(_) => true,
    };
    if is_known {
        stop
    } else {
        let why = format!("there is no {}", stop.scope);
        stop.widened(&why)
    }
}

/// Asked after the stop, which does not wait for the ledger: whether an id names anybody.
async fn unknown(app: &App, scope: &Scope) -> Option<String> {
    let found = async {
        match scope {
            Scope::Feed(feed) => app.directory.feed(*feed).await.map(|feed| feed.is_some()),
            Scope::User(user) => app.directory.user(*user).await.map(|user| user.is_some()),
            Scope::Everything | Scope::Symbol(_) | Scope::Venue(_) => Ok(true),
        }
    };
    match timeout(LOOK_UP_WITHIN, found).await {
        Ok(Ok(true)) => None,
        Ok(Ok(false)) => Some(format!("there is no {scope}; it is stopped all the same, and nothing else is")),
        Ok(Err(_)) | Err(_) => Some(format!("the ledger does not say whether there is a {scope}")),
    }
}

/// Shows what is stopped
///
/// Every stop that is in force, of everything and of less.
#[utoipa::path(
    get, path = "/admin/stops", tag = "Kill switch",
    responses((status = 200, description = "What is stopped", body = StopsBody)),
    security(("token" = []))
)]
pub async fn stops(State(app): State<Arc<App>>, Admin(_admin): Admin) -> axum::Json<StopsBody> {
    axum::Json(StopsBody::of(app.engine.status()))
}

/// Resumes trading
///
/// Lifts the stop of everything, or that of the scope that is named; other stops stay in force. Refused within the hold after a stop (409 with Retry-After), and when another stop comes meanwhile (409).
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
    let scope = body.scope.unwrap_or_default().read();
    let scope = scope.map_err(|why| Problem::invalid_field("scope", "invalid", why))?;
    to_the_end(async move {
        let by = admin.name;
        tracing::warn!(by, %scope, reason = body.reason, "a resume was asked for");
        let gate = app.engine.resume(scope, by, body.reason).await?;
        Ok(axum::Json(ResumeAnswerBody::of(gate, app.engine.status())))
    })
    .await
}
