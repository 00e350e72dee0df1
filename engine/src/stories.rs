//! Whole flows of one account, as stories: what a trader would check by hand.
//!
//! Each tells one trade from its signal to its end, with the sums written out, so that a reader can follow what the
//! unit tests of the rules and of orders only show in pieces.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::account::Account;
use crate::gate::{Gate, TradingState};
use crate::ids::{ClientOrderId, DecisionId, FeedId, Timestamp, UserId};
use crate::instrument::{Instrument, Mark};
use crate::limits::Limits;
use crate::order::{News, OrderStatus, Purpose, Report};
use crate::signal::{RawSignal, Signal};
use crate::turn::{Context, Effect, Event, Input, Turn, Verdict};
use crate::units::{Money, Price, Quantity};

const START: Timestamp = Timestamp::from_micros(1_795_521_600_000_000);

/// One account, one instrument without slippage allowance, and a clock that only the story moves.
struct Story {
    now: Timestamp,
    account: Account,
    mark: Mark,
    fee: &'static str,
    executions: u32,
}

impl Story {
    fn begins(fee: &'static str) -> Story {
        let limits = Limits { slippage_allowance_percent: "0".parse().unwrap(), ..Limits::default() };
        let symbol = "EURUSD".parse().unwrap();
        Story {
            now: START,
            account: Account::open(UserId(Uuid::from_u128(1)), "USD".into(), Money::whole(500), limits),
            mark: Mark { symbol, bid: Price::ZERO, ask: Price::ZERO, at: START },
            fee,
            executions: 0,
        }
    }

    fn step(&mut self, input: &Input) -> Turn {
        let instrument = Instrument {
            symbol: "EURUSD".parse().unwrap(),
            tick: "0.00001".parse().unwrap(),
            lot: Quantity::whole(1),
            fee_percent: self.fee.parse().unwrap(),
            quote: "USD".into(),
            enabled: true,
            venue: "paper".into(),
        };
        let context = Context {
            gate: Gate { state: TradingState::Active, epoch: 1 },
            mark: Some(self.mark.clone()),
            instrument: Some(Arc::new(instrument)),
            subscribed: true,
        };
        let turn = self.account.step(self.now, input, &context);
        self.account.check().unwrap();
        turn
    }

    fn market(&mut self, bid: &str, ask: &str) {
        self.mark.bid = bid.parse().unwrap();
        self.mark.ask = ask.parse().unwrap();
        self.mark.at = self.now;
    }

    fn signal(&mut self, key: &str, change: impl FnOnce(&mut RawSignal)) -> DecisionId {
        let text = |s: &str| Some(s.to_owned());
        let mut raw = RawSignal {
            symbol: text("EURUSD"),
            side: text("buy"),
            timeframe: text("3H"),
            stop_loss: text("1.08300"),
            take_profit: text("1.08900"),
            ..RawSignal::default()
        };
        change(&mut raw);
        let signal = Signal::parse(FeedId(Uuid::from_u128(2)), key, &raw, self.now).unwrap();
        let turn = self.step(&Input::Signal(Arc::new(signal)));
        let Event::Decided(decision) = &turn.events[0] else { panic!("not a decision") };
        assert!(matches!(decision.verdict, Verdict::Accepted(_)), "{:?}", decision.verdict);
        decision.id
    }

    fn report(&mut self, order: ClientOrderId, news: News) -> Turn {
        self.step(&Input::Report(Report { order, at: self.now, news }))
    }

    fn fill(&mut self, order: ClientOrderId, quantity: &str, price: &str, fee: &str) -> Turn {
        self.executions += 1;
        let news = News::Filled {
            execution: format!("t{}", self.executions).into(),
            quantity: quantity.parse().unwrap(),
            price: price.parse().unwrap(),
            fee: fee.parse().unwrap(),
        };
        self.report(order, news)
    }

    /// Looks at a position and returns the exit it plans, if any.
    fn look(&mut self, decision: DecisionId) -> Option<(Purpose, Quantity)> {
        let turn = self.step(&Input::Look(decision));
        turn.effects.iter().find_map(|effect| match effect {
            Effect::Submit(order) => Some((order.purpose, order.quantity)),
            Effect::Cancel { .. } | Effect::Watch(_) => None,
        })
    }

    fn loss(&self) -> [String; 4] {
        let account = &self.account;
        [account.realized_loss(), account.open_risk(), account.reserved_risk(), account.remaining()]
            .map(|m| m.to_string())
    }
}

#[test]
fn risk_moves_from_reserved_to_open_to_realised() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    // 1 % of 500.00 is 5.00; 20 pips a unit: 2,500 units.
    assert_eq!(story.loss(), ["0.00", "0.00", "5.00", "4.99"]);
    let entry = ClientOrderId::entry(decision);
    story.report(entry, News::Acknowledged);
    story.fill(entry, "1000", "1.08500", "0");
    assert_eq!(story.loss(), ["0.00", "2.00", "3.00", "4.99"]);
    story.fill(entry, "1500", "1.08500", "0");
    assert_eq!(story.loss(), ["0.00", "5.00", "0.00", "4.99"]);

    story.market("1.08300", "1.08310");
    assert_eq!(story.look(decision), Some((Purpose::StopLoss, Quantity::whole(2_500))));
    assert_eq!(story.look(decision), None, "an exit under way is not planned twice");
    story.fill(ClientOrderId::exit(decision, 1), "2500", "1.08300", "0");
    assert_eq!(story.loss(), ["5.00", "0.00", "0.00", "4.99"]);
    assert_eq!(story.account.equity().to_string(), "495.00");
    assert!(!story.account.has_open_business());
}

#[test]
fn fees_are_part_of_the_worst_case_and_of_the_result() {
    let mut story = Story::begins("0.01");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    let quantity = story.account.lots[&decision].entry.quantity;
    // 0.002 distance + 0.01 % of (1.085 + 1.083): 0.0022168 a unit; 5.00 buys 2,255 units.
    assert_eq!(quantity, Quantity::whole(2_255));
    assert_eq!(story.account.reserved_risk().to_string(), "4.998884");
    // 2,255 * 1.085 * 0.01 % and 2,255 * 1.083 * 0.01 %.
    story.fill(ClientOrderId::entry(decision), "2255", "1.08500", "0.2446675");
    story.market("1.08300", "1.08310");
    story.look(decision);
    story.fill(ClientOrderId::exit(decision, 1), "2255", "1.08300", "0.2442165");
    assert_eq!(story.account.realized_loss().to_string(), "4.998884", "exactly what had been reserved");
}

#[test]
fn reports_may_come_in_any_order_and_twice() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    let entry = ClientOrderId::entry(decision);
    let news = |execution: &str, quantity: i64| News::Filled {
        execution: execution.into(),
        quantity: Quantity::whole(quantity),
        price: "1.085".parse().unwrap(),
        fee: Money::ZERO,
    };
    story.report(entry, news("x2", 500));
    story.report(entry, News::Cancelled { reason: "by user".into() });
    assert!(story.report(entry, news("x2", 500)).events.is_empty(), "the same execution counts once");
    assert!(story.report(entry, News::Acknowledged).events.is_empty(), "a state never moves back");
    assert_eq!(story.account.reserved_risk(), Money::ZERO);
    story.report(entry, news("x1", 700));
    let lot = &story.account.lots[&decision];
    assert_eq!((lot.open, lot.entry.status), (Quantity::whole(1_200), OrderStatus::Cancelled));
    assert_eq!(story.loss(), ["0.00", "2.40", "0.00", "7.59"]);
}

#[test]
fn an_unknown_order_keeps_its_reservation_until_it_is_known() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    let entry = ClientOrderId::entry(decision);
    story.report(entry, News::Unknown);
    assert_eq!(story.account.reserved_risk().to_string(), "5.00");
    let turn = story.report(entry, News::NeverSent { reason: "the venue does not have it".into() });
    assert_eq!(turn.delta.counts, [("3H".parse().unwrap(), -1)]);
    assert_eq!(story.loss(), ["0.00", "0.00", "0.00", "9.99"]);
}

#[test]
fn the_stop_goes_to_break_even_then_trails_and_never_loosens() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |raw| {
        raw.breakeven_at_r = Some("1".into());
        raw.trail_distance = Some("0.0010".into());
        raw.trail_after_r = Some("1.5".into());
    });
    story.fill(ClientOrderId::entry(decision), "2500", "1.08500", "0");
    let stops = ["1.0869", "1.0870", "1.0879", "1.0880", "1.08819", "1.08825", "1.0875"].map(|bid| {
        story.market(bid, "1.0890");
        assert_eq!(story.look(decision), None);
        story.account.lots[&decision].protection.stop.to_string()
    });
    // 1 R is 20 pips: break-even at 1.0870, trailing from 1.0880 in steps of 2 pips.
    assert_eq!(stops, ["1.083", "1.085", "1.085", "1.087", "1.087", "1.08725", "1.08725"]);
    assert_eq!(story.account.open_risk(), Money::ZERO, "what is locked in is no risk");
    story.market("1.08725", "1.08730");
    assert_eq!(story.look(decision), Some((Purpose::Trailing, Quantity::whole(2_500))));
}

#[test]
fn a_short_is_the_mirror_of_a_long() {
    let mut story = Story::begins("0");
    story.market("1.08500", "1.08510");
    let decision = story.signal("a", |raw| {
        raw.side = Some("sell".into());
        (raw.stop_loss, raw.take_profit) = (Some("1.08700".into()), Some("1.08100".into()));
        raw.breakeven_at_r = Some("1".into());
        raw.trail_distance = Some("0.0010".into());
    });
    story.fill(ClientOrderId::entry(decision), "2500", "1.08500", "0");
    assert_eq!(story.account.open_risk().to_string(), "5.00");
    story.market("1.08290", "1.08300");
    assert_eq!(story.look(decision), None);
    assert_eq!(story.account.lots[&decision].protection.stop.to_string(), "1.084");
    story.market("1.08390", "1.08400");
    assert_eq!(story.look(decision), Some((Purpose::Trailing, Quantity::whole(2_500))));
    story.fill(ClientOrderId::exit(decision, 1), "2500", "1.08400", "0");
    assert_eq!(story.account.equity().to_string(), "502.50");
}

#[test]
fn a_position_that_is_too_old_is_closed_and_an_entry_that_is_too_old_is_cancelled() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let held = story.signal("a", |raw| raw.max_hold_minutes = Some(30));
    story.fill(ClientOrderId::entry(held), "2500", "1.08500", "0");
    story.now = START.after(Duration::from_secs(30 * 60));
    assert_eq!(story.look(held), Some((Purpose::MaxHold, Quantity::whole(2_500))));

    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let waiting = story.signal("a", |_| {});
    story.now = START.after(Duration::from_secs(3 * 3_600));
    let turn = story.step(&Input::Look(waiting));
    assert_eq!(turn.events, [Event::CancelRequested(ClientOrderId::entry(waiting))]);
}

#[test]
fn a_position_that_is_given_up_is_not_opened_any_further() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    story.fill(ClientOrderId::entry(decision), "1000", "1.08500", "0");
    story.market("1.08300", "1.08310");
    let turn = story.step(&Input::Look(decision));
    assert!(turn.events.contains(&Event::CancelRequested(ClientOrderId::entry(decision))));
    assert!(turn.effects.iter().any(|effect| matches!(effect, Effect::Cancel { .. })));
}

#[test]
fn a_new_day_starts_its_own_count_and_carries_what_is_open() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let first = story.signal("a", |_| {});
    story.fill(ClientOrderId::entry(first), "2500", "1.08500", "0");
    story.now = START.after(Duration::from_secs(12 * 3_600));
    story.market("1.08490", "1.08500");
    story.signal("b", |_| {});
    assert_eq!(story.account.today.timeframes[&"3H".parse().unwrap()], 1);
    assert_eq!(story.loss(), ["0.00", "5.00", "4.99", "0.00"]);
}

#[test]
fn five_losses_in_a_row_start_a_cool_down() {
    let mut story = Story::begins("0");
    story.account.limits.timeframes.insert("3H".parse().unwrap(), 99);
    let mut cooled = Vec::new();
    for n in 0..5 {
        story.now = story.now.after(Duration::from_secs(3_600));
        story.market("1.08490", "1.08500");
        let decision = story.signal(&format!("s{n}"), |_| {});
        let quantity = story.account.lots[&decision].entry.quantity.to_string();
        story.fill(ClientOrderId::entry(decision), &quantity, "1.08500", "0");
        story.market("1.08300", "1.08310");
        story.look(decision);
        let turn = story.fill(ClientOrderId::exit(decision, 1), &quantity, "1.08490", "0");
        cooled.push(turn.events.iter().any(|event| matches!(event, Event::CooledDown { .. })));
    }
    assert_eq!(cooled, [false, false, false, false, true]);
    assert_eq!(story.account.cooling_until, Some(story.now.after(Duration::from_secs(3_600))));
}

#[test]
fn an_exit_whose_turn_was_lost_is_adopted() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    let decision = story.signal("a", |_| {});
    story.fill(ClientOrderId::entry(decision), "2500", "1.08500", "0");
    let next = ClientOrderId::exit(decision, 1);
    assert_eq!(story.account.recovery().ask.iter().map(|ask| ask.order).collect::<Vec<_>>(), [next]);
    assert!(
        story.report(next, News::Unknown).events.is_empty(),
        "of an order that never was there is nothing to doubt"
    );
    story.fill(next, "2500", "1.08300", "0");
    assert_eq!(story.loss(), ["5.00", "0.00", "0.00", "4.99"]);
}

#[test]
fn what_no_decision_explains_is_kept() {
    let mut story = Story::begins("0");
    let stranger = ClientOrderId::entry(DecisionId(Uuid::from_u128(99)));
    let turn = story.fill(stranger, "1", "1", "0");
    assert!(matches!(turn.events[..], [Event::Unexplained(_)]));
}

#[test]
fn somebody_elses_writes_are_held_against_the_account() {
    let mut story = Story::begins("0");
    story.market("1.08490", "1.08500");
    story.signal("a", |_| {});
    let mut today = story.account.today.clone();
    today.net = Money::whole(-3);
    let (realized, open, reserved) = (Money::whole(-3), Money::whole(1), Money::whole(5));
    let ledger = crate::account::LedgerRisk { realized, open, reserved, today: Some(today) };
    let corrected = story.account.clone().corrected(ledger.clone());
    assert_eq!(corrected.used().to_string(), "9.00");
    assert_eq!(corrected.equity().to_string(), "497.00");
    assert_eq!(corrected.clone().corrected(ledger.clone()), corrected, "correcting twice changes nothing");
    story.account = corrected;
    let turn = story.step(&Input::SetTrading(false));
    assert_eq!(turn.events, [Event::Corrected(Box::new(ledger.clone())), Event::TradingSet(false)]);
    assert_eq!(story.account.clone().corrected(ledger), story.account, "it has been told of");
}
