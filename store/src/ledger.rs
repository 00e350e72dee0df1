//! The durable record, one folder a database.
//!
//! Every database here implements the ledger port and the directory port on the same tables, admits reservations by its
//! own counters, and passes the same contract suites. What does not depend on the database stands beside them: what rows
//! are read from (`rows`), what a turn touches (`touched`), what a page is (`paging`), and how a history is proven (`replay`).

mod paging;
pub mod postgres;
pub mod replay;
mod rows;
pub mod sqlite;
mod touched;

/// Which version a schema was at, and which it is at now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Migrated {
    /// Before it was brought up to date; 0: there was nothing.
    pub from: i64,
    /// Now.
    pub to: i64,
}
