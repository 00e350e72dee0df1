//! `kill -9` of the engine, and crashes of PostgreSQL, at random moments under load: nothing that was answered is lost, nothing
//! is done twice, and nobody has to help (promises P1, P2, P3, P6 and P7).
//!
//! With `NEXUS_LONG` there are as many as it takes to trust it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::engine::{Engine, World};
use super::production::{Database, close_everything, followers, free_port, world};
use super::production_away::check_refusal;
use super::production_load::{Load, check_record};
use super::promises::Draw;

/// So much that the losses of the day never end it.
const MORE: &[(&str, &str)] = &[("MAX_DAILY_LOSS", "100000")];
/// Beside ann and bob.
const USERS: &[&str] = &["cid", "dan", "eve"];
const FOLLOWERS: i64 = 5;
/// Venues that lose answers, and a lease that would outlast the test's patience if anybody waited for it.
const KILLED: &[(&str, &str)] = &[("PAPER_LOST_REPLY_PERCENT", "3"), ("LEASE_SECONDS", "120")];
/// From the start of the process to a decision: a start asks such a venue again and again, but waits for no lease.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// From when the database takes connections to a decision.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("NEXUS_LONG").is_some() { long } else { short }
}

/// An engine with five followers of one feed.
async fn stage(database: &Database, more: &[(&str, &str)]) -> World {
    let world = world(&database, more).await;
    let path = format!("/api/v1/feeds/breakout/subscribers/{}", world.bob.id);
    let answer = world.engine.call(Method::PUT, &path, Some(&world.admin), Some(&json!({}))).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    followers(&world, USERS).await;
    world
}

/// The end of a campaign: what the feed was told is there, and everything adds up.
async fn settle(world: &World, database: &Database, load: Load) {
    let record = load.end().await;
    let mut sql = database.sql().await;
    check_record(&mut sql, &record, FOLLOWERS).await;
    close_everything(world, &mut sql).await;
    for member in [&world.ann, &world.bob] {
        sql.check_memory(&world.engine, member).await;
    }
    let fills = sql.number("SELECT count(*) FROM fills").await;
    println!(
        "{} signals, {} refused and {} unanswered attempts, {fills} fills",
        record.sent.lock().len(),
        record.refused.load(Ordering::SeqCst),
        record.unanswered.load(Ordering::SeqCst),
    );
    assert!(fills > 20, "the load trades too little");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_killed_under_load_on_postgresql_lose_nothing_and_do_nothing_twice() {
    let mut draw = Draw::new();
    let database = Database::fresh().await;
    let port = free_port();
    let more = [MORE, KILLED, &[("API_PORT", port.as_str())]].concat();
    let mut world = stage(&database, &more).await;
    let mut sql = database.sql().await;
    let load = Load::on(&world);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(10, 300) {
        load.until_answered(10).await;
        tokio::time::sleep(Duration::from_millis(draw.between(0, 300))).await;
        let data = world.engine.kill();
        // Before anybody has cleaned up: the venue has nothing that the ledger has not permitted.
        sql.check_venue(data.path()).await;
        let began = Instant::now();
        world = World { engine: Engine::start_on(data, &database.settings(&more)), ..world };
        load.until_answered(1).await;
        slowest = slowest.max(began.elapsed());
        assert!(slowest < BACK_WITHIN, "round {round}: {slowest:?}");
    }
    println!("the slowest start took {slowest:?}");
    assert!(load.record.unanswered.load(Ordering::SeqCst) > 0, "nothing was interrupted");
    settle(&world, &database, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_postgresql_under_load_lose_nothing_and_the_engine_goes_on_by_itself() {
    let mut draw = Draw::new();
    let database = Database::alone();
    let world = stage(&database, MORE).await;
    let load = Load::on(&world);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds(10, 50) {
        load.until_answered(10).await;
        tokio::time::sleep(Duration::from_millis(draw.between(0, 200))).await;
        tokio::task::block_in_place(|| database.server().crash());
        check_refusal(&world, &format!("away {round}")).await;
        tokio::time::sleep(Duration::from_millis(draw.between(0, 800))).await;
        tokio::task::block_in_place(|| database.server().start());

        slowest = slowest.max(load.until_answered(1).await);

        assert!(slowest < SERVES_WITHIN, "round {round}: {slowest:?}");
        // What left meanwhile stands on what was committed before.
        database.sql().await.check_venue(world.engine.data_dir()).await;
    }
    println!("the slowest return took {slowest:?}");
    assert_eq!(load.record.unanswered.load(Ordering::SeqCst), 0, "the engine answers all the while");
    settle(&world, &database, load).await;
}
