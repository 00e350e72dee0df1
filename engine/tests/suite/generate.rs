//! What may happen to an account, drawn at random and made to shrink well.
//!
//! A story is a list of small seeds (a signal, a report, a look at the market, a wait). Seeds name orders and lots only
//! by position, so that dropping one from a failing story leaves the others meaningful; the world makes them concrete.
//! Most of what is drawn is sound, so that stories go deep; a flaw here and there asks every rule its question.

use std::time::Duration;

use nexus_engine::gate::TradingState;
use nexus_engine::ids::Timeframe;
use nexus_engine::limits::Limits;
use nexus_engine::units::{Money, Percent, Quantity};
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::model::{HOUR, Micros, ONE, SECOND};

/// How an account begins.
#[derive(Clone, Debug)]
pub struct Setup {
    pub limits: Limits,
    pub equity: i64,
    pub start: Micros,
}

/// A wait, and what happens then.
#[derive(Clone, Debug)]
pub struct Step {
    pub wait: Micros,
    pub op: Op,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Op {
    Signal(SignalSeed),
    /// A new signal that says what an earlier one said, from bars of another timeframe.
    Alike(Index, u32),
    /// A signal that was accepted is delivered again.
    Again(Index),
    Veto(SignalSeed),
    Report(ReportSeed),
    /// An earlier report arrives again.
    Repeat(Index),
    Look(Index),
    /// Every lot is looked at.
    LookAround,
    Move {
        symbol: usize,
        ticks: i64,
        spread: i64,
        /// Whether everybody looks at once.
        seen: bool,
    },
    CancelEntries,
    Limits(Box<Limits>),
    Trading(bool),
    Quarantine(bool),
    Gate(TradingState),
    /// Somebody else writes into the ledger's counters, and the account is loaded.
    Others(OthersSeed),
}

/// What somebody else writes.
#[derive(Clone, Debug)]
pub struct OthersSeed {
    /// Risk that is reserved, or of what others have reserved given back.
    pub reserved: i64,
    /// Profit or loss of the account's day.
    pub net: i64,
    /// An acceptance of bars of so many hours.
    pub hours: Option<u32>,
}

/// A signal, in distances from the market.
#[derive(Clone, Debug)]
pub struct SignalSeed {
    pub symbol: usize,
    pub long: bool,
    pub hours: u32,
    pub entry: EntrySeed,
    pub stop_ticks: i64,
    pub target_ticks: i64,
    pub age: Micros,
    pub breakeven_at: Option<i64>,
    pub trail_ticks: Option<i64>,
    pub trail_after: Option<i64>,
    pub hold_minutes: Option<u64>,
    pub flaw: Option<Flaw>,
}

/// How the entry price is given, in ticks from the taker's price.
#[derive(Clone, Debug)]
pub enum EntrySeed {
    Unsaid,
    Expected(i64),
    Limit(i64),
}

/// What is wrong with a signal or with the world that it meets.
#[derive(Clone, Copy, Debug)]
pub enum Flaw {
    Unsubscribed,
    UnknownInstrument,
    OffTick,
    WrongWay,
    NoMark,
    OldMark,
    MarkAhead,
    FarEntry,
    EndlessAge,
    Ahead,
    /// Nothing: the signal, the mark are exactly as old or as far ahead as they may be.
    OldestSignal,
    OldestMark,
    MarkFurthestAhead,
}

/// A report about an order that was planned.
#[derive(Clone, Debug)]
pub struct ReportSeed {
    pub order: Index,
    /// Only orders that have not ended.
    pub live: bool,
    pub news: NewsSeed,
}

/// What the venue says.
#[derive(Clone, Debug)]
pub enum NewsSeed {
    Acknowledged,
    Filled {
        /// Thousandths of what is left of the order.
        share: i64,
        /// From the market, in fractions of a tick.
        slip: i64,
        fee: i64,
    },
    /// For a fee that takes exactly what is left of the day's cap.
    Ruinous,
    /// More than was asked for.
    Overfilled {
        excess: i64,
    },
    Rejected,
    Cancelled,
    Expired,
    Unknown,
    NeverSent,
}

/// Limits of every tightness; half of them loose, so that stories reach the later rules.
pub fn limits() -> impl Strategy<Value = Limits> {
    let money = |low: i64, high: i64| (low..=high).prop_map(|cents| Money::from_steps(cents * 1_000_003));
    let seconds = |options: Vec<u64>| select(options).prop_map(Duration::from_secs);
    let counts = vec(prop_oneof![1 => Just(0_u32), 6 => 1..5_u32, 3 => Just(50)], 3);
    let loss = (
        prop_oneof![money(100, 3_000), money(3_000, 100_000), money(500_000, 900_000)],
        prop_oneof![1 => 1..10_000_i64, 9 => 1..200_000_000_i64, 9 => 1_000_000..1_000_000_000_i64],
        counts,
        seconds(vec![0, 0, 30, 600, 3_600, 7_200]),
    );
    let time =
        (seconds(vec![5, 120, 300]), seconds(vec![0, 5, 10]), seconds(vec![5, 60, 600]), 10_000_000..ONE_I64 * 5);
    let orders = (
        prop_oneof![1 => 1..3_u32, 4 => 3..30_u32],
        prop_oneof![1 => 1..3_u32, 4 => 3..60_u32],
        prop_oneof![1 => money(1, 100_000), 4 => Just(Money::whole(50_000_000))],
        prop_oneof![1 => (1..100_000_i64).prop_map(Quantity::whole), 4 => Just(Quantity::whole(1_000_000_000))],
        prop_oneof![1 => money(1_000, 10_000_000), 4 => Just(Money::whole(200_000_000))],
    );
    let streaks =
        (1..4_u32, seconds(vec![0, 60, 3_600]), prop_oneof![1 => 1..3_u32, 2 => Just(100)], 0..10_000_000_i64);
    (loss, time, orders, streaks).prop_map(|(loss, time, orders, streaks)| Limits {
        version: 1,
        max_daily_loss: loss.0,
        max_risk_percent: Percent::from_steps(loss.1),
        timeframes: [3, 6, 9].map(Timeframe::hours).into_iter().zip(loss.2).collect(),
        duplicate_window: loss.3,
        max_signal_age: time.0,
        future_tolerance: time.1,
        max_mark_age: time.2,
        price_collar_percent: Percent::from_steps(time.3),
        max_open_positions: orders.0,
        max_orders_per_minute: orders.1,
        max_order_value: orders.2,
        max_order_quantity: orders.3,
        max_exposure: orders.4,
        loss_streak: streaks.0,
        loss_streak_cooldown: streaks.1,
        max_repeated_executions: streaks.2,
        slippage_allowance_percent: Percent::from_steps(streaks.3),
    })
}

const ONE_I64: i64 = 100_000_000;
const _: () = assert!(ONE_I64 as i128 == ONE);

/// How an account begins: at any time of a day, often shortly before midnight.
pub fn setup() -> impl Strategy<Value = Setup> {
    let day = 20_781 * 24 * HOUR;
    let start = prop_oneof![(0..24 * HOUR).prop_map(move |at| day + at), Just(day + 23 * HOUR + 50 * 60 * SECOND)];
    (limits(), prop_oneof![1_000..100_000_i64, 100_000..10_000_000_i64], start)
        .prop_map(|(limits, cents, start)| Setup { limits, equity: cents * 1_000_000 + 7, start })
}

/// An account with room for one large trade.
pub fn roomy() -> Setup {
    let limits = Limits {
        max_daily_loss: Money::whole(1_000),
        max_order_value: Money::whole(100_000_000),
        max_order_quantity: Quantity::whole(100_000_000),
        max_exposure: Money::whole(100_000_000),
        ..Limits::default()
    };
    Setup { limits, equity: 50_000 * ONE_I64, start: 20_781 * 24 * HOUR }
}

/// A signal that such an account accepts: from whatever market and side, at whatever distance.
pub fn sound_signal() -> impl Strategy<Value = SignalSeed> {
    (signal(), select(vec![3, 6, 9]), 0..3_usize).prop_map(|(seed, hours, symbol)| SignalSeed {
        symbol,
        hours,
        entry: EntrySeed::Unsaid,
        age: 0,
        flaw: None,
        ..seed
    })
}

/// A signal, mostly sound.
pub fn signal() -> impl Strategy<Value = SignalSeed> {
    let entry = prop_oneof![
        2 => Just(EntrySeed::Unsaid),
        2 => (-4..5_i64).prop_map(EntrySeed::Expected),
        2 => (-4..5_i64).prop_map(EntrySeed::Limit),
    ];
    let flaw = select(vec![
        Flaw::Unsubscribed,
        Flaw::UnknownInstrument,
        Flaw::OffTick,
        Flaw::WrongWay,
        Flaw::NoMark,
        Flaw::OldMark,
        Flaw::MarkAhead,
        Flaw::FarEntry,
        Flaw::EndlessAge,
        Flaw::Ahead,
        Flaw::OldestSignal,
        Flaw::OldestMark,
        Flaw::MarkFurthestAhead,
    ]);
    let market = (prop_oneof![12 => 0..3_usize, 1 => 3..5_usize], any::<bool>(), select(vec![3, 3, 6, 6, 9, 9, 12]));
    let prices = (entry, 5..60_i64, 5..90_i64, 0..4 * SECOND);
    let multiple = || 0..3 * ONE_I64;
    let plan = (
        weighted(0.5, prop_oneof![1..ONE_I64 / 2, 1..2 * ONE_I64]),
        weighted(0.3, 1..40_i64),
        weighted(0.5, multiple()),
        weighted(0.3, 1..600_u64),
        weighted(0.1, flaw),
    );
    (market, prices, plan).prop_map(|((symbol, long, hours), prices, plan)| SignalSeed {
        symbol,
        long,
        hours,
        entry: prices.0,
        stop_ticks: prices.1,
        target_ticks: prices.2,
        age: prices.3,
        breakeven_at: plan.0,
        trail_ticks: plan.1,
        trail_after: plan.1.and(plan.2),
        hold_minutes: plan.3,
        flaw: plan.4,
    })
}

/// A report, mostly of trades.
pub fn report() -> impl Strategy<Value = ReportSeed> {
    let fee = prop_oneof![2 => Just(0), 4 => 0..30_000_000_i64, 1 => -1_000_000..0_i64];
    let filled = |share: std::ops::RangeInclusive<i64>| {
        (share, -2_500..2_500_i64, fee.clone()).prop_map(|(share, slip, fee)| NewsSeed::Filled { share, slip, fee })
    };
    let news = prop_oneof![
        6 => filled(1000..=1000),
        4 => filled(1..=999),
        3 => Just(NewsSeed::Acknowledged),
        1 => (1..1_000_000_000_i64).prop_map(|excess| NewsSeed::Overfilled { excess }),
        1 => Just(NewsSeed::Ruinous),
        1 => Just(NewsSeed::Rejected),
        2 => Just(NewsSeed::Cancelled),
        1 => Just(NewsSeed::Expired),
        1 => Just(NewsSeed::Unknown),
        1 => Just(NewsSeed::NeverSent),
    ];
    (any::<Index>(), prop::bool::weighted(0.85), news).prop_map(|(order, live, news)| ReportSeed { order, live, news })
}

fn others() -> impl Strategy<Value = OthersSeed> {
    let amount = || prop_oneof![2 => Just(0), 2 => -300_000_000..300_000_000_i64];
    let hours = weighted(0.3, select(vec![3, 6, 9]));
    (amount(), amount(), hours).prop_map(|(reserved, net, hours)| OthersSeed { reserved, net, hours })
}

fn op() -> impl Strategy<Value = Op> {
    let state = select(vec![TradingState::Active, TradingState::Active, TradingState::Reducing, TradingState::Halted]);
    let symbol_move =
        (0..3_usize, prop_oneof![3 => -12..13_i64, 3 => -40..41_i64, 1 => -120..121_i64], 0..3_i64, any::<bool>())
            .prop_map(|(symbol, ticks, spread, seen)| Op::Move { symbol, ticks, spread, seen });
    prop_oneof![
        30 => signal().prop_map(Op::Signal),
        6 => (any::<Index>(), select(vec![3, 6, 9])).prop_map(|(index, hours)| Op::Alike(index, hours)),
        2 => any::<Index>().prop_map(Op::Again),
        1 => signal().prop_map(Op::Veto),
        40 => report().prop_map(Op::Report),
        5 => any::<Index>().prop_map(Op::Repeat),
        5 => any::<Index>().prop_map(Op::Look),
        15 => Just(Op::LookAround),
        20 => symbol_move,
        1 => Just(Op::CancelEntries),
        1 => limits().prop_map(|limits| Op::Limits(Box::new(limits))),
        1 => prop::bool::weighted(0.8).prop_map(Op::Trading),
        1 => prop::bool::weighted(0.2).prop_map(Op::Quarantine),
        1 => state.prop_map(Op::Gate),
        2 => others().prop_map(Op::Others),
    ]
}

/// A wait: mostly moments, sometimes hours, sometimes a clock that was set back.
fn wait() -> impl Strategy<Value = Micros> {
    prop_oneof![
        12 => 0..5 * SECOND,
        3 => 5 * SECOND..120 * SECOND,
        2 => 120 * SECOND..2 * HOUR,
        1 => select(vec![1, 30, 60, 600, 3_600, 7_200]).prop_map(|seconds| seconds * SECOND),
        1 => HOUR..14 * HOUR,
        1 => -10 * SECOND..0,
    ]
}

/// What happens to an account, in order.
pub fn story(length: usize) -> impl Strategy<Value = (Setup, Vec<Step>)> {
    (setup(), vec((wait(), op()).prop_map(|(wait, op)| Step { wait, op }), 1..length))
}
