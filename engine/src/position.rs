//! A lot: the entry of one accepted decision, the position it made, and its exits.
//!
//! Every accepted decision is a lot of its own, with its own protection; lots are never netted against each other, so
//! what a decision cost and made can always be told.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::gate::Reach;
use crate::ids::{ClientOrderId, DecisionId, FeedId, Leg, SignalId, Symbol, Timeframe, Timestamp, UserId};
use crate::order::Order;
use crate::protection::Protection;
use crate::signal::Side;
use crate::units::{Money, Percent, Price, Quantity};

/// One accepted decision from its reservation to the end of its last order.
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
    /// Exits that only the venue remembers, because their own turns were lost in a crash: of their quantity we know no more
    /// than that it was open.
    #[serde(default)]
    pub adopted: Vec<ClientOrderId>,
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
    /// Whether it counts among the day's trades of its timeframe; given back when it proved to have traded nothing.
    pub counted: bool,
}

impl Lot {
    /// Whether nothing is open and none of its orders can trade.
    pub fn is_done(&self) -> bool {
        self.open.is_zero()
            && self.entry.status.is_terminal()
            && self.exits.iter().all(|exit| exit.status.is_terminal())
    }

    /// What a stop can be about, of a user's lot.
    pub fn reach(&self, user: UserId) -> Reach {
        let venue = Some(self.entry.venue.clone());
        Reach { user, feed: Some(self.feed), symbol: self.symbol.clone(), venue }
    }

    /// The average price of the entry's fills; where it was sized while there are none.
    pub fn entry_price(&self) -> Price {
        self.entry.average_price().unwrap_or(self.sized_at)
    }

    /// What is open and not being closed by a working exit. Exits never ask for more than that together.
    pub fn unprotected(&self) -> Quantity {
        let closing = self.exits.iter().fold(Quantity::ZERO, |sum, exit| sum.plus(exit.working_quantity()));
        self.open.minus(closing).or_zero()
    }

    /// The name of the next exit.
    pub fn next_exit(&self) -> ClientOrderId {
        let newest = self.exits.iter().map(|exit| match exit.id.leg {
            Leg::Exit(n) => n,
            Leg::Entry => 0,
        });
        ClientOrderId::exit(self.decision, newest.max().unwrap_or(0).saturating_add(1))
    }
}
