//! The store remembers: the ledger, the directory beside it, and the hot state.
//!
//! `ledger/` holds the durable record, one file a database; `hot/` the fast projection, one file a place. Everything
//! outside speaks to them through ports (`nexus_actors::ports::{Ledger, HotState}` and [`directory::Directory`]), and each
//! port has one contract test suite that every implementation passes. Only this crate knows SQL and
//! Redis.

pub mod directory;
pub mod hot;
pub mod ledger;

pub use hot::memory::MemoryHotState;
pub use hot::redis::{RedisHotState, RedisOpenError};
pub use ledger::Migrated;
pub use ledger::postgres::{PostgresOpenError, PostgresOptions, PostgresStore};
pub use ledger::replay::{Correction, Difference, LedgerReplay, ReplayError, UserReplay};
pub use ledger::sqlite::{OpenError, SqliteOptions, SqliteStore};
