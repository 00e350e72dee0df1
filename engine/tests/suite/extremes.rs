//! The largest and the smallest numbers that fit: no panic, no wrap-around, no admission above the cap.
//!
//! A price or a quantity arrives from outside, and its product with another may leave the range. Saturation must make a
//! risk look larger, never smaller. Figures at the end of the range are not compared with the model, which has no end.

use std::sync::Arc;
use std::time::Duration;

use nexus_engine::account::{Account, Context, Event, Input, Verdict};
use nexus_engine::gate::{Gate, TradingState};
use nexus_engine::ids::{ClientOrderId, FeedId, SignalId, Symbol, Timeframe, Timestamp};
use nexus_engine::instrument::{Instrument, Mark};
use nexus_engine::limits::Limits;
use nexus_engine::order::{News, Report};
use nexus_engine::signal::{OrderKind, ProtectionPlan, Side, Signal};
use nexus_engine::units::{Money, Multiple, Percent, Price, Quantity};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use uuid::Uuid;

use crate::check;
use crate::world::USER;

/// A number of steps anywhere in the range, most of them near its ends or near one.
fn steps() -> impl Strategy<Value = i64> {
    prop_oneof![1..10_i64, i64::MAX - 10..=i64::MAX, 1..i64::MAX, 50_000_000..200_000_000_i64, 1..1_000_000_000_000_i64]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![1 => Just(Duration::ZERO), 8 => Just(Duration::MAX), 1 => (0..200_u64).prop_map(Duration::from_secs)]
}

fn limits() -> impl Strategy<Value = Limits> {
    (vec(prop_oneof![steps(), Just(i64::MAX)], 7), vec(duration(), 5)).prop_map(|(numbers, durations)| Limits {
        version: 1,
        max_daily_loss: Money::from_steps(numbers[0]),
        max_risk_percent: Percent::from_steps(numbers[1]),
        timeframes: [(Timeframe::hours(3), u32::MAX)].into(),
        duplicate_window: durations[0].min(Duration::from_secs(1)),
        max_signal_age: durations[1],
        future_tolerance: durations[2],
        max_mark_age: durations[3],
        price_collar_percent: Percent::from_steps(numbers[2]),
        max_open_positions: u32::MAX,
        max_orders_per_minute: u32::MAX,
        max_order_value: Money::from_steps(numbers[3]),
        max_order_quantity: Quantity::from_steps(numbers[4]),
        max_exposure: Money::from_steps(numbers[5]),
        loss_streak: u32::MAX,
        loss_streak_cooldown: durations[4],
        max_repeated_executions: u32::MAX,
        slippage_allowance_percent: Percent::from_steps(numbers[6] % 1_000_000_000),
    })
}

/// Three prices in the order that a buy needs; tick and lot; fee; how a stop moves.
type Numbers = (Vec<i64>, i64, i64, i64, Vec<Option<i64>>);

fn numbers() -> impl Strategy<Value = Numbers> {
    let small = || prop_oneof![9 => 1..2_000_000_i64, 1 => steps()];
    let tick = prop_oneof![9 => Just(1), 1 => steps()];
    (vec(steps(), 3), tick, small(), small(), vec(proptest::option::of(steps()), 3))
}

fn signal(number: usize, long: bool, numbers: &Numbers) -> Signal {
    let mut prices = numbers.0.clone();
    prices.sort_unstable();
    let (stop, target) = if long { (prices[0], prices[2]) } else { (prices[2], prices[0]) };
    let feed = FeedId(Uuid::from_u128(1));
    let key = format!("{number}");
    Signal {
        id: SignalId::derive(feed, &key),
        feed,
        key: key.into(),
        symbol: "EDGE".parse().expect("a symbol"),
        side: if long { Side::Buy } else { Side::Sell },
        timeframe: Timeframe::hours(3),
        kind: OrderKind::Market,
        entry_price: None,
        stop_loss: Price::from_steps(stop),
        take_profit: Price::from_steps(target),
        protection: ProtectionPlan {
            breakeven_at: numbers.4[0].map(Multiple::from_steps),
            trail_distance: numbers.4[1].map(Price::from_steps),
            trail_after: numbers.4[2].map(Multiple::from_steps),
            max_hold: Some(Duration::MAX),
        },
        only_user: None,
        issued_at: Timestamp::ZERO,
        issued_at_given: true,
    }
}

fn context(numbers: &Numbers) -> Context {
    let mut prices = numbers.0.clone();
    prices.sort_unstable();
    let price = Price::from_steps(prices[1]);
    let symbol: Symbol = "EDGE".parse().expect("a symbol");
    Context {
        gate: Gate { state: TradingState::Active, epoch: 0 },
        mark: Some(Mark { symbol: symbol.clone(), bid: price, ask: price, at: Timestamp::ZERO }),
        instrument: Some(Arc::new(Instrument {
            symbol,
            tick: Price::from_steps(numbers.1),
            lot: Quantity::from_steps(numbers.2),
            fee_percent: Percent::from_steps(numbers.3),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        })),
        subscribed: true,
    }
}

#[test]
fn numbers_at_the_end_of_their_range_neither_panic_nor_pass_the_cap() {
    let time = prop_oneof![5 => Just(0), 1 => steps()];
    let trade = (numbers(), any::<bool>(), steps(), steps(), any::<i64>(), time);
    check(1_000, &(limits(), steps(), vec(trade, 1..6)), |(limits, equity, trades)| {
        let mut account = Account::open(USER, "USD".into(), Money::from_steps(equity), limits);
        for (number, (numbers, long, quantity, price, fee, at)) in trades.into_iter().enumerate() {
            let signal = signal(number, long, &numbers);
            let context = context(&numbers);
            let turn = account.step(Timestamp::ZERO, &Input::Signal(Arc::new(signal)), &context);
            let Some(Event::Decided(decision)) = turn.events.last() else {
                return Err(TestCaseError::fail("a signal was not decided"));
            };
            let Verdict::Accepted(acceptance) = &decision.verdict else { continue };
            let together = i128::from(acceptance.used_before.steps()) + i128::from(acceptance.risk.steps());
            prop_assert!(together <= acceptance.cap.steps().into(), "admitted above the cap");
            prop_assert!(acceptance.risk > Money::ZERO && !acceptance.quantity.is_zero());
            let traded = |order, execution: &str| {
                let (quantity, price, fee) =
                    (Quantity::from_steps(quantity), Price::from_steps(price), Money::from_steps(fee));
                let news = News::Filled { execution: execution.into(), quantity, price, fee };
                Input::Report(Report { order, at: Timestamp::ZERO, news })
            };
            let inputs = [
                traded(ClientOrderId::entry(decision.id), "x"),
                Input::Look(decision.id),
                traded(ClientOrderId::exit(decision.id, 1), "y"),
            ];
            for input in inputs {
                account.step(Timestamp::from_micros(at), &input, &context);
                prop_assert_eq!(account.check(), Ok(()));
            }
        }
        Ok(())
    });
}
