//! Whole stories: every verdict, every figure, every trigger, as the model says.
//!
//! One story mixes everything, because limits are broken where they meet: a late fill after midnight in a cool-down. The
//! stories are also asked what they reached, so that agreement is not the agreement of two silences.

use std::cell::RefCell;
use std::collections::BTreeSet;

use nexus_engine::rules::Refusal;

use crate::check;
use crate::compare;
use crate::generate::{Op, Step, signal, story};
use crate::world::World;
use proptest::prelude::*;

/// How many steps the longest story has.
const STEPS: usize = 60;

#[test]
fn every_story_goes_as_the_model_says() {
    let met = RefCell::new(BTreeSet::new());
    check(800, &story(STEPS), |(setup, steps)| {
        let mut world = World::new(&setup);
        for step in &steps {
            world.run(step)?;
        }
        met.borrow_mut().extend(world.met.clone());
        compare::profit_and_loss(&world)
    });
    // Agreement must not be the agreement of two silences: the stories reach every rule and every kind of event.
    let refusals = Refusal::ALL.iter().map(|refusal| format!("refused {}", refusal.code()));
    let kinds = EVENTS.iter().map(|kind| (*kind).to_owned());
    let missing: Vec<_> = refusals.chain(kinds).filter(|what| !met.borrow().contains(what)).collect();
    assert!(missing.is_empty(), "no story reached {missing:?}");
}

/// What stories must reach besides every refusal.
const EVENTS: &[&str] = &[
    "accepted",
    "acknowledged",
    "filled entry",
    "filled exit",
    "ended cancelled",
    "ended rejected",
    "ended expired",
    "doubted",
    "exit stop_loss",
    "exit break_even",
    "exit trailing",
    "exit take_profit",
    "exit max_hold",
    "cancel_requested",
    "stop_moved break_even",
    "stop_moved trailing",
    "closed",
    "closed at a loss",
    "cooled_down",
    "limits_set",
    "trading_set",
    "quarantine_set",
    "corrected",
];

#[test]
fn every_signal_on_a_fresh_account_is_judged_as_the_model_says() {
    let first = (crate::generate::setup(), signal());
    check(1_500, &first, |(setup, seed)| World::new(&setup).run(&Step { wait: 0, op: Op::Signal(seed) }));
}

/// Two signals that together would exceed a limit never both pass, whatever the limit.
#[test]
fn a_burst_never_exceeds_the_cap() {
    let burst = (crate::generate::setup(), prop::collection::vec(signal(), 2..25));
    check(200, &burst, |(setup, seeds)| {
        let mut world = World::new(&setup);
        let cap = setup.limits.max_daily_loss.steps();
        for seed in seeds {
            world.run(&Step { wait: 1, op: Op::Signal(seed) })?;
            let account = &world.account;
            let used = account.realized_loss().plus(account.open_risk()).plus(account.reserved_risk());
            prop_assert!(used.steps() <= cap, "{} of {}", used, setup.limits.max_daily_loss);
        }
        Ok(())
    });
}
