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
pub use ledger::postgres::{Acquired, Holder, Lease, PostgresOpenError, PostgresOptions, PostgresStore};
pub use ledger::sqlite::{Difference, OpenError, ReplayError, SqliteOptions, SqliteReplay, SqliteStore, UserReplay};
