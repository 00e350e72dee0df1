//! The verdict on a signal: the rules in order, the size, and, when all pass, the reservation.
//!
//! It is one atomic turn. The reservation is in the account before the next input is read, so two signals can never both
//! pass a limit that has room for one.

use std::time::Duration;

use crate::account::{Account, Recent};
use crate::ids::{ClientOrderId, DecisionId};
use crate::instrument::Instrument;
use crate::order::{Order, OrderRequest, Plan, Purpose};
use crate::position::Lot;
use crate::protection::Protection;
use crate::rules::{Case, ENTRY_RULES, Refusal, SIZE_RULES};
use crate::signal::{OrderKind, Signal};
use crate::sizing::{Sized, reference_price, size};
use crate::turn::{Acceptance, Context, Decision, Effect, Event, Turn, Verdict};
use crate::units::{Money, Quantity};

/// How long acceptances are remembered at least: the span of `max_repeated_executions`.
const RECENT_MIN: Duration = Duration::from_secs(3_600);
/// Ended lots are remembered so long, for reports that come late …
const ENDED_FOR: Duration = Duration::from_secs(24 * 3_600);
/// … but no more than so many: they are part of every snapshot.
const ENDED_MAX: usize = 16;

impl Account {
    /// Decides on a signal. A signal that this account has decided and still holds a lot for is not decided again.
    pub(crate) fn decide(&mut self, signal: &Signal, context: &Context, turn: &mut Turn) {
        let id = DecisionId::derive(signal.id, self.user);
        if self.lots.contains_key(&id) {
            return;
        }
        let verdict = match self.judge(signal, context) {
            Ok((sized, instrument)) => Verdict::Accepted(self.accept(id, signal, &sized, instrument, turn)),
            Err(refusal) => Verdict::Rejected(vec![refusal]),
        };
        self.record(id, signal, verdict, turn);
    }

    /// The ledger did not admit the acceptance of this signal: that is the decision.
    pub(crate) fn decide_vetoed(&mut self, signal: &Signal, turn: &mut Turn) {
        let id = DecisionId::derive(signal.id, self.user);
        self.record(id, signal, Verdict::Rejected(vec![Refusal::LedgerVeto]), turn);
    }

    fn record(&self, id: DecisionId, signal: &Signal, verdict: Verdict, turn: &mut Turn) {
        let decision = Decision { id, signal: signal.id, feed: signal.feed, user: self.user, at: self.now, verdict };
        turn.events.push(Event::Decided(decision));
    }

    fn judge<'a>(&self, signal: &Signal, context: &'a Context) -> Result<(Sized, &'a Instrument), Refusal> {
        let case = Case { account: self, signal, context };
        for rule in ENTRY_RULES {
            rule(&case)?;
        }
        let instrument = context.instrument.as_deref().ok_or(Refusal::UnknownInstrument)?;
        let reference = reference_price(signal, case.mark()?);
        let sized = size(self.equity(), self.remaining(), &self.limits, instrument, reference, signal.stop_loss)?;
        for rule in SIZE_RULES {
            rule(&case, &sized)?;
        }
        Ok((sized, instrument))
    }

    /// Takes the reservation and plans the entry.
    fn accept(
        &mut self,
        id: DecisionId,
        signal: &Signal,
        sized: &Sized,
        instrument: &Instrument,
        turn: &mut Turn,
    ) -> Acceptance {
        self.forget_the_old();
        let (used_before, equity) = (self.used(), self.equity());
        let lot = self.new_lot(id, signal, sized, instrument);
        turn.effects.push(Effect::Submit(lot.entry_request(&self.limits)));
        turn.effects.push(Effect::Watch(lot.watch()));
        turn.delta.counts.push((signal.timeframe, 1));
        *self.today.timeframes.entry(signal.timeframe).or_insert(0) += 1;
        self.recent.push_back(Recent {
            at: self.now,
            symbol: signal.symbol.clone(),
            side: signal.side,
            timeframe: signal.timeframe,
            quantity: sized.quantity,
        });
        let acceptance = Acceptance {
            order: lot.entry.id,
            symbol: signal.symbol.clone(),
            side: signal.side,
            timeframe: signal.timeframe,
            kind: signal.kind,
            quantity: sized.quantity,
            sized_at: sized.reference,
            stop_loss: signal.stop_loss,
            take_profit: signal.take_profit,
            risk: sized.risk,
            used_before,
            cap: self.limits.max_daily_loss,
            equity,
            expires_at: lot.expires_at,
            venue: instrument.venue.clone(),
        };
        self.lots.insert(id, lot);
        acceptance
    }

    fn new_lot(&self, id: DecisionId, signal: &Signal, sized: &Sized, instrument: &Instrument) -> Lot {
        let plan = Plan {
            id: ClientOrderId::entry(id),
            purpose: Purpose::Entry,
            symbol: signal.symbol.clone(),
            side: signal.side,
            kind: signal.kind,
            quantity: sized.quantity,
            venue: instrument.venue.clone(),
        };
        let entry = Order::planned(plan, self.now);
        Lot {
            decision: id,
            signal: signal.id,
            feed: signal.feed,
            symbol: signal.symbol.clone(),
            side: signal.side,
            timeframe: signal.timeframe,
            accepted_at: self.now,
            expires_at: self.now.after(signal.timeframe.duration()),
            unit_loss: sized.unit_loss,
            sized_at: sized.reference,
            fee_percent: instrument.fee_percent,
            tick: instrument.tick,
            entry,
            exits: Vec::new(),
            adopted: Vec::new(),
            protection: Protection {
                plan: signal.protection,
                first_stop: signal.stop_loss,
                stop: signal.stop_loss,
                target: signal.take_profit,
                stop_kind: Purpose::StopLoss,
            },
            open: Quantity::ZERO,
            cost: Money::ZERO,
            opened_at: None,
            realized: Money::ZERO,
            executions: Vec::new(),
            closed_at: None,
            counted: true,
        }
    }

    /// Drops what no rule and no late report will ask for again, so that an account stays small.
    fn forget_the_old(&mut self) {
        let (now, keep) = (self.now, self.limits.duplicate_window.max(RECENT_MIN));
        while self.recent.front().is_some_and(|recent| now.since(recent.at) >= keep) {
            self.recent.pop_front();
        }
        let mut ended: Vec<_> = self.lots.values().filter_map(|lot| Some((lot.closed_at?, lot.decision))).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(ENDED_MAX);
        for (n, (closed_at, decision)) in ended.into_iter().enumerate() {
            if n < surplus || now.since(closed_at) >= ENDED_FOR {
                self.lots.remove(&decision);
            }
        }
    }
}

impl Lot {
    /// The entry as it is sent. A market order whose signal would be too old never leaves; a limit order may leave until
    /// it would be cancelled anyway.
    pub(crate) fn entry_request(&self, limits: &crate::limits::Limits) -> OrderRequest {
        let send_before = match self.entry.kind {
            OrderKind::Market => self.accepted_at.after(limits.max_signal_age),
            OrderKind::Limit(_) | OrderKind::Stop(_) => self.expires_at,
        };
        OrderRequest { send_before: Some(send_before), ..request(&self.entry) }
    }
}

/// An order as it is sent, without a time by which it must have left.
pub(crate) fn request(order: &Order) -> OrderRequest {
    OrderRequest {
        id: order.id,
        purpose: order.purpose,
        symbol: order.symbol.clone(),
        side: order.side,
        kind: order.kind,
        quantity: order.quantity,
        venue: order.venue.clone(),
        send_before: None,
        ask_first: false,
    }
}
