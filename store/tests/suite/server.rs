//! The PostgreSQL server that the tests run against: the one that `NEXUS_TEST_POSTGRES` names, else one of their own.
//!
//! A server of their own is started by `scripts/servers` and shared by all tests of a run, whichever process they are in; it
//! ends by itself when the run is over. Each test has a database of its own on it, copied from one that is migrated.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nexus_store::{PostgresOptions, PostgresStore};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// Small pools: many tests run at once.
pub fn options() -> PostgresOptions {
    PostgresOptions { pool_size: 0, pool_overflow: 4, ..PostgresOptions::default() }
}

/// A server that answers.
pub struct Server {
    pub url: String,
    data: PathBuf,
    tool: Vec<String>,
    /// Who watches over it, when it is this test's own.
    keeper: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            Command::new("kill").arg(keeper.id().to_string()).status().unwrap();
            keeper.wait().unwrap();
        }
    }
}

/// The URL of the server that tests share.
fn shared() -> String {
    if let Ok(url) = std::env::var("NEXUS_TEST_POSTGRES") {
        return url;
    }
    // With nextest every test is a process, and all of one run have one parent; else this process is the run.
    let run = if std::env::var_os("NEXTEST_RUN_ID").is_some() {
        std::os::unix::process::parent_id()
    } else {
        std::process::id()
    };
    let file = std::env::temp_dir().join(format!("nexus-postgres-of-{run}"));
    let _one_starts_it = locked(&file.with_extension("lock"));
    if !file.exists() {
        // It goes on when this test is over.
        drop(start(&file, run));
    }
    wait_for(&file).url.clone()
}

/// A server for one test alone, to be killed. It ends with this process at the latest.
pub fn private(folder: &Path) -> Server {
    let file = folder.join("server");
    let keeper = start(&file, std::process::id());
    let mut server = wait_for(&file);
    server.keeper = Some(keeper);
    server
}

fn start(file: &Path, run: u32) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/servers");
    Command::new("setsid")
        .arg(script)
        .arg("postgres")
        .arg(file)
        .arg(run.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(file.with_extension("log")).unwrap())
        .spawn()
        .unwrap()
}

fn wait_for(file: &Path) -> Server {
    let began = Instant::now();
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let lines: Vec<_> = text.lines().collect();
                let tool = lines[2].split_whitespace().map(ToOwned::to_owned).collect();
                return Server { url: lines[0].to_owned(), data: lines[1].into(), tool, keeper: None };
            }
            Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
                panic!("PostgreSQL did not start: {error}\n{log}");
            }
        }
    }
}

fn locked(file: &Path) -> File {
    let lock = File::create(file).unwrap();
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return lock,
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Server {
    /// Stops the server as a crash would: nobody says goodbye, nothing is written out.
    pub fn crash(&self) {
        self.control(&["-m", "immediate", "-w", "stop"]);
    }

    /// Starts it again, on the same data and the same port.
    pub fn start(&self) {
        self.control(&["-w", "-l", "/dev/null", "start"]);
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.tool[0]);
        command.args(&self.tool[1..]).arg("-D").arg(&self.data).args(arguments);
        let status = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success(), "{command:?}");
    }
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
        let server = shared();
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

pub fn with_database(server: &str, name: &str) -> String {
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
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
