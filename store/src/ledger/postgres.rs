//! The production ledger: PostgreSQL 15 or newer, two connections that commit, a pool that reads.
//!
//! A batch of turns is one call of one function, `commit_turns`, and so one round trip and one transaction; the database
//! admits each reservation under its own locks (`migrations/postgres` tells how). The connection that commits belongs to a
//! task of its own: a caller that goes away never tears a commit. What the database has said is certain; a connection that is
//! lost in the middle leaves the outcome open, and the caller is told so. Connections are made anew when they are needed, so
//! a database that was away is served again without a restart.
//!
//! Only one instance owns the accounts at a time, see `lease.rs`; whoever was paused and has lost the lease commits nothing.

mod batch;
mod connection;
mod directory;
mod fault;
mod lease;
mod ledger;
mod lookup;
mod migrate;
mod newness;
mod pages;
mod reader;
mod rows;
mod snapshots;
mod writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_actors::ports::Probe;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use thiserror::Error;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::Migrated;
use super::rows::{Cells, Unreadable};
use connection::{Sessions, Statement};
use fault::Fault;
use lease::Fence;
use lookup::Lookup;
use newness::Newness;
pub(super) use reader::PostgresReader;
use rows::Columns;
pub(super) use rows::clean;
use writer::{Recorded, Writers};

/// Why the ledger could not be opened.
#[derive(Debug, Error)]
pub enum PostgresOpenError {
    /// The URL is not one.
    #[error("the database's URL cannot be used: {0}")]
    Url(String),
    /// The database did not answer, or did not let us in.
    #[error("the database does not answer: {0}")]
    Away(String),
    /// It is older than what the schema is written for.
    #[error("the database is PostgreSQL {found}; 15 or newer is needed")]
    OldServer {
        /// What it says of itself.
        found: String,
    },
    /// A statement of the migration failed.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(String),
    /// A newer program has migrated the database: this one could misread it.
    #[error(
        "the ledger's schema is at version {found}, this program knows versions up to {known}: use a newer program"
    )]
    NewerSchema {
        /// What the database is at.
        found: i64,
        /// What this program is at.
        known: i64,
    },
    /// The database was made by an older program.
    #[error(
        "the ledger's schema is at version {found}, this program's is {known}: start the engine once to bring it up to date"
    )]
    OlderSchema {
        /// What the database is at.
        found: i64,
        /// What this program is at.
        known: i64,
    },
    /// A migration that was applied is not the one that this program carries.
    #[error("migration {version} ({name}) was applied with another text than this program's")]
    ChangedMigration {
        /// Its number.
        version: i64,
        /// Its name.
        name: String,
    },
}

/// Sizes and times of the ledger's connections, each a bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PostgresOptions {
    /// Connections that are kept for reading.
    pub pool_size: u32,
    /// How many more there may be while many read at once.
    pub pool_overflow: u32,
    /// Batches that may wait for each connection that commits; further callers wait to queue.
    pub queue: usize,
    /// How long a connection may take to be made, or to become free.
    pub connect_timeout: Duration,
    /// How long a statement may run before the database gives it up.
    pub statement_timeout: Duration,
    /// How long a statement may wait for somebody else's lock.
    pub lock_timeout: Duration,
    /// How long to wait at the start for a database that is not up yet.
    pub start_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            pool_size: 10,
            pool_overflow: 20,
            queue: 64,
            connect_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            start_timeout: Duration::ZERO,
        }
    }
}

/// The ledger and the directory in one PostgreSQL database. Dropping it finishes what was queued.
pub struct PostgresStore {
    /// Reads and the changes of people.
    pool: PgPool,
    /// What must not stand behind them: the kill switch, the lease, the health check.
    control: PgPool,
    writers: Writers,
    fence: Arc<Fence>,
    recorded: Recorded,
    /// How long an answer is waited for: beyond the database's own bound, then it is not the statement that hangs.
    patience: Duration,
    /// When the database was last seen not to answer while it was opened.
    away_at: Option<Instant>,
    migrated: Migrated,
    lookup: Lookup,
    newness: Arc<Newness>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date. Must be called inside a tokio runtime, which the store lives in.
    pub async fn open(url: &str, options: &PostgresOptions) -> Result<PostgresStore, PostgresOpenError> {
        Self::open_probed(url, options, None).await
    }

    /// The same, with somebody looking on in the middle of each commit of a decision.
    pub async fn open_probed(
        url: &str,
        options: &PostgresOptions,
        probe: Option<Arc<dyn Probe>>,
    ) -> Result<PostgresStore, PostgresOpenError> {
        let sessions = Sessions::parse(url, options)?;
        let (mut first, away_at) = sessions.first().await?;
        let migrated = migrate::migrate(&mut first).await?;
        warn_of_a_server_that_does_not_sync(&mut first).await?;
        drop(first);
        let fence = Arc::new(Fence::default());
        let recorded = Recorded::default();
        let newness = Arc::new(Newness::default());
        let writers = Writers::start(&sessions, &fence, (&recorded, &newness), probe.as_ref());
        let (pool, control) = (sessions.pool(), sessions.control());
        let (patience, lookup) = (sessions.patience(), Lookup::start(pool.clone(), sessions.patience()));
        Ok(PostgresStore { pool, control, patience, writers, fence, recorded, lookup, newness, away_at, migrated })
    }

    /// Which version the schema was at before it was opened, and which it is at now.
    pub fn migrated(&self) -> Migrated {
        self.migrated
    }

    /// All rows of a query, each read by `read`.
    async fn all<T>(
        &self,
        statement: Statement<'_>,
        mut read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Fault> {
        let mut connection = self.pool.acquire().await.map_err(Fault::not_sent)?;
        let answer = timeout(self.patience, statement.fetch_all(&mut *connection)).await;
        let rows = in_time(answer, connection).map_err(Fault::of_a_read)?;
        Ok(rows.iter().map(|row| read(&mut Columns::of(row))).collect::<Result<_, _>>()?)
    }

    /// The first row of a query, if any.
    async fn first<T>(
        &self,
        statement: Statement<'_>,
        read: impl FnOnce(&mut dyn Cells) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Fault> {
        let mut connection = self.pool.acquire().await.map_err(Fault::not_sent)?;
        let answer = timeout(self.patience, statement.fetch_optional(&mut *connection)).await;
        let row = in_time(answer, connection).map_err(Fault::of_a_read)?;
        Ok(row.map(|row| read(&mut Columns::of(&row))).transpose()?)
    }

    /// Runs a statement that changes something, a transaction by itself, and answers its first row.
    async fn change(&self, statement: Statement<'_>) -> Result<Option<PgRow>, Fault> {
        run(&self.pool, self.patience, statement).await
    }

    /// The same beside everybody who reads.
    async fn control(&self, statement: Statement<'_>) -> Result<Option<PgRow>, Fault> {
        run(&self.control, self.patience, statement).await
    }

    /// All rows, beside everybody who reads.
    async fn control_all(&self, statement: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        let mut connection = self.control.acquire().await.map_err(Fault::not_sent)?;
        let answer = timeout(self.patience, statement.fetch_all(&mut *connection)).await;
        in_time(answer, connection)
    }
}

async fn run(pool: &PgPool, patience: Duration, statement: Statement<'_>) -> Result<Option<PgRow>, Fault> {
    let mut connection = pool.acquire().await.map_err(Fault::not_sent)?;
    let answer = timeout(patience, statement.fetch_optional(&mut *connection)).await;
    in_time(answer, connection)
}

/// What such a server has committed can be gone after a power cut, and nothing here can help that.
async fn warn_of_a_server_that_does_not_sync(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT string_agg(name, ', ') FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
    let off: Option<String> = sqlx::query_scalar(sql).fetch_one(connection).await?;
    if let Some(off) = off {
        tracing::warn!(%off, "the database does not sync what it commits: a power cut can lose decisions");
    }
    Ok(())
}

/// A connection on which no answer came in time is not used again.
fn in_time<T>(
    answer: Result<Result<T, sqlx::Error>, Elapsed>,
    connection: PoolConnection<sqlx::Postgres>,
) -> Result<T, Fault> {
    match answer {
        Ok(answer) => answer.map_err(Fault::of),
        Err(_) => {
            drop(connection.detach());
            Err(Fault::NoAnswer)
        }
    }
}
