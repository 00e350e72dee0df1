//! The directory port on SQLite: users, feeds, subscriptions and revoked tokens; the pages are in `pages.rs`.
//!
//! Names and keys are unique by index, and a refused insert tells which: nothing is asked first and then hoped for.

use compact_str::CompactString;
use futures::FutureExt;
use nexus_engine::account::Account;
use nexus_engine::ids::{FeedId, SignalId, Timestamp, UserId};
use rusqlite::{Connection, Params, Transaction, params};
use uuid::Uuid;

use super::SqliteStore;
use super::connection::transact;
use super::fault::{Fault, is_dangling, is_taken};
use super::pages;
use super::project::upsert_limits;
use super::read::{all, first};
use crate::directory::{
    Credentials, DecisionRow, Directory, DirectoryError, Feed, FeedSecrets, FillRow, OrderRow, Page, PageRequest,
    PositionRow, Reply, Role, TurnRow, User, UserChange,
};
use crate::ledger::rows::{Cells, FEED_COLUMNS, USER_COLUMNS, Unreadable, feed, to_column, to_json, user};

/// How long a webhook secret is still good after its rotation.
const ROTATION_OVERLAP_US: i64 = 24 * 60 * 60 * 1_000_000;

/// What stops a change: the directory's own answer, or the machine.
enum Stop {
    Answer(DirectoryError),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Stop {
    fn from(fault: E) -> Self {
        Stop::Fault(fault.into())
    }
}

impl SqliteStore {
    /// One transaction of the directory. An answer that is an error rolls back, too.
    fn change<'a, T, F>(&'a self, work: F) -> Reply<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Stop> + Send + 'static,
    {
        let job = self.write(move |connection| match transact(connection, work) {
            Ok(value) => Ok(Ok(value)),
            Err(Stop::Answer(answer)) => Ok(Err(answer)),
            Err(Stop::Fault(fault)) => Err(fault),
        });
        job.map(|outcome| outcome.map_err(DirectoryError::from).flatten()).boxed()
    }

    fn look<'a, T, F>(&'a self, work: F) -> Reply<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.read(work).map(|outcome| outcome.map_err(DirectoryError::from)).boxed()
    }
}

impl Directory for SqliteStore {
    fn create_user(&self, credentials: Credentials, account: Account) -> Reply<'_, ()> {
        self.change(move |transaction| {
            insert_user(transaction, &credentials)?;
            insert_account(transaction, &account)?;
            Ok(())
        })
    }

    fn user(&self, id: UserId) -> Reply<'_, Option<User>> {
        self.look(move |moment| find_user(moment, id))
    }

    fn credentials(&self, username: &str) -> Reply<'_, Option<Credentials>> {
        let username = username.to_owned();
        self.look(move |moment| {
            let sql = format!("SELECT {USER_COLUMNS}, password_hash FROM users WHERE username = ?1");
            first(moment, &sql, [username], |columns| {
                Ok(Credentials { user: user(columns)?, password_hash: columns.string()? })
            })
        })
    }

    fn change_user(&self, id: UserId, change: UserChange) -> Reply<'_, User> {
        self.change(move |transaction| {
            let role = change.role.map(Role::as_str);
            let sql = "UPDATE users SET username = coalesce(?2, username), role = coalesce(?3, role),
                              password_hash = coalesce(?4, password_hash),
                              tokens_valid_from_unix_s = coalesce(?5, tokens_valid_from_unix_s)
                        WHERE id = ?1";
            let keys =
                params![id.to_string(), change.username, role, change.password_hash, change.tokens_valid_from_unix_s];
            run(transaction, sql, keys, "username")?;
            find_user(transaction, id)?.ok_or(Stop::Answer(DirectoryError::Unknown("user")))
        })
    }

    fn users(&self, page: PageRequest) -> Reply<'_, Page<User>> {
        self.look(move |moment| {
            let sql = format!("SELECT {USER_COLUMNS} FROM users WHERE id > ?1 ORDER BY id LIMIT ?2");
            pages::by_id(moment, &sql, &page, user, |user| user.id.to_string())
        })
    }

    fn create_feed(&self, feed: Feed, secrets: FeedSecrets) -> Reply<'_, ()> {
        self.change(move |transaction| {
            // A feed whose id derives from its name comes back under the same id after it was deleted.
            let sql = "INSERT INTO feeds (id, name, symbols, api_key_sha256, webhook_secret, created_at_us)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (id) DO UPDATE SET name = excluded.name, symbols = excluded.symbols,
                              api_key_sha256 = excluded.api_key_sha256, webhook_secret = excluded.webhook_secret,
                              previous_webhook_secret = NULL, rotated_at_us = NULL,
                              created_at_us = excluded.created_at_us, deleted_at_us = NULL
                        WHERE deleted_at_us IS NOT NULL";
            let keys = params![
                feed.id.to_string(),
                feed.name,
                to_json(&feed.symbols)?,
                secrets.api_key_sha256,
                secrets.webhook_secret,
                feed.created_at.micros(),
            ];
            match run(transaction, sql, keys, "name")? {
                0 => Err(Stop::Answer(DirectoryError::Taken("id"))),
                _ => Ok(()),
            }
        })
    }

    fn feed(&self, id: FeedId) -> Reply<'_, Option<Feed>> {
        self.look(move |moment| find_feed(moment, "id", &id.to_string()))
    }

    fn feed_by_name(&self, name: &str) -> Reply<'_, Option<Feed>> {
        let name = name.to_owned();
        self.look(move |moment| find_feed(moment, "name", &name))
    }

    fn feed_by_key(&self, api_key_sha256: &str) -> Reply<'_, Option<Feed>> {
        let key = api_key_sha256.to_owned();
        self.look(move |moment| find_feed(moment, "api_key_sha256", &key))
    }

    fn webhook_secrets(&self, id: FeedId) -> Reply<'_, Vec<String>> {
        self.look(move |moment| {
            let sql = "SELECT webhook_secret, iif(rotated_at_us > ?2, previous_webhook_secret, NULL)
                         FROM feeds WHERE id = ?1 AND deleted_at_us IS NULL";
            let still_good = wall_us().saturating_sub(ROTATION_OVERLAP_US);
            let found = first(moment, sql, params![id.to_string(), still_good], |columns| {
                let mut secret = || Ok::<_, Unreadable>(columns.maybe_text()?.map(ToOwned::to_owned));
                Ok([secret()?, secret()?])
            })?;
            Ok(found.into_iter().flatten().flatten().collect())
        })
    }

    fn rotate_feed(&self, id: FeedId, secrets: FeedSecrets) -> Reply<'_, ()> {
        self.change(move |transaction| {
            let sql =
                "UPDATE feeds SET api_key_sha256 = ?2, previous_webhook_secret = webhook_secret, webhook_secret = ?3,
                              rotated_at_us = ?4
                        WHERE id = ?1 AND deleted_at_us IS NULL";
            let keys = params![id.to_string(), secrets.api_key_sha256, secrets.webhook_secret, wall_us()];
            known(run(transaction, sql, keys, "api_key")?, "feed")
        })
    }

    fn delete_feed(&self, id: FeedId) -> Reply<'_, ()> {
        self.change(move |transaction| {
            transaction.execute("DELETE FROM subscriptions WHERE feed_id = ?1", [id.to_string()])?;
            let sql = "UPDATE feeds SET deleted_at_us = ?2, api_key_sha256 = NULL, webhook_secret = NULL,
                              previous_webhook_secret = NULL
                        WHERE id = ?1 AND deleted_at_us IS NULL";
            known(transaction.execute(sql, params![id.to_string(), wall_us()])?, "feed")
        })
    }

    fn feeds(&self, page: PageRequest) -> Reply<'_, Page<Feed>> {
        self.look(move |moment| {
            let sql = format!(
                "SELECT {FEED_COLUMNS} FROM feeds WHERE id > ?1 AND deleted_at_us IS NULL ORDER BY id LIMIT ?2"
            );
            pages::by_id(moment, &sql, &page, feed, |feed| feed.id.to_string())
        })
    }

    fn subscribe(&self, feed: FeedId, user: UserId, at: Timestamp) -> Reply<'_, ()> {
        self.change(move |transaction| {
            if find_feed(transaction, "id", &feed.to_string())?.is_none() {
                return Err(Stop::Answer(DirectoryError::Unknown("feed")));
            }
            let sql =
                "INSERT INTO subscriptions (feed_id, user_id, since_us) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            match transaction.execute(sql, params![feed.to_string(), user.to_string(), at.micros()]) {
                Err(error) if is_dangling(&error) => Err(Stop::Answer(DirectoryError::Unknown("user"))),
                outcome => Ok(outcome.map(drop)?),
            }
        })
    }

    fn unsubscribe(&self, feed: FeedId, user: UserId) -> Reply<'_, ()> {
        self.change(move |transaction| {
            let sql = "DELETE FROM subscriptions WHERE feed_id = ?1 AND user_id = ?2";
            transaction.execute(sql, params![feed.to_string(), user.to_string()])?;
            Ok(())
        })
    }

    fn ledger_id(&self) -> Reply<'_, Uuid> {
        self.look(|moment| {
            let name = first(moment, "SELECT ledger FROM ledger_identity", params![], |columns| columns.parse())?;
            name.ok_or_else(|| Fault::Corrupt("the ledger has no name".to_owned()))
        })
    }

    fn revoke_token(&self, token_id: &str, until_unix_s: i64) -> Reply<'_, ()> {
        let token = token_id.to_owned();
        self.change(move |transaction| {
            let sql = "INSERT INTO revoked_tokens (token_id, until_unix_s) VALUES (?1, ?2)
                       ON CONFLICT DO UPDATE SET until_unix_s = max(until_unix_s, excluded.until_unix_s)";
            transaction.execute(sql, params![token, until_unix_s])?;
            Ok(())
        })
    }

    fn revoked_tokens(&self, now_unix_s: i64) -> Reply<'_, Vec<(CompactString, i64)>> {
        let call = async move {
            let sql = "SELECT token_id, until_unix_s FROM revoked_tokens";
            let mut tokens = self
                .read(move |moment| all(moment, sql, params![], |columns| Ok((columns.compact()?, columns.int()?))))
                .await?;
            let known = tokens.len();
            tokens.retain(|(_, until)| *until > now_unix_s);
            // This is asked often: the writing thread is only troubled when there is something to forget.
            if tokens.len() < known {
                self.write(move |connection| {
                    connection.execute("DELETE FROM revoked_tokens WHERE until_unix_s <= ?1", [now_unix_s])?;
                    Ok(())
                })
                .await?;
            }
            Ok::<_, Fault>(tokens)
        };
        call.map(|outcome| outcome.map_err(DirectoryError::from)).boxed()
    }

    fn decisions(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<DecisionRow>> {
        self.look(move |moment| pages::decisions(moment, user, &page))
    }

    fn orders(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<OrderRow>> {
        self.look(move |moment| pages::orders(moment, user, &page))
    }

    fn positions(&self, user: UserId, only_open: bool, page: PageRequest) -> Reply<'_, Page<PositionRow>> {
        self.look(move |moment| pages::positions(moment, user, only_open, &page))
    }

    fn fills(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<FillRow>> {
        self.look(move |moment| pages::fills(moment, user, &page))
    }

    fn signal_decisions(&self, signal: SignalId, page: PageRequest) -> Reply<'_, Page<DecisionRow>> {
        self.look(move |moment| pages::signal_decisions(moment, signal, &page))
    }

    fn opened_account(&self, user: UserId) -> Reply<'_, Option<Account>> {
        self.look(move |moment| {
            let sql = "SELECT account FROM opened_accounts WHERE user_id = ?1";
            first(moment, sql, [user.to_string()], opened)
        })
    }

    fn turns(&self, user: UserId, page: PageRequest) -> Reply<'_, Page<TurnRow>> {
        self.look(move |moment| pages::turns(moment, user, &page))
    }
}

/// Runs a change; a unique key that refuses it says that `name` is taken. Answers how many rows it changed.
fn run(transaction: &Transaction<'_>, sql: &str, keys: impl Params, name: &'static str) -> Result<usize, Stop> {
    match transaction.execute(sql, keys) {
        Err(error) if is_taken(&error) => Err(Stop::Answer(DirectoryError::Taken(name))),
        outcome => Ok(outcome?),
    }
}

fn known(changed: usize, what: &'static str) -> Result<(), Stop> {
    if changed == 0 { Err(Stop::Answer(DirectoryError::Unknown(what))) } else { Ok(()) }
}

fn wall_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

fn insert_user(transaction: &Transaction<'_>, credentials: &Credentials) -> Result<(), Stop> {
    let user = &credentials.user;
    let sql = "INSERT INTO users (id, username, role, currency, password_hash, created_at_us, tokens_valid_from_unix_s)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let keys = params![
        user.id.to_string(),
        user.username,
        user.role.as_str(),
        user.currency.as_str(),
        credentials.password_hash,
        user.created_at.micros(),
        user.tokens_valid_from_unix_s,
    ];
    run(transaction, sql, keys, "username").map(drop)
}

pub(super) fn insert_account(transaction: &Transaction<'_>, account: &Account) -> Result<(), Fault> {
    upsert_limits(transaction, account.user, &account.limits)?;
    let user = account.user.to_string();
    let snapshot = to_json(account)?;
    transaction.execute("INSERT INTO opened_accounts (user_id, account) VALUES (?1, ?2)", params![user, snapshot])?;
    transaction.execute(
        "INSERT INTO accounts (user_id, version, currency, starting_equity_e8, net_realized_e8, open_e8, reserved_e8,
                               open_business, now_us, snapshot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            user,
            to_column(account.version)?,
            account.currency.as_str(),
            account.starting_equity.steps(),
            account.net_realized.steps(),
            account.open_risk().steps(),
            account.reserved_risk().steps(),
            account.has_open_business(),
            account.now.micros(),
            snapshot,
        ],
    )?;
    Ok(())
}

fn find_user(moment: &Connection, id: UserId) -> Result<Option<User>, Fault> {
    first(moment, &format!("SELECT {USER_COLUMNS} FROM users WHERE id = ?1"), [id.to_string()], user)
}

/// `column` is one of ours, never a caller's text.
fn find_feed(moment: &Connection, column: &str, key: &str) -> Result<Option<Feed>, Fault> {
    let sql = format!("SELECT {FEED_COLUMNS} FROM feeds WHERE {column} = ?1 AND deleted_at_us IS NULL");
    first(moment, &sql, [key], feed)
}

fn opened(columns: &mut dyn Cells) -> Result<Account, Unreadable> {
    columns.json()
}
