//! The contract suites of the store's ports, and what is particular to each implementation.
//!
//! A case of a contract is a function over any implementation; an implementation joins with one line for each port.

#[macro_use]
mod contract;
mod story;

#[macro_use]
mod ledger_contract;
#[macro_use]
mod directory_contract;
#[macro_use]
mod replay_contract;
#[macro_use]
mod hot_contract;

mod hot_reference;
mod memory;
mod postgres;
mod postgres_lease;
mod postgres_races;
mod postgres_schema;
mod postgres_snapshots;
mod redis;
mod server;
mod sqlite;
