//! The embedded ledger: one SQLite file, one thread that writes it, a few that read it.
//!
//! All writing goes through one thread that owns the one write connection, because SQLite has one writer anyway: callers
//! queue in our bounded channel instead of in its busy handler. A job that has reached the thread runs to its end, whether
//! or not anybody still waits for it, so a cancelled caller never tears a commit. Reads have threads and read-only
//! connections of their own and see, in WAL mode, the last commit without waiting for the next. No row is cached: what
//! another process writes into the file is seen by the next commit and the next load.

mod commit;
mod connection;
mod directory;
mod fault;
mod ledger;
mod migrate;
mod pages;
mod project;
mod read;
mod reader;
mod rows;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nexus_actors::ports::Probe;
use rusqlite::Connection;
use thiserror::Error;

use super::Migrated;
use connection::FileAt;
use fault::Fault;
pub(super) use reader::SqliteReader;
use threads::{Readers, Writer};

/// Why the ledger could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder or the file could not be made.
    #[error("{path} cannot be used: {cause}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// SQLite could not work with the file.
    #[error("the ledger cannot be opened: {0}")]
    Sqlite(String),
    /// A thread did not start.
    #[error("a thread of the ledger did not start: {0}")]
    Thread(std::io::Error),
    /// A newer program has migrated the file: this one could misread it.
    #[error(
        "the ledger's schema is at version {found}, this program knows versions up to {known}: use a newer program"
    )]
    NewerSchema {
        /// What the file is at.
        found: i64,
        /// What this program is at.
        known: i64,
    },
    /// The file was made by an older program.
    #[error(
        "the ledger's schema is at version {found}, this program's is {known}: start the engine once to bring it up to date"
    )]
    OlderSchema {
        /// What the file is at.
        found: i64,
        /// What this program is at.
        known: i64,
    },
    /// A migration that was applied is not the one that this program carries.
    #[error("migration {version} ({name}) was applied with another text than this program's")]
    ChangedMigration {
        /// Its number.
        version: i64,
        /// Its name.
        name: String,
    },
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error.to_string())
    }
}

/// Sizes and times of the embedded ledger, each a bound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SqliteOptions {
    /// Threads that read.
    pub readers: usize,
    /// Jobs that may wait for the writing thread, and as many for the reading ones; further callers wait to queue.
    pub queue: usize,
    /// How long another process may hold the file before a call is given up as unavailable.
    pub busy_timeout: Duration,
    /// The file never grows beyond so many pages of 4 KiB: a ledger that is full refuses, a disk that is full hurts everybody.
    pub pages_max: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 3, queue: 64, busy_timeout: Duration::from_secs(5), pages_max: None }
    }
}

/// The ledger and the directory in one SQLite file. Dropping it finishes what was queued and closes the file.
pub struct SqliteStore {
    // Dropped in this order: the last connection to go is one that may fold the log into the file.
    readers: Readers,
    writer: Writer,
    file: FileAt,
    probe: Option<Arc<dyn Probe>>,
    migrated: Migrated,
}

impl SqliteStore {
    /// Opens the file, makes it (and its folder) when absent, and brings its schema up to date.
    pub fn open(path: &Path) -> Result<SqliteStore, OpenError> {
        Self::open_with(path, &SqliteOptions::default())
    }

    /// The same with other sizes and times.
    pub fn open_with(path: &Path, options: &SqliteOptions) -> Result<SqliteStore, OpenError> {
        connection::make_file(path)?;
        let mut connection = connection::open_writer(path, options)?;
        let migrated = migrate::migrate(&mut connection)?;
        let writer = Writer::start(path, options, connection).map_err(OpenError::Thread)?;
        let readers = Readers::start(path, options).map_err(OpenError::Thread)?;
        let file = FileAt::new(path).map_err(|cause| OpenError::Folder { path: path.to_owned(), cause })?;
        Ok(SqliteStore { readers, writer, file, probe: None, migrated })
    }

    /// The same store, with somebody looking on in the middle of each commit of a decision.
    #[must_use]
    pub fn probed(mut self, probe: Option<Arc<dyn Probe>>) -> SqliteStore {
        self.probe = probe;
        self
    }

    /// Which version the schema was at before it was opened, and which it is at now.
    pub fn migrated(&self) -> Migrated {
        self.migrated
    }

    /// Runs `work` on the write connection, unless its file has gone; its outcome is kept even when the caller is gone.
    async fn write<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    {
        let file = self.file.clone();
        self.writer
            .run(move |connection| {
                file.is_there()?;
                work(connection)
            })
            .await
    }

    /// Runs `work` on a read-only connection, inside one read transaction: everything it reads is of one moment.
    async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        self.readers
            .run(move |connection| {
                let moment = connection.transaction()?;
                let value = work(&moment)?;
                moment.commit()?;
                Ok(value)
            })
            .await
    }
}
