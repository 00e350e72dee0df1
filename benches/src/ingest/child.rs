//! Processes of the scenario: the engine and its yardsticks, each served by this very program in a process of its own.
//!
//! A child writes its address as its first line, as `nexus serve` does, and ends in order when its standard input is closed:
//! so it never outlives whoever started it, however that one ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{echo, naive};

/// How long a child may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// What a child gets of our environment; the rest could change what is measured.
const INHERITED: &[&str] = &["PATH", "HOME", "TMPDIR", "NEXUS_TEST_RUN"];

/// What a child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The engine, with everything that `nexus serve` has.
    Engine,
    /// The plain handler.
    Naive,
    /// The bare server.
    Echo,
}

impl Role {
    const ALL: [(Role, &'static str); 3] =
        [(Role::Engine, "serve-engine"), (Role::Naive, "serve-naive"), (Role::Echo, "serve-echo")];

    /// The role that the command line names, which is no scenario: only we ourselves say it.
    pub fn named(name: &str) -> Option<Role> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }

    /// Becomes it, until standard input is closed.
    pub fn play(self) -> Result<()> {
        std::thread::spawn(|| {
            // Whatever ends the wait means that nobody holds the other end any more.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            if let Err(error) = kill_process(rustix::process::getpid(), Signal::TERM) {
                eprintln!("cannot end: {error}");
                std::process::exit(1);
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        match self {
            Role::Engine => {
                let config = nexus_config::Config::load().map_err(|problems| anyhow::anyhow!("{problems}"))?;
                nexus_server::cli::logging::start(&config)?;
                runtime.block_on(nexus_server::serve::run(config, nexus_server::serve::Options::default()))
            }
            Role::Naive => runtime.block_on(naive::serve()),
            Role::Echo => runtime.block_on(echo::serve()),
        }
    }
}

/// A child process that serves.
pub struct Child {
    process: std::process::Child,
    stdin: Option<ChildStdin>,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Child {
    /// Starts one, with these variables and with `log` for what it complains about.
    pub fn start(role: Role, variables: &[(&str, String)], log: &Path) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role.name()).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(log)?);
        let mut process = command.spawn().context("cannot start myself")?;
        let stdout = process.stdout.take().context("its output is piped")?;
        let stdin = process.stdin.take();
        let (line, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            // The receiver is gone once the first line was read or given up; the rest is read so that nobody blocks on it.
            let _ = line.send(lines.next());
            lines.for_each(drop);
        });
        let said = first_line.recv_timeout(START_TIMEOUT).ok().flatten().transpose()?.unwrap_or_default();
        let addr = said.strip_prefix("listening on http://").and_then(|addr| addr.parse().ok());
        let mut child = Child { process, stdin, addr: SocketAddr::from(([127, 0, 0, 1], 0)) };
        match addr {
            Some(addr) => child.addr = addr,
            None => {
                drop(child);
                bail!("{} did not start: {}", role.name(), std::fs::read_to_string(log)?.trim());
            }
        }
        Ok(child)
    }

    /// Its process id, for whoever wants to look at it with a profiler.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.stdin.take());
        end(&mut self.process);
    }
}

/// A server that `scripts/servers` runs for us, and what it wrote when it was ready.
pub struct Server {
    process: std::process::Child,
    _folder: tempfile::TempDir,
    /// The first line: its URL.
    pub url: String,
}

impl Server {
    /// Starts one. `None`: the machine has no such server.
    pub fn start(kind: &str) -> Result<Option<Server>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/servers");
        let folder = tempfile::tempdir()?;
        let ready = folder.path().join(kind);
        let mut command = Command::new(script);
        command.arg(kind).arg(&ready).arg(std::process::id().to_string());
        // A benchmark of durable answers waits for the disk.
        command.env("NEXUS_TEST_FSYNC", "on").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().context("scripts/servers does not run")?;
        let begin = Instant::now();
        loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let url = text.lines().next().unwrap_or_default().to_owned();
                return Ok(Some(Server { process, _folder: folder, url }));
            }
            if process.try_wait()?.is_some() {
                return Ok(None);
            }
            if begin.elapsed() > START_TIMEOUT {
                end(&mut process);
                bail!("scripts/servers {kind} is not ready after {START_TIMEOUT:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        // One that has ended already needs no word.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        end(&mut self.process);
    }
}

/// Waits for a process to end in order; one that does not is ended.
fn end(process: &mut std::process::Child) {
    let begin = Instant::now();
    while begin.elapsed() < STOP_TIMEOUT {
        match process.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    eprintln!("process {} does not end; it is killed", process.id());
    // Fails only when it has ended after all.
    let _ = process.kill();
    let _ = process.wait();
}
