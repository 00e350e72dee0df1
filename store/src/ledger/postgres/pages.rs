//! Pages of the record on PostgreSQL.
//!
//! Every list is asked for by an index that begins with what it is a list of, from the row after the cursor on, so a page costs
//! the same wherever it stands. What a page and a cursor are is the same for every database (`ledger/paging.rs`).

use nexus_engine::ids::{SignalId, UserId};
use sqlx::{AssertSqlSafe, query};
use uuid::Uuid;

use super::PostgresStore;
use super::fault::Fault;
use crate::directory::{DecisionRow, FillRow, OrderRow, Page, PageRequest, PositionRow, TurnRow};
use crate::ledger::paging::{cut, cut_by_sequence, empty, id_cursor, rows_wanted, sequence_cursor};
use crate::ledger::rows::{
    Cells, DECISION_COLUMNS, DECISIONS_FROM, FILL_COLUMNS, ORDER_COLUMNS, POSITION_COLUMNS, TURN_COLUMNS, Unreadable,
    decision, fill, order, position, turn,
};

type Found<T> = Result<Page<T>, Fault>;

/// A user's decisions, newest first.
pub(super) async fn decisions(store: &PostgresStore, user: UserId, page: PageRequest) -> Found<DecisionRow> {
    let sql = format!(
        "SELECT d.seq, {DECISION_COLUMNS}, s.key FROM {DECISIONS_FROM}
          WHERE d.user_id = $1 AND d.seq < $2 ORDER BY d.seq DESC LIMIT $3"
    );
    newest_first(store, sql, user, page, decision_row).await
}

/// A user's orders, newest first.
pub(super) async fn orders(store: &PostgresStore, user: UserId, page: PageRequest) -> Found<OrderRow> {
    let sql =
        format!("SELECT seq, {ORDER_COLUMNS} FROM orders WHERE user_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3");
    newest_first(store, sql, user, page, |cells| Ok(OrderRow { order: order(cells)?, user })).await
}

/// A user's positions, newest first.
pub(super) async fn positions(
    store: &PostgresStore,
    user: UserId,
    only_open: bool,
    page: PageRequest,
) -> Found<PositionRow> {
    let open = if only_open { "AND quantity_e8 > 0" } else { "" };
    let sql = format!(
        "SELECT seq, {POSITION_COLUMNS} FROM positions WHERE user_id = $1 AND seq < $2 {open} ORDER BY seq DESC LIMIT $3"
    );
    newest_first(store, sql, user, page, position).await
}

/// A user's fills, newest first.
pub(super) async fn fills(store: &PostgresStore, user: UserId, page: PageRequest) -> Found<FillRow> {
    let sql =
        format!("SELECT seq, {FILL_COLUMNS} FROM fills WHERE user_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3");
    newest_first(store, sql, user, page, |cells| Ok(FillRow { fill: fill(cells)?, user })).await
}

/// The decisions on a signal, by user.
pub(super) async fn signal_decisions(store: &PostgresStore, signal: SignalId, page: PageRequest) -> Found<DecisionRow> {
    let Some(after) = after(&page) else { return Ok(empty()) };
    let sql = format!(
        "SELECT {DECISION_COLUMNS}, s.key FROM {DECISIONS_FROM}
          WHERE d.signal_id = $1 AND d.user_id > $2 ORDER BY d.user_id LIMIT $3"
    );
    let statement = query(AssertSqlSafe(sql)).bind(signal.0).bind(after).bind(wanted(&page));
    Ok(cut(store.all(statement, decision_row).await?, &page, |row| row.decision.user.to_string()))
}

/// A user's turns, oldest first.
pub(super) async fn turns(store: &PostgresStore, user: UserId, page: PageRequest) -> Found<TurnRow> {
    let Some(after) = sequence_cursor(&page, 0) else { return Ok(empty()) };
    let sql =
        format!("SELECT {TURN_COLUMNS} FROM events WHERE user_id = $1 AND version > $2 ORDER BY version LIMIT $3");
    let statement = query(AssertSqlSafe(sql)).bind(user.0).bind(after).bind(wanted(&page));
    Ok(cut(store.all(statement, turn).await?, &page, |row| row.version.to_string()))
}

/// A list that stands by its ids: `$1` is the id to start after, `$2` the limit.
pub(super) async fn by_id<T>(
    store: &PostgresStore,
    sql: String,
    page: PageRequest,
    read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
    cursor: impl Fn(&T) -> String,
) -> Found<T> {
    let Some(after) = after(&page) else { return Ok(empty()) };
    let statement = query(AssertSqlSafe(sql)).bind(after).bind(wanted(&page));
    Ok(cut(store.all(statement, read).await?, &page, cursor))
}

/// A user's list that stands newest first: the first column is the sequence number, `$2` the one to start below.
async fn newest_first<T>(
    store: &PostgresStore,
    sql: String,
    user: UserId,
    page: PageRequest,
    mut read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
) -> Found<T> {
    let Some(below) = sequence_cursor(&page, i64::MAX) else { return Ok(empty()) };
    let statement = query(AssertSqlSafe(sql)).bind(user.0).bind(below).bind(wanted(&page));
    let rows = store.all(statement, |cells| Ok((cells.int()?, read(cells)?))).await?;
    Ok(cut_by_sequence(rows, &page))
}

fn decision_row(cells: &mut dyn Cells) -> Result<DecisionRow, Unreadable> {
    Ok(DecisionRow { decision: decision(cells)?, signal_key: cells.compact()? })
}

/// The id that a list goes on after; no user and no feed has the id of nobody, which is below all.
fn after(page: &PageRequest) -> Option<Uuid> {
    id_cursor(page).map(|after| after.map_or(Uuid::nil(), |id| id.0))
}

fn wanted(page: &PageRequest) -> i64 {
    rows_wanted(page).into()
}
