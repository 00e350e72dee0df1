//! What is held against what: a turn against itself, the engine's figures against the model's.
//!
//! Everything is compared as plain numbers and codes. The [`Shadow`] is a ledger and a trigger index that know nothing
//! but what turns tell them: the sums of the deltas must be the account's figures at all times, and a position must be
//! looked at exactly when it asked for that.

use std::collections::{BTreeMap, BTreeSet};

use nexus_engine::account::{Account, Effect, Event, LedgerRisk, RiskDelta, Today, Turn, Verdict};
use nexus_engine::ids::{ClientOrderId, Day, DecisionId, Timeframe, Timestamp};
use nexus_engine::instrument::Mark;
use nexus_engine::order::Order;
use nexus_engine::position::Lot;
use nexus_engine::protection::{Condition, Watch};
use nexus_engine::replay::Counters;
use nexus_engine::signal::Side;
use nexus_engine::units::Money;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use crate::model::{self, DAY, Micros, Model, SECOND, Steps, What};
use crate::verdict;
use crate::watching::Doing;
use crate::world::{World, decision, order};

/// What holds for every turn, whatever the input was.
pub fn turn(before: &Account, after: &Account, turn: &Turn) -> TestCaseResult {
    if turn.events.is_empty() {
        prop_assert_eq!(before, after, "nothing was recorded, but something changed");
        prop_assert_eq!(&turn.delta, &RiskDelta::default(), "nothing was recorded, but counters change");
    } else {
        prop_assert_eq!(after.version, before.version + 1);
    }
    prop_assert!(after.now >= before.now, "time ran backwards");
    prop_assert_eq!(after.check(), Ok(()));
    for (id, lot) in &before.lots {
        let Some(next) = after.lots.get(id) else {
            prop_assert!(lot.is_done(), "a lot with business left was forgotten");
            continue;
        };
        let sign = if lot.side == Side::Buy { 1 } else { -1 };
        let moved = next.protection.stop.steps() - lot.protection.stop.steps();
        prop_assert!(moved * sign >= 0, "a stop was loosened");
        prop_assert_eq!(next.protection.first_stop, lot.protection.first_stop);
    }
    sent(before, turn)
}

/// What leaves was decided or planned in the same turn, and exits close no more than is open.
fn sent(before: &Account, turn: &Turn) -> TestCaseResult {
    let mut permitted = BTreeMap::new();
    for event in &turn.events {
        match event {
            Event::Decided(decided) => {
                if let Verdict::Accepted(acceptance) = &decided.verdict {
                    permitted.insert(acceptance.order, acceptance.quantity.steps());
                }
            }
            Event::ExitPlanned { order, quantity, .. } => {
                let lot = &before.lots[&order.decision];
                let free = lot.open.steps() - lot.exits.iter().map(working).sum::<i64>();
                prop_assert!(quantity.steps() > 0 && quantity.steps() <= free, "an exit of {} of {}", quantity, free);
                permitted.insert(*order, quantity.steps());
            }
            _ => {}
        }
    }
    let mut left = BTreeMap::new();
    for effect in &turn.effects {
        if let Effect::Submit(request) = effect {
            prop_assert!(left.insert(request.id, request.quantity.steps()).is_none(), "sent twice in one turn");
        }
    }
    prop_assert_eq!(left, permitted, "what was sent, and what was permitted");
    Ok(())
}

fn working(order: &Order) -> i64 {
    if order.status.is_terminal() { 0 } else { (order.quantity.steps() - order.filled.steps()).max(0) }
}

/// The engine's verdict against the model's, to the last digit.
pub fn verdict(found: &Verdict, expected: &verdict::Verdict, turn: &Turn) -> TestCaseResult {
    match (found, expected) {
        (Verdict::Rejected(reasons), verdict::Verdict::Refused(code)) => {
            let codes: Vec<_> = reasons.iter().map(|reason| reason.code()).collect();
            prop_assert_eq!(codes, vec![*code]);
            prop_assert!(turn.effects.is_empty(), "something follows from a refusal");
        }
        (Verdict::Accepted(found), verdict::Verdict::Accepted(expected)) => {
            let verdict::Agreed { terms, used_before, equity } = expected.as_ref();
            let figures = [
                ("quantity", Steps::from(found.quantity.steps()), terms.quantity),
                ("sized_at", found.sized_at.steps().into(), terms.sized_at),
                ("stop_loss", found.stop_loss.steps().into(), terms.stop),
                ("take_profit", found.take_profit.steps().into(), terms.target),
                ("risk", found.risk.steps().into(), terms.risk),
                ("used_before", found.used_before.steps().into(), *used_before),
                ("equity", found.equity.steps().into(), *equity),
                ("expires_at", found.expires_at.micros().into(), terms.expires_at.into()),
                ("minutes", found.timeframe.duration().as_secs().into(), Steps::from(terms.minutes) * 60),
                ("long", (found.side == Side::Buy).into(), terms.long.into()),
            ];
            same(&figures)?;
            prop_assert_eq!(found.symbol.as_str(), &terms.symbol);
            let together = Steps::from(found.used_before.steps()) + Steps::from(found.risk.steps());
            prop_assert!(together <= found.cap.steps().into(), "admitted above the cap");
        }
        _ => prop_assert!(false, "the engine says {:?}, the model {:?}", found, expected),
    }
    Ok(())
}

fn same(figures: &[(&str, Steps, Steps)]) -> TestCaseResult {
    for (name, found, expected) in figures {
        prop_assert_eq!(found, expected, "{}", name);
    }
    Ok(())
}

/// What a report led to.
pub fn report(turn: &Turn, expected: &[What]) -> TestCaseResult {
    let mut facts = BTreeSet::new();
    for event in &turn.events {
        match event {
            Event::Filled(fill) => {
                facts.insert(format!("traded {} {} {} {}", fill.order, fill.quantity, fill.price, fill.fee));
            }
            Event::Ended { order, .. } => {
                facts.insert(format!("ended {order}"));
            }
            _ => {}
        }
    }
    let mut wanted = BTreeSet::new();
    for what in expected {
        match what {
            What::Traded(id, trade) => {
                let order = order(*id, trade.leg);
                let number = |steps: Steps| Money::from_steps(i64::try_from(steps).expect("it was one"));
                let quantity = nexus_engine::units::Quantity::from_steps(number(trade.quantity).steps());
                let price = nexus_engine::units::Price::from_steps(number(trade.price).steps());
                wanted.insert(format!("traded {order} {quantity} {price} {}", number(trade.fee)));
            }
            What::Ended(id, leg) => {
                wanted.insert(format!("ended {}", order(*id, *leg)));
            }
            _ => {}
        }
    }
    prop_assert_eq!(facts, wanted, "what a report led to");
    Ok(())
}

/// What a look led to.
pub fn look(turn: &Turn, expected: &[Doing]) -> TestCaseResult {
    let mut found = Vec::new();
    for event in &turn.events {
        match event {
            Event::ExitPlanned { purpose, quantity, .. } => {
                found.push(Doing::Exit(purpose.as_str(), quantity.steps().into()));
            }
            Event::StopMoved { to, kind, .. } => found.push(Doing::Stop(to.steps().into(), kind.as_str())),
            Event::CancelRequested(_) => found.push(Doing::CancelEntry),
            other => prop_assert!(false, "a look led to {:?}", other),
        }
    }
    prop_assert_eq!(&found, expected, "what a look led to");
    Ok(())
}

/// The orders whose cancellation a turn asks for, in its events and in its effects alike.
pub fn cancelled(turn: &Turn) -> Vec<ClientOrderId> {
    let said = turn.events.iter().filter_map(|event| match event {
        Event::CancelRequested(order) => Some(*order),
        _ => None,
    });
    let done = turn.effects.iter().filter_map(|effect| match effect {
        Effect::Cancel { order, .. } => Some(*order),
        Effect::Submit(_) | Effect::Watch(_) => None,
    });
    let said: Vec<_> = said.collect();
    assert_eq!(said, done.collect::<Vec<_>>(), "what is said to be cancelled is cancelled");
    said
}

/// All figures of the account against all figures that follow from the list of facts.
pub fn figures(account: &Account, model: &Model) -> TestCaseResult {
    let picture = model.picture();
    let now = model.now();
    let cooling = |at: Option<Micros>| Steps::from(at.unwrap_or(-1));
    same(&[
        ("now", account.now.micros().into(), now.into()),
        ("equity", account.equity().steps().into(), model.equity(&picture)),
        ("net_realized", account.net_realized.steps().into(), picture.net.values().sum()),
        ("today.net", account.today.net.steps().into(), picture.net.get(&now.div_euclid(DAY)).copied().unwrap_or(0)),
        ("realized_loss", account.realized_loss().steps().into(), picture.realized_loss(now)),
        ("open_risk", account.open_risk().steps().into(), picture.open_risk()),
        ("reserved_risk", account.reserved_risk().steps().into(), picture.reserved()),
        ("remaining", account.remaining().steps().into(), picture.remaining(now)),
        ("losing_streak", account.losing_streak.into(), picture.streak.into()),
        ("cooling_until", cooling(account.cooling_until.map(Timestamp::micros)), cooling(picture.cooling_until)),
        ("trading_enabled", account.trading_enabled.into(), picture.trading.into()),
        ("quarantined", account.quarantined.into(), picture.quarantined.into()),
    ])?;
    for minutes in [180, 360, 540, 720] {
        let used = account.today.timeframes.iter().filter(|(frame, _)| seconds(**frame) == minutes * 60);
        let used: u32 = used.map(|(_, count)| count).sum();
        prop_assert_eq!(used, picture.count(now, minutes), "trades today of {} minutes", minutes);
    }
    for (id, expected) in &picture.lots {
        match account.lots.get(&decision(*id)) {
            Some(found) => lot(found, expected)?,
            None => prop_assert!(!expected.is_busy(), "a lot with business left is missing"),
        }
    }
    prop_assert!(account.lots.keys().all(|id| picture.lots.contains_key(&id.0.as_u128())), "a lot from nowhere");
    recovery(account, &picture)
}

fn seconds(timeframe: Timeframe) -> i64 {
    i64::try_from(timeframe.duration().as_micros()).expect("short") / SECOND
}

fn lot(found: &Lot, expected: &model::Lot) -> TestCaseResult {
    same(&[
        ("open", found.open.steps().into(), expected.open),
        ("cost", found.cost.steps().into(), expected.cost),
        ("realized", found.realized.steps().into(), expected.realized),
        ("stop", found.protection.stop.steps().into(), expected.stop),
        ("opened_at", found.opened_at.map_or(-1, Timestamp::micros).into(), expected.opened_at.unwrap_or(-1).into()),
        ("exits", found.exits.len() as Steps, expected.exits.len() as Steps),
        ("done", found.closed_at.is_some().into(), (!expected.is_busy()).into()),
    ])?;
    prop_assert_eq!(found.protection.stop_kind.as_str(), expected.stop_kind);
    let orders = std::iter::once(&found.entry).chain(&found.exits);
    let legs = std::iter::once(&expected.entry).chain(&expected.exits);
    for (order, leg) in orders.zip(legs) {
        same(&[
            ("filled", order.filled.steps().into(), leg.traded),
            ("asked", order.quantity.steps().into(), leg.asked),
            ("ended", order.status.is_terminal().into(), leg.ended.into()),
        ])?;
        prop_assert!(!(leg.ended && order.unknown), "an ended order is unknown");
    }
    Ok(())
}

/// After a crash every order that may live is asked about, and for each position the exit that may have left unrecorded;
/// what a venue is known to have is never sent again.
fn recovery(account: &Account, picture: &model::Picture) -> TestCaseResult {
    let recovery = account.recovery();
    let mut expected = BTreeSet::new();
    for (id, lot) in &picture.lots {
        let legs = std::iter::once(&lot.entry).chain(&lot.exits).enumerate();
        expected.extend(legs.filter(|(_, leg)| !leg.ended).map(|(number, _)| order(*id, number)));
        if lot.open > 0 {
            expected.insert(order(*id, lot.exits.len() + 1));
        }
    }
    let asked: BTreeSet<_> = recovery.ask.iter().map(|ask| ask.order).collect();
    prop_assert_eq!(asked, expected, "what is asked about after a crash");
    for ask in recovery.ask.iter().filter(|ask| ask.resend.is_some()) {
        let lot = &picture.lots[&ask.order.decision.0.as_u128()];
        let legs = std::iter::once(&lot.entry).chain(&lot.exits).enumerate();
        let known =
            legs.filter(|(number, leg)| order(ask.order.decision.0.as_u128(), *number) == ask.order && leg.known);
        prop_assert_eq!(known.count(), 0, "an order that the venue has would be sent again");
    }
    Ok(())
}

/// A ledger and a trigger index, as turns tell them.
#[derive(Default)]
pub struct Shadow {
    open: Steps,
    reserved: Steps,
    days: BTreeMap<Day, (Steps, BTreeMap<Timeframe, i64>)>,
    watches: BTreeMap<DecisionId, Watch>,
}

impl Shadow {
    /// Adds a turn.
    pub fn add(&mut self, turn: &Turn) -> TestCaseResult {
        for effect in &turn.effects {
            if let Effect::Watch(watch) = effect {
                prop_assert!(watch.conditions.len() <= 6, "more conditions than are promised");
                self.watches.insert(watch.decision, watch.clone());
            }
        }
        if turn.events.is_empty() {
            return Ok(());
        }
        self.open += Steps::from(turn.delta.open.steps());
        self.reserved += Steps::from(turn.delta.reserved.steps());
        let (net, counts) = self.days.entry(turn.delta.day).or_default();
        *net += Steps::from(turn.delta.realized.steps());
        for (timeframe, change) in &turn.delta.counts {
            *counts.entry(*timeframe).or_default() += i64::from(*change);
        }
        Ok(())
    }

    /// Somebody else writes into the counters.
    pub fn write(&mut self, day: Day, reserved: Steps, net: Steps, timeframe: Option<Timeframe>) {
        self.reserved += reserved;
        let (sum, counts) = self.days.entry(day).or_default();
        *sum += net;
        if let Some(timeframe) = timeframe {
            *counts.entry(timeframe).or_default() += 1;
        }
    }

    /// What the ledger counts beside the account.
    pub fn ledger(&self, account: &Account) -> LedgerRisk {
        let today = self.days.get(&account.today.day).map(|(net, counts)| Today {
            day: account.today.day,
            net: money(*net),
            timeframes: counts
                .iter()
                .map(|(frame, n)| (*frame, u32::try_from(*n).expect("never below zero")))
                .collect(),
        });
        let realized = self.days.values().map(|(net, _)| net).sum();
        LedgerRisk { realized: money(realized), open: money(self.open), reserved: money(self.reserved), today }
    }

    /// Whether a replay counts the same.
    pub fn counts_as(&self, counters: &Counters) -> TestCaseResult {
        let realized: Steps = self.days.values().map(|(net, _)| net).sum();
        same(&[
            ("realized", counters.realized.steps().into(), realized),
            ("open", counters.open.steps().into(), self.open),
            ("reserved", counters.reserved.steps().into(), self.reserved),
        ])?;
        let days = self.days.iter().filter(|(_, (net, _))| *net != 0).map(|(day, (net, _))| (*day, money(*net)));
        let told = counters.days.iter().filter(|(_, net)| !net.is_zero()).map(|(day, net)| (*day, *net));
        prop_assert_eq!(told.collect::<Vec<_>>(), days.collect::<Vec<_>>());
        let counts =
            self.days.iter().flat_map(|(day, (_, counts))| counts.iter().map(|(frame, n)| ((*day, *frame), *n)));
        prop_assert_eq!(&counters.counts, &counts.collect());
        Ok(())
    }

    /// Whether the sums of all deltas are the account's figures, so that a correction by the ledger corrects nothing.
    pub fn agrees(&self, account: &Account) -> TestCaseResult {
        same(&[
            ("the ledger's open risk", self.open, account.open_risk().steps().into()),
            ("the ledger's reserved risk", self.reserved, account.reserved_risk().steps().into()),
        ])?;
        let again = account.clone().corrected(self.ledger(account));
        prop_assert_eq!(&again, account, "the ledger corrects an account that is right");
        Ok(())
    }

    /// Whether a position has asked to be looked at now.
    pub fn is_due(&self, decision: DecisionId, now: Micros, mark: Option<&Mark>) -> bool {
        let bid = mark.map(|mark| mark.bid);
        let ask = mark.map(|mark| mark.ask);
        self.watches.get(&decision).is_some_and(|watch| {
            watch.conditions.iter().any(|condition| match condition {
                Condition::BidAtMost(level) => bid.is_some_and(|bid| bid <= *level),
                Condition::BidAtLeast(level) => bid.is_some_and(|bid| bid >= *level),
                Condition::AskAtMost(level) => ask.is_some_and(|ask| ask <= *level),
                Condition::AskAtLeast(level) => ask.is_some_and(|ask| ask >= *level),
                Condition::TimeAtLeast(at) => now >= at.micros(),
            })
        })
    }
}

fn money(steps: Steps) -> Money {
    Money::from_steps(i64::try_from(steps).expect("the numbers of a story are small"))
}

/// The account's profit and loss against the trades themselves, to the last digit: what was sold for, less what was paid,
/// less fees. Only flat lots can be told from their trades alone; what is open is in the books at its cost.
pub fn profit_and_loss(world: &World) -> TestCaseResult {
    let account = &world.account;
    let mut trades: BTreeMap<DecisionId, (Steps, Steps)> = BTreeMap::new();
    for event in world.record.iter().flat_map(|step| &step.turn.events) {
        if let Event::Filled(fill) = event {
            let (quantity, price): (Steps, Steps) = (fill.quantity.steps().into(), fill.price.steps().into());
            let cash = match fill.side {
                Side::Buy => -model::cost(quantity, price),
                Side::Sell => model::income(quantity, price),
            };
            let (all_cash, realized) = trades.entry(fill.order.decision).or_default();
            *all_cash += cash - Steps::from(fill.fee.steps());
            *realized += Steps::from(fill.realized.steps());
        }
    }
    let total = world.others.net + trades.values().map(|(_, realized)| realized).sum::<Steps>();
    prop_assert_eq!(total, Steps::from(account.net_realized.steps()), "the trades' results, and the account's");
    for (id, (cash, realized)) in &trades {
        let booked = account.lots.get(id).map_or(0, |lot| {
            let cost = Steps::from(lot.cost.steps());
            if lot.side == Side::Buy { cost } else { -cost }
        });
        prop_assert_eq!(*realized, *cash + booked, "what lot {} made, and what its trades brought", id);
    }
    Ok(())
}
