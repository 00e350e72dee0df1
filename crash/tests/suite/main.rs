//! Crash tests: the engine is killed at named steps under a running script, restarted, and compared with a run that was
//! never interrupted.
//!
//! They run the real binary on a real disk: a process that only pretends to die still flushes what a dead one would
//! lose.

mod client;
mod crash;
mod ledger;
mod process;
