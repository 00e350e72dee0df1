//! Signing in and out.
//!
//! A login does the same work whether the name exists or not, and says the same when it fails or when the name is locked
//! after too many failures. There are no refresh tokens
//! in this release: the answer's field is null, and whoever needs longer signs in again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::StatusCode;
use nexus_store::directory::{Credentials, UserChange};
use secrecy::SecretString;

use super::app::{App, to_the_end};
use super::body::Json;
use super::extract::Person;
use super::problem::Problem;
use crate::auth::passwords::{Match, PasswordError, RETRY_AFTER};
use crate::wire::login::{LoginAnswerBody, LoginBody};

/// Seconds since the epoch by the wall, whatever time it is for trading.
pub fn wall_now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::overloaded("too many passwords are being checked", RETRY_AFTER),
            PasswordError::Hash(why) => {
                tracing::error!(%why, "a password could not be hashed");
                Self::internal()
            }
        }
    }
}

/// Signs in
///
/// Gives a short-lived access token. Wrong names and wrong passwords are answered alike, after the same work. After too many
/// failures in a row a name is locked for a while, also for the right password, and whether or not anybody is called that.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "Signing in", request_body = LoginBody,
    responses(
        (status = 200, description = "Signed in", body = LoginAnswerBody),
        (status = 401, description = "Wrong username or password", body = Problem),
        (status = 429, description = "Too many are signing in, or the name is locked; see Retry-After", body = Problem),
    ),
    security(())
)]
pub async fn login(
    State(app): State<Arc<App>>,
    Json(body): Json<LoginBody>,
) -> Result<axum::Json<LoginAnswerBody>, Problem> {
    let attempt = app.lockout.begin(&body.username).await.map_err(|wait| {
        metrics::counter!("nexus_logins_total", "outcome" => "locked").increment(1);
        Problem::locked(wait)
    })?;
    let credentials = app.directory.credentials(&body.username).await?;
    let hash = credentials.as_ref().map(|found| found.password_hash.clone());
    let found = app.passwords.compare(body.password.clone(), hash).await?;
    let Some(Credentials { user, .. }) = credentials.filter(|_| found != Match::No) else {
        attempt.failed().await;
        metrics::counter!("nexus_logins_total", "outcome" => "refused").increment(1);
        tracing::warn!("a login was refused");
        return Err(Problem::bad_login());
    };
    attempt.succeeded().await;
    if found == Match::YesButOutdated {
        rehash(&app, &user, body.password).await;
    }
    let ended_before_s = user.tokens_valid_from_unix_s;
    let issued = app.auth.tokens.issue(user.id, &user.username, user.role, wall_now_s(), ended_before_s);
    let access_token = issued.map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::internal()
    })?;
    metrics::counter!("nexus_logins_total", "outcome" => "accepted").increment(1);
    tracing::info!(user = %user.id, "signed in");
    Ok(axum::Json(LoginAnswerBody {
        access_token,
        refresh_token: None,
        token_type: "Bearer",
        expires_in: app.auth.tokens.lifetime_s(),
        mfa_enrolled: false,
    }))
}

/// Hashes a password that is known to be right under the current key and cost. The login stands whether it works or not.
async fn rehash(app: &App, user: &nexus_store::directory::User, password: SecretString) {
    let hash = match app.passwords.hash(password).await {
        Ok(hash) => hash,
        Err(error) => {
            tracing::warn!(%error, "an outdated hash stays");
            return;
        }
    };
    let change = UserChange { password_hash: Some(hash), ..UserChange::default() };
    if let Err(error) = app.directory.change_user(user.id, change).await {
        tracing::warn!(%error, "an outdated hash stays");
    }
}

/// Signs out
///
/// The token is dead at once, and stays dead across a restart.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "Signing in",
    responses((status = 204, description = "Signed out")),
    security(("token" = []))
)]
pub async fn logout(State(app): State<Arc<App>>, Person(person): Person) -> Result<StatusCode, Problem> {
    to_the_end(async move { Ok(app.auth.revoke(&person).await?) }).await?;
    Ok(StatusCode::NO_CONTENT)
}
