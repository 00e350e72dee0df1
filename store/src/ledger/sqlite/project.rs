//! What a turn touched, as rows of SQLite.
//!
//! Which orders, fills, positions and limits those are is the same for every database (`ledger/touched.rs`); here is how this
//! one writes them, a statement each, inside the transaction of the batch.

use nexus_actors::ports::TurnRecord;
use nexus_engine::account::Fill;
use nexus_engine::ids::{Timestamp, UserId};
use nexus_engine::limits::Limits;
use nexus_engine::order::Order;
use nexus_engine::units::Price;
use rusqlite::{Transaction, params};

use super::fault::Fault;
use crate::ledger::rows::{to_column, to_json};
use crate::ledger::touched::{Position, Touched};

/// Writes the rows that the turn touched.
pub(super) fn project(transaction: &Transaction<'_>, record: &TurnRecord) -> Result<(), Fault> {
    let touched = Touched::by(&record.turn.events, &record.after);
    for (venue, fill) in touched.fills {
        insert_fill(transaction, record.user, venue, fill)?;
    }
    for order in touched.orders {
        upsert_order(transaction, record.user, order)?;
    }
    for position in touched.positions {
        upsert_position(transaction, record.user, &position)?;
    }
    if let Some(limits) = touched.limits {
        upsert_limits(transaction, record.user, limits)?;
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

fn insert_fill(transaction: &Transaction<'_>, user: UserId, venue: &str, fill: &Fill) -> Result<(), Fault> {
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
            user.to_string(),
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

fn upsert_position(transaction: &Transaction<'_>, user: UserId, position: &Position<'_>) -> Result<(), Fault> {
    let Position { lot, opened_at, entry_price } = position;
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
