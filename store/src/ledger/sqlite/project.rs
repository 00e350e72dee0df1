//! What a turn changed, as rows that people and pages read: orders, fills, positions, limits.
//!
//! They follow from the turn's events and the account after it, and nothing is decided by them. They are facts: no rule
//! refuses them, and a repeat of one changes nothing.

use nexus_actors::ports::TurnRecord;
use nexus_engine::account::{Event, Fill};
use nexus_engine::ids::{ClientOrderId, DecisionId, Leg, Timestamp, UserId};
use nexus_engine::limits::Limits;
use nexus_engine::order::Order;
use nexus_engine::position::Lot;
use nexus_engine::units::Price;
use rusqlite::{Transaction, params};

use super::fault::Fault;
use super::rows::{to_column, to_json};

/// Writes the rows that the turn touched.
pub(super) fn project(transaction: &Transaction<'_>, record: &TurnRecord) -> Result<(), Fault> {
    let mut orders: Vec<ClientOrderId> = Vec::new();
    let mut lots: Vec<DecisionId> = Vec::new();
    for event in &record.turn.events {
        match event {
            Event::Filled(fill) => {
                orders.push(fill.order);
                insert_fill(transaction, record, fill)?;
            }
            Event::Acknowledged(order)
            | Event::Ended { order, .. }
            | Event::Doubted(order)
            | Event::ExitPlanned { order, .. }
            | Event::CancelRequested(order) => orders.push(*order),
            Event::StopMoved { decision, .. } | Event::Closed { decision, .. } => lots.push(*decision),
            Event::LimitsSet(limits) => upsert_limits(transaction, record.user, limits)?,
            // In `decisions`, in the snapshot, or in `events` alone.
            Event::Decided(_)
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
    for order in orders.iter().filter_map(|id| find_order(record.after.lots.get(&id.decision)?, *id)) {
        upsert_order(transaction, record.user, order)?;
    }
    for lot in lots.iter().filter_map(|decision| record.after.lots.get(decision)) {
        upsert_position(transaction, record.user, lot)?;
    }
    Ok(())
}

/// The limits of a user: what the ledger admits by, and all of them as JSON.
pub(super) fn upsert_limits(transaction: &Transaction<'_>, user: UserId, limits: &Limits) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT INTO limits (user_id, version, max_daily_loss_e8, max_risk_percent_e8, limits) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET version = excluded.version, max_daily_loss_e8 = excluded.max_daily_loss_e8,
                    max_risk_percent_e8 = excluded.max_risk_percent_e8, limits = excluded.limits",
        )?
        .execute(params![
            user.to_string(),
            to_column(limits.version)?,
            limits.max_daily_loss.steps(),
            limits.max_risk_percent.steps(),
            to_json(limits)?,
        ])?;
    Ok(())
}

fn find_order(lot: &Lot, id: ClientOrderId) -> Option<&Order> {
    match id.leg {
        Leg::Entry => Some(&lot.entry),
        Leg::Exit(_) => lot.exits.iter().find(|order| order.id == id),
    }
}

fn insert_fill(transaction: &Transaction<'_>, record: &TurnRecord, fill: &Fill) -> Result<(), Fault> {
    // A fill is only ever an event of an order that is in a lot; the fallback keeps the fact even so.
    let lot = record.after.lots.get(&fill.order.decision);
    let venue = lot.and_then(|lot| find_order(lot, fill.order)).map_or("", |order| order.venue.as_str());
    transaction
        .prepare_cached(
            "INSERT INTO fills (venue, execution_id, client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us,
                                realized_e8)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (venue, execution_id) DO NOTHING",
        )?
        .execute(params![
            venue,
            fill.execution.as_str(),
            fill.order.to_string(),
            record.user.to_string(),
            fill.symbol.as_str(),
            fill.side.as_str(),
            fill.quantity.steps(),
            fill.price.steps(),
            fill.fee.steps(),
            fill.at.micros(),
            fill.realized.steps(),
        ])?;
    Ok(())
}

fn upsert_order(transaction: &Transaction<'_>, user: UserId, order: &Order) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT INTO orders (client_order_id, decision_id, user_id, purpose, symbol, side, kind, price_e8, quantity_e8,
                                 filled_e8, value_e8, fees_e8, status, unknown, cancel_requested, venue, created_at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (client_order_id) DO UPDATE SET quantity_e8 = excluded.quantity_e8, filled_e8 = excluded.filled_e8,
                    value_e8 = excluded.value_e8, fees_e8 = excluded.fees_e8, status = excluded.status,
                    unknown = excluded.unknown, cancel_requested = excluded.cancel_requested",
        )?
        .execute(params![
            order.id.to_string(),
            order.id.decision.to_string(),
            user.to_string(),
            order.purpose.as_str(),
            order.symbol.as_str(),
            order.side.as_str(),
            order.kind.as_str(),
            order.kind.price().map(Price::steps),
            order.quantity.steps(),
            order.filled.steps(),
            order.value.steps(),
            order.fees.steps(),
            order.status.as_str(),
            order.unknown,
            order.cancel_requested,
            order.venue.as_str(),
            order.created_at.micros(),
        ])?;
    Ok(())
}

/// A lot that was never filled is no position.
fn upsert_position(transaction: &Transaction<'_>, user: UserId, lot: &Lot) -> Result<(), Fault> {
    let (Some(opened_at), Some(entry_price)) = (lot.opened_at, lot.entry.average_price()) else { return Ok(()) };
    transaction
        .prepare_cached(
            "INSERT INTO positions (decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8,
                                    take_profit_e8, realized_e8, opened_at_us, closed_at_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (decision_id) DO UPDATE SET quantity_e8 = excluded.quantity_e8,
                    entry_price_e8 = excluded.entry_price_e8, stop_loss_e8 = excluded.stop_loss_e8,
                    take_profit_e8 = excluded.take_profit_e8, realized_e8 = excluded.realized_e8,
                    closed_at_us = excluded.closed_at_us",
        )?
        .execute(params![
            lot.decision.to_string(),
            user.to_string(),
            lot.symbol.as_str(),
            lot.side.as_str(),
            lot.open.steps(),
            entry_price.steps(),
            lot.protection.stop.steps(),
            lot.protection.target.steps(),
            lot.realized.steps(),
            opened_at.micros(),
            lot.closed_at.map(Timestamp::micros),
        ])?;
    Ok(())
}
