//! The yardstick for the database alone: bare one-row commits.
//!
//! One table, one row a transaction, on the same server and in the same run: what a lone durable answer takes beyond this is the
//! engine's doing, and the database's for more rows.

use anyhow::Result;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::load::Caller;

/// A connection that commits one row after the other.
pub struct Committer {
    connection: PgConnection,
    number: i64,
}

impl Committer {
    /// So many of them, on this database.
    pub async fn connect(url: &str, how_many: usize) -> Result<Vec<Committer>> {
        let mut first = PgConnection::connect(url).await?;
        let table =
            "CREATE TABLE IF NOT EXISTS bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, number bigint)";
        sqlx::query(table).execute(&mut first).await?;
        let mut committers = vec![Committer { connection: first, number: 0 }];
        while committers.len() < how_many {
            committers.push(Committer { connection: PgConnection::connect(url).await?, number: 0 });
        }
        Ok(committers)
    }
}

impl Caller for Committer {
    fn prepare(&mut self, number: u64) -> Result<bool> {
        self.number = i64::try_from(number)?;
        Ok(true)
    }

    async fn call(&mut self) -> Result<()> {
        let insert = sqlx::query("INSERT INTO bare (number) VALUES ($1)").bind(self.number);
        insert.execute(&mut self.connection).await?;
        Ok(())
    }
}
