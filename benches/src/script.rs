//! A day-by-day life of many accounts, written down so that it can be stepped again and again.
//!
//! Writing it steps real accounts: a toy venue answers their orders, a toy market touches their stops, and every input is kept
//! with its time and context. As a decision is a function of just these, stepping fresh accounts through the script gives
//! the same turns, which the measuring pass checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::Account;
use nexus_engine::gate::{Gate, TradingState};
use nexus_engine::ids::{DecisionId, Symbol, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{News, OrderRequest, Purpose, Report};
use nexus_engine::protection::{Condition, Watch};
use nexus_engine::signal::{OrderKind, Signal};
use nexus_engine::turn::{Context, Effect, Event, Input, Turn, Verdict};
use nexus_engine::units::{Money, Price, Quantity};

use crate::world::{Chance, Market, START, limits, user};

/// The market moves this often.
const SLOT: Duration = Duration::from_secs(600);
/// Slots in a day.
const SLOTS_PER_DAY: u32 = 144;
/// In so many of a hundred slots an account gets a signal.
const SIGNAL_PERCENT: u64 = 25;

/// What kind of step it was, told from what came of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A market entry was accepted.
    AcceptedMarket,
    /// A limit entry was accepted.
    AcceptedLimit,
    /// A signal was refused.
    Refused,
    /// An order was acknowledged, rejected or cancelled, or became unknown.
    OrderNews,
    /// An entry filled, wholly or in part.
    EntryFill,
    /// An exit filled.
    ExitFill,
    /// A look that moved the stop.
    StopMoved,
    /// A look that planned an exit or a cancel.
    ExitPlanned,
    /// A look that found nothing to do.
    NothingDue,
    /// The first step of a day, whatever it was.
    DayRoll,
}

impl Kind {
    /// All of them, in the order of the report.
    pub const ALL: [Kind; 10] = [
        Kind::AcceptedMarket,
        Kind::AcceptedLimit,
        Kind::Refused,
        Kind::OrderNews,
        Kind::EntryFill,
        Kind::ExitFill,
        Kind::StopMoved,
        Kind::ExitPlanned,
        Kind::NothingDue,
        Kind::DayRoll,
    ];

    /// Its name in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::AcceptedMarket => "accepted_market",
            Kind::AcceptedLimit => "accepted_limit",
            Kind::Refused => "refused",
            Kind::OrderNews => "order_news",
            Kind::EntryFill => "entry_fill",
            Kind::ExitFill => "exit_fill",
            Kind::StopMoved => "stop_moved",
            Kind::ExitPlanned => "exit_planned",
            Kind::NothingDue => "nothing_due",
            Kind::DayRoll => "day_roll",
        }
    }
}

/// One step of one account.
pub struct Step {
    /// Whose.
    pub account: usize,
    /// When.
    pub now: Timestamp,
    /// What.
    pub input: Input,
    /// In which world.
    pub context: Context,
    /// What came of it.
    pub kind: Kind,
}

/// The accounts as they begin, every step, and the accounts as they end.
pub struct Script {
    /// As they begin.
    pub begin: Vec<Account>,
    /// In order of time, so that neighbouring steps are of different accounts, as in life.
    pub steps: Vec<Step>,
    /// As they end.
    pub end: Vec<Account>,
    /// How often each reason refused a signal.
    pub refusals: BTreeMap<&'static str, u64>,
}

/// Writes the life of `accounts` accounts over `days` days.
pub fn write(accounts: usize, days: u32, seed: u64) -> Script {
    let mut writer = Writer::new(accounts, seed);
    for slot in 0..days * SLOTS_PER_DAY {
        writer.slot(START.after(SLOT * slot));
    }
    let end = writer.desks.into_iter().map(|desk| desk.account).collect();
    Script { begin: writer.begin, steps: writer.steps, end, refusals: writer.refusals }
}

/// An account, and what the world is about to tell it.
struct Desk {
    account: Account,
    /// Orders at the venue that have not ended.
    working: Vec<Working>,
    watches: BTreeMap<DecisionId, Watch>,
}

struct Working {
    order: OrderRequest,
    acknowledged: bool,
}

struct Writer {
    chance: Chance,
    markets: Vec<Market>,
    signals: u64,
    executions: u64,
    begin: Vec<Account>,
    desks: Vec<Desk>,
    steps: Vec<Step>,
    refusals: BTreeMap<&'static str, u64>,
}

impl Writer {
    fn new(accounts: usize, seed: u64) -> Self {
        let open = |n| Account::open(user(n), "USD".into(), Money::whole(10_000), limits());
        let begin: Vec<Account> = (0..accounts).map(open).collect();
        let desk = |account: &Account| Desk { account: account.clone(), working: vec![], watches: BTreeMap::new() };
        Self {
            chance: Chance::seeded(seed),
            markets: Market::all(),
            signals: 0,
            executions: 0,
            desks: begin.iter().map(desk).collect(),
            begin,
            steps: Vec::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// One move of the market, and what it means to everybody.
    fn slot(&mut self, now: Timestamp) {
        for market in &mut self.markets {
            market.walk(&mut self.chance);
        }
        let span = i64::try_from(SLOT.as_micros()).unwrap_or(i64::MAX) / 100;
        for n in 0..self.desks.len() {
            // Within a few seconds after the mark, so that it is still fresh.
            let offset = span * i64::try_from(n).unwrap_or(0) / i64::try_from(self.desks.len()).unwrap_or(1);
            let now = Timestamp::from_micros(now.micros() + offset);
            self.answer_orders(n, now);
            self.touch_stops(n, now);
            if self.chance.percent(SIGNAL_PERCENT) {
                self.send_signal(n, now);
            }
            self.answer_orders(n, now);
        }
    }

    /// The venue tells what became of the orders that it has.
    fn answer_orders(&mut self, n: usize, now: Timestamp) {
        for mut working in std::mem::take(&mut self.desks[n].working) {
            let news = self.news(&mut working, now);
            let (order, symbol) = (working.order.id, working.order.symbol.clone());
            if working.acknowledged {
                self.desks[n].working.push(working);
            }
            for news in news {
                let input = Input::Report(Report { order, at: now, news });
                self.step(n, now, input, self.context(&symbol, now));
            }
        }
    }

    /// What a venue says about one order. A limit order rests at first, and for half of the time after that.
    fn news(&mut self, working: &mut Working, now: Timestamp) -> Vec<News> {
        let order = &working.order;
        let chance = self.chance.below(100);
        let mark = self.mark(&order.symbol, now);
        if order.purpose == Purpose::Entry && !working.acknowledged && chance < 2 {
            return vec![News::Rejected { reason: "insufficient margin".into() }];
        }
        let mut news = match (working.acknowledged, chance) {
            (true, _) => vec![],
            (false, 2..4) => vec![News::Unknown, News::Acknowledged],
            (false, _) => vec![News::Acknowledged],
        };
        let price = match order.kind {
            OrderKind::Market => mark.taker(order.side),
            OrderKind::Limit(price) | OrderKind::Stop(price) if working.acknowledged && chance < 3 => price,
            OrderKind::Limit(_) | OrderKind::Stop(_) => {
                working.acknowledged = true;
                return news;
            }
        };
        let parts = if order.purpose == Purpose::Entry && chance.is_multiple_of(4) { 3 } else { 1 };
        news.extend(self.fills(&working.order.clone(), price, parts));
        working.acknowledged = false;
        news
    }

    /// The whole of an order in so many fills.
    fn fills(&mut self, order: &OrderRequest, price: Price, parts: i64) -> Vec<News> {
        let Some(market) = self.markets.iter().find(|market| *market.symbol() == order.symbol) else { return vec![] };
        let instrument = Arc::clone(&market.instrument);
        let lot = instrument.lot.steps();
        let part = (order.quantity.steps() / parts / lot * lot).max(lot);
        let mut rest = order.quantity.steps();
        let mut fills = Vec::new();
        while rest > 0 {
            let size = if i64::try_from(fills.len()).unwrap_or(parts) + 1 >= parts { rest } else { part.min(rest) };
            rest -= size;
            let quantity = Quantity::from_steps(size);
            self.executions += 1;
            fills.push(News::Filled {
                execution: format!("x{}", self.executions).into(),
                quantity,
                price,
                fee: quantity.value_up(price).percent_up(instrument.fee_percent),
            });
        }
        fills
    }

    /// The market looks at what the positions wait for.
    fn touch_stops(&mut self, n: usize, now: Timestamp) {
        let due: Vec<(DecisionId, Symbol)> = self.desks[n]
            .watches
            .values()
            .filter(|watch| is_due(watch, &self.mark(&watch.symbol, now), now))
            .map(|watch| (watch.decision, watch.symbol.clone()))
            .collect();
        for (decision, symbol) in due {
            self.step(n, now, Input::Look(decision), self.context(&symbol, now));
        }
    }

    /// A feed has an idea; now and then a bad one.
    fn send_signal(&mut self, n: usize, now: Timestamp) {
        self.signals += 1;
        let at = self.chance.below(self.markets.len());
        let market = self.markets[at].clone();
        let mut signal = market.signal(self.signals, now, &mut self.chance);
        let mut context = self.context(market.symbol(), now);
        self.spoil(&mut signal, &mut context);
        self.step(n, now, Input::Signal(Arc::new(signal)), context);
    }

    /// One signal in eight has something wrong with it, or comes at a wrong time.
    fn spoil(&mut self, signal: &mut Signal, context: &mut Context) {
        let double = |price: Price| Price::from_steps(price.steps() * 2);
        match self.chance.below(64) {
            0 => signal.issued_at = Timestamp::from_micros(signal.issued_at.micros() - 600_000_000),
            1 => signal.issued_at = signal.issued_at.after(Duration::from_secs(60)),
            2 => signal.take_profit = Price::from_steps(signal.take_profit.steps() + 1),
            3 => std::mem::swap(&mut signal.stop_loss, &mut signal.take_profit),
            4 => {
                signal.entry_price = signal.entry_price.map(double);
                (signal.stop_loss, signal.take_profit) = (double(signal.stop_loss), double(signal.take_profit));
            }
            5 => context.gate = Gate { state: TradingState::Halted, epoch: 2 },
            6 => context.subscribed = false,
            7 => (context.mark, context.instrument) = (None, None),
            _ => {}
        }
    }

    fn mark(&self, symbol: &Symbol, now: Timestamp) -> Mark {
        let market = self.markets.iter().find(|market| market.symbol() == symbol);
        market.unwrap_or(&self.markets[0]).mark(now)
    }

    fn context(&self, symbol: &Symbol, now: Timestamp) -> Context {
        let market = self.markets.iter().find(|market| market.symbol() == symbol);
        Context {
            gate: Gate { state: TradingState::Active, epoch: 1 },
            mark: Some(self.mark(symbol, now)),
            instrument: market.map(|market| Arc::clone(&market.instrument)),
            subscribed: true,
        }
    }

    /// Steps the account for real, and lets the world take note of the effects.
    fn step(&mut self, n: usize, now: Timestamp, input: Input, context: Context) {
        let desk = &mut self.desks[n];
        let day_before = desk.account.today.day;
        let turn = desk.account.step(now, &input, &context);
        let rolled = desk.account.today.day != day_before;
        for effect in &turn.effects {
            match effect {
                Effect::Submit(order) => desk.working.push(Working { order: order.clone(), acknowledged: false }),
                Effect::Watch(watch) if watch.conditions.is_empty() => {
                    desk.watches.remove(&watch.decision);
                }
                Effect::Watch(watch) => {
                    desk.watches.insert(watch.decision, watch.clone());
                }
                Effect::Cancel { .. } => {}
            }
        }
        self.note_refusals(&turn);
        let kind = if rolled { Kind::DayRoll } else { kind_of(&input, &turn) };
        self.steps.push(Step { account: n, now, input, context, kind });
        self.cancel(n, now, &turn);
    }

    /// The venue does as asked, and says so.
    fn cancel(&mut self, n: usize, now: Timestamp, turn: &Turn) {
        for effect in &turn.effects {
            if let Effect::Cancel { order, symbol, .. } = effect {
                self.desks[n].working.retain(|working| working.order.id != *order);
                let news = News::Cancelled { reason: "on request".into() };
                let input = Input::Report(Report { order: *order, at: now, news });
                self.step(n, now, input, self.context(symbol, now));
            }
        }
    }

    fn note_refusals(&mut self, turn: &Turn) {
        for event in &turn.events {
            if let Event::Decided(decision) = event
                && let Verdict::Rejected(refusals) = &decision.verdict
            {
                refusals.iter().for_each(|refusal| *self.refusals.entry(refusal.code()).or_insert(0) += 1);
            }
        }
    }
}

fn is_due(watch: &Watch, mark: &Mark, now: Timestamp) -> bool {
    watch.conditions.iter().any(|condition| match condition {
        Condition::BidAtMost(price) => mark.bid <= *price,
        Condition::BidAtLeast(price) => mark.bid >= *price,
        Condition::AskAtMost(price) => mark.ask <= *price,
        Condition::AskAtLeast(price) => mark.ask >= *price,
        Condition::TimeAtLeast(time) => now >= *time,
    })
}

fn kind_of(input: &Input, turn: &Turn) -> Kind {
    let planned = |event: &Event| matches!(event, Event::ExitPlanned { .. } | Event::CancelRequested(_));
    match input {
        Input::Report(Report { news: News::Filled { .. }, order, .. }) if order.is_entry() => Kind::EntryFill,
        Input::Report(Report { news: News::Filled { .. }, .. }) => Kind::ExitFill,
        Input::Report(_) => Kind::OrderNews,
        Input::Look(_) if turn.events.iter().any(planned) => Kind::ExitPlanned,
        Input::Look(_) if turn.events.is_empty() => Kind::NothingDue,
        Input::Look(_) => Kind::StopMoved,
        Input::Signal(signal) => {
            let accepted = turn.effects.iter().any(|effect| matches!(effect, Effect::Submit(_)));
            match (accepted, signal.kind) {
                (false, _) => Kind::Refused,
                (true, OrderKind::Market) => Kind::AcceptedMarket,
                (true, OrderKind::Limit(_) | OrderKind::Stop(_)) => Kind::AcceptedLimit,
            }
        }
        Input::Vetoed(_)
        | Input::CancelEntries
        | Input::CancelEntriesOf(_)
        | Input::Flatten(_)
        | Input::SetLimits(_)
        | Input::SetTrading(_)
        | Input::SetQuarantine(_) => Kind::OrderNews,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_every_kind_of_step_and_repeats_itself() {
        let script = write(8, 3, 1);
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::NothingDue) {
            assert!(script.steps.iter().any(|step| step.kind == kind), "no step is of kind {}", kind.name());
        }
        assert!(script.refusals.len() >= 10, "only these rules refuse: {:?}", script.refusals);
        let again = write(8, 3, 1);
        assert_eq!(script.end, again.end);
        assert_ne!(script.end, write(8, 3, 2).end);
    }
}
