//! A ledger taken again: every user's history decided once more, and all that the ledger says of it compared (promise P7).
//!
//! Each stored turn is stepped with its own time, input and context; its events must be the stored ones, and every row that
//! turns write must be what they wrote: verdicts, orders, fills, positions, counters and the snapshot. What was altered,
//! removed or added by hand is found, because it does not follow. The ledger is only read, each user in one read
//! transaction, so an engine may be running on it. One replay serves both databases: they bring rows as plain values.
//!
//! What others write into the counters is no alteration once the engine has seen it: the next turn tells of the correction,
//! and a replay is corrected there, too. It says so, and how much.

mod history;
mod images;
mod lines;
mod tables;

use std::path::Path;

use futures::future::BoxFuture;
use nexus_engine::ids::UserId;
use thiserror::Error;
use uuid::Uuid;

use super::postgres::{PostgresOpenError, PostgresReader};
use super::rows::Unreadable;
use super::sqlite::{OpenError, SqliteReader};
use history::{History, Stop};
use tables::TABLES_OF_USERS;
pub(super) use tables::{Dialect, Value};

/// Users in a page.
const USERS_A_PAGE: u32 = 1_000;

/// Why a history could not be taken again.
#[derive(Debug, Error)]
#[error("the ledger cannot be read: {0}")]
pub struct ReplayError(pub(super) String);

impl From<Unreadable> for ReplayError {
    fn from(Unreadable(words): Unreadable) -> Self {
        Self(words)
    }
}

/// The first place where the ledger does not hold what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The version of the account at which it was found: of its turn, or of the last one.
    pub version: u64,
    /// The row and its column.
    pub what: String,
    /// As it is when decided again.
    pub expected: String,
    /// As the ledger holds it.
    pub found: String,
}

/// Somebody else had written into the counters, and a turn tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Correction {
    /// The version of the account after that turn.
    pub version: u64,
    /// What was corrected, from what to what.
    pub what: String,
}

/// What became of one user's history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserReplay {
    /// Turns taken again.
    pub turns: u64,
    /// Decisions among them.
    pub decisions: u64,
    /// Turns that tell of a correction.
    pub corrections: u64,
    /// The first of them.
    pub correction: Option<Correction>,
    /// The first difference; nothing after it was looked at.
    pub difference: Option<Difference>,
}

/// One connection to a ledger, read and never written.
pub(super) trait Reader: Send {
    /// Whose words it speaks.
    fn dialect(&self) -> Dialect;
    /// Everything until `end` is of one moment.
    fn begin(&mut self) -> BoxFuture<'_, Result<(), ReplayError>>;
    /// All rows of a query. Every column is a number or a text.
    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        parameters: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, ReplayError>>;
    /// The moment is over.
    fn end(&mut self) -> BoxFuture<'_, Result<(), ReplayError>>;
}

/// A ledger, opened to be taken again.
pub struct LedgerReplay {
    reader: Box<dyn Reader>,
}

impl LedgerReplay {
    /// Opens a file without writing a byte to it. It must have the schema of this program.
    pub fn of_sqlite(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { reader: Box::new(SqliteReader::open(path)?) })
    }

    /// Connects to a database, which must have the schema of this program; nothing is migrated.
    pub async fn of_postgres(url: &str) -> Result<Self, PostgresOpenError> {
        Ok(Self { reader: Box::new(PostgresReader::open(url).await?) })
    }

    /// Users by id, after this one; none when there are no more.
    pub async fn users(&mut self, after: Option<UserId>) -> Result<Vec<(UserId, String)>, ReplayError> {
        let after = Value::Text(after.map_or(Uuid::nil(), |user| user.0).to_string());
        let limit = USERS_A_PAGE;
        let sql = match self.reader.dialect() {
            Dialect::Sqlite => format!("SELECT id, username FROM users WHERE id > ?1 ORDER BY id LIMIT {limit}"),
            Dialect::Postgres => {
                format!("SELECT id::text, username FROM users WHERE id > $1::uuid ORDER BY id LIMIT {limit}")
            }
        };
        self.reader.query(&sql, &[after]).await?.iter().map(|row| named(row)).collect()
    }

    /// The user of this name or id; a name comes first.
    pub async fn user(&mut self, name_or_id: &str) -> Result<Option<(UserId, String)>, ReplayError> {
        let sql = match self.reader.dialect() {
            Dialect::Sqlite => {
                "SELECT id, username FROM users WHERE username = ?1 OR id = lower(?1) ORDER BY username = ?1 DESC"
            }
            Dialect::Postgres => {
                "SELECT id::text, username FROM users WHERE username = $1 OR id::text = lower($1)
                  ORDER BY username = $1 DESC"
            }
        };
        let found = self.reader.query(sql, &[Value::Text(name_or_id.to_owned())]).await?;
        found.first().map(|row| named(row)).transpose()
    }

    /// Takes a user's history again. `taken` hears of every turn.
    pub async fn replay(&mut self, user: UserId, taken: &mut dyn FnMut()) -> Result<UserReplay, ReplayError> {
        self.reader.begin().await?;
        let mut replay = UserReplay::default();
        let outcome = match History::of(self.reader.as_mut(), user, &mut replay).await {
            Ok(history) => history.check(taken).await,
            Err(stop) => Err(stop),
        };
        self.reader.end().await?;
        match outcome {
            Ok(()) => {}
            Err(Stop::Differs(difference)) => replay.difference = Some(difference),
            Err(Stop::Failed(error)) => return Err(error),
        }
        Ok(replay)
    }

    /// A row of somebody who is no user, and whose it claims to be.
    pub async fn stranger(&mut self) -> Result<Option<(String, Difference)>, ReplayError> {
        for table in TABLES_OF_USERS {
            let sql = format!(
                "SELECT CAST(user_id AS text) FROM {table}
                  WHERE NOT EXISTS (SELECT 1 FROM users WHERE users.id = {table}.user_id) LIMIT 1"
            );
            let found = self.reader.query(&sql, &[]).await?;
            if let Some([Value::Text(user)]) = found.first().map(Vec::as_slice) {
                let what = format!("{table} of {user}, who is no user");
                return Ok(Some((user.clone(), images::stray(0, what))));
            }
        }
        Ok(None)
    }
}

fn named(row: &[Value]) -> Result<(UserId, String), ReplayError> {
    match row {
        [Value::Text(id), Value::Text(name)] => {
            Ok((id.parse().map_err(|error| ReplayError(format!("user {id}: {error}")))?, name.clone()))
        }
        _ => Err(ReplayError(format!("{row:?} is not a user"))),
    }
}

fn unreadable(version: u64, what: &str, error: &Unreadable) -> Difference {
    let Unreadable(words) = error;
    Difference { version, what: what.to_owned(), expected: "readable".to_owned(), found: words.clone() }
}
