//! The same inputs give the same turns: on a clone, after a restart from a snapshot, from the very beginning.
//!
//! A ledger keeps snapshots as text and turns with their inputs; what is rebuilt from either must be the account that was
//! lost, and must go on as it would have gone on (promise P7). The world compares every step with the same step of a
//! clone; here the account and its inputs go through their text form.

use nexus_engine::account::{Account, Context, Event, Input};
use nexus_engine::replay::Replay;
use nexus_engine::units::Money;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::check;
use crate::generate::{Setup, Step, story};
use crate::world::{USER, World};

const STEPS: usize = 50;

/// A value as it comes back from its text form.
fn reread<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, TestCaseError> {
    let text = serde_json::to_string(value).map_err(|error| TestCaseError::fail(format!("writing: {error}")))?;
    serde_json::from_str(&text).map_err(|error| TestCaseError::fail(format!("reading: {error} in {text}")))
}

fn told(setup: &Setup, steps: &[Step]) -> Result<World, TestCaseError> {
    let mut world = World::new(setup);
    steps.iter().try_for_each(|step| world.run(step))?;
    Ok(world)
}

fn fresh(setup: &Setup) -> Account {
    Account::open(USER, "USD".into(), Money::from_steps(setup.equity), setup.limits.clone())
}

#[test]
fn a_restart_from_a_snapshot_goes_on_as_if_nothing_had_been() {
    check(100, &(story(STEPS), any::<Index>()), |((setup, steps), crash)| {
        let world = told(&setup, &steps)?;
        let crash = crash.index(world.record.len() + 1);
        let mut account = fresh(&setup);
        let mut stored = account.clone();
        for (number, step) in world.record.iter().enumerate() {
            if let Some(ledger) = &step.loaded {
                account = stored.clone().corrected(ledger.clone());
            }
            if number == crash {
                let again = reread(&account)?;
                prop_assert_eq!(&again, &account, "a snapshot is not what was written");
                account = again;
            }
            prop_assert_eq!(&account.step(step.now, &step.input, &step.context), &step.turn);
            if !step.turn.events.is_empty() {
                stored = account.clone();
            }
        }
        // What was loaded since is in no turn yet.
        if world.account.correction.is_some() {
            account = stored.corrected(world.shadow.ledger(&world.account));
        }
        prop_assert_eq!(account, world.account);
        Ok(())
    });
}

/// Only turns with events are in the ledger, and their inputs come from its text columns.
#[test]
fn the_recorded_inputs_rebuild_the_account() {
    check(100, &story(STEPS), |(setup, steps)| {
        let world = told(&setup, &steps)?;
        let mut replay = Replay::begin(fresh(&setup));
        for step in world.record.iter().filter(|step| !step.turn.events.is_empty()) {
            let input: Input = reread(&step.input)?;
            let context: Context = reread(&step.context)?;
            prop_assert_eq!((&input, &context), (&step.input, &step.context), "an input is not what was written");
            if let Some(Event::Corrected(ledger)) = step.turn.events.first() {
                replay.correct(ledger);
            }
            let turn = replay.take(step.now, &input, &context);
            prop_assert_eq!(&turn, &step.turn);
            prop_assert_eq!(reread(&turn.events)?, turn.events, "an event is not what was written");
        }
        if world.account.correction.is_some() {
            replay.correct(&world.shadow.ledger(&world.account));
        }
        prop_assert_eq!(replay.account(), &world.account);
        world.shadow.counts_as(replay.counters())
    });
}
