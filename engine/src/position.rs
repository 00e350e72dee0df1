//! A lot: the entry of one accepted decision, the position it made, and its exits.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::ids::{DecisionId, FeedId, SignalId, Symbol, Timeframe, Timestamp};
use crate::order::Order;
use crate::protection::Protection;
use crate::signal::Side;
use crate::units::{Money, Percent, Price, Quantity};

/// One accepted decision from its reservation to the end of its last order. Lots are never netted against each other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lot {
    /// The decision that permits it.
    pub decision: DecisionId,
    /// The signal behind it.
    pub signal: SignalId,
    /// The feed behind that.
    pub feed: FeedId,
    /// What is traded.
    pub symbol: Symbol,
    /// Which way the position is.
    pub side: Side,
    /// From which bars.
    pub timeframe: Timeframe,
    /// When it was accepted; its day is the day of its count.
    pub accepted_at: Timestamp,
    /// When a working entry is cancelled.
    pub expires_at: Timestamp,
    /// The worst-case loss of one unit, fees and slippage allowed for.
    pub unit_loss: Price,
    /// The price of an unfilled unit, for exposure.
    pub sized_at: Price,
    /// What the venue charges, in percent of a fill's value.
    pub fee_percent: Percent,
    /// The smallest step of its price.
    pub tick: Price,
    /// The order that opens it.
    pub entry: Order,
    /// The orders that close it, in the order of their numbers.
    pub exits: Vec<Order>,
    /// Its stop and target.
    pub protection: Protection,
    /// How much is open.
    pub open: Quantity,
    /// What the open part cost (for a short: brought in), without fees.
    pub cost: Money,
    /// When it was first open.
    pub opened_at: Option<Timestamp>,
    /// What it has realised so far, fees included.
    pub realized: Money,
    /// Executions already counted.
    pub executions: Vec<CompactString>,
    /// When it had nothing more to do.
    pub closed_at: Option<Timestamp>,
}
