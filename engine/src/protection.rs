//! The moving stop of a position, and what the market must do next for anybody to look at it again.
//!
//! The stop in force is always the one that the ledger holds. It moves in steps of at least a tenth of the initial risk, so
//! that a quiet market costs no turns, and it never loosens. A position states the price levels and times at which it wants
//! to be looked at ([`Watch`]); the market keeps them sorted, so a mark costs what it triggers, not how many wait. A look
//! judges afresh by the mark it was called for, so a late or needless one does no harm.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::decide::request;
use crate::gate::Scope;
use crate::ids::{DecisionId, Symbol, Timestamp};
use crate::instrument::Mark;
use crate::order::{OrderStatus, Purpose};
use crate::position::Lot;
use crate::signal::{ProtectionPlan, Side};
use crate::turn::{Context, Effect, Event, Turn};
use crate::units::{Multiple, Price};

/// A trailing stop moves when it can move by this multiple of the initial risk.
const TRAIL_STEP: Multiple = Multiple::from_steps(10_000_000);

/// The stop and target in force for a position. In force is what the ledger holds: a stop moves when its turn commits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protection {
    /// How it may move.
    pub plan: ProtectionPlan,
    /// The stop that the size was computed from; 1 R is its distance from the entry.
    pub first_stop: Price,
    /// The stop in force.
    pub stop: Price,
    /// The target.
    pub target: Price,
    /// What last moved the stop: says which kind of exit a hit is.
    pub stop_kind: Purpose,
}

/// What must become true for a position to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The bid is at or below this price.
    BidAtMost(Price),
    /// The bid is at or above this price.
    BidAtLeast(Price),
    /// The ask is at or below this price.
    AskAtMost(Price),
    /// The ask is at or above this price.
    AskAtLeast(Price),
    /// It is this time or later.
    TimeAtLeast(Timestamp),
}

/// Everything that one position waits for. Replaces what was armed for it before; empty disarms it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Which position.
    pub decision: DecisionId,
    /// Whose market.
    pub symbol: Symbol,
    /// Any of these. At most six.
    pub conditions: Vec<Condition>,
}

impl Account {
    /// Looks at a position: is an exit due, may the stop move, has the entry expired?
    pub(crate) fn look(&mut self, decision: DecisionId, context: &Context, turn: &mut Turn) {
        let now = self.now;
        let Some(lot) = self.lots.get_mut(&decision) else { return };
        let mark = context.mark.as_ref().filter(|mark| mark.symbol == lot.symbol);
        if let Some(purpose) = lot.exit_due(mark, now) {
            lot.plan_exit(purpose, now, turn);
        } else if let Some(mark) = mark {
            lot.move_stop(mark, turn);
        }
        if now >= lot.expires_at {
            lot.request_cancel(turn);
        }
        turn.effects.push(Effect::Watch(lot.watch()));
    }

    /// Closes every position in `scope`, whatever the market; what is being closed already is left to that. What of their
    /// entries has not filled is cancelled.
    pub(crate) fn flatten(&mut self, scope: &Scope, turn: &mut Turn) {
        let (now, user) = (self.now, self.user);
        let is_open = |lot: &&mut Lot| !lot.unprotected().is_zero() && scope.covers(&lot.reach(user));
        for lot in self.lots.values_mut().filter(is_open) {
            lot.plan_exit(Purpose::Flatten, now, turn);
            turn.effects.push(Effect::Watch(lot.watch()));
        }
    }
}

impl Lot {
    /// Why the position should be closed now, if it should: its stop first, the worse case.
    fn exit_due(&self, mark: Option<&Mark>, now: Timestamp) -> Option<Purpose> {
        if self.unprotected().is_zero() {
            return None;
        }
        let protection = &self.protection;
        if let Some(mark) = mark {
            let (stopped, won) = match self.side {
                Side::Buy => (mark.bid <= protection.stop, mark.bid >= protection.target),
                Side::Sell => (mark.ask >= protection.stop, mark.ask <= protection.target),
            };
            if stopped {
                return Some(protection.stop_kind);
            }
            if won {
                return Some(Purpose::TakeProfit);
            }
        }
        (now >= self.hold_until()?).then_some(Purpose::MaxHold)
    }

    fn hold_until(&self) -> Option<Timestamp> {
        let max_hold: Duration = self.protection.plan.max_hold?;
        Some(self.opened_at?.after(max_hold))
    }

    /// Plans the exit of what is open. What of the entry has not filled is not wanted any more either.
    fn plan_exit(&mut self, purpose: Purpose, now: Timestamp, turn: &mut Turn) {
        let exit = self.exit_order(self.next_exit(), purpose, self.unprotected(), now);
        turn.events.push(Event::ExitPlanned { order: exit.id, purpose, quantity: exit.quantity });
        turn.effects.push(Effect::Submit(request(&exit)));
        self.exits.push(exit);
        self.request_cancel(turn);
    }

    /// Moves the stop to break-even and then behind the market, as far as the plan and the mark allow.
    fn move_stop(&mut self, mark: &Mark, turn: &mut Turn) {
        if self.unprotected().is_zero() {
            return;
        }
        // What closing now would get.
        let price = mark.taker(self.side.opposite());
        if self.break_even_level().is_some_and(|level| self.has_reached(price, level)) {
            self.set_stop(self.break_even_stop(), Purpose::BreakEven, turn);
        }
        if self.trail_level().is_some_and(|level| self.has_reached(price, level))
            && let Some(distance) = self.protection.plan.trail_distance
        {
            let stop = match self.side {
                Side::Buy => price.minus(distance).floor_to(self.tick),
                Side::Sell => price.plus(distance).ceil_to(self.tick),
            };
            self.set_stop(stop, Purpose::Trailing, turn);
        }
    }

    fn set_stop(&mut self, to: Price, kind: Purpose, turn: &mut Turn) {
        let from = self.protection.stop;
        if !self.tightens(to) {
            return;
        }
        self.protection.stop = to;
        self.protection.stop_kind = kind;
        turn.events.push(Event::StopMoved { decision: self.decision, from, to, kind });
    }

    fn tightens(&self, stop: Price) -> bool {
        match self.side {
            Side::Buy => stop > self.protection.stop,
            Side::Sell => stop < self.protection.stop,
        }
    }

    /// Whether `price` is at least as good for the position as `level`.
    fn has_reached(&self, price: Price, level: Price) -> bool {
        match self.side {
            Side::Buy => price >= level,
            Side::Sell => price <= level,
        }
    }

    /// The price that is `profit` better than the average entry.
    fn at_profit(&self, profit: Price) -> Price {
        let entry = self.entry_price();
        match self.side {
            Side::Buy => entry.plus(profit),
            Side::Sell => entry.minus(profit),
        }
    }

    /// 1 R: the distance from the average entry to the first stop.
    fn initial_risk(&self) -> Price {
        self.entry_price().distance(self.protection.first_stop)
    }

    /// The average entry, on the tick that is not worse for the account.
    fn break_even_stop(&self) -> Price {
        match self.side {
            Side::Buy => self.entry_price().ceil_to(self.tick),
            Side::Sell => self.entry_price().floor_to(self.tick),
        }
    }

    /// Where the market must be for the stop to go to break-even; none when it would not tighten.
    fn break_even_level(&self) -> Option<Price> {
        let at = self.protection.plan.breakeven_at?;
        self.tightens(self.break_even_stop()).then(|| self.at_profit(self.initial_risk().times_up(at)))
    }

    /// Where the market must be for the trailing stop to move by at least one step.
    fn trail_level(&self) -> Option<Price> {
        let distance = self.protection.plan.trail_distance?;
        let step = self.initial_risk().times_up(TRAIL_STEP).max(self.tick);
        let stop = self.protection.stop;
        let begins = self.protection.plan.trail_after.map(|after| self.at_profit(self.initial_risk().times_up(after)));
        Some(match self.side {
            Side::Buy => {
                let moves = stop.plus(step).ceil_to(self.tick).plus(distance);
                begins.map_or(moves, |begins| begins.max(moves))
            }
            Side::Sell => {
                let moves = stop.minus(step).floor_to(self.tick).minus(distance);
                begins.map_or(moves, |begins| begins.min(moves))
            }
        })
    }

    /// Everything that this position waits for.
    pub fn watch(&self) -> Watch {
        let mut conditions = Vec::with_capacity(6);
        if !self.unprotected().is_zero() {
            let better = [Some(self.protection.target), self.break_even_level(), self.trail_level()];
            let better = better.into_iter().flatten();
            match self.side {
                Side::Buy => {
                    conditions.push(Condition::BidAtMost(self.protection.stop));
                    conditions.extend(better.map(Condition::BidAtLeast));
                }
                Side::Sell => {
                    conditions.push(Condition::AskAtLeast(self.protection.stop));
                    conditions.extend(better.map(Condition::AskAtMost));
                }
            }
            conditions.extend(self.hold_until().map(Condition::TimeAtLeast));
        }
        let can_expire = matches!(self.entry.status, OrderStatus::Planned | OrderStatus::Working);
        if can_expire && !self.entry.cancel_requested {
            conditions.push(Condition::TimeAtLeast(self.expires_at));
        }
        Watch { decision: self.decision, symbol: self.symbol.clone(), conditions }
    }
}
