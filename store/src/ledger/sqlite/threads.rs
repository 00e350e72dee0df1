//! The threads that own the connections: one that writes, a few that read.
//!
//! Plain threads, not the runtime's blocking pool: they need no runtime, are never cancelled, and live exactly as long as
//! the store. A connection that a job leaves in an unknown condition (a panic, a transaction that could not be rolled back)
//! is thrown away, and the next job gets a new one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::SqliteOptions;
use super::connection::{open_reader, open_writer};
use super::fault::Fault;

/// What a thread is asked to do with its connection, or with the failure to get one.
type Job = Box<dyn FnOnce(Result<&mut Connection, Fault>) + Send>;
/// Opens a connection.
type Opener = Box<dyn Fn() -> Result<Connection, rusqlite::Error> + Send>;
/// Threads may take turns at one queue.
type Queue = Arc<Mutex<mpsc::Receiver<Job>>>;

/// The thread that writes.
pub(super) struct Writer(Workers);

impl Writer {
    pub(super) fn start(path: &Path, options: &SqliteOptions, connection: Connection) -> std::io::Result<Writer> {
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let (path, options) = (path.to_owned(), options.clone());
        let opener: Opener = Box::new(move || open_writer(&path, &options));
        let queue = Arc::new(Mutex::new(queue));
        let thread = spawn("nexus-ledger-write", queue, opener, Some(connection))?;
        Ok(Writer(Workers { jobs: Some(jobs), threads: vec![thread] }))
    }

    /// Runs `work` on the thread. Once queued it runs to its end, whatever becomes of the caller.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.0.run(work).await
    }
}

/// The threads that read.
pub(super) struct Readers(Workers);

impl Readers {
    pub(super) fn start(path: &Path, options: &SqliteOptions) -> std::io::Result<Readers> {
        let (jobs, queue) = mpsc::channel(options.queue.max(1));
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Workers { jobs: Some(jobs), threads: Vec::new() };
        for _ in 0..options.readers.max(1) {
            let (path, options) = (path.to_owned(), options.clone());
            let opener: Opener = Box::new(move || open_reader(&path, &options));
            workers.threads.push(spawn("nexus-ledger-read", Arc::clone(&queue), opener, None)?);
        }
        Ok(Readers(workers))
    }

    /// Runs `work` on one of the threads.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.0.run(work).await
    }
}

struct Workers {
    /// Taken by the drop, which closes the queue.
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    async fn run<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may be gone; what was done stays done.
            drop(answer.send(connection.and_then(work)));
        });
        let jobs = self.jobs.as_ref().ok_or(Fault::Closed)?;
        jobs.send(job).await.map_err(|_| Fault::Closed)?;
        answered.await.map_err(|_| Fault::Unanswered)?
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the ledger ended in a panic");
            }
        }
    }
}

fn spawn(name: &str, queue: Queue, opener: Opener, connection: Option<Connection>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || work_off(&queue, &opener, connection))
}

/// Takes jobs until the queue is closed and empty.
fn work_off(queue: &Queue, opener: &Opener, mut held: Option<Connection>) {
    loop {
        // Whoever holds the lock waits for a job; the others wait for the lock.
        let next = queue.lock().blocking_recv();
        let Some(job) = next else { return };
        let opened = match held.take() {
            Some(connection) => Ok(connection),
            None => opener(),
        };
        match opened {
            Ok(mut connection) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| job(Ok(&mut connection))));
                match outcome {
                    Ok(()) if connection.is_autocommit() => held = Some(connection),
                    Ok(()) => tracing::error!("a transaction could not be rolled back; the connection is replaced"),
                    Err(_) => tracing::error!("a job of the ledger panicked; the connection is replaced"),
                }
            }
            Err(error) => {
                tracing::error!(%error, "the ledger's file cannot be opened");
                job(Err(Fault::Sql(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(folder: &tempfile::TempDir) -> Writer {
        let path = folder.path().join("ledger.db");
        super::super::connection::make_file(&path).unwrap();
        let options = SqliteOptions::default();
        let connection = open_writer(&path, &options).unwrap();
        Writer::start(&path, &options, connection).unwrap()
    }

    #[tokio::test]
    async fn a_panic_in_a_job_costs_its_answer_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder);
        let panicked: Result<(), Fault> = writer
            .run(|connection| {
                connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE half (a INTEGER)")?;
                panic!("the job panics in its transaction");
            })
            .await;
        assert!(matches!(panicked, Err(Fault::Unanswered)), "{panicked:?}");
        let tables = writer
            .run(|connection| Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?));
        assert_eq!(tables.await.ok(), Some(0));
    }

    #[tokio::test]
    async fn a_transaction_left_open_does_not_reach_the_next_job() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder);
        writer
            .run(|connection| Ok(connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE half (a INTEGER)")?))
            .await
            .unwrap();
        let fresh = writer.run(|connection| Ok(connection.is_autocommit())).await;
        assert_eq!(fresh.ok(), Some(true));
    }
}
