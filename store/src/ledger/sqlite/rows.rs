//! Between rows and values: columns are read in the order in which they were asked for, and every one is checked.
//!
//! A value that does not fit its type is reported as corruption with the name of what it should have been; nothing is
//! guessed.

use std::fmt::Display;
use std::str::FromStr;

use compact_str::CompactString;
use nexus_engine::account::{Acceptance, Decision, Fill, Verdict};
use nexus_engine::order::{Order, OrderStatus, Purpose};
use nexus_engine::rules::Refusal;
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::{Money, Price, Quantity};
use nexus_engine::{gate::TradingState, ids::Timestamp};
use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::de::DeserializeOwned;

use super::fault::Fault;
use crate::directory::PositionRow;

/// The columns of one row, from left to right.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn take<T: FromSql>(&mut self) -> Result<T, Fault> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// A text without a copy of it.
    fn text(&mut self) -> Result<&'a str, Fault> {
        let value = self.row.get_ref(self.next)?;
        self.next += 1;
        value.as_str().map_err(|error| Fault::Corrupt(format!("a column that should be a text: {error}")))
    }

    pub(super) fn compact(&mut self) -> Result<CompactString, Fault> {
        self.text().map(CompactString::new)
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self) -> Result<T, Fault> {
        let text = self.text()?;
        text.parse().map_err(|error| Fault::Corrupt(format!("{text:?} {error}")))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        Ok(serde_json::from_str(self.text()?)?)
    }

    /// JSON that may be absent.
    pub(super) fn maybe_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        let text: Option<String> = self.take()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// One of a closed list, by its name.
    pub(super) fn named<T: Copy>(&mut self, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, Fault> {
        let text = self.text()?;
        let found = all.iter().copied().find(|value| name(*value) == text);
        found.ok_or_else(|| Fault::Corrupt(format!("{text:?} is not a name that is known")))
    }

    pub(super) fn version(&mut self) -> Result<u64, Fault> {
        let value = self.take::<i64>()?;
        u64::try_from(value).map_err(|_| Fault::Corrupt(format!("the version {value} is below zero")))
    }

    pub(super) fn at(&mut self) -> Result<Timestamp, Fault> {
        self.take().map(Timestamp::from_micros)
    }

    pub(super) fn at_if_any(&mut self) -> Result<Option<Timestamp>, Fault> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    pub(super) fn money(&mut self) -> Result<Money, Fault> {
        self.take().map(Money::from_steps)
    }

    pub(super) fn price(&mut self) -> Result<Price, Fault> {
        self.take().map(Price::from_steps)
    }

    pub(super) fn quantity(&mut self) -> Result<Quantity, Fault> {
        self.take().map(Quantity::from_steps)
    }

    pub(super) fn side(&mut self) -> Result<Side, Fault> {
        self.named(&[Side::Buy, Side::Sell], Side::as_str)
    }

    pub(super) fn trading_state(&mut self) -> Result<TradingState, Fault> {
        self.named(&[TradingState::Active, TradingState::Reducing, TradingState::Halted], TradingState::as_str)
    }

    /// The two columns of an order kind: its name and its price.
    fn kind(&mut self) -> Result<OrderKind, Fault> {
        let name = self.text()?;
        let price = self.take::<Option<i64>>()?.map(Price::from_steps);
        match (name, price) {
            ("market", None) => Ok(OrderKind::Market),
            ("limit", Some(price)) => Ok(OrderKind::Limit(price)),
            ("stop", Some(price)) => Ok(OrderKind::Stop(price)),
            _ => Err(Fault::Corrupt(format!("{name:?} with the price {price:?} is not an order kind"))),
        }
    }
}

const STATUSES: &[OrderStatus] = &[
    OrderStatus::Planned,
    OrderStatus::Working,
    OrderStatus::Filled,
    OrderStatus::Cancelled,
    OrderStatus::Rejected,
    OrderStatus::Expired,
];
const PURPOSES: &[Purpose] = &[
    Purpose::Entry,
    Purpose::StopLoss,
    Purpose::BreakEven,
    Purpose::Trailing,
    Purpose::TakeProfit,
    Purpose::MaxHold,
    Purpose::Flatten,
];

/// What a decision is read from; `FROM` [`DECISIONS_FROM`].
pub(super) const DECISION_COLUMNS: &str = "d.id, d.signal_id, s.feed_id, d.user_id, d.at_us, d.verdict, d.reasons, \
    d.client_order_id, d.symbol, d.side, d.timeframe, d.kind, d.price_e8, d.quantity_e8, d.sized_at_e8, d.stop_loss_e8, \
    d.take_profit_e8, d.risk_e8, d.used_before_e8, d.cap_e8, d.equity_e8, d.expires_at_us, d.venue";
/// Where decisions come from.
pub(super) const DECISIONS_FROM: &str = "decisions d JOIN signals s ON s.id = d.signal_id";

/// Reads [`DECISION_COLUMNS`].
pub(super) fn decision(columns: &mut Columns<'_>) -> Result<Decision, Fault> {
    let (id, signal, feed) = (columns.parse()?, columns.parse()?, columns.parse()?);
    let (user, at) = (columns.parse()?, columns.at()?);
    let accepted = columns.text()? == "accepted";
    let reasons: Option<String> = columns.take()?;
    let verdict = if accepted {
        Verdict::Accepted(acceptance(columns)?)
    } else {
        let reasons = reasons.ok_or_else(|| Fault::Corrupt("a refusal without reasons".to_owned()))?;
        // An acceptance's columns are empty here; whoever reads on must find their place.
        columns.next += 16;
        Verdict::Rejected(serde_json::from_str::<Vec<Refusal>>(&reasons)?)
    };
    Ok(Decision { id, signal, feed, user, at, verdict })
}

fn acceptance(columns: &mut Columns<'_>) -> Result<Acceptance, Fault> {
    Ok(Acceptance {
        order: columns.parse()?,
        symbol: columns.parse()?,
        side: columns.side()?,
        timeframe: columns.parse()?,
        kind: columns.kind()?,
        quantity: columns.quantity()?,
        sized_at: columns.price()?,
        stop_loss: columns.price()?,
        take_profit: columns.price()?,
        risk: columns.money()?,
        used_before: columns.money()?,
        cap: columns.money()?,
        equity: columns.money()?,
        expires_at: columns.at()?,
        venue: columns.compact()?,
    })
}

/// What an order is read from.
pub(super) const ORDER_COLUMNS: &str = "client_order_id, purpose, symbol, side, kind, price_e8, quantity_e8, filled_e8, \
    value_e8, fees_e8, status, unknown, cancel_requested, venue, created_at_us";

/// Reads [`ORDER_COLUMNS`].
pub(super) fn order(columns: &mut Columns<'_>) -> Result<Order, Fault> {
    Ok(Order {
        id: columns.parse()?,
        purpose: columns.named(PURPOSES, Purpose::as_str)?,
        symbol: columns.parse()?,
        side: columns.side()?,
        kind: columns.kind()?,
        quantity: columns.quantity()?,
        filled: columns.quantity()?,
        value: columns.money()?,
        fees: columns.money()?,
        status: columns.named(STATUSES, OrderStatus::as_str)?,
        unknown: columns.take()?,
        cancel_requested: columns.take()?,
        venue: columns.compact()?,
        created_at: columns.at()?,
    })
}

/// What a fill is read from.
pub(super) const FILL_COLUMNS: &str =
    "execution_id, client_order_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us, realized_e8";

/// Reads [`FILL_COLUMNS`].
pub(super) fn fill(columns: &mut Columns<'_>) -> Result<Fill, Fault> {
    Ok(Fill {
        execution: columns.compact()?,
        order: columns.parse()?,
        symbol: columns.parse()?,
        side: columns.side()?,
        quantity: columns.quantity()?,
        price: columns.price()?,
        fee: columns.money()?,
        at: columns.at()?,
        realized: columns.money()?,
    })
}

/// What a position is read from.
pub(super) const POSITION_COLUMNS: &str = "decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8, \
    take_profit_e8, realized_e8, opened_at_us, closed_at_us";

/// Reads [`POSITION_COLUMNS`].
pub(super) fn position(columns: &mut Columns<'_>) -> Result<PositionRow, Fault> {
    Ok(PositionRow {
        decision: columns.parse()?,
        user: columns.parse()?,
        symbol: columns.parse()?,
        side: columns.side()?,
        quantity: columns.quantity()?,
        entry_price: columns.price()?,
        stop_loss: columns.price()?,
        take_profit: columns.price()?,
        realized: columns.money()?,
        opened_at: columns.at()?,
        closed_at: columns.at_if_any()?,
    })
}

/// A version or an epoch as a column holds it.
pub(super) fn to_column(version: u64) -> Result<i64, Fault> {
    i64::try_from(version).map_err(|_| Fault::Corrupt(format!("the version {version} is beyond any column")))
}

/// JSON for a column.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Fault> {
    Ok(serde_json::from_str(text)?)
}

pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    Ok(serde_json::to_string(value)?)
}
