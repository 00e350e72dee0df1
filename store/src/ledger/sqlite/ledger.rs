//! The ledger port on SQLite: each call is one job for the writing or a reading thread.
//!
//! Nothing is decided here. The port's methods name the job and speak the port's errors; what a job does lies in
//! `commit`, `read` and `project`. Being there is asked of the write lock and not of a read, because a ledger that can
//! be read and not written is of no use to anybody who waits for a decision.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{
    CommitVerdict, Ledger, LedgerError, SignalRecord, TradingStateRecord, TurnRecord, UnfinishedSignal,
};
use nexus_engine::account::{Account, Decision};
use nexus_engine::gate::Scope;
use nexus_engine::ids::{DecisionId, FeedId, SignalId, UserId};
use rusqlite::{Transaction, params};

use super::connection::transact;
use super::fault::Fault;
use super::{SqliteStore, commit, read};
use crate::ledger::rows::to_column;

/// Boxes a call and speaks the port's errors.
fn answer<'a, T>(call: impl Future<Output = Result<T, Fault>> + Send + 'a) -> BoxFuture<'a, Result<T, LedgerError>> {
    call.map(|outcome| outcome.map_err(LedgerError::from)).boxed()
}

impl Ledger for SqliteStore {
    fn commit(&self, batch: Vec<TurnRecord>) -> BoxFuture<'_, Result<Vec<CommitVerdict>, LedgerError>> {
        let probe = self.probe.clone();
        answer(self.write(move |connection| commit::commit(connection, &batch, probe.as_deref())))
    }

    /// The snapshot at hand is not looked at: the file is as near as it is, and reading it is cheaper than proving.
    fn load_account(
        &self,
        user: UserId,
        _at_hand: Option<Arc<Account>>,
    ) -> BoxFuture<'_, Result<Option<Account>, LedgerError>> {
        answer(self.read(move |moment| read::account(moment, user)))
    }

    fn record_signal(&self, record: Arc<SignalRecord>) -> BoxFuture<'_, Result<(), LedgerError>> {
        answer(
            self.write(move |connection| {
                transact(connection, |transaction| commit::record_signal(transaction, &record))
            }),
        )
    }

    fn find_signal(&self, id: SignalId) -> BoxFuture<'_, Result<Option<SignalRecord>, LedgerError>> {
        answer(self.read(move |moment| read::signal(moment, id)))
    }

    fn decisions_on(&self, id: SignalId) -> BoxFuture<'_, Result<Vec<Decision>, LedgerError>> {
        answer(self.read(move |moment| read::decisions_on(moment, id)))
    }

    fn owner_of(&self, decision: DecisionId) -> BoxFuture<'_, Result<Option<UserId>, LedgerError>> {
        answer(self.read(move |moment| read::owner_of(moment, decision)))
    }

    fn unfinished_signals(&self) -> BoxFuture<'_, Result<Vec<UnfinishedSignal>, LedgerError>> {
        answer(self.read(read::unfinished_signals))
    }

    fn users_with_open_business(&self) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        answer(self.read(|moment| {
            read::ids(moment, "SELECT user_id FROM accounts WHERE open_business = 1 ORDER BY user_id", params![])
        }))
    }

    fn subscribers(&self, feed: FeedId) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        answer(self.read(move |moment| {
            let sql = "SELECT user_id FROM subscriptions WHERE feed_id = ?1 ORDER BY user_id";
            read::ids(moment, sql, params![feed.to_string()])
        }))
    }

    fn trading_states(&self) -> BoxFuture<'_, Result<Vec<TradingStateRecord>, LedgerError>> {
        answer(self.read(read::trading_states))
    }

    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<TradingStateRecord, LedgerError>> {
        answer(self.write(move |connection| {
            transact(connection, |transaction| {
                let held = read::trading_state(transaction, &record.scope)?;
                if let Some(held) = held.filter(|held| (held.epoch, held.state) > (record.epoch, record.state)) {
                    return Ok(held);
                }
                write_trading_state(transaction, &record)?;
                Ok::<_, Fault>(record)
            })
        }))
    }

    /// Takes the write lock and gives it back: a ledger that can be read but not written does not answer.
    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        // It writes, though nothing new: on a full disk an empty transaction would succeed and say that all is well.
        let touch =
            |transaction: &Transaction<'_>| Ok::<_, Fault>(transaction.pragma_update(None, "user_version", 0)?);
        answer(self.write(move |connection| transact(connection, touch)))
    }
}

fn write_trading_state(transaction: &Transaction<'_>, record: &TradingStateRecord) -> Result<(), Fault> {
    let (state, epoch, since) = (record.state.as_str(), to_column(record.epoch)?, record.since.micros());
    let (by, reason) = (&record.by, &record.reason);
    match &record.scope {
        Scope::Everything => transaction.execute(
            "INSERT OR REPLACE INTO trading_state (id, state, epoch, since_us, by, reason) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![state, epoch, since, by, reason],
        )?,
        scope => transaction.execute(
            "INSERT OR REPLACE INTO trading_scopes (kind, name, state, epoch, since_us, by, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![scope.kind(), scope.name(), state, epoch, since, by, reason],
        )?,
    };
    Ok(())
}
