//! What a turn changed, as things that people and pages read: orders, fills, positions, limits.
//!
//! They follow from the turn's events and the account after it, and nothing is decided by them. They are facts: no rule
//! refuses them, and a repeat of one changes nothing. How they become rows is each database's own; which they are is not.

use nexus_actors::ports::TurnRecord;
use nexus_engine::account::{Account, Decision, Event, Fill};
use nexus_engine::ids::{ClientOrderId, DecisionId, Leg, Timestamp};
use nexus_engine::limits::Limits;
use nexus_engine::order::Order;
use nexus_engine::position::Lot;
use nexus_engine::units::Price;

use super::rows::Unreadable;

/// What one turn touched, each thing once.
#[derive(Default)]
pub(super) struct Touched<'a> {
    /// Orders as they stand after the turn.
    pub(super) orders: Vec<&'a Order>,
    /// Positions as they stand after the turn.
    pub(super) positions: Vec<Position<'a>>,
    /// Trades, with their venue.
    pub(super) fills: Vec<(&'a str, &'a Fill)>,
    /// The limits, when they were set.
    pub(super) limits: Option<&'a Limits>,
}

/// A lot that was filled. One that never was is no position.
pub(super) struct Position<'a> {
    pub(super) lot: &'a Lot,
    pub(super) opened_at: Timestamp,
    pub(super) entry_price: Price,
}

impl<'a> Touched<'a> {
    /// `after` is the account after the turn of these events.
    pub(super) fn by(events: &'a [Event], after: &'a Account) -> Touched<'a> {
        let mut touched = Touched::default();
        let mut orders: Vec<ClientOrderId> = Vec::new();
        let mut lots: Vec<DecisionId> = Vec::new();
        for event in events {
            match event {
                Event::Filled(fill) => {
                    orders.push(fill.order);
                    // A fill is only ever an event of an order that is in a lot; the fallback keeps the fact even so.
                    let venue = order_of(after, fill.order).map_or("", |order| order.venue.as_str());
                    touched.fills.push((venue, fill));
                }
                Event::Acknowledged(order)
                | Event::Ended { order, .. }
                | Event::Doubted(order)
                | Event::ExitPlanned { order, .. }
                | Event::CancelRequested(order) => orders.push(*order),
                Event::StopMoved { decision, .. } | Event::Closed { decision, .. } => lots.push(*decision),
                Event::LimitsSet(limits) => touched.limits = Some(limits),
                // In `decisions`, in the snapshot, or in `events` alone.
                Event::Corrected(_)
                | Event::Decided(_)
                | Event::CooledDown { .. }
                | Event::Unexplained(_)
                | Event::TradingSet(_)
                | Event::QuarantineSet(_) => {}
            }
        }
        orders.sort_unstable();
        orders.dedup();
        lots.extend(orders.iter().map(|order| order.decision));
        lots.sort_unstable();
        lots.dedup();
        touched.orders = orders.iter().filter_map(|id| order_of(after, *id)).collect();
        touched.positions = lots.iter().filter_map(|id| position_of(after, *id)).collect();
        touched
    }
}

/// The decision that a turn carries, if any. Two in one turn could not be refused one by one.
pub(super) fn decision_of(record: &TurnRecord) -> Result<Option<&Decision>, Unreadable> {
    let mut decisions = record.turn.events.iter().filter_map(|event| match event {
        Event::Decided(decision) => Some(decision),
        _ => None,
    });
    let first = decisions.next();
    if decisions.next().is_some() || first.is_some_and(|decision| decision.user != record.user) {
        return Err(Unreadable(format!("a turn of {} decides twice, or for somebody else", record.user)));
    }
    Ok(first)
}

/// Whether a decision is one that its signal's record waits for.
pub(super) fn is_awaited(record: &TurnRecord, decision: &Decision) -> bool {
    record.signal.as_ref().is_none_or(|signal| signal.subscribers.binary_search(&decision.user).is_ok())
}

fn order_of(after: &Account, id: ClientOrderId) -> Option<&Order> {
    let lot = after.lots.get(&id.decision)?;
    match id.leg {
        Leg::Entry => Some(&lot.entry),
        Leg::Exit(_) => lot.exits.iter().find(|order| order.id == id),
    }
}

fn position_of(after: &Account, id: DecisionId) -> Option<Position<'_>> {
    let lot = after.lots.get(&id)?;
    Some(Position { lot, opened_at: lot.opened_at?, entry_price: lot.entry.average_price()? })
}
