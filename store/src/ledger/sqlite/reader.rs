//! A ledger's file opened to be taken again: read, and neither migrated nor changed.
//!
//! A replay asks and computes in turns on one thread, so its questions are answered at once and without a thread of their
//! own. In WAL mode a read transaction sees one moment and keeps nobody from writing.

use std::path::Path;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::connection::open_reader;
use super::{OpenError, SqliteOptions, migrate};
use crate::ledger::replay::{Dialect, Reader, ReplayError, Value};

/// A file that is there and whose schema is this program's.
pub(in crate::ledger) struct SqliteReader {
    connection: Connection,
}

impl SqliteReader {
    pub(in crate::ledger) fn open(path: &Path) -> Result<SqliteReader, OpenError> {
        let connection = open_reader(path, &SqliteOptions::default())?;
        migrate::check(&connection)?;
        Ok(SqliteReader { connection })
    }

    fn run(&self, sql: &str) -> Result<(), ReplayError> {
        self.connection.execute_batch(sql).map_err(failed)
    }

    fn rows(&self, sql: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query(params_from_iter(parameters))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push((0..columns).map(|at| row.get_ref(at).map(plain)).collect::<Result<_, _>>()?);
        }
        Ok(found)
    }
}

impl Reader for SqliteReader {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn begin(&mut self) -> BoxFuture<'_, Result<(), ReplayError>> {
        ready(self.run("BEGIN")).boxed()
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        parameters: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, ReplayError>> {
        ready(self.rows(sql, parameters).map_err(failed)).boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, Result<(), ReplayError>> {
        ready(self.run("ROLLBACK")).boxed()
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// The tables are strict: a number is whole, and a text is a text, if not always one that can be read.
fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn failed(error: rusqlite::Error) -> ReplayError {
    ReplayError(error.to_string())
}
