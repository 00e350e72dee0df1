//! The engine against an independent model of it.
//!
//! Random stories (signals, reports in any order, looks at a moving market, waits over midnight, changed limits) run
//! through the engine and through a model that was written from the rules alone and recomputes everything from the list
//! of what happened. After every step all figures must agree to the last digit. A short run draws the same stories each
//! time, so that a commit's result is its own; `NEXUS_LONG=1` draws many new ones. A failure prints its smallest story
//! and the seed; `NEXUS_SEED=N` draws the same ones again.

mod compare;
mod decisions;
mod determinism;
mod extremes;
mod generate;
mod model;
mod orders;
mod others;
mod verdict;
mod watching;
mod world;

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// How many times as many cases a long run draws.
const LONG: u32 = 20;

/// Holds a property against many drawn cases.
fn check<S: Strategy<Value: Debug>>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult) {
    let long = std::env::var_os("NEXUS_LONG").is_some();
    let seed = match std::env::var("NEXUS_SEED") {
        Ok(text) => text.parse().expect("NEXUS_SEED is a number"),
        Err(_) if long => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs(),
        Err(_) => 1,
    };
    let config = Config {
        cases: if long { cases * LONG } else { cases },
        failure_persistence: None,
        max_shrink_iters: 20_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    if let Err(error) = TestRunner::new(config).run(strategy, property) {
        panic!("NEXUS_SEED={seed}\n{error}");
    }
}
