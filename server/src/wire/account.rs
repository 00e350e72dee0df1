//! What a user sees of the own account: its risk, and the record of decisions, orders, positions and fills.
//!
//! Figures are the engine's, formatted by its own `Display`. Two are made here, because they are for people and no
//! decision uses them: the day's zeros before an account's first turn of the day, and profit at the newest mark.

use std::collections::BTreeMap;

use nexus_engine::account::{Account, Fill, Verdict};
use nexus_engine::gate::TradingState;
use nexus_engine::ids::{Day, Symbol, UserId};
use nexus_engine::instrument::Mark;
use nexus_engine::order::Order;
use nexus_engine::position::Lot;
use nexus_engine::signal::Side;
use nexus_engine::sizing::intended_risk;
use nexus_engine::units::{Money, Price, Quantity};
use nexus_store::directory::{DecisionRow, FillRow, OrderRow, PositionRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// The state of a user's risk.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RiskStatus)]
pub struct RiskStatusBody {
    /// Whose.
    pub user_id: String,
    /// Whether entries are allowed for this user.
    pub trading_enabled: bool,
    /// What trading is allowed to everybody.
    #[schema(example = "active")]
    pub trading_state: &'static str,
    /// The UTC day that the figures belong to.
    #[schema(example = "2026-11-24")]
    pub day: String,
    /// Starting equity and realised profit and loss.
    #[schema(example = "500.00")]
    pub equity: String,
    /// How much of the day's cap is used, and by what.
    pub daily_loss: DailyLossBody,
    /// What one trade may risk.
    pub risk_per_trade: RiskPerTradeBody,
    /// Acceptances of the day by timeframe.
    pub timeframes: BTreeMap<String, UsedBody>,
    /// Positions that are open.
    pub open_positions: Vec<PositionBody>,
    /// Orders that can still trade.
    pub open_orders: Vec<OrderBody>,
    /// Turns committed so far.
    pub version: u64,
}

/// How much of the day's cap is used, and by what.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = DailyLoss)]
pub struct DailyLossBody {
    /// The cap.
    #[schema(example = "9.99")]
    pub cap: String,
    /// The net realised loss of the day.
    #[schema(example = "0.00")]
    pub realized: String,
    /// The worst loss of open positions at their stops.
    #[schema(example = "0.00")]
    pub open: String,
    /// The worst loss of accepted entries that are not filled.
    #[schema(example = "4.80")]
    pub reserved: String,
    /// What is left.
    #[schema(example = "5.19")]
    pub remaining: String,
}

/// What one trade may risk.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RiskPerTrade)]
pub struct RiskPerTradeBody {
    /// In percent of equity.
    #[schema(example = "1.0")]
    pub max_percent: String,
    /// In money.
    #[schema(example = "5.00")]
    pub max_amount: String,
}

/// How much of a count is used.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Used)]
pub struct UsedBody {
    /// Used.
    pub used: u32,
    /// Allowed.
    pub limit: u32,
}

impl RiskStatusBody {
    /// Shows the risk of an account on `day`; `mark` gives the newest price of a symbol.
    pub fn of(account: &Account, state: TradingState, day: Day, mark: impl Fn(&Symbol) -> Option<Mark>) -> Self {
        let limits = &account.limits;
        // The account's own day only rolls with its next turn; a day that has not begun for it has used nothing. It never
        // rolls back: with a clock that was set back, the day that decisions are held against is still the account's.
        let day = day.max(account.today.day);
        let is_today = account.today.day == day;
        let realized = if is_today { account.realized_loss() } else { Money::ZERO };
        let (open, reserved) = (account.open_risk(), account.reserved_risk());
        let remaining = limits.max_daily_loss.minus(realized).minus(open).minus(reserved).or_zero();
        let used = |timeframe| if is_today { account.today.timeframes.get(timeframe).copied() } else { None };
        let timeframes = limits.timeframes.iter().map(|(timeframe, limit)| {
            (timeframe.to_string(), UsedBody { used: used(timeframe).unwrap_or(0), limit: *limit })
        });
        let open_lots = account.lots.values().filter(|lot| !lot.open.is_zero());
        let orders = account.lots.values().flat_map(|lot| std::iter::once(&lot.entry).chain(&lot.exits));
        Self {
            user_id: account.user.to_string(),
            trading_enabled: account.trading_enabled,
            trading_state: state.as_str(),
            day: day.to_string(),
            equity: account.equity().to_string(),
            daily_loss: DailyLossBody {
                cap: limits.max_daily_loss.to_string(),
                realized: realized.to_string(),
                open: open.to_string(),
                reserved: reserved.to_string(),
                remaining: remaining.to_string(),
            },
            risk_per_trade: RiskPerTradeBody {
                max_percent: limits.max_risk_percent.to_string(),
                max_amount: intended_risk(account.equity(), limits).to_string(),
            },
            timeframes: timeframes.collect(),
            open_positions: open_lots.map(|lot| PositionBody::of_lot(lot, mark(&lot.symbol).as_ref())).collect(),
            open_orders: orders
                .filter(|order| !order.status.is_terminal())
                .map(|order| OrderBody::of(order, account.user))
                .collect(),
            version: account.version,
        }
    }
}

/// A position.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Position)]
pub struct PositionBody {
    /// The decision behind it.
    pub decision_id: String,
    /// What.
    pub symbol: String,
    /// `buy` for long, `sell` for short.
    pub side: &'static str,
    /// How much is open.
    pub quantity: String,
    /// The average entry price.
    pub entry_price: String,
    /// The stop in force.
    pub stop_loss: String,
    /// The target.
    pub take_profit: String,
    /// Profit or loss of the open part at the newest mark, without fees; null while there is none.
    pub unrealized: Option<String>,
    /// What it has realised so far, fees included.
    pub realized: String,
    /// When it was first open.
    pub opened_at: Option<String>,
    /// When it had nothing more to do.
    pub closed_at: Option<String>,
}

impl PositionBody {
    /// Shows a lot whose position is open.
    fn of_lot(lot: &Lot, mark: Option<&Mark>) -> Self {
        Self {
            decision_id: lot.decision.to_string(),
            symbol: lot.symbol.to_string(),
            side: lot.side.as_str(),
            quantity: lot.open.to_string(),
            entry_price: lot.entry.average_price().unwrap_or(lot.sized_at).to_string(),
            stop_loss: lot.protection.stop.to_string(),
            take_profit: lot.protection.target.to_string(),
            unrealized: mark.map(|mark| unrealized(lot.side, lot.open, lot.cost, mark).to_string()),
            realized: lot.realized.to_string(),
            opened_at: lot.opened_at.map(time::format),
            closed_at: lot.closed_at.map(time::format),
        }
    }

    /// Shows a position of the record.
    pub fn of_row(row: &PositionRow, mark: Option<&Mark>) -> Self {
        let cost = entry_value(row.side, row.quantity, row.entry_price);
        Self {
            decision_id: row.decision.to_string(),
            symbol: row.symbol.to_string(),
            side: row.side.as_str(),
            quantity: row.quantity.to_string(),
            entry_price: row.entry_price.to_string(),
            stop_loss: row.stop_loss.to_string(),
            take_profit: row.take_profit.to_string(),
            unrealized: mark.map(|mark| unrealized(row.side, row.quantity, cost, mark).to_string()),
            realized: row.realized.to_string(),
            opened_at: Some(time::format(row.opened_at)),
            closed_at: row.closed_at.map(time::format),
        }
    }
}

/// What the open part cost (for a short: brought in), rounded against the user.
fn entry_value(side: Side, quantity: Quantity, price: Price) -> Money {
    match side {
        Side::Buy => quantity.value_up(price),
        Side::Sell => quantity.value_down(price),
    }
}

/// What closing at the market would make, rounded against the user.
fn unrealized(side: Side, quantity: Quantity, entry_value: Money, mark: &Mark) -> Money {
    match side {
        Side::Buy => quantity.value_down(mark.bid).minus(entry_value),
        Side::Sell => entry_value.minus(quantity.value_up(mark.ask)),
    }
}

/// An order.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Order)]
pub struct OrderBody {
    /// Its name at the venue.
    pub client_order_id: String,
    /// The decision that permits it.
    pub decision_id: String,
    /// Whose.
    pub user_id: String,
    /// Why it exists.
    #[schema(example = "entry")]
    pub purpose: &'static str,
    /// What it trades.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// `market`, `limit` or `stop`.
    pub kind: &'static str,
    /// The price it names, if any.
    pub price: Option<String>,
    /// How much was asked for.
    pub quantity: String,
    /// How much has traded.
    pub filled_quantity: String,
    /// The average price of its fills.
    pub average_price: Option<String>,
    /// How far it has come.
    #[schema(example = "working")]
    pub status: &'static str,
    /// Whether it is not known if the venue has it; counts as exposure until it is known.
    pub unknown: bool,
    /// Where it trades.
    pub venue: String,
    /// When it was permitted.
    pub created_at: String,
}

impl OrderBody {
    fn of(order: &Order, user: UserId) -> Self {
        Self {
            client_order_id: order.id.to_string(),
            decision_id: order.id.decision.to_string(),
            user_id: user.to_string(),
            purpose: order.purpose.as_str(),
            symbol: order.symbol.to_string(),
            side: order.side.as_str(),
            kind: order.kind.as_str(),
            price: order.kind.price().map(|price| price.to_string()),
            quantity: order.quantity.to_string(),
            filled_quantity: order.filled.to_string(),
            average_price: order.average_price().map(|price| price.to_string()),
            status: order.status.as_str(),
            unknown: order.unknown,
            venue: order.venue.to_string(),
            created_at: time::format(order.created_at),
        }
    }

    /// Shows an order of the record.
    pub fn of_row(row: &OrderRow) -> Self {
        Self::of(&row.order, row.user)
    }
}

/// A fill.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Fill)]
pub struct FillBody {
    /// The venue's unique id of it.
    pub execution_id: String,
    /// The order that traded.
    pub client_order_id: String,
    /// Whose.
    pub user_id: String,
    /// What.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// How much.
    pub quantity: String,
    /// At what price.
    pub price: String,
    /// For what fee.
    pub fee: String,
    /// What it realised, its fee included.
    pub realized: String,
    /// When, by the venue's word.
    pub at: String,
}

impl FillBody {
    /// Shows a fill of the record.
    pub fn of_row(row: &FillRow) -> Self {
        let Fill { execution, order, symbol, side, quantity, price, fee, at, realized } = &row.fill;
        Self {
            execution_id: execution.to_string(),
            client_order_id: order.to_string(),
            user_id: row.user.to_string(),
            symbol: symbol.to_string(),
            side: side.as_str(),
            quantity: quantity.to_string(),
            price: price.to_string(),
            fee: fee.to_string(),
            realized: realized.to_string(),
            at: time::format(*at),
        }
    }
}

/// A decision of the record.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Decision)]
pub struct DecisionRecordBody {
    /// Its id.
    pub decision_id: String,
    /// For whom.
    pub user_id: String,
    /// On which signal.
    pub signal_id: String,
    /// What the feed calls that signal.
    pub signal_key: String,
    /// From which feed.
    pub feed_id: String,
    /// When.
    pub at: String,
    /// `accepted` or `rejected`.
    pub verdict: &'static str,
    /// Why not, when rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<&'static str>>,
    /// The order plan, when accepted.
    #[serde(flatten)]
    pub plan: Option<PlanBody>,
}

/// The order plan of an accepted decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrderPlan)]
pub struct PlanBody {
    /// The entry order.
    pub client_order_id: String,
    /// What to trade.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// From which bars.
    pub timeframe: String,
    /// `market` or `limit`.
    pub kind: &'static str,
    /// How much.
    pub quantity: String,
    /// The entry price that the size was computed from.
    pub sized_at: String,
    /// The first stop.
    pub stop_loss: String,
    /// The target.
    pub take_profit: String,
    /// The worst-case loss that was reserved.
    pub risk: String,
    /// What was used of the day's cap before.
    pub used_before: String,
    /// The day's cap.
    pub cap: String,
    /// The equity that the risk percent was taken of.
    pub equity: String,
    /// When a working entry is cancelled.
    pub expires_at: String,
    /// Where it trades.
    pub venue: String,
}

impl DecisionRecordBody {
    /// Shows a decision of the record.
    pub fn of_row(row: &DecisionRow) -> Self {
        let decision = &row.decision;
        let (verdict, reasons, plan) = match &decision.verdict {
            Verdict::Rejected(reasons) => ("rejected", Some(reasons.iter().map(|r| r.code()).collect()), None),
            Verdict::Accepted(plan) => {
                let plan = PlanBody {
                    client_order_id: plan.order.to_string(),
                    symbol: plan.symbol.to_string(),
                    side: plan.side.as_str(),
                    timeframe: plan.timeframe.to_string(),
                    kind: plan.kind.as_str(),
                    quantity: plan.quantity.to_string(),
                    sized_at: plan.sized_at.to_string(),
                    stop_loss: plan.stop_loss.to_string(),
                    take_profit: plan.take_profit.to_string(),
                    risk: plan.risk.to_string(),
                    used_before: plan.used_before.to_string(),
                    cap: plan.cap.to_string(),
                    equity: plan.equity.to_string(),
                    expires_at: time::format(plan.expires_at),
                    venue: plan.venue.to_string(),
                };
                ("accepted", None, Some(plan))
            }
        };
        Self {
            decision_id: decision.id.to_string(),
            user_id: decision.user.to_string(),
            signal_id: decision.signal.to_string(),
            signal_key: row.signal_key.to_string(),
            feed_id: decision.feed.to_string(),
            at: time::format(decision.at),
            verdict,
            reasons,
            plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::ids::Timestamp;
    use nexus_engine::instrument::Currency;
    use nexus_engine::limits::Limits;

    #[test]
    fn the_day_is_the_account_s_or_a_later_one_that_has_used_nothing() {
        let user = UserId(uuid::Uuid::nil());
        let mut account = Account::open(user, Currency::new("USD"), Money::whole(500), Limits::default());
        account.today.day = Day(1);
        account.today.timeframes.insert(nexus_engine::ids::Timeframe::hours(3), 1);
        for (clock, expected, used) in [(0, "1970-01-02", 1), (1, "1970-01-02", 1), (2, "1970-01-03", 0)] {
            let body = RiskStatusBody::of(&account, TradingState::Active, Day(clock), |_| None);
            assert_eq!((body.day.as_str(), body.timeframes["3H"].used), (expected, used), "by the clock {clock}");
        }
    }

    #[test]
    fn an_open_position_is_worth_what_closing_it_would_make() {
        let price = |text: &str| text.parse::<Price>().expect("a price");
        let mark = Mark {
            symbol: "EURUSD".parse().expect("a symbol"),
            bid: price("1.10"),
            ask: price("1.12"),
            at: Timestamp::ZERO,
        };
        let quantity = Quantity::whole(100);
        for (side, entry, expected) in [(Side::Buy, "1.00", "10.00"), (Side::Sell, "1.00", "-12.00")] {
            let value = entry_value(side, quantity, price(entry));
            assert_eq!(unrealized(side, quantity, value, &mark).to_string(), expected);
        }
    }
}
