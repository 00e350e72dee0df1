//! Feeds and their subscribers: made, ended and changed by admins.
//!
//! A secret is shown once, in the answer that makes it; what is kept of an API key is its hash. Whatever ends or changes a
//! feed runs to its end even when the admin goes away, so that no cache outlives the change.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use nexus_engine::ids::FeedId;
use nexus_store::directory::{Feed, FeedSecrets};
use secrecy::{ExposeSecret, SecretString};

use super::app::{App, to_the_end};
use super::body::{Json, OptionalJson};
use super::extract::{Admin, Paging, PathValues};
use super::problem::Problem;
use crate::auth::secrets::{new_api_key, new_webhook_secret, sha256_hex};
use crate::clock::wall_now;
use crate::wire::feeds::{FeedBody, FeedSecretsBody, NewFeedBody, NothingBody};
use crate::wire::lists::{ListBody, PagingQuery};

/// The secrets of a feed, as they are shown and as they are kept.
struct NewSecrets {
    api_key: SecretString,
    webhook_secret: SecretString,
}

impl NewSecrets {
    fn draw() -> Self {
        Self { api_key: new_api_key(), webhook_secret: new_webhook_secret() }
    }

    fn kept(&self) -> FeedSecrets {
        FeedSecrets {
            api_key_sha256: sha256_hex(self.api_key.expose_secret()),
            webhook_secret: self.webhook_secret.expose_secret().to_owned(),
        }
    }

    fn shown(self, feed: &Feed) -> FeedSecretsBody {
        let Self { api_key, webhook_secret } = self;
        FeedSecretsBody { feed: FeedBody::of(feed), api_key, webhook_secret }
    }
}

/// Makes a feed
///
/// Its secrets are shown in this answer and never again.
#[utoipa::path(
    post, path = "/api/v1/feeds", tag = "Feeds", request_body = NewFeedBody,
    responses(
        (status = 201, description = "Made", body = FeedSecretsBody),
        (status = 409, description = "The name is taken", body = Problem),
    ),
    security(("token" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    Json(body): Json<NewFeedBody>,
) -> Result<(StatusCode, axum::Json<FeedSecretsBody>), Problem> {
    let (name, symbols) = body.parse(|symbol| app.engine.instrument(symbol).is_some())?;
    let feed = Feed { id: app.new_ids.feed(&name), name, symbols, created_at: wall_now() };
    let secrets = NewSecrets::draw();
    app.directory.create_feed(feed.clone(), secrets.kept()).await?;
    Ok((StatusCode::CREATED, axum::Json(secrets.shown(&feed))))
}

/// Lists feeds, by id
#[utoipa::path(
    get, path = "/api/v1/feeds", tag = "Feeds", params(PagingQuery),
    responses((status = 200, description = "A page of feeds", body = ListBody<FeedBody>)),
    security(("token" = []))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    Paging(query): Paging,
) -> Result<axum::Json<ListBody<FeedBody>>, Problem> {
    let page = app.directory.feeds(query.page()?).await?;
    Ok(axum::Json(ListBody::of(page, |feed| FeedBody::of(&feed))))
}

/// The feed that the path names, by id or by name.
async fn named_feed(app: &App, path: &PathValues) -> Result<Feed, Problem> {
    let named = path.get("feed");
    let found = match named.parse::<FeedId>() {
        Ok(id) => app.directory.feed(id).await?,
        Err(_) => app.directory.feed_by_name(named).await?,
    };
    found.ok_or_else(|| Problem::not_found("feed"))
}

/// Shows a feed
#[utoipa::path(
    get, path = "/api/v1/feeds/{feed}", tag = "Feeds",
    params(("feed" = String, Path, description = "The feed's id or name")),
    responses((status = 200, description = "The feed", body = FeedBody)),
    security(("token" = []))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<axum::Json<FeedBody>, Problem> {
    Ok(axum::Json(FeedBody::of(&named_feed(&app, &path).await?)))
}

/// Ends a feed
///
/// Its key is dead, its name is free, nobody follows it any more. Its signals stay in the record.
#[utoipa::path(
    delete, path = "/api/v1/feeds/{feed}", tag = "Feeds",
    params(("feed" = String, Path, description = "The feed's id or name")),
    responses((status = 204, description = "Ended")),
    security(("token" = []))
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<StatusCode, Problem> {
    let feed = named_feed(&app, &path).await?;
    to_the_end(async move {
        let deleted = app.directory.delete_feed(feed.id).await;
        app.auth.feeds.changed();
        app.engine.subscriptions_changed(feed.id);
        Ok(deleted?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces a feed's secrets
///
/// The old ones are dead at once; the new ones are shown in this answer and never again.
#[utoipa::path(
    post, path = "/api/v1/feeds/{feed}/rotate-secret", tag = "Feeds",
    params(("feed" = String, Path, description = "The feed's id or name")),
    responses((status = 200, description = "Replaced", body = FeedSecretsBody)),
    security(("token" = []))
)]
pub async fn rotate_secret(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<axum::Json<FeedSecretsBody>, Problem> {
    let feed = named_feed(&app, &path).await?;
    let shown = to_the_end(async move {
        let secrets = NewSecrets::draw();
        let rotated = app.directory.rotate_feed(feed.id, secrets.kept()).await;
        app.auth.feeds.changed();
        rotated?;
        Ok(secrets.shown(&feed))
    });
    Ok(axum::Json(shown.await?))
}

/// Makes a user follow a feed
#[utoipa::path(
    put, path = "/api/v1/feeds/{feed}/subscribers/{user}", tag = "Feeds",
    params(
        ("feed" = String, Path, description = "The feed's id or name"),
        ("user" = String, Path, description = "The user"),
    ),
    request_body(content = Option<NothingBody>, description = "May be absent"),
    responses((status = 204, description = "The user follows the feed")),
    security(("token" = []))
)]
pub async fn subscribe(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
    _body: OptionalJson<NothingBody>,
) -> Result<StatusCode, Problem> {
    let feed = named_feed(&app, &path).await?;
    let user = path.user("user")?;
    if app.auth.user(user).await?.is_none() {
        return Err(Problem::not_found("user"));
    }
    to_the_end(async move {
        let subscribed = app.directory.subscribe(feed.id, user, wall_now()).await;
        app.engine.subscriptions_changed(feed.id);
        Ok(subscribed?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends that a user follows a feed
///
/// What is open stays open, under its protection.
#[utoipa::path(
    delete, path = "/api/v1/feeds/{feed}/subscribers/{user}", tag = "Feeds",
    params(
        ("feed" = String, Path, description = "The feed's id or name"),
        ("user" = String, Path, description = "The user"),
    ),
    responses((status = 204, description = "The user does not follow the feed")),
    security(("token" = []))
)]
pub async fn unsubscribe(
    State(app): State<Arc<App>>,
    Admin(_admin): Admin,
    path: PathValues,
) -> Result<StatusCode, Problem> {
    let feed = named_feed(&app, &path).await?;
    let user = path.user("user")?;
    to_the_end(async move {
        let ended = app.directory.unsubscribe(feed.id, user).await;
        app.engine.subscriptions_changed(feed.id);
        Ok(ended?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
