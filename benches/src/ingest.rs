//! `ingest`: from a signal over HTTP to its durable answer, through the engine as it is served, on every ledger there is.
//!
//! The engine runs in a process of its own (this very program, started again), with its HTTP side, keys, dispatcher, risk actors,
//! group commit and paper venue. Closed loops keep 1, 16, 64 or 256 signals in flight, or send one at a time, over keep-alive connections, each to one of
//! many users; every answer is held against the verdict that was meant, and after every loop the ledger against the answers.
//! The yardsticks stand beside it on the same servers: a bare one-row commit, a plain handler that writes the same rows, and an
//! HTTP echo. Rounds repeat everything in turn, and of each figure the round in the middle is reported.

mod child;
mod client;
mod commits;
mod echo;
mod figures;
mod ledger;
mod limits;
mod naive;
mod signals;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use child::Role;

use crate::load::{Found, closed_loop_of};
use crate::report::{Section, per_second};
use child::{Child, Server};
use client::Connection;
use commits::Committer;
use figures::{Figures, Run};
use ledger::{API_KEY, Databases, Ledger, Rows, fill_postgres, fill_sqlite};
use naive::{Sample, Samples, WHOLE_PATH};
use signals::{Mix, PATH, Plan, Sender, marks};

/// Signals under way at once; the ratios to yardsticks are taken at `BUSY`.
const IN_FLIGHT: [usize; 5] = [ALONE, 1, 16, BUSY, 256];
const BUSY: usize = 64;
/// One at a time, each after a rest in which what the one before has led to is done.
const ALONE: usize = 0;
const REST: Duration = Duration::from_millis(5);
/// Connections of the busy yardstick for commits.
const COMMITTERS: usize = 32;
/// Well within the age that a mark may have.
const MARKS_EVERY: Duration = Duration::from_secs(10);
/// How long an engine may take until it trades.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Clone, Copy)]
struct Extent {
    /// Signals go round among so many: a user whose day is one long burst would carry it all in its account.
    users: usize,
    rounds: usize,
    span: Duration,
}

/// Measures HTTP signal to durable answer.
pub fn measure(quick: bool) -> Result<Section> {
    let extent = if quick {
        Extent { users: 200, rounds: 1, span: Duration::from_millis(150) }
    } else {
        Extent { users: 20_000, rounds: 3, span: Duration::from_secs(3) }
    };
    // One thread: the load must not fight the engine for both processors.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(extent))
}

async fn run(extent: Extent) -> Result<Section> {
    let mut bed = Bed::make(extent).await?;
    let measured = bed.measure().await;
    let dropped = bed.clear().await;
    let figures = measured?;
    dropped?;
    figures.section()
}

/// An engine on one of the ledgers.
struct Subject {
    name: &'static str,
    ledger: Ledger,
    engine: Child,
    marks: JoinHandle<()>,
}

/// Everything that is measured, and what it stands on.
struct Bed {
    extent: Extent,
    users: Arc<[Uuid]>,
    subjects: Vec<Subject>,
    naive: Option<(Child, Ledger, Samples)>,
    echo: Child,
    /// Where bare rows are committed.
    bare: Option<String>,
    databases: Option<Databases>,
    notes: Vec<String>,
    /// The number of the next signal, and of the next run.
    next: u64,
    runs: u64,
    // Dropped last: what runs in it comes before.
    _servers: Vec<Server>,
    folder: tempfile::TempDir,
}

/// Two users beside those of the loops: what is written for their only signals is what the plain handler writes.
const PROBED: usize = 2;

impl Bed {
    async fn make(extent: Extent) -> Result<Bed> {
        let folder = tempfile::tempdir()?;
        let echo = Child::start(Role::Echo, &[], &folder.path().join("echo.log"))?;
        let mut bed = Bed {
            extent,
            users: ledger::users(extent.users + PROBED),
            subjects: Vec::new(),
            naive: None,
            echo,
            bare: None,
            databases: None,
            notes: Vec::new(),
            next: 0,
            runs: 0,
            _servers: Vec::new(),
            folder,
        };
        let file = bed.folder.path().join("ledger.db");
        fill_sqlite(&file, &bed.users).await?;
        bed.start("SQLite", Ledger::Sqlite(file), &[]).await?;
        match bed.server("postgres", "NEXUS_BENCH_POSTGRES")? {
            Some(url) => bed.start_on_postgres(url).await?,
            None => bed.notes.push("PostgreSQL was not measured: there is no server (NEXUS_BENCH_POSTGRES)".into()),
        }
        Ok(bed)
    }

    /// The URL of the server that the variable names, or of one of our own. `None`: there is none.
    fn server(&mut self, kind: &str, variable: &str) -> Result<Option<String>> {
        if let Ok(url) = std::env::var(variable) {
            return Ok(Some(url));
        }
        let server = Server::start(kind)?;
        let url = server.as_ref().map(|server| server.url.clone());
        self._servers.extend(server);
        Ok(url)
    }

    async fn start_on_postgres(&mut self, url: String) -> Result<()> {
        let databases = self.databases.insert(Databases::on(url));
        let filled = databases.make("filled", None).await?;
        databases.relax("filled").await?;
        fill_postgres(&filled, &self.users).await?;
        self.bare = Some(databases.make("bare", None).await?);
        let plain = databases.make("plain", Some("filled")).await?;
        let naive = databases.make("naive", Some("filled")).await?;
        let with_redis = databases.make("redis", Some("filled")).await?;
        self.start("PostgreSQL", Ledger::Postgres(plain.clone()), &[]).await?;
        match self.server("redis", "NEXUS_BENCH_REDIS")? {
            Some(redis) => {
                let prefix = format!("bench-{}:", std::process::id());
                let variables = [("REDIS_URL", redis), ("NEXUS_REDIS_PREFIX", prefix)];
                self.start("PostgreSQL + Redis", Ledger::Postgres(with_redis), &variables).await?;
            }
            None => self.notes.push("Redis was not measured: there is no server (NEXUS_BENCH_REDIS)".into()),
        }
        let samples = self.probe(&plain).await?;
        let file = self.folder.path().join("samples.json");
        std::fs::write(&file, serde_json::to_string(&samples)?)?;
        let variables = [("DATABASE_URL", naive.clone()), ("SAMPLES", file.display().to_string())];
        let child = Child::start(Role::Naive, &variables, &self.folder.path().join("naive.log"))?;
        self.naive = Some((child, Ledger::Postgres(naive), samples));
        Ok(())
    }

    /// Starts an engine and wakes up every account of it.
    async fn start(&mut self, name: &'static str, ledger: Ledger, more: &[(&str, String)]) -> Result<()> {
        let place = self.folder.path().join(format!("engine-{}", self.subjects.len()));
        std::fs::create_dir(&place)?;
        let mut variables: Vec<(&str, String)> = limits::variables();
        variables.extend([
            ("DATABASE_URL", ledger.url()),
            ("NEXUS_DATA_DIR", place.display().to_string()),
            ("API_PORT", "0".to_owned()),
            // A line for each request is the operator's choice, and not what is measured.
            ("LOG_LEVEL", "warn".to_owned()),
        ]);
        variables.extend(more.iter().cloned());
        let engine = Child::start(Role::Engine, &variables, &place.join("log"))
            .with_context(|| format!("the engine on {name} does not start"))?;
        println!("  {name}: process {}", engine.id());
        push_marks_once(&engine).await?;
        let marks = tokio::spawn(keep_marks(engine.addr));
        self.subjects.push(Subject { name, ledger, engine, marks });
        self.wait_until_trading().await?;
        let subject = self.subjects.len() - 1;
        self.signals_to(subject, Mix::Refused, BUSY, Until::Everybody).await?;
        Ok(())
    }

    /// Waits until the engine that was started last has accepted a signal and refused another one, both to users that get no more.
    async fn wait_until_trading(&mut self) -> Result<()> {
        let begin = Instant::now();
        let subject = &self.subjects[self.subjects.len() - 1];
        for (place, mix) in [(0, Mix::Accepted), (1, Mix::Refused)] {
            loop {
                let users = self.users[self.extent.users + place..][..1].into();
                let plan = Plan { run: format!("probe-{place}"), users, mix, issued_at: jiff::Timestamp::now() };
                let asked = Sender::connect(subject.engine.addr, 1, PATH, API_KEY, plan).await?;
                let asked = asked.into_iter().map(|sender| sender.until(1)).collect();
                match closed_loop_of(asked, Duration::MAX, Duration::ZERO, 0).await {
                    Ok(_) => break,
                    // An engine starts halted, and is armed a moment after it serves; until then it answers 503.
                    Err(error) if begin.elapsed() > PATIENCE => bail!("{} does not trade: {error}", subject.name),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
        subject.ledger.come_to_rest().await
    }

    /// What the engine on this database has written for the probed users.
    async fn probe(&self, url: &str) -> Result<Samples> {
        let user = |place: usize| self.users[self.extent.users + place];
        Ok(Samples { accepted: Sample::taken(url, user(0)).await?, refused: Sample::taken(url, user(1)).await? })
    }

    async fn measure(&mut self) -> Result<Figures> {
        let mut figures = Figures::default();
        for _ in 0..self.extent.rounds {
            figures.loads.push(load_average());
            for mix in [Mix::Accepted, Mix::Mixed] {
                for subject in 0..self.subjects.len() {
                    for in_flight in IN_FLIGHT {
                        let (found, rows) = self.signals_to(subject, mix, in_flight, Until::Span).await?;
                        figures.add(Run::engine(self.subjects[subject].name, mix, in_flight), found, Some(rows));
                    }
                }
                self.measure_naive(mix, &mut figures).await?;
            }
            self.measure_bare(&mut figures).await?;
        }
        figures.notes = std::mem::take(&mut self.notes);
        figures.users = self.extent.users;
        Ok(figures)
    }

    /// One loop of signals to an engine. Its rate counts the time until everything that its answers lead to is written, too: a
    /// loop that only waits for answers would push the rest of the work ahead of itself.
    async fn signals_to(&mut self, subject: usize, mix: Mix, in_flight: usize, until: Until) -> Result<(Found, Rows)> {
        self.settle().await?;
        let Subject { name, ledger, engine, .. } = &self.subjects[subject];
        let before = ledger.rows().await?;
        let plan = self.plan(mix);
        let begin = Instant::now();
        let span = match until {
            Until::Span => self.extent.span,
            Until::Everybody => Duration::MAX,
        };
        let senders = Sender::connect(engine.addr, in_flight.max(1), PATH, API_KEY, plan).await?;
        let last = match until {
            Until::Span => u64::MAX,
            Until::Everybody => self.next + u64::try_from(self.extent.users)?,
        };
        let senders = senders.into_iter().map(|sender| sender.until(last)).collect();
        let (found, next) = closed_loop_of(senders, span, rest(in_flight), self.next).await?;
        ledger.come_to_rest().await?;
        let found = Found { per_second: per_second(found.latency.count, begin.elapsed()), ..found };
        let rows = ledger.rows().await?.since(before);
        ensure!(
            u64::try_from(rows.decisions)? == found.latency.count,
            "{name} answered {} signals and recorded {} decisions",
            found.latency.count,
            rows.decisions
        );
        (self.next, self.runs) = (next, self.runs + 1);
        Ok((found, rows))
    }

    async fn measure_naive(&mut self, mix: Mix, figures: &mut Figures) -> Result<()> {
        let Some((child, ledger, _)) = &self.naive else { return Ok(()) };
        for path in [PATH, WHOLE_PATH] {
            self.settle().await?;
            let before = ledger.rows().await?;
            let senders = Sender::connect(child.addr, BUSY, path, API_KEY, self.plan(mix)).await?;
            let senders = senders.into_iter().map(Sender::loosely_judged).collect();
            let (found, next) = closed_loop_of(senders, self.extent.span, Duration::ZERO, self.next).await?;
            let rows = ledger.rows().await?.since(before);
            ensure!(u64::try_from(rows.decisions)? == found.latency.count, "the plain handler lost decisions");
            (self.next, self.runs) = (next, self.runs + 1);
            figures.add(Run::naive(path == WHOLE_PATH, mix, BUSY), found, Some(rows));
        }
        Ok(())
    }

    async fn measure_bare(&mut self, figures: &mut Figures) -> Result<()> {
        if let Some(url) = &self.bare {
            for connections in [ALONE, 1, COMMITTERS] {
                self.settle().await?;
                let committers = Committer::connect(url, connections.max(1)).await?;
                let (found, _) = closed_loop_of(committers, self.extent.span, rest(connections), 0).await?;
                figures.add(Run::commit(connections), found, None);
            }
        }
        for in_flight in [ALONE, 1, BUSY] {
            let senders =
                Sender::connect(self.echo.addr, in_flight.max(1), PATH, API_KEY, self.plan(Mix::Accepted)).await?;
            let senders = senders.into_iter().map(Sender::unjudged).collect();
            let (found, _) = closed_loop_of(senders, self.extent.span, rest(in_flight), 0).await?;
            figures.add(Run::echo(in_flight), found, None);
        }
        Ok(())
    }

    fn plan(&self, mix: Mix) -> Plan {
        let users = self.users[..self.extent.users].into();
        Plan { run: format!("run-{}", self.runs), users, mix, issued_at: jiff::Timestamp::now() }
    }

    async fn settle(&self) -> Result<()> {
        match &self.databases {
            Some(databases) => databases.settle().await,
            None => Ok(()),
        }
    }

    /// Ends everybody, and leaves nothing behind on a server that is not ours.
    async fn clear(&mut self) -> Result<()> {
        for subject in self.subjects.drain(..) {
            subject.marks.abort();
            drop(subject.engine);
        }
        self.naive = None;
        match &mut self.databases {
            Some(databases) => databases.drop_all().await,
            None => Ok(()),
        }
    }
}

/// When a loop ends.
#[derive(Clone, Copy)]
enum Until {
    /// After the time that a measurement takes.
    Span,
    /// When every user has had a signal.
    Everybody,
}

/// What is waited before each request of a loop.
const fn rest(in_flight: usize) -> Duration {
    if in_flight == ALONE { REST } else { Duration::ZERO }
}

async fn push_marks_once(engine: &Child) -> Result<()> {
    push(&mut Connection::open(engine.addr).await?).await
}

async fn push(connection: &mut Connection) -> Result<()> {
    connection.prepare("/api/v1/marks", API_KEY, &marks());
    let answer = connection.call().await?;
    ensure!(answer.contains("\"accepted\":4"), "marks were answered by {answer}");
    Ok(())
}

/// Keeps the marks young enough. When that fails, the next signal is refused and says so.
async fn keep_marks(addr: std::net::SocketAddr) {
    loop {
        tokio::time::sleep(MARKS_EVERY).await;
        let pushed = async { push(&mut Connection::open(addr).await?).await }.await;
        if let Err(error) = pushed {
            eprintln!("marks were not taken: {error}");
        }
    }
}

/// The load of the last minute, as the kernel writes it.
fn load_average() -> String {
    let text = std::fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
