//! The binary `nexus`: the one place that touches the world.
//!
//! `cli` reads the command line and either asks a running engine over HTTP or becomes one through `serve`. Everything
//! that decides is below, in crates that know neither the environment nor the network.

mod auth;
mod cli;
mod compose;
mod http;
mod serve;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
