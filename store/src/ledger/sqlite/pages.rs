//! Pages of the record, by keyset: a cursor names the last row that was seen, so a page costs the same wherever it is, and
//! rows that arrive meanwhile shift nothing.
//!
//! Lists that stand newest first go by `seq`, the order in which rows were recorded.

use nexus_engine::ids::{SignalId, UserId};
use rusqlite::{Connection, Params, params};

use super::fault::Fault;
use super::read::all;
use super::rows::{
    Columns, DECISION_COLUMNS, DECISIONS_FROM, FILL_COLUMNS, ORDER_COLUMNS, POSITION_COLUMNS, decision, fill, order,
    position,
};
use crate::directory::{DecisionRow, FillRow, OrderRow, Page, PageRequest, PositionRow, TurnRow};

/// The largest page.
const LIMIT_MAX: u32 = 1_000;

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
    let Some(after) = id_cursor(page) else { return Ok(empty()) };
    let sql = format!(
        "SELECT {DECISION_COLUMNS}, s.key FROM {DECISIONS_FROM}
          WHERE d.signal_id = ?1 AND d.user_id > ?2 ORDER BY d.user_id LIMIT ?3"
    );
    let keys = params![signal.to_string(), after, rows_wanted(page)];
    cut(moment, &sql, keys, page, decision_row, |row| row.decision.user.to_string())
}

/// A user's turns, oldest first.
pub(super) fn turns(moment: &Connection, user: UserId, page: &PageRequest) -> Result<Page<TurnRow>, Fault> {
    let Some(after) = sequence_cursor(page, 0) else { return Ok(empty()) };
    let sql = "SELECT version, now_us, input, context, events FROM events
                WHERE user_id = ?1 AND version > ?2 ORDER BY version LIMIT ?3";
    let read = |columns: &mut Columns<'_>| {
        Ok(TurnRow {
            version: columns.version()?,
            now: columns.at()?,
            input: columns.json()?,
            context: columns.json()?,
            events: columns.json()?,
        })
    };
    cut(moment, sql, params![user.to_string(), after, rows_wanted(page)], page, read, |row| row.version.to_string())
}

/// A list that stands by its ids: `?1` is the id to start after, `?2` the limit.
pub(super) fn by_id<T>(
    moment: &Connection,
    sql: &str,
    page: &PageRequest,
    read: impl FnMut(&mut Columns<'_>) -> Result<T, Fault>,
    cursor: impl Fn(&T) -> String,
) -> Result<Page<T>, Fault> {
    let Some(after) = id_cursor(page) else { return Ok(empty()) };
    cut(moment, sql, params![after, rows_wanted(page)], page, read, cursor)
}

/// A user's list that stands newest first: the first column is the sequence number, `?2` the one to start below.
fn newest_first<T>(
    moment: &Connection,
    sql: &str,
    user: UserId,
    page: &PageRequest,
    mut read: impl FnMut(&mut Columns<'_>) -> Result<T, Fault>,
) -> Result<Page<T>, Fault> {
    let Some(below) = sequence_cursor(page, i64::MAX) else { return Ok(empty()) };
    let keys = params![user.to_string(), below, rows_wanted(page)];
    let read = |columns: &mut Columns<'_>| Ok((columns.take::<i64>()?, read(columns)?));
    let found = cut(moment, sql, keys, page, read, |(seq, _)| seq.to_string())?;
    Ok(Page { items: found.items.into_iter().map(|(_, item)| item).collect(), next: found.next })
}

/// One row more than the page holds was asked for: when it is there, there is more.
fn cut<T>(
    moment: &Connection,
    sql: &str,
    keys: impl Params,
    page: &PageRequest,
    read: impl FnMut(&mut Columns<'_>) -> Result<T, Fault>,
    cursor: impl Fn(&T) -> String,
) -> Result<Page<T>, Fault> {
    let mut items = all(moment, sql, keys, read)?;
    let size = usize::try_from(limit(page)).unwrap_or(usize::MAX);
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(cursor) } else { None };
    Ok(Page { items, next })
}

fn decision_row(columns: &mut Columns<'_>) -> Result<DecisionRow, Fault> {
    Ok(DecisionRow { decision: decision(columns)?, signal_key: columns.compact()? })
}

fn limit(page: &PageRequest) -> u32 {
    page.limit.clamp(1, LIMIT_MAX)
}

fn rows_wanted(page: &PageRequest) -> u32 {
    limit(page) + 1
}

/// The id that a cursor names, or the text below every id; none for a cursor that is not one of ours.
fn id_cursor(page: &PageRequest) -> Option<String> {
    match &page.after {
        None => Some(String::new()),
        Some(text) => text.parse::<UserId>().ok().map(|id| id.to_string()),
    }
}

/// The number that a cursor names, or where the list begins; none for a cursor that is not one of ours.
fn sequence_cursor(page: &PageRequest, start: i64) -> Option<i64> {
    page.after.as_ref().map_or(Some(start), |text| text.parse().ok())
}

fn empty<T>() -> Page<T> {
    Page { items: Vec::new(), next: None }
}
