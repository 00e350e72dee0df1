//! Between rows and values, whatever the database: columns are read in the order in which they were asked for, and every
//! one is checked.
//!
//! A database brings its row as [`Cells`]; what a decision, an order, a fill or a position is read from stands here once. A
//! value that does not fit its type is reported as corruption with the name of what it should have been; nothing is guessed.

use std::fmt::Display;
use std::str::FromStr;

use compact_str::CompactString;
use nexus_actors::ports::{SignalRecord, TradingStateRecord};
use nexus_engine::account::{Acceptance, Decision, Fill, Verdict};
use nexus_engine::gate::{Scope, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId, FeedId, SignalId, Timestamp, UserId};
use nexus_engine::order::{Order, OrderStatus, Purpose};
use nexus_engine::rules::Refusal;
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::{Money, Price, Quantity};
use serde::de::DeserializeOwned;
use thiserror::Error;
use uuid::Uuid;

use crate::directory::{Feed, PositionRow, Role, TurnRow, User};

/// A row, or what was to become one, does not make sense.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Unreadable(error.to_string())
    }
}

type Read<T> = Result<T, Unreadable>;

/// The columns of one row, from left to right. Each call takes the next.
pub(super) trait Cells {
    fn int(&mut self) -> Read<i64>;
    fn maybe_int(&mut self) -> Read<Option<i64>>;
    fn flag(&mut self) -> Read<bool>;
    /// A text without a copy of it.
    fn text(&mut self) -> Read<&str>;
    fn maybe_text(&mut self) -> Read<Option<&str>>;
    fn uuid(&mut self) -> Read<Uuid>;
    /// Passes over so many columns.
    fn skip(&mut self, columns: usize);
}

impl dyn Cells + '_ {
    pub(super) fn string(&mut self) -> Read<String> {
        self.text().map(ToOwned::to_owned)
    }

    pub(super) fn compact(&mut self) -> Read<CompactString> {
        self.text().map(CompactString::new)
    }

    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self) -> Read<T> {
        let text = self.text()?;
        text.parse().map_err(|error| Unreadable(format!("{text:?} {error}")))
    }

    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Read<T> {
        from_json(self.text()?)
    }

    /// JSON that may be absent.
    pub(super) fn maybe_json<T: DeserializeOwned>(&mut self) -> Read<Option<T>> {
        self.maybe_text()?.map(from_json).transpose()
    }

    /// One of a closed list, by its name.
    pub(super) fn named<T: Copy>(&mut self, all: &[T], name: impl Fn(T) -> &'static str) -> Read<T> {
        let text = self.text()?;
        let found = all.iter().copied().find(|value| name(*value) == text);
        found.ok_or_else(|| Unreadable(format!("{text:?} is not a name that is known")))
    }

    pub(super) fn count(&mut self) -> Read<u32> {
        let value = self.int()?;
        u32::try_from(value).map_err(|_| Unreadable(format!("{value} is not a count")))
    }

    pub(super) fn version(&mut self) -> Read<u64> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| Unreadable(format!("the version {value} is below zero")))
    }

    pub(super) fn at(&mut self) -> Read<Timestamp> {
        self.int().map(Timestamp::from_micros)
    }

    pub(super) fn money(&mut self) -> Read<Money> {
        self.int().map(Money::from_steps)
    }

    pub(super) fn price(&mut self) -> Read<Price> {
        self.int().map(Price::from_steps)
    }

    pub(super) fn quantity(&mut self) -> Read<Quantity> {
        self.int().map(Quantity::from_steps)
    }

    pub(super) fn side(&mut self) -> Read<Side> {
        self.named(&[Side::Buy, Side::Sell], Side::as_str)
    }

    /// The two columns of an order kind: its name and its price.
    fn kind(&mut self) -> Read<OrderKind> {
        let name = self.string()?;
        let price = self.maybe_int()?.map(Price::from_steps);
        match (name.as_str(), price) {
            ("market", None) => Ok(OrderKind::Market),
            ("limit", Some(price)) => Ok(OrderKind::Limit(price)),
            ("stop", Some(price)) => Ok(OrderKind::Stop(price)),
            _ => Err(Unreadable(format!("{name:?} with the price {price:?} is not an order kind"))),
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
const STATES: &[TradingState] = &[TradingState::Active, TradingState::Reducing, TradingState::Halted];

/// What a decision is read from; `FROM` [`DECISIONS_FROM`].
pub(super) const DECISION_COLUMNS: &str = "d.id, d.signal_id, s.feed_id, d.user_id, d.at_us, d.verdict, d.reasons, \
    d.symbol, d.side, d.timeframe, d.kind, d.price_e8, d.quantity_e8, d.sized_at_e8, d.stop_loss_e8, d.take_profit_e8, \
    d.risk_e8, d.used_before_e8, d.cap_e8, d.equity_e8, d.expires_at_us, d.venue";
/// The columns that only an acceptance fills.
const ACCEPTANCE_COLUMNS: usize = 15;
/// Where decisions come from.
pub(super) const DECISIONS_FROM: &str = "decisions d JOIN signals s ON s.id = d.signal_id";

/// Reads [`DECISION_COLUMNS`].
pub(super) fn decision(cells: &mut dyn Cells) -> Read<Decision> {
    let id = DecisionId(cells.uuid()?);
    let signal = SignalId(cells.uuid()?);
    let feed = FeedId(cells.uuid()?);
    let (user, at) = (UserId(cells.uuid()?), cells.at()?);
    let accepted = cells.text()? == "accepted";
    let reasons = cells.maybe_json::<Vec<Refusal>>()?;
    let verdict = if accepted {
        Verdict::Accepted(acceptance(cells, ClientOrderId::entry(id))?)
    } else {
        // An acceptance's columns are empty here; whoever reads on must find their place.
        cells.skip(ACCEPTANCE_COLUMNS);
        Verdict::Rejected(reasons.ok_or_else(|| Unreadable("a refusal without reasons".to_owned()))?)
    };
    Ok(Decision { id, signal, feed, user, at, verdict })
}

fn acceptance(cells: &mut dyn Cells, order: ClientOrderId) -> Read<Acceptance> {
    Ok(Acceptance {
        order,
        symbol: cells.parse()?,
        side: cells.side()?,
        timeframe: cells.parse()?,
        kind: cells.kind()?,
        quantity: cells.quantity()?,
        sized_at: cells.price()?,
        stop_loss: cells.price()?,
        take_profit: cells.price()?,
        risk: cells.money()?,
        used_before: cells.money()?,
        cap: cells.money()?,
        equity: cells.money()?,
        expires_at: cells.at()?,
        venue: cells.compact()?,
    })
}

/// What an order is read from.
pub(super) const ORDER_COLUMNS: &str = "client_order_id, purpose, symbol, side, kind, price_e8, quantity_e8, filled_e8, \
    value_e8, fees_e8, status, unknown, cancel_requested, venue, created_at_us";

/// Reads [`ORDER_COLUMNS`].
pub(super) fn order(cells: &mut dyn Cells) -> Read<Order> {
    Ok(Order {
        id: cells.parse()?,
        purpose: cells.named(PURPOSES, Purpose::as_str)?,
        symbol: cells.parse()?,
        side: cells.side()?,
        kind: cells.kind()?,
        quantity: cells.quantity()?,
        filled: cells.quantity()?,
        value: cells.money()?,
        fees: cells.money()?,
        status: cells.named(STATUSES, OrderStatus::as_str)?,
        unknown: cells.flag()?,
        cancel_requested: cells.flag()?,
        venue: cells.compact()?,
        created_at: cells.at()?,
    })
}

/// What a fill is read from.
pub(super) const FILL_COLUMNS: &str =
    "execution_id, client_order_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us, realized_e8";

/// Reads [`FILL_COLUMNS`].
pub(super) fn fill(cells: &mut dyn Cells) -> Read<Fill> {
    Ok(Fill {
        execution: cells.compact()?,
        order: cells.parse()?,
        symbol: cells.parse()?,
        side: cells.side()?,
        quantity: cells.quantity()?,
        price: cells.price()?,
        fee: cells.money()?,
        at: cells.at()?,
        realized: cells.money()?,
    })
}

/// What a position is read from.
pub(super) const POSITION_COLUMNS: &str = "decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8, \
    take_profit_e8, realized_e8, opened_at_us, closed_at_us";

/// Reads [`POSITION_COLUMNS`].
pub(super) fn position(cells: &mut dyn Cells) -> Read<PositionRow> {
    Ok(PositionRow {
        decision: DecisionId(cells.uuid()?),
        user: UserId(cells.uuid()?),
        symbol: cells.parse()?,
        side: cells.side()?,
        quantity: cells.quantity()?,
        entry_price: cells.price()?,
        stop_loss: cells.price()?,
        take_profit: cells.price()?,
        realized: cells.money()?,
        opened_at: cells.at()?,
        closed_at: cells.maybe_int()?.map(Timestamp::from_micros),
    })
}

/// What a turn is read from.
pub(super) const TURN_COLUMNS: &str = "version, now_us, input, context, events";

/// Reads [`TURN_COLUMNS`].
pub(super) fn turn(cells: &mut dyn Cells) -> Read<TurnRow> {
    Ok(TurnRow {
        version: cells.version()?,
        now: cells.at()?,
        input: cells.json()?,
        context: cells.json()?,
        events: cells.json()?,
    })
}

/// What a recorded signal is read from.
pub(super) const SIGNAL_COLUMNS: &str = "signal, received_at_us, subscribers, mark";

/// Reads [`SIGNAL_COLUMNS`].
pub(super) fn signal(cells: &mut dyn Cells) -> Read<SignalRecord> {
    Ok(SignalRecord {
        signal: cells.json()?,
        received_at: cells.at()?,
        subscribers: cells.json::<Vec<UserId>>()?.into(),
        mark: cells.maybe_json()?,
    })
}

/// What a trading state is read from.
pub(super) const TRADING_STATE_COLUMNS: &str = "kind, name, state, epoch, since_us, by, reason";
/// Where those of all scopes are.
pub(super) const TRADING_STATES_FROM: &str =
    "(SELECT 'everything' AS kind, '' AS name, state, epoch, since_us, by, reason
      FROM trading_state
     UNION ALL SELECT kind, name, state, epoch, since_us, by, reason FROM trading_scopes) AS states";

/// Reads [`TRADING_STATE_COLUMNS`].
pub(super) fn trading_state(cells: &mut dyn Cells) -> Read<TradingStateRecord> {
    let (kind, name) = (cells.string()?, cells.string()?);
    let scope = Scope::parse(&kind, &name).map_err(|error| Unreadable(format!("{kind} {name:?} is not {error}")))?;
    Ok(TradingStateRecord {
        scope,
        state: cells.named(STATES, TradingState::as_str)?,
        epoch: cells.version()?,
        since: cells.at()?,
        by: cells.string()?,
        reason: cells.maybe_text()?.map(ToOwned::to_owned),
    })
}

/// What a user is read from.
pub(super) const USER_COLUMNS: &str = "id, username, role, currency, created_at_us, tokens_valid_from_unix_s";

/// Reads [`USER_COLUMNS`].
pub(super) fn user(cells: &mut dyn Cells) -> Read<User> {
    Ok(User {
        id: UserId(cells.uuid()?),
        username: cells.string()?,
        role: cells.named(&[Role::Admin, Role::User], Role::as_str)?,
        currency: cells.compact()?,
        created_at: cells.at()?,
        tokens_valid_from_unix_s: cells.int()?,
    })
}

/// What a feed is read from.
pub(super) const FEED_COLUMNS: &str = "id, name, symbols, created_at_us";

/// Reads [`FEED_COLUMNS`].
pub(super) fn feed(cells: &mut dyn Cells) -> Read<Feed> {
    Ok(Feed { id: FeedId(cells.uuid()?), name: cells.string()?, symbols: cells.json()?, created_at: cells.at()? })
}

/// A version or an epoch as a column holds it.
pub(super) fn to_column(version: u64) -> Read<i64> {
    i64::try_from(version).map_err(|_| Unreadable(format!("the version {version} is beyond any column")))
}

/// What a column of JSON says.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Read<T> {
    Ok(serde_json::from_str(text)?)
}

/// JSON for a column.
pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Read<String> {
    Ok(serde_json::to_string(value)?)
}
