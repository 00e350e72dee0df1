//! The book of the simulated exchange: pure, and the same for the same calls.
//!
//! It knows no clock, no file and no thread. Each call leaves [`Record`]s behind; the caller makes them durable and then
//! either settles them or takes them back, so that nothing is ever reported that a crash could undo. A market that takes
//! from the book trades at the far side of the mark, worse by the slippage; an order that waits for the market with a
//! limit trades at its limit. Matching walks the live orders of one symbol, oldest first: a mark costs as much as there
//! are orders waiting in its market.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use compact_str::CompactString;
use nexus_actors::ports::{CancelReply, SubmitReply, VenueOrder};
use nexus_engine::ids::{ClientOrderId, Symbol, Timestamp};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::order::{OrderRequest, Report};
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::{Percent, Price, Quantity};
use thiserror::Error;

use super::record::{Change, Record};
use super::settings::{Draw, PaperSettings};

/// A record that does not follow from those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Impossible {
    /// A client order id appears a second time.
    #[error("this client order id was used before")]
    UsedId,
    /// Something happens to an order that is not in the book or has ended.
    #[error("this order is not live")]
    NotLive,
    /// A fill has the wrong number.
    #[error("a fill is missing or repeated")]
    FillNumber,
    /// A fill is empty, or larger than what is left.
    #[error("a fill does not fit its order")]
    FillSize,
}

/// Every order that this exchange was ever asked for, and the market as it last saw it.
///
/// In memory: some 200 bytes for a live order and its terms; for an order that has ended only its id and its reports (about
/// 250 bytes when it filled in one piece), for ever, because ids are unique for ever. A million orders are 250 MB: far
/// more than a paper account sees.
#[derive(Debug)]
pub struct Book {
    settings: PaperSettings,
    instruments: HashMap<Symbol, Arc<Instrument>>,
    market: HashMap<Symbol, Mark>,
    orders: HashMap<ClientOrderId, Place>,
    /// By the order in which they came: the oldest trades first.
    live: BTreeMap<u64, Live>,
    waiting: HashMap<Symbol, BTreeSet<u64>>,
    next: u64,
    records: Vec<Record>,
    undo: Vec<Undo>,
}

/// Where an order is.
#[derive(Debug)]
enum Place {
    Live(u64),
    Ended(Box<[Report]>),
}

/// An order that can still trade.
#[derive(Clone, Debug)]
struct Live {
    id: ClientOrderId,
    symbol: Symbol,
    side: Side,
    kind: OrderKind,
    quantity: Quantity,
    filled: Quantity,
    fills: u32,
    triggered: bool,
    told: Vec<Report>,
}

/// How to take back one record.
#[derive(Debug)]
enum Undo {
    Forget(ClientOrderId),
    Restore(u64, Live),
}

/// How an order comes upon the market.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meeting {
    /// The order came to the market.
    Arriving,
    /// The market came to the order.
    Waiting,
}

impl Book {
    /// An empty book.
    pub fn new(instruments: &[Arc<Instrument>], settings: PaperSettings) -> Self {
        Self {
            settings,
            instruments: instruments.iter().map(|each| (each.symbol.clone(), Arc::clone(each))).collect(),
            market: HashMap::new(),
            orders: HashMap::new(),
            live: BTreeMap::new(),
            waiting: HashMap::new(),
            next: 0,
            records: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Takes an order, or refuses it; either way its id is used up. It may trade at once.
    pub fn submit(&mut self, order: &OrderRequest, now: Timestamp) -> SubmitReply {
        if self.orders.contains_key(&order.id) {
            return SubmitReply::DuplicateId;
        }
        if let Some(reason) = self.refusal(order) {
            let reason = CompactString::const_new(reason);
            self.record(order.id, now, Change::Refused { reason: reason.clone() });
            return SubmitReply::Rejected(reason);
        }
        let OrderRequest { symbol, side, kind, quantity, .. } = order.clone();
        let number = self.next;
        self.record(order.id, now, Change::Taken { symbol, side, kind, quantity });
        self.trade(number, Meeting::Arriving, now);
        match self.records.last() {
            Some(Record { change: Change::Filled { .. }, .. }) => SubmitReply::Traded,
            _ => SubmitReply::Acknowledged,
        }
    }

    /// Ends an order that can still trade.
    pub fn cancel(&mut self, order: ClientOrderId, now: Timestamp) -> CancelReply {
        if !matches!(self.orders.get(&order), Some(Place::Live(_))) {
            return CancelReply::NothingToCancel;
        }
        self.record(order, now, Change::Cancelled { reason: CompactString::const_new("cancelled on request") });
        CancelReply::Accepted
    }

    /// Takes a price, and trades every waiting order that it reaches. A mark older than the one known is ignored, and so
    /// is a market without an instrument; returns whether the mark was news.
    pub fn observe(&mut self, mark: &Mark) -> bool {
        if !self.note(mark) {
            return false;
        }
        self.trade_waiting(&mark.symbol, mark.at);
        true
    }

    /// Takes a price without trading at it.
    pub fn note(&mut self, mark: &Mark) -> bool {
        let is_late = self.market.get(&mark.symbol).is_some_and(|known| mark.at < known.at);
        if is_late || !self.instruments.contains_key(&mark.symbol) {
            return false;
        }
        self.market.insert(mark.symbol.clone(), mark.clone());
        true
    }

    /// Trades every waiting order that the market has reached already: for trades that had to be taken back.
    pub fn catch_up(&mut self) {
        let mut marks: Vec<(Symbol, Timestamp)> = self.market.values().map(|m| (m.symbol.clone(), m.at)).collect();
        marks.sort_unstable();
        for (symbol, at) in marks {
            self.trade_waiting(&symbol, at);
        }
    }

    /// Everything that was ever reported about an order; none when this exchange never had it.
    pub fn query(&self, order: ClientOrderId) -> Option<VenueOrder> {
        let reports = match self.orders.get(&order)? {
            Place::Live(number) => self.live.get(number)?.told.clone(),
            Place::Ended(reports) => reports.to_vec(),
        };
        Some(VenueOrder { id: order, reports })
    }

    /// Every order that can still trade, oldest first.
    pub fn working(&self) -> Vec<ClientOrderId> {
        self.live.values().map(|live| live.id).collect()
    }

    /// What has happened since the book was last settled or reverted, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What has happened is durable.
    pub fn settle(&mut self) {
        self.records.clear();
        self.undo.clear();
    }

    /// What has happened did not become durable: takes it all back. The market stays as it was seen.
    pub fn revert(&mut self) {
        self.records.clear();
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Forget(id) => {
                    if let Some(Place::Live(number)) = self.orders.remove(&id) {
                        self.remove_live(number);
                    }
                }
                Undo::Restore(number, live) => {
                    self.waiting.entry(live.symbol.clone()).or_default().insert(number);
                    self.orders.insert(live.id, Place::Live(number));
                    self.live.insert(number, live);
                }
            }
        }
    }

    /// Takes over a record of an earlier life.
    pub fn replay(&mut self, record: &Record) -> Result<(), Impossible> {
        self.apply(record)?;
        self.undo.clear();
        Ok(())
    }

    fn refusal(&self, order: &OrderRequest) -> Option<&'static str> {
        let Some(instrument) = self.instruments.get(&order.symbol) else {
            return Some("unknown symbol");
        };
        let lot = instrument.lot.steps().max(1);
        if order.quantity <= Quantity::ZERO || order.quantity.steps() % lot != 0 {
            return Some("the quantity is not a number of lots");
        }
        if order.kind.price().is_some_and(|price| price <= Price::ZERO || !price.is_multiple_of(instrument.tick)) {
            return Some("the price is not a number of ticks");
        }
        if order.kind == OrderKind::Market && !self.market.contains_key(&order.symbol) {
            return Some("no market");
        }
        if self.settings.hits(self.settings.rejection_percent, Draw::Rejection, order.id, 0) {
            return Some("rejected by the exchange");
        }
        None
    }

    fn trade_waiting(&mut self, symbol: &Symbol, now: Timestamp) {
        let Some(numbers) = self.waiting.get(symbol) else { return };
        let numbers: Vec<u64> = numbers.iter().copied().collect();
        for number in numbers {
            self.trade(number, Meeting::Waiting, now);
        }
    }

    /// Lets one order meet the market as it is, until nothing more happens at this mark.
    fn trade(&mut self, number: u64, meeting: Meeting, now: Timestamp) {
        while let Some(live) = self.live.get(&number) {
            let Some(change) = self.next_change(live, meeting) else { return };
            let at_rest = matches!(change, Change::Filled { .. }) && !self.split(live.id).is_some_and(|it| it.at_once);
            let id = live.id;
            self.record(id, now, change);
            if at_rest {
                return;
            }
        }
    }

    /// What the market as it is now does to an order.
    fn next_change(&self, live: &Live, meeting: Meeting) -> Option<Change> {
        let mark = self.market.get(&live.symbol)?;
        let instrument = self.instruments.get(&live.symbol)?;
        let taken = taker_price(mark, live.side, instrument.tick, self.settings.slippage_percent);
        let price = match live.kind {
            OrderKind::Market => taken,
            OrderKind::Stop(_) if live.triggered => taken,
            OrderKind::Stop(stop) => return passes(mark, live.side, stop).then_some(Change::Triggered),
            OrderKind::Limit(limit) if !reaches(mark, live.side, limit) => return None,
            OrderKind::Limit(limit) => match (meeting, live.side) {
                (Meeting::Waiting, _) => limit,
                (Meeting::Arriving, Side::Buy) => taken.min(limit),
                (Meeting::Arriving, Side::Sell) => taken.max(limit),
            },
        };
        let quantity = self.part(live, instrument.lot);
        let fee = quantity.value_up(price).percent_up(instrument.fee_percent);
        Some(Change::Filled { number: live.fills + 1, quantity, price, fee })
    }

    /// How much of an order trades next. Drawn from what is left, so that a plan need not be remembered.
    fn part(&self, live: &Live, lot: Quantity) -> Quantity {
        let left = live.quantity.minus(live.filled);
        let Some(split) = self.split(live.id) else { return left };
        let lot = lot.steps().unsigned_abs().max(1);
        let lots = left.steps().unsigned_abs() / lot;
        let parts_after = u64::from(split.parts.saturating_sub(live.fills + 1));
        if parts_after == 0 || lots < 2 {
            return left;
        }
        let lots_max = lots.saturating_sub(parts_after).max(1);
        let lots = 1 + self.settings.draw(Draw::PartSize, live.id, live.fills) % lots_max;
        Quantity::from_steps(i64::try_from(lots * lot).unwrap_or(i64::MAX)).at_most(left)
    }

    fn split(&self, id: ClientOrderId) -> Option<Split> {
        let settings = &self.settings;
        settings.hits(settings.partial_fill_percent, Draw::Split, id, 0).then(|| Split {
            parts: [2, 3, 4][usize::from(settings.draw(Draw::SplitParts, id, 0).to_le_bytes()[0]) % 3],
            at_once: settings.draw(Draw::SplitPace, id, 0).is_multiple_of(2),
        })
    }

    fn record(&mut self, order: ClientOrderId, now: Timestamp, change: Change) {
        // A mark may be older than the order that it meets; an order's own story never runs backwards.
        let at = self.last_told(order).map_or(now, |last| now.max(last));
        let record = Record { order, at, change };
        self.apply(&record).expect("the book records only what its own orders make possible");
        self.records.push(record);
    }

    fn last_told(&self, order: ClientOrderId) -> Option<Timestamp> {
        let Some(Place::Live(number)) = self.orders.get(&order) else { return None };
        self.live.get(number)?.told.last().map(|last| last.at)
    }

    /// The only mutator of orders, in life and in replay alike.
    fn apply(&mut self, record: &Record) -> Result<(), Impossible> {
        if record.is_first() {
            return self.apply_first(record);
        }
        let Some(Place::Live(number)) = self.orders.get(&record.order) else { return Err(Impossible::NotLive) };
        let number = *number;
        let live = self.live.get_mut(&number).ok_or(Impossible::NotLive)?;
        live.check(&record.change)?;
        self.undo.push(Undo::Restore(number, live.clone()));
        live.told.extend(record.report());
        let has_ended = match &record.change {
            Change::Filled { number, quantity, .. } => {
                live.fills = *number;
                live.filled = live.filled.plus(*quantity);
                live.filled == live.quantity
            }
            Change::Triggered => {
                live.triggered = true;
                false
            }
            Change::Cancelled { .. } => true,
            Change::Taken { .. } | Change::Refused { .. } => return Err(Impossible::UsedId),
        };
        if has_ended && let Some(ended) = self.remove_live(number) {
            self.orders.insert(ended.id, Place::Ended(ended.told.into_boxed_slice()));
        }
        Ok(())
    }

    fn apply_first(&mut self, record: &Record) -> Result<(), Impossible> {
        if self.orders.contains_key(&record.order) {
            return Err(Impossible::UsedId);
        }
        let told: Vec<Report> = record.report().into_iter().collect();
        let place = match &record.change {
            Change::Taken { symbol, side, kind, quantity } => {
                let live = Live {
                    id: record.order,
                    symbol: symbol.clone(),
                    side: *side,
                    kind: *kind,
                    quantity: *quantity,
                    filled: Quantity::ZERO,
                    fills: 0,
                    triggered: false,
                    told,
                };
                let number = self.next;
                self.next += 1;
                self.waiting.entry(symbol.clone()).or_default().insert(number);
                self.live.insert(number, live);
                Place::Live(number)
            }
            Change::Refused { .. } | Change::Triggered | Change::Filled { .. } | Change::Cancelled { .. } => {
                Place::Ended(told.into_boxed_slice())
            }
        };
        self.orders.insert(record.order, place);
        self.undo.push(Undo::Forget(record.order));
        Ok(())
    }

    fn remove_live(&mut self, number: u64) -> Option<Live> {
        let live = self.live.remove(&number)?;
        if let Some(numbers) = self.waiting.get_mut(&live.symbol) {
            numbers.remove(&number);
        }
        Some(live)
    }
}

impl Live {
    fn check(&self, change: &Change) -> Result<(), Impossible> {
        let Change::Filled { number, quantity, .. } = change else { return Ok(()) };
        if *number != self.fills + 1 {
            return Err(Impossible::FillNumber);
        }
        if *quantity <= Quantity::ZERO || *quantity > self.quantity.minus(self.filled) {
            return Err(Impossible::FillSize);
        }
        Ok(())
    }
}

/// The parts that an order fills in.
struct Split {
    parts: u32,
    at_once: bool,
}

/// What who takes from the market pays or gets: the far side of the mark, worse by the slippage, in whole ticks.
fn taker_price(mark: &Mark, side: Side, tick: Price, slippage: Percent) -> Price {
    let far = mark.taker(side);
    let slip = far.percent_up(slippage);
    match side {
        Side::Buy => far.plus(slip).ceil_to(tick),
        // Nothing is sold for nothing: a price has at least one tick.
        Side::Sell => far.minus(slip).or_zero().floor_to(tick).max(tick),
    }
}

/// Whether the market trades at a limit or better.
fn reaches(mark: &Mark, side: Side, limit: Price) -> bool {
    match side {
        Side::Buy => mark.ask <= limit,
        Side::Sell => mark.bid >= limit,
    }
}

/// Whether the market has traded through a stop.
fn passes(mark: &Mark, side: Side, stop: Price) -> bool {
    match side {
        Side::Buy => mark.ask >= stop,
        Side::Sell => mark.bid <= stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_engine::ids::DecisionId;
    use nexus_engine::order::{News, Purpose};
    use nexus_engine::units::Money;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    fn instrument() -> Arc<Instrument> {
        Arc::new(Instrument {
            symbol: "EURUSD".parse().unwrap(),
            tick: "0.0001".parse().unwrap(),
            lot: Quantity::whole(10),
            fee_percent: "0.1".parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        })
    }

    fn book(slippage_percent: &str) -> Book {
        let slippage_percent = slippage_percent.parse().unwrap();
        Book::new(&[instrument()], PaperSettings { slippage_percent, ..PaperSettings::default() })
    }

    fn mark(bid: &str, ask: &str, at: i64) -> Mark {
        let (bid, ask) = (bid.parse().unwrap(), ask.parse().unwrap());
        Mark { symbol: "EURUSD".parse().unwrap(), bid, ask, at: Timestamp::from_micros(at) }
    }

    fn order(n: u128, side: Side, kind: OrderKind, quantity: i64) -> OrderRequest {
        OrderRequest {
            id: ClientOrderId::entry(DecisionId(Uuid::from_u128(n))),
            purpose: Purpose::Entry,
            symbol: "EURUSD".parse().unwrap(),
            side,
            kind,
            quantity: Quantity::whole(quantity),
            venue: "paper".into(),
            send_before: None,
            ask_first: false,
        }
    }

    fn kind(text: &str) -> OrderKind {
        match text.split_once(' ') {
            None => OrderKind::Market,
            Some(("limit", price)) => OrderKind::Limit(price.parse().unwrap()),
            Some((_, price)) => OrderKind::Stop(price.parse().unwrap()),
        }
    }

    fn fills(book: &Book, order: ClientOrderId) -> Vec<(String, i64)> {
        let reports = book.query(order).unwrap().reports;
        let fills = reports.into_iter().filter_map(|report| match report.news {
            News::Filled { price, .. } => Some((price.to_string(), report.at.micros())),
            _ => None,
        });
        fills.collect()
    }

    #[test]
    fn an_order_trades_on_its_side_of_the_market() {
        let (first, second) = (("1.1000", "1.1002"), ("1.1010", "1.1012"));
        // What; slippage; filled at the first mark or at the second, and at what price.
        let table = [
            ("market", Side::Buy, "0", Some((1, "1.1002"))),
            ("market", Side::Sell, "0", Some((1, "1.1"))),
            ("market", Side::Buy, "0.01", Some((1, "1.1004"))),
            ("market", Side::Sell, "0.01", Some((1, "1.0998"))),
            ("limit 1.1005", Side::Buy, "0", Some((1, "1.1002"))),
            ("limit 1.1003", Side::Buy, "0.01", Some((1, "1.1003"))),
            ("limit 1.1001", Side::Buy, "0", None),
            ("limit 1.1005", Side::Sell, "0.01", Some((2, "1.1005"))),
            ("limit 1.0990", Side::Sell, "0", Some((1, "1.1"))),
            ("limit 1.1011", Side::Sell, "0", None),
            ("stop 1.1005", Side::Buy, "0", Some((2, "1.1012"))),
            ("stop 1.1002", Side::Buy, "0", Some((1, "1.1002"))),
            ("stop 1.1005", Side::Buy, "0.01", Some((2, "1.1014"))),
            ("stop 1.0999", Side::Sell, "0", None),
            ("stop 1.1000", Side::Sell, "0", Some((1, "1.1"))),
        ];
        for (text, side, slippage, expected) in table {
            let mut book = book(slippage);
            book.observe(&mark(first.0, first.1, 1));
            let order = order(1, side, kind(text), 10);
            let at_once = expected.is_some_and(|(at, _)| at == 1);
            let reply = if at_once { SubmitReply::Traded } else { SubmitReply::Acknowledged };
            assert_eq!(book.submit(&order, Timestamp::from_micros(1)), reply, "{side:?} {text} with {slippage} %");
            book.observe(&mark(second.0, second.1, 2));
            let expected: Vec<(String, i64)> = expected.iter().map(|(at, price)| (price.to_string(), *at)).collect();
            assert_eq!(fills(&book, order.id), expected, "{side:?} {text} with {slippage} %");
        }
    }

    #[test]
    fn what_cannot_be_traded_is_refused_and_its_id_is_used_up() {
        let good = order(1, Side::Buy, kind("limit 1.1"), 10);
        let table = [
            ("unknown symbol", OrderRequest { symbol: "GBPUSD".parse().unwrap(), ..good.clone() }),
            ("the quantity is not a number of lots", OrderRequest { quantity: Quantity::whole(15), ..good.clone() }),
            ("the quantity is not a number of lots", OrderRequest { quantity: Quantity::ZERO, ..good.clone() }),
            ("the price is not a number of ticks", OrderRequest { kind: kind("limit 1.10001"), ..good.clone() }),
            ("the price is not a number of ticks", OrderRequest { kind: kind("stop 0"), ..good.clone() }),
            ("no market", OrderRequest { kind: OrderKind::Market, ..good.clone() }),
        ];
        for (reason, wrong) in table {
            let mut book = book("0");
            assert_eq!(book.submit(&wrong, NOW), SubmitReply::Rejected(reason.into()));
            assert_eq!(book.submit(&good, NOW), SubmitReply::DuplicateId);
            let reports = book.query(good.id).unwrap().reports;
            assert!(matches!(&reports[..], [Report { news: News::Rejected { .. }, .. }]), "{reports:?}");
        }
    }

    #[test]
    fn a_fee_is_rounded_up_to_a_step() {
        let mut book = book("0");
        book.observe(&mark("0.9999", "1.0001", 1));
        let order = order(1, Side::Buy, OrderKind::Market, 10);
        book.submit(&order, NOW);
        let News::Filled { fee, .. } = &book.query(order.id).unwrap().reports[1].news else { panic!("no fill") };
        assert_eq!(*fee, Money::from_steps(1_000_100));
    }

    #[test]
    fn an_order_s_story_never_runs_backwards() {
        let mut book = book("0");
        let order = order(1, Side::Buy, kind("limit 1.1"), 10);
        book.submit(&order, NOW);
        book.observe(&mark("1.0998", "1.0999", 500));
        assert_eq!(fills(&book, order.id), [("1.1".to_owned(), NOW.micros())]);
        assert!(!book.observe(&mark("1.2", "1.2", 499)), "an older mark is no news");
    }

    #[test]
    fn a_triggered_stop_stays_a_market_order() {
        let settings = PaperSettings { partial_fill_percent: Percent::whole(100), ..PaperSettings::default() };
        // An order that fills one part a mark: the market turns back before its second part.
        let n = (0..100)
            .find(|n| {
                let id = order(*n, Side::Sell, OrderKind::Market, 100).id;
                Book::new(&[], settings.clone()).split(id).is_some_and(|split| !split.at_once && split.parts == 2)
            })
            .unwrap();
        let mut book = Book::new(&[instrument()], settings);
        let order = order(n, Side::Sell, kind("stop 1.1"), 100);
        book.submit(&order, NOW);
        book.observe(&mark("1.0999", "1.1", 2_000));
        assert_eq!(fills(&book, order.id).len(), 1);
        book.observe(&mark("1.2", "1.2001", 3_000));
        assert_eq!(fills(&book, order.id).last(), Some(&("1.2".to_owned(), 3_000)));
        assert_eq!(book.working(), []);
    }

    #[test]
    fn what_is_reverted_never_was() {
        let mut book = book("0");
        let (resting, taken) = (order(1, Side::Buy, kind("limit 1.1"), 10), order(2, Side::Buy, OrderKind::Market, 10));
        book.submit(&resting, NOW);
        book.settle();
        book.observe(&mark("1.0998", "1.0999", 2_000));
        book.submit(&taken, NOW);
        assert_eq!(book.working(), []);
        book.revert();
        assert_eq!(book.records(), []);
        assert_eq!(book.working(), [resting.id]);
        assert_eq!(book.query(resting.id).unwrap().reports.len(), 1);
        assert_eq!(book.query(taken.id), None);
        book.catch_up();
        assert_eq!(fills(&book, resting.id), [("1.1".to_owned(), 2_000)]);
    }
}
