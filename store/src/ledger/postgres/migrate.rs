//! Migrations: numbered texts, applied once, in order, each in its own transaction, never changed afterwards.
//!
//! The applied text itself is kept beside its number, so a person can read what was run, and an edited migration is found
//! by comparing, not by trust. An advisory lock keeps two instances that start at once apart. Partitions for this month and
//! the next are made here, too, so that hardly any commit ever has to.

use std::cmp::Ordering;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row, Transaction};

use super::PostgresOpenError;
use crate::ledger::Migrated;

struct Migration {
    name: &'static str,
    text: &'static str,
}

/// Numbered from 1 by their place. Append only.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "ledger", text: include_str!("../../../../migrations/postgres/0001_ledger.sql") },
    Migration { name: "commit", text: include_str!("../../../../migrations/postgres/0002_commit.sql") },
    Migration { name: "views", text: include_str!("../../../../migrations/postgres/0003_views.sql") },
    Migration { name: "identity", text: include_str!("../../../../migrations/postgres/0004_identity.sql") },
    Migration { name: "scopes", text: include_str!("../../../../migrations/postgres/0005_scopes.sql") },
];

/// The oldest server that the texts are written for.
const SERVER_VERSION_MIN: i32 = 150_000;

const APPLIED: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version    bigint      NOT NULL PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL,
    text       text        NOT NULL
)";

impl From<sqlx::Error> for PostgresOpenError {
    fn from(error: sqlx::Error) -> Self {
        PostgresOpenError::Migration(error.to_string())
    }
}

/// Brings the schema up to date, or says why this program must not touch the database.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<Migrated, PostgresOpenError> {
    refuse_old_server(connection).await?;
    // Large tables may take their time, and so may another instance that migrates.
    sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0").execute(&mut *connection).await?;
    sqlx::query("SELECT pg_advisory_lock(hashtext('nexus'), 0)").execute(&mut *connection).await?;
    let outcome = apply_all(connection).await;
    // With the connection the lock ends in any case.
    sqlx::query("SELECT pg_advisory_unlock(hashtext('nexus'), 0)").execute(&mut *connection).await?;
    outcome
}

async fn refuse_old_server(connection: &mut PgConnection) -> Result<(), PostgresOpenError> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('server_version')";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    if row.try_get::<i32, _>(0)? < SERVER_VERSION_MIN {
        return Err(PostgresOpenError::OldServer { found: row.try_get(1)? });
    }
    Ok(())
}

/// Says whether the schema is exactly the one that this program knows, and changes nothing.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), PostgresOpenError> {
    refuse_old_server(connection).await?;
    let known = known();
    let found = if is_there(connection).await? { newest(connection).await? } else { 0 };
    match found.cmp(&known) {
        Ordering::Less => return Err(PostgresOpenError::OlderSchema { found, known }),
        Ordering::Greater => return Err(PostgresOpenError::NewerSchema { found, known }),
        Ordering::Equal => {}
    }
    for (version, migration) in (1..).zip(MIGRATIONS) {
        if applied(connection, version).await?.as_deref() != Some(migration.text) {
            return Err(PostgresOpenError::ChangedMigration { version, name: migration.name.to_owned() });
        }
    }
    Ok(())
}

/// The version that this program is at.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

async fn is_there(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass('schema_migrations') IS NOT NULL").fetch_one(connection).await
}

/// The version that the database is at.
async fn newest(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM schema_migrations").fetch_one(connection).await
}

async fn applied(connection: &mut PgConnection, version: i64) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT text FROM schema_migrations WHERE version = $1")
        .bind(version)
        .fetch_optional(connection)
        .await
}

async fn apply_all(connection: &mut PgConnection) -> Result<Migrated, PostgresOpenError> {
    // Asked first: whoever may not create tables may still use a database that has them.
    if !is_there(connection).await? {
        sqlx::raw_sql(APPLIED).execute(&mut *connection).await?;
    }
    let (known, found) = (known(), newest(connection).await?);
    if found > known {
        return Err(PostgresOpenError::NewerSchema { found, known });
    }
    for (version, migration) in (1..).zip(MIGRATIONS) {
        let mut transaction = connection.begin().await?;
        apply(&mut transaction, version, migration).await?;
        transaction.commit().await?;
    }
    let ahead = "SELECT make_events_partition(to_char(
                     date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month', 'YYYY_MM'))
                   FROM generate_series(0, 1) n";
    sqlx::query(ahead).execute(&mut *connection).await?;
    Ok(Migrated { from: found, to: known })
}

async fn apply(
    transaction: &mut Transaction<'_, sqlx::Postgres>,
    version: i64,
    migration: &Migration,
) -> Result<(), PostgresOpenError> {
    match applied(transaction, version).await? {
        Some(text) if text == migration.text => Ok(()),
        Some(_) => Err(PostgresOpenError::ChangedMigration { version, name: migration.name.to_owned() }),
        None => {
            sqlx::raw_sql(AssertSqlSafe(migration.text)).execute(&mut **transaction).await?;
            sqlx::query("INSERT INTO schema_migrations VALUES ($1, $2, clock_timestamp(), $3)")
                .bind(version)
                .bind(migration.name)
                .bind(migration.text)
                .execute(&mut **transaction)
                .await?;
            Ok(())
        }
    }
}
