//! A user's history taken again, and compared with what the ledger holds (promise P7).
//!
//! Each stored turn is stepped with its own time, input and context and committed, by the very code that commits, into an
//! empty ledger in a temporary file. Then every row of the user must be the same in both: verdicts, orders, fills,
//! positions, counters and the snapshot. What was altered, removed or added by hand in any of them is found, because it
//! does not follow. The ledger is only read, in one read transaction a user, so an engine may be running on it.

use std::path::Path;
use std::sync::Arc;

use nexus_actors::ports::{CommitVerdict, SignalRecord, TurnRecord};
use nexus_engine::account::{Account, Context, Event, Input};
use nexus_engine::ids::{Timestamp, UserId};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use thiserror::Error;

use super::commit::commit;
use super::connection::{keep_statements, open_reader};
use super::directory::insert_account;
use super::fault::Fault;
use super::{OpenError, SqliteOptions, migrate};
use crate::ledger::rows::{Unreadable, from_json, to_json};

/// The tables whose rows follow from a user's turns, with the columns that name a row among the user's.
const TABLES: &[(&str, &[&str])] = &[
    ("decisions", &["id"]),
    ("fills", &["venue", "execution_id"]),
    ("orders", &["client_order_id"]),
    ("positions", &["decision_id"]),
    ("daily_risk", &["day"]),
    ("daily_counts", &["day", "timeframe"]),
    ("duplicate_window", &["symbol", "side", "timeframe"]),
    ("limits", &[]),
    ("accounts", &[]),
];

/// Why a history could not be taken again.
#[derive(Debug, Error)]
#[error("the ledger cannot be read: {0}")]
pub struct ReplayError(String);

impl From<Fault> for ReplayError {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl From<Unreadable> for ReplayError {
    fn from(Unreadable(words): Unreadable) -> Self {
        Self(words)
    }
}

impl From<rusqlite::Error> for ReplayError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// The first place where the ledger does not hold what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The version of the account at which it was found: of its turn, or of the last one.
    pub version: u64,
    /// The row and its column.
    pub what: String,
    /// As it is when decided again.
    pub expected: String,
    /// As the ledger holds it.
    pub found: String,
}

/// What became of one user's history.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserReplay {
    /// Turns taken again.
    pub turns: u64,
    /// Decisions among them.
    pub decisions: u64,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// A ledger, opened to be taken again.
pub struct SqliteReplay {
    source: Connection,
}

impl SqliteReplay {
    /// Opens a ledger without writing a byte to it. It must have the schema of this program.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let source = open_reader(path, &SqliteOptions::default())?;
        migrate::check(&source)?;
        Ok(Self { source })
    }

    /// Everybody who has an account, by id.
    pub fn users(&self) -> Result<Vec<(UserId, String)>, ReplayError> {
        let mut statement = self.source.prepare("SELECT id, username FROM users ORDER BY id")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        rows.map(|row| {
            let (id, name) = row?;
            Ok((id.parse().map_err(|error| ReplayError(format!("user {id}: {error}")))?, name))
        })
        .collect()
    }

    /// Takes a user's history again. `taken` hears of every turn.
    pub fn user(&mut self, user: UserId, mut taken: impl FnMut()) -> Result<UserReplay, ReplayError> {
        let moment = self.source.transaction()?;
        let mut scratch = scratch()?;
        let mut replay = UserReplay::default();
        replay.difference = match take_turns(&moment, &mut scratch, user, &mut replay, &mut taken)? {
            None => first_difference_of_rows(&moment, &scratch, user, replay.turns)?,
            found => found,
        };
        Ok(replay)
    }
}

/// An empty ledger that is gone with its connection, and knows nobody: it holds one user's rows and what they refer to.
fn scratch() -> Result<Connection, ReplayError> {
    let mut scratch = Connection::open("")?;
    scratch.pragma_update(None, "synchronous", "OFF")?;
    scratch.pragma_update(None, "foreign_keys", false)?;
    migrate::migrate(&mut scratch).map_err(|error| ReplayError(error.to_string()))?;
    keep_statements(&scratch)?;
    Ok(scratch)
}

/// Takes every turn; stops at the first that does not follow.
fn take_turns(
    moment: &Transaction<'_>,
    scratch: &mut Connection,
    user: UserId,
    replay: &mut UserReplay,
    taken: &mut dyn FnMut(),
) -> Result<Option<Difference>, ReplayError> {
    let key = user.to_string();
    let opened: Option<String> = moment
        .query_row("SELECT account FROM opened_accounts WHERE user_id = ?1", [&key], |row| row.get(0))
        .optional()?;
    let mut account: Account = match opened.as_deref().map(from_json) {
        Some(Ok(account)) => account,
        Some(Err(error)) => return Ok(Some(unreadable(0, "opened_accounts: account", &error))),
        None => return Ok(Some(missing(0, "opened_accounts"))),
    };
    let transaction = scratch.transaction()?;
    insert_account(&transaction, &account)?;
    transaction.commit()?;
    let mut statement = moment
        .prepare("SELECT version, now_us, input, context, events FROM events WHERE user_id = ?1 ORDER BY version")?;
    let mut rows = statement.query([&key])?;
    while let Some(row) = rows.next()? {
        let stored = Stored {
            version: row.get::<_, i64>(0)?.unsigned_abs(),
            now: Timestamp::from_micros(row.get(1)?),
            input: row.get(2)?,
            context: row.get(3)?,
            events: row.get(4)?,
        };
        let decided = match take(moment, scratch, &mut account, &stored)? {
            Ok(decided) => decided,
            Err(difference) => return Ok(Some(difference)),
        };
        replay.turns += 1;
        replay.decisions += u64::from(decided);
        taken();
    }
    Ok(None)
}

/// A turn as the ledger holds it, its columns still text.
struct Stored {
    version: u64,
    now: Timestamp,
    input: String,
    context: String,
    events: String,
}

/// Takes one turn and commits it to the scratch ledger. Returns whether it was a decision.
fn take(
    moment: &Transaction<'_>,
    scratch: &mut Connection,
    account: &mut Account,
    stored: &Stored,
) -> Result<Result<bool, Difference>, ReplayError> {
    let Stored { version, now, .. } = *stored;
    let base_version = account.version;
    if version != base_version + 1 {
        return Ok(Err(missing(base_version + 1, &format!("events {}", base_version + 1))));
    }
    let input: Input = match from_json(&stored.input) {
        Ok(input) => input,
        Err(error) => return Ok(Err(unreadable(version, &format!("events {version}: input"), &error))),
    };
    let context: Context = match from_json(&stored.context) {
        Ok(context) => context,
        Err(error) => return Ok(Err(unreadable(version, &format!("events {version}: context"), &error))),
    };
    let turn = account.step(now, &input, &context);
    let events = to_json(&turn.events)?;
    if events != stored.events {
        let (what, found) = (format!("events {version}: events"), stored.events.clone());
        return Ok(Err(Difference { version, what, expected: events, found }));
    }
    let signal = match &input {
        Input::Signal(signal) | Input::Vetoed(signal) => Some(signal),
        _ => None,
    };
    if let Some(signal) = signal {
        let id = signal.id.to_string();
        let recorded: Option<String> =
            moment.query_row("SELECT signal FROM signals WHERE id = ?1", [&id], |row| row.get(0)).optional()?;
        let expected = to_json(&**signal)?;
        if recorded.as_ref() != Some(&expected) {
            let (what, found) = (format!("signals {id}: signal"), recorded.unwrap_or_else(|| "absent".to_owned()));
            return Ok(Err(Difference { version, what, expected, found }));
        }
    }
    let decided = turn.events.iter().any(|event| matches!(event, Event::Decided(_)));
    let record = TurnRecord {
        user: account.user,
        base_version,
        now,
        context,
        turn,
        after: Arc::new(account.clone()),
        signal: signal.map(|signal| Arc::new(for_nobody(signal, now))),
        input,
    };
    Ok(match &commit(scratch, &[record], None)?[..] {
        [CommitVerdict::Committed] => Ok(decided),
        refused => Err(Difference {
            version,
            what: format!("events {version}"),
            expected: format!("{refused:?}"),
            found: "committed".to_owned(),
        }),
    })
}

/// A signal as the scratch ledger needs it: whom it was for is not what is compared.
fn for_nobody(signal: &Arc<nexus_engine::signal::Signal>, now: Timestamp) -> SignalRecord {
    SignalRecord { signal: Arc::clone(signal), received_at: now, subscribers: [].into(), mark: None }
}

/// Compares every row of the user in both ledgers, table by table.
fn first_difference_of_rows(
    moment: &Transaction<'_>,
    scratch: &Connection,
    user: UserId,
    version: u64,
) -> Result<Option<Difference>, ReplayError> {
    for (table, key) in TABLES {
        let columns = columns_of(scratch, table)?;
        let order: Vec<String> = key.iter().map(|column| format!("\"{column}\"")).collect();
        let order = if order.is_empty() { String::new() } else { format!("ORDER BY {}", order.join(", ")) };
        let sql = format!("SELECT {} FROM {table} WHERE user_id = ?1 {order}", columns.join(", "));
        let (mut ours, mut theirs) = (scratch.prepare(&sql)?, moment.prepare(&sql)?);
        let (mut ours, mut theirs) = (ours.query([user.to_string()])?, theirs.query([user.to_string()])?);
        let name = |cells: &[Value]| {
            let cell = |column: &&str| columns.iter().position(|known| known == column).map(|at| text(&cells[at]));
            let names: Vec<String> = key.iter().filter_map(cell).collect();
            [vec![(*table).to_owned()], names].concat().join(" ")
        };
        loop {
            let (expected, found) = (cells(ours.next()?, columns.len())?, cells(theirs.next()?, columns.len())?);
            let difference = match (expected, found) {
                (None, None) => break,
                (Some(expected), Some(found)) if name(&expected) == name(&found) => {
                    let Some(at) = (0..columns.len()).find(|at| expected[*at] != found[*at]) else { continue };
                    let what = format!("{}: {}", name(&expected), columns[at]);
                    Difference { version, what, expected: text(&expected[at]), found: text(&found[at]) }
                }
                // Both are in the order of their names: the smaller one has no counterpart.
                (Some(expected), found) if found.as_ref().is_none_or(|found| name(&expected) < name(found)) => {
                    missing(version, &name(&expected))
                }
                (_, Some(found)) => {
                    Difference { version, what: name(&found), expected: "absent".to_owned(), found: "there".to_owned() }
                }
                (Some(expected), None) => missing(version, &name(&expected)),
            };
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// All columns but the order in which rows were written, which is not the user's own.
fn columns_of(scratch: &Connection, table: &str) -> Result<Vec<String>, ReplayError> {
    let mut statement = scratch.prepare("SELECT name FROM pragma_table_info(?1) WHERE name <> 'seq' ORDER BY cid")?;
    let names = statement.query_map(params![table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn cells(row: Option<&rusqlite::Row<'_>>, count: usize) -> Result<Option<Vec<Value>>, ReplayError> {
    row.map(|row| (0..count).map(|at| Ok(row.get(at)?)).collect()).transpose()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn missing(version: u64, what: &str) -> Difference {
    Difference { version, what: what.to_owned(), expected: "there".to_owned(), found: "absent".to_owned() }
}

fn unreadable(version: u64, what: &str, error: &Unreadable) -> Difference {
    Difference { version, what: what.to_owned(), expected: "readable".to_owned(), found: error.to_string() }
}
