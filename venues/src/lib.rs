//! Venues trade: one file a venue, all behind [`nexus_actors::ports::Venue`].
//!
//! A venue here is the near end of a market that is not ours. It carries orders out and reports back, and it decides
//! nothing: limits are the engine's, routing and retries are the router's. What it owes to the tree is the contract of the
//! port: a permit is entered right before the first byte leaves; a failure says whether anything can have arrived; an
//! order that may have arrived can be asked about by its id, and what was once reported is reported again in the same
//! words. The suite in `tests/suite/contract.rs` holds every venue to that; a new one (`alpaca.rs`, `fix.rs`) is a file
//! here and a factory there.
//!
//! [`paper`] is a simulated exchange that trades against pushed marks. Its book lives in a file of its own and outlives
//! the engine, so that a crash of the engine is met here as it is met at a real venue: the orders are still there.

pub mod paper;
