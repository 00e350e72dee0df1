//! Crash tests: the engine is killed at named steps under a running script, restarted, and compared with a run that was
//! never interrupted.

mod client;
mod crash;
mod process;
