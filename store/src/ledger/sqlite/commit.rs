//! A batch of turns becomes one transaction, and the ledger admits each reservation itself (promises P2 and P5).
//!
//! What a turn claims about limits is not believed: the version, what is used of the day's cap, the cap itself and the
//! risk percent are read from the ledger's rows under the write lock, which nobody else can hold before the commit. What refuses
//! a turn is asked before anything of it is written, and the decision is the first row that is written, with CHECKs and a
//! trigger on it that ask the same again: so a refused turn leaves nothing behind, and no savepoint is needed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nexus_actors::ports::{CommitVerdict, Probe, SignalRecord, Step, TurnRecord};
use nexus_engine::account::{Acceptance, Account, Decision, Verdict};
use nexus_engine::ids::{SignalId, UserId};
use nexus_engine::units::{Money, Percent, Price};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::connection::transact;
use super::fault::{Fault, is_refused, is_taken};
use super::project;
use super::rows::Columns;
use crate::ledger::rows::{Cells, to_column, to_json};
use crate::ledger::touched::{decision_of, is_awaited};

/// Writes a batch as one transaction. The probe sees every batch with a decision just before its COMMIT.
pub(super) fn commit(
    connection: &mut Connection,
    turns: &[TurnRecord],
    probe: Option<&dyn Probe>,
) -> Result<Vec<CommitVerdict>, Fault> {
    transact(connection, |transaction| {
        let mut batch = Batch::of(transaction, turns);
        let verdicts =
            turns.iter().enumerate().map(|(place, turn)| batch.write(place, turn)).collect::<Result<_, _>>()?;
        batch.finish()?;
        if let Some(probe) = probe.filter(|_| turns.iter().any(|turn| turn.signal.is_some())) {
            probe.at(Step::InCommit);
        }
        Ok(verdicts)
    })
}

/// Records a signal unless it is recorded already.
pub(super) fn record_signal(transaction: &Transaction<'_>, record: &SignalRecord) -> Result<(), Fault> {
    let signal = &record.signal;
    transaction
        .prepare_cached(
            "INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, entry_price_e8, stop_loss_e8, take_profit_e8,
                                  issued_at_us, received_at_us, undecided, signal, subscribers, mark)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            signal.id.to_string(),
            signal.feed.to_string(),
            signal.key.as_str(),
            signal.symbol.as_str(),
            signal.side.as_str(),
            signal.timeframe.to_string(),
            signal.kind.as_str(),
            signal.entry_price.map(Price::steps),
            signal.stop_loss.steps(),
            signal.take_profit.steps(),
            signal.issued_at.micros(),
            record.received_at.micros(),
            i64::try_from(record.subscribers.len()).unwrap_or(i64::MAX),
            to_json(&**signal)?,
            to_json(&*record.subscribers)?,
            record.mark.as_ref().map(to_json).transpose()?,
        ])?;
    Ok(())
}

/// One batch on its way into the ledger.
struct Batch<'a> {
    transaction: &'a Transaction<'a>,
    /// The place of each user's last turn: only its snapshot is worth writing.
    last: HashMap<UserId, usize>,
    /// Snapshots of committed turns that were not the last of their user. They are written after all when the later turns
    /// are refused.
    unwritten: HashMap<UserId, Arc<Account>>,
    /// Signals known to be in the ledger.
    recorded: HashSet<SignalId>,
    /// Subscribers decided in this batch, by signal.
    decided: BTreeMap<SignalId, i64>,
}

/// What the ledger holds of an account when a turn is to be written.
struct Held {
    version: u64,
    /// Realised loss, open and reserved risk of the turn's day.
    used: Money,
    loss_cap: Money,
    risk_percent_max: Percent,
    open_business: bool,
}

impl<'a> Batch<'a> {
    fn of(transaction: &'a Transaction<'a>, turns: &[TurnRecord]) -> Self {
        Self {
            transaction,
            last: turns.iter().enumerate().map(|(place, turn)| (turn.user, place)).collect(),
            unwritten: HashMap::new(),
            recorded: HashSet::new(),
            decided: BTreeMap::new(),
        }
    }

    fn write(&mut self, place: usize, record: &TurnRecord) -> Result<CommitVerdict, Fault> {
        // An account that is not there is at no version that a turn could be stepped from.
        let Some(held) = self.held(record)? else { return Ok(CommitVerdict::Stale { version: 0 }) };
        if held.version != record.base_version {
            return Ok(CommitVerdict::Stale { version: held.version });
        }
        if let Some(decision) = decision_of(record)?
            && let Some(refused) = self.decide(record, decision, &held)?
        {
            return Ok(refused);
        }
        self.count(place, record, &held)?;
        project::project(self.transaction, record)?;
        self.append(record)?;
        Ok(CommitVerdict::Committed)
    }

    fn held(&self, record: &TurnRecord) -> Result<Option<Held>, Fault> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT a.version, a.open_e8, a.reserved_e8, coalesce(d.realized_e8, 0),
                    coalesce(l.max_daily_loss_e8, 0), coalesce(l.max_risk_percent_e8, 0), a.open_business
               FROM accounts a
               LEFT JOIN limits l ON l.user_id = a.user_id
               LEFT JOIN daily_risk d ON d.user_id = a.user_id AND d.day = ?2
              WHERE a.user_id = ?1",
        )?;
        let mut rows = statement.query(params![record.user.to_string(), record.turn.delta.day.to_string()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let mut row = Columns::of(row);
        let columns: &mut dyn Cells = &mut row;
        Ok(Some(Held {
            version: columns.version()?,
            used: columns.money()?.plus(columns.money()?).plus(columns.money()?.negated().or_zero()),
            loss_cap: columns.money()?,
            risk_percent_max: Percent::from_steps(columns.int()?),
            open_business: columns.flag()?,
        }))
    }

    /// Admits a decision and writes it, or says why it is refused, with nothing written.
    fn decide(
        &mut self,
        record: &TurnRecord,
        decision: &Decision,
        held: &Held,
    ) -> Result<Option<CommitVerdict>, Fault> {
        if self.exists("SELECT 1 FROM decisions WHERE signal_id = ?1 AND user_id = ?2", decision)? {
            return Ok(Some(CommitVerdict::AlreadyDecided));
        }
        let known = self.is_recorded(decision.signal)?;
        if !known && record.signal.is_none() {
            return Err(Fault::Corrupt(format!("a decision on the signal {}, which is not recorded", decision.signal)));
        }
        let inserted = match &decision.verdict {
            Verdict::Accepted(acceptance) => {
                // The tighter of the turn's cap and the ledger's: limits that somebody has tightened hold at once.
                let cap = acceptance.cap.min(held.loss_cap);
                let vetoed = CommitVerdict::Vetoed { used: held.used, cap };
                if held.used.plus(acceptance.risk) > cap || self.is_repeated(record, decision, acceptance)? {
                    return Ok(Some(vetoed));
                }
                match self.insert_accepted(decision, acceptance, held, cap) {
                    Err(Fault::Sql(error)) if is_refused(&error) => return Ok(Some(vetoed)),
                    inserted => inserted,
                }
            }
            Verdict::Rejected(reasons) => self.insert_rejected(decision, &to_json(reasons)?),
        };
        match inserted {
            Err(Fault::Sql(error)) if is_taken(&error) => return Ok(Some(CommitVerdict::AlreadyDecided)),
            inserted => inserted?,
        }
        if let Some(signal) = record.signal.as_ref().filter(|_| !known) {
            record_signal(self.transaction, signal)?;
        }
        self.recorded.insert(decision.signal);
        if is_awaited(record, decision) {
            *self.decided.entry(decision.signal).or_default() += 1;
        }
        Ok(None)
    }

    fn exists(&self, sql: &str, decision: &Decision) -> Result<bool, Fault> {
        let keys = params![decision.signal.to_string(), decision.user.to_string()];
        Ok(self.transaction.prepare_cached(sql)?.exists(keys)?)
    }

    fn is_recorded(&self, signal: SignalId) -> Result<bool, Fault> {
        if self.recorded.contains(&signal) {
            return Ok(true);
        }
        let mut statement = self.transaction.prepare_cached("SELECT 1 FROM signals WHERE id = ?1")?;
        Ok(statement.exists([signal.to_string()])?)
    }

    /// Whether the ledger knows an acceptance of the same symbol, side and timeframe within the duplicate window. If not,
    /// this one will be the newest.
    fn is_repeated(&self, record: &TurnRecord, decision: &Decision, acceptance: &Acceptance) -> Result<bool, Fault> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT last_accepted_us FROM duplicate_window
              WHERE user_id = ?1 AND symbol = ?2 AND side = ?3 AND timeframe = ?4",
        )?;
        let (user, timeframe) = (record.user.to_string(), acceptance.timeframe.to_string());
        let last: Option<i64> = statement
            .query_row(params![user, acceptance.symbol.as_str(), acceptance.side.as_str(), timeframe], |row| row.get(0))
            .optional()?;
        let window = i64::try_from(record.after.limits.duplicate_window.as_micros()).unwrap_or(i64::MAX);
        Ok(last.is_some_and(|last| last > decision.at.micros().saturating_sub(window)))
    }

    fn insert_accepted(
        &self,
        decision: &Decision,
        acceptance: &Acceptance,
        held: &Held,
        cap: Money,
    ) -> Result<(), Fault> {
        let user = decision.user.to_string();
        let timeframe = acceptance.timeframe.to_string();
        self.transaction
            .prepare_cached(
                "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, client_order_id, symbol, side, timeframe, kind,
                                        price_e8, quantity_e8, sized_at_e8, stop_loss_e8, take_profit_e8, risk_e8,
                                        used_before_e8, cap_e8, risk_max_e8, equity_e8, expires_at_us, venue)
                 VALUES (?1, ?2, ?3, ?4, 'accepted', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
                         ?20, ?21)",
            )?
            .execute(params![
                decision.id.to_string(),
                decision.signal.to_string(),
                user,
                decision.at.micros(),
                acceptance.order.to_string(),
                acceptance.symbol.as_str(),
                acceptance.side.as_str(),
                timeframe,
                acceptance.kind.as_str(),
                acceptance.kind.price().map(Price::steps),
                acceptance.quantity.steps(),
                acceptance.sized_at.steps(),
                acceptance.stop_loss.steps(),
                acceptance.take_profit.steps(),
                acceptance.risk.steps(),
                held.used.steps(),
                cap.steps(),
                acceptance.equity.or_zero().percent_down(held.risk_percent_max).steps(),
                acceptance.equity.steps(),
                acceptance.expires_at.micros(),
                acceptance.venue.as_str(),
            ])?;
        self.transaction
            .prepare_cached(
                "INSERT INTO duplicate_window (user_id, symbol, side, timeframe, last_accepted_us)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET last_accepted_us = max(last_accepted_us, excluded.last_accepted_us)",
            )?
            .execute(params![
                user,
                acceptance.symbol.as_str(),
                acceptance.side.as_str(),
                timeframe,
                decision.at.micros()
            ])?;
        Ok(())
    }

    fn insert_rejected(&self, decision: &Decision, reasons: &str) -> Result<(), Fault> {
        self.transaction
            .prepare_cached(
                "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, reasons)
                 VALUES (?1, ?2, ?3, ?4, 'rejected', ?5)",
            )?
            .execute(params![
                decision.id.to_string(),
                decision.signal.to_string(),
                decision.user.to_string(),
                decision.at.micros(),
                reasons
            ])?;
        Ok(())
    }

    /// Moves the account on. Counters are added to, so that what somebody else wrote into them stays.
    fn count(&mut self, place: usize, record: &TurnRecord, held: &Held) -> Result<(), Fault> {
        let delta = &record.turn.delta;
        let user = record.user.to_string();
        let version = to_column(record.base_version)?.saturating_add(1);
        let snapshot = if self.last.get(&record.user) == Some(&place) {
            self.unwritten.remove(&record.user);
            Some(to_json(&*record.after)?)
        } else {
            self.unwritten.insert(record.user, Arc::clone(&record.after));
            None
        };
        self.transaction
            .prepare_cached(
                "UPDATE accounts SET version = ?2, open_e8 = open_e8 + ?3, reserved_e8 = reserved_e8 + ?4,
                        net_realized_e8 = net_realized_e8 + ?5, now_us = ?6, snapshot = coalesce(?7, snapshot)
                  WHERE user_id = ?1",
            )?
            .execute(params![
                user,
                version,
                delta.open.steps(),
                delta.reserved.steps(),
                delta.realized.steps(),
                record.after.now.micros(),
                snapshot
            ])?;
        let open_business = record.after.has_open_business();
        if open_business != held.open_business {
            self.transaction
                .prepare_cached("UPDATE accounts SET open_business = ?2 WHERE user_id = ?1")?
                .execute(params![user, open_business])?;
        }
        self.count_day(record, &user)
    }

    fn count_day(&self, record: &TurnRecord, user: &str) -> Result<(), Fault> {
        let delta = &record.turn.delta;
        let day = delta.day.to_string();
        if !delta.realized.is_zero() {
            self.transaction
                .prepare_cached(
                    "INSERT INTO daily_risk (user_id, day, realized_e8) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET realized_e8 = realized_e8 + excluded.realized_e8",
                )?
                .execute(params![user, day, delta.realized.steps()])?;
        }
        for (timeframe, change) in &delta.counts {
            self.transaction
                .prepare_cached(
                    "INSERT INTO daily_counts (user_id, day, timeframe, used) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET used = used + excluded.used",
                )?
                .execute(params![user, day, timeframe.to_string(), change])?;
        }
        Ok(())
    }

    fn append(&self, record: &TurnRecord) -> Result<(), Fault> {
        self.transaction
            .prepare_cached(
                "INSERT INTO events (user_id, version, now_us, input, context, events) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                record.user.to_string(),
                to_column(record.base_version)?.saturating_add(1),
                record.now.micros(),
                to_json(&record.input)?,
                to_json(&record.context)?,
                to_json(&record.turn.events)?,
            ])?;
        Ok(())
    }

    /// What is written once for the whole batch.
    fn finish(self) -> Result<(), Fault> {
        for (user, account) in &self.unwritten {
            self.transaction
                .prepare_cached("UPDATE accounts SET snapshot = ?2 WHERE user_id = ?1")?
                .execute(params![user.to_string(), to_json(&**account)?])?;
        }
        for (signal, decided) in &self.decided {
            self.transaction
                .prepare_cached("UPDATE signals SET undecided = max(0, undecided - ?2) WHERE id = ?1")?
                .execute(params![signal.to_string(), decided])?;
        }
        Ok(())
    }
}
