//! The ledger of a run, in a file or on a server, and read by somebody who is not the engine.
//!
//! The same questions are asked of both: what was kept must not depend on where.

use std::path::Path;

use nexus_testbed::with_database;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Which ledger a run is made on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file in the engine's folder.
    Sqlite,
    /// A database of its own on the server that tests share.
    Postgres,
}

/// A database of one run. What a failed one has left ends with its server.
pub struct Database {
    /// Where it is.
    pub url: String,
    name: String,
}

impl Database {
    /// An empty one.
    pub async fn fresh() -> Database {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (server, name) = (nexus_testbed::Kind::Postgres.shared(), format!("crash_{}_{number}", std::process::id()));
        let mut connection = PgConnection::connect(&server).await.unwrap();
        // Of an earlier process with the same number, on a server that outlives both.
        for sql in [format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        }
        Database { url: with_database(&server, &name), name }
    }

    /// Takes it away.
    pub async fn remove(self) {
        let mut connection = PgConnection::connect(&nexus_testbed::Kind::Postgres.shared()).await.unwrap();
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

/// A ledger, opened.
pub enum Ledger {
    /// A file.
    File(rusqlite::Connection),
    /// A connection to a server.
    Server(PgConnection),
}

impl Ledger {
    /// A file.
    pub fn file(path: &Path) -> Ledger {
        Ledger::File(rusqlite::Connection::open(path).unwrap())
    }

    /// A database.
    pub async fn at(url: &str) -> Ledger {
        Ledger::Server(PgConnection::connect(url).await.unwrap())
    }

    /// A column of texts.
    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        match self {
            Ledger::File(file) => {
                let mut statement = file.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                rows.map(Result::unwrap).collect()
            }
            Ledger::Server(connection) => {
                sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.unwrap()
            }
        }
    }
}
