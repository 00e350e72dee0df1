//! Many at once: the cap holds, nobody waits for ever, and one signal is one signal (promises P2 and P5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};

use super::engine::{World, signal};
use super::promises::{Ledger, check_memory, check_venue, engine_with, ids, limit, market};

#[tokio::test]
async fn of_64_signals_at_once_each_of_60_percent_of_the_cap_no_more_are_accepted_than_fit() {
    // 1.1988 % of 500 is 5.994: 60 % of the cap of 9.99.
    let world = World::on(engine_with(&[("MAX_RISK_PERCENT", "1.1988")])).await;
    let user = world.ann.id.clone();
    let cap = Ledger::of(world.engine.data_dir()).cap(&user);
    assert_eq!(cap, 999_000_000);

    // Somebody looks at the ledger all the while: the sum is never beyond the cap, not even for a moment.
    let is_over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (ledger, is_over) = (Ledger::of(world.engine.data_dir()), Arc::clone(&is_over));
        move || {
            let mut highest = 0;
            while !is_over.load(Ordering::SeqCst) {
                let used = ledger.used(&user);
                assert!(used.iter().sum::<i64>() <= cap, "realised, open, reserved: {used:?} of {cap}");
                highest = highest.max(used.iter().sum());
            }
            highest
        }
    });
    // Half of them trade at once and move risk on, half wait at a price and hold it.
    let signals = (0..64).map(|n| match n % 2 {
        0 => market(&format!("race {n}"), "1.08300", "1.08900"),
        _ => limit(&format!("race {n}"), "1.08400", "1.08300", "1.08900"),
    });
    let answers = join_all(signals.map(|signal| async {
        let signal = signal;
        world.engine.post("/api/v1/signals", &world.feed, &signal).await
    }))
    .await;
    is_over.store(true, Ordering::SeqCst);
    let highest = watcher.join().expect("the cap held all the while");

    let mut accepted = 0;
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.body["decided"]), (200, &json!(1)), "{}", answer.text);
        accepted += answer.body["accepted"].as_u64().expect("a count");
        let reasons = answer.body["reasons"].as_object().expect("an object");
        assert!(
            reasons.keys().all(|reason| reason == "daily_loss_cap" || reason == "size_below_minimum"),
            "only the cap refuses: {}",
            answer.text
        );
    }
    // The first takes its 60 %, the second is shrunk to what is left; the slippage that a fill gives back admits no third.
    assert_eq!(accepted, 2);
    assert!(highest * 10 > cap * 9, "the race came nowhere near the cap: {highest}");
    let ledger = Ledger::of(world.engine.data_dir());
    ledger.check_admissions();
    assert_eq!(ledger.number("SELECT count(*) FROM decisions", []), 64);
    let status = check_memory(&world.engine, &world.ann).await;
    assert_eq!(status["daily_loss"]["cap"], "9.99");
    check_venue(world.engine.data_dir());
}

#[tokio::test]
async fn of_32_repeats_at_once_one_decides_and_all_are_answered_alike() {
    let world = World::new().await;
    let subscription = format!("/api/v1/feeds/breakout/subscribers/{}", world.bob.id);
    let answer = world.engine.call(reqwest::Method::PUT, &subscription, Some(&world.admin), Some(&json!({}))).await;
    assert_eq!(answer.status, 204);
    for round in 0..4 {
        let signal = signal(&format!("repeat {round}"));
        let answers = join_all((0..32).map(|_| world.engine.post("/api/v1/signals", &world.feed, &signal))).await;
        let firsts = answers.iter().filter(|answer| answer.body["duplicate"] == false).count();
        assert_eq!(firsts, 1, "exactly one is not a repeat");
        let made: Vec<String> = ids(&answers[0].body["decisions"], "decision_id");
        assert_eq!(made.len(), 2);
        for answer in &answers {
            assert_eq!(answer.status, 200, "{}", answer.text);
            let alike =
                |field: &str| -> (Value, Value) { (answer.body[field].clone(), answers[0].body[field].clone()) };
            for (this, that) in ["signal_id", "decided", "accepted", "decisions"].map(alike) {
                assert_eq!(this, that);
            }
        }
        let ledger = Ledger::of(world.engine.data_dir());
        assert_eq!(ledger.number("SELECT count(*) FROM signals", []), round + 1);
        assert_eq!(ledger.number("SELECT count(*) FROM decisions", []), 2 * (round + 1));
    }
    check_venue(world.engine.data_dir());
}
