//! The binary `nexus`.
//!
//! Everything that it does is in the library beside it, so that tests and the crash campaign can start the same engine.

use std::process::ExitCode;

/// Each signal takes hundreds of small allocations on one thread and frees them on another, which the system's allocator is
/// slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nexus_server::cli::run()
}
