//! The binary from outside: real processes, real HTTP, real files.

mod bad_input;
mod bounds;
mod cli;
mod engine;
mod kill_switch;
mod lifetime;
mod roles;
mod sessions;
mod signals;
