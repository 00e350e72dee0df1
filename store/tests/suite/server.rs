//! Databases of the tests' own on the server that they share.
//!
//! Each test has one, copied from a template that is migrated once, and dropped when the test is over. The servers themselves
//! are the business of `testbed`, which other suites use, too.

use std::path::Path;

use nexus_store::{PostgresOptions, PostgresStore};
use nexus_testbed::{Kind, with_database};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

/// Small pools: many tests run at once.
pub fn options() -> PostgresOptions {
    PostgresOptions { pool_size: 0, pool_overflow: 4, ..PostgresOptions::default() }
}

/// A database of its own. It is dropped when this is.
pub struct PostgresDatabase {
    store: PostgresStore,
    place: Place,
}

struct Place {
    server: String,
    name: String,
}

impl Place {
    fn url(&self) -> String {
        with_database(&self.server, &self.name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: the test's may be in the middle of ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                execute(&mut connection, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        dropping.join().unwrap();
    }
}

impl PostgresDatabase {
    pub async fn with(options: &PostgresOptions) -> Self {
        let server = Kind::Postgres.shared();
        let name = format!("test_{}", Uuid::from_u128(rand::random()).simple());
        let mut connection = PgConnection::connect(&server).await.unwrap();
        copy_template(&mut connection, &server, &name).await;
        let place = Place { server, name };
        let store = PostgresStore::open(&place.url(), options).await.unwrap();
        Self { store, place }
    }

    pub fn store(&self) -> &PostgresStore {
        &self.store
    }

    /// Another instance on the same database.
    pub async fn another(&self) -> PostgresStore {
        PostgresStore::open(&self.place.url(), &options()).await.unwrap()
    }

    pub fn url(&self) -> String {
        self.place.url()
    }

    /// What another program sees.
    pub async fn raw(&self) -> PgConnection {
        PgConnection::connect(&self.place.url()).await.unwrap()
    }

    pub async fn reopen(self) -> Self {
        let Self { store, place } = self;
        drop(store);
        let store = PostgresStore::open(&place.url(), &options()).await.unwrap();
        Self { store, place }
    }
}

pub async fn execute(connection: &mut PgConnection, sql: &str) -> u64 {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap().rows_affected()
}

/// The template is made by whoever needs it first: its name tells by which program.
async fn copy_template(connection: &mut PgConnection, server: &str, name: &str) {
    let template = template_name();
    execute(connection, "SELECT pg_advisory_lock(4711)").await;
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)")
            .bind(&template)
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    if !there {
        execute(connection, &format!("DROP DATABASE IF EXISTS {template}")).await;
        execute(connection, &format!("CREATE DATABASE {template}")).await;
        let url = with_database(server, &template);
        let store = PostgresStore::open(&url, &options()).await.unwrap();
        drop(store);
        execute(connection, &format!("ALTER DATABASE {template} WITH IS_TEMPLATE true")).await;
    }
    // A copy waits for everybody who is still in the template, and gives up after five seconds.
    execute(
        connection,
        &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'"),
    )
    .await;
    execute(connection, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    execute(connection, "SELECT pg_advisory_unlock(4711)").await;
}

/// One for each state of the migrations, so that a server that outlives a change is not believed too much.
fn template_name() -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        std::fs::read(file).unwrap().hash(&mut hasher);
    }
    format!("template_{:016x}", hasher.finish())
}
