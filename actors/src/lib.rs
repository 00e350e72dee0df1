//! The actors carry.
//!
//! Placeholder.

mod attempt;
mod commit;
mod desk;
mod dispatcher;
pub mod engine;
mod ingress;
mod kill_switch;
mod latch;
mod market;
mod meters;
pub mod ports;
mod registry;
mod reports;
mod risk;
mod router;
mod schedule;
mod shared;
mod startup;
mod supervisor;
mod venue;
