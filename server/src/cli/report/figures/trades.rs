//! Closed positions, and why each was left.
//!
//! An exit is counted once, however many fills it took. A gap is an exit of a stop kind that filled worse than its stop by
//! more than the slippage that the size allowed for: the market showed no price in between. It counts as a gap and not as
//! its stop kind, because that is the case in which a loss may be larger than the risk that was reserved.

use nexus_engine::ids::{DecisionId, Timeframe, Timestamp};
use nexus_engine::order::Purpose;
use nexus_engine::signal::Side;
use nexus_engine::units::{Money, Percent, Price, Quantity};

use super::lots::{Lot, Lots, Sum};
use crate::cli::report::records::{Fill, Order, Position};

/// Why a position was left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in super::super) enum ExitKind {
    StopLoss,
    TakeProfit,
    BreakEven,
    Trailing,
    MaxHold,
    Gap,
    Flatten,
}

impl ExitKind {
    /// Told even when there was none. A person's flattening is told when there was one.
    pub(super) const REPORTED: [Self; 6] =
        [Self::StopLoss, Self::TakeProfit, Self::BreakEven, Self::Trailing, Self::MaxHold, Self::Gap];

    /// The name in JSON.
    pub(in super::super) const fn as_str(self) -> &'static str {
        match self {
            Self::StopLoss => "stop_loss",
            Self::TakeProfit => "take_profit",
            Self::BreakEven => "break_even",
            Self::Trailing => "trailing",
            Self::MaxHold => "max_hold",
            Self::Gap => "gap",
            Self::Flatten => "flatten",
        }
    }

    /// The name for people.
    pub(in super::super) const fn in_words(self) -> &'static str {
        match self {
            Self::StopLoss => "stop",
            Self::TakeProfit => "target",
            Self::BreakEven => "break-even",
            Self::Trailing => "trailing",
            Self::MaxHold => "time",
            Self::Gap => "gap",
            Self::Flatten => "flattened",
        }
    }
}

/// A closed position, with every number that is needed to check it by hand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Trade {
    pub(in super::super) user: String,
    pub(in super::super) decision: DecisionId,
    pub(in super::super) signal_key: String,
    pub(in super::super) symbol: String,
    pub(in super::super) side: Side,
    pub(in super::super) timeframe: Timeframe,
    /// When the first fill came.
    pub(in super::super) opened_at: Timestamp,
    pub(in super::super) closed_at: Timestamp,
    /// The equity at the decision, what it risked of it, and the prices it was planned with.
    pub(in super::super) equity: Money,
    pub(in super::super) risk: Money,
    pub(in super::super) sized_at: Price,
    pub(in super::super) stop_loss: Price,
    pub(in super::super) take_profit: Price,
    /// The stop at the end.
    pub(in super::super) last_stop: Price,
    pub(in super::super) quantity: Quantity,
    /// The average, rounded down to a step.
    pub(in super::super) entry_price: Price,
    /// The average, rounded down to a step.
    pub(in super::super) exit_price: Price,
    /// What all entries came to, and all exits.
    pub(in super::super) entry_value: Money,
    pub(in super::super) exit_value: Money,
    /// Why it was left; the last exit's word.
    pub(in super::super) exit: Option<ExitKind>,
    pub(in super::super) gross: Money,
    pub(in super::super) fees: Money,
    pub(in super::super) net: Money,
    /// How many fills it took.
    pub(in super::super) fills: usize,
}

impl Trade {
    pub(super) fn is_win(&self) -> bool {
        self.net > Money::ZERO
    }

    pub(super) fn is_loss(&self) -> bool {
        self.net < Money::ZERO
    }

    /// What its sales brought in: the exits of a long, the entries of a short.
    pub(in super::super) fn proceeds(&self) -> Money {
        match self.side {
            Side::Buy => self.exit_value,
            Side::Sell => self.entry_value,
        }
    }

    /// What its purchases cost.
    pub(in super::super) fn outlay(&self) -> Money {
        match self.side {
            Side::Buy => self.entry_value,
            Side::Sell => self.exit_value,
        }
    }

    /// What orders trades whose `key` is the same: the earlier, then the user's name.
    pub(super) fn rank(&self, key: Money) -> (Money, Timestamp, String, DecisionId) {
        (key, self.opened_at, self.user.clone(), self.decision)
    }
}

/// What a position made before fees, by prices and quantities alone.
pub(super) fn gross(side: Side, entries: &Sum, exits: &Sum) -> Money {
    match side {
        Side::Buy => exits.value.minus(entries.value),
        Side::Sell => entries.value.minus(exits.value),
    }
}

impl Lots<'_> {
    /// The closed positions.
    pub(super) fn trades(&self) -> impl Iterator<Item = Trade> {
        self.all.iter().filter_map(|lot| lot.trade(&self.account.username, self.allowance()))
    }

    fn allowance(&self) -> Percent {
        self.account.limits.slippage_allowance_percent
    }

    /// What exits of stop kinds lost because the market had jumped over their stops.
    pub(super) fn cost_of_gaps(&self) -> Money {
        let gaps = self.all.iter().filter_map(|lot| Some((lot, lot.position?)));
        gaps.fold(Money::ZERO, |sum, (lot, position)| sum.plus(lot.cost_of_gaps(position, self.allowance())))
    }

    /// Why positions were left, once for each exit that traded.
    pub(super) fn exits(&self) -> impl Iterator<Item = ExitKind> {
        self.all.iter().flat_map(|lot| lot.orders.iter().filter_map(|order| lot.exit_kind(order, self.allowance())))
    }
}

impl Lot<'_> {
    fn trade(&self, user: &str, allowance: Percent) -> Option<Trade> {
        let position = self.position?;
        let (entries, exits) = (Sum::of(self.entries()), Sum::of(self.exits()));
        let last_exit = self
            .exits()
            .last()
            .and_then(|fill| self.orders.iter().find(|order| order.client_order_id == fill.client_order_id).copied());
        Some(Trade {
            user: user.to_owned(),
            decision: self.decision.id,
            signal_key: self.decision.signal_key.clone(),
            symbol: position.symbol.clone(),
            side: position.side,
            timeframe: self.plan.timeframe,
            opened_at: position.opened_at?,
            closed_at: position.closed_at?,
            equity: self.plan.equity,
            risk: self.plan.risk,
            sized_at: self.plan.sized_at,
            stop_loss: self.plan.stop_loss,
            take_profit: self.plan.take_profit,
            last_stop: position.stop_loss,
            quantity: entries.quantity,
            entry_price: entries.value.per_unit(entries.quantity),
            exit_price: exits.value.per_unit(exits.quantity),
            entry_value: entries.value,
            exit_value: exits.value,
            exit: last_exit.and_then(|order| self.exit_kind(order, allowance)),
            gross: gross(position.side, &entries, &exits),
            fees: entries.fees.plus(exits.fees),
            net: position.realized,
            fills: self.fills.len(),
        })
    }

    fn cost_of_gaps(&self, position: &Position, allowance: Percent) -> Money {
        let gaps = self.orders.iter().filter(|order| self.exit_kind(order, allowance) == Some(ExitKind::Gap));
        let fills = gaps.flat_map(|order| self.fills_of(order.client_order_id));
        fills.fold(Money::ZERO, |sum, fill| sum.plus(fill.quantity.value_up(beyond_the_stop(position, fill))))
    }

    /// Why this order left the position; none when it did not, or has not traded.
    fn exit_kind(&self, order: &Order, allowance: Percent) -> Option<ExitKind> {
        let first = self.fills_of(order.client_order_id).next()?;
        let stop = |kind| match self.position {
            Some(position) if has_jumped_over(position, first, allowance) => Some(ExitKind::Gap),
            Some(_) | None => Some(kind),
        };
        match order.purpose {
            Purpose::Entry => None,
            Purpose::StopLoss => stop(ExitKind::StopLoss),
            Purpose::BreakEven => stop(ExitKind::BreakEven),
            Purpose::Trailing => stop(ExitKind::Trailing),
            Purpose::TakeProfit => Some(ExitKind::TakeProfit),
            Purpose::MaxHold => Some(ExitKind::MaxHold),
            Purpose::Flatten => Some(ExitKind::Flatten),
        }
    }
}

/// How much worse than its stop an exit filled; zero when it was not worse.
fn beyond_the_stop(position: &Position, fill: &Fill) -> Price {
    let is_worse = match position.side {
        Side::Buy => fill.price < position.stop_loss,
        Side::Sell => fill.price > position.stop_loss,
    };
    if is_worse { fill.price.distance(position.stop_loss) } else { Price::ZERO }
}

fn has_jumped_over(position: &Position, fill: &Fill, allowance: Percent) -> bool {
    beyond_the_stop(position, fill) > position.stop_loss.percent_up(allowance)
}
