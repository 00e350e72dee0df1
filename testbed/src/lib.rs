//! The servers that tests run against: those that `NEXUS_TEST_POSTGRES` and `NEXUS_TEST_REDIS` name, else of their own.
//!
//! Servers are started by `scripts/servers`. The shared one serves all tests of a run, whichever process they are in, and ends
//! by itself when the run is over; a private one serves one test, which may do to it what it likes. This crate knows processes
//! and files; what is asked of a server is the business of whoever uses it. It is for tests alone, so it panics with words
//! instead of returning errors.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server is looked for that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);

/// What is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "NEXUS_TEST_POSTGRES",
            Self::Redis => "NEXUS_TEST_REDIS",
        }
    }

    /// The URL of the server that tests share.
    pub fn shared(self) -> String {
        if let Ok(url) = std::env::var(self.variable()) {
            return url;
        }
        // With nextest every test is a process, and all of one run have one parent; else this process is the run.
        let run = if std::env::var_os("NEXTEST_RUN_ID").is_some() {
            std::os::unix::process::parent_id()
        } else {
            std::process::id()
        };
        let file = std::env::temp_dir().join(format!("nexus-{}-of-{run}", self.name()));
        let _one_starts_it = locked(&file.with_extension("lock"));
        if !file.exists() {
            // It goes on when this test is over.
            drop(self.launch(&file, run, &std::env::temp_dir()));
        }
        self.wait_for(&file).url.clone()
    }

    /// A server for one test alone, to be hurt. It ends with this process at the latest. Its keeper's notes are in `folder`.
    pub fn private(self, folder: &Path) -> Server {
        self.private_in(folder, &std::env::temp_dir())
    }

    /// The same, with its data below `place`, which everybody must be able to enter: a server never runs as root.
    pub fn private_in(self, folder: &Path, place: &Path) -> Server {
        let file = folder.join(self.name());
        let keeper = self.launch(&file, std::process::id(), place);
        let mut server = self.wait_for(&file);
        server.keeper = Some(keeper);
        server
    }

    fn launch(self, file: &Path, run: u32, place: &Path) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/servers");
        Command::new("setsid")
            .arg(script)
            .arg(self.name())
            .arg(file)
            .arg(run.to_string())
            .env("TMPDIR", place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(file.with_extension("log")).expect("a log"))
            .spawn()
            .expect("setsid runs")
    }

    fn wait_for(self, file: &Path) -> Server {
        let began = Instant::now();
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) => {
                    let lines: Vec<_> = text.lines().collect();
                    let tool = lines[2].split_whitespace().map(ToOwned::to_owned).collect();
                    return Server { url: lines[0].to_owned(), data: lines[1].into(), tool, keeper: None };
                }
                Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => {
                    let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
                    panic!("{self:?} did not start: {error}\n{log}");
                }
            }
        }
    }
}

/// A server that answers.
pub struct Server {
    /// Where it is; with PostgreSQL the URL of its first database.
    pub url: String,
    /// Its data folder.
    pub data: PathBuf,
    tool: Vec<String>,
    /// Who watches over it, when it is one test's own.
    keeper: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let told = Command::new("kill").arg(keeper.id().to_string()).status().expect("kill runs");
            assert!(told.success(), "the keeper of a server is gone");
            keeper.wait().expect("a child");
        }
    }
}

/// The URL of another database on the same server.
pub fn with_database(server: &str, name: &str) -> String {
    let (base, _) = server.rsplit_once('/').expect("a URL names a database");
    format!("{base}/{name}")
}

fn locked(file: &Path) -> File {
    let lock = File::create(file).expect("a lock");
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return lock,
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(error) => panic!("{error}"),
        }
    }
}

/// PostgreSQL.
impl Server {
    /// Stops the server as a crash would: nobody says goodbye, nothing is written out.
    pub fn crash(&self) {
        self.must(&["-m", "immediate", "-w", "stop"]);
    }

    /// Starts it again, on the same data and the same port.
    pub fn start(&self) {
        self.must(&["-w", "-l", "/dev/null", "start"]);
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.control(&["status"])
    }

    fn must(&self, arguments: &[&str]) {
        assert!(self.control(arguments), "pg_ctl {arguments:?} on {}", self.data.display());
    }

    fn control(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new(&self.tool[0]);
        command.args(&self.tool[1..]).arg("-D").arg(&self.data).args(arguments);
        let status = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.expect("pg_ctl runs").success()
    }
}

/// Redis.
impl Server {
    /// Says something in the server's own words, and returns the first line of what it says.
    pub fn say(&self, words: &str) -> String {
        let mut connection = self.connect().expect("Redis answers");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time");
        connection.write_all(format!("{words}\r\n").as_bytes()).expect("said");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut piece = [0; 4_096];
            let length = connection.read(&mut piece).expect("an answer");
            assert!(length > 0, "Redis has hung up after {words:?}");
            answer.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.url.strip_prefix("redis://").expect("a URL of Redis"))
    }

    /// Sends it a signal: `-STOP` makes it hang, `-CONT` go on.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.data.join("pid")).expect("its process id");
        run(Command::new("kill").args([name, pid.trim()]));
    }

    /// Kills it.
    pub fn kill(&self) {
        self.signal("-KILL");
        let began = Instant::now();
        while self.connect().is_ok() {
            assert!(began.elapsed() < PATIENCE, "Redis does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same port, with what was saved last, if anything was.
    pub fn restart(&self) {
        run(Command::new(&self.tool[0]).args(&self.tool[1..]));
        let began = Instant::now();
        while self.connect().is_err() {
            assert!(began.elapsed() < PATIENCE, "Redis does not start again");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has it save what it holds now: the next start begins with that.
    pub fn save(&self) {
        assert_eq!(self.say("SAVE"), "+OK");
    }

    /// What was saved.
    pub fn dump(&self) -> PathBuf {
        self.data.join("dump.rdb")
    }
}

fn run(command: &mut Command) {
    let status = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.expect("it runs").success(), "{command:?}");
}
