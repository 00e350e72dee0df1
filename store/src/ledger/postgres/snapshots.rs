//! Whole accounts, written now and then.
//!
//! An account is some kilobytes of which a turn changes little, so writing it with every turn would be a large part of what the
//! turn costs. It is written with every so many of its turns, and what is behind catches up when nothing is committed for a
//! moment, and before the lease is given back. An account is read back from its snapshot and the turns since, which are
//! taken again: the same inputs give the same account, bit for bit (promise P7), and the stored events show that they did.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nexus_actors::ports::TurnRecord;
use nexus_engine::account::{Account, Context, Event, Input};
use nexus_engine::ids::{Timestamp, UserId};
use nexus_engine::replay::Replay;
use uuid::Uuid;

use super::connection::Statement;
use crate::ledger::rows::{Unreadable, from_json, to_column, to_json};

/// Turns of an account from one snapshot that is written with a turn to the next: as many at most are taken again.
const EVERY: u64 = 16;
/// Accounts that are remembered as behind. They are those in memory; beyond that, a snapshot waits for its account's turns.
const BEHIND_MAX: usize = 65_536;
/// Snapshots in one statement.
const AT_ONCE_MAX: usize = 64;

/// Whether turns that lead from one version to another bring a snapshot. Not with the same versions of everybody: users of one feed
/// are stepped alike.
pub(super) fn is_due(user: UserId, before: u64, after: u64) -> bool {
    let offset = user.0.as_u64_pair().1 % EVERY;
    (before + offset) / EVERY != (after + offset) / EVERY
}

/// Accounts whose newest turn is committed and whose snapshot is older.
#[derive(Default)]
pub(super) struct Behind(HashMap<UserId, Arc<Account>>);

impl Behind {
    /// A turn is committed: it has brought a snapshot, or leaves its account behind.
    pub(super) fn note(&mut self, record: &TurnRecord) {
        if is_due(record.user, record.base_version, record.after.version) {
            self.0.remove(&record.user);
        } else if self.0.len() < BEHIND_MAX || self.0.contains_key(&record.user) {
            self.0.insert(record.user, Arc::clone(&record.after));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes some of them out, to be written.
    pub(super) fn take_some(&mut self) -> Vec<Arc<Account>> {
        let users: Vec<UserId> = self.0.keys().take(AT_ONCE_MAX).copied().collect();
        users.iter().filter_map(|user| self.0.remove(user)).collect()
    }

    /// These could not be written. A newer one may have come.
    pub(super) fn put_back(&mut self, accounts: Vec<Arc<Account>>) {
        for account in accounts {
            self.0.entry(account.user).or_insert(account);
        }
    }
}

/// Snapshots, ready to be written.
pub(super) struct Snapshots {
    users: Vec<Uuid>,
    versions: Vec<i64>,
    accounts: Vec<String>,
}

impl Snapshots {
    pub(super) fn of(accounts: &[Arc<Account>]) -> Result<Snapshots, Unreadable> {
        Ok(Snapshots {
            users: accounts.iter().map(|account| account.user.0).collect(),
            versions: accounts.iter().map(|account| to_column(account.version)).collect::<Result<_, _>>()?,
            accounts: accounts.iter().map(|account| to_json(&**account)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn statement(&self, fence: Option<i64>) -> Statement<'_> {
        let statement = sqlx::query("SELECT keep_snapshots($1, $2, $3, $4)").bind(fence);
        statement.bind(&self.users).bind(&self.versions).bind(&self.accounts)
    }
}

/// A turn as it is stored: its time, and its input, context and events as JSON.
pub(super) type StoredTurn = (i64, String, String, String);

/// The account after the turns that came since its snapshot. One that does not lead to the events that were recorded means that
/// this program decides otherwise than the one that recorded it, or that somebody has altered the record: nobody can say what
/// the account is, and nothing is traded on it.
pub(super) fn rebuilt(snapshot: Account, turns: Vec<StoredTurn>) -> Result<Account, Unreadable> {
    if turns.is_empty() {
        return Ok(snapshot);
    }
    let user = snapshot.user;
    let mut replay = Replay::begin(snapshot);
    for (now_us, input, context, events) in turns {
        let (input, context): (Input, Context) = (from_json(&input)?, from_json(&context)?);
        let recorded: Vec<Event> = from_json(&events)?;
        let version = replay.account().version + 1;
        if let Some(Event::Corrected(ledger)) = recorded.first() {
            replay.correct(ledger);
        }
        let taken =
            catch_unwind(AssertUnwindSafe(|| replay.take(Timestamp::from_micros(now_us), &input, &context).events));
        if !taken.is_ok_and(|events| events == recorded) {
            let words = format!(
                "turn {version} of {user} does not lead to what is recorded of it: look with `nexus replay`; after a change \
                 of the program, start the former one and end it in order, so that every account is written whole"
            );
            return Err(Unreadable(words));
        }
    }
    Ok(replay.account().clone())
}
