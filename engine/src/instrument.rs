//! What can be traded, and what the market says it is worth now.
//!
//! Both reach a decision as part of its [`Context`](crate::turn::Context) and are stored with the turn, so that a
//! replay judges with the very prices that the first run saw. An instrument comes from the configuration and a mark
//! from a feed; both were checked where they entered, and the rules take them at their word.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::ids::{Symbol, Timestamp};
use crate::signal::Side;
use crate::units::{Percent, Price, Quantity};

/// A currency code, as in `USD`.
pub type Currency = CompactString;

/// An instrument as its venue defines it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instrument {
    /// Its name.
    pub symbol: Symbol,
    /// The smallest step of its price.
    pub tick: Price,
    /// The smallest step of its quantity.
    pub lot: Quantity,
    /// What the venue charges for each fill, in percent of the fill's value.
    pub fee_percent: Percent,
    /// The currency in which its price, and so its profit and loss, is counted.
    pub quote: Currency,
    /// Whether entries are allowed.
    pub enabled: bool,
    /// The venue where it trades.
    pub venue: CompactString,
}

/// The best prices of a market at one moment. `bid <= ask` is checked where it enters.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Whose market.
    pub symbol: Symbol,
    /// What a seller gets.
    pub bid: Price,
    /// What a buyer pays.
    pub ask: Price,
    /// When the source saw it.
    pub at: Timestamp,
}

impl Mark {
    /// The price at which an order of `side` would trade now.
    pub fn taker(&self, side: Side) -> Price {
        match side {
            Side::Buy => self.ask,
            Side::Sell => self.bid,
        }
    }
}
