//! Redis vanishes, hangs, forgets, or comes back with yesterday's data, under a running engine: decisions go on, none is made
//! twice, and nobody gets in again who was shown out (promise P8).

use std::time::{Duration, Instant};

use nexus_testbed::{Kind, Server};
use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Engine, PATIENCE, World};
use super::production::{Database, close_everything, free_port, world};
use super::production_load::{Load, check_record};
use super::promises::market;

/// While Redis is away, and right after it has changed its mind.
const GOES_ON_WITHIN: Duration = Duration::from_secs(3);

async fn until_hot_state(world: &World, wanted: &str) {
    let began = Instant::now();
    loop {
        let health = world.engine.get("/health", "").await;
        assert_eq!(health.status, 200, "the engine works: {}", health.text);
        if health.body["checks"]["hot_state"] == wanted {
            assert_eq!(health.body["status"], if wanted == "up" { "ok" } else { "degraded" }, "{}", health.text);
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the hot state is never {wanted}: {}", health.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn goes_on(load: &Load, what: &str) {
    let took = load.until_answered(10).await;
    println!("{what}: 10 answers in {took:?}");
    assert!(took < GOES_ON_WITHIN, "{what}: {took:?}");
}

/// Everything that may befall it, one after the other, under load.
async fn mistreat(world: &World, redis: &Server, load: &Load) {
    goes_on(load, "all is well").await;
    redis.save();
    assert_eq!(redis.say("FLUSHALL"), "+OK");
    goes_on(load, "forgotten everything").await;

    tokio::task::block_in_place(|| redis.kill());
    goes_on(load, "killed").await;
    until_hot_state(world, "down").await;
    goes_on(load, "away").await;
    tokio::task::block_in_place(|| redis.restart());
    goes_on(load, "back with old data").await;
    until_hot_state(world, "up").await;

    redis.signal("-STOP");
    goes_on(load, "hanging").await;
    until_hot_state(world, "down").await;
    goes_on(load, "hanging still").await;
    redis.signal("-CONT");
    until_hot_state(world, "up").await;
    goes_on(load, "awake").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_redis_decisions_go_on_and_none_is_lost_or_made_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Kind::Redis.private(folder.path());
    let database = Database::fresh().await;
    let port = free_port();
    let more = [("REDIS_URL", redis.url.as_str()), ("MAX_DAILY_LOSS", "100000"), ("API_PORT", port.as_str())];
    let mut world = world(&database, &more).await;
    let load = Load::on(&world);
    mistreat(&world, &redis, &load).await;

    // An engine that begins with what Redis tells it, which is all of an older day.
    let data = world.engine.kill();
    tokio::task::block_in_place(|| redis.kill());
    tokio::task::block_in_place(|| redis.restart());
    world = World { engine: Engine::start_on(data, &database.settings(&more)), ..world };
    load.until_answered(10).await;
    let record = load.end().await;
    let mut sql = database.sql().await;
    check_record(&mut sql, &record, 1).await;
    // What was answered is answered again as it was, whoever remembers it.
    for (id, first) in record.answered.lock().clone().into_iter().take(20) {
        let signal = record.sent.lock()[&id].clone();
        let again = world.engine.post("/api/v1/signals", &world.feed, &signal).await;
        assert_eq!((&again.body["duplicate"], &again.body["decisions"]), (&json!(true), &first["decisions"]), "{id}");
    }
    close_everything(&world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_ended_stays_dead_when_redis_has_forgotten_it_and_so_does_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Kind::Redis.private(folder.path());
    let database = Database::fresh().await;
    let more = [("REDIS_URL", redis.url.as_str())];
    let world = world(&database, &more).await;
    redis.save();
    let World { engine, admin, ann, feed, .. } = world;
    let out = engine.call(Method::POST, "/api/v1/auth/logout", Some(&ann.token), None).await;
    assert_eq!(out.status, 204, "{}", out.text);
    let stop = engine.post("/admin/emergency-stop", &admin, &json!({"reason": "remember"})).await;
    assert_eq!(stop.status, 200, "{}", stop.text);
    let path = format!("/api/v1/users/{}/risk-status", ann.id);
    let check = async |engine: &Engine, when: &str| {
        assert_eq!(engine.get(&path, &ann.token).await.status, 401, "{when}");
        let answer = engine.post("/api/v1/signals", &feed, &market(when, "1.08300", "1.08900")).await;
        assert_eq!(answer.body["reasons"], json!({"trading_halted": 1}), "{when}: {}", answer.text);
    };
    check(&engine, "at once").await;
    assert_eq!(redis.say("FLUSHALL"), "+OK");
    check(&engine, "forgotten").await;
    tokio::task::block_in_place(|| redis.kill());
    check(&engine, "away").await;
    // What was saved is from before both.
    tokio::task::block_in_place(|| redis.restart());
    check(&engine, "old").await;
    let engine = Engine::start_on(engine.kill(), &database.settings(&more));
    check(&engine, "old, at the start").await;
    let state: Value = engine.get("/status", "").await.body["risk_engine"]["state"].clone();
    assert_eq!(state, "halted");
}
