//! Rows as they must be when nobody has touched them, column by column, and the first column in which one differs.
//!
//! What is written by a commit is written here a second time, from the same turns: that both agree is what every replay
//! without a difference shows, on both databases.

use std::borrow::Cow;

use nexus_engine::account::{Acceptance, Account, Decision, Fill, Verdict};
use nexus_engine::ids::{Day, Timestamp};
use nexus_engine::limits::Limits;
use nexus_engine::order::Order;
use nexus_engine::replay::Counters;
use nexus_engine::signal::Signal;
use nexus_engine::units::{Money, Price};
use serde_json::Value as Json;

use super::tables::{
    ACCOUNTS, DAILY_COUNTS, DAILY_RISK, DECISIONS, DUPLICATE_WINDOW, Dialect, FILLS, Kind, LIMITS, ORDERS, POSITIONS,
    SIGNALS, Table, Value,
};
use super::{Difference, unreadable};
use crate::ledger::postgres::clean;
use crate::ledger::rows::{Unreadable, to_column, to_json};
use crate::ledger::touched::Position;

type Made<T> = Result<T, Unreadable>;

/// What the columns of a row must hold.
#[derive(Clone)]
pub(super) struct Image {
    pub(super) table: &'static Table,
    values: Vec<Value>,
}

impl Image {
    fn of(table: &'static Table, values: Vec<Value>) -> Image {
        debug_assert_eq!(values.len(), table.columns.len(), "{}", table.name);
        Image { table, values }
    }

    /// A row of `decisions`. What an acceptance says of the ledger is what the ledger must have found, too.
    pub(super) fn of_decision(decision: &Decision, limits: &Limits, count_before: i64) -> Made<Image> {
        let (accepted, reasons) = match &decision.verdict {
            Verdict::Accepted(acceptance) => (Some(acceptance), Value::Null),
            Verdict::Rejected(reasons) => (None, Value::Text(to_json(reasons)?)),
        };
        let text = |of: fn(&Acceptance) -> String| accepted.map_or(Value::Null, |it| Value::Text(of(it)));
        let int = |of: fn(&Acceptance) -> i64| accepted.map_or(Value::Null, |it| Value::Int(of(it)));
        let allowed = |it: &Acceptance| limits.timeframes.get(&it.timeframe).copied().unwrap_or(0).into();
        let risk_max = |it: &Acceptance| it.equity.or_zero().percent_down(limits.max_risk_percent).steps();
        let values = vec![
            Value::Text(decision.id.to_string()),
            Value::Text(decision.signal.to_string()),
            Value::Int(decision.at.micros()),
            Value::Text(if accepted.is_some() { "accepted" } else { "rejected" }.to_owned()),
            reasons,
            text(|it| it.order.to_string()),
            text(|it| it.symbol.to_string()),
            text(|it| it.side.as_str().to_owned()),
            text(|it| it.timeframe.to_string()),
            text(|it| it.kind.as_str().to_owned()),
            maybe(accepted.and_then(|it| it.kind.price()).map(Price::steps)),
            int(|it| it.quantity.steps()),
            int(|it| it.sized_at.steps()),
            int(|it| it.stop_loss.steps()),
            int(|it| it.take_profit.steps()),
            int(|it| it.risk.steps()),
            int(|it| it.used_before.steps()),
            int(|it| it.cap.steps()),
            maybe(accepted.map(risk_max)),
            maybe(accepted.map(|_| count_before)),
            maybe(accepted.map(allowed)),
            int(|it| it.equity.steps()),
            int(|it| it.expires_at.micros()),
            text(|it| it.venue.to_string()),
        ];
        Ok(Image::of(&DECISIONS, values))
    }

    /// A row of `signals`, as far as the signal itself goes.
    pub(super) fn of_signal(signal: &Signal) -> Made<Image> {
        let values = vec![
            Value::Text(signal.id.to_string()),
            Value::Text(signal.feed.to_string()),
            Value::Text(signal.key.to_string()),
            Value::Text(signal.symbol.to_string()),
            Value::Text(signal.side.as_str().to_owned()),
            Value::Text(signal.timeframe.to_string()),
            Value::Text(signal.kind.as_str().to_owned()),
            maybe(signal.entry_price.map(Price::steps)),
            Value::Int(signal.stop_loss.steps()),
            Value::Int(signal.take_profit.steps()),
            Value::Int(signal.issued_at.micros()),
            Value::Text(to_json(signal)?),
        ];
        Ok(Image::of(&SIGNALS, values))
    }

    /// A row of `fills`.
    pub(super) fn of_fill(venue: &str, fill: &Fill) -> Image {
        let values = vec![
            Value::Text(venue.to_owned()),
            Value::Text(fill.execution.to_string()),
            Value::Text(fill.order.to_string()),
            Value::Text(fill.symbol.to_string()),
            Value::Text(fill.side.as_str().to_owned()),
            Value::Int(fill.quantity.steps()),
            Value::Int(fill.price.steps()),
            Value::Int(fill.fee.steps()),
            Value::Int(fill.at.micros()),
            Value::Int(fill.realized.steps()),
        ];
        Image::of(&FILLS, values)
    }

    /// A row of `orders`.
    pub(super) fn of_order(order: &Order) -> Image {
        let values = vec![
            Value::Text(order.id.to_string()),
            Value::Text(order.id.decision.to_string()),
            Value::Text(order.purpose.as_str().to_owned()),
            Value::Text(order.symbol.to_string()),
            Value::Text(order.side.as_str().to_owned()),
            Value::Text(order.kind.as_str().to_owned()),
            maybe(order.kind.price().map(Price::steps)),
            Value::Int(order.quantity.steps()),
            Value::Int(order.filled.steps()),
            Value::Int(order.value.steps()),
            Value::Int(order.fees.steps()),
            Value::Text(order.status.as_str().to_owned()),
            Value::Int(order.unknown.into()),
            Value::Int(order.cancel_requested.into()),
            Value::Text(order.venue.to_string()),
            Value::Int(order.created_at.micros()),
        ];
        Image::of(&ORDERS, values)
    }

    /// A row of `positions`.
    pub(super) fn of_position(position: &Position<'_>) -> Image {
        let Position { lot, opened_at, entry_price } = position;
        let values = vec![
            Value::Text(lot.decision.to_string()),
            Value::Text(lot.symbol.to_string()),
            Value::Text(lot.side.as_str().to_owned()),
            Value::Int(lot.open.steps()),
            Value::Int(entry_price.steps()),
            Value::Int(lot.protection.stop.steps()),
            Value::Int(lot.protection.target.steps()),
            Value::Int(lot.realized.steps()),
            Value::Int(opened_at.micros()),
            maybe(lot.closed_at.map(Timestamp::micros)),
        ];
        Image::of(&POSITIONS, values)
    }

    /// The row of `accounts`.
    pub(super) fn of_account(account: &Account, counters: &Counters) -> Made<Image> {
        let values = vec![
            Value::Int(to_column(account.version)?),
            Value::Text(account.currency.to_string()),
            Value::Int(account.starting_equity.steps()),
            Value::Int(counters.realized.steps()),
            Value::Int(counters.open.steps()),
            Value::Int(counters.reserved.steps()),
            Value::Int(account.has_open_business().into()),
            Value::Text(account.today.day.to_string()),
            Value::Int(account.now.micros()),
            Value::Text(to_json(account)?),
        ];
        Ok(Image::of(&ACCOUNTS, values))
    }

    /// The row of `limits`.
    pub(super) fn of_limits(limits: &Limits) -> Made<Image> {
        let values = vec![
            Value::Int(to_column(limits.version)?),
            Value::Int(limits.max_daily_loss.steps()),
            Value::Int(limits.max_risk_percent.steps()),
            Value::Int(window_us(limits)),
            Value::Text(to_json(&limits.timeframes)?),
            Value::Text(to_json(limits)?),
        ];
        Ok(Image::of(&LIMITS, values))
    }

    /// A row of `daily_risk`.
    pub(super) fn of_day(day: Day, realized: Money) -> Image {
        Image::of(&DAILY_RISK, vec![Value::Text(day.to_string()), Value::Int(realized.steps())])
    }

    /// A row of `daily_counts`.
    pub(super) fn of_count(day: Day, timeframe: &str, used: i64) -> Image {
        let values = vec![Value::Text(day.to_string()), Value::Text(timeframe.to_owned()), Value::Int(used)];
        Image::of(&DAILY_COUNTS, values)
    }

    /// A row of `duplicate_window`.
    pub(super) fn of_window(alike: &[String; 3], last_accepted: Timestamp, window_us: i64) -> Image {
        let names = alike.iter().cloned().map(Value::Text);
        let values = names.chain([Value::Int(last_accepted.micros()), Value::Int(window_us)]);
        Image::of(&DUPLICATE_WINDOW, values.collect())
    }

    /// As this database holds texts.
    #[must_use]
    pub(super) fn spoken(mut self, dialect: Dialect) -> Image {
        if dialect == Dialect::Postgres {
            for value in &mut self.values {
                if let Value::Text(text) = value
                    && let Cow::Owned(cleaned) = clean(text)
                {
                    *value = Value::Text(cleaned);
                }
            }
        }
        self
    }

    /// Takes over what a later turn has written into the same row.
    pub(super) fn update(&mut self, newer: &Image) {
        for (at, column) in self.table.columns.iter().enumerate() {
            if column.moves {
                self.values[at].clone_from(&newer.values[at]);
            }
        }
    }

    /// What names the row.
    pub(super) fn key(&self) -> &[Value] {
        &self.values[..self.table.keys]
    }

    /// Whether a row is the one of this name.
    pub(super) fn is_named_as(&self, row: &[Value]) -> bool {
        row.starts_with(self.key())
    }

    /// Compares with the row that is there. `passes` is asked about a column that differs, before it is believed.
    pub(super) fn compare(
        &self,
        found: &[Value],
        dialect: Dialect,
        version: u64,
        mut passes: impl FnMut(&str, i64, i64) -> bool,
    ) -> Result<(), Difference> {
        for (at, column) in self.table.columns.iter().enumerate() {
            let (expected, found) = (&self.values[at], &found[at]);
            if !column.is_kept_by(dialect) || expected == found {
                continue;
            }
            let what = format!("{}: {}", title(self.table, self.key()), column.name);
            match (column.kind, expected, found) {
                (Kind::Json(canonical), Value::Text(expected), Value::Text(found)) => {
                    compare_json(&what, expected, found, canonical, version)?;
                }
                (Kind::Int, Value::Int(expected), Value::Int(found)) if passes(column.name, *expected, *found) => {}
                _ => return Err(Difference { version, what, expected: in_words(expected), found: in_words(found) }),
            }
        }
        Ok(())
    }

    /// The row is not there.
    pub(super) fn missing(&self, version: u64) -> Difference {
        missing(version, &title(self.table, self.key()))
    }
}

/// A number of a row.
pub(super) fn int_of(table: &Table, row: &[Value], column: &str) -> Option<i64> {
    match row.get(table.columns.iter().position(|known| known.name == column)?) {
        Some(Value::Int(number)) => Some(*number),
        Some(Value::Null | Value::Text(_)) | None => None,
    }
}

/// A text of a row.
pub(super) fn text_of<'r>(table: &Table, row: &'r [Value], column: &str) -> Option<&'r str> {
    match row.get(table.columns.iter().position(|known| known.name == column)?) {
        Some(Value::Text(text)) => Some(text),
        Some(Value::Null | Value::Int(_)) | None => None,
    }
}

/// The table and what names the row.
pub(super) fn title(table: &Table, row: &[Value]) -> String {
    row.iter().take(table.keys).fold(table.name.to_owned(), |title, key| format!("{title} {}", in_words(key)))
}

pub(super) fn missing(version: u64, what: &str) -> Difference {
    Difference { version, what: what.to_owned(), expected: "there".to_owned(), found: "absent".to_owned() }
}

/// A row that nothing in the history has made.
pub(super) fn stray(version: u64, what: String) -> Difference {
    Difference { version, what, expected: "absent".to_owned(), found: "there".to_owned() }
}

/// Compares two texts by what they say; the first place in which they differ is named.
pub(super) fn compare_json(
    what: &str,
    expected: &str,
    found: &str,
    canonical: fn(&str) -> Result<Json, Unreadable>,
    version: u64,
) -> Result<(), Difference> {
    if expected == found {
        return Ok(());
    }
    let found = canonical(found).map_err(|error| unreadable(version, what, &error))?;
    let expected = canonical(expected).map_err(|error| unreadable(version, what, &error))?;
    match first_difference(what.to_owned(), &expected, &found) {
        None => Ok(()),
        Some((what, expected, found)) => Err(Difference { version, what, expected, found }),
    }
}

/// The path to the first place in which two values differ, and both.
fn first_difference(path: String, expected: &Json, found: &Json) -> Option<(String, String, String)> {
    match (expected, found) {
        (Json::Object(ours), Json::Object(theirs)) => {
            let names = ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name)));
            let absent = Json::Null;
            names.into_iter().find_map(|name| {
                let value = |of: &'_ serde_json::Map<String, Json>| of.get(name).unwrap_or(&absent).clone();
                first_difference(format!("{path}.{name}"), &value(ours), &value(theirs))
            })
        }
        (Json::Array(ours), Json::Array(theirs)) => (0..ours.len().max(theirs.len())).find_map(|at| {
            let value = |of: &[Json]| of.get(at).cloned().unwrap_or(Json::Null);
            first_difference(format!("{path}[{at}]"), &value(ours), &value(theirs))
        }),
        _ if expected == found => None,
        _ => Some((path, json_in_words(expected), json_in_words(found))),
    }
}

fn json_in_words(value: &Json) -> String {
    match value {
        Json::Null => "absent".to_owned(),
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => value.to_string(),
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Text(text) => text.clone(),
    }
}

fn maybe(number: Option<i64>) -> Value {
    number.map_or(Value::Null, Value::Int)
}

/// How long an acceptance keeps its like away.
pub(super) fn window_us(limits: &Limits) -> i64 {
    i64::try_from(limits.duplicate_window.as_micros()).unwrap_or(i64::MAX)
}
