//! The tasks that commit, each with a connection of its own.
//!
//! There are two, because one waits for the disk while the other one works: whoever commits at once commits for different
//! users. Batches queue in bounded channels. One that a task has taken runs to its end, whether or not anybody still waits for
//! it. A connection is made when it is first needed, and again after whatever has ended it. While nothing is committed, and
//! when asked to, snapshots are written of accounts that are behind their turns.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use nexus_actors::ports::{CommitVerdict, Probe, Step, TurnRecord};
use nexus_engine::account::Account;
use nexus_engine::ids::SignalId;
use parking_lot::Mutex;
use sqlx::Connection;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::batch::{self, Batch, Grouping};
use super::connection::Sessions;
use super::fault::Fault;
use super::lease::Fence;
use super::newness::Newness;
use super::snapshots::{Behind, Snapshots};

/// Batches that are committed at once. On few processors more do not help.
pub(super) const AT_ONCE: usize = 2;
/// How long a connection is believed to be there after its last answer.
const BELIEVED: Duration = Duration::from_millis(2);
/// How often a batch is tried again that the database has ended because two transactions waited for each other.
const RETRIES_MAX: u32 = 5;
/// Signals that are remembered as recorded; when there are more, the memory begins anew.
const RECORDED_MAX: usize = 4_096;
/// How long nothing is committed before snapshots catch up: whoever comes then waits for some of them at most.
const QUIET: Duration = Duration::from_millis(250);

/// Signals that need not be sent to the database again.
#[derive(Clone, Default)]
pub(super) struct Recorded(Arc<Mutex<HashSet<SignalId>>>);

impl Recorded {
    pub(super) fn add(&self, signals: impl IntoIterator<Item = SignalId>) {
        let mut known = self.0.lock();
        for signal in signals {
            if known.len() >= RECORDED_MAX {
                known.clear();
            }
            known.insert(signal);
        }
    }

    fn forget(&self) {
        self.0.lock().clear();
    }
}

enum Job {
    Commit { batch: Vec<TurnRecord>, answer: oneshot::Sender<Result<Vec<CommitVerdict>, Fault>> },
    CatchUp { answer: oneshot::Sender<Result<(), Fault>> },
}

/// The door of the tasks. They end when this is dropped and their queues are empty.
pub(super) struct Writers {
    queues: [mpsc::Sender<Job>; AT_ONCE],
    /// How many batches each has been handed and has not answered for.
    handed: [AtomicUsize; AT_ONCE],
}

impl Writers {
    pub(super) fn start(
        sessions: &Sessions,
        fence: &Arc<Fence>,
        (recorded, newness): (&Recorded, &Arc<Newness>),
        probe: Option<&Arc<dyn Probe>>,
    ) -> Writers {
        let behind = Arc::new(Mutex::new(Behind::default()));
        let queues = std::array::from_fn(|_| {
            let (jobs, queue) = mpsc::channel(sessions.options.queue.max(1));
            let committer = Committer {
                sessions: sessions.clone(),
                fence: Arc::clone(fence),
                recorded: recorded.clone(),
                newness: Arc::clone(newness),
                probe: probe.cloned(),
                call: batch::call(),
                held: None,
                behind: Arc::clone(&behind),
            };
            tokio::spawn(committer.run(queue));
            jobs
        });
        Writers { queues, handed: Default::default() }
    }

    /// Commits a batch. Once queued it runs to its end, whatever becomes of the caller.
    pub(super) async fn commit(&self, batch: Vec<TurnRecord>) -> Result<Vec<CommitVerdict>, Fault> {
        let waiting = |queue: &usize| self.handed[*queue].load(Ordering::SeqCst);
        let free = (0..AT_ONCE).min_by_key(waiting).unwrap_or_default();
        let _handed = Handed::to(&self.handed[free]);
        let (answer, answered) = oneshot::channel();
        self.queues[free].send(Job::Commit { batch, answer }).await.map_err(|_| Fault::Closed)?;
        answered.await.map_err(|_| Fault::Unanswered)?
    }

    /// Writes every snapshot that is behind. Each task is asked: what one has taken out to write, another one does not see.
    pub(super) async fn catch_up(&self) -> Result<(), Fault> {
        for queue in &self.queues {
            let (answer, answered) = oneshot::channel();
            queue.send(Job::CatchUp { answer }).await.map_err(|_| Fault::Closed)?;
            answered.await.map_err(|_| Fault::Unanswered)??;
        }
        Ok(())
    }
}

/// A batch is under way as long as this lives.
struct Handed<'a>(&'a AtomicUsize);

impl<'a> Handed<'a> {
    fn to(counter: &'a AtomicUsize) -> Handed<'a> {
        counter.fetch_add(1, Ordering::SeqCst);
        Handed(counter)
    }
}

impl Drop for Handed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Committer {
    sessions: Sessions,
    fence: Arc<Fence>,
    recorded: Recorded,
    newness: Arc<Newness>,
    probe: Option<Arc<dyn Probe>>,
    call: String,
    /// The connection, and when it was last used.
    held: Option<(PgConnection, Instant)>,
    /// Of both.
    behind: Arc<Mutex<Behind>>,
}

impl Committer {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = self.next(&mut queue).await {
            // Whoever asked may be gone; what was done stays done.
            match job {
                Job::Commit { batch, answer } => {
                    drop(answer.send(self.guarded(async |it| it.commit(&batch).await).await));
                }
                Job::CatchUp { answer } => drop(answer.send(self.guarded(Self::catch_up).await)),
            }
        }
        self.end().await;
    }

    /// The next job; while none comes, snapshots catch up.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Job> {
        while !self.is_caught_up() {
            match timeout(QUIET, queue.recv()).await {
                Ok(job) => return job,
                Err(_) => {
                    while queue.is_empty() && !self.is_caught_up() {
                        if let Err(fault) = self.guarded(Self::catch_up_some).await {
                            tracing::debug!(?fault, "snapshots stay behind for now");
                            return queue.recv().await;
                        }
                    }
                }
            }
        }
        queue.recv().await
    }

    /// A panic costs the connection, whose state nobody knows, and not the task.
    async fn guarded<T>(&mut self, work: impl AsyncFnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let outcome = AssertUnwindSafe(work(&mut *self)).catch_unwind().await;
        outcome.unwrap_or_else(|_| {
            self.held = None;
            Err(Fault::Unanswered)
        })
    }

    async fn catch_up(&mut self) -> Result<(), Fault> {
        while !self.is_caught_up() {
            self.catch_up_some().await?;
        }
        Ok(())
    }

    fn is_caught_up(&self) -> bool {
        self.behind.lock().is_empty()
    }

    async fn catch_up_some(&mut self) -> Result<(), Fault> {
        let accounts = self.behind.lock().take_some();
        let written = self.write(&accounts).await;
        if written.is_err() {
            self.behind.lock().put_back(accounts);
        }
        written
    }

    async fn write(&mut self, accounts: &[Arc<Account>]) -> Result<(), Fault> {
        let snapshots = Snapshots::of(accounts)?;
        let statement = snapshots.statement(self.fence.get());
        let mut connection = self.connection().await?;
        let written = timeout(self.sessions.patience(), statement.execute(&mut connection)).await;
        written.map_err(|_| Fault::NoAnswer)?.map_err(Fault::of)?;
        self.held = Some((connection, Instant::now()));
        Ok(())
    }

    async fn end(mut self) {
        if let Some((connection, _)) = self.held.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the committing connection did not close well");
        }
    }

    async fn commit(&mut self, records: &[TurnRecord]) -> Result<Vec<CommitVerdict>, Fault> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let answer = self.answer(records, Grouping::Steps).await?;
        let mut verdicts = answer.verdicts;
        if !answer.suspects.is_empty() {
            // A step that the tables refuse is taken apart, so that the turns before the one that is to blame are kept.
            let suspects: Vec<TurnRecord> = answer.suspects.iter().map(|place| records[*place].clone()).collect();
            let alone = self.answer(&suspects, Grouping::EachAlone).await?;
            for (place, verdict) in answer.suspects.into_iter().zip(alone.verdicts) {
                verdicts[place] = verdict;
            }
        }
        let mut behind = self.behind.lock();
        for (record, _) in records.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == CommitVerdict::Committed) {
            behind.note(record);
        }
        Ok(verdicts)
    }

    /// One batch, as often as it takes.
    async fn answer(&mut self, records: &[TurnRecord], grouping: Grouping) -> Result<batch::Answer, Fault> {
        let batch = Batch::of(records, &self.recorded.0.lock(), grouping)?;
        self.newness.add(batch.signals());
        let mut retries = 0;
        loop {
            match self.attempt(&batch).await {
                Err(fault) if fault.is_worth_a_retry() && retries < RETRIES_MAX => retries += 1,
                Ok(mut answer) => {
                    if answer.words.is_empty() {
                        self.recorded.add(answer.recorded.drain(..));
                    } else {
                        // It may be the memory of what is recorded that is wrong.
                        self.recorded.forget();
                        tracing::warn!(refused = ?answer.words, "the tables refused turns");
                    }
                    return Ok(answer);
                }
                Err(fault) => {
                    self.recorded.forget();
                    return Err(fault);
                }
            }
        }
    }

    /// One call, one transaction. The connection is kept only when the database has answered on it.
    async fn attempt(&mut self, batch: &Batch) -> Result<batch::Answer, Fault> {
        let mut connection = self.connection().await?;
        let patience = self.sessions.patience();
        let probe = self.probe.clone().filter(|_| batch.decides());
        let called = async {
            let statement = batch.statement(&self.call, self.fence.get());
            match probe {
                None => statement.fetch_one(&mut connection).await,
                Some(probe) => watched(&mut connection, statement, &*probe).await,
            }
        };
        let Ok(called) = timeout(patience, called).await else { return Err(Fault::NoAnswer) };
        match called {
            Ok(row) => {
                // The batch is written: an answer that cannot be read leaves the caller in doubt.
                let answer = batch.verdicts(&row).map_err(Fault::Unknown)?;
                self.held = Some((connection, Instant::now()));
                Ok(answer)
            }
            Err(error) => {
                let fault = Fault::of(error);
                if let Fault::Refused(_) | Fault::LeaseLost | Fault::Corrupt(_) = fault {
                    self.held = Some((connection, Instant::now()));
                }
                Err(fault)
            }
        }
    }

    /// The connection, out of its place: whatever ends this future in the middle ends the connection, too.
    async fn connection(&mut self) -> Result<PgConnection, Fault> {
        if let Some((mut connection, used)) = self.held.take() {
            if used.elapsed() < BELIEVED {
                return Ok(connection);
            }
            // A database that has gone meanwhile is noticed before anything is sent that could be in doubt.
            let asked = timeout(self.sessions.options.connect_timeout, connection.ping()).await;
            if matches!(asked, Ok(Ok(()))) {
                return Ok(connection);
            }
        }
        self.sessions.committing().await
    }
}

/// The same in a transaction that somebody looks at just before its COMMIT.
async fn watched(
    connection: &mut PgConnection,
    statement: super::Statement<'_>,
    probe: &dyn Probe,
) -> Result<PgRow, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let row = statement.fetch_one(&mut *transaction).await?;
    probe.at(Step::InCommit);
    transaction.commit().await?;
    Ok(row)
}
