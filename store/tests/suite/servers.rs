//! The servers that tests run against: those that `NEXUS_TEST_POSTGRES` and `NEXUS_TEST_REDIS` name, else of their own.
//!
//! Servers of their own are started by `scripts/servers` and shared by all tests of a run, whichever process they are in;
//! they end by themselves when the run is over. A test that is going to hurt its server has a private one. The suites of
//! other crates include this file as it is.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// What is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Postgres,
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
            drop(self.start(&file, run));
        }
        self.wait_for(&file).url.clone()
    }

    /// A server for one test alone, to be hurt. It ends with this process at the latest.
    pub fn private(self, folder: &Path) -> Server {
        let file = folder.join(self.name());
        let keeper = self.start(&file, std::process::id());
        let mut server = self.wait_for(&file);
        server.keeper = Some(keeper);
        server
    }

    fn start(self, file: &Path, run: u32) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/servers");
        Command::new("setsid")
            .arg(script)
            .arg(self.name())
            .arg(file)
            .arg(run.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(file.with_extension("log")).unwrap())
            .spawn()
            .unwrap()
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
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => {
                    let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
                    panic!("{self:?} did not start: {error}\n{log}");
                }
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
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
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

fn run(command: &mut Command) {
    let status = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "{command:?}");
}

/// PostgreSQL.
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
        run(Command::new(&self.tool[0]).args(&self.tool[1..]).arg("-D").arg(&self.data).args(arguments));
    }
}

/// Redis.
impl Server {
    /// Says something in the server's own words, and returns the first line of what it says.
    pub fn say(&self, words: &str) -> String {
        let mut connection = self.connect().unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(format!("{words}\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut piece = [0; 4_096];
            let length = connection.read(&mut piece).unwrap();
            assert!(length > 0, "Redis has hung up after {words:?}");
            answer.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.url.strip_prefix("redis://").unwrap())
    }

    /// Sends it a signal: `-STOP` makes it hang, `-CONT` go on.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.data.join("pid")).unwrap();
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
