//! What-if: a dry run says what the real thing would, and leaves no trace.

use std::collections::BTreeMap;

use reqwest::Method;
use rusqlite::types::Value as Cell;
use serde_json::{Value, json};

use super::engine::{World, signal};
use super::promises::Ledger;

const DRY: &str = "/api/v1/signals?dry_run=true";

/// Every row of every table of the ledger.
fn everything(world: &World) -> BTreeMap<String, Vec<Vec<Cell>>> {
    let ledger = Ledger::of(world.engine.data_dir());
    let tables = ledger.texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", []);
    assert!(tables.contains(&"decisions".to_owned()));
    let rows = |table: &String| {
        let mut statement = ledger.0.prepare(&format!("SELECT * FROM \"{table}\"")).expect("prepared");
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).expect("asked");
        rows.map(|row| row.expect("read")).collect()
    };
    tables.iter().map(|table| (table.clone(), rows(table))).collect()
}

async fn what_if(world: &World, signal: &Value) -> Value {
    let answer = world.engine.post(DRY, &world.feed, signal).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["dry_run"], true);
    answer.body
}

#[tokio::test]
async fn it_says_what_the_real_signal_then_gets_and_leaves_no_trace() {
    let world = World::new().await;
    let (before, state) = (everything(&world), world.state().await);
    let mut said = Value::Null;
    for _ in 0..3 {
        said = what_if(&world, &signal("a")).await;
    }
    let list = world.engine.post(DRY, &world.feed, &json!([signal("a"), signal("a"), signal("b")])).await;
    for one in list.body.as_array().expect("a list") {
        assert_eq!(one["decisions"][0]["left"]["timeframe_trades"], 0, "each by itself");
        assert_eq!(one["accepted"], 1);
    }
    assert_eq!(everything(&world), before);
    assert_eq!(world.state().await, state);
    let real = world.engine.post("/api/v1/signals", &world.feed, &signal("a")).await.body;
    assert_eq!((&real["duplicate"], &real["accepted"]), (&json!(false), &json!(1)), "the id was not used up");
    for field in ["verdict", "quantity", "risk", "user_id"] {
        assert_eq!(said["decisions"][0][field], real["decisions"][0][field], "{field}");
    }
    assert_eq!(said["decisions"][0]["left"]["timeframe_trades"], 0);
    assert_eq!(said["decisions"][0]["left"]["open_positions"], 4);
    // Now the same is refused, and so says the dry run: by what a new signal would get, not by what this id got.
    let again = what_if(&world, &signal("a")).await;
    assert_eq!(again["reasons"], json!({"duplicate_signal": 1}));
    assert!(again["decisions"][0]["left"]["duplicate_until"].is_string());
}

#[tokio::test]
async fn it_knows_the_gate_the_limits_and_who_follows() {
    let world = World::new().await;
    assert_eq!(what_if(&world, &signal("a")).await["accepted"], 1);
    let limits = json!({"max_daily_loss": "1.00"});
    let path = format!("/api/v1/users/{}/limits", world.ann.id);
    world.engine.call(Method::PATCH, &path, Some(&world.admin), Some(&limits)).await;
    let tighter = what_if(&world, &signal("a")).await;
    assert_eq!(tighter["reasons"], json!({"size_below_minimum": 1}));
    assert_eq!(tighter["decisions"][0]["left"]["daily_loss"], "1.00");
    let mut to_bob = signal("a");
    to_bob["user_id"] = json!(world.bob.id);
    assert_eq!(what_if(&world, &to_bob).await["reasons"], json!({"feed_not_subscribed": 1}));
    let nobody = world.engine.post(DRY, &world.other_feed, &signal("a")).await;
    assert_eq!(nobody.body["decided"], 0);
    world.engine.post("/admin/emergency-stop", &world.admin, &json!({})).await;
    assert_eq!(what_if(&world, &signal("a")).await["reasons"], json!({"trading_halted": 1}));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_never_traded() {
    let world = World::new().await;
    let before = everything(&world);
    for query in ["dry_run=yes", "dryrun=true", "dry_run=true&dry_run=false", "dry_run=true&x=1", "dry_run"] {
        let answer = world.engine.post(&format!("/api/v1/signals?{query}"), &world.feed, &signal("a")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        answer.check_problem();
    }
    let lines = world.engine.post_raw(DRY, &world.feed, "application/x-ndjson", signal("a").to_string()).await;
    assert_eq!(lines.status, 415, "{}", lines.text);
    let mut wrong = signal("a");
    wrong["side"] = json!("up");
    assert_eq!(world.engine.post(DRY, &world.feed, &wrong).await.status, 422);
    assert_eq!(world.engine.post(DRY, &world.admin, &signal("a")).await.status, 403);
    let mut foreign = signal("a");
    foreign["user_id"] = json!(uuid());
    assert_eq!(world.engine.post(DRY, &world.feed, &foreign).await.status, 422);
    assert_eq!(everything(&world), before);
}

fn uuid() -> String {
    "01a20c52-e46a-75f6-94f7-0344a35abf14".to_owned()
}
