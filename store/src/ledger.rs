//! The durable record, one file a database.
//!
//! Every database here implements the ledger port and the directory port on the same tables, admits reservations by its
//! own counters, and passes the same contract suites.

pub mod sqlite;
