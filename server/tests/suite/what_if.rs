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
    for id in ["decision_id", "client_order_id"] {
        assert_eq!(said["decisions"][0][id], Value::Null, "{id}: there is no decision and no order");
    }
    let left = &said["decisions"][0]["left"];
    assert_eq!((&left["timeframe_trades"], &left["open_positions"]), (&json!(0), &json!(4)));
    assert_eq!((&left["orders_this_minute"], &left["risk_per_trade"]), (&json!(59), &json!("5.00")));
    // Now the same is refused, and so says the dry run: by what a new signal would get, not by what this id got.
    let again = what_if(&world, &signal("a")).await;
    assert_eq!(again["reasons"], json!({"duplicate_signal": 1}));
    assert!(again["decisions"][0]["left"]["duplicate_until"].is_string());
    // What the first dry run said would be left is what is left.
    for limit in ["timeframe_trades", "open_positions", "orders_this_minute"] {
        assert_eq!(again["decisions"][0]["left"][limit], left[limit], "{limit}");
    }
    let metrics = world.engine.get("/api/v1/metrics", &world.admin).await.text;
    for counted in ["nexus_decisions_total{verdict=\"accepted\"} 1\n", "nexus_signals_total 1\n"] {
        assert!(metrics.contains(counted), "only the real signal counts: {metrics}");
    }
}

/// Each limit's figure in a dry run goes down by what the real signal before it took.
#[tokio::test]
async fn what_is_left_goes_down_by_each_real_signal() {
    let world = World::new().await;
    let on_six_hours = |id: &str| {
        let mut signal = signal(id);
        signal["timeframe"] = json!("6H");
        // Refused: its target is behind the market. So what is left is what is left now.
        signal["take_profit"] = json!("1.08501");
        signal
    };
    let left = async || what_if(&world, &on_six_hours("asked")).await["decisions"][0]["left"].clone();
    let steps = |left: &Value, name: &str| {
        let money: nexus_engine::units::Money = left[name].as_str().expect("a decimal").parse().expect("money");
        money
    };
    let before = left().await;
    let mut real = signal("real");
    real["timeframe"] = json!("6H");
    let said = what_if(&world, &real).await;
    let decided = world.engine.post("/api/v1/signals", &world.feed, &real).await.body;
    assert_eq!(decided["decisions"][0]["quantity"], said["decisions"][0]["quantity"]);
    let after = left().await;
    for (count, used) in
        [("timeframe_trades", 1), ("open_positions", 1), ("orders_this_minute", 1), ("losing_trades", 0)]
    {
        let number = |left: &Value| left[count].as_u64().expect("a count");
        assert_eq!(number(&before) - number(&after), used, "{count}");
        assert_eq!(said["decisions"][0]["left"][count], after[count], "{count}");
    }
    for amount in ["daily_loss", "exposure"] {
        assert!(steps(&after, amount) < steps(&before, amount), "{amount}: {before} {after}");
    }
    let promised = &said["decisions"][0];
    let used = steps(&before, "daily_loss").minus(steps(&promised["left"], "daily_loss"));
    assert_eq!(used, steps(promised, "risk"), "the whole worst case is reserved");
    assert_eq!((&before["duplicate_until"], after["duplicate_until"].is_string()), (&Value::Null, true));
}

#[tokio::test]
async fn a_list_is_answered_in_its_places_also_when_one_of_it_cannot_be_asked_about() {
    let world = World::new().await;
    let mut foreign = signal("b");
    foreign["user_id"] = json!(uuid());
    let list = json!([signal("a"), foreign, signal("c")]);
    let dry = world.engine.post(DRY, &world.feed, &list).await;
    assert_eq!(dry.status, 207, "{}", dry.text);
    assert_eq!((&dry.body[0]["accepted"], &dry.body[2]["accepted"]), (&json!(1), &json!(1)));
    assert_eq!(dry.body[1]["errors"][0]["field"], "user_id");
    let real = world.engine.post("/api/v1/signals", &world.feed, &list).await;
    assert_eq!((real.status, &real.body[1]), (dry.status, &dry.body[1]), "as it is refused for real");
    let long: Vec<Value> = (0..1_001).map(|n| signal(&n.to_string())).collect();
    assert_eq!(world.engine.post(DRY, &world.feed, &json!(long)).await.status, 422);
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
        let named = query.split('=').next().map(|name| if query.ends_with("x=1") { "\"x\"" } else { name });
        assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.contains(named.unwrap_or_default())));
        answer.check_problem();
    }
    let lines = world.engine.post_raw(DRY, &world.feed, "application/x-ndjson", signal("a").to_string()).await;
    assert_eq!(lines.status, 415, "{}", lines.text);
    let query = format!("/api/v1/signals?{}=1", "x".repeat(5_000));
    assert!(world.engine.post(&query, &world.feed, &signal("a")).await.text.len() < 500, "long names are not repeated");
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
