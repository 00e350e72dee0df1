//! The binary `nexus`. Everything that it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    nexus_server::cli::run()
}
