//! `kill -9` at random moments under load, and plain restarts: nothing that was answered is lost, nothing is done twice, and
//! what comes back is what was there (promises P1, P2, P3 and P7).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::engine::{Engine, Member, World, eventually};
use super::promises::{
    Draw, Ledger, check_memory, check_venue, engine_with, enter, ids, is_filled, limit, market, restart, risk_status,
    taken,
};

const KILLS: usize = 6;
const SENDERS: usize = 8;
/// So much that the losses of the day never end it.
const SETTINGS: &[(&str, &str)] = &[("MAX_DAILY_LOSS", "100000"), ("PAPER_LOST_REPLY_PERCENT", "10")];

/// What the feed has sent, and what it was answered, over all lives of the engine.
#[derive(Default)]
struct Record {
    next: AtomicU64,
    sent: Mutex<BTreeMap<String, Value>>,
    answered: Mutex<BTreeMap<String, Value>>,
}

/// Sends one signal after the other until the engine is gone.
async fn send_signals(client: Client, url: String, feed: String, record: Arc<Record>) {
    loop {
        let n = record.next.fetch_add(1, Ordering::SeqCst);
        let id = format!("load-{n}");
        let signal = match n % 3 {
            0 => limit(&id, "1.08450", "1.08300", "1.08900"),
            _ => market(&id, "1.08300", "1.08900"),
        };
        record.sent.lock().insert(id.clone(), signal.clone());
        let sent = client.post(format!("{url}/api/v1/signals")).bearer_auth(&feed).json(&signal).send().await;
        let Ok(response) = sent else { return };
        let status = response.status();
        let Ok(answer) = response.json::<Value>().await else { return };
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["duplicate"], false, "{answer}");
        record.answered.lock().insert(id, answer);
    }
}

/// Moves the market up to the targets and down to the stops until the engine is gone.
async fn move_market(client: Client, url: String, feed: String) {
    let prices = [("1.08495", "1.08505"), ("1.08900", "1.08910"), ("1.08440", "1.08450"), ("1.08295", "1.08305")];
    for (bid, ask) in prices.iter().cycle() {
        let mark = json!([{"symbol": "EURUSD", "bid": bid, "ask": ask, "at": jiff::Timestamp::now().to_string()}]);
        let sent = client.post(format!("{url}/api/v1/marks")).bearer_auth(&feed).json(&mark).send().await;
        if sent.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Everything that was answered is there, and a repeat is answered alike.
async fn check_answers(engine: &Engine, feed: &str, answered: &BTreeMap<String, Value>) {
    for (id, first) in answered {
        let stored = engine.get(&format!("/api/v1/signals/{id}"), feed).await;
        assert_eq!(stored.status, 200, "{id} is lost: {}", stored.text);
        assert_eq!(stored.body["decisions"], first["decisions"], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_again_and_again_nothing_answered_is_lost_and_nothing_is_done_twice() {
    let mut draw = Draw::new();
    let World { mut engine, admin, ann, bob, feed, other_feed: _ } = World::on(engine_with(SETTINGS)).await;
    let subscription = format!("/api/v1/feeds/breakout/subscribers/{}", bob.id);
    assert_eq!(engine.call(Method::PUT, &subscription, Some(&admin), Some(&json!({}))).await.status, 204);
    let record = Arc::new(Record::default());
    let mut orders = 0;
    for _ in 0..KILLS {
        let (client, url) = (&engine.client, &engine.base);
        let mut tasks = vec![tokio::spawn(move_market(client.clone(), url.clone(), feed.clone()))];
        for _ in 0..SENDERS {
            tasks.push(tokio::spawn(send_signals(client.clone(), url.clone(), feed.clone(), Arc::clone(&record))));
        }
        eventually("the load trades", || async { taken(engine.data_dir()).len() > orders }).await;
        // Then any moment will do: that is the test.
        tokio::time::sleep(Duration::from_millis(draw.between(0, 400))).await;
        let data = engine.kill();
        for task in tasks {
            task.await.expect("every answer was a good one");
        }
        // Before anybody has cleaned up: the venue has nothing that the ledger has not permitted.
        check_venue(data.path());
        orders = taken(data.path()).len();
        println!("killed with {} answered, {orders} orders at the venue", record.answered.lock().len());

        engine = restart(data, SETTINGS);
        let answered = record.answered.lock().clone();
        check_answers(&engine, &feed, &answered).await;
    }
    repeat_everything(&engine, &feed, &record).await;
    let ledger = Ledger::of(engine.data_dir());
    eventually("nothing unknown remains", || async {
        ledger.number("SELECT count(*) FROM orders WHERE unknown = 1 OR status = 'planned'", []) == 0
    })
    .await;
    eventually("the ledger has every order that the venue has", || async {
        let known = ledger.texts("SELECT client_order_id FROM orders", []);
        taken(engine.data_dir()).iter().all(|(_, order)| known.contains(&order.to_string()))
    })
    .await;
    ledger.check_admissions();
    check_venue(engine.data_dir());
    for member in [&ann, &bob] {
        check_memory(&engine, member).await;
    }
}

/// Sends all signals again, those that were never answered as well: each has one set of decisions, the same as ever.
async fn repeat_everything(engine: &Engine, feed: &str, record: &Record) {
    let (sent, answered) = (record.sent.lock().clone(), record.answered.lock().clone());
    assert!(sent.len() > answered.len(), "every signal was answered: nothing was interrupted");
    for (id, signal) in &sent {
        let again = engine.post("/api/v1/signals", feed, signal).await;
        assert_eq!((again.status.as_u16(), &again.body["decided"]), (200, &json!(2)), "{id}: {}", again.text);
        if let Some(first) = answered.get(id) {
            assert_eq!(again.body["duplicate"], true, "{id}");
            let made = |answer: &Value| ids(&answer["decisions"], "decision_id");
            assert_eq!((made(&again.body), &again.body["decisions"]), (made(first), &first["decisions"]), "{id}");
        }
    }
    let ledger = Ledger::of(engine.data_dir());
    let count = i64::try_from(sent.len()).expect("few");
    assert_eq!(ledger.number("SELECT count(*) FROM signals WHERE key LIKE 'load-%'", []), count);
    assert_eq!(ledger.number("SELECT count(*) FROM decisions", []), 2 * count);
}

/// What risk-status says once the market is what it was.
async fn status_at(engine: &Engine, member: &Member, feed: &str, mark: &Value) -> Value {
    let answer = engine.post("/api/v1/marks", feed, mark).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    risk_status(engine, member).await
}

#[tokio::test]
async fn a_restart_gives_the_same_account_to_the_last_field() {
    let World { engine, ann, feed, admin, bob, other_feed } = World::on(engine_with(&[])).await;
    let world = World { engine, ann, feed, admin, bob, other_feed };
    let data = world.engine.data_dir().to_owned();
    // A loss, a position whose stop has moved, an order that waits, refusals, and limits of the user's own.
    let lost = enter(&world, &market("lost", "1.08450", "1.08900")).await;
    eventually("the entry has traded", || async { is_filled(&data, &lost) }).await;
    let mut moving = market("moving", "1.08200", "1.09900");
    moving["protection"] = json!({"breakeven_at_r": "0.5", "trail_distance": "0.00100", "trail_after_r": "0.5"});
    world.push_mark("EURUSD", "1.08440", "1.08450").await;
    eventually("the loss is taken", || async { is_filled(&data, &format!("{}-x1", lost.trim_end_matches("-e"))) })
        .await;
    // The venue knows before the account does, and the next size is found from what is left by then.
    eventually("the account has heard of it", || async {
        risk_status(&world.engine, &world.ann).await["open_positions"] == json!([])
    })
    .await;
    let moving = enter(&world, &moving).await;
    eventually("the second entry has traded", || async { is_filled(&data, &moving) }).await;
    world.push_mark("EURUSD", "1.08790", "1.08800").await;
    // What the moved stop gives back is what the next size is found from.
    eventually("the stop has moved", || async {
        let status = risk_status(&world.engine, &world.ann).await;
        status["open_positions"][0]["stop_loss"].as_str() > Some("1.082")
    })
    .await;
    enter(&world, &limit("waiting", "1.08700", "1.08500", "1.09900")).await;
    let limits = json!({"max_risk_percent": "0.25", "max_open_positions": 2});
    let path = format!("/api/v1/users/{}/limits", world.ann.id);
    assert_eq!(world.engine.call(Method::PATCH, &path, Some(&world.admin), Some(&limits)).await.status, 200);
    let refused = world.engine.post("/api/v1/signals", &world.feed, &market("refused", "1.08500", "1.09900")).await;
    assert_eq!(refused.body["reasons"], json!({"open_positions": 1}), "{}", refused.text);
    eventually("the stop has moved and the order waits at the venue", || async {
        let status = risk_status(&world.engine, &world.ann).await;
        status["open_positions"][0]["stop_loss"].as_str() > Some("1.082")
            && taken(&data).len() == 4
            && status["open_orders"][0]["status"] == "working"
    })
    .await;

    let World { mut engine, ann, feed, .. } = world;
    let mark =
        json!([{"symbol": "EURUSD", "bid": "1.08795", "ask": "1.08805", "at": jiff::Timestamp::now().to_string()}]);
    let before = status_at(&engine, &ann, &feed, &mark).await;
    assert_ne!(before["daily_loss"]["realized"], "0", "{before}");
    for part in ["open_positions", "open_orders"] {
        assert_eq!(before[part].as_array().map(Vec::len), Some(1), "{before}");
    }
    for kill in [true, false] {
        let data = if kill { engine.kill() } else { engine.terminate().1 };
        engine = restart(data, &[]);
        assert_eq!(
            status_at(&engine, &ann, &feed, &mark).await,
            before,
            "after a {}",
            if kill { "kill" } else { "SIGTERM" }
        );
        check_memory(&engine, &ann).await;
    }
}
