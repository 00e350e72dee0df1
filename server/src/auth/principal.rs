//! Who a request comes from.
//!
//! A bearer credential is a token of a person or the key of a feed; one glance at its beginning tells which. A token is
//! judged by signature and hot state, and then against the user as the directory knows it, so that a demotion or a new
//! password ends it within a second. The emergency stop leaves that last step out: it must work without a database.

use std::fmt;
use std::sync::Arc;

use nexus_actors::ports::HotState;
use nexus_engine::ids::{FeedId, UserId};
use nexus_store::directory::{Directory, DirectoryError, Feed, Role, User};

use super::cache::Cache;
use super::feeds::FeedKeys;
use super::secrets::{API_KEY_PREFIX, sha256_hex};
use super::tokens::{Claims, Tokens};

/// Who a request comes from.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Somebody who is signed in.
    User(SignedIn),
    /// A feed with a valid key.
    Feed(KnownFeed),
}

/// Somebody who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who.
    pub user: UserId,
    /// In which role.
    pub role: Role,
    /// What they were called when the token was issued.
    pub name: String,
    /// The token's own id.
    pub token_id: String,
    /// When the token is dead, in seconds since the epoch.
    pub expires_unix_s: i64,
}

/// A feed with a valid key.
#[derive(Clone, Debug)]
pub struct KnownFeed {
    /// The feed.
    pub feed: Arc<Feed>,
    /// The SHA-256 of the key that it sent.
    pub key_hash: String,
}

/// A principal by id alone, as the log names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Somebody who is signed in, and in which role.
    User(Role, UserId),
    /// A feed.
    Feed(FeedId),
}

impl Principal {
    /// Who it is.
    pub fn who(&self) -> Who {
        match self {
            Self::User(user) => Who::User(user.role, user.user),
            Self::Feed(known) => Who::Feed(known.feed.id),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(role, user) => write!(f, "{}:{user}", role.as_str()),
            Self::Feed(feed) => write!(f, "feed:{feed}"),
        }
    }
}

/// Why nobody is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthError {
    /// What was sent is unknown, expired or revoked.
    Refused,
    /// The directory is away.
    Directory(DirectoryError),
}

/// Finds out who a request comes from.
pub struct Authenticator {
    /// Issues and judges tokens.
    pub tokens: Tokens,
    /// Looks feeds up.
    pub feeds: FeedKeys,
    directory: Arc<dyn Directory>,
    hot: Arc<dyn HotState>,
    users: Cache<UserId, Arc<User>>,
}

impl Authenticator {
    /// Judges by `tokens`, the hot state and the directory.
    pub fn new(tokens: Tokens, directory: Arc<dyn Directory>, hot: Arc<dyn HotState>) -> Self {
        Self { tokens, feeds: FeedKeys::new(Arc::clone(&directory)), directory, hot, users: Cache::new() }
    }

    /// Who sent this bearer credential.
    pub async fn principal(&self, bearer: &str) -> Result<Principal, AuthError> {
        if bearer.starts_with(API_KEY_PREFIX) {
            let key_hash = sha256_hex(bearer);
            let feed = self.feeds.feed_by_hash(&key_hash).await.map_err(AuthError::Directory)?;
            return feed.map(|feed| Principal::Feed(KnownFeed { feed, key_hash })).ok_or(AuthError::Refused);
        }
        let (claims, role) = self.unrevoked(bearer).await?;
        let user = self.user(claims.user()).await.map_err(AuthError::Directory)?.ok_or(AuthError::Refused)?;
        // A role that was taken away since the token was issued is not believed.
        if claims.iat < user.tokens_valid_from_unix_s || user.role != role {
            return Err(AuthError::Refused);
        }
        Ok(Principal::User(signed_in(claims, role)))
    }

    /// Who sent this bearer credential, judged by its signature and the hot state alone: for the emergency stop, which
    /// must work while the database is away.
    pub async fn without_directory(&self, bearer: &str) -> Result<SignedIn, AuthError> {
        let (claims, role) = self.unrevoked(bearer).await?;
        Ok(signed_in(claims, role))
    }

    async fn unrevoked(&self, bearer: &str) -> Result<(Claims, Role), AuthError> {
        let judged = self.tokens.judge(bearer).map_err(|error| {
            tracing::debug!(%error, "a token was refused");
            AuthError::Refused
        })?;
        if self.hot.is_revoked(&judged.0.jti).await {
            return Err(AuthError::Refused);
        }
        Ok(judged)
    }

    /// The user of this id.
    pub async fn user(&self, id: UserId) -> Result<Option<Arc<User>>, DirectoryError> {
        let asked = match self.users.get(&id) {
            Ok(user) => return Ok(Some(user)),
            Err(asked) => asked,
        };
        let found = self.directory.user(id).await?.map(Arc::new);
        if let Some(user) = &found {
            self.users.put(id, Arc::clone(user), asked);
        }
        Ok(found)
    }

    /// Forgets what is known of users: one was changed.
    pub fn users_changed(&self) {
        self.users.clear();
    }

    /// Ends a token, here at once and in the record before this returns.
    pub async fn revoke(&self, user: &SignedIn) -> Result<(), DirectoryError> {
        self.hot.revoke_token(user.token_id.as_str().into(), user.expires_unix_s);
        self.directory.revoke_token(&user.token_id, user.expires_unix_s).await
    }
}

fn signed_in(claims: Claims, role: Role) -> SignedIn {
    SignedIn { user: claims.user(), role, name: claims.name, token_id: claims.jti, expires_unix_s: claims.exp }
}
