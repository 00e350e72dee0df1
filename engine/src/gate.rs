//! The gate: whether new exposure may be taken at all.
//!
//! Its state lives in an atomic outside the engine, because a stop must not queue behind anything; the engine is told
//! what the gate said when a turn began, and the router looks again before it writes to a venue.

use serde::{Deserialize, Serialize};

use crate::rules::Refusal;

/// What trading is allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TradingState {
    /// Everything within the limits.
    Active,
    /// Only orders that shrink a position.
    Reducing,
    /// No new order but protective exits.
    Halted,
}

impl TradingState {
    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Reducing => "reducing",
            Self::Halted => "halted",
        }
    }

    /// Refuses an entry that this state does not allow.
    pub const fn admit_entry(self) -> Result<(), Refusal> {
        match self {
            Self::Active => Ok(()),
            Self::Reducing => Err(Refusal::ReducingOnly),
            Self::Halted => Err(Refusal::TradingHalted),
        }
    }
}

/// What the gate said at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// The trading state.
    pub state: TradingState,
    /// Rises with every change of the state.
    pub epoch: u64,
}
