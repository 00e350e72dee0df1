//! The life of an order under any order of reports: late, doubled, reordered, and from venues that break their word.
//!
//! What happened at a venue happened, in whatever order we hear of it. So the same reports, delivered in any order and
//! any of them twice, must leave the same account (promise P6). The stories in `decisions.rs` mix reports at random and
//! compare each step with the model; here whole lives are told and shuffled.

use nexus_engine::account::{Account, Event};
use nexus_engine::order::{News, Report};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestCaseResult};

use crate::check;
use crate::compare;
use crate::generate::{Op, SignalSeed, Step, roomy, sound_signal, story};
use crate::model::Steps;
use crate::world::{World, decision, order};

/// The trades of an order: how it is cut, in weights; where each part traded, for what fee; whether it is heard of twice.
type Parts = Vec<(Steps, i64, i64, bool)>;

fn parts() -> impl Strategy<Value = Parts> {
    vec((1..1_000_i128, -900..900_i64, -500_000..20_000_000_i64, any::<bool>()), 1..6)
}

/// In which order things are heard.
fn shuffle() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 40)
}

fn shuffled(mut reports: Vec<Report>, order: &[Index]) -> Vec<Report> {
    let mut heard = Vec::new();
    for index in order {
        if !reports.is_empty() {
            heard.push(reports.remove(index.index(reports.len())));
        }
    }
    heard.extend(reports);
    heard
}

/// An account that has accepted one signal.
fn accepted(seed: &SignalSeed) -> Result<World, TestCaseError> {
    let mut world = World::new(&roomy());
    world.run(&Step { wait: 0, op: Op::Signal(seed.clone()) })?;
    Ok(world)
}

/// An account with an open position whose entry is filled.
fn opened(seed: &SignalSeed) -> Result<World, TestCaseError> {
    let mut world = accepted(seed)?;
    let quantity = world.model.picture().lots[&world.only_lot()].terms.quantity;
    let fill = world.trade(0, quantity, 0, 0);
    world.tell(fill)?;
    Ok(world)
}

/// Reports of trades of this much together, doubled where asked.
fn trades(world: &mut World, leg: usize, total: Steps, parts: &Parts) -> Vec<Report> {
    let weights: Steps = parts.iter().map(|part| part.0).sum();
    let mut left = total;
    let mut reports = Vec::new();
    for (number, (weight, slip, fee, doubled)) in parts.iter().enumerate() {
        let quantity = if number + 1 == parts.len() { left } else { (total * weight / weights).min(left) };
        left -= quantity;
        if quantity > 0 {
            let report = world.trade(leg, quantity, *slip, *fee);
            reports.extend(std::iter::repeat_n(report, if *doubled { 2 } else { 1 }));
        }
    }
    reports
}

/// The account without what may differ: how many turns it took, and in which order trades were heard of.
fn essence(account: &Account) -> Account {
    let mut account = account.clone();
    account.version = 0;
    account.lots.values_mut().for_each(|lot| lot.executions.sort_unstable());
    account
}

#[test]
fn entry_reports_in_any_order_leave_the_same_account() {
    let life = (sound_signal(), parts(), any::<bool>(), shuffle());
    check(150, &life, |(seed, parts, complete, order_heard)| {
        let mut world = accepted(&seed)?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].terms.quantity;
        let total = if complete { quantity } else { (quantity / 2).max(1) };
        let entry = order(id, 0);
        let mut reports = vec![world.report_on(entry, News::Unknown), world.report_on(entry, News::Acknowledged)];
        reports.extend(trades(&mut world, 0, total, &parts));
        if !complete {
            reports.push(world.report_on(entry, News::Cancelled { reason: "in time".into() }));
        }
        same_in_any_order(&seed, accepted, reports, &order_heard)
    });
}

#[test]
fn exit_reports_in_any_order_leave_the_same_account() {
    let life = (sound_signal(), parts(), shuffle());
    check(150, &life, |(seed, parts, order_heard)| {
        let mut world = exiting(&seed)?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].open;
        let exit = order(id, 1);
        let mut reports = vec![world.report_on(exit, News::Unknown), world.report_on(exit, News::Acknowledged)];
        reports.extend(trades(&mut world, 1, quantity, &parts));
        same_in_any_order(&seed, exiting, reports, &order_heard)
    });
}

/// A position whose stop was hit.
fn exiting(seed: &SignalSeed) -> Result<World, TestCaseError> {
    let mut world = opened(seed)?;
    let ticks = if seed.long { -100 } else { 100 };
    world.run(&Step { wait: 1, op: Op::Move { symbol: seed.symbol, ticks, spread: 1, seen: true } })?;
    Ok(world)
}

fn same_in_any_order(
    seed: &SignalSeed,
    begin: impl Fn(&SignalSeed) -> Result<World, TestCaseError>,
    reports: Vec<Report>,
    order_heard: &[Index],
) -> TestCaseResult {
    let (mut straight, mut mixed) = (begin(seed)?, begin(seed)?);
    reports.iter().try_for_each(|report| straight.tell(report.clone()))?;
    shuffled(reports, order_heard).into_iter().try_for_each(|report| mixed.tell(report))?;
    prop_assert_eq!(essence(&mixed.account), essence(&straight.account), "the order of reports made a difference");
    compare::profit_and_loss(&mixed)
}

#[test]
fn a_venue_that_breaks_its_word_breaks_nothing_else() {
    check(150, &story(60), |(setup, steps)| {
        let mut world = World::new(&setup);
        world.lying_venue = true;
        steps.iter().try_for_each(|step| world.run(step))
    });
}

/// A lot that ended is remembered for a while: its late fill is still counted, and so is the trade.
#[test]
fn a_late_fill_is_counted_though_others_were_accepted_since() {
    check(50, &(sound_signal(), 1..1_000_i128), |(seed, share)| {
        let mut world = accepted(&SignalSeed { symbol: 0, hours: 3, ..seed.clone() })?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].terms.quantity;
        let late = world.trade(0, (quantity * share / 1_000).max(1), 0, 0);
        let cancelled = world.report_on(order(id, 0), News::Cancelled { reason: "in time".into() });
        world.tell(cancelled)?;
        let accepted_before = world.account.recent.len();
        world.run(&Step { wait: 1, op: Op::Signal(SignalSeed { symbol: 1, hours: 6, ..seed }) })?;
        prop_assert_eq!(world.account.recent.len(), accepted_before + 1);
        world.tell(late)?;
        prop_assert!(!world.account.lots[&decision(id)].open.is_zero(), "the fill was lost");
        Ok(())
    });
}

/// A report about an order that no decision explains is kept as such and changes nothing else.
#[test]
fn what_no_decision_explains_is_kept() {
    check(50, &(sound_signal(), any::<u128>(), any::<bool>()), |(seed, stranger, entry)| {
        let mut world = opened(&seed)?;
        let leg = usize::from(!entry);
        let mut report = world.trade(0, 1_000, 0, 0);
        report.order = order(stranger, leg);
        let before = world.account.clone();
        let turn = world.tell_only(report.clone())?;
        prop_assert_eq!(turn.events, vec![Event::Unexplained(report)]);
        prop_assert_eq!(essence(&world.account), essence(&Account { now: world.account.now, ..before }));
        Ok(())
    });
}

/// An exit may leave while the ledger is down, and its own turn be lost in a crash: its reports are all that is left of it.
#[test]
fn an_exit_that_only_the_venue_remembers_closes_the_position() {
    check(100, &(sound_signal(), parts(), shuffle()), |(seed, parts, order_heard)| {
        let mut world = opened(&seed)?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].open;
        let mut reports = vec![world.report_on(order(id, 1), News::Acknowledged)];
        reports.extend(trades(&mut world, 1, quantity, &parts));
        hear(&mut world, shuffled(reports, &order_heard))?;
        is_flat(&world)
    });
}

/// Two such exits: the first was cancelled after a part, the second closed the rest.
#[test]
fn two_exits_that_only_the_venue_remembers_close_the_position_in_any_order() {
    check(100, &(sound_signal(), 1..1_000_i128, shuffle()), |(seed, share, order_heard)| {
        let mut world = opened(&seed)?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].open;
        let first = (quantity * share / 1_000).max(1);
        let mut reports = vec![world.trade(1, first, 0, 0)];
        reports.push(world.report_on(order(id, 1), News::Cancelled { reason: "in time".into() }));
        reports.push(world.trade(2, quantity - first, 0, 0));
        hear(&mut world, shuffled(reports, &order_heard))?;
        is_flat(&world)
    });
}

/// The first exit is known and was refused, the second is not known and works; both are heard of in any order.
#[test]
fn an_exit_after_a_refused_one_is_heard_of_in_any_order() {
    check(50, &(sound_signal(), shuffle()), |(seed, order_heard)| {
        let mut world = exiting(&seed)?;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].open;
        let reports = vec![
            world.report_on(order(id, 1), News::Rejected { reason: "busy".into() }),
            world.report_on(order(id, 2), News::Acknowledged),
            world.trade(2, quantity, 0, 0),
        ];
        hear(&mut world, shuffled(reports, &order_heard))?;
        is_flat(&world)
    });
}

/// The entry filled in two parts, an exit closed both, and the second part is heard of last.
#[test]
fn an_exit_may_be_heard_of_before_the_entry_that_it_closed() {
    check(100, &(sound_signal(), 1..1_000_i128, shuffle()), |(seed, share, order_heard)| {
        let mut world = accepted(&seed)?;
        world.lying_venue = true;
        let id = world.only_lot();
        let quantity = world.model.picture().lots[&id].terms.quantity;
        let first = (quantity * share / 1_000).max(1);
        let begun = world.trade(0, first, 0, 0);
        hear(&mut world, vec![begun])?;
        let reports = vec![world.trade(0, quantity - first, 0, 0), world.trade(1, quantity, 0, 0)];
        hear(&mut world, shuffled(reports, &order_heard))?;
        is_flat(&world)
    });
}

/// Tells the engine alone: the model knows nothing of exits that nobody planned.
fn hear(world: &mut World, reports: Vec<Report>) -> TestCaseResult {
    for report in reports {
        world.tell_only(report)?;
    }
    Ok(())
}

fn is_flat(world: &World) -> TestCaseResult {
    for lot in world.account.lots.values() {
        prop_assert!(lot.open.is_zero() && lot.cost.is_zero(), "open: {}", lot.open);
        prop_assert!(lot.closed_at.is_some() && lot.is_done(), "something is still awaited: {:?}", lot.exits);
    }
    prop_assert!(!world.account.has_open_business());
    compare::profit_and_loss(world)
}
