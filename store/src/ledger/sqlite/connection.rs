//! How a connection is opened, and the one way in which a transaction is run.
//!
//! `synchronous = FULL` in WAL mode syncs every commit before it is answered: a decision that was reported is on disk.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::fault::Fault;
use super::{OpenError, SqliteOptions};

/// Statements kept prepared: more than there are.
const STATEMENTS_MAX: usize = 128;
/// The log is folded into the file after so many pages (16 MiB): a busy batch writes several hundred.
const CHECKPOINT_PAGES: i64 = 4_096;
/// Page cache of the writer, in KiB.
const CACHE_KIB: i64 = 32_768;

/// Makes the folder and, readable by its owner alone, the file: it holds password hashes and webhook secrets. SQLite gives
/// its log the same permissions.
pub(super) fn make_file(path: &Path) -> Result<(), OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Folder { path, cause }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(cause) => Err(failed(path)(cause)),
    }
}

/// The file at a path, as it was when it was opened.
#[derive(Clone, Debug)]
pub(super) struct FileAt {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl FileAt {
    pub(super) fn new(path: &Path) -> std::io::Result<FileAt> {
        Ok(FileAt { path: path.to_owned(), device_and_inode: device_and_inode(path)? })
    }

    /// Refuses when another file, or none, is at the path. In WAL mode SQLite itself would go on writing to a file without
    /// a name, and all of it would be gone with the process.
    pub(super) fn is_there(&self) -> Result<(), Fault> {
        match device_and_inode(&self.path) {
            Ok(found) if found == self.device_and_inode => Ok(()),
            Ok(_) | Err(_) => Err(Fault::Moved(self.path.display().to_string())),
        }
    }
}

fn device_and_inode(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The one connection that writes.
pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    // Where there is no shared memory (some network file systems), SQLite stays in another mode and says so.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" || connection.is_readonly("main")? {
        return Err(unusable(&mode));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    if let Some(pages) = options.pages_max {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    keep_statements(&connection)?;
    Ok(connection)
}

/// A read-only file begins write transactions without complaint, so it must be refused before it is relied on.
fn unusable(mode: &str) -> rusqlite::Error {
    let words = format!("the file is read-only, or its journal cannot be a write-ahead log (it is in mode {mode:?})");
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY), Some(words))
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    keep_statements(&connection)?;
    Ok(connection)
}

/// Runs `work` in one transaction that holds the write lock from its first statement on; all of it is written, or nothing.
pub(super) fn transact<T, E: From<Fault>>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(Fault::from)?;
    // On the early return the transaction is dropped, which rolls it back.
    let value = work(&transaction)?;
    transaction.commit().map_err(Fault::of_commit)?;
    Ok(value)
}

/// Statements are prepared once and stay so. Without the stability guarantee SQLite prepares some of them anew whenever a
/// bound value changes, in the hope of a better plan: a quarter of the time of a busy writer, for plans that never differ.
pub(super) fn keep_statements(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}
