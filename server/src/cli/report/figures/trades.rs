//! Closed positions, and why each was left.
//!
//! An exit is counted once, however many fills it took. A gap is an exit of a stop kind at the first mark of a bar, at a
//! worse price than the stop in force: the market jumped over it. It counts as a gap and not as its stop kind, because
//! that is the case in which a stop does not hold what it promises.

use std::collections::BTreeSet;

use nexus_engine::ids::{DecisionId, Timeframe, Timestamp};
use nexus_engine::order::Purpose;
use nexus_engine::signal::Side;
use nexus_engine::units::{Money, Price, Quantity};

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

/// Stops that did not hold: what was left at a worse price than the stop in force, at an opening or within a bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct BeyondStops {
    /// So many exits.
    pub(in super::super) exits: usize,
    /// Of so many by a stop.
    pub(in super::super) of: usize,
    /// What they cost more than they would have cost at their stops.
    pub(in super::super) cost: Money,
}

impl BeyondStops {
    pub(super) fn of(lots: &[Lots<'_>]) -> Self {
        let costs = lots.iter().flat_map(|lots| &lots.all).flat_map(Lot::costs_beyond_stop);
        costs.fold(Self::default(), |sum, cost| Self {
            exits: sum.exits + usize::from(cost > Money::ZERO),
            of: sum.of + 1,
            cost: sum.cost.plus(cost),
        })
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
    pub(super) fn trades(&self, openings: &BTreeSet<Timestamp>) -> impl Iterator<Item = Trade> {
        self.all.iter().filter_map(|lot| lot.trade(&self.account.username, openings))
    }

    /// Why positions were left, once for each exit that traded.
    pub(super) fn exits(&self, openings: &BTreeSet<Timestamp>) -> impl Iterator<Item = ExitKind> {
        self.all.iter().flat_map(|lot| lot.orders.iter().filter_map(|order| lot.exit_kind(order, openings)))
    }
}

impl Lot<'_> {
    fn trade(&self, user: &str, openings: &BTreeSet<Timestamp>) -> Option<Trade> {
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
            exit: last_exit.and_then(|order| self.exit_kind(order, openings)),
            gross: gross(position.side, &entries, &exits),
            fees: entries.fees.plus(exits.fees),
            net: position.realized,
            fills: self.fills.len(),
        })
    }

    /// For each exit by a stop that traded, what it cost more than at the stop; zero when the stop held.
    fn costs_beyond_stop(&self) -> impl Iterator<Item = Money> {
        let is_stop = |order: &&&Order| {
            matches!(order.purpose, Purpose::StopLoss | Purpose::BreakEven | Purpose::Trailing)
                && self.fills_of(order.client_order_id).next().is_some()
        };
        let cost = |position: &Position, fill: &Fill| match position.side {
            Side::Buy => fill.quantity.value_down(position.stop_loss).minus(fill.value()),
            Side::Sell => fill.value().minus(fill.quantity.value_up(position.stop_loss)),
        };
        self.orders.iter().filter(is_stop).filter_map(move |order| {
            let position = self.position?;
            let fills = self.fills_of(order.client_order_id);
            Some(fills.fold(Money::ZERO, |sum, fill| sum.plus(cost(position, fill).or_zero())))
        })
    }

    /// Why this order left the position; none when it did not, or has not traded.
    fn exit_kind(&self, order: &Order, openings: &BTreeSet<Timestamp>) -> Option<ExitKind> {
        let first = self.fills_of(order.client_order_id).next()?;
        let stop = |kind| match self.position {
            Some(position) if jumped_over(position, order, first, openings) => Some(ExitKind::Gap),
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

/// Whether a bar opened beyond the stop. A slow venue fills later than the mark that asked for the exit, so either time
/// will do.
fn jumped_over(position: &Position, order: &Order, fill: &Fill, openings: &BTreeSet<Timestamp>) -> bool {
    let is_worse = match position.side {
        Side::Buy => fill.price < position.stop_loss,
        Side::Sell => fill.price > position.stop_loss,
    };
    is_worse && (openings.contains(&fill.at) || openings.contains(&order.created_at))
}
