//! The life of an order, as far as the venue has told us, and the words in which it tells.
//!
//! `Planned -> Working -> Filled | Cancelled | Rejected | Expired`, with `unknown` beside it while we do not know
//! whether the venue has the order. Reports may come late, twice and in any order: a fill is a fact and always counts
//! once, by its execution id; a state only moves forward; nothing that a venue says is refused (promise P6).

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::ids::{ClientOrderId, Symbol, Timestamp};
use crate::signal::{OrderKind, Side};
use crate::units::{Money, Price, Quantity};

/// How far an order has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Permitted by a commit; the venue may or may not have it.
    Planned,
    /// The venue has it, and it can trade.
    Working,
    /// Everything has traded.
    Filled,
    /// Ended by us or by the venue before everything traded.
    Cancelled,
    /// Never accepted by the venue.
    Rejected,
    /// Ended by its time.
    Expired,
}

impl OrderStatus {
    /// Whether nothing more is expected of it. (A late fill is still counted.)
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Planned | Self::Working)
    }

    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Working => "working",
            Self::Filled => "filled",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }
}

/// Why an order exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Opens a position.
    Entry,
    /// The first stop was hit.
    StopLoss,
    /// The stop was hit after it had gone to break-even.
    BreakEven,
    /// The stop was hit after it had followed the market.
    Trailing,
    /// The target was reached.
    TakeProfit,
    /// The position was too old.
    MaxHold,
    /// A person closed it.
    Flatten,
}

impl Purpose {
    /// The name used in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::StopLoss => "stop_loss",
            Self::BreakEven => "break_even",
            Self::Trailing => "trailing",
            Self::TakeProfit => "take_profit",
            Self::MaxHold => "max_hold",
            Self::Flatten => "flatten",
        }
    }
}

/// An order and all that is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Its name at the venue.
    pub id: ClientOrderId,
    /// Why it exists.
    pub purpose: Purpose,
    /// What it trades.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How it meets the market.
    pub kind: OrderKind,
    /// How much was asked for.
    pub quantity: Quantity,
    /// How much has traded.
    pub filled: Quantity,
    /// What the fills were worth together, without fees.
    pub value: Money,
    /// The fees of the fills.
    pub fees: Money,
    /// How far it has come.
    pub status: OrderStatus,
    /// Whether we do not know if the venue has it. Counts as exposure until known.
    pub unknown: bool,
    /// Whether we have asked the venue to cancel it.
    pub cancel_requested: bool,
    /// Where it trades.
    pub venue: CompactString,
    /// When it was permitted.
    pub created_at: Timestamp,
}

/// What an order is for and what it asks for, before anything has happened to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its name at the venue.
    pub id: ClientOrderId,
    /// Why it exists.
    pub purpose: Purpose,
    /// What it trades.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How it meets the market.
    pub kind: OrderKind,
    /// How much.
    pub quantity: Quantity,
    /// Where.
    pub venue: CompactString,
}

impl Order {
    /// An order that the venue has not been told of.
    pub fn planned(plan: Plan, now: Timestamp) -> Order {
        let Plan { id, purpose, symbol, side, kind, quantity, venue } = plan;
        Order {
            id,
            purpose,
            symbol,
            side,
            kind,
            quantity,
            filled: Quantity::ZERO,
            value: Money::ZERO,
            fees: Money::ZERO,
            status: OrderStatus::Planned,
            unknown: false,
            cancel_requested: false,
            venue,
            created_at: now,
        }
    }

    /// What can still trade: nothing once the order has ended.
    pub fn working_quantity(&self) -> Quantity {
        if self.status.is_terminal() { Quantity::ZERO } else { self.quantity.minus(self.filled).or_zero() }
    }

    /// The average price of its fills.
    pub fn average_price(&self) -> Option<Price> {
        (!self.filled.is_zero()).then(|| self.value.per_unit(self.filled))
    }
}

/// What is sent to a venue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OrderRequest {
    /// Its name, the same at every attempt.
    pub id: ClientOrderId,
    /// Why it exists.
    pub purpose: Purpose,
    /// What to trade.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How it meets the market.
    pub kind: OrderKind,
    /// How much.
    pub quantity: Quantity,
    /// Where.
    pub venue: CompactString,
    /// An order that has not left by then never does (an entry's signal would be too old); none for exits.
    pub send_before: Option<Timestamp>,
    /// Whether an earlier run may have sent it: the venue is asked by its id before it is sent.
    pub ask_first: bool,
}

/// What a venue, or the router on its behalf, says about an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which order.
    pub order: ClientOrderId,
    /// When it happened, by the venue's word.
    pub at: Timestamp,
    /// What happened.
    pub news: News,
}

/// What happened to an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The venue has it.
    Acknowledged,
    /// A part or all of it traded.
    Filled {
        /// The venue's unique id of this trade.
        execution: CompactString,
        /// How much.
        quantity: Quantity,
        /// At what price.
        price: Price,
        /// For what fee.
        fee: Money,
    },
    /// The venue did not take it.
    Rejected {
        /// In the venue's words.
        reason: CompactString,
    },
    /// It was cancelled; what had traded stays traded.
    Cancelled {
        /// In the venue's words.
        reason: CompactString,
    },
    /// Its time ended; what had traded stays traded.
    Expired,
    /// We cannot tell whether the venue has it.
    Unknown,
    /// Proven: the venue does not have it and will not get it.
    NeverSent {
        /// Why it did not leave.
        reason: CompactString,
    },
}
