//! The tables whose rows follow from turns, and how a row is asked for in either database.
//!
//! A row comes as plain values, numbers and texts, whatever the database: each column says how it becomes one. A column
//! that only one database keeps comes as nothing from the other, and is not compared there.

use std::collections::BTreeMap;

use nexus_engine::account::{Account, Event};
use nexus_engine::ids::Timeframe;
use nexus_engine::limits::Limits;
use nexus_engine::rules::Refusal;
use nexus_engine::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::ledger::rows::{Unreadable, from_json};

/// A column's value, whatever the database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::ledger) enum Value {
    Null,
    Int(i64),
    Text(String),
}

/// Which database's words are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ledger) enum Dialect {
    Sqlite,
    Postgres,
}

/// How a column's value is taken, and compared.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Int,
    Flag,
    Text,
    Day,
    /// Compared as what it says, in the form that is returned: how it is spelled may change with the program.
    Json(fn(&str) -> Result<Json, Unreadable>),
}

#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    only: Option<Dialect>,
    /// Rewritten by later turns; the others stay as they were first written.
    pub(super) moves: bool,
}

impl Column {
    const fn new(name: &'static str, kind: Kind) -> Column {
        Column { name, kind, only: None, moves: false }
    }

    const fn only(self, dialect: Dialect) -> Column {
        Column { only: Some(dialect), ..self }
    }

    const fn moving(self) -> Column {
        Column { moves: true, ..self }
    }

    pub(super) fn is_kept_by(&self, dialect: Dialect) -> bool {
        self.only.is_none_or(|only| only == dialect)
    }

    /// As a number or a text.
    fn select(&self, table: &str, dialect: Dialect) -> String {
        let name = format!("{table}.{}", self.name);
        match (dialect, self.kind) {
            _ if !self.is_kept_by(dialect) => "NULL".to_owned(),
            (Dialect::Sqlite, _) => name,
            (Dialect::Postgres, Kind::Int) => format!("{name}::bigint"),
            (Dialect::Postgres, Kind::Flag) => format!("{name}::integer::bigint"),
            (Dialect::Postgres, Kind::Text | Kind::Json(_)) => format!("{name}::text"),
            (Dialect::Postgres, Kind::Day) => format!("to_char({name}, 'YYYY-MM-DD')"),
        }
    }

    /// Equal to a text that is handed over.
    pub(super) fn is_parameter(&self, n: usize, dialect: Dialect) -> String {
        match dialect {
            Dialect::Sqlite => format!("{} = ?{n}", self.name),
            Dialect::Postgres => format!("{}::text = ${n}", self.name),
        }
    }
}

/// A table, its columns that follow from turns, and how many of them name a row among its user's.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) keys: usize,
    pub(super) columns: &'static [Column],
}

impl Table {
    pub(super) fn select(&self, dialect: Dialect) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| column.select(self.name, dialect)).collect();
        columns.join(", ")
    }
}

/// What stands for the user in a condition; it is always the first parameter.
pub(super) fn is_user(table: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => format!("{table}.user_id = ?1"),
        Dialect::Postgres => format!("{table}.user_id = $1::uuid"),
    }
}

/// JSON in the form in which this program would write it.
fn canonical<T: DeserializeOwned + Serialize>(text: &str) -> Result<Json, Unreadable> {
    Ok(serde_json::to_value(from_json::<T>(text)?)?)
}

pub(super) fn canonical_account(text: &str) -> Result<Json, Unreadable> {
    canonical::<Account>(text)
}

pub(super) fn canonical_events(text: &str) -> Result<Json, Unreadable> {
    canonical::<Vec<Event>>(text)
}

const fn int(name: &'static str) -> Column {
    Column::new(name, Kind::Int)
}

const fn flag(name: &'static str) -> Column {
    Column::new(name, Kind::Flag)
}

const fn text(name: &'static str) -> Column {
    Column::new(name, Kind::Text)
}

const fn day(name: &'static str) -> Column {
    Column::new(name, Kind::Day)
}

pub(super) static DECISIONS: Table = Table {
    name: "decisions",
    keys: 1,
    columns: &[
        text("id"),
        text("signal_id"),
        int("at_us"),
        text("verdict"),
        Column::new("reasons", Kind::Json(canonical::<Vec<Refusal>>)),
        text("client_order_id").only(Dialect::Sqlite),
        text("symbol"),
        text("side"),
        text("timeframe"),
        text("kind"),
        int("price_e8"),
        int("quantity_e8"),
        int("sized_at_e8"),
        int("stop_loss_e8"),
        int("take_profit_e8"),
        int("risk_e8"),
        int("used_before_e8"),
        int("cap_e8"),
        int("risk_max_e8"),
        int("count_before").only(Dialect::Postgres),
        int("count_limit").only(Dialect::Postgres),
        int("equity_e8"),
        int("expires_at_us"),
        text("venue"),
    ],
};

/// Read with the decision on it.
pub(super) static SIGNALS: Table = Table {
    name: "signals",
    keys: 1,
    columns: &[
        text("id"),
        text("feed_id"),
        text("key"),
        text("symbol"),
        text("side"),
        text("timeframe"),
        text("kind"),
        int("entry_price_e8"),
        int("stop_loss_e8"),
        int("take_profit_e8"),
        int("issued_at_us"),
        Column::new("signal", Kind::Json(canonical::<Signal>)),
    ],
};

pub(super) static FILLS: Table = Table {
    name: "fills",
    keys: 2,
    columns: &[
        text("venue"),
        text("execution_id"),
        text("client_order_id"),
        text("symbol"),
        text("side"),
        int("quantity_e8"),
        int("price_e8"),
        int("fee_e8"),
        int("at_us"),
        int("realized_e8"),
    ],
};

pub(super) static ORDERS: Table = Table {
    name: "orders",
    keys: 1,
    columns: &[
        text("client_order_id"),
        text("decision_id"),
        text("purpose"),
        text("symbol"),
        text("side"),
        text("kind"),
        int("price_e8"),
        int("quantity_e8").moving(),
        int("filled_e8").moving(),
        int("value_e8").moving(),
        int("fees_e8").moving(),
        text("status").moving(),
        flag("unknown").moving(),
        flag("cancel_requested").moving(),
        text("venue"),
        int("created_at_us"),
    ],
};

pub(super) static POSITIONS: Table = Table {
    name: "positions",
    keys: 1,
    columns: &[
        text("decision_id"),
        text("symbol"),
        text("side"),
        int("quantity_e8").moving(),
        int("entry_price_e8").moving(),
        int("stop_loss_e8").moving(),
        int("take_profit_e8").moving(),
        int("realized_e8").moving(),
        int("opened_at_us"),
        int("closed_at_us").moving(),
    ],
};

pub(super) static ACCOUNTS: Table = Table {
    name: "accounts",
    keys: 0,
    columns: &[
        int("version"),
        text("currency"),
        int("starting_equity_e8"),
        int("net_realized_e8"),
        int("open_e8"),
        int("reserved_e8"),
        flag("open_business"),
        day("day").only(Dialect::Postgres),
        int("now_us"),
        Column::new("snapshot", Kind::Json(canonical_account)).only(Dialect::Sqlite),
    ],
};

pub(super) static LIMITS: Table = Table {
    name: "limits",
    keys: 0,
    columns: &[
        int("version"),
        int("max_daily_loss_e8"),
        int("max_risk_percent_e8"),
        int("duplicate_window_us").only(Dialect::Postgres),
        Column::new("timeframes", Kind::Json(canonical::<BTreeMap<Timeframe, u32>>)).only(Dialect::Postgres),
        Column::new("limits", Kind::Json(canonical::<Limits>)),
    ],
};

pub(super) static DAILY_RISK: Table = Table { name: "daily_risk", keys: 1, columns: &[day("day"), int("realized_e8")] };

pub(super) static DAILY_COUNTS: Table =
    Table { name: "daily_counts", keys: 2, columns: &[day("day"), text("timeframe"), int("used")] };

pub(super) static DUPLICATE_WINDOW: Table = Table {
    name: "duplicate_window",
    keys: 3,
    columns: &[
        text("symbol"),
        text("side"),
        text("timeframe"),
        int("last_accepted_us"),
        int("window_us").only(Dialect::Postgres),
    ],
};

/// Every table with rows of users.
pub(super) const TABLES_OF_USERS: &[&str] = &[
    "accounts",
    "opened_accounts",
    "limits",
    "events",
    "decisions",
    "orders",
    "fills",
    "positions",
    "daily_risk",
    "daily_counts",
    "duplicate_window",
];
