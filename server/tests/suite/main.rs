//! The binary from outside: real processes, real HTTP, real files.

mod bad_input;
mod bounds;
mod cli;
mod engine;
mod kill_switch;
mod lifetime;
mod promises;
mod promises_ledger;
mod promises_kills;
mod promises_load;
mod promises_races;
mod promises_stops;
mod roles;
mod sessions;
mod signals;
mod sim_clock;
mod what_if;
