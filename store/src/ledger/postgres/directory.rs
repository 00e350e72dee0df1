//! The directory port on PostgreSQL: users, feeds, subscriptions and revoked tokens; the pages are in `pages.rs`.
//!
//! Names and keys are unique by index, and a refused insert tells which: nothing is asked first and then hoped for. Every
//! change is one statement, so a caller that goes away in the middle leaves nothing half done.

use compact_str::CompactString;
use futures::FutureExt;
use nexus_engine::account::Account;
use nexus_engine::ids::{FeedId, SignalId, Timestamp, UserId};
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::batch::window_us;
use super::connection::Statement;
use super::fault::Fault;
use super::rows::{Columns, clean};
use super::{PostgresStore, pages};
use crate::directory::{
    Credentials, DecisionRow, Directory, DirectoryError, Feed, FeedSecrets, FillRow, OrderRow, Page, PageRequest,
    PositionRow, Reply, Role, TurnRow, User, UserChange,
};
use crate::ledger::rows::{Cells, FEED_COLUMNS, USER_COLUMNS, Unreadable, feed, to_column, to_json, user};

/// How long a webhook secret is still good after its rotation.
const ROTATION_OVERLAP_US: i64 = 24 * 60 * 60 * 1_000_000;

impl PostgresStore {
    /// Runs a change; a unique key that refuses it says that `name` is taken. Answers whether there was what it is about.
    async fn change_named(&self, statement: Statement<'_>, name: &'static str) -> Result<bool, DirectoryError> {
        match self.change(statement).await {
            Err(fault) if fault.is_taken() => Err(DirectoryError::Taken(name)),
            outcome => Ok(outcome?.is_some()),
        }
    }

    /// `column` is one of ours, never a caller's text.
    fn find_feed<'q, K>(&'q self, column: &str, key: K) -> Reply<'q, Option<Feed>>
    where
        K: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + 'q,
    {
        let sql = format!("SELECT {FEED_COLUMNS} FROM feeds WHERE {column} = $1 AND deleted_at_us IS NULL");
        look(self.first(query(AssertSqlSafe(sql)).bind(key), feed))
    }
}

/// Boxes a call and speaks the port's errors.
fn look<'a, T>(call: impl Future<Output = Result<T, Fault>> + Send + 'a) -> Reply<'a, T> {
    call.map(|outcome| outcome.map_err(DirectoryError::from)).boxed()
}

fn known(found: bool, what: &'static str) -> Result<(), DirectoryError> {
    if found { Ok(()) } else { Err(DirectoryError::Unknown(what)) }
}

fn wall_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

impl Directory for PostgresStore {
    fn create_user(&self, credentials: Credentials, account: Account) -> Reply<'_, ()> {
        async move {
            let statement = new_user(&credentials, &account).map_err(Fault::from)?;
            self.change_named(statement, "username").await.map(drop)
        }
        .boxed()
    }

    fn user(&self, id: UserId) -> Reply<'_, Option<User>> {
        let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE id = $1");
        look(self.first(query(AssertSqlSafe(sql)).bind(id.0), user))
    }

    fn credentials(&self, username: &str) -> Reply<'_, Option<Credentials>> {
        let sql = format!("SELECT {USER_COLUMNS}, password_hash FROM users WHERE username = $1");
        look(self.first(query(AssertSqlSafe(sql)).bind(clean(username).into_owned()), |cells| {
            Ok(Credentials { user: user(cells)?, password_hash: cells.string()? })
        }))
    }

    fn change_user(&self, id: UserId, change: UserChange) -> Reply<'_, User> {
        async move {
            let sql = format!(
                "UPDATE users SET username = coalesce($2, username), role = coalesce($3, role),
                        password_hash = coalesce($4, password_hash),
                        tokens_valid_from_unix_s = coalesce($5, tokens_valid_from_unix_s)
                  WHERE id = $1 RETURNING {USER_COLUMNS}"
            );
            let statement = query(AssertSqlSafe(sql))
                .bind(id.0)
                .bind(change.username.map(|name| clean(&name).into_owned()))
                .bind(change.role.map(Role::as_str))
                .bind(change.password_hash)
                .bind(change.tokens_valid_from_unix_s);
            let row = match self.change(statement).await {
                Err(fault) if fault.is_taken() => return Err(DirectoryError::Taken("username")),
                outcome => outcome?.ok_or(DirectoryError::Unknown("user"))?,
            };
            Ok(user(&mut Columns::of(&row)).map_err(Fault::from)?)
        }
        .boxed()
    }

    fn users(&self, page: PageRequest) -> Reply<'_, Page<User>> {
        let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE id > $1 ORDER BY id LIMIT $2");
        look(pages::by_id(self, sql, page, user, |user| user.id.to_string()))
    }

    fn create_feed(&self, feed: Feed, secrets: FeedSecrets) -> Reply<'_, ()> {
        async move {
            // A feed whose id derives from its name comes back under the same id after it was deleted.
            let sql = "INSERT INTO feeds (id, name, symbols, api_key_sha256, webhook_secret, created_at_us)
                       VALUES ($1, $2, $3, $4, $5, $6)
                       ON CONFLICT (id) DO UPDATE SET name = excluded.name, symbols = excluded.symbols,
                              api_key_sha256 = excluded.api_key_sha256, webhook_secret = excluded.webhook_secret,
                              previous_webhook_secret = NULL, rotated_at_us = NULL,
                              created_at_us = excluded.created_at_us, deleted_at_us = NULL
                        WHERE feeds.deleted_at_us IS NOT NULL
                       RETURNING id";
            let statement = query(sql)
                .bind(feed.id.0)
                .bind(clean(&feed.name).into_owned())
                .bind(to_json(&feed.symbols).map_err(Fault::from)?)
                .bind(secrets.api_key_sha256)
                .bind(secrets.webhook_secret)
                .bind(feed.created_at.micros());
            if self.change_named(statement, "name").await? { Ok(()) } else { Err(DirectoryError::Taken("id")) }
        }
        .boxed()
    }

    fn feed(&self, id: FeedId) -> Reply<'_, Option<Feed>> {
        self.find_feed("id", id.0)
    }

    fn feed_by_name(&self, name: &str) -> Reply<'_, Option<Feed>> {
        self.find_feed("name", clean(name).into_owned())
    }

    fn feed_by_key(&self, api_key_sha256: &str) -> Reply<'_, Option<Feed>> {
        self.find_feed("api_key_sha256", clean(api_key_sha256).into_owned())
    }

    fn webhook_secrets(&self, id: FeedId) -> Reply<'_, Vec<String>> {
        let sql = "SELECT webhook_secret, CASE WHEN rotated_at_us > $2 THEN previous_webhook_secret END
                     FROM feeds WHERE id = $1 AND deleted_at_us IS NULL";
        let still_good = wall_us().saturating_sub(ROTATION_OVERLAP_US);
        let found = self.first(query(sql).bind(id.0).bind(still_good), |cells| {
            let mut secret = || Ok::<_, Unreadable>(cells.maybe_text()?.map(ToOwned::to_owned));
            Ok([secret()?, secret()?])
        });
        look(found.map(|found| Ok(found?.into_iter().flatten().flatten().collect())))
    }

    fn rotate_feed(&self, id: FeedId, secrets: FeedSecrets) -> Reply<'_, ()> {
        async move {
            let sql =
                "UPDATE feeds SET api_key_sha256 = $2, previous_webhook_secret = webhook_secret, webhook_secret = $3,
                              rotated_at_us = $4
                        WHERE id = $1 AND deleted_at_us IS NULL RETURNING id";
            let keys = (secrets.api_key_sha256, secrets.webhook_secret);
            let statement = query(sql).bind(id.0).bind(keys.0).bind(keys.1).bind(wall_us());
            known(self.change_named(statement, "api_key").await?, "feed")
        }
        .boxed()
    }

    fn delete_feed(&self, id: FeedId) -> Reply<'_, ()> {
        async move {
            // The feed first: its lock keeps a new subscription out while the old ones go.
            let sql = "WITH gone AS (
                           UPDATE feeds SET deleted_at_us = $2, api_key_sha256 = NULL, webhook_secret = NULL,
                                  previous_webhook_secret = NULL
                            WHERE id = $1 AND deleted_at_us IS NULL RETURNING id),
                       ended AS (DELETE FROM subscriptions s USING gone WHERE s.feed_id = gone.id)
                       SELECT id FROM gone";
            known(self.change_named(query(sql).bind(id.0).bind(wall_us()), "feed").await?, "feed")
        }
        .boxed()
    }

    fn feeds(&self, page: PageRequest) -> Reply<'_, Page<Feed>> {
        let sql =
            format!("SELECT {FEED_COLUMNS} FROM feeds WHERE id > $1 AND deleted_at_us IS NULL ORDER BY id LIMIT $2");
        look(pages::by_id(self, sql, page, feed, |feed| feed.id.to_string()))
    }

    fn subscribe(&self, feed: FeedId, user: UserId, at: Timestamp) -> Reply<'_, ()> {
        async move {
            let sql = "WITH live AS (SELECT id FROM feeds WHERE id = $1 AND deleted_at_us IS NULL FOR SHARE),
                       added AS (INSERT INTO subscriptions (feed_id, user_id, since_us) SELECT id, $2, $3 FROM live
                                 ON CONFLICT DO NOTHING)
                       SELECT id FROM live";
            match self.change(query(sql).bind(feed.0).bind(user.0).bind(at.micros())).await {
                Err(fault) if fault.is_dangling() => Err(DirectoryError::Unknown("user")),
                outcome => known(outcome?.is_some(), "feed"),
            }
        }
        .boxed()
    }

    fn unsubscribe(&self, feed: FeedId, user: UserId) -> Reply<'_, ()> {
        let statement =
            query("DELETE FROM subscriptions WHERE feed_id = $1 AND user_id = $2").bind(feed.0).bind(user.0);
        look(self.change(statement).map(|outcome| outcome.map(drop)))
    }

    fn ledger_id(&self) -> Reply<'_, Uuid> {
        look(async move {
            let row = self.first(query("SELECT ledger FROM ledger_identity"), |cells| cells.uuid()).await?;
            row.ok_or_else(|| Fault::Corrupt("the ledger has no name".to_owned()))
        })
    }

    fn revoke_token(&self, token_id: &str, until_unix_s: i64) -> Reply<'_, ()> {
        let sql = "INSERT INTO revoked_tokens AS t (token_id, until_unix_s) VALUES ($1, $2)
                   ON CONFLICT (token_id) DO UPDATE SET until_unix_s = greatest(t.until_unix_s, excluded.until_unix_s)";
        let statement = query(sql).bind(clean(token_id).into_owned()).bind(until_unix_s);
        look(self.change(statement).map(|outcome| outcome.map(drop)))
    }

    fn revoked_tokens(&self, now_unix_s: i64) -> Reply<'_, Vec<(CompactString, i64)>> {
        look(async move {
            let sql = "SELECT token_id, until_unix_s FROM revoked_tokens";
            let mut tokens = self.all(query(sql), |cells| Ok((cells.compact()?, cells.int()?))).await?;
            let known = tokens.len();
            tokens.retain(|(_, until)| *until > now_unix_s);
            // This is asked often: it only writes when there is something to forget.
            if tokens.len() < known {
                self.change(query("DELETE FROM revoked_tokens WHERE until_unix_s <= $1").bind(now_unix_s)).await?;
            }
            Ok(tokens)
        })
    }

    fn decisions(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<DecisionRow>> {
        look(pages::decisions(self, user, page))
    }

    fn orders(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<OrderRow>> {
        look(pages::orders(self, user, page))
    }

    fn positions(&self, user: UserId, only_open: bool, page: PageRequest) -> Reply<'_, Page<PositionRow>> {
        look(pages::positions(self, user, only_open, page))
    }

    fn fills(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<FillRow>> {
        look(pages::fills(self, user, page))
    }

    fn signal_decisions(&self, signal: SignalId, page: PageRequest) -> Reply<'_, Page<DecisionRow>> {
        look(pages::signal_decisions(self, signal, page))
    }

    fn opened_account(&self, user: UserId) -> Reply<'_, Option<Account>> {
        let sql = "SELECT account FROM opened_accounts WHERE user_id = $1";
        look(self.first(query(sql).bind(user.0), opened))
    }

    fn turns(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<TurnRow>> {
        look(pages::turns(self, user, page))
    }
}

fn opened(cells: &mut dyn Cells) -> Result<Account, Unreadable> {
    cells.json()
}

/// A user, its limits, and its account as it was opened and as it is.
fn new_user(credentials: &Credentials, account: &Account) -> Result<Statement<'static>, Unreadable> {
    let sql = "WITH someone AS (
                   INSERT INTO users (id, username, role, currency, password_hash, created_at_us, tokens_valid_from_unix_s)
                   VALUES ($1, $2, $3, $4, $5, $6, $7)),
               limited AS (
                   INSERT INTO limits (user_id, version, max_daily_loss_e8, max_risk_percent_e8, duplicate_window_us,
                                       timeframes, limits)
                   VALUES ($8, $9, $10, $11, $12, $13::jsonb, $14)),
               opened AS (INSERT INTO opened_accounts (user_id, account) VALUES ($8, $15))
               INSERT INTO accounts (user_id, version, currency, starting_equity_e8, net_realized_e8, open_e8, reserved_e8,
                                     open_business, day, now_us)
               VALUES ($8, $16, $17, $18, $19, $20, $21, $22, date '1970-01-01' + $23, $24)";
    let (user, limits) = (&credentials.user, &account.limits);
    Ok(query(sql)
        .bind(user.id.0)
        .bind(clean(&user.username).into_owned())
        .bind(user.role.as_str())
        .bind(user.currency.to_string())
        .bind(credentials.password_hash.clone())
        .bind(user.created_at.micros())
        .bind(user.tokens_valid_from_unix_s)
        .bind(account.user.0)
        .bind(to_column(limits.version)?)
        .bind(limits.max_daily_loss.steps())
        .bind(limits.max_risk_percent.steps())
        .bind(window_us(limits))
        .bind(to_json(&limits.timeframes)?)
        .bind(to_json(limits)?)
        .bind(to_json(account)?)
        .bind(to_column(account.version)?)
        .bind(account.currency.to_string())
        .bind(account.starting_equity.steps())
        .bind(account.net_realized.steps())
        .bind(account.open_risk().steps())
        .bind(account.reserved_risk().steps())
        .bind(account.has_open_business())
        .bind(account.today.day.0)
        .bind(account.now.micros()))
}
