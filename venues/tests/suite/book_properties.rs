//! Properties of the book under any calls in any order, with orders that fill in parts.

use std::collections::{HashMap, HashSet};

use nexus_engine::ids::{ClientOrderId, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::order::{News, OrderRequest};
use nexus_engine::signal::{OrderKind, Side};
use nexus_engine::units::{Money, Percent, Price, Quantity};
use nexus_venues::paper::{Book, Change, Impossible, PaperSettings, Record};
use proptest::prelude::*;

use crate::common::{instrument, order};

const IDS: u128 = 12;
/// Steps of one tick.
const TICK: i64 = 10_000;

#[derive(Clone, Debug)]
enum Call {
    Submit(OrderRequest),
    Cancel(ClientOrderId),
    Mark(Mark),
    /// What was done since the last one is durable.
    Settle,
    /// It is not.
    Revert,
}

fn price() -> impl Strategy<Value = Price> {
    (100..130_i64).prop_map(|ticks| Price::from_steps(ticks * TICK))
}

fn call() -> impl Strategy<Value = Call> {
    let side = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    let kind =
        prop_oneof![Just(OrderKind::Market), price().prop_map(OrderKind::Limit), price().prop_map(OrderKind::Stop)];
    let submit = (0..IDS, side, kind, 1..20_i64).prop_map(|(n, side, kind, lots)| {
        Call::Submit(OrderRequest { quantity: Quantity::whole(lots), ..order(n, side, kind) })
    });
    // Marks need not be whole ticks.
    let mark = (100 * TICK..130 * TICK, 0..3 * TICK, 0..1_000_i64).prop_map(|(bid, spread, at)| {
        let (bid, ask) = (Price::from_steps(bid), Price::from_steps(bid + spread));
        Call::Mark(Mark { symbol: instrument().symbol.clone(), bid, ask, at: Timestamp::from_micros(at) })
    });
    prop_oneof![
        4 => submit,
        1 => (0..IDS).prop_map(|n| Call::Cancel(order(n, Side::Buy, OrderKind::Market).id)),
        6 => mark,
        3 => Just(Call::Settle),
        1 => Just(Call::Revert),
    ]
}

fn settings() -> impl Strategy<Value = PaperSettings> {
    (any::<u64>(), 0..3_i64).prop_map(|(seed, slippage)| PaperSettings {
        seed,
        slippage_percent: Percent::from_steps(slippage * 10_000_000),
        partial_fill_percent: Percent::whole(60),
        rejection_percent: Percent::whole(10),
        ..PaperSettings::default()
    })
}

fn book(settings: &PaperSettings) -> Book {
    Book::new(&[instrument()], settings.clone())
}

fn submit(book: &mut Book, call: &Call, now: Timestamp) {
    match call {
        Call::Submit(order) => drop(book.submit(order, now)),
        Call::Cancel(id) => drop(book.cancel(*id, now)),
        Call::Mark(mark) => drop(book.observe(mark)),
        Call::Settle => book.settle(),
        Call::Revert => book.revert(),
    }
}

/// Runs the calls; returns the book, the records that were settled, and with each fill the mark that it met.
fn run(settings: &PaperSettings, calls: &[Call]) -> (Book, Vec<Record>) {
    let mut book = book(settings);
    let mut durable = Vec::new();
    let mut market: Option<Mark> = None;
    let mut orders: HashMap<ClientOrderId, OrderRequest> = HashMap::new();
    for (n, call) in calls.iter().enumerate() {
        let now = Timestamp::from_micros(i64::try_from(n).unwrap());
        let before = if matches!(call, Call::Settle | Call::Revert) { 0 } else { book.records().len() };
        if matches!(call, Call::Settle) {
            durable.extend_from_slice(book.records());
        }
        submit(&mut book, call, now);
        match call {
            Call::Mark(mark) if market.as_ref().is_none_or(|known| mark.at >= known.at) => market = Some(mark.clone()),
            Call::Submit(order) if book.records().iter().skip(before).any(Record::is_first) => {
                orders.insert(order.id, order.clone());
            }
            _ => {}
        }
        for record in &book.records()[before..] {
            if let Change::Filled { price, .. } = record.change {
                right_side(&orders[&record.order], market.as_ref().unwrap(), price);
            }
        }
    }
    durable.extend_from_slice(book.records());
    book.settle();
    (book, durable)
}

/// Never better than the market gives, never worse than the limit allows.
fn right_side(order: &OrderRequest, mark: &Mark, price: Price) {
    assert!(price.is_multiple_of(instrument().tick));
    match (order.kind, order.side) {
        (OrderKind::Limit(limit), Side::Buy) => assert!(mark.ask <= price && price <= limit),
        (OrderKind::Limit(limit), Side::Sell) => assert!(mark.bid >= price && price >= limit),
        (OrderKind::Market | OrderKind::Stop(_), Side::Buy) => assert!(price >= mark.ask),
        (OrderKind::Market | OrderKind::Stop(_), Side::Sell) => assert!(price <= mark.bid),
    }
}

fn check_stories(records: &[Record]) {
    let mut executions = HashSet::new();
    let mut left: HashMap<ClientOrderId, Quantity> = HashMap::new();
    let mut last: HashMap<ClientOrderId, Timestamp> = HashMap::new();
    for record in records {
        let before = last.insert(record.order, record.at);
        assert!(before.is_none_or(|before| before <= record.at), "an order's times run backwards");
        match &record.change {
            Change::Taken { quantity, .. } => {
                assert!(left.insert(record.order, *quantity).is_none(), "an id is taken twice");
            }
            Change::Refused { .. } => assert!(before.is_none(), "a known id is refused"),
            Change::Triggered => assert!(left.contains_key(&record.order)),
            Change::Filled { quantity, .. } => {
                let News::Filled { execution, .. } = record.report().unwrap().news else { unreachable!("a fill") };
                assert!(executions.insert(execution), "an execution id is used twice");
                let left = left.get_mut(&record.order).expect("only a live order fills");
                assert!(*quantity > Quantity::ZERO && *quantity <= *left, "more is filled than was asked for");
                *left = left.minus(*quantity);
            }
            Change::Cancelled { .. } => {
                assert!(left.remove(&record.order).is_some_and(|left| !left.is_zero()), "a dead order is cancelled");
            }
        }
    }
}

#[test]
fn a_record_that_does_not_follow_is_impossible() {
    let id = order(1, Side::Buy, OrderKind::Market).id;
    let record = |change| Record { order: id, at: Timestamp::ZERO, change };
    let (symbol, quantity) = (instrument().symbol.clone(), Quantity::whole(10));
    let taken = record(Change::Taken { symbol, side: Side::Buy, kind: OrderKind::Market, quantity });
    let fill = |number, lots| {
        let (price, fee) = (Price::whole(1), Money::ZERO);
        record(Change::Filled { number, quantity: Quantity::whole(lots), price, fee })
    };
    let cancelled = record(Change::Cancelled { reason: "asked".into() });
    let refused = record(Change::Refused { reason: "no".into() });
    let table: [(&[&Record], Impossible); 9] = [
        (&[&fill(1, 1)], Impossible::NotLive),
        (&[&cancelled], Impossible::NotLive),
        (&[&taken, &taken], Impossible::UsedId),
        (&[&taken, &refused], Impossible::UsedId),
        (&[&taken, &fill(1, 1), &fill(1, 1)], Impossible::FillNumber),
        (&[&taken, &fill(2, 1)], Impossible::FillNumber),
        (&[&taken, &fill(1, 4), &fill(2, 7)], Impossible::FillSize),
        (&[&taken, &fill(1, 0)], Impossible::FillSize),
        (&[&taken, &fill(1, 10), &cancelled], Impossible::NotLive),
    ];
    for (records, expected) in table {
        let mut book = book(&PaperSettings::default());
        let (last, before) = records.split_last().unwrap();
        for record in before {
            book.replay(record).unwrap();
        }
        assert_eq!(book.replay(last), Err(expected), "{records:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_order_has_a_possible_story(settings in settings(), calls in prop::collection::vec(call(), 1..80)) {
        let (_, records) = run(&settings, &calls);
        check_stories(&records);
    }

    #[test]
    fn a_journal_played_back_is_the_same_book(
        settings in settings(),
        calls in prop::collection::vec(call(), 1..80),
        more in prop::collection::vec(call(), 1..20),
    ) {
        let (mut one, records) = run(&settings, &calls);
        let mut other = book(&settings);
        for record in &records {
            other.replay(record).unwrap();
        }
        prop_assert_eq!(one.working(), other.working());
        for n in 0..IDS {
            let id = order(n, Side::Buy, OrderKind::Market).id;
            prop_assert_eq!(one.query(id), other.query(id));
        }
        // And it goes on in the same way, once both have seen a mark.
        let mark = Call::Mark(Mark {
            symbol: instrument().symbol.clone(),
            bid: Price::from_steps(115 * TICK),
            ask: Price::from_steps(116 * TICK),
            at: Timestamp::from_micros(1_000),
        });
        for call in std::iter::once(&mark).chain(&more) {
            submit(&mut one, call, Timestamp::from_micros(1_000));
            submit(&mut other, call, Timestamp::from_micros(1_000));
            prop_assert_eq!(one.records(), other.records());
        }
    }
}
