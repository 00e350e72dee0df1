//! An account and its model, driven side by side through one story and compared after every step.
//!
//! The world makes seeds concrete (which order, at what price, against which mark), gives the same happening to both
//! sides, and holds what the engine says against what the model expects. It also plays the ledger, by adding up the
//! deltas alone, and the trigger index, by remembering what each position waits for. Only plain data crosses over here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::{Account, Context, Decision, Event, Input, LedgerRisk, Turn, Verdict};
use nexus_engine::gate::{Gate, TradingState};
use nexus_engine::ids::{ClientOrderId, DecisionId, FeedId, Leg, SignalId, Symbol, Timeframe, Timestamp, UserId};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::order::{News, Report};
use nexus_engine::signal::{OrderKind, ProtectionPlan, Side, Signal};
use nexus_engine::units::{Money, Multiple, Percent, Price, Quantity};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;
use uuid::Uuid;

use crate::compare::{self, Shadow};
use crate::generate::{EntrySeed, Flaw, NewsSeed, Op, OthersSeed, ReportSeed, Setup, SignalSeed, Step};
use crate::model::{self, Micros, Model, SECOND, Steps, Trade, What};
use crate::others::Others;
use crate::verdict;
use crate::watching::Doing;

/// A step as it went in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What the ledger counted, when the account was loaded before it.
    pub loaded: Option<LedgerRisk>,
    pub now: Timestamp,
    pub input: Input,
    pub context: Context,
    pub turn: Turn,
}

/// How an instrument of the tests trades: name, tick, lot, fee, quote, enabled, first price in ticks, ticks in a step.
type Row = (&'static str, i64, i64, i64, &'static str, bool, i64, i64);

const INSTRUMENTS: [Row; 5] = [
    ("EURUSD", 1_000, 100_000_000, 200_000, "USD", true, 108_500, 10),
    ("BTCUSD", 1_000_000, 1_000, 10_000_000, "USD", true, 6_000_000, 1_000),
    ("ODDUSD", 30_000, 70_000, 3_333_333, "USD", true, 41_152, 7),
    ("OFFUSD", 1_000, 100_000_000, 200_000, "USD", false, 108_500, 10),
    ("INDEX/EUR", 1_000, 100_000_000, 200_000, "EUR", true, 108_500, 10),
];

/// The account, its model, and the market around them.
pub struct World {
    pub account: Account,
    pub model: Model,
    pub record: Vec<Recorded>,
    /// Refusals and kinds of events met so far.
    pub met: BTreeSet<String>,
    /// Whether a venue may close more than is open.
    pub lying_venue: bool,
    pub others: Others,
    pub shadow: Shadow,
    clock: Micros,
    gate: TradingState,
    /// Middle and half spread of each instrument, in ticks.
    markets: Vec<(i64, i64)>,
    seeds: Vec<SignalSeed>,
    keys: u32,
    executions: u32,
}

/// The user of all tests.
pub const USER: UserId = UserId(Uuid::from_u128(0xA11));
const FEED: FeedId = FeedId(Uuid::from_u128(0xFEED));

/// A decision by the number that the model knows it by.
pub fn decision(number: u128) -> DecisionId {
    DecisionId(Uuid::from_u128(number))
}

fn time(micros: Micros) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn narrow(steps: Steps) -> i64 {
    i64::try_from(steps).expect("the numbers of a story are small")
}

impl World {
    /// A new account that has traded nothing.
    pub fn new(setup: &Setup) -> World {
        let equity = Money::from_steps(setup.equity);
        let account = Account::open(USER, "USD".into(), equity, setup.limits.clone());
        World {
            others: Others::new(account.clone()),
            account,
            model: Model {
                starting: setup.equity.into(),
                currency: "USD".to_owned(),
                limits: plain_limits(&setup.limits),
                facts: Vec::new(),
            },
            record: Vec::new(),
            met: BTreeSet::new(),
            seeds: Vec::new(),
            lying_venue: false,
            clock: setup.start,
            gate: TradingState::Active,
            markets: INSTRUMENTS.iter().map(|row| (row.6, 1)).collect(),
            shadow: Shadow::default(),
            keys: 0,
            executions: 0,
        }
    }

    /// One step of a story.
    pub fn run(&mut self, step: &Step) -> TestCaseResult {
        self.clock += step.wait;
        match &step.op {
            Op::Signal(seed) => self.signal(seed),
            Op::Alike(index, hours) => match self.seeds.len() {
                0 => Ok(()),
                number => self.signal(&SignalSeed { hours: *hours, ..self.seeds[index.index(number)].clone() }),
            },
            Op::Again(index) => self.ask_again(*index),
            Op::Veto(seed) => self.veto(seed),
            Op::Report(seed) => self.report(seed),
            Op::Repeat(index) => self.repeat(*index),
            Op::Look(index) => self.look_at(*index),
            Op::LookAround => self.look_around(),
            Op::Move { symbol, ticks, spread, seen } => {
                let step = INSTRUMENTS[*symbol].7;
                let market = &mut self.markets[*symbol];
                *market = ((market.0 + ticks * step).max(100 * step), *spread);
                if *seen { self.look_around() } else { Ok(()) }
            }
            Op::CancelEntries => self.cancel_entries(),
            Op::Limits(limits) => self.set_limits(limits),
            Op::Trading(enabled) => self.set_trading(*enabled),
            Op::Quarantine(on) => self.set_quarantine(*on),
            Op::Gate(state) => {
                self.gate = *state;
                Ok(())
            }
            Op::Others(seed) => self.load_what_others_wrote(seed),
        }
    }

    /// Gives an input to the engine, checks what holds for every turn, and keeps the record.
    pub fn give(&mut self, input: Input, context: Context) -> Result<Turn, TestCaseError> {
        let now = time(self.clock);
        let before = self.account.clone();
        let turn = self.account.step(now, &input, &context);
        let mut twin = before.clone();
        prop_assert_eq!(&twin.step(now, &input, &context), &turn, "the same step of a clone gives another turn");
        prop_assert_eq!(&twin, &self.account, "the same step of a clone gives another account");
        compare::turn(&before, &self.account, &turn)?;
        self.shadow.add(&turn)?;
        self.shadow.agrees(&self.account)?;
        self.met.extend(turn.events.iter().map(kind));
        let mut heard = turn.clone();
        self.others.told(&self.account, &mut heard)?;
        self.record.push(Recorded { loaded: self.others.loaded.take(), now, input, context, turn });
        Ok(heard)
    }

    fn load_what_others_wrote(&mut self, seed: &OthersSeed) -> TestCaseResult {
        // Of what they have reserved, others may give back.
        let reserved = Steps::from(seed.reserved).max(-self.model.picture().others_reserved);
        let (net, timeframe) = (seed.net.into(), seed.hours.map(Timeframe::hours));
        self.account = self.others.write(&mut self.shadow, reserved, net, timeframe)?;
        self.model.note(0, What::Others { reserved, net, minutes: timeframe.map(minutes) });
        compare::figures(&self.account, &self.model)
    }

    /// Notes what happened, when anything was recorded, and compares all figures.
    fn note(&mut self, turn: &Turn, expected: Vec<What>) -> TestCaseResult {
        if turn.events.is_empty() {
            prop_assert!(expected.is_empty(), "nothing was recorded of {:?}", expected);
        } else {
            self.model.note(self.clock, What::Noticed);
        }
        for what in expected {
            self.model.note(self.clock, what);
        }
        compare::figures(&self.account, &self.model)
    }

    fn mark(&self, symbol: usize) -> Mark {
        let (middle, spread) = self.markets[symbol];
        let tick = INSTRUMENTS[symbol].1;
        let price = |ticks: i64| Price::from_steps(ticks * tick);
        Mark { symbol: name(symbol), bid: price(middle - spread), ask: price(middle + spread), at: time(self.clock) }
    }

    fn context(&self, symbol: usize) -> Context {
        Context {
            gate: Gate { state: self.gate, epoch: 1 },
            mark: Some(self.mark(symbol)),
            instrument: Some(Arc::new(instrument(symbol))),
            subscribed: true,
        }
    }

    fn signal(&mut self, seed: &SignalSeed) -> TestCaseResult {
        self.seeds.push(seed.clone());
        let (signal, context) = self.make_signal(seed);
        let expected = self.model.decide(self.clock, &plain_signal(&signal), &plain_context(&context));
        let turn = self.give(Input::Signal(Arc::new(signal.clone())), context)?;
        let decided = turn.events.iter().find_map(|event| match event {
            Event::Decided(decision) => Some(decision.clone()),
            _ => None,
        });
        let Some(Decision { id, at, verdict, .. }) = decided else {
            return Err(TestCaseError::fail("a signal was not decided"));
        };
        prop_assert_eq!(id.0, Uuid::new_v5(&signal.id.0, USER.0.as_bytes()), "the decision's id");
        prop_assert_eq!(at.micros(), self.clock.max(self.model.now()), "the decision's time");
        compare::verdict(&verdict, &expected, &turn)?;
        let noted = match expected {
            verdict::Verdict::Accepted(agreed) => vec![What::Accepted(id.0.as_u128(), agreed.terms)],
            verdict::Verdict::Refused(_) => Vec::new(),
        };
        self.note(&turn, noted)
    }

    /// A signal that was accepted is delivered again: there is one decision, and it stays.
    fn ask_again(&mut self, index: Index) -> TestCaseResult {
        let is_held = |step: &&Recorded| match &step.input {
            Input::Signal(signal) => self.account.lots.values().any(|lot| lot.signal == signal.id),
            _ => false,
        };
        let held: Vec<_> =
            self.record.iter().filter(is_held).map(|step| (step.input.clone(), step.context.clone())).collect();
        if held.is_empty() {
            return Ok(());
        }
        let (input, context) = held[index.index(held.len())].clone();
        let turn = self.give(input, context)?;
        prop_assert!(turn.events.is_empty() && turn.effects.is_empty(), "decided again: {:?}", turn);
        compare::figures(&self.account, &self.model)
    }

    fn veto(&mut self, seed: &SignalSeed) -> TestCaseResult {
        let (signal, context) = self.make_signal(seed);
        let turn = self.give(Input::Vetoed(Arc::new(signal)), context)?;
        let vetoed = turn.events.iter().any(|event| match event {
            Event::Decided(decision) => match &decision.verdict {
                Verdict::Rejected(reasons) => reasons.iter().any(|reason| reason.code() == "ledger_veto"),
                Verdict::Accepted(_) => false,
            },
            _ => false,
        });
        prop_assert!(vetoed && turn.effects.is_empty(), "{:?}", turn);
        self.note(&turn, Vec::new())
    }

    /// The number of the only lot.
    pub fn only_lot(&self) -> u128 {
        let lots: Vec<u128> = self.model.picture().lots.into_keys().collect();
        assert_eq!(lots.len(), 1, "the signal was accepted");
        lots[0]
    }

    /// A report of now.
    pub fn report_on(&self, order: ClientOrderId, news: News) -> Report {
        Report { order, at: time(self.clock), news }
    }

    /// A trade near the market under an execution id of its own.
    pub fn trade(&mut self, leg: usize, quantity: Steps, slip: i64, fee: i64) -> Report {
        let id = self.only_lot();
        let lot = self.model.picture().lots[&id].clone();
        let news = self.make_fill(&lot, leg, quantity, slip, fee).expect("something is traded");
        self.report_on(order(id, leg), news)
    }

    /// The orders that a report can be about: lot and leg, in a fixed order.
    fn orders(&self, live: bool) -> Vec<(u128, usize)> {
        let picture = self.model.picture();
        let mut orders = Vec::new();
        for (id, lot) in &picture.lots {
            if !self.account.lots.contains_key(&decision(*id)) {
                continue;
            }
            let legs = std::iter::once(&lot.entry).chain(&lot.exits).enumerate();
            orders.extend(legs.filter(|(_, leg)| !(live && leg.ended)).map(|(number, _)| (*id, number)));
        }
        orders
    }

    fn report(&mut self, seed: &ReportSeed) -> TestCaseResult {
        let orders = self.orders(seed.live);
        if orders.is_empty() {
            return Ok(());
        }
        let (lot, leg) = orders[seed.order.index(orders.len())];
        match self.make_news(lot, leg, &seed.news) {
            Some(news) => self.tell(Report { order: order(lot, leg), at: time(self.clock), news }),
            None => Ok(()),
        }
    }

    fn repeat(&mut self, index: Index) -> TestCaseResult {
        let reports: Vec<Report> = self
            .record
            .iter()
            .filter_map(|step| match &step.input {
                Input::Report(report) => Some(report.clone()),
                _ => None,
            })
            .collect();
        let known = |report: &Report| self.account.lots.contains_key(&report.order.decision);
        match reports.get(index.index(reports.len().max(1))) {
            Some(report) if known(report) => self.tell(report.clone()),
            _ => Ok(()),
        }
    }

    /// Tells both sides of a report.
    pub fn tell(&mut self, report: Report) -> TestCaseResult {
        let id = report.order.decision.0.as_u128();
        let picture = self.model.picture();
        let lot = &picture.lots[&id];
        let leg = match report.order.leg {
            Leg::Entry => 0,
            Leg::Exit(number) => usize::from(number),
        };
        let order = if leg == 0 { &lot.entry } else { &lot.exits[leg - 1] };
        let symbol = symbol_of(&lot.terms.symbol);
        let mut noted = Vec::new();
        match &report.news {
            News::Filled { execution, quantity, price, fee } if !lot.executions.contains(execution.as_str()) => {
                let execution = execution.to_string();
                let (quantity, price, fee) = (quantity.steps().into(), price.steps().into(), fee.steps().into());
                noted.push(What::Traded(id, Trade { leg, execution, quantity, price, fee }));
            }
            News::Acknowledged if !order.known && !order.ended => noted.push(What::Known(id, leg)),
            News::Rejected { .. } | News::Cancelled { .. } | News::Expired if !order.ended => {
                noted.push(What::Ended(id, leg));
            }
            News::NeverSent { .. } if !order.known && !order.ended => noted.push(What::Ended(id, leg)),
            _ => {}
        }
        let turn = self.give(Input::Report(report), self.context(symbol))?;
        compare::report(&turn, &noted)?;
        self.note(&turn, noted)
    }

    /// Tells the engine alone of a report.
    pub fn tell_only(&mut self, report: Report) -> Result<Turn, TestCaseError> {
        self.give(Input::Report(report), self.context(0))
    }

    fn look_at(&mut self, index: Index) -> TestCaseResult {
        let lots: Vec<u128> = self.model.picture().lots.into_keys().collect();
        if lots.is_empty() { Ok(()) } else { self.look(lots[index.index(lots.len())]) }
    }

    fn look_around(&mut self) -> TestCaseResult {
        let picture = self.model.picture();
        picture.lots.iter().filter(|(_, lot)| !lot.closed).try_for_each(|(id, _)| self.look(*id))
    }

    fn look(&mut self, id: u128) -> TestCaseResult {
        let picture = self.model.picture();
        let lot = &picture.lots[&id];
        let context = self.context(symbol_of(&lot.terms.symbol));
        let now = self.clock.max(self.model.now());
        let expected = lot.look(now, context.mark.as_ref().map(plain_mark));
        let mark = context.mark.clone();
        if !expected.is_empty() {
            let due = self.shadow.is_due(decision(id), now, mark.as_ref());
            prop_assert!(due, "nobody would have looked, and missed {:?}", expected);
        }
        let turn = self.give(Input::Look(decision(id)), context)?;
        if expected.is_empty() {
            let due = self.shadow.is_due(decision(id), now, mark.as_ref());
            prop_assert!(!due, "a look in vain asks for another at once");
        }
        compare::look(&turn, &expected)?;
        let noted = expected.into_iter().map(|doing| match doing {
            Doing::Exit(_, quantity) => What::Exit(id, quantity),
            Doing::Stop(to, kind) => What::Stop(id, to, kind),
            Doing::CancelEntry => What::CancelAsked(id),
        });
        self.note(&turn, noted.collect())
    }

    fn cancel_entries(&mut self) -> TestCaseResult {
        let picture = self.model.picture();
        let working = picture.lots.iter().filter(|(_, lot)| !lot.entry.ended && !lot.cancel_asked);
        let working: Vec<u128> = working.map(|(id, _)| *id).collect();
        let turn = self.give(Input::CancelEntries, self.context(0))?;
        let asked: Vec<ClientOrderId> = compare::cancelled(&turn);
        let expected: Vec<ClientOrderId> = working.iter().map(|id| order(*id, 0)).collect();
        prop_assert_eq!(asked, expected, "an emergency stop cancels every working entry");
        self.note(&turn, working.into_iter().map(What::CancelAsked).collect())
    }

    fn set_limits(&mut self, limits: &Limits) -> TestCaseResult {
        // Acceptances are remembered for an hour or for the window in force; a longer one set later cannot look back further.
        let remembered = self.account.limits.duplicate_window.max(Duration::from_secs(3_600));
        let duplicate_window = limits.duplicate_window.min(remembered);
        let version = self.account.limits.version + 1;
        let limits = Limits { version, duplicate_window, ..limits.clone() };
        let turn = self.give(Input::SetLimits(limits.clone()), self.context(0))?;
        prop_assert_eq!(&self.account.limits, &limits);
        self.note(&turn, vec![What::Limits(plain_limits(&limits))])
    }

    fn set_trading(&mut self, enabled: bool) -> TestCaseResult {
        let changes = self.model.picture().trading != enabled;
        let turn = self.give(Input::SetTrading(enabled), self.context(0))?;
        prop_assert_eq!(self.account.trading_enabled, enabled);
        self.note(&turn, changes.then_some(What::Trading(enabled)).into_iter().collect())
    }

    fn set_quarantine(&mut self, on: bool) -> TestCaseResult {
        let changes = self.model.picture().quarantined != on;
        let turn = self.give(Input::SetQuarantine(on), self.context(0))?;
        prop_assert_eq!(self.account.quarantined, on);
        self.note(&turn, changes.then_some(What::Quarantine(on)).into_iter().collect())
    }
}

/// Making seeds concrete.
impl World {
    fn make_signal(&mut self, seed: &SignalSeed) -> (Signal, Context) {
        self.keys += 1;
        let key = format!("s{}", self.keys);
        let row = INSTRUMENTS[seed.symbol];
        let (tick, step) = (row.1, row.7);
        let sign = if seed.long { 1 } else { -1 };
        let mut context = self.context(seed.symbol);
        let (middle, spread) = self.markets[seed.symbol];
        let taker = middle + sign * spread;
        let mut entry = match seed.entry {
            EntrySeed::Unsaid => None,
            EntrySeed::Expected(ticks) | EntrySeed::Limit(ticks) => Some(taker + ticks * step),
        };
        let mut stop = (taker - sign * seed.stop_ticks * step) * tick;
        let mut target = (taker + sign * seed.target_ticks * step) * tick;
        let mut issued_at = self.clock - seed.age;
        let (now, limits) = (self.clock.max(self.model.now()), &self.account.limits);
        match seed.flaw {
            None => {}
            Some(Flaw::Unsubscribed) => context.subscribed = false,
            Some(Flaw::UnknownInstrument) => context.instrument = None,
            Some(Flaw::OffTick) => stop += 1,
            Some(Flaw::WrongWay) => std::mem::swap(&mut stop, &mut target),
            Some(Flaw::NoMark) => context.mark = None,
            Some(Flaw::OldMark) => set_mark_time(&mut context, self.clock - 700 * SECOND),
            Some(Flaw::MarkAhead) => set_mark_time(&mut context, self.clock + 11 * SECOND),
            Some(Flaw::FarEntry) => {
                entry = Some(taker + sign * taker / 15);
                target = (taker + sign * taker / 10) * tick;
            }
            Some(Flaw::EndlessAge) => issued_at -= 400 * SECOND,
            Some(Flaw::Ahead) => issued_at = self.clock + 12 * SECOND,
            Some(Flaw::OldestSignal) => issued_at = now - micros(limits.max_signal_age),
            Some(Flaw::OldestMark) => set_mark_time(&mut context, now - micros(limits.max_mark_age)),
            Some(Flaw::MarkFurthestAhead) => set_mark_time(&mut context, now + micros(limits.future_tolerance)),
        }
        let entry_price = entry.map(|ticks| Price::from_steps(ticks * tick));
        let kind = match (&seed.entry, entry_price) {
            (EntrySeed::Limit(_), Some(price)) => OrderKind::Limit(price),
            _ => OrderKind::Market,
        };
        let signal = Signal {
            id: SignalId(Uuid::new_v5(&FEED.0, key.as_bytes())),
            feed: FEED,
            key: key.into(),
            symbol: name(seed.symbol),
            side: if seed.long { Side::Buy } else { Side::Sell },
            timeframe: Timeframe::hours(seed.hours),
            kind,
            entry_price,
            stop_loss: Price::from_steps(stop),
            take_profit: Price::from_steps(target),
            protection: ProtectionPlan {
                breakeven_at: seed.breakeven_at.map(Multiple::from_steps),
                trail_distance: seed.trail_ticks.map(|ticks| Price::from_steps(ticks * step * tick)),
                trail_after: seed.trail_after.map(Multiple::from_steps),
                max_hold: seed.hold_minutes.map(|minutes| Duration::from_secs(minutes * 60)),
            },
            only_user: None,
            issued_at: time(issued_at),
            issued_at_given: true,
        };
        (signal, context)
    }

    fn make_news(&mut self, lot: u128, number: usize, seed: &NewsSeed) -> Option<News> {
        let picture = self.model.picture();
        let lot = &picture.lots[&lot];
        let leg = if number == 0 { &lot.entry } else { &lot.exits[number - 1] };
        let reason = "of the venue's own".into();
        Some(match seed {
            NewsSeed::Acknowledged => News::Acknowledged,
            NewsSeed::Rejected => News::Rejected { reason },
            NewsSeed::Cancelled => News::Cancelled { reason },
            NewsSeed::Expired => News::Expired,
            NewsSeed::Unknown => News::Unknown,
            NewsSeed::NeverSent => News::NeverSent { reason },
            NewsSeed::Filled { share, slip, fee } => {
                let base = if leg.ended { leg.asked } else { leg.working() };
                let part = (base * Steps::from(*share) / 1000).max(1);
                self.make_fill(lot, number, part, *slip, *fee)?
            }
            NewsSeed::Ruinous => {
                let today = self.clock.max(self.model.now()).div_euclid(model::DAY);
                let left = picture.limits.cap + picture.net.get(&today).copied().unwrap_or(0);
                self.make_fill(lot, number, leg.working().max(1), 0, narrow(left))?
            }
            NewsSeed::Overfilled { excess } => {
                let much = (leg.asked - leg.traded).max(0) + Steps::from(*excess);
                self.make_fill(lot, number, much, 0, 0)?
            }
        })
    }

    /// A trade near the market. An honest venue closes no more than is open.
    fn make_fill(&mut self, lot: &model::Lot, leg: usize, wanted: Steps, slip: i64, fee: i64) -> Option<News> {
        let symbol = symbol_of(&lot.terms.symbol);
        let row = INSTRUMENTS[symbol];
        let quantity = if leg > 0 && !self.lying_venue { wanted.min(lot.open) } else { wanted };
        if quantity <= 0 {
            return None;
        }
        self.executions += 1;
        let buys = lot.terms.long == (leg == 0);
        let mark = self.mark(symbol);
        let taker = if buys { mark.ask } else { mark.bid };
        Some(News::Filled {
            execution: format!("x{}", self.executions).into(),
            quantity: Quantity::from_steps(narrow(quantity)),
            price: Price::from_steps((taker.steps() + slip * row.1 * row.7 / 1_000).max(1)),
            fee: Money::from_steps(fee),
        })
    }
}

/// What kind of event it was, for knowing what stories reach.
fn kind(event: &Event) -> String {
    let (name, detail) = match event {
        Event::Corrected(_) => ("corrected", ""),
        Event::Decided(decision) => match &decision.verdict {
            Verdict::Accepted(_) => ("accepted", ""),
            Verdict::Rejected(reasons) => ("refused", reasons[0].code()),
        },
        Event::Acknowledged(_) => ("acknowledged", ""),
        Event::Filled(fill) => ("filled", if fill.order.is_entry() { "entry" } else { "exit" }),
        Event::Ended { status, .. } => ("ended", status.as_str()),
        Event::Doubted(_) => ("doubted", ""),
        Event::ExitPlanned { purpose, .. } => ("exit", purpose.as_str()),
        Event::CancelRequested(_) => ("cancel_requested", ""),
        Event::StopMoved { kind, .. } => ("stop_moved", kind.as_str()),
        Event::Closed { realized, .. } => ("closed", if *realized < Money::ZERO { "at a loss" } else { "" }),
        Event::CooledDown { .. } => ("cooled_down", ""),
        Event::Unexplained(_) => ("unexplained", ""),
        Event::LimitsSet(_) => ("limits_set", ""),
        Event::TradingSet(_) => ("trading_set", ""),
        Event::QuarantineSet(_) => ("quarantine_set", ""),
    };
    format!("{name} {detail}").trim().to_owned()
}

fn set_mark_time(context: &mut Context, at: Micros) {
    if let Some(mark) = &mut context.mark {
        mark.at = time(at);
    }
}

/// The order of a lot: its entry at 0, its n-th exit at n.
pub fn order(lot: u128, leg: usize) -> ClientOrderId {
    match u16::try_from(leg) {
        Ok(0) => ClientOrderId { decision: decision(lot), leg: Leg::Entry },
        Ok(number) => ClientOrderId { decision: decision(lot), leg: Leg::Exit(number) },
        Err(_) => panic!("a story makes few exits"),
    }
}

fn name(symbol: usize) -> Symbol {
    INSTRUMENTS[symbol].0.parse().expect("the names are sound")
}

fn symbol_of(name: &str) -> usize {
    INSTRUMENTS.iter().position(|row| row.0 == name).expect("only these are traded")
}

fn instrument(symbol: usize) -> Instrument {
    let (_, tick, lot, fee, quote, enabled, _, _) = INSTRUMENTS[symbol];
    Instrument {
        symbol: name(symbol),
        tick: Price::from_steps(tick),
        lot: Quantity::from_steps(lot),
        fee_percent: Percent::from_steps(fee),
        quote: quote.into(),
        enabled,
        venue: "paper".into(),
    }
}

fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).expect("the durations of a story are short")
}

fn minutes(timeframe: Timeframe) -> i64 {
    micros(timeframe.duration()) / (60 * SECOND)
}

fn plain_limits(limits: &Limits) -> model::Limits {
    model::Limits {
        cap: limits.max_daily_loss.steps().into(),
        risk_percent: limits.max_risk_percent.steps().into(),
        timeframes: limits.timeframes.iter().map(|(timeframe, count)| (minutes(*timeframe), *count)).collect(),
        duplicate_window: micros(limits.duplicate_window),
        signal_age: micros(limits.max_signal_age),
        future_tolerance: micros(limits.future_tolerance),
        mark_age: micros(limits.max_mark_age),
        collar_percent: limits.price_collar_percent.steps().into(),
        open_positions: limits.max_open_positions,
        orders_per_minute: limits.max_orders_per_minute,
        order_value: limits.max_order_value.steps().into(),
        order_quantity: limits.max_order_quantity.steps().into(),
        exposure: limits.max_exposure.steps().into(),
        loss_streak: limits.loss_streak,
        cooldown: micros(limits.loss_streak_cooldown),
        repeated_executions: limits.max_repeated_executions,
        slippage_percent: limits.slippage_allowance_percent.steps().into(),
    }
}

fn plain_signal(signal: &Signal) -> verdict::Ask {
    let plan = &signal.protection;
    verdict::Ask {
        symbol: signal.symbol.to_string(),
        long: signal.side == Side::Buy,
        minutes: minutes(signal.timeframe),
        limit: matches!(signal.kind, OrderKind::Limit(_)),
        entry: signal.entry_price.map(|price| price.steps().into()),
        stop: signal.stop_loss.steps().into(),
        target: signal.take_profit.steps().into(),
        issued_at: signal.issued_at.micros(),
        plan: model::Plan {
            breakeven_at: plan.breakeven_at.map(|multiple| multiple.steps().into()),
            trail_distance: plan.trail_distance.map(|price| price.steps().into()),
            trail_after: plan.trail_after.map(|multiple| multiple.steps().into()),
            max_hold: plan.max_hold.map(micros),
        },
    }
}

fn plain_mark(mark: &Mark) -> verdict::Mark {
    verdict::Mark { bid: mark.bid.steps().into(), ask: mark.ask.steps().into(), at: mark.at.micros() }
}

fn plain_context(context: &Context) -> verdict::Seen {
    verdict::Seen {
        gate: match context.gate.state {
            TradingState::Active => verdict::Gate::Active,
            TradingState::Reducing => verdict::Gate::Reducing,
            TradingState::Halted => verdict::Gate::Halted,
        },
        subscribed: context.subscribed,
        instrument: context.instrument.as_deref().map(|instrument| verdict::Instrument {
            tick: instrument.tick.steps().into(),
            lot: instrument.lot.steps().into(),
            fee_percent: instrument.fee_percent.steps().into(),
            quote: instrument.quote.to_string(),
            enabled: instrument.enabled,
        }),
        mark: context.mark.as_ref().map(plain_mark),
    }
}
