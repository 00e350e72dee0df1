//! The engine decides.
//!
//! This crate is the pure core of Nexus. It has no clock, no randomness, no I/O, no environment and no logging; time is an
//! argument and every answer is a value, so the same inputs give the same decisions bit for bit, today and in a replay.
//!
//! The story of a signal, in the order of the modules below: what a number and a name are ([`units`], [`ids`]), what can be
//! traded and within which limits ([`instrument`], [`limits`]); a [`signal`] is parsed once at the edge; the [`gate`] and the
//! [`rules`] say whether it may be acted on, [`sizing`] how large, [`exposure`] what that reserves; [`decide`] puts the
//! verdict together, [`headroom`] says what each limit has left. Then come the life of its [`order`]s through the venue's [`reports`], of the [`position`] they make and
//! of its moving stops ([`protection`]). [`account`] holds it all and dispatches; [`turn`] is what goes in and out of one step;
//! [`retry`] says how long a router waits; [`invariants`] says what is true of every account after every step; [`replay`] takes
//! a whole history again.

pub mod units;
pub mod ids;
pub mod instrument;
pub mod limits;
pub mod signal;
pub mod gate;
pub mod rules;
pub mod sizing;
pub mod exposure;
pub mod decide;
pub mod headroom;
pub mod order;
pub mod reports;
pub mod position;
pub mod protection;
pub mod account;
pub mod turn;
pub mod retry;
pub mod invariants;
pub mod replay;
#[cfg(test)]
mod stories;
