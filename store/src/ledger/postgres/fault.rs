//! What can go wrong with PostgreSQL, sorted by the one question that matters: was anything written?
//!
//! Every change here is one statement, and so a transaction that the server ends by itself. An error that the server reports
//! has rolled it back: certain. What ends the session instead (a lost connection, a terminated or crashed server) may come
//! after the commit and before its answer: in doubt. What happens before a statement is sent is certain again.

use nexus_actors::ports::LedgerError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use crate::directory::DirectoryError;
use crate::ledger::rows::Unreadable;

/// What the ledger's functions raise when the lease is somebody else's.
const LEASE_LOST: &str = "NX001";

/// Why a statement did not succeed.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// No connection: nothing was sent.
    #[error("{0}")]
    NotSent(sqlx::Error),
    /// The server refused the statement: nothing was written.
    #[error("{0}")]
    Refused(sqlx::Error),
    /// The session ended before an answer.
    #[error("{0}")]
    Unknown(sqlx::Error),
    /// No answer came in time, and the connection was given up.
    #[error("the database did not answer in time")]
    NoAnswer,
    /// Somebody else owns the accounts: nothing was written.
    #[error("the lease was lost")]
    LeaseLost,
    /// Rows, or what was to become rows, do not make sense. Nothing was written.
    #[error("{0}")]
    Corrupt(String),
    /// The writing task is gone before it took the job: nothing was written.
    #[error("the store is closed")]
    Closed,
    /// The writing task took the job and did not answer.
    #[error("the writing task did not answer")]
    Unanswered,
}

impl Fault {
    /// A connection could not be had.
    pub(super) fn not_sent(error: sqlx::Error) -> Fault {
        Fault::NotSent(error)
    }

    /// A statement that may have changed something failed.
    pub(super) fn of(error: sqlx::Error) -> Fault {
        use sqlx::Error::{ColumnDecode, Configuration, Encode, PoolClosed, PoolTimedOut, Tls};
        match &error {
            sqlx::Error::Database(_) => match said(&error) {
                Some(said) if said.code() == LEASE_LOST => Fault::LeaseLost,
                Some(said) if !ends_the_session(said) => Fault::Refused(error),
                _ => Fault::Unknown(error),
            },
            Encode(words) => Fault::Corrupt(words.to_string()),
            ColumnDecode { .. } => Fault::Corrupt(error.to_string()),
            Configuration(_) | Tls(_) | PoolTimedOut | PoolClosed => Fault::NotSent(error),
            _ => Fault::Unknown(error),
        }
    }

    /// What failed only reads: whatever it was, nothing was written.
    pub(super) fn of_a_read(self) -> Fault {
        match self {
            Fault::Unknown(error) => Fault::NotSent(error),
            Fault::NoAnswer => Fault::NotSent(sqlx::Error::PoolTimedOut),
            fault => fault,
        }
    }

    /// Two transactions waited for each other, and the server has ended ours: it may be tried again.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        matches!(self.code(), Some("40P01" | "40001"))
    }

    /// The server's code for a refusal.
    fn code(&self) -> Option<&str> {
        match self {
            Fault::Refused(error) => said(error).map(PgDatabaseError::code),
            _ => None,
        }
    }

    /// Whether a unique key is taken.
    pub(super) fn is_taken(&self) -> bool {
        self.code() == Some("23505")
    }

    /// Whether a row refers to what does not exist.
    pub(super) fn is_dangling(&self) -> bool {
        self.code() == Some("23503")
    }

    /// Whether the rows, not the machine, are at fault: data exceptions, broken constraints, damaged pages.
    fn is_corruption(&self) -> bool {
        match self {
            Fault::Corrupt(_) => true,
            _ => self.code().is_some_and(|code| ["22", "23", "XX"].iter().any(|class| code.starts_with(class))),
        }
    }
}

fn said(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()
}

/// Terminated by an operator, by a shutdown or by a crash; the commit may have gone before.
fn ends_the_session(said: &PgDatabaseError) -> bool {
    matches!(said.severity(), PgSeverity::Fatal | PgSeverity::Panic)
        || said.code().starts_with("57P")
        || said.code().starts_with("08")
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
            Fault::Unknown(_) | Fault::NoAnswer | Fault::Unanswered => LedgerError::InDoubt(words),
            Fault::NotSent(_) | Fault::Refused(_) | Fault::LeaseLost | Fault::Corrupt(_) | Fault::Closed => {
                LedgerError::Unavailable(words)
            }
        }
    }
}

/// People who manage users and feeds see that it did not work and look again; they have no use for the difference.
impl From<Fault> for DirectoryError {
    fn from(fault: Fault) -> Self {
        DirectoryError::Unavailable(fault.to_string())
    }
}
