//! A batch of turns as arrays: what `commit_turns` is called with.
//!
//! Arrays that begin with the same letter run in parallel and stand here as one struct. Consecutive turns of a user are one
//! step, which the database takes or refuses as a whole: only its first turn may decide, the others are facts, so that nothing
//! in it is admitted by a count that it has itself changed. Steps are put into waves: the first steps of all users, then the
//! second ones, each wave sorted by user. Within a wave no step sees another, so the database takes it set by set and locks
//! accounts in the one order that everybody keeps; over the waves each account's steps stay in order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use nexus_actors::ports::{CommitVerdict, SignalRecord, TurnRecord};
use nexus_engine::account::{Acceptance, Decision, Fill, RiskDelta, Verdict};
use nexus_engine::ids::{SignalId, Timestamp, UserId};
use nexus_engine::limits::Limits;
use nexus_engine::order::Order;
use nexus_engine::units::{Money, Price};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::connection::Statement;
use super::fault::Fault;
use super::rows::clean;
use super::snapshots;
use crate::ledger::rows::{Unreadable, to_column, to_json};
use crate::ledger::touched::{Position, Touched, decision_of, is_awaited};

/// Declares a group of arrays, how many they are, and how they are handed over: in the order in which they stand.
macro_rules! arrays {
    ($(#[$doc:meta])* $name:ident { $($column:ident: $kind:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Default)]
        struct $name { $($column: Vec<$kind>,)+ }

        impl $name {
            const COUNT: usize = [$(stringify!($column)),+].len();

            fn bind<'q>(&'q self, statement: Statement<'q>) -> Statement<'q> {
                $(let statement = statement.bind(&self.$column);)+
                statement
            }
        }
    };
}

arrays! {
    /// `t`
    Steps {
        user: Uuid, base: i64, turns: i32, now: i64, day: i32, realized: i64, open: i64, reserved: i64, business: bool,
    }
}
arrays! {
    /// `e`
    Events { step: i32, version: i64, now: i64, input: String, context: String, events: String, }
}
arrays! {
    /// `d` and `a`: empty where a step does not decide, or does not accept.
    Decisions {
        id: Option<Uuid>, signal: i32, at: Option<i64>, reasons: Option<String>, awaited: bool,
        symbol: Option<String>, side: Option<&'static str>, timeframe: Option<String>, kind: Option<&'static str>,
        price: Option<i64>, quantity: Option<i64>, sized_at: Option<i64>, stop_loss: Option<i64>,
        take_profit: Option<i64>, risk: Option<i64>, cap: Option<i64>, equity: Option<i64>, expires_at: Option<i64>,
        venue: Option<String>, window: Option<i64>,
    }
}
arrays! {
    /// `s`: one place for each signal that a step decides, sorted by id; empty but for the id when it is recorded already.
    Signals {
        id: Uuid, known: bool, feed: Option<Uuid>, key: Option<String>, symbol: Option<String>, side: Option<&'static str>,
        timeframe: Option<String>, kind: Option<&'static str>, entry_price: Option<i64>, stop_loss: Option<i64>,
        take_profit: Option<i64>, issued_at: Option<i64>, received_at: Option<i64>, total: Option<i64>,
        signal: Option<String>, subscribers: Option<String>, mark: Option<String>,
    }
}
arrays! {
    /// `n`
    Snapshots { step: i32, account: String, }
}
arrays! {
    /// `c`
    Counts { step: i32, timeframe: String, change: i32, }
}
arrays! {
    /// `f`
    Fills {
        step: i32, venue: String, execution: String, order: String, symbol: String, side: &'static str, quantity: i64,
        price: i64, fee: i64, at: i64, realized: i64,
    }
}
arrays! {
    /// `o`
    Orders {
        step: i32, id: String, decision: Uuid, purpose: &'static str, symbol: String, side: &'static str,
        kind: &'static str, price: Option<i64>, quantity: i64, filled: i64, value: i64, fees: i64, status: &'static str,
        unknown: bool, cancel: bool, venue: String, created_at: i64,
    }
}
arrays! {
    /// `p`
    Positions {
        step: i32, decision: Uuid, symbol: String, side: &'static str, quantity: i64, entry_price: i64, stop_loss: i64,
        take_profit: i64, realized: i64, opened_at: i64, closed_at: Option<i64>,
    }
}

/// The fence, the months, the ends of the waves and the limits stand beside the arrays.
const PARAMETERS: usize = 4
    + Steps::COUNT
    + Events::COUNT
    + Decisions::COUNT
    + Signals::COUNT
    + Snapshots::COUNT
    + Counts::COUNT
    + Fills::COUNT
    + Orders::COUNT
    + Positions::COUNT;
// A function of PostgreSQL takes no more.
const _: () = assert!(PARAMETERS <= 100);

/// The call itself: `$1` to the last.
pub(super) fn call() -> String {
    let parameters: Vec<String> = (1..=PARAMETERS).map(|n| format!("${n}")).collect();
    format!("SELECT codes, used, caps, words FROM commit_turns({}::jsonb)", parameters.join(", "))
}

/// A batch, ready to be sent, as often as it takes.
#[derive(Default)]
pub(super) struct Batch {
    /// Where the turns of each step stood in the batch that was handed over.
    places: Vec<Range<usize>>,
    /// The places of the batch, step by step.
    order: Vec<usize>,
    months: Vec<String>,
    wave_ends: Vec<i32>,
    steps: Steps,
    events: Events,
    decisions: Decisions,
    signals: Signals,
    snapshots: Snapshots,
    counts: Counts,
    fills: Fills,
    orders: Orders,
    positions: Positions,
    limits: Vec<LimitsRow>,
    limits_json: Option<String>,
    /// The signal of each step that decides, by the step's place in the arrays.
    decided: Vec<Option<SignalId>>,
}

/// What a step sets of its user's limits.
#[derive(Serialize)]
struct LimitsRow {
    step: i32,
    version: i64,
    max_daily_loss: i64,
    max_risk_percent: i64,
    duplicate_window: i64,
    timeframes: serde_json::Value,
    limits: String,
}

/// Which turns may share a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grouping {
    /// Those of a user that follow each other.
    Steps,
    /// None: to find out which of them it is that the tables refuse.
    EachAlone,
}

impl Batch {
    /// Signals that are in `recorded` are not sent again: their subscribers may be a hundred thousand.
    pub(super) fn of(
        records: &[TurnRecord],
        recorded: &HashSet<SignalId>,
        grouping: Grouping,
    ) -> Result<Batch, Unreadable> {
        let mut batch = Batch::default();
        batch.put_into_waves(records, grouping)?;
        let places = batch.gather_signals(records, recorded)?;
        for at in 0..batch.places.len() {
            let turns: Vec<&TurnRecord> =
                batch.order[batch.places[at].clone()].iter().map(|place| &records[*place]).collect();
            // The database counts from 1.
            let step = i32::try_from(at + 1).unwrap_or(i32::MAX);
            batch.steps.push(&turns)?;
            batch.push_snapshot(step, &turns)?;
            batch.push_decision(turns[0], &places)?;
            batch.push_counts(step, &turns);
            for turn in &turns {
                batch.events.push(step, turn)?;
            }
            batch.push_touched(step, &turns)?;
        }
        let months: BTreeSet<String> =
            records.iter().map(|record| month(record.now.micros())).collect::<Result<_, _>>()?;
        batch.months = months.into_iter().collect();
        batch.limits_json = if batch.limits.is_empty() { None } else { Some(to_json(&batch.limits)?) };
        Ok(batch)
    }

    /// The call with its values.
    pub(super) fn statement<'q>(&'q self, call: &'q str, fence: Option<i64>) -> Statement<'q> {
        let statement = sqlx::query(AssertSqlSafe(call)).bind(fence).bind(&self.months).bind(&self.wave_ends);
        let statement = self.decisions.bind(self.events.bind(self.steps.bind(statement)));
        let statement = self.counts.bind(self.snapshots.bind(self.signals.bind(statement)));
        let statement = self.positions.bind(self.orders.bind(self.fills.bind(statement)));
        statement.bind(&self.limits_json)
    }

    /// What the ledger said to each turn, in the order in which they were handed over.
    pub(super) fn verdicts(&self, row: &PgRow) -> Result<Answer, sqlx::Error> {
        let codes: Vec<i16> = row.try_get("codes")?;
        let used: Vec<Option<i64>> = row.try_get("used")?;
        let caps: Vec<Option<i64>> = row.try_get("caps")?;
        let words: Vec<Option<String>> = row.try_get("words")?;
        let steps = self.places.len();
        if [codes.len(), used.len(), caps.len(), words.len()] != [steps; 4] {
            return Err(sqlx::Error::Protocol(format!("{} verdicts on {steps} steps", codes.len())));
        }
        let mut answer =
            Answer { verdicts: vec![CommitVerdict::AlreadyDecided; self.order.len()], ..Answer::default() };
        for (at, places) in self.places.iter().enumerate() {
            let places = &self.order[places.clone()];
            let money = |steps: Option<i64>| Money::from_steps(steps.unwrap_or_default());
            let stale = |version: i64| CommitVerdict::Stale { version: u64::try_from(version).unwrap_or(0) };
            let (first, others) = match codes[at] {
                0 => (CommitVerdict::Committed, CommitVerdict::Committed),
                1 => {
                    (CommitVerdict::Vetoed { used: money(used[at]), cap: money(caps[at]) }, stale(self.steps.base[at]))
                }
                2 => (CommitVerdict::AlreadyDecided, stale(self.steps.base[at])),
                3 => (stale(used[at].unwrap_or_default()), stale(used[at].unwrap_or_default())),
                code => return Err(sqlx::Error::Protocol(format!("{code} is not a verdict"))),
            };
            for (n, place) in places.iter().enumerate() {
                answer.verdicts[*place] = if n == 0 { first.clone() } else { others.clone() };
            }
            if let Some(signal) = self.decided[at].filter(|_| codes[at] == 0) {
                answer.recorded.push(signal);
            }
            if let Some(words) = &words[at] {
                answer.words.push(format!("{}: {words}", UserId(self.steps.user[at])));
                if places.len() > 1 {
                    answer.suspects.extend(places);
                }
            }
        }
        Ok(answer)
    }

    /// The signals that it decides.
    pub(super) fn signals(&self) -> impl Iterator<Item = SignalId> {
        self.signals.id.iter().copied().map(SignalId)
    }

    /// Whether a turn of it decides a signal.
    pub(super) fn decides(&self) -> bool {
        self.decided.iter().any(Option::is_some)
    }

    fn put_into_waves(&mut self, records: &[TurnRecord], grouping: Grouping) -> Result<(), Unreadable> {
        // The newest step of each user: its wave, and its place among the steps.
        let mut newest: HashMap<UserId, (u32, usize)> = HashMap::new();
        let mut steps: Vec<(u32, UserId, Vec<usize>)> = Vec::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            let decides = decision_of(record)?.is_some();
            let wave = match newest.get(&record.user) {
                None => 1,
                Some((wave, step)) => {
                    let turns = &mut steps[*step].2;
                    if grouping == Grouping::Steps && !decides && follows(record, &records[turns[turns.len() - 1]]) {
                        turns.push(place);
                        continue;
                    }
                    wave + 1
                }
            };
            newest.insert(record.user, (wave, steps.len()));
            steps.push((wave, record.user, vec![place]));
        }
        steps.sort_unstable();
        for (at, (wave, _, places)) in steps.iter().enumerate() {
            if steps.get(at + 1).is_none_or(|(next, _, _)| next != wave) {
                self.wave_ends.push(i32::try_from(at + 1).unwrap_or(i32::MAX));
            }
            self.places.push(self.order.len()..self.order.len() + places.len());
            self.order.extend(places);
        }
        Ok(())
    }

    /// Gives every signal that is decided a place, sorted by id, so that their rows are locked in one order, too.
    fn gather_signals(
        &mut self,
        records: &[TurnRecord],
        recorded: &HashSet<SignalId>,
    ) -> Result<HashMap<SignalId, i32>, Unreadable> {
        let mut signals: BTreeMap<SignalId, Option<&SignalRecord>> = BTreeMap::new();
        for record in records {
            if let Some(decision) = decision_of(record)? {
                let carried = record.signal.as_deref().filter(|_| !recorded.contains(&decision.signal));
                let known = signals.entry(decision.signal).or_default();
                *known = known.or(carried);
            }
        }
        let mut places = HashMap::new();
        for (id, record) in signals {
            self.signals.push(id, record)?;
            places.insert(id, i32::try_from(self.signals.id.len()).unwrap_or(i32::MAX));
        }
        Ok(places)
    }

    fn push_decision(&mut self, record: &TurnRecord, places: &HashMap<SignalId, i32>) -> Result<(), Unreadable> {
        let decision = decision_of(record)?;
        self.decided.push(decision.map(|decision| decision.signal));
        let signal = decision.and_then(|decision| places.get(&decision.signal)).copied().unwrap_or(0);
        self.decisions.push(record, decision, signal)
    }

    fn push_snapshot(&mut self, step: i32, turns: &[&TurnRecord]) -> Result<(), Unreadable> {
        let (before, after) = (turns[0].base_version, &turns[turns.len() - 1].after);
        if snapshots::is_due(after.user, before, after.version) {
            self.snapshots.step.push(step);
            self.snapshots.account.push(to_json(&**after)?);
        }
        Ok(())
    }

    fn push_counts(&mut self, step: i32, turns: &[&TurnRecord]) {
        let mut changes: BTreeMap<_, i32> = BTreeMap::new();
        for (timeframe, change) in turns.iter().flat_map(|turn| &turn.turn.delta.counts) {
            *changes.entry(*timeframe).or_default() += change;
        }
        for (timeframe, change) in changes {
            self.counts.step.push(step);
            self.counts.timeframe.push(timeframe.to_string());
            self.counts.change.push(change);
        }
    }

    /// Of a thing that several turns of the step have touched, the last state is written.
    fn push_touched(&mut self, step: i32, turns: &[&TurnRecord]) -> Result<(), Unreadable> {
        let (mut orders, mut positions) = (Vec::new(), Vec::new());
        let mut set_limits = None;
        for turn in turns {
            let touched = Touched::by(&turn.turn.events, &turn.after);
            for (venue, fill) in touched.fills {
                self.fills.push(step, venue, fill);
            }
            for order in touched.orders {
                put(&mut orders, order, |known: &&Order| known.id == order.id);
            }
            for position in touched.positions {
                let decision = position.lot.decision;
                put(&mut positions, position, |known| known.lot.decision == decision);
            }
            set_limits = touched.limits.or(set_limits);
        }
        for order in orders {
            self.orders.push(step, order);
        }
        for position in positions {
            self.positions.push(step, &position);
        }
        if let Some(limits) = set_limits {
            self.limits.push(LimitsRow {
                step,
                version: to_column(limits.version)?,
                max_daily_loss: limits.max_daily_loss.steps(),
                max_risk_percent: limits.max_risk_percent.steps(),
                duplicate_window: window_us(limits),
                timeframes: serde_json::to_value(&limits.timeframes)?,
                limits: to_json(limits)?,
            });
        }
        Ok(())
    }
}

/// Whether a turn can be taken together with the one before it of its user: the next version, on the same day.
fn follows(record: &TurnRecord, before: &TurnRecord) -> bool {
    record.base_version == before.base_version + 1 && record.turn.delta.day == before.turn.delta.day
}

/// Puts something into a list, in the place of the same thing when that is there.
fn put<T>(list: &mut Vec<T>, thing: T, is_same: impl Fn(&T) -> bool) {
    match list.iter().position(is_same) {
        Some(at) => list[at] = thing,
        None => list.push(thing),
    }
}

/// What came back from a call.
#[derive(Default)]
pub(super) struct Answer {
    /// In the order of the batch.
    pub(super) verdicts: Vec<CommitVerdict>,
    /// Signals that are known to be recorded now.
    pub(super) recorded: Vec<SignalId>,
    /// What the tables said to steps that they refused.
    pub(super) words: Vec<String>,
    /// Turns of such steps that did not stand alone: which of them is to blame is not known.
    pub(super) suspects: Vec<usize>,
}

impl Steps {
    fn push(&mut self, turns: &[&TurnRecord]) -> Result<(), Unreadable> {
        let (first, last) = (turns[0], turns[turns.len() - 1]);
        let sum = |change: fn(&RiskDelta) -> Money| {
            turns.iter().fold(Money::ZERO, |sum, turn| sum.plus(change(&turn.turn.delta))).steps()
        };
        self.user.push(first.user.0);
        self.base.push(to_column(first.base_version)?);
        self.turns.push(i32::try_from(turns.len()).unwrap_or(i32::MAX));
        self.now.push(last.after.now.micros());
        self.day.push(first.turn.delta.day.0);
        self.realized.push(sum(|delta| delta.realized));
        self.open.push(sum(|delta| delta.open));
        self.reserved.push(sum(|delta| delta.reserved));
        self.business.push(last.after.has_open_business());
        Ok(())
    }
}

impl Events {
    fn push(&mut self, step: i32, record: &TurnRecord) -> Result<(), Unreadable> {
        self.step.push(step);
        self.version.push(to_column(record.base_version + 1)?);
        self.now.push(record.now.micros());
        self.input.push(to_json(&record.input)?);
        self.context.push(to_json(&record.context)?);
        self.events.push(to_json(&record.turn.events)?);
        Ok(())
    }
}

impl Decisions {
    fn push(&mut self, record: &TurnRecord, decision: Option<&Decision>, signal: i32) -> Result<(), Unreadable> {
        let acceptance: Option<&Acceptance> = match decision.map(|decision| &decision.verdict) {
            Some(Verdict::Accepted(acceptance)) => Some(acceptance),
            Some(Verdict::Rejected(_)) | None => None,
        };
        self.id.push(decision.map(|decision| decision.id.0));
        self.signal.push(signal);
        self.at.push(decision.map(|decision| decision.at.micros()));
        self.reasons.push(match decision.map(|decision| &decision.verdict) {
            Some(Verdict::Rejected(reasons)) => Some(to_json(reasons)?),
            Some(Verdict::Accepted(_)) | None => None,
        });
        self.awaited.push(decision.is_some_and(|decision| is_awaited(record, decision)));
        self.symbol.push(acceptance.map(|it| it.symbol.to_string()));
        self.side.push(acceptance.map(|it| it.side.as_str()));
        self.timeframe.push(acceptance.map(|it| it.timeframe.to_string()));
        self.kind.push(acceptance.map(|it| it.kind.as_str()));
        self.price.push(acceptance.and_then(|it| it.kind.price()).map(Price::steps));
        self.quantity.push(acceptance.map(|it| it.quantity.steps()));
        self.sized_at.push(acceptance.map(|it| it.sized_at.steps()));
        self.stop_loss.push(acceptance.map(|it| it.stop_loss.steps()));
        self.take_profit.push(acceptance.map(|it| it.take_profit.steps()));
        self.risk.push(acceptance.map(|it| it.risk.steps()));
        self.cap.push(acceptance.map(|it| it.cap.steps()));
        self.equity.push(acceptance.map(|it| it.equity.steps()));
        self.expires_at.push(acceptance.map(|it| it.expires_at.micros()));
        self.venue.push(acceptance.map(|it| clean(&it.venue).into_owned()));
        self.window.push(acceptance.map(|_| window_us(&record.after.limits)));
        Ok(())
    }
}

impl Signals {
    fn push(&mut self, id: SignalId, record: Option<&SignalRecord>) -> Result<(), Unreadable> {
        let signal = record.map(|record| &*record.signal);
        self.id.push(id.0);
        self.known.push(record.is_none());
        self.feed.push(signal.map(|it| it.feed.0));
        self.key.push(signal.map(|it| it.key.to_string()));
        self.symbol.push(signal.map(|it| it.symbol.to_string()));
        self.side.push(signal.map(|it| it.side.as_str()));
        self.timeframe.push(signal.map(|it| it.timeframe.to_string()));
        self.kind.push(signal.map(|it| it.kind.as_str()));
        self.entry_price.push(signal.and_then(|it| it.entry_price).map(Price::steps));
        self.stop_loss.push(signal.map(|it| it.stop_loss.steps()));
        self.take_profit.push(signal.map(|it| it.take_profit.steps()));
        self.issued_at.push(signal.map(|it| it.issued_at.micros()));
        self.received_at.push(record.map(|it| it.received_at.micros()));
        self.total.push(record.map(total));
        self.signal.push(signal.map(to_json).transpose()?);
        self.subscribers.push(record.map(|it| to_json(&*it.subscribers)).transpose()?);
        self.mark.push(record.and_then(|it| it.mark.as_ref()).map(to_json).transpose()?);
        Ok(())
    }
}

impl Fills {
    fn push(&mut self, step: i32, venue: &str, fill: &Fill) {
        self.step.push(step);
        self.venue.push(clean(venue).into_owned());
        self.execution.push(clean(&fill.execution).into_owned());
        self.order.push(fill.order.to_string());
        self.symbol.push(fill.symbol.to_string());
        self.side.push(fill.side.as_str());
        self.quantity.push(fill.quantity.steps());
        self.price.push(fill.price.steps());
        self.fee.push(fill.fee.steps());
        self.at.push(fill.at.micros());
        self.realized.push(fill.realized.steps());
    }
}

impl Orders {
    fn push(&mut self, step: i32, order: &Order) {
        self.step.push(step);
        self.id.push(order.id.to_string());
        self.decision.push(order.id.decision.0);
        self.purpose.push(order.purpose.as_str());
        self.symbol.push(order.symbol.to_string());
        self.side.push(order.side.as_str());
        self.kind.push(order.kind.as_str());
        self.price.push(order.kind.price().map(Price::steps));
        self.quantity.push(order.quantity.steps());
        self.filled.push(order.filled.steps());
        self.value.push(order.value.steps());
        self.fees.push(order.fees.steps());
        self.status.push(order.status.as_str());
        self.unknown.push(order.unknown);
        self.cancel.push(order.cancel_requested);
        self.venue.push(clean(&order.venue).into_owned());
        self.created_at.push(order.created_at.micros());
    }
}

impl Positions {
    fn push(&mut self, step: i32, position: &Position<'_>) {
        let Position { lot, opened_at, entry_price } = position;
        self.step.push(step);
        self.decision.push(lot.decision.0);
        self.symbol.push(lot.symbol.to_string());
        self.side.push(lot.side.as_str());
        self.quantity.push(lot.open.steps());
        self.entry_price.push(entry_price.steps());
        self.stop_loss.push(lot.protection.stop.steps());
        self.take_profit.push(lot.protection.target.steps());
        self.realized.push(lot.realized.steps());
        self.opened_at.push(opened_at.micros());
        self.closed_at.push(lot.closed_at.map(Timestamp::micros));
    }
}

/// Records a signal unless it is recorded already.
pub(super) fn record_signal(record: &SignalRecord, fence: Option<i64>) -> Result<Statement<'static>, Fault> {
    let signal = &record.signal;
    let sql = "SELECT record_signal($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    Ok(sqlx::query(sql)
        .bind(fence)
        .bind(signal.id.0)
        .bind(signal.feed.0)
        .bind(signal.key.to_string())
        .bind(signal.symbol.to_string())
        .bind(signal.side.as_str())
        .bind(signal.timeframe.to_string())
        .bind(signal.kind.as_str())
        .bind(signal.entry_price.map(Price::steps))
        .bind(signal.stop_loss.steps())
        .bind(signal.take_profit.steps())
        .bind(signal.issued_at.micros())
        .bind(record.received_at.micros())
        .bind(total(record))
        .bind(to_json(&**signal)?)
        .bind(to_json(&*record.subscribers)?)
        .bind(record.mark.as_ref().map(to_json).transpose()?))
}

/// How long an acceptance keeps its like away.
pub(super) fn window_us(limits: &Limits) -> i64 {
    i64::try_from(limits.duplicate_window.as_micros()).unwrap_or(i64::MAX)
}

/// The month of a time, as the partitions of `events` are called.
pub(super) fn month(micros: i64) -> Result<String, Unreadable> {
    let at = jiff::Timestamp::from_microsecond(micros).map_err(|error| Unreadable(error.to_string()))?;
    Ok(at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y_%m").to_string())
}

fn total(record: &SignalRecord) -> i64 {
    i64::try_from(record.subscribers.len()).unwrap_or(i64::MAX)
}
