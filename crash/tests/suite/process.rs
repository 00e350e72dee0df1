//! The engine as a process: started on a folder, told its port by its own output, killed or ended, started again.
//!
//! The system chooses a free port, so that campaigns run side by side; a start that dies in the trap is an
//! answer and not a failure.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a start or an end may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running engine. Killed when dropped.
pub struct Engine {
    child: Child,
    /// Where it listens.
    pub url: String,
}

/// What a start came to.
pub enum Started {
    /// It listens.
    Listening(Engine),
    /// It died before it listened (a trap in start-up).
    Died,
}

/// Starts the engine on `data_dir` and, when it has one, on a database beside it; with a trap `STEP:N` when given.
pub fn start(data_dir: &Path, database: Option<&str>, trap: Option<&str>) -> Started {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(data_dir.join("engine.log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-crash"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("NEXUS_DATA_DIR", data_dir)
        .env("API_PORT", "0")
        .env("ADMIN_PASSWORD", super::client::ADMIN_PASSWORD)
        .env("BCRYPT_ROUNDS", "4")
        .env("LOG_LEVEL", "info")
        .env("NEXUS_CRASH_PASSES", passes_file(data_dir))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    if let Some(url) = database {
        command.env("DATABASE_URL", url);
    }
    if let Some(trap) = trap {
        command.env("NEXUS_CRASH_AT", trap);
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")) {
            let url = url.trim_end_matches('/').to_owned();
            // Whatever it prints later must not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Started::Listening(Engine { child, url });
        }
    }
    let status = child.wait().unwrap();
    assert!(was_killed(status), "the engine ended by itself: {status}\n{}", tail(data_dir));
    Started::Died
}

/// Where an orderly end writes how often each step was passed.
pub fn passes_file(data_dir: &Path) -> PathBuf {
    data_dir.join("passes")
}

/// The end of the engine's log, for the message of a failing test.
pub fn tail(data_dir: &Path) -> String {
    let log = std::fs::read_to_string(data_dir.join("engine.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn was_killed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

impl Engine {
    /// Whether the trap has killed it.
    pub fn is_dead(&mut self) -> bool {
        match self.child.try_wait().unwrap() {
            None => false,
            Some(status) => {
                assert!(was_killed(status), "the engine ended by itself: {status}");
                true
            }
        }
    }

    /// Asks for an orderly end and waits for it, while connections of this process can answer its farewell.
    pub async fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the engine does not end on SIGTERM");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may be dead already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
