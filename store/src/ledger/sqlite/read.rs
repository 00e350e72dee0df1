//! What is read from the ledger, as values.
//!
//! Each function runs inside one read transaction, so what it puts together is of one moment.

use nexus_actors::ports::{SignalRecord, TradingStateRecord, UnfinishedSignal};
use nexus_engine::account::{Account, Decision, LedgerRisk, Today};
use nexus_engine::gate::Scope;
use nexus_engine::ids::{Day, DecisionId, SignalId, UserId};
use nexus_engine::units::Money;
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::fault::Fault;
use super::rows::Columns;
use crate::ledger::rows::{
    self, Cells, DECISION_COLUMNS, DECISIONS_FROM, SIGNAL_COLUMNS, TRADING_STATE_COLUMNS, TRADING_STATES_FROM,
    Unreadable,
};

/// All rows of a query, each read by `read`.
pub(super) fn all<T>(
    moment: &Connection,
    sql: &str,
    keys: impl Params,
    mut read: impl FnMut(&mut dyn Cells) -> Result<T, Unreadable>,
) -> Result<Vec<T>, Fault> {
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query(keys)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(read(&mut Columns::of(row))?);
    }
    Ok(values)
}

/// The first row of a query, if any.
pub(super) fn first<T>(
    moment: &Connection,
    sql: &str,
    keys: impl Params,
    read: impl FnOnce(&mut dyn Cells) -> Result<T, Unreadable>,
) -> Result<Option<T>, Fault> {
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query(keys)?;
    Ok(rows.next()?.map(|row| read(&mut Columns::of(row))).transpose()?)
}

/// Ids of users, in the order of the query.
pub(super) fn ids(moment: &Connection, sql: &str, keys: impl Params) -> Result<Vec<UserId>, Fault> {
    all(moment, sql, keys, user_id)
}

/// The account of a user: its snapshot, corrected by the counters that the ledger admits by.
pub(super) fn account(moment: &Connection, user: UserId) -> Result<Option<Account>, Fault> {
    let sql = "SELECT snapshot, net_realized_e8, open_e8, reserved_e8 FROM accounts WHERE user_id = ?1";
    let found = first(moment, sql, params![user.to_string()], |columns| {
        Ok((columns.json::<Account>()?, [columns.money()?, columns.money()?, columns.money()?]))
    })?;
    let Some((snapshot, [realized, open, reserved])) = found else { return Ok(None) };
    let today = today(moment, user, snapshot.today.day)?;
    Ok(Some(snapshot.corrected(LedgerRisk { realized, open, reserved, today })))
}

fn today(moment: &Connection, user: UserId, day: Day) -> Result<Option<Today>, Fault> {
    let (user, day_text) = (user.to_string(), day.to_string());
    let keys = params![user, day_text];
    let net = moment
        .prepare_cached("SELECT realized_e8 FROM daily_risk WHERE user_id = ?1 AND day = ?2")?
        .query_row(keys, |row| row.get(0).map(Money::from_steps))
        .optional()?;
    let sql = "SELECT timeframe, used FROM daily_counts WHERE user_id = ?1 AND day = ?2";
    let counts = all(moment, sql, keys, |columns| Ok((columns.parse()?, columns.count()?)))?;
    if net.is_none() && counts.is_empty() {
        return Ok(None);
    }
    Ok(Some(Today { day, net: net.unwrap_or_default(), timeframes: counts.into_iter().collect() }))
}

/// A recorded signal.
pub(super) fn signal(moment: &Connection, id: SignalId) -> Result<Option<SignalRecord>, Fault> {
    let sql = format!("SELECT {SIGNAL_COLUMNS} FROM signals WHERE id = ?1");
    first(moment, &sql, params![id.to_string()], rows::signal)
}

/// Whose a decision is.
pub(super) fn owner_of(moment: &Connection, id: DecisionId) -> Result<Option<UserId>, Fault> {
    first(moment, "SELECT user_id FROM decisions WHERE id = ?1", params![id.to_string()], user_id)
}

/// The decisions on a signal, sorted by user.
pub(super) fn decisions_on(moment: &Connection, id: SignalId) -> Result<Vec<Decision>, Fault> {
    let sql = format!("SELECT {DECISION_COLUMNS} FROM {DECISIONS_FROM} WHERE d.signal_id = ?1 ORDER BY d.user_id");
    all(moment, &sql, params![id.to_string()], rows::decision)
}

/// Recorded signals with subscribers that have no decision.
pub(super) fn unfinished_signals(moment: &Connection) -> Result<Vec<UnfinishedSignal>, Fault> {
    let sql = format!("SELECT {SIGNAL_COLUMNS} FROM signals WHERE undecided > 0 ORDER BY seq");
    let records = all(moment, &sql, params![], rows::signal)?;
    let mut unfinished = Vec::new();
    for record in records {
        let sql = "SELECT user_id FROM decisions WHERE signal_id = ?1 ORDER BY user_id";
        let decided = ids(moment, sql, params![record.signal.id.to_string()])?;
        let open = |user: &UserId| decided.binary_search(user).is_err();
        let undecided: Vec<_> = record.subscribers.iter().copied().filter(open).collect();
        if !undecided.is_empty() {
            unfinished.push(UnfinishedSignal { record, undecided });
        }
    }
    Ok(unfinished)
}

/// The trading state of every scope that was ever set.
pub(super) fn trading_states(moment: &Connection) -> Result<Vec<TradingStateRecord>, Fault> {
    let sql = format!("SELECT {TRADING_STATE_COLUMNS} FROM {TRADING_STATES_FROM} ORDER BY kind, name");
    all(moment, &sql, params![], rows::trading_state)
}

/// The trading state of one scope, when it was ever set.
pub(super) fn trading_state(moment: &Connection, scope: &Scope) -> Result<Option<TradingStateRecord>, Fault> {
    let sql = format!("SELECT {TRADING_STATE_COLUMNS} FROM {TRADING_STATES_FROM} WHERE kind = ?1 AND name = ?2");
    first(moment, &sql, params![scope.kind(), scope.name()], rows::trading_state)
}

fn user_id(columns: &mut dyn Cells) -> Result<UserId, Unreadable> {
    columns.uuid().map(UserId)
}
