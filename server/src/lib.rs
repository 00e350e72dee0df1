//! The server touches the world.
//!
//! `cli` reads the command line and either asks a running engine over HTTP or becomes one through `serve`. Everything
//! that decides is below, in crates that know neither the environment nor the network. It is a library so that the crash
//! campaign can start the very same engine with a trap in it.

mod auth;
pub mod cli;
mod clock;
mod compose;
mod http;
mod instance;
pub mod serve;
mod wire;
