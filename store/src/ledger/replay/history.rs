//! One user's history on its way: turn after turn is taken, and the rows that it wrote are met.
//!
//! Decisions, fills, orders and positions stand in the order in which turns wrote them, so they are read beside the turns,
//! page by page, and a row that is missing or that nobody wrote is met in its place. What is kept meanwhile is the account
//! and, of each of its lots, the rows that later turns may still write. Counters, limits and the account come at the end.
//!
//! Two things may differ until a correction explains them: an acceptance that others have typed into the ledger, and what
//! the ledger counted as used beyond what the account knew of. Without one, they are differences like any other.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nexus_engine::account::{Account, Context, Decision, Event, Input, LedgerRisk, Verdict};
use nexus_engine::ids::{ClientOrderId, DecisionId, Timeframe, Timestamp, UserId};
use nexus_engine::replay::{Counters, Replay};
use nexus_engine::signal::Signal;
use nexus_engine::units::Money;
use serde::de::DeserializeOwned;

use super::images::{Image, compare_json, int_of, missing, stray, text_of, title, window_us};
use super::lines::{Line, ROWS_A_PAGE};
use super::tables::{
    DAILY_COUNTS, DAILY_RISK, DECISIONS, DUPLICATE_WINDOW, Dialect, FILLS, ORDERS, POSITIONS, SIGNALS, Table, Value,
    canonical_account, canonical_events, is_user,
};
use super::{Correction, Difference, Reader, ReplayError, UserReplay, unreadable};
use crate::ledger::rows::{Unreadable, from_json, to_json};
use crate::ledger::touched::Touched;

/// What ends a replay early.
pub(super) enum Stop {
    Differs(Difference),
    Failed(ReplayError),
}

impl From<Difference> for Stop {
    fn from(difference: Difference) -> Self {
        Stop::Differs(difference)
    }
}

impl From<ReplayError> for Stop {
    fn from(error: ReplayError) -> Self {
        Stop::Failed(error)
    }
}

impl From<Unreadable> for Stop {
    fn from(error: Unreadable) -> Self {
        Stop::Failed(error.into())
    }
}

/// A turn as the ledger holds it.
struct Stored {
    version: u64,
    now: Timestamp,
    input: String,
    context: String,
    events: String,
}

/// A row that later turns may write again, as it must be by now and as it stands.
struct Met {
    expected: Image,
    found: Vec<Value>,
}

/// What the ledger counted beyond what the account knew of when it accepted.
struct Claim {
    difference: Difference,
    excess: Excess,
}

enum Excess {
    Used(Money),
    Count(Timeframe, i64),
}

/// What others have done to the ledger, as far as it has been told.
#[derive(Default)]
struct Others {
    /// Risk that corrections have added, all together.
    added: Money,
    claims: Vec<Claim>,
    /// Acceptances that no turn has made.
    accepted: Vec<Vec<Value>>,
}

pub(super) struct History<'a> {
    reader: &'a mut dyn Reader,
    dialect: Dialect,
    user: UserId,
    replay: Replay,
    replayed: &'a mut UserReplay,
    lines: [Line; 4],
    orders: BTreeMap<ClientOrderId, Met>,
    positions: BTreeMap<DecisionId, Met>,
    /// When each symbol, side and timeframe was last accepted, and for how long that keeps its like away.
    windows: BTreeMap<[String; 3], (Timestamp, i64)>,
    others: Others,
    /// The account as it was written whole, where that is not with every turn: after which one, and as what.
    snapshot: Option<(u64, String)>,
}

/// Places in `History::lines`.
const DECIDED: usize = 0;
const FILLED: usize = 1;
const ORDERED: usize = 2;
const HELD: usize = 3;

impl<'a> History<'a> {
    pub(super) async fn of(
        reader: &'a mut dyn Reader,
        user: UserId,
        replayed: &'a mut UserReplay,
    ) -> Result<History<'a>, Stop> {
        let dialect = reader.dialect();
        let what = "opened_accounts: account";
        let sql = format!("SELECT account FROM opened_accounts WHERE {}", is_user("opened_accounts", dialect));
        let found = reader.query(&sql, &[Value::Text(user.to_string())]).await?;
        let Some([Value::Text(text)]) = found.first().map(Vec::as_slice) else {
            return Err(missing(0, "opened_accounts").into());
        };
        let opened: Account = readable(0, what, text)?;
        let fresh = Account::open(user, opened.currency.clone(), opened.starting_equity, opened.limits.clone());
        compare_json(what, &to_json(&fresh)?, text, canonical_account, 0)?;
        let snapshot = snapshot_of(reader, user).await?;
        Ok(History {
            reader,
            dialect,
            user,
            replay: Replay::begin(opened),
            replayed,
            lines: [
                Line::of(&DECISIONS).with(&SIGNALS, "LEFT JOIN signals ON signals.id = decisions.signal_id"),
                Line::of(&FILLS),
                Line::of(&ORDERS),
                Line::of(&POSITIONS),
            ],
            orders: BTreeMap::new(),
            positions: BTreeMap::new(),
            windows: BTreeMap::new(),
            others: Others::default(),
            snapshot,
        })
    }

    /// Takes every turn; stops at the first difference.
    pub(super) async fn check(mut self, taken: &mut dyn FnMut()) -> Result<(), Stop> {
        let mut last = (0, 0);
        loop {
            let turns = self.turns_after(last).await?;
            let more = turns.len() == ROWS_A_PAGE;
            for stored in turns {
                last = (i64::try_from(stored.version).unwrap_or(i64::MAX), stored.now.micros());
                self.take(&stored).await?;
                taken();
            }
            if !more {
                return self.end().await;
            }
        }
    }

    async fn turns_after(&mut self, (version, now_us): (i64, i64)) -> Result<Vec<Stored>, Stop> {
        let after = match self.dialect {
            Dialect::Sqlite => "(?2, ?3)",
            Dialect::Postgres => "($2, $3)",
        };
        let sql = format!(
            "SELECT version, now_us, input, context, events FROM events
              WHERE {} AND (version, now_us) > {after} ORDER BY version, now_us LIMIT {ROWS_A_PAGE}",
            is_user("events", self.dialect)
        );
        let parameters = [Value::Text(self.user.to_string()), Value::Int(version), Value::Int(now_us)];
        let rows = self.reader.query(&sql, &parameters).await?;
        rows.into_iter().map(|row| stored(row).map_err(Stop::from)).collect()
    }

    async fn take(&mut self, stored: &Stored) -> Result<(), Stop> {
        let version = self.replay.account().version + 1;
        let what = format!("events {version}");
        if stored.version != version {
            return Err(missing(version, &what).into());
        }
        let input: Input = readable(version, &format!("{what}: input"), &stored.input)?;
        let context: Context = readable(version, &format!("{what}: context"), &stored.context)?;
        let events: Vec<Event> = readable(version, &format!("{what}: events"), &stored.events)?;
        if let Some(Event::Corrected(ledger)) = events.first() {
            self.correct(ledger, version);
        }
        let replay = &mut self.replay;
        // An altered turn may be one that no step has ever been asked to take.
        let stepped = catch_unwind(AssertUnwindSafe(|| replay.take(stored.now, &input, &context)));
        let Ok(turn) = stepped else {
            let (expected, found) = ("a panic".to_owned(), "there".to_owned());
            return Err(Difference { version, what, expected, found }.into());
        };
        compare_json(&format!("{what}: events"), &to_json(&turn.events)?, &stored.events, canonical_events, version)?;
        if turn.events.is_empty() {
            return Err(stray(version, what).into());
        }
        self.replayed.turns += 1;
        let counted = |timeframe: Timeframe| self.replay.counters().count(turn.delta.day, timeframe);
        for event in &turn.events {
            if let Event::Decided(decision) = event {
                // The turn has counted its own acceptance.
                let count_before = match &decision.verdict {
                    Verdict::Accepted(acceptance) => counted(acceptance.timeframe) - 1,
                    Verdict::Rejected(_) => 0,
                };
                self.decided(&input, decision, count_before, version).await?;
                break;
            }
        }
        self.touched(&turn.events, version).await?;
        self.check_snapshot(version)
    }

    /// The account as it was written whole after this turn.
    fn check_snapshot(&mut self, version: u64) -> Result<(), Stop> {
        let Some((_, text)) = self.snapshot.take_if(|(of, _)| *of == version) else { return Ok(()) };
        let expected = to_json(self.replay.account())?;
        Ok(compare_json("snapshots: account", &expected, &text, canonical_account, version)?)
    }

    /// A decision, the signal that it is about, and what an acceptance arms.
    async fn decided(
        &mut self,
        input: &Input,
        decision: &Decision,
        count_before: i64,
        version: u64,
    ) -> Result<(), Stop> {
        self.replayed.decisions += 1;
        let limits = &self.replay.account().limits;
        let window = window_us(limits);
        let image = Image::of_decision(decision, limits, count_before)?.spoken(self.dialect);
        let Some(row) = self.meet(DECIDED, &image, version).await? else { return Ok(()) };
        let (row, signal_row) = row.split_at(DECISIONS.columns.len());
        let timeframe = match &decision.verdict {
            Verdict::Accepted(acceptance) => {
                let alike = [
                    acceptance.symbol.to_string(),
                    acceptance.side.as_str().to_owned(),
                    acceptance.timeframe.to_string(),
                ];
                self.windows.insert(alike, (decision.at, window));
                Some(acceptance.timeframe)
            }
            Verdict::Rejected(_) => None,
        };
        let claims = &mut self.others.claims;
        image.compare(row, self.dialect, version, |column, expected, found| {
            let excess = match (column, timeframe) {
                ("used_before_e8", _) => Excess::Used(Money::from_steps(found.saturating_sub(expected))),
                ("count_before", Some(timeframe)) => Excess::Count(timeframe, found.saturating_sub(expected)),
                _ => return false,
            };
            let what = format!("{}: {column}", title(&DECISIONS, row));
            let difference = Difference { version, what, expected: expected.to_string(), found: found.to_string() };
            let may_be_explained = found > expected;
            if may_be_explained {
                claims.push(Claim { difference, excess });
            }
            may_be_explained
        })?;
        if let Input::Signal(signal) | Input::Vetoed(signal) = input {
            self.signalled(signal, signal_row, version)?;
        }
        self.forget_lots(version)
    }

    fn signalled(&self, signal: &Signal, row: &[Value], version: u64) -> Result<(), Stop> {
        let image = Image::of_signal(signal)?.spoken(self.dialect);
        if !image.is_named_as(row) {
            return Err(image.missing(version).into());
        }
        Ok(image.compare(row, self.dialect, version, |_, _, _| false)?)
    }

    /// The rows of fills, orders and positions that a turn has written.
    async fn touched(&mut self, events: &[Event], version: u64) -> Result<(), Stop> {
        let account = self.replay.account();
        let touched = Touched::by(events, account);
        let fills: Vec<Image> = touched.fills.iter().map(|(venue, fill)| Image::of_fill(venue, fill)).collect();
        let orders: Vec<_> = touched.orders.iter().map(|order| (order.id, Image::of_order(order))).collect();
        let positions: Vec<_> =
            touched.positions.iter().map(|held| (held.lot.decision, Image::of_position(held))).collect();
        for image in fills {
            let image = image.spoken(self.dialect);
            if let Some(row) = self.meet(FILLED, &image, version).await? {
                image.compare(&row, self.dialect, version, |_, _, _| false)?;
            }
        }
        for (id, image) in orders {
            let image = image.spoken(self.dialect);
            if let Some(met) = self.orders.get_mut(&id) {
                met.expected.update(&image);
            } else if let Some(found) = self.meet(ORDERED, &image, version).await? {
                self.orders.insert(id, Met { expected: image, found });
            }
        }
        for (id, image) in positions {
            if let Some(met) = self.positions.get_mut(&id) {
                met.expected.update(&image);
            } else if let Some(found) = self.meet(HELD, &image, version).await? {
                self.positions.insert(id, Met { expected: image, found });
            }
        }
        Ok(())
    }

    /// An acceptance forgets lots that ended long ago: nothing will write their rows any more.
    fn forget_lots(&mut self, version: u64) -> Result<(), Stop> {
        let lots = &self.replay.account().lots;
        let orders = self.orders.extract_if(.., |id, _| !lots.contains_key(&id.decision)).map(|(_, met)| met);
        let positions = self.positions.extract_if(.., |id, _| !lots.contains_key(id)).map(|(_, met)| met);
        for met in orders.chain(positions) {
            met.expected.compare(&met.found, self.dialect, version, |_, _, _| false)?;
        }
        Ok(())
    }

    /// The row that a turn has written, whose place is the next of its line. Nothing for a fill that was there before: a
    /// venue that gives two trades one name has one of them recorded.
    async fn meet(&mut self, line: usize, image: &Image, version: u64) -> Result<Option<Vec<Value>>, Stop> {
        loop {
            let next = self.lines[line].peek(self.reader, self.user).await?;
            if let Some((_, row)) = next
                && image.is_named_as(row)
            {
                return Ok(self.lines[line].take());
            }
            let here = next.map_or(i64::MAX, |(seq, _)| *seq);
            match self.place_of(image).await? {
                None => return Err(image.missing(version).into()),
                Some(place) if place < here && line == FILLED => return Ok(None),
                Some(place) if place < here => return Err(image.missing(version).into()),
                // The next one is somebody else's.
                Some(_) => self.set_aside(line, version)?,
            }
        }
    }

    /// The place of a row in its line, wherever it is.
    async fn place_of(&mut self, image: &Image) -> Result<Option<i64>, Stop> {
        let table = image.table;
        let names: Vec<String> = table.columns[..table.keys]
            .iter()
            .zip(2..)
            .map(|(column, n)| column.is_parameter(n, self.dialect))
            .collect();
        let user = is_user(table.name, self.dialect);
        let sql = format!("SELECT seq FROM {} WHERE {user} AND {}", table.name, names.join(" AND "));
        let user = Value::Text(self.user.to_string());
        let parameters: Vec<Value> = std::iter::once(user).chain(image.key().iter().cloned()).collect();
        let found = self.reader.query(&sql, &parameters).await?;
        Ok(match found.first().map(Vec::as_slice) {
            Some([Value::Int(seq)]) => Some(*seq),
            Some(_) | None => None,
        })
    }

    /// A row that no turn has written. Only an acceptance may have reasons to be there, and they are asked for at the end.
    fn set_aside(&mut self, line: usize, version: u64) -> Result<(), Stop> {
        let Some(row) = self.lines[line].take() else { return Ok(()) };
        let table = self.lines[line].table;
        if line == DECIDED && text_of(table, &row, "verdict") == Some("accepted") {
            self.others.accepted.push(row);
            return Ok(());
        }
        Err(stray(version, title(table, &row)).into())
    }

    /// The account is corrected where it was, and what the ledger has said since the last time may be explained by it.
    fn correct(&mut self, ledger: &LedgerRisk, version: u64) {
        let (before, counted) = (self.replay.account().clone(), self.replay.counters().clone());
        self.replay.correct(ledger);
        let (account, counters) = (self.replay.account(), self.replay.counters());
        let day = account.today.day;
        let held = |counters: &Counters| counters.open.plus(counters.reserved);
        let added = held(counters).minus(held(&counted)).or_zero();
        let net = |counters: &Counters| counters.days.get(&day).copied().unwrap_or_default();
        let lost = net(&counted).minus(net(counters)).or_zero();
        self.others.added = self.others.added.plus(added);
        self.others.claims.retain(|claim| match claim.excess {
            Excess::Used(excess) => excess > added.plus(lost),
            Excess::Count(timeframe, excess) => excess > counters.count(day, timeframe) - counted.count(day, timeframe),
        });
        self.replayed.corrections += 1;
        if self.replayed.correction.is_none() {
            self.replayed.correction = Some(Correction { version, what: corrected_in_words(&before, account) });
        }
    }

    /// After the last turn: no row more than the turns have written, the counters, and the account.
    async fn end(&mut self) -> Result<(), Stop> {
        let version = self.replay.account().version;
        for line in [DECIDED, FILLED, ORDERED, HELD] {
            while self.lines[line].peek(self.reader, self.user).await?.is_some() {
                self.set_aside(line, version)?;
            }
        }
        for met in self.orders.values().chain(self.positions.values()) {
            met.expected.compare(&met.found, self.dialect, version, |_, _, _| false)?;
        }
        if let Some((of, _)) = &self.snapshot {
            return Err(stray(version, format!("snapshots: version {of}")).into());
        }
        self.judge_others(version)?;
        self.check_counters(version).await?;
        let limits = Image::of_limits(&self.replay.account().limits)?;
        self.check_one(&limits, version).await?;
        let account = Image::of_account(self.replay.account(), self.replay.counters())?;
        self.check_one(&account, version).await
    }

    /// What others have accepted must have been told of, and what the ledger counted beyond the account, too.
    fn judge_others(&mut self, version: u64) -> Result<(), Stop> {
        let risk = |row: &Vec<Value>| int_of(&DECISIONS, row, "risk_e8").map(Money::from_steps).unwrap_or_default();
        let accepted = self.others.accepted.iter().fold(Money::ZERO, |sum, row| sum.plus(risk(row)));
        if let Some(row) = self.others.accepted.first().filter(|_| accepted > self.others.added) {
            return Err(stray(version, title(&DECISIONS, row)).into());
        }
        if self.others.claims.is_empty() {
            return Ok(());
        }
        Err(self.others.claims.swap_remove(0).difference.into())
    }

    /// Realised loss and acceptances by day, and the duplicate window.
    async fn check_counters(&mut self, version: u64) -> Result<(), Stop> {
        let counters = self.replay.counters();
        let days = counters.days.iter().map(|(day, realized)| Image::of_day(*day, *realized)).collect();
        let counts = counters.counts.iter();
        let counts = counts.map(|((day, frame), used)| Image::of_count(*day, &frame.to_string(), *used)).collect();
        let windows =
            self.windows.iter().map(|(alike, (last, window))| Image::of_window(alike, *last, *window)).collect();
        self.check_all(&DAILY_RISK, days, version).await?;
        self.check_all(&DAILY_COUNTS, counts, version).await?;
        self.check_all(&DUPLICATE_WINDOW, windows, version).await
    }

    /// All rows of a table of counters, by their names.
    async fn check_all(&mut self, table: &'static Table, images: Vec<Image>, version: u64) -> Result<(), Stop> {
        let rows = self.all_of(table).await?;
        let mut rows: BTreeMap<Vec<Value>, Vec<Value>> =
            rows.into_iter().map(|row| (row[..table.keys].to_vec(), row)).collect();
        for image in images {
            match rows.remove(image.key()) {
                Some(row) if self.is_armed_by_others(table, &row) => {}
                Some(row) => image.compare(&row, self.dialect, version, |_, _, _| false)?,
                None => return Err(image.missing(version).into()),
            }
        }
        match rows.into_values().find(|row| !self.is_armed_by_others(table, row)) {
            Some(row) => Err(stray(version, title(table, &row)).into()),
            None => Ok(()),
        }
    }

    /// Whether a row of the duplicate window is that of an acceptance of others.
    fn is_armed_by_others(&self, table: &Table, row: &[Value]) -> bool {
        table.name == DUPLICATE_WINDOW.name
            && self.others.accepted.iter().any(|accepted| {
                int_of(&DECISIONS, accepted, "at_us") == int_of(table, row, "last_accepted_us")
                    && ["symbol", "side", "timeframe"]
                        .into_iter()
                        .all(|column| text_of(&DECISIONS, accepted, column) == text_of(table, row, column))
            })
    }

    /// The user's one row in a table.
    async fn check_one(&mut self, image: &Image, version: u64) -> Result<(), Stop> {
        let rows = self.all_of(image.table).await?;
        let Some(row) = rows.first() else { return Err(image.missing(version).into()) };
        Ok(image.compare(row, self.dialect, version, |_, _, _| false)?)
    }

    async fn all_of(&mut self, table: &Table) -> Result<Vec<Vec<Value>>, Stop> {
        let columns = table.select(self.dialect);
        let sql = format!("SELECT {columns} FROM {} WHERE {}", table.name, is_user(table.name, self.dialect));
        Ok(self.reader.query(&sql, &[Value::Text(self.user.to_string())]).await?)
    }
}

async fn snapshot_of(reader: &mut dyn Reader, user: UserId) -> Result<Option<(u64, String)>, Stop> {
    match reader.dialect() {
        // It is in the row of the account.
        Dialect::Sqlite => return Ok(None),
        Dialect::Postgres => {}
    }
    let sql = "SELECT version, account FROM snapshots WHERE user_id = $1::uuid";
    let found = reader.query(sql, &[Value::Text(user.to_string())]).await?;
    match found.first().map(Vec::as_slice) {
        None => Ok(None),
        Some([Value::Int(version), Value::Text(account)]) => Ok(Some((version.unsigned_abs(), account.clone()))),
        Some(row) => Err(ReplayError(format!("{row:?} is not a snapshot")).into()),
    }
}

fn stored(row: Vec<Value>) -> Result<Stored, ReplayError> {
    match <[Value; 5]>::try_from(row) {
        Ok([Value::Int(version), Value::Int(now), Value::Text(input), Value::Text(context), Value::Text(events)]) => {
            Ok(Stored { version: version.unsigned_abs(), now: Timestamp::from_micros(now), input, context, events })
        }
        Ok(row) => Err(not_a_turn(&row)),
        Err(row) => Err(not_a_turn(&row)),
    }
}

fn not_a_turn(row: &[Value]) -> ReplayError {
    ReplayError(format!("{row:?} is not a turn"))
}

/// What cannot be read is not what a turn has written.
fn readable<T: DeserializeOwned>(version: u64, what: &str, text: &str) -> Result<T, Difference> {
    from_json(text).map_err(|error| unreadable(version, what, &error))
}

/// What a correction changed of an account.
fn corrected_in_words(before: &Account, after: &Account) -> String {
    let mut changes = Vec::new();
    let mut tell = |what: String, from: String, to: String| {
        if from != to {
            changes.push(format!("{what} {from} to {to}"));
        }
    };
    let (held, holds) = (before.unexplained_risk, after.unexplained_risk);
    tell("risk that no decision explains".to_owned(), held.to_string(), holds.to_string());
    tell("realised on the day".to_owned(), before.today.net.to_string(), after.today.net.to_string());
    let frames = before.today.timeframes.keys().chain(after.today.timeframes.keys());
    for frame in frames.collect::<std::collections::BTreeSet<_>>() {
        let used = |account: &Account| account.today.timeframes.get(frame).copied().unwrap_or(0).to_string();
        tell(format!("{frame} trades"), used(before), used(after));
    }
    changes.join(", ")
}
