//! The actor tree against doubles of its ports, with faults: whole flows, each a promise.

mod crashes;
mod faults;
mod flows;
mod hot;
mod ledger;
mod preview;
mod router;
mod stops;
mod scopes;
mod storms;
mod tenure;
mod venue;
mod world;
