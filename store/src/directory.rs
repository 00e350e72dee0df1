//! The directory: who may do what, and the record as people page through it.
//!
//! The port that `server` speaks through beside the ledger: users, feeds, subscriptions, revoked tokens, and the paged
//! lists of decisions, orders, positions and fills. Both stores implement it and pass one contract suite.

use compact_str::CompactString;
use futures::future::BoxFuture;
use nexus_engine::account::{Account, Context, Event, Input};
use nexus_engine::ids::{FeedId, Symbol, Timestamp, UserId};
use nexus_engine::instrument::Currency;
use nexus_engine::units::{Money, Price, Quantity};
use thiserror::Error;
use uuid::Uuid;

/// Why the directory did not do as asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DirectoryError {
    /// The name is taken (409).
    #[error("{0} is taken")]
    Taken(&'static str),
    /// There is no such thing (404).
    #[error("there is no such {0}")]
    Unknown(&'static str),
    /// The database cannot be reached, is full, or is read-only (503).
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
}

/// What a person may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Sees and changes everything.
    Admin,
    /// Sees their own.
    User,
}

impl Role {
    /// The name used in tables, tokens and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Role> {
        [Self::Admin, Self::User].into_iter().find(|role| role.as_str() == name)
    }
}

/// A user without secrets and without account state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its unique name.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// The currency of its account.
    pub currency: Currency,
    /// When it was made.
    pub created_at: Timestamp,
    /// Tokens issued before this second are dead (a changed password, a forced sign-out).
    pub tokens_valid_from_unix_s: i64,
}

/// A user and the hash of its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// Who.
    pub user: User,
    /// A bcrypt hash in its usual text form.
    pub password_hash: String,
}

/// What may be changed of a user by an admin; `None` leaves it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserChange {
    /// A new unique name.
    pub username: Option<String>,
    /// A new role.
    pub role: Option<Role>,
    /// A new password hash; ends all tokens issued before `tokens_valid_from_unix_s`.
    pub password_hash: Option<String>,
    /// Ends all tokens issued before.
    pub tokens_valid_from_unix_s: Option<i64>,
}

/// A feed without its secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feed {
    /// Its id.
    pub id: FeedId,
    /// Its unique name.
    pub name: String,
    /// The symbols whose marks it may push; empty: all.
    pub symbols: Vec<Symbol>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a feed proves itself with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedSecrets {
    /// SHA-256 of its API key, in hexadecimal. The key itself is shown once and not kept.
    pub api_key_sha256: String,
    /// The secret of its webhook signatures.
    pub webhook_secret: String,
}

/// One page of a list: `items` and, when there is more, where to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// At most `limit` items.
    pub items: Vec<T>,
    /// Pass it as `after` to get the next page.
    pub next: Option<String>,
}

/// Which page is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// At most so many items; 1 to 1,000.
    pub limit: u32,
    /// The `next` of the page before. A cursor that was not given out by us is answered as an empty page.
    pub after: Option<String>,
}

/// A decision as the record holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecisionRow {
    /// The decision.
    pub decision: nexus_engine::account::Decision,
    /// What the feed calls the signal.
    pub signal_key: CompactString,
}

/// An order as the record holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OrderRow {
    /// The order.
    pub order: nexus_engine::order::Order,
    /// Whose.
    pub user: UserId,
}

/// A position as the record holds it: one a decision that was filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PositionRow {
    /// The decision behind it.
    pub decision: nexus_engine::ids::DecisionId,
    /// Whose.
    pub user: UserId,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: nexus_engine::signal::Side,
    /// How much is open; zero once closed.
    pub quantity: Quantity,
    /// The average entry price.
    pub entry_price: Price,
    /// The stop in force.
    pub stop_loss: Price,
    /// The target.
    pub take_profit: Price,
    /// What it has realised, fees included.
    pub realized: Money,
    /// When it was first open.
    pub opened_at: Timestamp,
    /// When it had nothing more to do.
    pub closed_at: Option<Timestamp>,
}

/// A fill as the record holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FillRow {
    /// The fill.
    pub fill: nexus_engine::account::Fill,
    /// Whose.
    pub user: UserId,
}

/// A turn as the record holds it: enough to take it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TurnRow {
    /// The version of the account after it.
    pub version: u64,
    /// The time of the turn.
    pub now: Timestamp,
    /// What it answered to.
    pub input: Input,
    /// The world when it began.
    pub context: Context,
    /// The facts that followed.
    pub events: Vec<Event>,
}

/// Shorthand for the future of a directory call.
pub type Reply<'a, T> = BoxFuture<'a, Result<T, DirectoryError>>;

/// Users, feeds, subscriptions, revoked tokens, and the paged record.
pub trait Directory: Send + Sync + 'static {
    /// Makes a user and the account at version 0, in one transaction.
    fn create_user(&self, credentials: Credentials, account: Account) -> Reply<'_, ()>;
    /// The user of this id.
    fn user(&self, id: UserId) -> Reply<'_, Option<User>>;
    /// The user of this name, with the hash of the password.
    fn credentials(&self, username: &str) -> Reply<'_, Option<Credentials>>;
    /// Changes a user.
    fn change_user(&self, id: UserId, change: UserChange) -> Reply<'_, User>;
    /// All users, by id.
    fn users(&self, page: PageRequest) -> Reply<'_, Page<User>>;

    /// Makes a feed.
    fn create_feed(&self, feed: Feed, secrets: FeedSecrets) -> Reply<'_, ()>;
    /// The feed of this id.
    fn feed(&self, id: FeedId) -> Reply<'_, Option<Feed>>;
    /// The feed of this name.
    fn feed_by_name(&self, name: &str) -> Reply<'_, Option<Feed>>;
    /// The feed whose API key has this SHA-256.
    fn feed_by_key(&self, api_key_sha256: &str) -> Reply<'_, Option<Feed>>;
    /// The secrets that a live feed's webhook signatures may be made with, newest first: the current one and, for a day after
    /// a rotation, the one before.
    fn webhook_secrets(&self, id: FeedId) -> Reply<'_, Vec<String>>;
    /// Replaces a feed's secrets. The old API key is dead at once.
    fn rotate_feed(&self, id: FeedId, secrets: FeedSecrets) -> Reply<'_, ()>;
    /// Ends a feed: its key is dead, its name is free, its subscriptions are gone; its signals stay in the record.
    fn delete_feed(&self, id: FeedId) -> Reply<'_, ()>;
    /// All live feeds, by id.
    fn feeds(&self, page: PageRequest) -> Reply<'_, Page<Feed>>;

    /// Makes a user follow a feed. Idempotent.
    fn subscribe(&self, feed: FeedId, user: UserId, at: Timestamp) -> Reply<'_, ()>;
    /// Ends that. Idempotent.
    fn unsubscribe(&self, feed: FeedId, user: UserId) -> Reply<'_, ()>;

    /// The name of this ledger, drawn once: what is copied from it is kept under this name.
    fn ledger_id(&self) -> Reply<'_, Uuid>;

    /// Remembers a revoked token until it would have expired anyway.
    fn revoke_token(&self, token_id: &str, until_unix_s: i64) -> Reply<'_, ()>;
    /// Tokens that are revoked and would not have expired by `now_unix_s`; forgets the others.
    fn revoked_tokens(&self, now_unix_s: i64) -> Reply<'_, Vec<(CompactString, i64)>>;

    /// A user's decisions, newest first.
    fn decisions(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<DecisionRow>>;
    /// A user's orders, newest first.
    fn orders(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<OrderRow>>;
    /// A user's open positions, or all of them, newest first.
    fn positions(&self, user: UserId, only_open: bool, page: PageRequest) -> Reply<'_, Page<PositionRow>>;
    /// A user's fills, newest first.
    fn fills(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<FillRow>>;
    /// The decisions on a signal, by user.
    fn signal_decisions(&self, signal: nexus_engine::ids::SignalId, page: PageRequest) -> Reply<'_, Page<DecisionRow>>;

    /// A user's account as it was opened, before its first turn: where a replay begins.
    fn opened_account(&self, user: UserId) -> Reply<'_, Option<Account>>;
    /// A user's turns, oldest first.
    fn turns(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<TurnRow>>;
}
