//! The ledgers that are measured: how one is filled with users, and what is in it afterwards.
//!
//! Users are written by the store itself, before the engine starts: thousands of password hashes are not what is measured. On
//! PostgreSQL one filled database is the template of all others, the plain handler's too, so everybody begins with the same
//! tables, indexes and rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use nexus_engine::account::Account;
use nexus_engine::ids::{FeedId, Timestamp, UserId};
use nexus_engine::units::Money;
use nexus_store::directory::{Credentials, Directory, Feed, FeedSecrets, Role, User};
use nexus_store::{PostgresOptions, PostgresStore, SqliteStore};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use uuid::Uuid;

use super::limits;
use crate::world::Chance;

/// What the feed signs in with.
pub const API_KEY: &str = "nxf_bench-bench-bench-bench-bench-bench-bench-0";
/// How long what follows from accepted signals may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Users that are written at once.
const SEEDERS: usize = 24;

/// The rows of a ledger that answers leave behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rows {
    /// Decisions.
    pub decisions: i64,
    /// Those that accept.
    pub accepted: i64,
    /// Fills.
    pub fills: i64,
    /// Turns.
    pub events: i64,
    /// Rows in the tables that grow or that every turn writes: signals, decisions, events, orders, fills, positions.
    pub all: i64,
}

impl Rows {
    /// What came on top of an earlier look.
    pub fn since(self, before: Rows) -> Rows {
        Rows {
            decisions: self.decisions - before.decisions,
            accepted: self.accepted - before.accepted,
            fills: self.fills - before.fills,
            events: self.events - before.events,
            all: self.all - before.all,
        }
    }
}

const COUNT: &str =
    "SELECT (SELECT count(*) FROM decisions), (SELECT count(*) FROM decisions WHERE verdict = 'accepted'),
    (SELECT count(*) FROM fills), (SELECT count(*) FROM events), (SELECT count(*) FROM signals),
    (SELECT count(*) FROM orders), (SELECT count(*) FROM positions)";
const UNFILLED: &str =
    "SELECT (SELECT count(*) FROM decisions WHERE verdict = 'accepted') - (SELECT count(*) FROM fills)";

/// A ledger, looked at from outside.
pub enum Ledger {
    /// A file.
    Sqlite(PathBuf),
    /// A database.
    Postgres(String),
}

impl Ledger {
    /// As `DATABASE_URL` says it.
    pub fn url(&self) -> String {
        match self {
            Ledger::Sqlite(path) => format!("sqlite://{}", path.display()),
            Ledger::Postgres(url) => url.clone(),
        }
    }

    /// What is in it.
    pub async fn rows(&self) -> Result<Rows> {
        let [decisions, accepted, fills, events, signals, orders, positions] = self.numbers(COUNT).await?;
        let all = decisions + fills + events + signals + orders + positions;
        Ok(Rows { decisions, accepted, fills, events, all })
    }

    /// Waits until every accepted entry is filled.
    pub async fn come_to_rest(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let [unfilled] = self.numbers(UNFILLED).await?;
            if unfilled == 0 {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{unfilled} entries are not filled {PATIENCE:?} after the last answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn numbers<const N: usize>(&self, sql: &'static str) -> Result<[i64; N]> {
        let found: Vec<i64> = match self {
            Ledger::Sqlite(path) => {
                let reader = rusqlite::Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
                reader.query_row(sql, [], |row| (0..N).map(|at| row.get(at)).collect())?
            }
            Ledger::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                let row = sqlx::query(sql).fetch_one(&mut connection).await?;
                (0..N).map(|at| row.try_get(at)).collect::<Result<_, _>>()?
            }
        };
        found.try_into().ok().context("another number of columns")
    }
}

/// The users of a ledger, in no order: as many as it takes for each to have a day like any other.
pub fn users(how_many: usize) -> Arc<[Uuid]> {
    let mut chance = Chance::seeded(0x6e_6578_7573);
    (0..how_many).map(|_| Uuid::from_u64_pair(chance.next(), chance.next())).collect()
}

/// A new file with these users and the feed that they follow. It is filled in memory, where nothing waits for a disk.
pub async fn fill_sqlite(path: &Path, users: &[Uuid]) -> Result<()> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let file = folder.path().join("ledger.db");
    fill(&SqliteStore::open(&file)?, users).await?;
    std::fs::copy(file, path)?;
    Ok(())
}

/// A new database with these users and the feed that they follow.
pub async fn fill_postgres(url: &str, users: &[Uuid]) -> Result<()> {
    let options = PostgresOptions { start_timeout: PATIENCE, ..PostgresOptions::default() };
    fill(&PostgresStore::open(url, &options).await?, users).await
}

async fn fill(directory: &dyn Directory, users: &[Uuid]) -> Result<()> {
    let at = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    let id = FeedId(Uuid::from_u128(0xfeed));
    let feed = Feed { id, name: "bench".to_owned(), symbols: Vec::new(), created_at: at };
    let api_key_sha256 = Sha256::digest(API_KEY.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    directory.create_feed(feed, FeedSecrets { api_key_sha256, webhook_secret: "whsec_bench".to_owned() }).await?;
    let fill_one = |(place, user): (usize, Uuid)| async move {
        let user = User {
            id: UserId(user),
            username: format!("user-{place}"),
            role: if place == 0 { Role::Admin } else { Role::User },
            currency: "USD".into(),
            created_at: at,
            tokens_valid_from_unix_s: 0,
        };
        let account = Account::open(user.id, user.currency.clone(), Money::whole(1_000_000), limits::of_the_bench());
        let follower = user.id;
        // Nobody signs in with it.
        let credentials = Credentials { user, password_hash: "none".to_owned() };
        directory.create_user(credentials, account).await?;
        directory.subscribe(id, follower, at).await?;
        anyhow::Ok(())
    };
    let everybody = futures::stream::iter(users.iter().copied().enumerate());
    everybody.map(fill_one).buffer_unordered(SEEDERS).try_collect::<()>().await
}

/// A PostgreSQL server, and the databases that are made on it and dropped again.
pub struct Databases {
    url: String,
    made: Vec<String>,
}

impl Databases {
    /// On the server that this URL leads to.
    pub fn on(url: String) -> Self {
        Self { url, made: Vec::new() }
    }

    /// Makes a database, as a copy of another one that nobody is connected to, or empty; answers its URL.
    pub async fn make(&mut self, name: &str, template: Option<&str>) -> Result<String> {
        let template = template.map(|name| format!(" TEMPLATE {}", full_name(name))).unwrap_or_default();
        let name = full_name(name);
        self.run(format!("CREATE DATABASE {name}{template}")).await?;
        self.made.push(name.clone());
        let (server, rest) = self.url.rsplit_once('/').context("a URL without a database")?;
        let options = rest.split_once('?').map(|(_, options)| format!("?{options}")).unwrap_or_default();
        Ok(format!("{server}/{name}{options}"))
    }

    /// Lets a database that others are copied from be filled without waiting for the disk; the copies do wait.
    pub async fn relax(&self, name: &str) -> Result<()> {
        self.run(format!("ALTER DATABASE {} SET synchronous_commit = off", full_name(name))).await
    }

    /// Drops what was made.
    pub async fn drop_all(&mut self) -> Result<()> {
        for name in std::mem::take(&mut self.made) {
            self.run(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        }
        Ok(())
    }

    /// Starts every measurement from the same point: what was written before is flushed, and dead rows are gone.
    pub async fn settle(&self) -> Result<()> {
        self.run("CHECKPOINT".to_owned()).await
    }

    async fn run(&self, sql: String) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url).await.context("the database server does not answer")?;
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// No other run on the same server has the same.
fn full_name(name: &str) -> String {
    format!("nexus_bench_{}_{name}", std::process::id())
}
