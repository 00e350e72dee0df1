//! Commits whose outcome nobody has heard: the answer is lost, or the call, or the wire says nothing at all. Whoever asked is
//! told what the ledger says, one decision is made, and one order leaves at most (promises P1, P2 and P3).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::engine::{Answer, PATIENCE, World};
use super::production::{Database, close_everything, world};
use super::production_away::{check_refusal, push_until};
use super::production_load::{Load, check_record};
use super::promises::{Draw, enter, is_filled, market, taken};
use super::proxy::{Fault, Proxy};

/// An engine that reaches its database through a wire that can be cut.
async fn wired(more: &[(&str, &str)]) -> (World, Proxy, Database) {
    let database = Database::fresh().await;
    let proxy = Proxy::to(database.port()).await;
    let url = database.url_by(proxy.port);
    let world = world(&database, &[&[("DATABASE_URL", url.as_str())], more].concat()).await;
    (world, proxy, database)
}

async fn send(world: &World, signal: &Value) -> Answer {
    world.engine.post("/api/v1/signals", &world.feed, signal).await
}

/// Sends a signal until it is decided.
async fn insist(world: &World, signal: &Value) -> Answer {
    let began = Instant::now();
    loop {
        let answer = send(world, signal).await;
        match answer.status.as_u16() {
            200 => return answer,
            202 | 503 => assert!(began.elapsed() < PATIENCE, "never decided: {}", answer.text),
            _ => panic!("{}: {}", answer.status, answer.text),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The ledger has one decision on the signal, the one that was answered, and the venue has its order once.
async fn check_one(world: &World, database: &Database, id: &str, answer: &Answer) {
    assert_eq!((&answer.body["decided"], &answer.body["accepted"]), (&json!(1), &json!(1)), "{}", answer.text);
    let query = format!("SELECT d.id::text FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE s.key = '{id}'");
    let stored = database.sql().await.texts(&query).await;
    assert_eq!(json!(stored), json!([answer.body["decisions"][0]["decision_id"]]), "{}", answer.text);
    let order = answer.body["decisions"][0]["client_order_id"].as_str().expect("an id").to_owned();
    let began = Instant::now();
    let orders = || taken(world.engine.data_dir()).iter().filter(|(_, taken)| taken.to_string() == order).count();
    while orders() == 0 {
        assert!(began.elapsed() < PATIENCE, "its order never leaves");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(orders(), 1, "its order leaves once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_is_settled_by_reading_back_before_anybody_is_answered() {
    let (world, proxy, database) = wired(&[("MAX_DAILY_LOSS", "1000")]).await;
    for (n, fault) in [Fault::CutAfter, Fault::CutBefore, Fault::CutAfter, Fault::CutBefore].into_iter().enumerate() {
        world.push_mark("EURUSD", "1.08495", "1.08505").await;
        // Whatever is still to be written of the trade before this one is not what is to be cut.
        at_rest(&proxy).await;
        let (id, faults) = (format!("doubt {n}"), proxy.faults());
        let signal = market(&id, "1.08300", "1.08900");
        proxy.next(fault);
        let began = Instant::now();
        let answer = send(&world, &signal).await;
        assert_eq!((answer.status.as_u16(), proxy.faults()), (200, faults + 1), "{fault:?}: {}", answer.text);
        println!("{fault:?}: settled after {:?}", began.elapsed());
        check_one(&world, &database, &id, &answer).await;
        let again = send(&world, &signal).await;
        assert_eq!((again.status.as_u16(), &again.body["duplicate"]), (200, &json!(true)), "{}", again.text);
        assert_eq!(again.body["decisions"], answer.body["decisions"]);
    }
    let mut sql = database.sql().await;
    close_everything(&world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}

/// Waits until nothing has been committed for a while.
async fn at_rest(proxy: &Proxy) {
    let (mut before, mut since) = (proxy.commits(), Instant::now());
    while since.elapsed() < Duration::from_millis(200) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if proxy.commits() != before {
            (before, since) = (proxy.commits(), Instant::now());
        }
    }
}

/// The server says nothing, not even goodbye, until the engine's own patience with the statement is over.
async fn frozen_commit(fault: Fault) {
    let (world, proxy, database) = wired(&[]).await;
    at_rest(&proxy).await;
    let signal = market("frozen", "1.08300", "1.08900");
    proxy.next(fault);
    let began = Instant::now();
    let first = send(&world, &signal).await;
    println!("{fault:?}: answered {} after {:?}", first.status, began.elapsed());
    assert!(matches!(first.status.as_u16(), 200 | 202 | 503), "{}", first.text);
    assert_eq!((proxy.faults(), began.elapsed() < Duration::from_secs(15)), (1, true), "{:?}", began.elapsed());
    world.push_mark("EURUSD", "1.08495", "1.08505").await;
    let answer = insist(&world, &signal).await;
    check_one(&world, &database, "frozen", &answer).await;
    let mut sql = database.sql().await;
    close_everything(&world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_never_answered_is_given_up_and_settled() {
    tokio::join!(frozen_commit(Fault::FreezeBefore), frozen_commit(Fault::FreezeAfter), frozen_wire());
}

/// Nothing passes, on no connection: the stop of a position leaves, and a person can stop.
async fn frozen_wire() {
    let (world, proxy, database) = wired(&[]).await;
    let data = world.engine.data_dir().to_owned();
    let entry = enter(&world, &market("held", "1.08300", "1.08900")).await;
    let began = Instant::now();
    while !is_filled(&data, &entry) {
        assert!(began.elapsed() < PATIENCE, "it never trades");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    at_rest(&proxy).await;
    proxy.freeze(true);
    // Longer than anybody is believed without being asked about.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let exit = format!("{}-x1", entry.trim_end_matches("-e"));
    let took = push_until(&world, "1.08290", "1.08300", || is_filled(&data, &exit)).await;
    println!("a frozen wire: the stop left after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let began = Instant::now();
    let stop = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "frozen"})).await;
    println!("a frozen wire: the emergency stop took {:?}", began.elapsed());
    assert_eq!((stop.status.as_u16(), &stop.body["state"]), (200, &json!("halted")), "{}", stop.text);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    while world.engine.get("/health/ready", "").await.status != 503 {
        assert!(began.elapsed() < PATIENCE, "nobody notices that the database is away");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("a frozen wire: noticed after {:?}", began.elapsed());
    check_refusal(&world, "refused").await;

    proxy.freeze(false);
    let mut sql = database.sql().await;
    let began = Instant::now();
    while sql.number("SELECT count(*) FROM trading_state WHERE reason = 'frozen'").await != 1
        || sql.number("SELECT count(*) FROM fills").await != 2
    {
        assert!(began.elapsed() < PATIENCE, "what has happened is never written: {}", world.engine.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("a frozen wire: written {:?} after the thaw", began.elapsed());
    close_everything(&world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}

/// Again and again under load, calls and answers alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commits_in_doubt_under_load_lose_nothing_and_do_nothing_twice() {
    let wanted = if std::env::var_os("NEXUS_LONG").is_some() { 600 } else { 40 };
    let (world, proxy, database) = wired(&[("MAX_DAILY_LOSS", "100000"), ("PAPER_LOST_REPLY_PERCENT", "10")]).await;
    let load = Load::on(&world);
    let mut draw = Draw::new();
    proxy.plan(move |_| match draw.between(0, 99) {
        0..=7 => Some(Fault::CutAfter),
        8..=15 => Some(Fault::CutBefore),
        _ => None,
    });
    while proxy.faults() < wanted {
        load.until_answered(1).await;
    }
    proxy.plan(|_| None);
    let record = load.end().await;
    println!(
        "{} commits, {} of them in doubt; {} signals, {} refused",
        proxy.commits(),
        proxy.faults(),
        record.sent.lock().len(),
        record.refused.load(Ordering::SeqCst)
    );
    assert_eq!(record.unanswered.load(Ordering::SeqCst), 0, "the engine answers all the while");
    let mut sql = database.sql().await;
    check_record(&mut sql, &record, 1).await;
    close_everything(&world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}
