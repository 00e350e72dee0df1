//! Every refusal as a row: a good case, one thing changed, the reason given.
//!
//! A refusal without a row fails the test, so a new rule cannot be added without showing what it refuses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::Refusal;
use crate::account::{Account, Recent, Today};
use crate::gate::{Gate, TradingState};
use crate::headroom::Headroom;
use crate::ids::{FeedId, SignalId, Timeframe, Timestamp, UserId};
use crate::instrument::{Instrument, Mark};
use crate::limits::Limits;
use crate::signal::{OrderKind, ProtectionPlan, Side, Signal};
use crate::turn::{Context, Event, Input, Turn, Verdict};
use crate::units::{Money, Price, Quantity};

/// Noon of some day.
const NOW: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

#[derive(Clone)]
struct World {
    now: Timestamp,
    account: Account,
    signal: Signal,
    context: Context,
}

impl World {
    /// Everything is right: 500.00 of equity, a 3H buy of EURUSD with a stop 20 pips away.
    fn good() -> World {
        let symbol: crate::ids::Symbol = "EURUSD".parse().unwrap();
        let instrument = Instrument {
            symbol: symbol.clone(),
            tick: price("0.00001"),
            lot: Quantity::whole(1),
            fee_percent: "0".parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        };
        let mark = Mark { symbol: symbol.clone(), bid: price("1.08495"), ask: price("1.08505"), at: NOW };
        World {
            now: NOW,
            account: Account::open(UserId(Uuid::from_u128(1)), "USD".into(), Money::whole(500), Limits::default()),
            signal: signal("a", symbol),
            context: Context {
                gate: Gate { state: TradingState::Active, epoch: 1 },
                mark: Some(mark),
                instrument: Some(Arc::new(instrument)),
                subscribed: true,
            },
        }
    }

    fn step(&mut self) -> Turn {
        let input = Input::Signal(Arc::new(self.signal.clone()));
        let turn = self.account.step(self.now, &input, &self.context);
        self.account.check().unwrap();
        turn
    }

    fn verdict(&mut self) -> Result<Quantity, Refusal> {
        match &self.step().events[..] {
            [Event::Decided(decision)] => match &decision.verdict {
                Verdict::Accepted(acceptance) => Ok(acceptance.quantity),
                Verdict::Rejected(reasons) => Err(reasons[0]),
            },
            other => panic!("not a decision: {other:?}"),
        }
    }

    /// Accepts the good signal, then turns to another of the same shape an hour later, with a mark of that time.
    fn after_an_acceptance(&mut self) {
        assert!(self.verdict().is_ok());
        self.signal = signal("b", self.signal.symbol.clone());
        self.pass(Duration::from_secs(3_600));
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.signal.issued_at = self.now;
        if let Some(mark) = &mut self.context.mark {
            mark.at = self.now;
        }
    }
}

fn signal(key: &str, symbol: crate::ids::Symbol) -> Signal {
    let feed = FeedId(Uuid::from_u128(2));
    Signal {
        id: SignalId::derive(feed, key),
        feed,
        key: key.into(),
        symbol,
        side: Side::Buy,
        timeframe: Timeframe::hours(3),
        kind: OrderKind::Market,
        entry_price: None,
        stop_loss: price("1.083"),
        take_profit: price("1.089"),
        protection: ProtectionPlan::default(),
        only_user: None,
        issued_at: NOW,
        issued_at_given: true,
    }
}

fn instrument(world: &mut World) -> &mut Instrument {
    Arc::make_mut(world.context.instrument.as_mut().unwrap())
}

type Change = fn(&mut World);

/// What refuses, and the smallest change that makes it.
fn table() -> Vec<(Refusal, Change)> {
    vec![
        (Refusal::TradingHalted, |w| w.context.gate.state = TradingState::Halted),
        (Refusal::ReducingOnly, |w| w.context.gate.state = TradingState::Reducing),
        (Refusal::UserDisabled, |w| w.account.trading_enabled = false),
        (Refusal::Quarantined, |w| w.account.quarantined = true),
        (Refusal::FeedNotSubscribed, |w| w.context.subscribed = false),
        (Refusal::StaleSignal, |w| w.now = NOW.after(Duration::from_micros(120_000_001))),
        (Refusal::FutureSignal, |w| w.signal.issued_at = NOW.after(Duration::from_micros(5_000_001))),
        (Refusal::DuplicateSignal, |w| {
            w.after_an_acceptance();
            w.now = Timestamp::from_micros(w.now.micros() - 1);
        }),
        (Refusal::UnknownInstrument, |w| w.context.instrument = None),
        (Refusal::InstrumentDisabled, |w| instrument(w).enabled = false),
        (Refusal::CurrencyMismatch, |w| instrument(w).quote = "EUR".into()),
        (Refusal::TickSize, |w| w.signal.stop_loss = price("1.083001")),
        (Refusal::TickSize, |w| w.signal.entry_price = Some(price("1.085001"))),
        (Refusal::StopGeometry, |w| w.signal.stop_loss = price("1.09")),
        (Refusal::StopGeometry, |w| w.signal.side = Side::Sell),
        (Refusal::StopGeometry, |w| w.signal.take_profit = price("1.08505")),
        (Refusal::StaleMarketData, |w| w.context.mark = None),
        (Refusal::StaleMarketData, |w| w.now = NOW.after(Duration::from_micros(60_000_001))),
        (Refusal::StaleMarketData, |w| {
            w.context.mark.as_mut().unwrap().at = NOW.after(Duration::from_micros(5_000_001));
        }),
        (Refusal::PriceCollar, |w| {
            (w.signal.entry_price, w.signal.take_profit) = (Some(price("1.10676")), price("1.2"));
        }),
        (Refusal::TimeframeLimit, |w| w.signal.timeframe = Timeframe::hours(1)),
        (Refusal::TimeframeLimit, World::after_an_acceptance),
        (Refusal::OpposingPosition, |w| {
            w.after_an_acceptance();
            (w.signal.side, w.signal.timeframe) = (Side::Sell, Timeframe::hours(6));
            (w.signal.stop_loss, w.signal.take_profit) = (price("1.087"), price("1.081"));
        }),
        (Refusal::OpenPositions, |w| {
            w.account.limits.max_open_positions = 1;
            w.after_an_acceptance();
            w.signal.timeframe = Timeframe::hours(6);
        }),
        (Refusal::Throttled, |w| {
            w.account.limits.max_orders_per_minute = 1;
            w.after_an_acceptance();
            w.signal.timeframe = Timeframe::hours(6);
            w.now = NOW.after(Duration::from_secs(59));
            (w.signal.issued_at, w.context.mark.as_mut().unwrap().at) = (w.now, w.now);
        }),
        (Refusal::LossStreak, |w| w.account.cooling_until = Some(NOW.after(Duration::from_micros(1)))),
        (Refusal::DayClosed, |w| {
            w.account.today = Today { day: NOW.day(), net: "-9.99".parse().unwrap(), ..Today::default() };
        }),
        (Refusal::DailyLossCap, |w| w.account.unexplained_risk = "9.99".parse().unwrap()),
        (Refusal::RiskPerTrade, |w| w.account.starting_equity = "0.1".parse().unwrap()),
        (Refusal::SizeBelowMinimum, |w| w.account.unexplained_risk = "9".parse().unwrap()),
        (Refusal::MaxOrderQuantity, |w| w.account.limits.max_order_quantity = Quantity::whole(100)),
        (Refusal::MaxOrderValue, |w| w.account.limits.max_order_value = Money::whole(100)),
        (Refusal::MaxExposure, |w| {
            w.account.limits.max_exposure = Money::whole(4_000);
            w.after_an_acceptance();
            w.signal.timeframe = Timeframe::hours(6);
        }),
        (Refusal::RepeatedExecution, |w| {
            w.account.limits.max_repeated_executions = 1;
            let quantity = World::good().verdict().unwrap();
            let timeframe = Timeframe::hours(6);
            let (symbol, side) = (w.signal.symbol.clone(), Side::Buy);
            w.account.recent.push_back(Recent { at: NOW, symbol, side, timeframe, quantity });
            w.account.now = NOW;
        }),
    ]
}

#[test]
fn every_rule_refuses_what_it_is_for() {
    assert!(World::good().verdict().is_ok());
    let mut covered = BTreeSet::from([Refusal::LedgerVeto]);
    for (refusal, change) in table() {
        let mut world = World::good();
        change(&mut world);
        let before = world.account.clone();
        assert_eq!(world.verdict(), Err(refusal));
        assert_eq!(world.account.used(), before.used(), "{refusal:?} reserved something");
        covered.insert(refusal);
    }
    let all: BTreeSet<_> = Refusal::ALL.iter().copied().collect();
    assert_eq!(covered, all, "a refusal has no row in the table");
}

#[test]
fn the_boundaries_themselves_are_allowed() {
    let allowed: [Change; 6] = [
        |w| w.signal.issued_at = Timestamp::from_micros(NOW.micros() - 120_000_000),
        |w| w.signal.issued_at = NOW.after(Duration::from_secs(5)),
        |w| w.context.mark.as_mut().unwrap().at = Timestamp::from_micros(NOW.micros() - 60_000_000),
        |w| (w.signal.entry_price, w.signal.take_profit) = (Some(price("1.10675")), price("1.2")),
        |w| {
            // The duplicate window is over exactly when it has passed.
            w.account.limits.timeframes.insert(Timeframe::hours(3), 2);
            w.after_an_acceptance();
        },
        |w| w.account.cooling_until = Some(NOW),
    ];
    for (n, change) in allowed.into_iter().enumerate() {
        let mut world = World::good();
        change(&mut world);
        assert!(world.verdict().is_ok(), "row {n}: {:?}", world.verdict());
    }
}

#[test]
fn a_veto_of_the_ledger_is_the_decision() {
    let mut world = World::good();
    let input = Input::Vetoed(Arc::new(world.signal.clone()));
    let turn = world.account.step(NOW, &input, &world.context);
    let Event::Decided(decision) = &turn.events[0] else { panic!("not a decision") };
    assert_eq!(decision.verdict, Verdict::Rejected(vec![Refusal::LedgerVeto]));
    assert_eq!(world.account.used(), Money::ZERO);
}

#[test]
fn one_signal_is_decided_once_and_a_step_without_events_changes_nothing() {
    let mut world = World::good();
    assert!(world.verdict().is_ok());
    let before = world.account.clone();
    world.pass(Duration::from_secs(86_400));
    let turn = world.step();
    assert!(turn.events.is_empty() && turn.effects.is_empty());
    assert_eq!(world.account, before);
}

/// The limits that leave nothing for the signal, in the order in which they are asked.
fn used_up(world: &World, left: &Headroom) -> Vec<Refusal> {
    let mut roomy = world.clone();
    roomy.account.limits.max_exposure = Money::whole(1_000_000);
    let order = roomy.verdict().map(|quantity| quantity.value_up(price("1.08505")));
    // One lot of the good world may lose 0.00205 to the stop and 0.00021701 to slippage.
    let smallest = "0.00226701".parse().unwrap();
    let spent = [
        (Refusal::DuplicateSignal, left.duplicate_until.is_some()),
        (Refusal::TimeframeLimit, left.timeframe_trades == 0),
        (Refusal::OpenPositions, left.open_positions == 0),
        (Refusal::Throttled, left.orders_this_minute == 0),
        (Refusal::LossStreak, left.cooling_until.is_some()),
        (Refusal::DailyLossCap, left.daily_loss.is_zero()),
        (Refusal::RiskPerTrade, left.trade_risk < smallest),
        (Refusal::MaxExposure, order.is_ok_and(|order| left.exposure < order)),
    ];
    spent.into_iter().filter(|(_, is_spent)| *is_spent).map(|(refusal, _)| refusal).collect()
}

/// More ways to use a limit up, or to come as near as that, than the table of refusals has.
fn edges() -> Vec<(Option<Refusal>, Change)> {
    fn spread(w: &mut World) {
        w.after_an_acceptance();
        w.signal.timeframe = Timeframe::hours(6);
    }
    fn one_a_minute(w: &mut World, ago_us: i64) {
        w.account.limits.max_orders_per_minute = 1;
        spread(w);
        w.account.recent[0].at = Timestamp::from_micros(w.now.micros() - ago_us);
    }
    vec![
        (None, spread),
        (None, |w| {
            w.account.limits.max_open_positions = 2;
            spread(w);
        }),
        // 2,205 and, of what that leaves of the day, 2,201 at 1.08505; and a step less.
        (None, |w| {
            w.account.limits.max_exposure = "4780.7303".parse().unwrap();
            spread(w);
        }),
        (Some(Refusal::MaxExposure), |w| {
            w.account.limits.max_exposure = "4780.73029999".parse().unwrap();
            spread(w);
        }),
        (Some(Refusal::Throttled), |w| one_a_minute(w, 59_999_999)),
        (None, |w| one_a_minute(w, 60_000_000)),
        // What was used up yesterday is not used up today, although the account has made no turn today.
        (None, |w| {
            w.after_an_acceptance();
            w.pass(Duration::from_secs(86_400));
        }),
        (None, |w| {
            w.account.today = Today { day: NOW.day(), net: "-9.99".parse().unwrap(), ..Today::default() };
            w.pass(Duration::from_secs(86_400));
        }),
    ]
}

#[test]
fn a_limit_refuses_exactly_when_it_has_nothing_left() {
    let mut shown = BTreeSet::new();
    let rows = table().into_iter().map(|(refusal, change)| (Some(refusal), change));
    for (n, (expected, change)) in rows.chain(edges()).enumerate() {
        let mut world = World::good();
        change(&mut world);
        let before = world.account.clone();
        let left = Headroom::of(&world.account, world.now, &world.signal);
        assert_eq!(world.account, before, "row {n}");
        let used_up = used_up(&world, &left);
        assert_eq!(world.verdict().err(), expected, "row {n}");
        // The cap of the day has two words, but one thing is left of it.
        let refusal = expected.map(|r| if r == Refusal::DayClosed { Refusal::DailyLossCap } else { r });
        match refusal {
            Some(limit) if LIMITS.contains(&limit) => assert_eq!(used_up.first(), Some(&limit), "row {n}: {left:?}"),
            Some(other) => assert!(used_up.iter().all(|limit| *limit > other), "row {n}: {other:?} before {used_up:?}"),
            None => assert!(used_up.is_empty(), "row {n}: {used_up:?}"),
        }
        shown.extend(used_up);
        let after = Headroom::of(&world.account, world.now, &world.signal);
        assert_eq!(after == left, refusal.is_some(), "row {n}: an acceptance uses something, a refusal nothing");
    }
    assert_eq!(shown, LIMITS.into(), "a limit is never used up in this test");
}

/// The refusals of limits that an account uses up.
const LIMITS: [Refusal; 8] = [
    Refusal::DuplicateSignal,
    Refusal::TimeframeLimit,
    Refusal::OpenPositions,
    Refusal::Throttled,
    Refusal::LossStreak,
    Refusal::DailyLossCap,
    Refusal::RiskPerTrade,
    Refusal::MaxExposure,
];

/// The list that people read is the list that the engine refuses by. `NEXUS_WRITE_DOCS=1` writes it anew.
#[test]
fn the_documented_refusals_are_these() {
    let mut text = String::from(
        "# Refusals\n\nWhy a signal is not acted on for a user: the closed list, in the order in which the rules are asked. The \
         first rule that\nrefuses speaks, so a decision names one reason. A signal that cannot be parsed is an error \
         (400 or 422), not a decision.\n\n| code | what it means |\n|---|---|\n",
    );
    for refusal in Refusal::ALL {
        text += &format!("| `{}` | {} |\n", refusal.code(), refusal.meaning().trim());
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/REFUSALS.md");
    if std::env::var_os("NEXUS_WRITE_DOCS").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), text, "run with NEXUS_WRITE_DOCS=1");
}
