//! The engine decides. Placeholder story.

pub mod account;
pub mod gate;
pub mod ids;
pub mod instrument;
pub mod limits;
pub mod order;
pub mod position;
pub mod protection;
pub mod rules;
pub mod signal;
pub mod units;
