//! What a user sees of the own account: risk now, and the record page by page.
//!
//! Risk comes from the engine's newest committed state, so it is what the next decision will be held against; the record
//! comes from the directory, page by page, so that its length does not matter.

use std::sync::Arc;

use axum::extract::State;
use nexus_engine::ids::UserId;

use super::app::App;
use super::extract::{Owner, Paging};
use super::problem::Problem;
use crate::wire::account::{DecisionRecordBody, FillBody, OrderBody, PositionBody, RiskStatusBody};
use crate::wire::lists::{ListBody, PagingQuery};

/// Shows a user's risk
///
/// How much of the day's loss cap is used and by what, what one trade may risk, and what is open.
#[utoipa::path(
    get, path = "/api/v1/users/{id}/risk-status", tag = "Accounts",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, description = "The risk", body = RiskStatusBody)),
    security(("token" = []))
)]
pub async fn risk_status(
    State(app): State<Arc<App>>,
    Owner(user): Owner,
) -> Result<axum::Json<RiskStatusBody>, Problem> {
    let account = app.engine.account(user).await?.ok_or_else(|| Problem::not_found("user"))?;
    let state = app.engine.state_of_user(user);
    let body = RiskStatusBody::of(&account, state, app.clock.now().day(), |symbol| app.engine.mark(symbol));
    Ok(axum::Json(body))
}

/// Refuses a user that does not exist.
async fn require_user(app: &App, user: UserId) -> Result<(), Problem> {
    match app.auth.user(user).await? {
        Some(_) => Ok(()),
        None => Err(Problem::not_found("user")),
    }
}

/// Lists a user's decisions, newest first
#[utoipa::path(
    get, path = "/api/v1/users/{id}/decisions", tag = "Accounts",
    params(("id" = String, Path, description = "The user"), PagingQuery),
    responses((status = 200, description = "A page of decisions", body = ListBody<DecisionRecordBody>)),
    security(("token" = []))
)]
pub async fn decisions(
    State(app): State<Arc<App>>,
    Owner(user): Owner,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<DecisionRecordBody>>, Problem> {
    let page = query.page()?;
    require_user(&app, user).await?;
    let rows = app.directory.decisions(user, page).await?;
    Ok(axum::Json(ListBody::of(rows, |row| DecisionRecordBody::of_row(&row))))
}

/// Lists a user's orders, newest first
#[utoipa::path(
    get, path = "/api/v1/users/{id}/orders", tag = "Accounts",
    params(("id" = String, Path, description = "The user"), PagingQuery),
    responses((status = 200, description = "A page of orders", body = ListBody<OrderBody>)),
    security(("token" = []))
)]
pub async fn orders(
    State(app): State<Arc<App>>,
    Owner(user): Owner,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<OrderBody>>, Problem> {
    let page = query.page()?;
    require_user(&app, user).await?;
    let rows = app.directory.orders(user, page).await?;
    Ok(axum::Json(ListBody::of(rows, |row| OrderBody::of_row(&row))))
}

/// Lists a user's positions, newest first
///
/// The open ones; with `closed=true` the closed ones, too.
#[utoipa::path(
    get, path = "/api/v1/users/{id}/positions", tag = "Accounts",
    params(("id" = String, Path, description = "The user"), PagingQuery),
    responses((status = 200, description = "A page of positions", body = ListBody<PositionBody>)),
    security(("token" = []))
)]
pub async fn positions(
    State(app): State<Arc<App>>,
    Owner(user): Owner,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<PositionBody>>, Problem> {
    let page = query.page()?;
    let only_open = !query.with_closed()?;
    require_user(&app, user).await?;
    let rows = app.directory.positions(user, only_open, page).await?;
    Ok(axum::Json(ListBody::of(rows, |row| PositionBody::of_row(&row, app.engine.mark(&row.symbol).as_ref()))))
}

/// Lists a user's fills, newest first
#[utoipa::path(
    get, path = "/api/v1/users/{id}/fills", tag = "Accounts",
    params(("id" = String, Path, description = "The user"), PagingQuery),
    responses((status = 200, description = "A page of fills", body = ListBody<FillBody>)),
    security(("token" = []))
)]
pub async fn fills(
    State(app): State<Arc<App>>,
    Owner(user): Owner,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<FillBody>>, Problem> {
    let page = query.page()?;
    require_user(&app, user).await?;
    let rows = app.directory.fills(user, page).await?;
    Ok(axum::Json(ListBody::of(rows, |row| FillBody::of_row(&row))))
}
