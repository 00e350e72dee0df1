//! Pages of the record on SQLite.
//!
//! Every list is asked for by an index that begins with what it is a list of, from the row after the cursor on, so a page costs
//! the same wherever it stands. What a page and a cursor are is the same for every database (`ledger/paging.rs`).

use nexus_engine::ids::{SignalId, UserId};
use rusqlite::{Connection, params};

use super::fault::Fault;
use super::read::all;
use crate::directory::{DecisionRow, FillRow, OrderRow, Page, PageRequest, PositionRow, TurnRow};
use crate::ledger::paging::{cut, cut_by_sequence, empty, id_cursor, rows_wanted, sequence_cursor};
use crate::ledger::rows::{
    Cells, DECISION_COLUMNS, DECISIONS_FROM, FILL_COLUMNS, ORDER_COLUMNS, POSITION_COLUMNS, TURN_COLUMNS, Unreadable,
    decision, fill, order, position, turn,
};

/// A user's decisions, newest first.
pub(super) fn decisions(moment: &Connection, user: UserId, page: &PageRequest) -> Result<Page<DecisionRow>, Fault> {
    let sql = format!(
        "SELECT d.seq, {DECISION_COLUMNS}, s.key FROM {DECISIONS_FROM}
          WHERE d.user_id = ?1 AND d.seq < ?2 ORDER BY d.seq DESC LIMIT ?3"
    );
    newest_first(moment, &sql, user, page, decision_row)
}

/// A user's orders, newest first.
pub(super) fn orders(moment: &Connection, user: UserId, page: &PageRequest) -> Result<Page<OrderRow>, Fault> {
    let sql =
        format!("SELECT seq, {ORDER_COLUMNS} FROM orders WHERE user_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
    newest_first(moment, &sql, user, page, |columns| Ok(OrderRow { order: order(columns)?, user }))
}

/// A user's positions, newest first.
pub(super) fn positions(
    moment: &Connection,
    user: UserId,
    only_open: bool,
    page: &PageRequest,
) -> Result<Page<PositionRow>, Fault> {
    let open = if only_open { "AND quantity_e8 > 0" } else { "" };
    let sql = format!(
        "SELECT seq, {POSITION_COLUMNS} FROM positions WHERE user_id = ?1 AND seq < ?2 {open} ORDER BY seq DESC LIMIT ?3"
    );
    newest_first(moment, &sql, user, page, position)
}

/// A user's fills, newest first.
pub(super) fn fills(moment: &Connection, user: UserId, page: &PageRequest) -> Result<Page<FillRow>, Fault> {
    let sql =
        format!("SELECT seq, {FILL_COLUMNS} FROM fills WHERE user_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
    newest_first(moment, &sql, user, page, |columns| Ok(FillRow { fill: fill(columns)?, user }))
}

/// The decisions on a signal, by user.
pub(super) fn signal_decisions(
    moment: &Connection,
    signal: SignalId,
    page: &PageRequest,
) -> Result<Page<DecisionRow>, Fault> {
    let Some(after) = text_cursor(page) else { return Ok(empty()) };
    let sql = format!(
        "SELECT {DECISION_COLUMNS}, s.key FROM {DECISIONS_FROM}
          WHERE d.signal_id = ?1 AND d.user_id > ?2 ORDER BY d.user_id LIMIT ?3"
    );
    let rows = all(moment, &sql, params![signal.to_string(), after, rows_wanted(page)], decision_row)?;
    Ok(cut(rows, page, |row| row.decision.user.to_string()))
}

/// A user's turns, oldest first.
pub(super) fn turns(moment: &Connection, user: UserId, page: &PageRequest) -> Result<Page<TurnRow>, Fault> {
    let Some(after) = sequence_cursor(page, 0) else { return Ok(empty()) };
    let sql =
        format!("SELECT {TURN_COLUMNS} FROM events WHERE user_id = ?1 AND version > ?2 ORDER BY version LIMIT ?3");
    let rows = all(moment, &sql, params![user.to_string(), after, rows_wanted(page)], turn)?;
    Ok(cut(rows, page, |row| row.version.to_string()))
}

/// A list that stands by its ids: `?1` is the id to start after, `?2` the limit.
pub(super) fn by_id<T>(
    moment: &Connection,
    sql: &str,
    page: &PageRequest,
    read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
    cursor: impl Fn(&T) -> String,
) -> Result<Page<T>, Fault> {
    let Some(after) = text_cursor(page) else { return Ok(empty()) };
    Ok(cut(all(moment, sql, params![after, rows_wanted(page)], read)?, page, cursor))
}

/// A user's list that stands newest first: the first column is the sequence number, `?2` the one to start below.
fn newest_first<T>(
    moment: &Connection,
    sql: &str,
    user: UserId,
    page: &PageRequest,
    mut read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
) -> Result<Page<T>, Fault> {
    let Some(below) = sequence_cursor(page, i64::MAX) else { return Ok(empty()) };
    let keys = params![user.to_string(), below, rows_wanted(page)];
    let rows = all(moment, sql, keys, |columns| Ok((columns.int()?, read(columns)?)))?;
    Ok(cut_by_sequence(rows, page))
}

fn decision_row(columns: &mut dyn Cells) -> Result<DecisionRow, Unreadable> {
    Ok(DecisionRow { decision: decision(columns)?, signal_key: columns.compact()? })
}

/// The id that a cursor names, as SQLite holds it, or the text below every id.
fn text_cursor(page: &PageRequest) -> Option<String> {
    id_cursor(page).map(|after| after.map_or_else(String::new, |id| id.to_string()))
}
