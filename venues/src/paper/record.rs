//! The words of the journal: what can happen to an order in the book.
//!
//! A book is nothing but the records that it has made, in their order; every report that the venue ever gave is one of
//! them in other words. That is why a query can repeat it, and why a journal that is read back is the same book.

use compact_str::{CompactString, format_compact};
use nexus_engine::ids::{ClientOrderId, Symbol, Timestamp};
use nexus_engine::order::{News, Report};
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::{Money, Price, Quantity};
use serde::{Deserialize, Serialize};

/// One change of the book.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Of which order.
    pub order: ClientOrderId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What happened to an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The book has it.
    Taken {
        /// What it trades.
        symbol: Symbol,
        /// Which way.
        side: Side,
        /// How it meets the market.
        kind: OrderKind,
        /// How much.
        quantity: Quantity,
    },
    /// The book does not take it. Its id is used up all the same.
    Refused {
        /// Why.
        reason: CompactString,
    },
    /// The market traded through its stop: from now on it is a market order, whatever the market does next.
    Triggered,
    /// A part or all of it traded.
    Filled {
        /// Which of its fills, counted from 1.
        number: u32,
        /// How much.
        quantity: Quantity,
        /// At what price.
        price: Price,
        /// For what fee.
        fee: Money,
    },
    /// It was cancelled; what had traded stays traded.
    Cancelled {
        /// Why.
        reason: CompactString,
    },
}

impl Record {
    /// The same as the venue reports it; a triggered stop is the venue's own affair.
    pub fn report(&self) -> Option<Report> {
        let news = match &self.change {
            Change::Taken { .. } => News::Acknowledged,
            Change::Refused { reason } => News::Rejected { reason: reason.clone() },
            Change::Triggered => return None,
            Change::Filled { number, quantity, price, fee } => News::Filled {
                execution: format_compact!("{}.{number}", self.order),
                quantity: *quantity,
                price: *price,
                fee: *fee,
            },
            Change::Cancelled { reason } => News::Cancelled { reason: reason.clone() },
        };
        Some(Report { order: self.order, at: self.at, news })
    }

    /// Whether it is the first of its order: it uses up the client order id.
    pub const fn is_first(&self) -> bool {
        matches!(self.change, Change::Taken { .. } | Change::Refused { .. })
    }
}
