//! The actors carry.
//!
//! What `engine` decides is carried here: from the caller to the account, from the account into the ledger, from the ledger
//! to a venue and back. This crate knows no SQL, no Redis, no HTTP and no JSON; it speaks through [`ports`], and the world
//! speaks to it through [`engine::Engine`].
//!
//! The tree is drawn, and its restart rules are told, above `mod supervisor` below.

mod attempt;
mod commit;
mod desk;
mod dispatcher;
pub mod engine;
mod flatten;
mod halt;
mod ingress;
mod kill_switch;
mod latch;
mod market;
mod meters;
pub mod ports;
pub mod preview;
mod registry;
mod reports;
mod rest;
mod risk;
mod router;
mod schedule;
mod shared;
mod startup;
/// The supervision tree, and what each failure means.
///
/// ```text
/// Engine (the handle; stop and submit run on their callers' tasks)
/// │
/// ├─ RootSupervisor                 restarts, intensity, what each failure means          supervisor.rs
/// │  ├─ RiskActor × active user     one account each; on demand, passivated when idle     risk.rs desk.rs registry.rs
/// │  ├─ OrderRouterActor            one slot an order; approved entries and exits only    router.rs
/// │  ├─ VenueActor × venue          starts the task of each order and cancel              venue.rs attempt.rs
/// │  └─ KillSwitchActor             watches for a HALT written by hand                    kill_switch.rs latch.rs halt.rs
/// │
/// ├─ kept loops (restarted like actors; a mailbox would add nothing)
/// │  ├─ committer                   turns in, one transaction out, effects after it       commit.rs
/// │  ├─ reports × venue             what venues say, to the account it belongs to         venue.rs reports.rs
/// │  ├─ schedule                    due times, passivation, doubts                        schedule.rs
/// │  └─ lease, trading state        of a ledger that several instances can reach          tenure.rs
/// │
/// └─ shared state (outlives a crash of whoever works on it)                               shared.rs
///    latch · marks and triggers (market.rs) · order slots · owners of decisions · permits (ingress.rs)
/// ```
///
/// | what fails | what happens |
/// |---|---|
/// | a step panics | the account is read again, the input is tried once more, then given up; a user to whom it happens three times is quarantined, alone; the stops stay armed |
/// | a risk actor | its unanswered signals are dispatched once more through the ledger, its reports are handed over again; with open business it is read and armed at once |
/// | the task of an order | started again, asking the venue by id first |
/// | the router, a venue's actor | started again; slots not yet started are started |
/// | the committer's writer | the outcome is in doubt: the accounts read themselves back before anything is answered or sent |
/// | the committer, reports, schedule | started again on the same queue |
/// | any kind more than 5 times in 60 s | the gate closes for entries, exits still leave, restarts go on once a second |
/// | the ledger is away | signals are refused (503), facts wait in order, exits leave under standing permission |
/// | the lease is somebody else's | nothing is opened any more, nothing can be committed, and this instance ends |
/// | a venue is away | entries are given up in time, exits are tried for ever, unknown outcomes are asked about |
mod supervisor;
pub mod tenure;
mod venue;
