//! The ledger says no, or nothing at all: what it refuses has not happened, and what has happened it is told (promises P1,
//! P5 and P6).

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Answer, World, eventually};
use super::promises::{
    Ledger, check_memory, check_venue, engine_with, enter, inputs_stepped, is_filled, limit, market, now, restart,
    risk_status, steps, taken, until_stepped,
};

/// Sends a signal without waiting for its answer.
fn send(world: &World, signal: &Value) -> tokio::task::JoinHandle<Answer> {
    let request = world.engine.client.post(format!("{}/api/v1/signals", world.engine.base));
    let request = request.bearer_auth(&world.feed).json(signal);
    tokio::spawn(async move { Answer::of(request.send().await.expect("answered")).await })
}

/// The reason for which the only decision of an answer refuses.
fn reason(answer: &Answer) -> &Value {
    assert_eq!((answer.status.as_u16(), &answer.body["decided"]), (200, &json!(1)), "{}", answer.text);
    &answer.body["decisions"][0]["reasons"]
}

/// Somebody else writes into the ledger while a signal waits for its commit, and a stop, a fill and two more signals wait
/// behind it. What was written leaves no room for the first signal, so the ledger vetoes it, and everything behind it had
/// been stepped from a state that never was.
async fn a_write_that_vetoes(writes: &[&str], then: &str) {
    let settings = [("MAX_DAILY_LOSS", "1000")];
    let world = World::on(engine_with(&settings)).await;
    let data = world.engine.data_dir().to_owned();
    let stopped = enter(&world, &market("stopped", "1.08450", "1.08900")).await;
    let working = enter(&world, &limit("working", "1.08400", "1.08200", "1.08900")).await;
    eventually("one is filled, the other is at the venue", || async {
        is_filled(&data, &stopped) && taken(&data).iter().any(|(_, order)| order.to_string() == working)
    })
    .await;
    let stepped = until_stepped(&world.engine, 1).await;

    let other = Ledger::of(&data);
    other.0.execute_batch("BEGIN IMMEDIATE").expect("held");
    let vetoed = send(&world, &market("vetoed", "1.08300", "1.08900"));
    until_stepped(&world.engine, stepped + 1).await;
    // The stop of the one is hit and the other's price is met: both trade although nothing can be written.
    world.push_mark("EURUSD", "1.08390", "1.08400").await;
    let exit = format!("{}-x1", stopped.trim_end_matches("-e"));
    eventually("both have traded", || async { is_filled(&data, &exit) && is_filled(&data, &working) }).await;
    let stepped = until_stepped(&world.engine, stepped + 2).await;
    let behind = [send(&world, &market("b", "1.08250", "1.08900")), send(&world, &market("c", "1.08260", "1.08900"))];
    until_stepped(&world.engine, stepped + 2).await;
    let sent = taken(&data);
    assert_eq!(sent.len(), 3, "an entry has left before its commit: {sent:?}");
    assert!(!vetoed.is_finished() && behind.iter().all(|one| !one.is_finished()), "an answer before its commit");
    let committed = now();
    for write in writes {
        assert_eq!(other.0.execute(write, [&world.ann.id]).expect("written"), 1);
    }
    other.0.execute_batch("COMMIT").expect("let go");

    let vetoed = vetoed.await.expect("answered");
    assert_eq!(reason(&vetoed), &json!(["ledger_veto"]), "{}", vetoed.text);
    for answer in behind {
        let answer = answer.await.expect("answered");
        assert_eq!(reason(&answer), &json!([then]), "stepped again on what the ledger holds: {}", answer.text);
    }
    check_order_of_turns(&other, &world, committed.micros());
    let before = check_memory(&world.engine, &world.ann).await;
    assert!(steps(&before["daily_loss"]["realized"]) > 0, "the stop's loss is counted: {before}");
    assert_eq!(before["open_positions"].as_array().map(Vec::len), Some(1), "the fill is counted once: {before}");
    assert_eq!(taken(&data).len(), 3, "what the ledger refused has left nothing at the venue");
    check_venue(&data);

    // The next start knows the ledger alone.
    let ann = world.ann;
    let engine = restart(world.engine.kill(), &settings);
    let mut after = risk_status(&engine, &ann).await;
    // The market is not remembered over a restart.
    after["open_positions"][0]["unrealized"] = before["open_positions"][0]["unrealized"].clone();
    assert_eq!(after, before);
}

/// The veto first, then what was behind it in the order in which it had come, with the time at which it had come.
fn check_order_of_turns(ledger: &Ledger, world: &World, committed_us: i64) {
    let turn = |what: &str| -> (i64, i64) {
        let sql = "SELECT version, now_us FROM events WHERE user_id = ?1 AND input LIKE ?2";
        let row = ledger.0.query_row(sql, [&world.ann.id, what], |row| Ok((row.get(0)?, row.get(1)?)));
        row.unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    let vetoed = turn("%Vetoed%\"key\":\"vetoed\"%");
    let filled = {
        let sql = "SELECT max(version), max(now_us) FROM events WHERE user_id = ?1 AND input LIKE '%Filled%'";
        let row = ledger.0.query_row(sql, [&world.ann.id], |row| Ok((row.get(0)?, row.get(1)?)));
        row.expect("there are fills")
    };
    let behind = [turn("%\"key\":\"b\"%"), turn("%\"key\":\"c\"%")];
    for later in behind {
        assert!(vetoed < filled && filled < later, "in order: {vetoed:?} {filled:?} {later:?}");
        assert!(later.1 < committed_us, "with its first time: {later:?}, {committed_us}");
    }
}

#[tokio::test]
async fn a_reservation_by_somebody_else_vetoes_and_memory_equals_the_ledger_afterwards() {
    let write = "UPDATE accounts SET reserved_e8 = reserved_e8 + 99900000000 WHERE user_id = ?1";
    a_write_that_vetoes(&[write], "daily_loss_cap").await;
}

#[tokio::test]
async fn a_loss_by_somebody_else_vetoes_and_memory_equals_the_ledger_afterwards() {
    let writes = [
        "INSERT INTO daily_risk (user_id, day, realized_e8) VALUES (?1, date('now'), -100000000000)
             ON CONFLICT DO UPDATE SET realized_e8 = realized_e8 + excluded.realized_e8",
        "UPDATE accounts SET net_realized_e8 = net_realized_e8 - 100000000000 WHERE user_id = ?1",
    ];
    a_write_that_vetoes(&writes, "day_closed").await;
}

#[tokio::test]
async fn a_trade_that_fills_at_once_is_two_turns_in_and_two_out() {
    let world = World::on(engine_with(&[])).await;
    let ledger = Ledger::of(world.engine.data_dir());
    let fills = || ledger.number("SELECT count(*) FROM fills", []);
    enter(&world, &market("quick", "1.08300", "1.08900")).await;
    eventually("the entry's fill is written", || async { fills() == 1 }).await;
    world.push_mark("EURUSD", "1.08290", "1.08300").await;
    eventually("the exit's fill is written", || async { fills() == 2 }).await;
    let turns = || ledger.texts("SELECT input FROM events WHERE user_id = ?1 ORDER BY version", [&world.ann.id]);
    let settled = turns();
    let kinds = ["signal", "filled", "look", "filled"];
    assert_eq!(settled.len(), kinds.len(), "{settled:#?}");
    for (turn, kind) in settled.iter().zip(kinds) {
        assert!(turn.to_lowercase().contains(kind), "{kind}: {turn}");
    }
    // A limit that the market has not reached says so itself: the venue has it.
    enter(&world, &limit("waits", "1.08200", "1.08000", "1.08900")).await;
    eventually("its acknowledgement is written", || async {
        ledger.number("SELECT count(*) FROM orders WHERE status = 'working'", []) == 1
    })
    .await;
    assert_eq!(turns().len(), kinds.len() + 2, "{:#?}", turns());
    check_memory(&world.engine, &world.ann).await;
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_stops_trade_and_their_facts_are_written_afterwards() {
    let world = World::on(engine_with(&[])).await;
    let data = world.engine.data_dir().to_owned();
    let entry = enter(&world, &market("held", "1.08300", "1.08900")).await;
    let ledger = Ledger::of(&data);
    let fills = || ledger.number("SELECT count(*) FROM fills", []);
    eventually("the entry's fill is written", || async { fills() == 1 }).await;

    let other = Ledger::of(&data);
    other.0.execute_batch("BEGIN IMMEDIATE").expect("held");
    world.push_mark("EURUSD", "1.08290", "1.08300").await;
    let exit = format!("{}-x1", entry.trim_end_matches("-e"));
    eventually("the stop has traded", || async { is_filled(&data, &exit) }).await;
    eventually("the ledger is known to be away", || async {
        world.engine.get("/status", "").await.body["ledger"] == "down"
    })
    .await;
    assert_eq!(world.engine.get("/health/ready", "").await.status, 503);
    let began = Instant::now();
    let refused = world.engine.post("/api/v1/signals", &world.feed, &market("away", "1.08100", "1.08900")).await;
    assert_eq!(refused.status, 503, "in {:?}: {}", began.elapsed(), refused.text);
    refused.check_problem();
    assert_eq!((fills(), taken(&data).len()), (1, 2), "nothing is written, and nothing sent but the exit");

    other.0.execute_batch("ROLLBACK").expect("let go");
    eventually("the exit's fill is written", || async { fills() == 2 }).await;
    let inputs = inputs_stepped(&world.engine).await;
    until_stepped(&world.engine, inputs).await;
    let status = check_memory(&world.engine, &world.ann).await;
    assert_eq!((&status["open_positions"], &status["open_orders"]), (&json!([]), &json!([])));
    assert!(steps(&status["daily_loss"]["realized"]) > 0, "{status}");
    assert_eq!(taken(&data).len(), 2, "the exit has left once");
    // What was refused can be sent again.
    let again = world.engine.post("/api/v1/signals", &world.feed, &market("away", "1.08100", "1.08900")).await;
    assert_eq!((again.status.as_u16(), &again.body["accepted"]), (200, &json!(1)), "{}", again.text);
    let stored = world.engine.call(Method::GET, "/api/v1/signals/away", Some(&world.feed), None).await;
    assert_eq!(stored.body["pending"], 0, "{}", stored.text);
}
