//! The binary from outside: real processes, real HTTP, real files.

mod cli;
