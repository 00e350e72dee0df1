//! What can go wrong with SQLite, sorted by the one question that matters: was anything written?
//!
//! A statement that fails before COMMIT has written nothing that counts: frames without a commit mark are not part of
//! the database, and whatever SQLite does with the transaction by itself, we roll it back. COMMIT is different. In WAL
//! mode it appends the frames, the last one with the commit mark, syncs, and only then moves the index that readers use:
//!
//! - BUSY: the lock was not got, nothing was appended, the transaction is still open and is rolled back: certain.
//! - CONSTRAINT: a deferred foreign key, checked before anything is appended: certain.
//! - FULL: a write was refused or cut short. The mark is in the last frame, and a cut frame fails its checksum (sectors
//!   are not padded, as `SQLITE_POWERSAFE_OVERWRITE` is on by default): certain.
//! - anything else (IOERR of a write or of the sync, NOMEM): the marked frame may have reached the disk. This process
//!   will not see it and the next commit overwrites it, but after a crash before that, recovery would: in doubt.
//!
//! A failing automatic checkpoint is not reported by COMMIT (the default WAL hook swallows it).

use nexus_actors::ports::LedgerError;
use rusqlite::ErrorCode;
use thiserror::Error;

use crate::directory::DirectoryError;
use crate::ledger::rows::Unreadable;

/// Why a job on a connection did not succeed.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// A statement failed before COMMIT: nothing was written.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// COMMIT failed in a manner that leaves its outcome open.
    #[error("{0}")]
    CommitUnknown(rusqlite::Error),
    /// Rows, or what was to become rows, do not make sense. Nothing was written.
    #[error("{0}")]
    Corrupt(String),
    /// The file that is open is not the one at its path any more, so nobody would find what is written: nothing was written.
    #[error("the ledger's file {0} was moved, deleted or replaced; put it back")]
    Moved(String),
    /// The thread is gone before it took the job: nothing was written.
    #[error("the store is closed")]
    Closed,
    /// The thread took the job and did not answer.
    #[error("the writing thread did not answer")]
    Unanswered,
}

impl Fault {
    /// Sorts an error of COMMIT.
    pub(super) fn of_commit(error: rusqlite::Error) -> Fault {
        use ErrorCode::{ConstraintViolation, DatabaseBusy, DiskFull};
        match error.sqlite_error_code() {
            Some(DatabaseBusy | ConstraintViolation | DiskFull) => Fault::Sql(error),
            _ => Fault::CommitUnknown(error),
        }
    }

    /// Whether the rows, not the machine, are at fault.
    fn is_corruption(&self) -> bool {
        use ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase, TypeMismatch};
        match self {
            Fault::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, ConstraintViolation | DatabaseCorrupt | NotADatabase | TypeMismatch)
            }
            // Anything that is not SQLite's own failure is a value that could not be taken out of a row or put into one.
            Fault::Sql(_) | Fault::Corrupt(_) => true,
            Fault::CommitUnknown(_) | Fault::Moved(_) | Fault::Closed | Fault::Unanswered => false,
        }
    }
}

impl From<Unreadable> for Fault {
    fn from(Unreadable(words): Unreadable) -> Self {
        Fault::Corrupt(words)
    }
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        let words = fault.to_string();
        if fault.is_corruption() {
            return LedgerError::Corrupt(words);
        }
        match fault {
            Fault::CommitUnknown(_) | Fault::Unanswered => LedgerError::InDoubt(words),
            Fault::Sql(_) | Fault::Corrupt(_) | Fault::Moved(_) | Fault::Closed => LedgerError::Unavailable(words),
        }
    }
}

/// People who manage users and feeds see that it did not work and look again; they have no use for the difference.
impl From<Fault> for DirectoryError {
    fn from(fault: Fault) -> Self {
        DirectoryError::Unavailable(fault.to_string())
    }
}

/// Whether an insert was refused because a unique key is taken.
pub(super) fn is_taken(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    extended_code(error).is_some_and(|code| [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE].contains(&code))
}

/// Whether an insert was refused by a CHECK or by a trigger that raises.
pub(super) fn is_refused(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_TRIGGER};
    extended_code(error).is_some_and(|code| [SQLITE_CONSTRAINT_CHECK, SQLITE_CONSTRAINT_TRIGGER].contains(&code))
}

/// Whether a row was refused because what it refers to does not exist.
pub(super) fn is_dangling(error: &rusqlite::Error) -> bool {
    extended_code(error) == Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|e| e.extended_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn a_failed_statement_is_certain_and_a_failed_commit_only_where_it_must_be() {
        let table = [
            (ffi::SQLITE_BUSY, "unavailable", "unavailable"),
            (ffi::SQLITE_FULL, "unavailable", "unavailable"),
            (ffi::SQLITE_READONLY, "unavailable", "in doubt"),
            (ffi::SQLITE_IOERR_WRITE, "unavailable", "in doubt"),
            (ffi::SQLITE_IOERR_FSYNC, "unavailable", "in doubt"),
            (ffi::SQLITE_NOMEM, "unavailable", "in doubt"),
            (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, "corrupt", "corrupt"),
            (ffi::SQLITE_CORRUPT, "corrupt", "in doubt"),
        ];
        let name = |error| match error {
            LedgerError::Unavailable(_) => "unavailable",
            LedgerError::InDoubt(_) => "in doubt",
            LedgerError::Corrupt(_) => "corrupt",
        };
        for (code, statement, commit) in table {
            assert_eq!(name(Fault::from(failure(code)).into()), statement, "a statement failed with {code}");
            assert_eq!(name(Fault::of_commit(failure(code)).into()), commit, "COMMIT failed with {code}");
        }
        assert_eq!(name(Fault::Closed.into()), "unavailable");
        assert_eq!(name(Fault::Unanswered.into()), "in doubt");
    }
}
