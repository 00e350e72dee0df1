//! Migrations: numbered texts, applied once, in order, each in its own transaction, never changed afterwards.
//!
//! The applied text itself is kept beside its number, so a person can read what was run, and an edited migration is found
//! by comparing, not by trust.

use std::cmp::Ordering;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::OpenError;
use crate::ledger::Migrated;

struct Migration {
    name: &'static str,
    text: &'static str,
}

/// Numbered from 1 by their place. Append only.
const MIGRATIONS: &[Migration] = &[
    Migration { name: "ledger", text: include_str!("../../../../migrations/sqlite/0001_ledger.sql") },
    Migration { name: "views", text: include_str!("../../../../migrations/sqlite/0002_views.sql") },
    Migration { name: "identity", text: include_str!("../../../../migrations/sqlite/0003_identity.sql") },
    Migration { name: "scopes", text: include_str!("../../../../migrations/sqlite/0004_scopes.sql") },
];

const APPLIED: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version    INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at TEXT    NOT NULL,
    text       TEXT    NOT NULL
) STRICT";

/// Brings the schema up to date, or says why this program must not touch the file.
pub(super) fn migrate(connection: &mut Connection) -> Result<Migrated, OpenError> {
    // The lock is taken before looking: two processes that start at once do not both apply.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(APPLIED)?;
    let (from, to) = versions(&transaction)?;
    if from > to {
        return Err(OpenError::NewerSchema { found: from, known: to });
    }
    transaction.commit()?;
    for (version, migration) in (1..).zip(MIGRATIONS) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        apply(&transaction, version, migration)?;
        transaction.commit()?;
    }
    Ok(Migrated { from, to })
}

/// Says whether the schema is exactly the one that this program knows, and changes nothing.
pub(super) fn check(connection: &Connection) -> Result<(), OpenError> {
    let (found, known) = versions(connection)?;
    match found.cmp(&known) {
        Ordering::Less => return Err(OpenError::OlderSchema { found, known }),
        Ordering::Greater => return Err(OpenError::NewerSchema { found, known }),
        Ordering::Equal => {}
    }
    for (version, migration) in (1..).zip(MIGRATIONS) {
        if applied(connection, version)?.as_deref() != Some(migration.text) {
            return Err(OpenError::ChangedMigration { version, name: migration.name.to_owned() });
        }
    }
    Ok(())
}

/// The version that the file is at, and the one that this program is at.
fn versions(connection: &Connection) -> Result<(i64, i64), OpenError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let sql = "SELECT coalesce(max(version), 0) FROM schema_migrations";
    Ok((connection.query_row(sql, [], |row| row.get(0))?, known))
}

fn applied(connection: &Connection, version: i64) -> Result<Option<String>, OpenError> {
    let sql = "SELECT text FROM schema_migrations WHERE version = ?1";
    Ok(connection.query_row(sql, [version], |row| row.get(0)).optional()?)
}

fn apply(transaction: &Transaction<'_>, version: i64, migration: &Migration) -> Result<(), OpenError> {
    match applied(transaction, version)? {
        Some(text) if text == migration.text => Ok(()),
        Some(_) => Err(OpenError::ChangedMigration { version, name: migration.name.to_owned() }),
        None => {
            transaction.execute_batch(migration.text)?;
            transaction.execute(
                "INSERT INTO schema_migrations (version, name, applied_at, text) VALUES (?1, ?2, ?3, ?4)",
                params![version, migration.name, jiff::Timestamp::now().to_string(), migration.text],
            )?;
            Ok(())
        }
    }
}
