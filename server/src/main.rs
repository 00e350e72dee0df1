//! The binary `nexus`.
//!
//! Everything that it does is in the library beside it, so that tests and the crash campaign can start the same engine.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexus_server::cli::run()
}
