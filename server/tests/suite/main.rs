//! The binary from outside: real processes, real HTTP, real files.

mod bad_input;
mod bounds;
mod check_ledger;
mod cli;
mod engine;
mod examples;
mod hot_state;
mod kill_switch;
mod lifetime;
mod promises;
mod promises_ledger;
mod promises_kills;
mod promises_load;
mod promises_races;
mod promises_stops;
mod replay;
mod roles;
#[allow(dead_code, reason = "each suite needs only a part of it")]
#[path = "../../../store/tests/suite/servers.rs"]
mod servers;
mod sessions;
mod signals;
mod sim_clock;
mod what_if;
