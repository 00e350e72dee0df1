//! Who may call, as types: a handler that takes `Admin` cannot be reached by anybody else.
//!
//! They run before a body is read. Whoever is not known gets 401, whoever is known and not meant gets 403; only then
//! does it matter whether what the path names exists.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use nexus_engine::ids::UserId;
use nexus_store::directory::Role;

use super::app::App;
use super::log::Caller;
use super::peer::{Peer, client_ip, is_in};
use super::problem::Problem;
use crate::auth::principal::{AuthError, KnownFeed, Principal, SignedIn};
use crate::auth::secrets::API_KEY_PREFIX;
use crate::wire::lists::PagingQuery;

/// An admin.
pub struct Admin(pub SignedIn);

/// A user or an admin.
pub struct Person(pub SignedIn);

/// A feed.
pub struct Source(pub KnownFeed);

/// A feed or an admin.
pub enum SourceOrAdmin {
    /// A feed, which sees its own.
    Source(KnownFeed),
    /// An admin, who sees everything.
    Admin,
}

/// The user that the path names, when they or an admin ask. Whether there is such a user is not known yet.
pub struct Owner(pub UserId);

/// An admin, judged without the database.
pub struct StoppingAdmin(pub SignedIn);

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Refused => Self::bad_credentials(),
            AuthError::Directory(error) => error.into(),
        }
    }
}

/// The credential of a request.
fn bearer(parts: &Parts) -> Result<&str, Problem> {
    let Some(value) = parts.headers.get(AUTHORIZATION) else { return Err(Problem::no_credentials()) };
    let text = value.to_str().map_err(|_| Problem::bad_credentials())?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Problem::bad_credentials()),
    }
}

async fn principal(parts: &mut Parts, app: &App) -> Result<Principal, Problem> {
    let principal = app.auth.principal(bearer(parts)?).await?;
    Caller::note(&parts.extensions, &principal);
    if let Principal::User(user) = &principal {
        check_place(parts, app, user)?;
    }
    Ok(principal)
}

/// An admin's token is good for nothing outside the networks that the operator names.
fn check_place(parts: &Parts, app: &App, user: &SignedIn) -> Result<(), Problem> {
    let allowed = &app.settings.admin_allowed_ips;
    if user.role != Role::Admin || allowed.is_empty() {
        return Ok(());
    }
    let peer = parts.extensions.get::<Peer>();
    let client = peer.map(|peer| client_ip(*peer, &parts.headers, &app.settings.trusted_proxies));
    if client.is_some_and(|client| is_in(client, allowed)) {
        return Ok(());
    }
    Err(Problem::forbidden("admins may not call from this address"))
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match principal(parts, app).await? {
            Principal::User(user) if user.role == Role::Admin => Ok(Self(user)),
            Principal::User(_) | Principal::Feed(_) => Err(Problem::forbidden("this is for admins")),
        }
    }
}

impl FromRequestParts<Arc<App>> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match principal(parts, app).await? {
            Principal::User(user) => Ok(Self(user)),
            Principal::Feed(_) => Err(Problem::forbidden("this is for people, not for feeds")),
        }
    }
}

impl FromRequestParts<Arc<App>> for Source {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match principal(parts, app).await? {
            Principal::Feed(known) => Ok(Self(known)),
            Principal::User(_) => Err(Problem::forbidden("this is for feeds, which send their API key")),
        }
    }
}

impl FromRequestParts<Arc<App>> for SourceOrAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        match principal(parts, app).await? {
            Principal::Feed(known) => Ok(Self::Source(known)),
            Principal::User(user) if user.role == Role::Admin => Ok(Self::Admin),
            Principal::User(_) => Err(Problem::forbidden("this is for feeds and admins")),
        }
    }
}

impl FromRequestParts<Arc<App>> for Owner {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Person(person) = Person::from_request_parts(parts, app).await?;
        let named = path_value(parts, "id").await?.parse::<UserId>();
        match (named, person.role) {
            (Ok(user), Role::Admin) => Ok(Self(user)),
            (Ok(user), Role::User) if user == person.user => Ok(Self(user)),
            (_, Role::User) => Err(Problem::forbidden("a user sees their own account alone")),
            (Err(_), Role::Admin) => Err(Problem::not_found("user")),
        }
    }
}

impl FromRequestParts<Arc<App>> for StoppingAdmin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let bearer = bearer(parts)?;
        if bearer.starts_with(API_KEY_PREFIX) {
            let Admin(user) = Admin::from_request_parts(parts, app).await?;
            return Ok(Self(user));
        }
        let user = app.auth.without_directory(bearer).await?;
        Caller::note(&parts.extensions, &Principal::User(user.clone()));
        check_place(parts, app, &user)?;
        if user.role == Role::Admin { Ok(Self(user)) } else { Err(Problem::forbidden("this is for admins")) }
    }
}

/// A part of the path, decoded.
async fn path_value(parts: &mut Parts, name: &str) -> Result<String, Problem> {
    let Path(mut values) = Path::<HashMap<String, String>>::from_request_parts(parts, &())
        .await
        .map_err(|_| Problem::malformed("the path is not UTF-8"))?;
    values.remove(name).ok_or_else(Problem::internal)
}

/// Parts of the path, decoded, by name.
pub struct PathValues(HashMap<String, String>);

impl PathValues {
    /// The part of this name.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The user that the path names.
    pub fn user(&self, name: &str) -> Result<UserId, Problem> {
        self.get(name).parse().map_err(|_| Problem::not_found("user"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathValues {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let values = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
        values.map(|Path(values)| Self(values)).map_err(|_| Problem::malformed("the path is not UTF-8"))
    }
}

/// Which page of a list is asked for.
pub struct Paging(pub PagingQuery);

/// Whether a signal is only asked about. Anything else in the query is refused: a misspelt `dry_run` would trade.
pub struct DryRun(pub bool);

impl<S: Send + Sync> FromRequestParts<S> for DryRun {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let axum::extract::Query(query) = query.map_err(|_| Problem::malformed("the query cannot be read"))?;
        match query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>()[..] {
            [] | [("dry_run", "false")] => Ok(Self(false)),
            [("dry_run", "true")] => Ok(Self(true)),
            _ => Err(Problem::malformed("the query may only say dry_run=true or dry_run=false, once")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<PagingQuery>::from_request_parts(parts, state).await;
        let axum::extract::Query(query) =
            query.map_err(|_| Problem::malformed("the query cannot be read, or gives a parameter twice"))?;
        Ok(Self(query))
    }
}
