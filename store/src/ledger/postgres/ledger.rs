//! The ledger port on PostgreSQL.
//!
//! Commits go to the writing tasks. Each read is one statement, so what it puts together is of one moment without a
//! transaction around it.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use nexus_actors::ports::{
    CommitVerdict, Lease, Ledger, LedgerError, SignalRecord, TradingStateRecord, TurnRecord, UnfinishedSignal,
};
use nexus_engine::account::{Account, Decision, LedgerRisk, Today};
use nexus_engine::gate::Scope;
use nexus_engine::ids::{DecisionId, FeedId, SignalId, UserId};
use nexus_engine::units::Money;
use sqlx::{AssertSqlSafe, query};

use super::fault::Fault;
use super::rows::clean;
use super::snapshots::{StoredTurn, rebuilt};
use super::writer::AT_ONCE;
use super::{PostgresStore, batch};
use crate::ledger::rows::{
    self, Cells, DECISION_COLUMNS, DECISIONS_FROM, SIGNAL_COLUMNS, TRADING_STATE_COLUMNS, TRADING_STATES_FROM,
    Unreadable, to_column,
};

/// Boxes a call and speaks the port's errors.
fn answer<'a, T>(call: impl Future<Output = Result<T, Fault>> + Send + 'a) -> BoxFuture<'a, Result<T, LedgerError>> {
    call.map(|outcome| outcome.map_err(LedgerError::from)).boxed()
}

fn user_id(cells: &mut dyn Cells) -> Result<UserId, Unreadable> {
    cells.uuid().map(UserId)
}

impl Ledger for PostgresStore {
    fn commit(&self, batch: Vec<TurnRecord>) -> BoxFuture<'_, Result<Vec<CommitVerdict>, LedgerError>> {
        answer(self.writers.commit(batch))
    }

    fn commits_at_once(&self) -> usize {
        AT_ONCE
    }

    /// A snapshot at hand is believed when it is of the same turn and says the same of money as the row does that every commit
    /// proves itself against; then the stored one stays where it is.
    fn load_account(
        &self,
        user: UserId,
        at_hand: Option<Arc<Account>>,
    ) -> BoxFuture<'_, Result<Option<Account>, LedgerError>> {
        let sql = "SELECT CASE WHEN p.proven THEN NULL ELSE coalesce(s.account, o.account) END,
                          CASE WHEN p.proven THEN NULL ELSE (
                              SELECT json_agg(json_build_array(e.now_us, e.input, e.context, e.events) ORDER BY e.version)::text
                                FROM events e WHERE e.user_id = a.user_id AND e.version > coalesce(s.version, 0))
                          END,
                          a.version, a.net_realized_e8, a.open_e8, a.reserved_e8, (a.day - date '1970-01-01')::bigint,
                          r.realized_e8,
                          (SELECT jsonb_object_agg(c.timeframe, c.used)::text FROM daily_counts c
                            WHERE c.user_id = a.user_id AND c.day = a.day)
                     FROM accounts a
                    CROSS JOIN LATERAL (
                              SELECT (a.version, a.now_us, a.day, a.starting_equity_e8, a.net_realized_e8, a.open_e8, a.reserved_e8)
                                     IS NOT DISTINCT FROM ($2, $3, date '1970-01-01' + $4, $5, $6, $7, $8) AS proven) p
                     LEFT JOIN opened_accounts o ON o.user_id = a.user_id
                     LEFT JOIN snapshots s ON s.user_id = a.user_id
                     LEFT JOIN daily_risk r ON r.user_id = a.user_id AND r.day = a.day
                    WHERE a.user_id = $1";
        answer(async move {
            let known = at_hand.as_deref();
            let money = |read: fn(&Account) -> Money| known.map(|account| read(account).steps());
            let statement = query(sql)
                .bind(user.0)
                .bind(known.map(|account| to_column(account.version)).transpose()?)
                .bind(known.map(|account| account.now.micros()))
                .bind(known.map(|account| account.today.day.0))
                .bind(money(|account| account.starting_equity))
                .bind(money(|account| account.net_realized))
                .bind(money(Account::open_risk))
                .bind(money(Account::reserved_risk));
            self.first(statement, |cells| account(cells, at_hand)).await
        })
    }

    fn record_signal(&self, record: Arc<SignalRecord>) -> BoxFuture<'_, Result<(), LedgerError>> {
        answer(async move {
            self.newness.add([record.signal.id]);
            self.change(batch::record_signal(&record, self.fence.get())?).await?;
            self.recorded.add([record.signal.id]);
            Ok(())
        })
    }

    fn find_signal(&self, id: SignalId) -> BoxFuture<'_, Result<Option<SignalRecord>, LedgerError>> {
        if self.newness.is_certain(id, self.fence.get()) {
            return ready(Ok(None)).boxed();
        }
        self.lookup.find(id).boxed()
    }

    fn decisions_on(&self, id: SignalId) -> BoxFuture<'_, Result<Vec<Decision>, LedgerError>> {
        let sql = format!("SELECT {DECISION_COLUMNS} FROM {DECISIONS_FROM} WHERE d.signal_id = $1 ORDER BY d.user_id");
        answer(self.all(query(AssertSqlSafe(sql)).bind(id.0), rows::decision))
    }

    fn owner_of(&self, decision: DecisionId) -> BoxFuture<'_, Result<Option<UserId>, LedgerError>> {
        answer(self.first(query("SELECT user_id FROM decisions WHERE id = $1").bind(decision.0), user_id))
    }

    fn unfinished_signals(&self) -> BoxFuture<'_, Result<Vec<UnfinishedSignal>, LedgerError>> {
        let sql = format!(
            "SELECT {SIGNAL_COLUMNS},
                    (SELECT coalesce(json_agg(d.user_id ORDER BY d.user_id), '[]')::text FROM decisions d
                      WHERE d.signal_id = s.id)
               FROM signals s WHERE undecided > 0 ORDER BY seq"
        );
        answer(async move {
            let found = self.all(query(AssertSqlSafe(sql)), unfinished).await?;
            Ok(found.into_iter().filter(|signal| !signal.undecided.is_empty()).collect())
        })
    }

    fn users_with_open_business(&self) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        answer(self.all(query("SELECT user_id FROM accounts WHERE open_business ORDER BY user_id"), user_id))
    }

    fn subscribers(&self, feed: FeedId) -> BoxFuture<'_, Result<Vec<UserId>, LedgerError>> {
        let sql = "SELECT user_id FROM subscriptions WHERE feed_id = $1 ORDER BY user_id";
        answer(self.all(query(sql).bind(feed.0), user_id))
    }

    fn trading_states(&self) -> BoxFuture<'_, Result<Vec<TradingStateRecord>, LedgerError>> {
        answer(async move {
            let sql = format!("SELECT {TRADING_STATE_COLUMNS} FROM {TRADING_STATES_FROM} ORDER BY kind, name");
            let rows = self.control_all(query(AssertSqlSafe(sql))).await.map_err(Fault::of_a_read)?;
            let read = rows.iter().map(|row| rows::trading_state(&mut super::Columns::of(row)));
            Ok(read.collect::<Result<_, _>>()?)
        })
    }

    /// Not under the fence: whoever stops trading stops it, and the epoch alone says which word is the newest.
    fn set_trading_state(&self, record: TradingStateRecord) -> BoxFuture<'_, Result<TradingStateRecord, LedgerError>> {
        answer(async move {
            let set = match &record.scope {
                Scope::Everything => {
                    "(SELECT 'everything' AS kind, '' AS name, set_.* FROM set_trading_state($3, $4, $5, $6, $7) AS set_
                                       WHERE $1 = 'everything' AND $2 = '') AS held"
                }
                Scope::Venue(_) | Scope::Symbol(_) | Scope::Feed(_) | Scope::User(_) => {
                    "set_trading_scope($1, $2, $3, $4, $5, $6, $7)"
                }
            };
            let sql = format!("SELECT {TRADING_STATE_COLUMNS} FROM {set}");
            let statement = query(AssertSqlSafe(sql))
                .bind(record.scope.kind())
                .bind(record.scope.name())
                .bind(record.state.as_str())
                .bind(to_column(record.epoch)?)
                .bind(record.since.micros())
                .bind(clean(&record.by).into_owned())
                .bind(record.reason.as_deref().map(|reason| clean(reason).into_owned()));
            let row = self.control(statement).await?;
            let row = row.ok_or_else(|| Fault::Corrupt("a trading state was written and is not there".to_owned()))?;
            Ok(rows::trading_state(&mut super::Columns::of(&row))?)
        })
    }

    /// It writes: a ledger that can be read but not written, or whose disk is full, does not answer.
    fn ping(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        answer(async move { self.control(query("UPDATE pulse SET at = clock_timestamp()")).await.map(drop) })
    }

    fn lease(&self) -> Option<&dyn Lease> {
        Some(self)
    }
}

/// The account of a user: its snapshot and the turns since, corrected by the counters that the ledger admits by. Neither is
/// sent when the one at hand was proven.
fn account(cells: &mut dyn Cells, at_hand: Option<Arc<Account>>) -> Result<Account, Unreadable> {
    let stored: Option<Account> = cells.maybe_json()?;
    let since: Option<Vec<StoredTurn>> = cells.maybe_json()?;
    let (snapshot, from) = match (stored, at_hand) {
        (Some(stored), _) => (rebuilt(stored, since.unwrap_or_default())?, "ledger"),
        (None, Some(proven)) => (Arc::unwrap_or_clone(proven), "hot_state"),
        (None, None) => return Err(Unreadable("an account has no snapshot".to_owned())),
    };
    let version = cells.int()?;
    if to_column(snapshot.version)? != version {
        let words = format!("the turns of {} lead to version {}, not to {version}", snapshot.user, snapshot.version);
        return Err(Unreadable(words));
    }
    let (realized, open, reserved) = (cells.money()?, cells.money()?, cells.money()?);
    let day = cells.int()?;
    metrics::counter!("nexus_snapshots_loaded_total", "from" => from).increment(1);
    let net = cells.maybe_int()?.map(Money::from_steps);
    let timeframes = cells.maybe_json()?;
    if day != i64::from(snapshot.today.day.0) {
        return Err(Unreadable(format!("the account of {} is of another day than its snapshot", snapshot.user)));
    }
    let today = (net.is_some() || timeframes.is_some()).then(|| Today {
        day: snapshot.today.day,
        net: net.unwrap_or_default(),
        timeframes: timeframes.unwrap_or_default(),
    });
    Ok(snapshot.corrected(LedgerRisk { realized, open, reserved, today }))
}

fn unfinished(cells: &mut dyn Cells) -> Result<UnfinishedSignal, Unreadable> {
    let record = rows::signal(cells)?;
    let decided: Vec<UserId> = cells.json()?;
    let open = |user: &UserId| decided.binary_search(user).is_err();
    let undecided = record.subscribers.iter().copied().filter(open).collect();
    Ok(UnfinishedSignal { record, undecided })
}
