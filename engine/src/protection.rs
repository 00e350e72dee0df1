//! The moving stop of a position, and what the market must do next for anybody to look at it again.

use serde::{Deserialize, Serialize};

use crate::ids::{DecisionId, Symbol, Timestamp};
use crate::order::Purpose;
use crate::signal::ProtectionPlan;
use crate::units::Price;

/// The stop and target in force for a position. In force is what the ledger holds: a stop moves when its turn commits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protection {
    /// How it may move.
    pub plan: ProtectionPlan,
    /// The stop that the size was computed from; 1 R is its distance from the entry.
    pub first_stop: Price,
    /// The stop in force.
    pub stop: Price,
    /// The target.
    pub target: Price,
    /// What last moved the stop: says which kind of exit a hit is.
    pub stop_kind: Purpose,
}

/// What must become true for a position to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The bid is at or below this price.
    BidAtMost(Price),
    /// The bid is at or above this price.
    BidAtLeast(Price),
    /// The ask is at or below this price.
    AskAtMost(Price),
    /// The ask is at or above this price.
    AskAtLeast(Price),
    /// It is this time or later.
    TimeAtLeast(Timestamp),
}

/// Everything that one position waits for. Replaces what was armed for it before; empty disarms it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Which position.
    pub decision: DecisionId,
    /// Whose market.
    pub symbol: Symbol,
    /// Any of these. At most six.
    pub conditions: Vec<Condition>,
}
