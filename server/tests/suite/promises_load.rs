//! More than fits: what is too much is turned away at once and told when to come back, what was let in is decided, and the
//! kill switch waits behind nobody (promise P9).

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Answer, PASSWORD, World, eventually};
use super::promises::{Ledger, engine_with};

/// Followers of the feed: each signal weighs so much.
const FOLLOWERS: usize = 256;
/// The engine's own bound on decisions under way.
const PERMITS: usize = 8_192;
const SIGNALS: usize = PERMITS / FOLLOWERS + 16;

async fn follow(world: &World) {
    let follower = async |n: usize| {
        let body = json!({
            "username": format!("follower{n}"), "password": PASSWORD, "role": "user", "equity": "500", "currency": "USD"
        });
        let made = world.engine.post("/api/v1/users", &world.admin, &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let path = format!("/api/v1/feeds/breakout/subscribers/{}", made.body["id"].as_str().expect("an id"));
        let answer = world.engine.call(Method::PUT, &path, Some(&world.admin), Some(&json!({}))).await;
        assert_eq!(answer.status, 204);
    };
    // Ann follows already.
    stream::iter(1..FOLLOWERS).for_each_concurrent(8, follower).await;
}

/// A signal that every follower refuses, since nobody knows its market: refusals are decisions, too.
fn signal(n: usize) -> Value {
    json!({
        "id": format!("flood {n}"), "symbol": "GBPUSD", "side": "buy", "timeframe": "3H", "stop_loss": "1.2",
        "take_profit": "1.3"
    })
}

async fn timed(call: impl Future<Output = Answer>) -> (Duration, Answer) {
    let began = Instant::now();
    let answer = call.await;
    (began.elapsed(), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_turned_away_at_once_and_a_stop_does_not_wait_behind_it() {
    let world = World::on(engine_with(&[])).await;
    follow(&world).await;
    let ledger = Ledger::of(world.engine.data_dir());
    // Nothing is finished while the ledger is held, so everything that was let in is under way.
    ledger.0.execute_batch("BEGIN IMMEDIATE").expect("held");
    let flood = join_all((0..SIGNALS).map(|n| {
        let request = world.engine.client.post(format!("{}/api/v1/signals", world.engine.base));
        let request = request.bearer_auth(&world.feed).json(&signal(n));
        tokio::spawn(timed(async { Answer::of(request.send().await.expect("answered")).await }))
    }));
    let flood = tokio::spawn(flood);
    eventually("some are turned away", || async {
        let metrics = world.engine.get("/api/v1/metrics", "").await.text;
        let shed = metrics.lines().find_map(|line| line.strip_prefix("nexus_signals_overloaded_total "));
        shed == Some("16")
    })
    .await;
    let stop = json!({"reason": "overload"});
    let (stopped_in, stopped) = timed(world.engine.post("/admin/emergency-stop", &world.admin, &stop)).await;
    ledger.0.execute_batch("COMMIT").expect("let go");
    assert_eq!((stopped.status.as_u16(), &stopped.body["state"]), (200, &json!("halted")), "{}", stopped.text);
    println!("a stop under overload: {stopped_in:?}");
    assert!(stopped_in < Duration::from_secs(2), "the stop has waited: {stopped_in:?}");

    let mut shed = 0;
    for answered in flood.await.expect("sent") {
        let (took, answer) = answered.expect("answered");
        if answer.status == 429 {
            shed += 1;
            answer.check_problem();
            let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("when to come back");
            assert!((1..=60).contains(&wait), "{wait}");
            assert!(took < Duration::from_secs(4), "turned away only after {took:?}");
        } else {
            assert!(answer.status == 200 || answer.status == 202, "{}", answer.text);
        }
    }
    assert_eq!(shed, SIGNALS - PERMITS / FOLLOWERS);
    eventually("what was let in is decided, and nothing else", || async {
        ledger.number("SELECT count(*) FROM decisions", []) == i64::try_from(PERMITS).expect("few")
    })
    .await;
    // There is room again.
    let after = world.engine.post("/api/v1/signals", &world.feed, &signal(SIGNALS)).await;
    assert_eq!((after.status.as_u16(), &after.body["decided"]), (200, &json!(FOLLOWERS)), "{}", after.text);
}
