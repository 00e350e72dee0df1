//! Users: made, changed, limited, disabled and enabled by admins.
//!
//! What concerns a person (name, role, password) is changed in the directory, what concerns the account (limits, trading)
//! through the account's own actor, so that a change of limits is decided in line with everything else.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use futures::{StreamExt, TryStreamExt};
use nexus_engine::account::Account;
use nexus_store::directory::{Credentials, User, UserChange};

use super::app::{App, to_the_end};
use super::body::Json;
use super::extract::{Admin, Paging, PathValues};
use super::login::wall_now_s;
use super::problem::Problem;
use crate::auth::passwords::check_rules;
use crate::clock::wall_now;
use crate::wire::fields::FieldError;
use crate::wire::limits::LimitsChange;
use crate::wire::lists::{ListBody, PagingQuery};
use crate::wire::users::{NewUser, NewUserBody, UserBody, UserChangeBody};

/// Accounts read at once for a page of users.
const READS_AT_ONCE: usize = 8;

/// Makes a user
#[utoipa::path(
    post, path = "/api/v1/users", tag = "Users", request_body = NewUserBody,
    responses(
        (status = 201, description = "Made", body = UserBody),
        (status = 409, description = "The name is taken", body = Problem),
    ),
    security(("token" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    Json(body): Json<NewUserBody>,
) -> Result<(StatusCode, axum::Json<UserBody>), Problem> {
    let new = body.parse()?;
    check_password(&new.password, &new.username)?;
    let user = to_the_end(async move { create_user(&app, new).await }).await?;
    Ok((StatusCode::CREATED, axum::Json(user)))
}

async fn create_user(app: &App, new: NewUser) -> Result<UserBody, Problem> {
    let password_hash = app.passwords.hash(new.password).await?;
    let user = User {
        id: app.new_ids.user(&new.username),
        username: new.username,
        role: new.role,
        currency: new.currency,
        created_at: wall_now(),
        tokens_valid_from_unix_s: 0,
    };
    let account = Account::open(user.id, user.currency.clone(), new.equity, app.settings.ceilings.clone());
    let body = UserBody::of(&user, &account);
    app.directory.create_user(Credentials { user, password_hash }, account).await?;
    Ok(body)
}

fn check_password(password: &secrecy::SecretString, username: &str) -> Result<(), Problem> {
    let broken = check_rules(password, username);
    if broken.is_empty() {
        return Ok(());
    }
    let error =
        |why: &str| FieldError { field: "password".to_owned(), code: "weak", message: format!("password {why}") };
    Err(Problem::invalid(broken.into_iter().map(error).collect()))
}

/// Lists users, by id
#[utoipa::path(
    get, path = "/api/v1/users", tag = "Users", params(PagingQuery),
    responses((status = 200, description = "A page of users", body = ListBody<UserBody>)),
    security(("token" = []))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<UserBody>>, Problem> {
    let page = app.directory.users(query.page()?).await?;
    let items = futures::stream::iter(page.items)
        .map(|user| show_user(&app, user))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(axum::Json(ListBody { items, next: page.next }))
}

async fn show_user(app: &App, user: User) -> Result<UserBody, Problem> {
    let account = app.engine.account(user.id).await?.ok_or_else(|| Problem::not_found("user"))?;
    Ok(UserBody::of(&user, &account))
}

/// The user that the path names.
async fn named_user(app: &App, path: &PathValues) -> Result<User, Problem> {
    let found = app.directory.user(path.user("id")?).await?;
    found.ok_or_else(|| Problem::not_found("user"))
}

/// Shows a user
#[utoipa::path(
    get, path = "/api/v1/users/{id}", tag = "Users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, description = "The user", body = UserBody)),
    security(("token" = []))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<axum::Json<UserBody>, Problem> {
    let user = named_user(&app, &path).await?;
    Ok(axum::Json(show_user(&app, user).await?))
}

/// Changes a user's name, role or password
///
/// A new role or password ends every token of the user.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}", tag = "Users",
    params(("id" = String, Path, description = "The user")),
    request_body = UserChangeBody,
    responses(
        (status = 200, description = "Changed", body = UserBody),
        (status = 409, description = "The name is taken, or an admin gives up their own role", body = Problem),
    ),
    security(("token" = []))
)]
pub async fn change(
    State(app): State<Arc<App>>,
    Admin(admin): Admin,
    path: PathValues,
    Json(body): Json<UserChangeBody>,
) -> Result<axum::Json<UserBody>, Problem> {
    let (username, role) = body.parse()?;
    let user = named_user(&app, &path).await?;
    if let Some(password) = &body.password {
        check_password(password, username.as_deref().unwrap_or(&user.username))?;
    }
    if admin.user == user.id && role.is_some_and(|role| role != user.role) {
        return Err(Problem::conflict("an admin does not give up their own role: another admin takes it"));
    }
    let role = role.filter(|role| *role != user.role);
    let ends_tokens = role.is_some() || body.password.is_some();
    let changed = to_the_end(async move {
        let password_hash = match body.password {
            Some(password) => Some(app.passwords.hash(password).await?),
            None => None,
        };
        // The next second: a token that was issued in this one must not outlive the change.
        let tokens_valid_from_unix_s = ends_tokens.then(|| wall_now_s() + 1);
        let change = UserChange { username, role, password_hash, tokens_valid_from_unix_s };
        let changed = app.directory.change_user(user.id, change).await;
        app.auth.users_changed();
        show_user(&app, changed?).await
    });
    Ok(axum::Json(changed.await?))
}

/// Tightens a user's limits
///
/// What is absent stays. Nothing may be looser than the ceilings that the engine runs with.
#[utoipa::path(
    patch, path = "/api/v1/users/{id}/limits", tag = "Users",
    params(("id" = String, Path, description = "The user")),
    request_body = LimitsChange,
    responses((status = 200, description = "In force for every later decision", body = UserBody)),
    security(("token" = []))
)]
pub async fn change_limits(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
    Json(body): Json<LimitsChange>,
) -> Result<axum::Json<UserBody>, Problem> {
    let user = named_user(&app, &path).await?;
    let changed = to_the_end(async move {
        let _one_at_a_time = app.limits_lock.lock().await;
        let account = app.engine.account(user.id).await?.ok_or_else(|| Problem::not_found("user"))?;
        let limits = body.apply(&account.limits, &app.settings.ceilings)?;
        let account = app.engine.set_limits(user.id, limits).await?;
        Ok(UserBody::of(&user, &account))
    });
    Ok(axum::Json(changed.await?))
}

/// Forbids a user new entries
///
/// What is open keeps its protection.
#[utoipa::path(
    post, path = "/api/v1/users/{id}/disable", tag = "Users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, description = "In force for every later decision", body = UserBody)),
    security(("token" = []))
)]
pub async fn disable(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<axum::Json<UserBody>, Problem> {
    set_trading(app, path, false).await
}

/// Allows a user new entries, and lifts a quarantine
#[utoipa::path(
    post, path = "/api/v1/users/{id}/enable", tag = "Users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, description = "In force for every later decision", body = UserBody)),
    security(("token" = []))
)]
pub async fn enable(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<axum::Json<UserBody>, Problem> {
    set_trading(app, path, true).await
}

async fn set_trading(app: Arc<App>, path: PathValues, enabled: bool) -> Result<axum::Json<UserBody>, Problem> {
    let user = named_user(&app, &path).await?;
    let changed = to_the_end(async move {
        let mut account = app.engine.set_trading(user.id, enabled).await?;
        if enabled && account.quarantined {
            // Somebody who enables a user has looked at why the engine had put them aside.
            account = app.engine.set_quarantine(user.id, false).await?;
        }
        Ok(UserBody::of(&user, &account))
    });
    Ok(axum::Json(changed.await?))
}
