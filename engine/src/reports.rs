//! What a venue reports, taken into the account.
//!
//! Reports come late, twice and in any order. A fill is counted once, by its execution id, whatever state its order is in;
//! an order's state only moves forward; and what no decision explains is kept as such. Nothing is refused (promise P6).

use compact_str::CompactString;

use crate::account::Account;
use crate::decide::request;
use crate::gate::Scope;
use crate::ids::{ClientOrderId, Leg, Timestamp};
use crate::order::{News, Order, OrderStatus, Plan, Report};
use crate::position::Lot;
use crate::signal::{OrderKind, Side};
use crate::turn::{Effect, Event, Fill, Turn};
use crate::units::{Money, Price, Quantity};

/// A trade as it was reported.
struct Trade<'a> {
    execution: &'a CompactString,
    quantity: Quantity,
    price: Price,
    fee: Money,
    at: Timestamp,
}

impl Account {
    pub(crate) fn take_report(&mut self, report: &Report, turn: &mut Turn) {
        let Some(mut lot) = self.lots.remove(&report.order.decision) else {
            turn.events.push(Event::Unexplained(report.clone()));
            return;
        };
        let events_before = turn.events.len();
        self.apply(&mut lot, report, turn);
        if turn.events.len() > events_before {
            turn.effects.push(Effect::Watch(lot.watch()));
            self.close_if_done(&mut lot, turn);
        }
        self.lots.insert(lot.decision, lot);
    }

    fn apply(&mut self, lot: &mut Lot, report: &Report, turn: &mut Turn) {
        if !lot.adopt(report, self.now) {
            return;
        }
        match &report.news {
            News::Acknowledged => lot.acknowledge(report.order, turn),
            News::Filled { execution, quantity, price, fee } => {
                let trade = Trade { execution, quantity: *quantity, price: *price, fee: *fee, at: report.at };
                self.fill(lot, report, &trade, turn);
            }
            News::Rejected { reason } => self.end(lot, report.order, OrderStatus::Rejected, reason, turn),
            News::Cancelled { reason } => self.end(lot, report.order, OrderStatus::Cancelled, reason, turn),
            News::Expired => self.end(lot, report.order, OrderStatus::Expired, "expired", turn),
            News::NeverSent { reason } => {
                // A venue that has acknowledged or filled the order contradicts the claim, and knows better.
                if lot.order(report.order).is_some_and(|order| order.status == OrderStatus::Planned) {
                    self.end(lot, report.order, OrderStatus::Cancelled, reason, turn);
                }
            }
            News::Unknown => lot.doubt(report.order, turn),
        }
    }

    fn fill(&mut self, lot: &mut Lot, report: &Report, trade: &Trade<'_>, turn: &mut Turn) {
        if lot.executions.contains(trade.execution) || trade.quantity.is_zero() {
            return;
        }
        lot.executions.push(trade.execution.clone());
        let realized = match report.order.leg {
            Leg::Entry => lot.fill_entry(trade, self.now),
            Leg::Exit(_) => {
                if trade.quantity > lot.open {
                    turn.events.push(Event::Unexplained(report.clone()));
                }
                lot.fill_exit(report.order, trade)
            }
        };
        lot.realized = lot.realized.plus(realized);
        self.today.net = self.today.net.plus(realized);
        self.net_realized = self.net_realized.plus(realized);
        if report.order.is_entry() {
            self.count_again(lot, turn);
        }
        let side = if report.order.is_entry() { lot.side } else { lot.side.opposite() };
        turn.events.push(Event::Filled(Fill {
            execution: trade.execution.clone(),
            order: report.order,
            symbol: lot.symbol.clone(),
            side,
            quantity: trade.quantity,
            price: trade.price,
            fee: trade.fee,
            at: trade.at,
            realized,
        }));
    }

    fn end(&mut self, lot: &mut Lot, id: ClientOrderId, status: OrderStatus, reason: &str, turn: &mut Turn) {
        let Some(order) = lot.order_mut(id).filter(|order| !order.status.is_terminal()) else { return };
        order.status = status;
        order.unknown = false;
        turn.events.push(Event::Ended { order: id, status, reason: reason.into() });
        if id.is_entry() && lot.entry.filled.is_zero() {
            self.give_count_back(lot, turn);
        }
    }

    /// A trade that is proven not to have happened does not use up the day it was accepted on.
    fn give_count_back(&mut self, lot: &mut Lot, turn: &mut Turn) {
        if lot.counted && lot.accepted_at.day() == self.today.day {
            lot.counted = false;
            self.count(lot, -1, turn);
        }
    }

    /// A late fill disproves that: it counts after all.
    fn count_again(&mut self, lot: &mut Lot, turn: &mut Turn) {
        if !lot.counted && lot.accepted_at.day() == self.today.day {
            lot.counted = true;
            self.count(lot, 1, turn);
        }
    }

    fn count(&mut self, lot: &Lot, change: i32, turn: &mut Turn) {
        let used = self.today.timeframes.entry(lot.timeframe).or_insert(0);
        *used = used.saturating_add_signed(change);
        turn.delta.counts.push((lot.timeframe, change));
    }

    fn close_if_done(&mut self, lot: &mut Lot, turn: &mut Turn) {
        if !lot.is_done() {
            lot.closed_at = None;
            return;
        }
        if lot.closed_at.is_some() {
            return;
        }
        lot.closed_at = Some(self.now);
        turn.events.push(Event::Closed { decision: lot.decision, realized: lot.realized });
        if lot.entry.filled.is_zero() {
            return;
        }
        self.losing_streak = if lot.realized < Money::ZERO { self.losing_streak + 1 } else { 0 };
        if self.losing_streak >= self.limits.loss_streak {
            let until = self.now.after(self.limits.loss_streak_cooldown);
            self.losing_streak = 0;
            self.cooling_until = Some(until);
            turn.events.push(Event::CooledDown { until });
        }
    }

    /// Asks for the cancellation of every entry in `scope` that can still trade. Protection is never cancelled.
    pub(crate) fn cancel_entries(&mut self, scope: &Scope, turn: &mut Turn) {
        let user = self.user;
        for lot in self.lots.values_mut().filter(|lot| scope.covers(&lot.reach(user))) {
            lot.request_cancel(turn);
        }
    }
}

impl Lot {
    /// The order of this id, if it is one of this lot's.
    pub fn order(&self, id: ClientOrderId) -> Option<&Order> {
        match id.leg {
            Leg::Entry => Some(&self.entry),
            Leg::Exit(_) => self.exits.iter().find(|order| order.id == id),
        }
    }

    fn order_mut(&mut self, id: ClientOrderId) -> Option<&mut Order> {
        match id.leg {
            Leg::Entry => Some(&mut self.entry),
            Leg::Exit(_) => self.exits.iter_mut().find(|order| order.id == id),
        }
    }

    /// Makes room for an exit that left under the entry's permission and whose own turn was lost in a crash. Returns whether
    /// the order is one of this lot's; of an exit that never existed there is nothing to take.
    fn adopt(&mut self, report: &Report, now: Timestamp) -> bool {
        if self.order(report.order).is_some() {
            return true;
        }
        let at_venue = match report.news {
            News::Acknowledged | News::Cancelled { .. } | News::Expired => true,
            News::Filled { quantity, .. } => !quantity.is_zero(),
            News::Rejected { .. } | News::Unknown | News::NeverSent { .. } => false,
        };
        if at_venue {
            let exit = self.exit_order(report.order, self.protection.stop_kind, self.open, now);
            self.adopted.push(exit.id);
            self.exits.push(exit);
        }
        at_venue
    }

    fn acknowledge(&mut self, id: ClientOrderId, turn: &mut Turn) {
        let Some(order) = self.order_mut(id) else { return };
        if order.status == OrderStatus::Planned || order.unknown {
            if order.status == OrderStatus::Planned {
                order.status = OrderStatus::Working;
            }
            order.unknown = false;
            turn.events.push(Event::Acknowledged(id));
        }
    }

    fn doubt(&mut self, id: ClientOrderId, turn: &mut Turn) {
        let Some(order) = self.order_mut(id) else { return };
        if !order.status.is_terminal() && !order.unknown {
            order.unknown = true;
            turn.events.push(Event::Doubted(id));
        }
    }

    /// Takes a fill of the entry; what it realises is its fee. What exits have closed before this fill was heard of is not
    /// open any more: that part realises its difference to what they brought.
    fn fill_entry(&mut self, trade: &Trade<'_>, now: Timestamp) -> Money {
        let value = match self.side {
            Side::Buy => trade.quantity.value_up(trade.price),
            Side::Sell => trade.quantity.value_down(trade.price),
        };
        let (owed, owed_value) = self.closed_ahead();
        let closed = trade.quantity.at_most(owed);
        let share = value.share(closed, trade.quantity);
        let proceeds = if closed == owed { owed_value } else { owed_value.share(closed, owed) };
        self.entry.trade(trade, value);
        self.open = self.open.plus(trade.quantity.minus(closed));
        self.cost = self.cost.plus(value.minus(share));
        self.opened_at = self.opened_at.or(Some(now));
        self.gain(share, proceeds).minus(trade.fee)
    }

    /// What exits have closed beyond what is known to have been open, and what that was worth: their fills less what has been
    /// realised of them.
    fn closed_ahead(&self) -> (Quantity, Money) {
        let closed = self.exits.iter().fold(Quantity::ZERO, |sum, exit| sum.plus(exit.filled));
        if closed <= self.entry.filled {
            return (Quantity::ZERO, Money::ZERO);
        }
        let sum = |of: fn(&Order) -> Money| self.exits.iter().fold(Money::ZERO, |sum, exit| sum.plus(of(exit)));
        let gross = self.realized.plus(self.entry.fees).plus(sum(|exit| exit.fees));
        let entered = self.entry.value.minus(self.cost);
        let realized = match self.side {
            Side::Buy => entered.plus(gross),
            Side::Sell => entered.minus(gross),
        };
        (closed.minus(self.entry.filled), sum(|exit| exit.value).minus(realized))
    }

    /// What a part made that was entered for `cost` and left for `proceeds`.
    fn gain(&self, cost: Money, proceeds: Money) -> Money {
        match self.side {
            Side::Buy => proceeds.minus(cost),
            Side::Sell => cost.minus(proceeds),
        }
    }

    /// Takes a fill of an exit; what it realises is the difference to the cost of what it closed, less its fee. The last
    /// part takes all of the cost that is left, so that the parts add up exactly.
    fn fill_exit(&mut self, id: ClientOrderId, trade: &Trade<'_>) -> Money {
        let value = match self.side {
            Side::Buy => trade.quantity.value_down(trade.price),
            Side::Sell => trade.quantity.value_up(trade.price),
        };
        if let Some(order) = self.order_mut(id) {
            order.trade(trade, value);
        }
        let closed = trade.quantity.at_most(self.open);
        let share = if closed == self.open { self.cost } else { self.cost.share(closed, self.open) };
        let proceeds = value.share(closed, trade.quantity);
        self.open = self.open.minus(closed);
        self.cost = self.cost.minus(share);
        self.settle_adopted();
        self.gain(share, proceeds).minus(trade.fee)
    }

    /// An adopted exit can close no more than is open; with nothing left to close it is filled.
    fn settle_adopted(&mut self) {
        let (open, adopted) = (self.open, &self.adopted);
        for exit in self.exits.iter_mut().filter(|exit| adopted.contains(&exit.id) && !exit.status.is_terminal()) {
            exit.quantity = exit.quantity.at_most(exit.filled.plus(open));
            if exit.filled >= exit.quantity && !exit.filled.is_zero() {
                exit.status = OrderStatus::Filled;
            }
        }
    }

    pub(crate) fn request_cancel(&mut self, turn: &mut Turn) {
        if self.entry.status.is_terminal() || self.entry.cancel_requested {
            return;
        }
        self.entry.cancel_requested = true;
        turn.events.push(Event::CancelRequested(self.entry.id));
        turn.effects.push(self.cancel_entry());
    }

    /// The request to cancel the entry.
    pub(crate) fn cancel_entry(&self) -> Effect {
        Effect::Cancel { order: self.entry.id, symbol: self.symbol.clone(), venue: self.entry.venue.clone() }
    }

    /// The exit order of this id, as planned.
    pub(crate) fn exit_order(
        &self,
        id: ClientOrderId,
        purpose: crate::order::Purpose,
        quantity: Quantity,
        now: Timestamp,
    ) -> Order {
        let plan = Plan {
            id,
            purpose,
            symbol: self.symbol.clone(),
            side: self.side.opposite(),
            kind: OrderKind::Market,
            quantity,
            venue: self.entry.venue.clone(),
        };
        Order::planned(plan, now)
    }

    /// What the venue must be asked about at start-up.
    pub(crate) fn questions(&self, limits: &crate::limits::Limits) -> Vec<crate::account::Ask> {
        let ask = |order, resend| crate::account::Ask {
            order,
            symbol: self.symbol.clone(),
            venue: self.entry.venue.clone(),
            resend,
        };
        let mut questions = Vec::new();
        if !self.entry.status.is_terminal() {
            let wanted = self.entry.status == OrderStatus::Planned && !self.entry.cancel_requested;
            questions.push(ask(self.entry.id, wanted.then(|| self.entry_request(limits))));
        }
        for exit in self.exits.iter().filter(|exit| !exit.status.is_terminal()) {
            questions.push(ask(exit.id, (exit.status == OrderStatus::Planned).then(|| request(exit))));
        }
        if !self.open.is_zero() {
            questions.push(ask(self.next_exit(), None));
        }
        questions
    }
}

impl Order {
    fn trade(&mut self, trade: &Trade<'_>, value: Money) {
        self.filled = self.filled.plus(trade.quantity);
        self.value = self.value.plus(value);
        self.fees = self.fees.plus(trade.fee);
        self.unknown = false;
        if self.filled >= self.quantity {
            self.status = OrderStatus::Filled;
        } else if self.status == OrderStatus::Planned {
            self.status = OrderStatus::Working;
        }
    }
}
