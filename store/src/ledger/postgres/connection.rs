//! How connections are made: by the URL's word on TLS, under the name `nexus`, and with bounds on every wait.
//!
//! The connection that commits is told more: its statements are planned once and kept, by index and nested loop, because a
//! plan that was made while a table was empty would read whole days of it later.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres};

use super::fault::Fault;
use super::{PostgresOpenError, PostgresOptions};

/// A statement with its values.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A connection that has rested so long is asked whether it is still there.
const REST_MAX: Duration = Duration::from_secs(1);
/// Connections of the kill switch, the lease and the health check.
const CONTROL_SIZE: u32 = 3;
/// A connection that was not needed so long is let go, down to those that are kept.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// What an answer may take beyond the database's own bound on a statement.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is said that the database is still waited for.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often a database that is not up yet is asked.
const START_PAUSE: Duration = Duration::from_millis(250);

/// Everything that it takes to make a connection.
#[derive(Clone)]
pub(super) struct Sessions {
    server: PgConnectOptions,
    pub(super) options: PostgresOptions,
}

impl Sessions {
    pub(super) fn parse(url: &str, options: &PostgresOptions) -> Result<Sessions, PostgresOpenError> {
        let server: PgConnectOptions =
            url.parse().map_err(|error: sqlx::Error| PostgresOpenError::Url(error.to_string()))?;
        let server = server.application_name("nexus").disable_statement_logging();
        Ok(Sessions { server, options: options.clone() })
    }

    /// The first connection of all, waited for as long as the options say; and when it was last refused.
    pub(super) async fn first(&self) -> Result<(PgConnection, Option<Instant>), PostgresOpenError> {
        let began = Instant::now();
        let mut told = None;
        let mut refused_at = None;
        loop {
            let error = match self.connect().await {
                Ok(connection) => return Ok((connection, refused_at)),
                Err(error) => error,
            };
            refused_at = Some(Instant::now());
            if began.elapsed() >= self.options.start_timeout || !may_come_up(&error) {
                return Err(PostgresOpenError::Away(error.to_string()));
            }
            if told.is_none_or(|at: Instant| at.elapsed() >= TELL_EVERY) {
                tracing::warn!(%error, host = self.server.get_host(), port = self.server.get_port(), "waiting for the database");
                told = Some(Instant::now());
            }
            tokio::time::sleep(START_PAUSE).await;
        }
    }

    /// How long an answer is waited for: beyond the database's own bound on a statement it is not the statement that hangs.
    pub(super) fn patience(&self) -> Duration {
        self.options.statement_timeout + GRACE
    }

    /// A connection like those of the pools.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = self.server.connect().await?;
            bound(&mut connection, &self.options).await?;
            Ok(connection)
        };
        tokio::time::timeout(self.options.connect_timeout, connecting).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// The connection that commits.
    pub(super) async fn committing(&self) -> Result<PgConnection, Fault> {
        let connecting = async {
            let mut connection = self.connect().await?;
            let settings = "SET plan_cache_mode = force_generic_plan; SET jit = off; SET enable_seqscan = off;
                            SET enable_hashjoin = off; SET enable_mergejoin = off";
            sqlx::raw_sql(settings).execute(&mut connection).await?;
            Ok(connection)
        };
        connecting.await.map_err(Fault::not_sent)
    }

    /// Where people and actors read.
    pub(super) fn pool(&self) -> PgPool {
        let PostgresOptions { pool_size, pool_overflow, .. } = self.options;
        self.pool_of(pool_size, pool_size.saturating_add(pool_overflow).max(1))
    }

    /// What must not stand behind them.
    pub(super) fn control(&self) -> PgPool {
        self.pool_of(0, CONTROL_SIZE)
    }

    fn pool_of(&self, kept: u32, most: u32) -> PgPool {
        let options = self.options.clone();
        PgPoolOptions::new()
            .min_connections(kept)
            .max_connections(most)
            .acquire_timeout(self.options.connect_timeout)
            .idle_timeout(IDLE_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move { Ok(state.idle_for < REST_MAX || connection.ping().await.is_ok()) })
            })
            .after_connect(move |connection, _| {
                let options = options.clone();
                Box::pin(async move { bound(connection, &options).await })
            })
            .connect_lazy_with(self.server.clone())
    }
}

/// A server that has said no will say no again; one that is starting, or not there yet, may come.
fn may_come_up(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(said) => matches!(said.code().as_deref(), Some("57P03" | "53300")),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

async fn bound(connection: &mut PgConnection, options: &PostgresOptions) -> Result<(), sqlx::Error> {
    let (statement, lock) = (options.statement_timeout.as_millis(), options.lock_timeout.as_millis());
    // What is answered is on the disk, whatever a role or a database has been set to; who asked for more keeps it.
    let durable = "SELECT set_config('synchronous_commit', 'on', false)
                    WHERE current_setting('synchronous_commit') = 'off'";
    let settings =
        format!("SET statement_timeout = {statement}; SET lock_timeout = {lock}; SET TimeZone = 'UTC'; {durable}");
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(connection).await.map(drop)
}
