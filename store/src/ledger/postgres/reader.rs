//! A database opened to be taken again: one connection that reads, a read-only transaction at a time.
//!
//! It stands beside the lease: whoever owns the accounts goes on committing, and each user's rows are of one moment all the
//! same, because the transaction is a repeatable read.

use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, query};

use super::connection::Sessions;
use super::{PostgresOpenError, PostgresOptions, migrate};
use crate::ledger::replay::{Dialect, Reader, ReplayError, Value};

/// A database that answers and whose schema is this program's.
pub(in crate::ledger) struct PostgresReader {
    connection: PgConnection,
}

impl PostgresReader {
    pub(in crate::ledger) async fn open(url: &str) -> Result<PostgresReader, PostgresOpenError> {
        let (mut connection, _) = Sessions::parse(url, &PostgresOptions::default())?.first().await?;
        migrate::check(&mut connection).await?;
        Ok(PostgresReader { connection })
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), ReplayError> {
        query(sql).execute(&mut self.connection).await.map(drop).map_err(failed)
    }

    async fn rows(&mut self, sql: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, ReplayError> {
        let mut statement = query(AssertSqlSafe(sql.to_owned()));
        for parameter in parameters {
            statement = match parameter {
                Value::Null => statement.bind(None::<&str>),
                Value::Int(number) => statement.bind(*number),
                Value::Text(text) => statement.bind(text.as_str()),
            };
        }
        let rows = statement.fetch_all(&mut self.connection).await.map_err(failed)?;
        rows.iter().map(plain).collect::<Result<_, _>>().map_err(failed)
    }
}

impl Reader for PostgresReader {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn begin(&mut self) -> BoxFuture<'_, Result<(), ReplayError>> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").boxed()
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a str,
        parameters: &'a [Value],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, ReplayError>> {
        self.rows(sql, parameters).boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, Result<(), ReplayError>> {
        self.run("ROLLBACK").boxed()
    }
}

fn plain(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let value = |column: &sqlx::postgres::PgColumn| {
        Ok(match column.type_info().name() {
            "INT8" => row.try_get::<Option<i64>, _>(column.ordinal())?.map_or(Value::Null, Value::Int),
            _ => row.try_get::<Option<String>, _>(column.ordinal())?.map_or(Value::Null, Value::Text),
        })
    };
    row.columns().iter().map(value).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn failed(error: sqlx::Error) -> ReplayError {
    ReplayError(error.to_string())
}
